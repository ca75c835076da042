"""The browser SDK: its own tests under Node, and the SDK against the real server."""

import asyncio
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from tests.live import Live, live

TESTS = Path(__file__).parents[1] / "sdk"
FILES = sorted(TESTS.glob("*.test.js"))
ENV = {**os.environ, "NODE_NO_WARNINGS": "1", "FORCE_COLOR": "0"}


@pytest.mark.parametrize("path", FILES, ids=[path.name.removesuffix(".test.js") for path in FILES])
def test_under_node(path: Path) -> None:
    done = subprocess.run(
        ["node", "--test", path], capture_output=True, text=True, timeout=120, env=ENV, cwd=TESTS, check=False
    )
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert done.returncode == 0 and passed is not None and int(passed[1]) > 0, done.stdout[-8000:] + done.stderr[-4000:]


async def scenario(server: Live, name: str, *, cut_at: str = "") -> str:
    """Run a scenario of tests/sdk/live.js. When it says `cut_at` the server cuts every connection, and says so."""
    process = await asyncio.create_subprocess_exec(
        "node", str(TESTS / "live.js"), name, server.url, server.token("ann", "Ann"), server.token("bob", "Bob"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=ENV,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    said = []
    async with asyncio.timeout(30):
        while line := (await process.stdout.readline()).decode():
            said.append(line)
            if cut_at and line.strip() == cut_at:
                server.cut()
                process.stdin.write(b"cut\n")
        code = await process.wait()
    assert code == 0, "".join(said)
    return "".join(said)


def test_two_people_meet_point_type_select_ask_and_go(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            await scenario(server, "meet")

    run(test())


def test_after_a_cut_the_same_session_is_there_and_nobody_has_left(run: Run) -> None:
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


def test_invisible_nobody_sees_and_the_sdk_goes_on(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            await scenario(server, "invisible")

    run(test())
