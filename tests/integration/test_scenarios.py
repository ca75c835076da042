"""The specification's "Testing Scenarios", line by line, over real sockets, with the `websockets` package as client.

Each test runs on one worker and on four, which are joined by the real mesh in this process, or are processes of a
supervisor. Each new client connects to the next worker. A test marked `one_worker` starts a worker itself, drains a
single one, or starts none.
"""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from koko_presence.auth.hmac_jwt import issue_token
from koko_presence.config.schema import Access, Auth, Config, Server
from koko_presence.process.worker import Worker
from koko_presence.protocol.limits import Limits
from tests.integration.conftest import Run
from tests.integration.servers import process
from tests.live import SECRET, Live, live
from tests.waiting import PATIENCE_S

ROOM = "video_123"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Four workers in the test's own loop cost little; with processes, two assert the same."""
    counts = [1, 4]
    if metafunc.definition.get_closest_marker("one_worker") is not None:
        counts = [1]
    elif metafunc.definition.get_closest_marker("processes") is not None:
        counts = [1, 2]
    metafunc.parametrize("_workers", counts, ids=lambda count: f"{count} workers", indirect=True)


@pytest.fixture(autouse=True)
def _workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Live, "default_workers", request.param)
    monkeypatch.setenv("KOKO_PRESENCE_SERVER_WORKERS", str(request.param))


