"""docs/tokens.md: its snippets make tokens that the server accepts, and its table of refusals is complete."""

import ast
import io
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from koko_presence import cli
from koko_presence.access.policy import ClaimsAccess
from koko_presence.auth import cookies, hmac_jwt, introspection, public_key_jwt
from koko_presence.auth.hmac_jwt import MAX_TOKEN_CHARS, HmacVerifier, Identity, TokenRefused
from koko_presence.protocol.codec import BadMessage, decode
from koko_presence.protocol.errors import CLOSES
from tests.provider import public_pem
from tests.unit.auth.test_hmac_jwt import GOOD, NOW, REFUSED, make
from tests.unit.auth.test_hmac_jwt import SECRET as TABLE_SECRET
from tests.waiting import PATIENCE_S

from .auth import test_public_key_jwt

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tokens.md").read_text()
AUTH = Path(cli.__file__).parent / "auth"
SECRET = "a secret of at least 32 bytes, from your vault"


def snippets(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line.strip("| ").split(" |") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in table[2:]]


def check(token: str) -> None:
    who = HmacVerifier(SECRET).verify(token, time.time())
    assert (who.user_id, who.name) == ("user_456", "Jane Smith")
    assert who.rooms == {"video_123": ("join", "control", "broadcast"), "project_*": ("join",)}


@pytest.mark.parametrize("code", [*snippets("python"), *snippets("python", (ROOT / "README.md").read_text())])
def test_each_python_snippet(code: str) -> None:
    names: dict[str, str] = {}
    exec(code, names)
    check(names["token"])


def test_the_node_snippet_needs_node_crypto_only(tmp_path: Path) -> None:
    (code,) = snippets("js")
    assert re.findall(r'from "(.*?)"|require\("(.*?)"\)', code) == [("node:crypto", "")]
    script = tmp_path / "token.mjs"
    script.write_text(code)
    run = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    check(run.stdout.strip())


def test_there_are_snippets_to_run() -> None:
    assert [len(snippets(language)) for language in ("python", "js", "sh", "toml")] == [2, 1, 1, 6]


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
    """Return the refusals of every bad token in the tables of the tests, and of another issuer and audience."""
    said = []
    cases: list[tuple[str, dict[str, Any]]] = [(token, {}) for _, token, _ in REFUSED]
    cases += [(make(GOOD), {"issuer": "https://app"}), (make(GOOD), {"audience": "koko"})]
    for token, settings in cases:
        with pytest.raises(TokenRefused) as refused:
            HmacVerifier(TABLE_SECRET, **settings).verify(token, NOW)
        said.append(str(refused.value))
    for _, token, _ in [*test_public_key_jwt.REFUSED, *test_public_key_jwt.JWKS_ONLY]:
        with pytest.raises(TokenRefused) as refused:
            test_public_key_jwt.verified(test_public_key_jwt.by_jwks()[0], token)
        said.append(str(refused.value))
    return said


def raised(module: str, kind: str) -> list[str]:
    """Return the texts of the exceptions of a kind in a module of auth/, with `…` for values filled in."""
    tree = ast.parse((AUTH / module).read_text())
    named = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == kind and node.args:
            text: Any = node.args[0]
            text = named.get(text.id) if isinstance(text, ast.Name) else text
            if isinstance(text, ast.Constant):
                texts.append(str(text.value))
            elif isinstance(text, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in text.values)
                texts.append("".join(parts))
    return texts


def source_texts(kind: str) -> list[str]:
    constants = (
        [introspection.UNKNOWN_SESSION, cookies.OTHER_PAGE, public_key_jwt.NOT_SIGNED, hmac_jwt._WRONG]
        if kind == "TokenRefused"
        else []
    )
    found = [text for path in sorted(AUTH.glob("*.py")) for text in raised(path.name, kind)]
    return sorted({*found, *constants})


def pattern(text: str) -> "re.Pattern[str]":
    return re.compile(re.escape(text).replace("…", ".+"))


@pytest.mark.parametrize(
    ("heading", "kind", "least"),
    [("When a token is refused", "TokenRefused", 35), ("When a token cannot be checked", "VerifierUnavailable", 3)],
)
def test_each_table_has_every_text_of_the_source_and_no_other(heading: str, kind: str, least: int) -> None:
    rows_of = [row[0] for row in rows(heading)]
    texts = source_texts(kind)
    assert len(texts) >= least
    # a number that the source fills in from a constant stands in the table as a number
    for text in texts:
        assert sum(bool(pattern(row).fullmatch(text) or pattern(text).fullmatch(row)) for row in rows_of) == 1, text
    for row in rows_of:
        assert any(pattern(row).fullmatch(text) or pattern(text).fullmatch(row) for text in texts), row


def test_every_refusal_in_the_tests_is_in_the_table() -> None:
    told = [pattern(row[0]) for row in rows("When a token is refused")]
    for text in every_refusal():
        assert sum(bool(row.fullmatch(text)) for row in told) == 1, text


def test_the_tests_cover_every_refusal_of_a_signed_token() -> None:
    said = every_refusal()
    texts = [text for module in ("jwt_claims.py", "jws.py") for text in raised(module, "TokenRefused")]
    assert len(texts) >= 20
    for text in texts:
        assert any(pattern(text).fullmatch(one) for one in said), text


@pytest.mark.parametrize("text", snippets("toml"))
def test_each_configuration_can_be_used(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("public.pem", public_pem("EdDSA")), ("introspect", "Basic c2VjcmV0")):
        (tmp_path / name).write_text(content)
    path = tmp_path / "presence.toml"
    path.write_text(text.replace("/etc/koko-presence", str(tmp_path)))
    if "HS256" in text:
        monkeypatch.setenv("KOKO_PRESENCE_AUTH_SECRET", SECRET)
    assert cli.main(["check-config", "--config", str(path)]) == 0


def test_a_socket_refuses_a_message_with_a_token_that_is_too_long() -> None:
    assert "`INVALID_MESSAGE` at `$.token`" in TEXT
    with pytest.raises(BadMessage, match=r"\$\.token") as bad:
        decode(b'{"type":"auth","token":"' + b"x" * (MAX_TOKEN_CHARS + 1) + b'"}')
    assert bad.value.code == "INVALID_MESSAGE"


def test_the_scopes_of_the_table_have_their_effects() -> None:
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
    assert "close code 1013: come back later" in " ".join(TEXT.split()) and CLOSES[1013].come_back.value == "later"
