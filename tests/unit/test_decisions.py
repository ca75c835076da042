"""docs/decisions.md defines every tag that code, tests and documents refer to, each once, and lists what is not built
yet.

A tag is a letter from A to Q and a number (`[A1]`, `[M6b]`), or N and a letter (`[N-b]`); in the names of tests and
test files it is in lower case (`test_a1_...`, `test_n_b_...`, `test_m10_webhooks.py`). A letter alone is a section
(`[K, K7]`).
"""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "decisions.md"
TEXT = DOCUMENT.read_text()
FOLDERS = ("koko_presence", "_fastpath", "tests", "bench", "docs")
SUFFIXES = {".py", ".pyx", ".pxd", ".pxi", ".js", ".ts", ".c", ".h", ".md", ".json"}
NOT_OURS = {"node_modules", "__pycache__"}

NUMBERED = r"[A-Q][1-9][0-9]?b?|N-[a-f]"
TAG = re.compile(rf"(?<![\w.#-])(?:{NUMBERED})(?![\w-])")
SECTION = re.compile(r"(?<=[\s(]\[)[A-Q](?=[],])|(?<=\bsection )[A-Q]\b")
TEST_NAME = re.compile(r"\btest_((?:(?:[a-q][1-9][0-9]?b?|n_[a-f])_)+)")
DEFINITION = re.compile(rf"^(?:#+|-) \**({NUMBERED})\b", re.MULTILINE)

# options of the C compiler look like tags
NO_TAGS = {"O2", "O3"}
# `d` of an SVG path begins with a letter and a number, as M3 3l8.5 18
SVG_PATH = re.compile(r'\bd="[^"]*"')

# what marks a decision as built in the code
NAMES = {
    "H9": "waitForViewers", "H10": "startDelayMs", "H17": "mediaId", "H18": "media_changed", "H19": "other_media",
    "H22": "driftFrames", "I7": "autoGrantAway", "P2": "presence_changed", "P5": "setPresence",
    "Q1": "secret_files", "Q2": "api_keys_file", "Q8": "log.sessions", "Q9": "KOKO_PRESENCE_URL", "Q10": "room_changed",
    "Q12": "room_summary",
}  # fmt: skip


def tags_in(text: str) -> set[str]:
    """Return all tags and section letters that `text` refers to."""
    text = SVG_PATH.sub("", text)
    tags = (set(TAG.findall(text)) - NO_TAGS) | set(SECTION.findall(text))
    return tags | {tag for names in TEST_NAME.findall(text) for tag in tags_in_name(names)}


def tags_in_name(names: str) -> list[str]:
    """Return the tags of names: `b4_b5_` is B4 and B5, `n_b_` is N-b, `m6b_` is M6b."""
    found = re.findall(r"n_[a-f](?=_)|[a-q][0-9]+b?(?=_)", names)
    return [f"N-{name[2]}" if name.startswith("n_") else name[0].upper() + name[1:] for name in found]


def sources() -> list[Path]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    return [
        path
        for path in paths
        if path.suffix in SUFFIXES and path.is_file() and not NOT_OURS & set(path.parts) and path != Path(__file__)
    ]