class Person:
    """A client made of the `websockets` package and JSON, without code of this project."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws
        self.session: dict[str, Any] = {}

    async def send(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def get(self, *types: str) -> dict[str, Any]:
        """The next message of one of these types; others are skipped."""
        while True:
            message: dict[str, Any] = json.loads(await asyncio.wait_for(self.ws.recv(), PATIENCE_S))
            if message["type"] in types:
                return message

    async def auth(self, token: str, **more: Any) -> dict[str, Any]:
        await self.send(type="auth", token=token, **more)
        self.session = await self.get("authenticated", "error")
        return self.session

    async def join(self, room: str = ROOM, room_type: str = "video") -> dict[str, Any]:
        await self.send(type="join", roomId=room, roomType=room_type)
        return await self.get("joined", "error")

    async def nothing(self) -> None:
        """Assert that no other message has arrived: the pong of a heartbeat is the next one."""
        await self.send(type="get_active", roomId="nowhere")
        message = json.loads(await asyncio.wait_for(self.ws.recv(), PATIENCE_S))
        assert message["type"] == "active", message


@asynccontextmanager
async def person(server: Live, user: str, room: str | None = ROOM, **auth: Any) -> AsyncIterator[Person]:
    async with websockets.connect(server.url, close_timeout=0.2) as ws:
        someone = Person(ws)
        await someone.auth(server.token(user, user.title()), **auth)
        if room is not None:
            assert (await someone.join(room))["type"] == "joined"
        yield someone


# --- Connection Testing


def test_connection_websocket_connection_establishment(run: Run) -> None:
    async def test() -> None:
        async with live() as server, websockets.connect(server.url) as ws:
            assert ws.state.name == "OPEN" and ws.response is not None and ws.response.status_code == 101

    run(test())


def test_connection_authentication_on_connect(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            async with person(server, "ann", None) as ann:
                assert ann.session["userId"] == "ann" and ann.session["sessionId"]
            async with websockets.connect(server.url, close_timeout=0.2) as ws:
                error = await Person(ws).auth("nonsense")
                assert error["code"] == "UNAUTHENTICATED"
                with pytest.raises(websockets.ConnectionClosedError) as closed:
                    await ws.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 4401

    run(test())


def test_connection_reconnection_on_disconnect(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "bob") as bob:
            async with person(server, "ann") as ann:
                await bob.get("user_joined")
                ann.ws.transport.abort()
                assert (await bob.get("status_changed"))["data"]["connected"] is False
            async with person(server, "ann", resumeToken=ann.session["resumeToken"]) as again:
                assert again.session["resumed"] is True
                assert again.session["sessionId"] == ann.session["sessionId"]
                event = await bob.get("status_changed", "user_left", "user_joined")
                assert event["type"] == "status_changed" and event["data"]["connected"] is True
                await bob.nothing()

    run(test())


def test_connection_multi_tab_support(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "bob") as bob, person(server, "ann"):
            assert (await bob.get("user_joined"))["data"]["sessionCount"] == 1
            async with person(server, "ann"):
                assert (await bob.get("user_joined"))["data"]["sessionCount"] == 2
                await bob.send(type="get_active", roomId=ROOM)
                active = await bob.get("active")
                assert (active["totalCount"], active["sessionCount"], len(active["users"])) == (2, 3, 3)
            assert (await bob.get("user_left"))["data"]["sessionCount"] == 1

    run(test())


# --- Room Testing


def test_room_join_room(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann", None) as ann:
            joined = await ann.join()
            assert (
                joined["room"]["id"] == ROOM and joined["room"]["userCount"] == 1 and joined["assignedColor"][0] == "#"
            )

    run(test())


def test_room_leave_room(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann:
            await ann.send(type="leave", roomId=ROOM)
            assert (await ann.get("left"))["roomId"] == ROOM
            await ann.send(type="cursor", roomId=ROOM, data={"timestamp": 1})
            assert (await ann.get("error"))["code"] == "NOT_IN_ROOM"

    run(test())


def test_room_receive_user_joined_events(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob"):
            event = await ann.get("user_joined")
            assert (event["userId"], event["data"]["name"], event["roomId"]) == ("bob", "Bob", ROOM)
            assert {"color", "sessionCount"} <= set(event["data"]) and event["timestamp"].endswith("Z")

    run(test())


def test_room_receive_user_left_events(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann:
            async with person(server, "bob"):
                pass
            event = await ann.get("user_left")
            assert event["userId"] == "bob" and event["data"] == {"reason": "left", "sessionCount": 0}

    run(test())


def test_room_handle_room_limits(run: Run) -> None:
    async def test() -> None:
        async with live(max_users_per_room=2) as server, person(server, "ann"), person(server, "bob"):
            async with person(server, "carol", None) as carol:
                assert (await carol.join())["code"] == "ROOM_FULL"
                assert (await carol.join("video_9"))["type"] == "joined"

    run(test())


# --- Cursor Testing


def test_cursor_position_broadcast(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob") as bob:
            await ann.send(type="cursor", roomId=ROOM, data={"timestamp": 15.5, "x": 0.45, "y": 0.62})
            event = await bob.get("cursor_moved")
            color = event["data"].pop("color")
            assert event["userId"] == "ann" and event["data"] == {"timestamp": 15.5, "x": 0.45, "y": 0.62}
            await bob.send(type="get_active", roomId=ROOM)
            assert (await bob.get("active"))["users"][0]["color"] == color

    run(test())


def test_cursor_throttling(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob") as bob:
            shown = []
            began = time.monotonic()
            for number in range(60):
                await ann.send(type="cursor", roomId=ROOM, data={"timestamp": number})
            while not shown or shown[-1] != 59:
                shown.append((await bob.get("cursor_moved"))["data"]["timestamp"])
            assert len(shown) <= 20 * (time.monotonic() - began) + 3 and shown == sorted(shown)
            assert ann.ws.state.name == "OPEN"

    run(test())


def test_cursor_rendering_on_other_clients_needs_everything_in_one_event(run: Run) -> None:
    async def test() -> None:
        async with (
            live() as server,
            person(server, "ann") as ann,
            person(server, "bob") as bob,
            person(server, "c") as c,
        ):
            await ann.send(type="cursor", roomId=ROOM, data={"timestamp": 1, "x": 0, "y": 1})
            for watcher in (bob, c):
                event = await watcher.get("cursor_moved")
                assert event["sessionId"] == ann.session["sessionId"] and event["data"]["color"].startswith("#")
            late = await asyncio.wait_for(_late_view(server), PATIENCE_S)
            assert late["cursor"] == {"timestamp": 1, "x": 0, "y": 1}

    run(test())


async def _late_view(server: Live) -> dict[str, Any]:
    async with person(server, "late", None) as late:
        joined = await late.join()
        return next(user for user in joined["room"]["users"] if user["userId"] == "ann")


def test_cursor_cleanup_on_leave(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "bob") as bob:
            async with person(server, "ann") as ann:
                await ann.send(type="cursor", roomId=ROOM, data={"timestamp": 1})
                await bob.get("cursor_moved")
                ann.ws.transport.abort()
                assert (await bob.get("cursor_moved"))["data"]["hidden"] is True
            await bob.send(type="get_active", roomId=ROOM)
            assert all("cursor" not in user for user in (await bob.get("active"))["users"])

    run(test())


# --- Playback Sync Testing


def test_playback_sync_play_and_pause(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob") as bob:
            for action, playing in (("play", True), ("pause", False)):
                await ann.send(type="playback", roomId=ROOM, data={"action": action, "currentTime": 3})
                for one in (ann, bob):
                    data = (await one.get("playback_synced"))["data"]
                    assert (data["isPlaying"], data["currentTime"], data["action"]) == (playing, 3, action)

    run(test())


def test_playback_sync_seek(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob") as bob:
            await ann.send(type="playback", roomId=ROOM, data={"action": "seek", "currentTime": 75.25})
            assert (await bob.get("playback_synced"))["data"]["currentTime"] == 75.25

    run(test())


def test_playback_control_transfer(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob") as bob:
            await ann.send(type="control_request", roomId=ROOM)
            await bob.get("control_granted")
            await bob.send(type="playback", roomId=ROOM, data={"action": "play"})
            assert (await bob.get("error"))["code"] == "NOT_CONTROLLER"
            await bob.send(type="control_request", roomId=ROOM)
            assert (await ann.get("control_requested"))["data"]["requesterName"] == "Bob"
            await ann.send(type="control_grant", roomId=ROOM, data={"toUserId": "bob"})
            assert (await bob.get("control_granted"))["data"]["toUserId"] == "bob"
            await bob.send(type="playback", roomId=ROOM, data={"action": "play"})
            assert (await ann.get("playback_synced"))["userId"] == "bob"

    run(test())


def test_playback_desync_handling(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob") as bob:
            state = {"isPlaying": False, "playbackRate": 1}
            await ann.send(type="playback", roomId=ROOM, data={"action": "sync", "currentTime": 10, **state})
            await bob.get("playback_synced")  # messages of two users at the same instant may be handled in either order
            await bob.send(type="playback", roomId=ROOM, data={"action": "report", "currentTime": 9.1, **state})
            data = (await ann.get("viewer_sync"))["data"]
            assert data == {"state": "behind", "driftMs": -900, "synced": 0, "total": 2}
            await bob.send(type="playback", roomId=ROOM, data={"action": "resync"})
            while (data := (await bob.get("playback_synced"))["data"])["action"] != "resync":
                pass
            assert data["currentTime"] == 10

    run(test())


# --- over real sockets only


def test_one_hostile_member_cannot_disconnect_the_others(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob") as bob:
            async with person(server, "eve") as eve:
                poison = b'{"type":"broadcast","roomId":"video_123","data":{"a":"\xff\xfe"}}'
                await eve.ws.send([poison], text=True)
                with pytest.raises(websockets.ConnectionClosedError) as closed:
                    while True:
                        await eve.ws.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1007
            await ann.send(type="broadcast", roomId=ROOM, data={"still": "here"})
            assert (await bob.get("broadcast"))["data"] == {"still": "here"}

    run(test())


def test_b10_large_messages_get_an_error_and_huge_ones_1009(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann:
            await ann.send(type="heartbeat", padding="x" * 17_000)
            assert (await ann.get("error"))["code"] == "TOO_LARGE"
            await ann.send(type="heartbeat", padding="x" * 70_000)
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await ann.ws.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009

    run(test())


def test_b13_binary_frames_are_refused(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann:
            await ann.ws.send(b'{"type":"heartbeat"}')
            assert (await ann.get("error"))["code"] == "BINARY_NOT_SUPPORTED"

    run(test())


def test_a1_silent_sockets_are_cut(run: Run) -> None:
    async def test() -> None:
        async with live(auth_timeout_s=0.05) as server, websockets.connect(server.url) as ws:
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                while True:
                    await asyncio.wait_for(ws.recv(), PATIENCE_S)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 4408

    run(test())


def test_d4_the_server_pings_and_cuts_a_client_that_does_not_answer(run: Run) -> None:
    async def test() -> None:
        async with live(ping_interval_s=0.05, ping_timeout_s=0.5) as server, person(server, "bob") as bob:
            async with person(server, "ann") as ann:
                # a half-open connection: TCP is established, and the peer does not answer
                ann.ws.transport.pause_reading()
                event = await bob.get("status_changed")
                assert event["userId"] == "ann" and event["data"]["connected"] is False

    run(test())


@pytest.mark.one_worker
def test_nd_a_drain_closes_all_clients_with_1012(run: Run) -> None:
    async def test() -> None:
        async with live() as server, person(server, "ann") as ann, person(server, "bob") as bob:
            await server.worker.drain()
            for one in (ann, bob):
                with pytest.raises(websockets.ConnectionClosedError) as closed:
                    while True:
                        await one.ws.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012

    run(test())


@pytest.mark.one_worker
def test_tls_end_to_end(run: Run, certificate: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    async def test() -> None:
        server = Server(port=0, tls_cert=str(certificate[0]), tls_key=str(certificate[1]))
        worker = Worker(Config(server=server, auth=Auth(secret=SECRET), access=Access(mode="allow_all")))
        await worker.start()
        async with websockets.connect(f"wss://localhost:{worker.port}/presence", ssl=trusting) as ws:
            someone = Person(ws)
            await someone.auth(issue_token(SECRET, user="ann", now_s=int(time.time())))
            assert (await someone.join())["type"] == "joined"
        await worker.stop()

    run(test())


# --- the process


def serve(*arguments: str, **env: str) -> Any:
    command = [sys.executable, "-m", "koko_presence", "serve", "--dev", "--port", "0", *arguments]
    return process(command, r":(\d+)/demo", env=os.environ | env)


@pytest.mark.processes
def test_sigterm_drains_and_exits_0_and_no_token_is_logged(run: Run) -> None:
    with serve("--log-level", "debug") as (server, port):

        async def use() -> str:
            reader = await asyncio.to_thread(
                lambda: __import__("urllib.request").request.urlopen(f"http://127.0.0.1:{port}/dev/token?user=a").read()
            )
            token = str(json.loads(reader)["token"])
            async with websockets.connect(f"ws://127.0.0.1:{port}/presence") as ws:
                someone = Person(ws)
                await someone.auth(token)
                await someone.join()
                server.send_signal(signal.SIGTERM)
                with pytest.raises(websockets.ConnectionClosedError) as closed:
                    while True:
                        await ws.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
            async with asyncio.timeout(PATIENCE_S):
                while server.poll() is None:
                    await asyncio.sleep(0.02)
            return token

        token = run(use())
        assert server.returncode == 0
        said = "".join(server.communicate())
        assert token not in said and token.split(".")[1] not in said and "draining" in said


@pytest.mark.processes
def test_a_taken_port_is_exit_2_with_one_clear_line() -> None:
    with serve() as (_, port):
        command = [sys.executable, "-m", "koko_presence", "serve", "--dev", "--port", str(port)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert second.returncode == 2
    (line,) = second.stderr.strip().splitlines()
    assert str(port) in line and "in use" in line.lower()


@pytest.mark.processes
def test_sighup_takes_new_limits_without_touching_a_connection(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "koko.toml"
    text = '[server]\nport = 0\ndemo = true\n[operator]\nport = 0\n[auth]\nsecret = "{}"\n[access]\nmode = "allow_all"\n[limits]\nmax_users_per_room = {}\n'
    path.write_text(text.format(SECRET, 1))
    command = [sys.executable, "-m", "koko_presence", "serve", "--config", str(path)]
    with process(command, r":(\d+)/demo") as (server, port):

        async def use() -> None:
            url = f"ws://127.0.0.1:{port}/presence"
            async with websockets.connect(url) as one, websockets.connect(url) as two:
                ann, bob = Person(one), Person(two)
                for someone, user in ((ann, "ann"), (bob, "bob")):
                    await someone.auth(issue_token(SECRET, user=user, now_s=int(time.time())))
                await ann.join()
                assert (await bob.join())["code"] == "ROOM_FULL"
                path.write_text(text.format(SECRET, 2))
                server.send_signal(signal.SIGHUP)
                async with asyncio.timeout(PATIENCE_S):
                    while (await bob.join())["type"] != "joined":
                        await asyncio.sleep(0.05)
                await ann.send(type="heartbeat")
                assert await ann.get("pong")

        run(use())


def test_the_specifications_raw_snippet_needs_no_library(run: Run, tmp_path: Path) -> None:
    """Run "Connection Setup" and the messages of the specification's sections in Node, with only WebSocket and
    JSON.stringify."""
    script = tmp_path / "snippet.mjs"
    script.write_text(RAW_SNIPPET)

    async def test() -> str:
        async with live() as server, person(server, "bob") as bob:
            child = await asyncio.create_subprocess_exec(
                "node", "--experimental-websocket", str(script), server.url, server.token("jane", "Jane"),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            event = await bob.get("cursor_moved")
            assert event["data"]["x"] == 0.45
            out, err = await child.communicate()
            assert child.returncode == 0, err.decode()
            return out.decode()

    assert "authenticated,joined,pong" in run(test())


RAW_SNIPPET = """
const [url, sessionToken] = process.argv.slice(2);
const seen = [];
const ws = new WebSocket(url);

// Authenticate on connect
ws.onopen = () => {
  ws.send(JSON.stringify({
    type: 'auth',
    token: sessionToken,
  }));
  ws.send(JSON.stringify({ "type": "join", "roomId": "video_123", "roomType": "video" }));
  ws.send(JSON.stringify({ "type": "cursor", "roomId": "video_123", "data": { "timestamp": 15.5, "x": 0.45, "y": 0.62 } }));
  ws.send(JSON.stringify({ "type": "heartbeat", "status": "active" }));
};

// Handle events
ws.onmessage = (event) => {
  const message = JSON.parse(event.data);
  seen.push(message.type);
  if (seen.includes('pong') && seen.includes('joined')) ws.close();
};
ws.onclose = () => console.log([...new Set(seen)].sort().join());
"""


@pytest.mark.one_worker
def test_limits_are_configurable_and_one_struct() -> None:
    assert Limits().max_users_per_room == 100 and Limits().silence_s == 90
