"""The browser SDK as files: gzip where a client takes it, and hashed addresses that caches keep."""

import asyncio
import base64
import gzip
import hashlib
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from koko_presence.server.http.site import HttpSide
from koko_presence.web.hashed_files import current_path
from koko_presence.web.static_files import accepts_gzip

ENTRY = b"import{a}from" + b'"./part.js";import("./missing.js");' + b"export const text=1;" * 50
PART = b"export const a=1;" * 50


@pytest.fixture
def side(tmp_path: Path) -> HttpSide:
    return served(tmp_path, PART)


def served(folder: Path, part: bytes) -> HttpSide:
    sources, minified = folder / "sdk", folder / "sdk_minified"
    for each in (sources, minified):
        each.mkdir(exist_ok=True)
    (sources / "entry.js").write_text("// readable")
    (sources / "types.d.ts").write_text("export interface Room {}\n" * 20)
    (minified / "entry.js").write_bytes(ENTRY)
    (minified / "part.js").write_bytes(part)
    (minified / "more").mkdir(exist_ok=True)
    (minified / "more" / "below.js").write_bytes(b'import"../part.js"')
    made = HttpSide()
    made.add_sdk(sources, minified)
    return made


def ask(side: HttpSide, path: str, **headers: str) -> web.Response:
    request = make_mocked_request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
    answer = asyncio.run(side._handle(request))
    assert isinstance(answer, web.Response)
    return answer


def manifest(side: HttpSide) -> dict[str, dict[str, str]]:
    answer = ask(side, "/sdk/manifest.json")
    assert answer.headers["Cache-Control"] == "no-cache" and isinstance(answer.body, bytes)
    found: dict[str, dict[str, str]] = msgspec.json.decode(answer.body)
    return found


@pytest.mark.parametrize(
    "accepted", ["gzip", "GZIP, deflate, br", "br;q=1.0, gzip;q=0.2", "*", "x-gzip", "gzip;q=0.001"]
)
def test_gzip_is_sent_where_it_is_accepted(side: HttpSide, accepted: str) -> None:
    plain, packed = ask(side, "/sdk/entry.js"), ask(side, "/sdk/entry.js", Accept_Encoding=accepted)
    assert "Content-Encoding" not in plain.headers and packed.headers["Content-Encoding"] == "gzip"
    assert isinstance(packed.body, bytes) and gzip.decompress(packed.body) == plain.body == ENTRY
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert plain.headers["ETag"] != packed.headers["ETag"]
    for tag in (plain.headers["ETag"], packed.headers["ETag"]):
        assert ask(side, "/sdk/entry.js", Accept_Encoding=accepted, If_None_Match=tag).status == 304


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip;q=0.000", "*;q=0", "gzip;q=0, *"])
def test_the_text_itself_is_sent_elsewhere(accepted: str) -> None:
    assert not accepts_gzip(accepted)


def test_what_gzip_makes_longer_is_not_packed(side: HttpSide, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "short.js").write_text("1")
    side.add_demo(tmp_path / "demo")
    assert "Content-Encoding" not in ask(side, "/demo/short.js", Accept_Encoding="gzip").headers


def test_a_hashed_address_is_kept_and_names_hashed_addresses(side: HttpSide) -> None:
    found = manifest(side)
    assert set(found) == {"entry.js", "part.js", "more/below.js"}
    entry = ask(side, f"/sdk/{found['entry.js']['file']}")
    assert entry.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert entry.headers["Access-Control-Allow-Origin"] == "*" and entry.content_type == "text/javascript"
    part = found["part.js"]["file"].encode()
    assert entry.body == ENTRY.replace(b"./part.js", b"./" + part), "and what is not there stays as it is"
    digest = base64.b64encode(hashlib.sha384(entry.body).digest()).decode()
    assert found["entry.js"]["integrity"] == f"sha384-{digest}"
    assert ask(side, f"/sdk/{part.decode()}").body == PART
    assert ask(side, f"/sdk/{found['more/below.js']['file']}").body == b'import"../%b"' % part


def test_a_file_that_changes_changes_the_address_of_what_names_it(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    before, after = manifest(served(first, PART)), manifest(served(second, PART + b"2"))
    assert before["entry.js"]["file"] != after["entry.js"]["file"]


def test_the_address_of_another_version_gets_the_present_file(side: HttpSide) -> None:
    answer = ask(side, "/sdk/entry-0123456789ab.js")
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (200, ENTRY, "no-cache")
    assert ask(side, "/sdk/nothing-0123456789ab.js").status == 404
    assert ask(side, "/sdk/entry-0123456789abc.js").status == 404
    assert current_path("/sdk/../secret-0123456789ab") is None


def test_readable_modules_stay_beside_them(tmp_path: Path, side: HttpSide) -> None:
    made = HttpSide()
    made.add_sdk(tmp_path / "sdk", tmp_path / "sdk_minified", is_readable=True)
    assert ask(made, "/sdk/entry.js").body == b"// readable"
    assert ask(made, f"/sdk/{manifest(made)['part.js']['file']}").body == PART
    assert ask(side, "/sdk/types.d.ts").status == 200
