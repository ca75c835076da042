"""Static files: ranges of the demo's film, which browsers need to seek, and conditions [RFC 9110 sections 13, 14]."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from koko_presence.server.http.site import HttpSide

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


@pytest.mark.parametrize("path", ["/demo/clip.mp4", "/demo/demo.js"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"a",W/{} , "b"', "*"])
def test_weak_tags_lists_and_any_give_304(side: HttpSide, path: str, form: str) -> None:
    whole = ask(side, path)
    answer = ask(side, path, If_None_Match=form.format(whole.headers["ETag"]))
    assert answer.status == 304 and not answer.body
    for name in ("ETag", "Cache-Control", "X-Content-Type-Options"):
        assert answer.headers[name] == whole.headers[name]


@pytest.mark.parametrize("asked", ['"other"', 'W/"other"', '"*"', "", "nonsense", '"a", "b"'])
def test_other_tags_give_the_file(side: HttpSide, asked: str) -> None:
    assert ask(side, If_None_Match=asked).status == 200


def test_if_match_holds_for_this_version_by_strong_comparison(side: HttpSide) -> None:
    etag = ask(side).headers["ETag"]
    assert [ask(side, If_Match=asked).status for asked in (etag, f'"a", {etag}', "*")] == [200] * 3
    assert [ask(side, If_Match=asked).status for asked in ('"a"', f"W/{etag}")] == [412] * 2


def test_a_condition_goes_before_a_range(side: HttpSide) -> None:
    etag = ask(side).headers["ETag"]
    assert ask(side, If_None_Match=etag, Range="bytes=0-1").status == 304
    assert ask(side, If_None_Match='"a"', Range="bytes=0-1").status == 206
    assert ask(side, Range="bytes=0-1", If_Range=f"W/{etag}").status == 200, "a range needs a strong tag"


def test_pages_have_a_policy_and_other_files_none(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>")
    (tmp_path / "demo.js").write_text("let x;")
    side = HttpSide()
    side.add_demo(tmp_path)
    for path in ("/demo", "/demo/", "/demo/index.html"):
        page = ask(side, path)
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Referrer-Policy"] == "no-referrer" and page.headers["Cache-Control"] == "no-cache"
        again = ask(side, path, If_None_Match=page.headers["ETag"])
        assert again.status == 304 and again.headers["Content-Security-Policy"]
    assert "Content-Security-Policy" not in ask(side, "/demo/demo.js").headers