@cache
def package_texts() -> dict[str, str]:
    """Return the texts of the package's own files, by name."""
    paths = [path for path in sources() if path.is_relative_to(ROOT / "koko_presence")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def undefined(texts: dict[str, str], defined: set[str]) -> list[str]:
    """Return the tags in `texts` (by name) that are not in `defined`, each with the place of its use."""
    return sorted(f"{tag} in {name}" for name, text in texts.items() for tag in tags_in(f"{name}\n{text}") - defined)


def defined_in(document: str) -> list[str]:
    """Return the tags that a document defines, and the letters of its sections."""
    return DEFINITION.findall(document) + re.findall(r"^## ([A-Q])\. ", document, re.MULTILINE)


def item(tag: str) -> str:
    """Return the text of a decision."""
    found = re.search(rf"^- \*\*{tag}\*\* .*?(?=^- |^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, tag
    return " ".join(found.group().split())


def expand(summary: str) -> list[str]:
    """Return the tags of a summary: `H9, P1 to P3, Q2 (in part)` is H9, P1, P2, P3 and Q2*."""
    tags: list[str] = []
    for first, last, in_part in re.findall(r"\b([A-Q]\d+)(?: to [A-Q](\d+))?( \(in part\))?(?=[,.])", summary):
        numbers = range(int(first[1:]), int(last or first[1:]) + 1)
        tags += [f"{first[0]}{number}{'*' if in_part else ''}" for number in numbers]
    return tags


def test_every_tag_that_is_used_is_defined() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in sources()}
    used = {tag for text in texts.values() for tag in tags_in(text)}
    assert used > {"A1", "B12", "K", "M6b", "M10", "N-b", "N-d", "O"}, "the search itself finds nothing"
    missing = undefined(texts, set(defined_in(TEXT)))
    assert missing == [], f"not in docs/decisions.md: {', '.join(missing)}"


def test_no_tag_is_defined_twice() -> None:
    tags = defined_in(TEXT)
    assert sorted(tags) == sorted(set(tags))


def test_decisions_are_in_order() -> None:
    numbered = [(tag[0], int(re.sub(r"\D", "", tag)), tag) for tag in DEFINITION.findall(TEXT) if "-" not in tag]
    assert numbered == sorted(numbered)


def test_it_begins_with_the_deviations_from_the_specification() -> None:
    assert re.findall(r"^## (.*)", TEXT, re.MULTILINE)[0] == "Deviations from the specification"


def test_what_is_marked_as_not_built_is_listed() -> None:
    summary = " ".join(TEXT.partition("\n## Not built yet\n")[2].partition("\n## ")[0].split())
    marked = [
        tag + ("*" if "*Partly built.*" in item(tag) else "")
        for tag in DEFINITION.findall(TEXT)
        if "*Partly built.*" in item(tag) or "*Not built yet" in item(tag)
    ]
    assert sorted(expand(summary)) == sorted(marked)


@pytest.mark.parametrize(("tag", "name"), NAMES.items())
def test_what_is_built_is_not_listed_as_missing(tag: str, name: str) -> None:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    pattern = re.compile(rf"\b(?:{re.escape(name)}|{re.escape(snake)})\b")
    found = [name for name, text in package_texts().items() if pattern.search(text)]
    assert bool(found) != ("*Not built yet" in item(tag)), f"{tag}, {name}: {found or 'nowhere in the code'}"


def anchors_of(document: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)", document, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", TEXT)
    assert links
    for file, anchor in links:
        target = DOCUMENT.parent / file if file else DOCUMENT
        assert target.is_file(), file
        assert not anchor or anchor in anchors_of(target.read_text()), f"{file}#{anchor}"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("Ends typing [G1, G4].", {"G1", "G4"}),
        ("as the specification says [presence.heartbeat rule 3, D4]", {"D4"}),
        ("the rules are the same [M1 to M9].", {"M1", "M9"}),
        ("with the mapping of M6b.", {"M6b"}),
        ('"""B12: compact cursors."""', {"B12"}),
        ("survives its owner [N-b]", {"N-b"}),
        ("reaches nobody [K, K7]; one controller [I].", {"K", "K7", "I"}),
        ("replies and notices [B7, section O]", {"B7", "O"}),
        ('{"source": "presence.setStatus, B2"}', {"B2"}),
        ("def test_b4_b5_every_event_has_session() -> None:", {"B4", "B5"}),
        ("def test_n_d_rolling_loses_nothing() -> None:", {"N-d"}),
        ("tests/unit/rules/test_m10_webhooks.py", {"M10"}),
        ("def test_a_line_of_a_log() -> None: dict[K, V]", set()),
        ('<path d="M3 3l8.5 18"/>, -O2, U+200B, H264, ES256, #3B82F6, A-b', set()),
    ],
)
def test_tags_are_found(text: str, tags: set[str]) -> None:
    assert tags_in(text) == tags


def test_a_tag_that_is_not_defined_is_named() -> None:
    texts = {"koko_presence/x.py": "Known [A1], unknown [A99].", "tests/test_z.py": "def test_q77_is_new(): ..."}
    assert undefined(texts, {"A1"}) == ["A99 in koko_presence/x.py", "Q77 in tests/test_z.py"]


def test_a_tag_is_defined_by_a_heading_or_by_an_item_of_its_own() -> None:
    document = "## A. Identity\n- **A1** The reply.\n#### A2\ntext on B1\n| A3 | row |\n- about A4\n"
    assert defined_in(document) == ["A1", "A2", "A"]
