"""docs/tokens.md: its snippets make tokens that the server takes, and its table of refusals is complete."""

import io
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from koko_presence import cli
from koko_presence.auth.access import ClaimsAccess
from koko_presence.auth.tokens import MAX_TOKEN_CHARS, HmacVerifier, Identity, TokenRefused
from koko_presence.decoding import BadMessage, decode
from koko_presence.errors import CLOSES

from .test_tokens import GOOD, NOW, REFUSED, make
from .test_tokens import SECRET as TABLE_SECRET

TEXT = (Path(__file__).parent.parent.parent / "docs" / "tokens.md").read_text()
SECRET = "a secret of at least 32 bytes, from your vault"


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line.strip("| ").split(" |") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in table[2:]]


def check(token: str) -> None:
    who = HmacVerifier(SECRET).verify(token, time.time())
    assert (who.user_id, who.name) == ("user_456", "Jane Smith")
    assert who.rooms == {"video_123": ("join", "control", "broadcast"), "project_*": ("join",)}


@pytest.mark.parametrize("code", snippets("python"))
def test_each_python_snippet(code: str) -> None:
    names: dict[str, str] = {}
    exec(code, names)
    check(names["token"])


def test_the_node_snippet_needs_node_crypto_only(tmp_path: Path) -> None:
    (code,) = snippets("js")
    assert re.findall(r'from "(.*?)"|require\("(.*?)"\)', code) == [("node:crypto", "")]
    script = tmp_path / "token.mjs"
    script.write_text(code)
    run = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=20, check=True)
    check(run.stdout.strip())


def test_there_are_snippets_to_run() -> None:
    assert [len(snippets(language)) for language in ("python", "js", "sh")] == [2, 1, 1]


@pytest.mark.parametrize("line", snippets("sh")[0].splitlines())
def test_each_command_line(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KOKO_PRESENCE_AUTH_SECRET", SECRET)
    said = ""
    for command in line.split(" | "):
        program, *argv = shlex.split(command)
        assert program == "koko-presence"
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        assert cli.main(argv) == 0
        said = capsys.readouterr().out
    if "check-token" in line:
        assert "room     video_123: broadcast, control, join" in said
    else:
        assert HmacVerifier(SECRET).verify(said.strip(), time.time()).rooms == {"video_*": ("join", "control")}


def every_refusal() -> list[str]:
    """What the verifier says of every bad token of test_tokens.py, and of another issuer and audience."""
    said = []
    cases: list[tuple[str, dict[str, Any]]] = [(token, {}) for _, token, _ in REFUSED]
    cases += [(make(GOOD), {"issuer": "https://app"}), (make(GOOD), {"audience": "koko"})]
    for token, settings in cases:
        with pytest.raises(TokenRefused) as refused:
            HmacVerifier(TABLE_SECRET, **settings).verify(token, NOW)
        said.append(str(refused.value))
    return said


def test_the_table_has_every_refusal_and_no_other() -> None:
    told = [re.compile(re.escape(row[0]).replace("…", ".+")) for row in rows("When a token is refused")]
    said = every_refusal()
    for text in said:
        assert sum(bool(row.fullmatch(text)) for row in told) == 1, text
    for row in told:
        assert any(row.fullmatch(text) for text in said), row.pattern


def test_the_source_has_no_refusal_that_the_tests_do_not_meet() -> None:
    source = (Path(cli.__file__).parent / "auth" / "tokens.py").read_text()
    raised = re.findall(r'raise TokenRefused\(f?"(.*?)"\)', source)
    assert len(raised) == source.count("raise TokenRefused(") >= 20
    said = every_refusal()
    for text in raised:
        pattern = re.compile(".+".join(re.escape(part) for part in re.split(r"\{.*?\}", text)))
        assert any(pattern.fullmatch(one) for one in said), text


def test_a_socket_refuses_a_message_with_a_token_that_is_too_long() -> None:
    assert "`INVALID_MESSAGE` at `$.token`" in TEXT
    with pytest.raises(BadMessage, match=r"\$\.token") as bad:
        decode(b'{"type":"auth","token":"' + b"x" * (MAX_TOKEN_CHARS + 1) + b'"}')
    assert bad.value.code == "INVALID_MESSAGE"


def test_the_scopes_of_the_table_do_what_it_says() -> None:
    scopes = [row[0].strip("`") for row in rows("Scopes")]
    assert scopes == ["join", "control", "broadcast", "moderate"]

    def may(*scopes: str) -> tuple[bool, ...]:
        who = Identity(user_id="a", name="a", image=None, expires_at_s=1, rooms={"r": scopes})
        grant = ClaimsAccess().check(who, "r", None)
        return grant.allow, grant.can_control, grant.can_broadcast, grant.moderator

    assert may("control", "broadcast", "moderate") == (False, False, False, False)
    assert may("join") == (True, False, False, False)
    for at, scope in enumerate(scopes[1:], start=1):
        assert may("join", scope) == tuple(place in (0, at) for place in range(4)), "no scope brings another with it"


def test_the_close_code_of_a_refusal_asks_for_a_new_token() -> None:
    (code,) = set(re.findall(r"\b44\d\d\b", TEXT))
    assert CLOSES[int(code)].come_back.value == "new_token"
