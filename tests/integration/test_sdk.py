"""The browser SDK: its own tests under Node, and the SDK against the real server."""

import asyncio
import os
import re
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.integration.conftest import Run
from tests.live import Live, live
from tests.waiting import PATIENCE_S

SDK = Path(__file__).parents[2] / "koko_presence" / "web" / "sdk"
MINIFIED = SDK.with_name("sdk_minified")

TESTS = Path(__file__).parents[1] / "sdk"
FILES = sorted(TESTS.glob("*.test.js"))
ENV = {**os.environ, "NODE_NO_WARNINGS": "1", "FORCE_COLOR": "0"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.name.removesuffix(".test.js"),
            marks=[pytest.mark.bundlers] if path.name == "package.test.js" else [],
        )
        for path in FILES
    ],
)
def test_under_node(path: Path) -> None:
    done = subprocess.run(
        ["node", "--test", path], capture_output=True, text=True, timeout=600, env=ENV, cwd=TESTS, check=False
    )
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert done.returncode == 0 and passed is not None and int(passed[1]) > 0, done.stdout[-8000:] + done.stderr[-4000:]


@pytest.mark.parametrize("dev", [False, True])
def test_it_is_served_to_any_page_with_its_types_and_an_etag(run: Run, dev: bool) -> None:
    """With --dev the sources, else the minified files where there is one."""

    async def test() -> None:
        async with live(dev=dev) as server, aiohttp.ClientSession() as http:
            base = server.url.replace("ws:", "http:").removesuffix("/presence")
            for name, content_type in (
                ("presence.js", "text/javascript"),
                ("media.js", "text/javascript"),
                ("presence.d.ts", "text/plain"),
                ("package.json", "application/json"),
            ):
                async with http.get(f"{base}/sdk/{name}") as answer:
                    assert (answer.status, answer.content_type) == (200, content_type)
                    folder = SDK if dev or not name.endswith(".js") else MINIFIED
                    assert await answer.read() == (folder / name).read_bytes()
                    assert answer.headers["Access-Control-Allow-Origin"] == "*"
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    etag = answer.headers["ETag"]
                async with http.get(f"{base}/sdk/{name}", headers={"If-None-Match": etag}) as again:
                    assert again.status == 304 and again.headers["Access-Control-Allow-Origin"] == "*"
            async with http.get(f"{base}/sdk/manifest.json") as answer:
                manifest = await answer.json()
            assert {"presence.js", "media.js", "react.js", "ui.js"} <= set(manifest)
            for entry in manifest.values():
                async with http.get(f"{base}/sdk/{entry['file']}") as answer:
                    assert answer.status == 200 and "immutable" in answer.headers["Cache-Control"]
                    body = await answer.read()
                    assert answer.headers.get("Content-Encoding") == "gzip" or len(body) < 200
            async with http.get(f"{base}/healthz") as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == "*", "asked when an upgrade was refused"
            async with http.get(f"{base}/nowhere") as answer:
                assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (404, "*")
                assert "The WebSocket is at /presence" in (await answer.json())["error"]
            for origin, status, reason in (
                ("https://other.example", 403, "This page's origin is not on the server's list (server.origins): add"),
                ("", 426, "This is the address of a WebSocket."),
            ):
                async with http.get(f"{base}/presence", headers={"Origin": origin} if origin else {}) as answer:
                    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, "*")
                    assert (await answer.json())["error"].startswith(reason)
            async with http.get(f"{base}/sdk/../worker.py") as answer:
                assert answer.status == 404

    run(test())


async def scenario(server: Live, name: str, folder: str = "sdk", *, cut_at: str = "") -> str:
    """Run a scenario of tests/sdk/live.js with the SDK in `folder`. When it prints `cut_at`, the server cuts every
    connection and reports that."""
    process = await asyncio.create_subprocess_exec(
        "node", str(TESTS / "live.js"), name, server.url, server.token("ann", "Ann"), server.token("bob", "Bob"), folder,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=ENV,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    said = []
    async with asyncio.timeout(PATIENCE_S):
        while line := (await process.stdout.readline()).decode():
            said.append(line)
            if cut_at and line.strip() == cut_at:
                server.cut()
                process.stdin.write(b"cut\n")
        code = await process.wait()
    assert code == 0, "".join(said)
    return "".join(said)


@pytest.mark.parametrize("folder", ["sdk", "sdk_minified"])
def test_two_users_join_move_cursors_type_select_query_and_leave(run: Run, folder: str) -> None:
    async def test() -> None:
        async with live() as server:
            await scenario(server, "meet", folder)

    run(test())


def test_after_a_cut_the_session_is_the_same_and_no_member_has_left(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            await scenario(server, "resume", cut_at="cut me")

    run(test())


def test_a_late_joiner_lands_on_the_position_of_the_room(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            await scenario(server, "late")

    run(test())


def test_a_hundred_cursors_in_compact_form_arrive_as_they_were(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            await scenario(server, "cursors")

    run(test())


def test_an_invisible_user_is_not_shown_and_its_sdk_goes_on(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            await scenario(server, "invisible")

    run(test())
