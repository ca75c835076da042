"""The code speaks the field's language: nouns that only this project would understand are not used as identifiers, names
of files, or terms of the glossary. English prose may use the same words in their everyday sense.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = (ROOT / "koko_presence", ROOT / "_fastpath")

# On the left what must not come back, on the right the word for it.
EVERYWHERE = {
    "alone": "standalone, exclusive",
    "asker": "HTTP client",
    "barred": "expelled",
    "believe believed believes": "restore, confirmed",
    "courier couriers": "peer",
    "crew": "fleet",
    "crowded": "pending",
    "desk userdesk": "user handlers",
    "door doors": "acceptor",
    "doubt doubts": "unconfirmed",
    "gate gates": "rate limiter",
    "governor": "window controller",
    "greeting": "handshake",
    "handover": "transfer, control",
    "happening happenings": "webhook event",
    "heir heirs": "backup owner",
    "inquiry inquiries": "survey request",
    "intake": "read budget",
    "keeper keepers": "replica holder",
    "lane lanes": "cursor route",
    "ledger": "aggregator",
    "letter letters": "peer message",
    "lobby": "admission queue",
    "login": "authentication",
    "memo memos": "delta",
    "news": "edge message",
    "nowhere": "no edge",
    "oneself": "self-service",
    "parted": "edges to notify",
    "pointer pointers": "member core, cursor",
    "prolong": "extend",
    "rival rivals": "competing room",
    "road roads": "flush scheduler, route",
    "setting": "context",
    "shelf": "replica store",
    "standing": "membership",
    "stir stirred": "activity",
    "tally tallies": "counters",
    "threshold thresholds": "protocol sniffer",
    "turn turns": "write batch, loop iteration",
    "untold": "undelivered",
    "visitor visitors": "session",
    "vitals": "process statistics",
    "waiter waiters": "deferred sender",
    "anybody everybody nobody somebody whoever": "the role: client, member, worker",
}
# In these folders the word has another, plain meaning elsewhere.
IN_CLUSTER = ("cluster", "owner", "rooms", "users", "protocol", "webhooks")
BY_FOLDER = {
    "heard hearing": "received, positions, fence",
    "opening": "session version",
    "say said": "send, sent",
    "stay stays": "membership id",
    "told": "acknowledged, notified",
    "word words": "message, record",
}


def spelt(words: dict[str, str]) -> dict[str, str]:
    return {word: better for group, better in words.items() for word in group.split()}


def parts(identifier: str) -> set[str]:
    """The words of which a name in snake_case or CamelCase is made."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def identifiers(source: str) -> Iterator[str]:
    """Names in the code, without strings and comments."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield token.string


def found(identifier: str, words: dict[str, str]) -> list[str]:
    return [f"{identifier}: {word!r} is {words[word]} here" for word in sorted(parts(identifier) & words.keys())]


def coined(path: Path) -> list[str]:
    """What is wrong with the names in a file, and with its own."""
    words = spelt(EVERYWHERE)
    if path.is_relative_to(CODE[0]) and path.relative_to(CODE[0]).parts[0] in IN_CLUSTER:
        words |= spelt(BY_FOLDER)
    names = sorted({path.stem, *identifiers(path.read_text())} - FOREIGN)
    return [f"{path.relative_to(ROOT)}: {fault}" for name in names for fault in found(name, words)]


# Names of other people's interfaces.
FOREIGN = {
    "set_threshold",  # gc
    "_waiter",  # aiohttp's request handler
}


def sources() -> list[Path]:
    return [path for folder in CODE for ending in ("py", "pyx", "pxd", "pyi") for path in folder.rglob(f"*.{ending}")]


def test_no_identifier_and_no_file_has_a_coined_name() -> None:
    faults = [fault for path in sorted(sources()) for fault in coined(path)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "code", ["def on_letter(self): ...", "class RoomMemo: ...", "x.heir_of = 1", "f(visitor=1)", "MAX_LANES = 3"]
)
def test_a_coined_name_is_noticed(code: str) -> None:
    assert [fault for name in identifiers(code) for fault in found(name, spelt(EVERYWHERE))]


@pytest.mark.parametrize("code", ["# a letter", '"the door"', "delta = peer.outgoing", "navigate(aggregate)"])
def test_prose_and_other_words_are_fine(code: str) -> None:
    assert not [fault for name in identifiers(code) for fault in found(name, spelt(EVERYWHERE))]


def test_the_glossary_has_at_most_30_terms_and_none_is_coined() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = re.search(r"^## Glossary\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert section is not None
    terms = re.findall(r"^\| ([^|]+?) \|", section[1], re.MULTILINE)[2:]  # without the head and its line
    assert 10 <= len(terms) <= 30
    words = spelt(EVERYWHERE) | spelt(BY_FOLDER)
    assert not [fault for term in terms for fault in found(term, words)]
