"""Range requests for the demo's film, without which no browser seeks [RFC 9110 section 14]."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from koko_presence.edge.http import HttpSide

FILM = bytes(range(200)) * 5
SIZE = len(FILM)


@pytest.fixture
def side(tmp_path: Path) -> HttpSide:
    (tmp_path / "clip.mp4").write_bytes(FILM)
    (tmp_path / "demo.js").write_text("let x;")
    made = HttpSide()
    made.add_demo(tmp_path)
    return made


def ask(side: HttpSide, path: str = "/demo/clip.mp4", **headers: str) -> web.Response:
    request = make_mocked_request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
    answer = asyncio.run(side._handle(request))
    assert isinstance(answer, web.Response)
    return answer


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=100-299", 100, 299),
        ("bytes=900-5000", 900, SIZE - 1),
        ("bytes=-10", SIZE - 10, SIZE - 1),
        ("bytes=-5000", 0, SIZE - 1),
        ("bytes=999-999", 999, 999),
    ],
)
def test_a_part_is_given(side: HttpSide, asked: str, first: int, last: int) -> None:
    answer = ask(side, Range=asked)
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.body == FILM[first : last + 1]
    assert answer.headers["Content-Type"] == "video/mp4" and answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=99999999999999999-"])
def test_a_part_that_is_not_there_is_416(side: HttpSide, asked: str) -> None:
    answer = ask(side, Range=asked)
    assert answer.status == 416 and answer.headers["Content-Range"] == f"bytes */{SIZE}" and not answer.body


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=-", "bytes=a-b", "lines=0-5", "bytes=0-1,5-6", "bytes=٣-", "bytes=" + "9" * 40 + "-"]
)
def test_what_is_no_single_range_gets_the_whole(side: HttpSide, asked: str) -> None:
    answer = ask(side, Range=asked)
    assert answer.status == 200 and answer.body == FILM


def test_if_range_gives_the_part_of_this_version_only(side: HttpSide) -> None:
    etag = ask(side).headers["ETag"]
    assert ask(side, Range="bytes=0-1", If_Range=etag).status == 206
    assert ask(side, Range="bytes=0-1", If_Range='"older"').status == 200
    assert ask(side, Range="bytes=0-1", If_Range="Tue, 15 Nov 1994 08:12:31 GMT").status == 200
    assert ask(side, If_None_Match=etag).status == 304


def test_only_media_has_parts(side: HttpSide) -> None:
    answer = ask(side, "/demo/demo.js", Range="bytes=0-1")
    assert answer.status == 200 and answer.body == b"let x;" and "Accept-Ranges" not in answer.headers
