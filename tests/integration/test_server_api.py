"""The server API on real processes, with one worker and several, and every command of docs/server-api.md."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from koko_presence.access.policy import AllowAll, Grant
from koko_presence.protocol.survey import Recheck
from tests.integration.conftest import Run
from tests.integration.test_scenarios import Person, person
from tests.integration.test_supervisor import Service, service
from tests.live import live
from tests.raw_ws import CLOSE, TEXT, RawSocket, frame
from tests.waiting import PATIENCE_S, wait_until

KEY = "a key for the server API's tests, long enough"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "server-api.md"
ROOM = "video_123"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOKO_PRESENCE_OPERATOR_API_KEY", KEY)


@pytest.fixture(autouse=True)
def _leave() -> Iterator[None]:
    yield
    while Operated.entered:
        Operated.entered.pop().sock.close()


class Operated(Service):
    """A service with its server API enabled."""

    entered: ClassVar[list[RawSocket]] = []  # sockets opened by the running test; closed after it

    def __init__(self, it: Service) -> None:
        self.__dict__ = it.__dict__

    @property
    def base(self) -> str:
        return "http://" + str(self.wait("operator port")["address"])

    def call(self, method: str, path: str, body: Any = None, key: str | None = KEY) -> tuple[int, Any, float]:
        """Send a request; return status, decoded answer and duration in seconds."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        began = time.monotonic()
        try:
            with urlopen(Request(self.base + path, data, headers, method=method), timeout=PATIENCE_S) as answer:
                status, text = answer.status, answer.read()
        except HTTPError as error:
            with error:
                status, text = error.code, error.read()
        return status, json.loads(text), time.monotonic() - began

    def enter(self, user: str, room: str = ROOM, **join: Any) -> RawSocket:
        """A user who has joined a room; all messages up to `joined` are read."""
        ws = self.connect(user)
        self.entered.append(ws)
        say(ws, type="join", roomId=room, roomType="video", **join)
        hear(ws, "joined")
        return ws


def say(ws: RawSocket, **message: Any) -> None:
    ws.send(frame(TEXT, json.dumps(message).encode()))


def hear(ws: RawSocket, type_: str) -> Any:
    """The next message of this type."""
    while (message := json.loads(ws.read_frame().payload))["type"] != type_:
        pass
    return message


@pytest.fixture(params=[1, 3], ids=lambda count: f"{count} workers", scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Operated]:
    os.environ["KOKO_PRESENCE_OPERATOR_API_KEY"] = KEY
    try:
        with service(workers=request.param) as it:
            yield Operated(it.up())
    finally:
        del os.environ["KOKO_PRESENCE_OPERATOR_API_KEY"]


def test_rooms_users_and_a_broadcast_over_whatever_workers(served: Operated) -> None:
    people = [served.enter(user) for user in ("ann", "bob", "cat", "dan")]
    hidden = served.enter("eve", privacy={"invisible": True})
    for number in range(3):
        served.enter("ann", f"video_page_{number}")
    status, listed, _ = served.call("GET", "/api/rooms?prefix=video_page_&limit=2")
    assert (status, [row["id"] for row in listed["rooms"]]) == (200, ["video_page_0", "video_page_1"])
    _, rest, _ = served.call("GET", f"/api/rooms?prefix=video_page_&limit=2&cursor={listed['nextCursor']}")
    assert ([row["id"] for row in rest["rooms"]], "nextCursor" in rest) == (["video_page_2"], False)
    _, shown, _ = served.call("GET", f"/api/rooms/{ROOM}")
    assert [(row["userId"], row["invisible"]) for row in shown["room"]["members"]] == [
        ("ann", False), ("bob", False), ("cat", False), ("dan", False), ("eve", True)
    ]  # fmt: skip
    _, ann, _ = served.call("GET", "/api/users/ann/sessions")
    assert len(ann["sessions"]) == 4 and ann["missing"] == []
    assert served.call("GET", "/api/users/nobody/sessions")[1]["sessions"] == []
    assert served.call("POST", f"/api/rooms/{ROOM}/broadcast", {"data": {"n": 1}})[1] == {"delivered": 4}
    for ws in (*people, hidden):
        said = hear(ws, "broadcast")
        assert (said["userId"], said["data"]) == ("system", {"n": 1})
    status, stats, _ = served.call("GET", "/api/stats")
    assert (status, stats["ready"], stats["connections"], stats["users"]) == (200, True, 8, 5)
    assert sum(row["connections"] for row in stats["workers"]) == 8
    assert served.call("POST", "/api/kick", {"roomId": ROOM})[1] == {"kicked": 5, "missing": []}


def test_settings_of_a_room_are_changed_over_whatever_workers(served: Operated) -> None:
    people = [served.enter(user, "video_set") for user in ("ann", "bob", "cat", "dan")]
    path = "/api/rooms/video_set"
    assert served.call("PATCH", path, {"title": "Cut 3", "maxUsers": 4})[:2] == (
        200, {"settings": {"title": "Cut 3", "maxUsers": 4}},
    )  # fmt: skip
    for ws in people:
        changed = hear(ws, "room_changed")
        assert (changed["userId"], changed["data"]) == ("system", {"title": "Cut 3", "maxUsers": 4})
    assert served.call("PATCH", path, {"title": None, "maxUsers": 4})[1] == {"settings": {"maxUsers": 4}}
    for ws in people:
        assert hear(ws, "room_changed")["data"] == {"title": None}
    assert served.call("GET", path)[1]["room"]["settings"] == {"maxUsers": 4}
    late = served.connect("eve")
    served.entered.append(late)
    say(late, type="join", roomId="video_set", roomType="video")
    assert hear(late, "error")["code"] == "ROOM_FULL"
    for body, status, code in (
        ({"title": "x" * 201}, 400, "INVALID_BODY"),
        ({"titel": "x"}, 400, "INVALID_BODY"),
        ({"waitForViewers": 11}, 400, "INVALID_BODY"),
        ({"controlMode": "anyone"}, 400, "INVALID_BODY"),
        ([], 400, "INVALID_BODY"),
    ):
        found = served.call("PATCH", path, body)
        assert (found[0], found[1]["error"]["code"]) == (status, code), body
    status, answer, _ = served.call("PATCH", "/api/rooms/video_nowhere", {"title": "x"})
    assert (status, answer["error"]["code"]) == (404, "NOT_FOUND") and "token" in answer["error"]["message"]
    assert served.call("PATCH", path, {})[1] == {"settings": {"maxUsers": 4}}


def test_presence_of_a_user_is_switched_off_and_on_over_whatever_workers(served: Operated) -> None:
    watcher = served.enter("wat", "video_off")
    people = [served.enter("off", "video_off") for _ in range(3)]
    for _ in people:
        hear(watcher, "user_joined")
    path = "/api/users/off"
    assert served.call("PATCH", path, {"presence": False})[:2] == (
        200, {"userId": "off", "presence": False, "sessions": 3, "missing": []},
    )  # fmt: skip
    assert [hear(watcher, "user_left")["data"]["sessionCount"] for _ in people] == [2, 1, 0]
    late = served.enter("off", "video_off")
    _, shown, _ = served.call("GET", "/api/rooms/video_off")
    assert [(row["userId"], row["presenceOff"]) for row in shown["room"]["members"]] == [("wat", False)] + [
        ("off", True)
    ] * 4
    assert {row["presenceOff"] for row in served.call("GET", "/api/users/off/sessions")[1]["sessions"]} == {True}
    say(late, type="broadcast", roomId="video_off", data={"type": "hi"})
    assert hear(late, "error")["code"] == "INVISIBLE"
    assert served.call("PATCH", path, {"presence": True})[1]["sessions"] == 4
    assert sorted(hear(watcher, "user_joined")["data"]["sessionCount"] for _ in range(4)) == [1, 2, 3, 4]


def test_presence_that_is_switched_off_is_so_at_a_replaced_worker() -> None:
    with service(workers=2) as running:
        it = Operated(running.up())
        assert it.call("PATCH", "/api/users/off", {"presence": False})[0] == 200
        old = it.alive()
        for id in (1, 2):  # one after the other, so that both have begun with the supervisor's list
            os.kill(it.pid(id), signal.SIGKILL)
            wait_until(lambda number=id: it.whole() and len(it.log("worker started")) == 2 + number)  # type: ignore[misc]
        assert not set(old) & set(it.alive())
        watcher = it.enter("wat", "video_off")
        for _ in range(4):  # some at each worker
            it.enter("off", "video_off")
        say(watcher, type="get_active", roomId="video_off")
        assert hear(watcher, "active")["totalCount"] == 1


def test_kicked_is_the_next_message_and_the_last(served: Operated) -> None:
    victims = [served.enter("vic", "video_kick") for _ in range(4)]
    watcher = served.enter("wat", "video_kick")
    for ws in victims:
        hear(ws, "user_joined") if ws is not victims[-1] else None
    began = time.monotonic()
    status, answer, took_s = served.call("POST", "/api/kick", {"userId": "vic", "reason": "Out."})
    assert (status, answer) == (200, {"kicked": 4, "missing": []})
    for ws in victims:
        assert hear(ws, "kicked")["reason"] == "Out."
        closing = ws.read_frame()
        assert (closing.opcode, int.from_bytes(closing.payload[:2], "big")) == (CLOSE, 4403)
    print(
        f"kick of 4 sessions: answered in {took_s * 1000:.1f} ms, all told in {(time.monotonic() - began) * 1000:.1f} ms"
    )
    left = [hear(watcher, "user_left") for _ in victims]
    assert {event["data"]["reason"] for event in left} == {"kicked"}


def test_invalid_requests_get_a_specific_error(served: Operated) -> None:
    for path, body, status, code in (
        ("/api/rooms?limit=0", None, 400, "INVALID_QUERY"),
        ("/api/rooms?limit=1&limit=2", None, 400, "INVALID_QUERY"),
        ("/api/rooms?lmit=1", None, 400, "INVALID_QUERY"),
        ("/api/rooms/" + "x" * 129, None, 400, "INVALID_PATH"),
        ("/api/rooms/%ff", None, 400, "INVALID_PATH"),
        ("/api/rooms/nowhere", None, 404, "NOT_FOUND"),
        ("/api/nothing", None, 404, "NOT_FOUND"),
        ("/api", None, 404, "NOT_FOUND"),
        ("/api/kick", {}, 400, "INVALID_BODY"),
        ("/api/kick", {"user": "ann"}, 400, "INVALID_BODY"),
        ("/api/kick", b"{", 400, "INVALID_BODY"),
        ("/api/kick", b'{"userId":"\xff"}', 400, "INVALID_BODY"),
        ("/api/kick", b"[" * 20_000, 400, "INVALID_BODY"),
        ("/api/kick", {"userId": "ann", "reason": "x" * 70_000}, 413, "TOO_LARGE"),
        ("/api/recheck", {}, 400, "INVALID_BODY"),
        ("/api/rooms/nowhere/broadcast", {"data": [1]}, 400, "INVALID_BODY"),
        ("/api/rooms/nowhere/broadcast", {"data": {"__proto__": 1}}, 400, "INVALID_BODY"),
        ("/api/rooms/nowhere/broadcast", {"data": {"a": "x" * 9000}}, 413, "TOO_LARGE"),
        ("/api/rooms/nowhere/broadcast", {"data": {}}, 404, "NOT_FOUND"),
    ):
        found = served.call("GET" if body is None else "POST", path, body)
        assert (found[0], found[1]["error"]["code"]) == (status, code), path
        assert found[1]["error"]["message"], path
    assert served.call("DELETE", "/api/rooms")[1]["error"]["code"] == "METHOD_NOT_ALLOWED"
    assert served.call("GET", "/api/rooms", key=None)[0] == 401
    assert served.call("GET", "/api/rooms", key=KEY[:-1])[0] == 401
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{served.base}/api/kick", b"userId=ann", {"Authorization": f"Bearer {KEY}"}))
    with refused.value as error:
        assert error.code == 415
    public = f"http://127.0.0.1:{served.port}/api/rooms"
    with pytest.raises(HTTPError) as nothing:
        urlopen(Request(public, headers={"Authorization": f"Bearer {KEY}"}))
    with nothing.value as error:
        assert error.code == 404, "never on the public port"


@pytest.mark.long
def test_schemathesis_finds_nothing(served: Operated, tmp_path: Path) -> None:
    """All checks of schemathesis on every operation except the drain, without knowledge of rooms and with a real
    room."""
    served.enter("ann")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.base}/api/openapi.json"]
    command += ["--header", f"Authorization: Bearer {KEY}", "--exclude-path", "/api/drain"]
    command += ["--seed", "1", "--generation-deterministic", "--max-examples", "25", "--no-color"]
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.roomId" = "{ROOM}"\n' if served.settings["workers"] == 1 else "")
    done = subprocess.run(
        [*command[:3], "--config-file", str(config), *command[3:]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert re.search(r"Selected: 10/11", done.stdout) and "Test cases:" in done.stdout
    assert served.ready()


class ToggledAccess(AllowAll):
    """Allows all users except those in `closed`."""

    def __init__(self) -> None:
        self.closed: set[str] = set()

    def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Grant:
        return Grant(allow=identity.user_id not in self.closed)


async def following(who: Person) -> Any:
    """The next message of any type."""
    return json.loads(await asyncio.wait_for(who.ws.recv(), PATIENCE_S))


@pytest.mark.parametrize("workers", [1, 4])
def test_a_recheck_over_real_sockets_is_the_next_frame(run: Run, workers: int) -> None:
    async def test() -> None:
        async with live(workers=workers) as server, AsyncExitStack() as stack:
            access = ToggledAccess()
            for worker in server.workers:
                worker.hub.access = access
            victims = [await stack.enter_async_context(person(server, "vic", ROOM)) for _ in range(4)]
            others = [await stack.enter_async_context(person(server, f"user{number}", ROOM)) for number in range(4)]
            for victim in victims:
                while (await victim.get("user_joined"))["userId"] != "user3":
                    pass
            access.closed.add("vic")
            answers: list[Any] = []
            for worker in server.workers:
                worker.survey_handlers.handle(Recheck(user_id="vic"), answers.append)
            for other in others:
                await other.send(type="broadcast", roomId=ROOM, data={"n": 1})
            for victim in victims:
                assert (await following(victim))["type"] == "kicked", "the very next frame [N12]"
            for other in others:
                for _ in victims:
                    assert (await other.get("user_left"))["data"]["reason"] == "kicked"
            for victim in victims:
                await victim.send(type="heartbeat")
                assert (await following(victim))["type"] == "pong", "and nothing of the room after it"

    run(test())


@pytest.mark.long
def test_a_key_can_be_changed_and_a_drain_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOKO_PRESENCE_OPERATOR_API_KEY")
    with service(workers=1) as it:
        off = Operated(it.up())
        status, answer, _ = off.call("GET", "/api/rooms")
        assert (status, answer["error"]["code"]) == (403, "API_OFF")
        assert "operator.api_key" in answer["error"]["message"]
        assert off.call("GET", "/api/openapi.json", key=None)[1]["openapi"] == "3.1.0"
        text = it.config.read_text()
        it.config.write_text(text.replace("[operator]\n", f'[operator]\napi_key = "{KEY}"\n'))
        it.signal(signal.SIGHUP)
        it.wait("configuration reloaded")
        assert off.call("GET", "/api/rooms")[0] == 200
        ws = off.enter("ann")
        assert off.call("POST", "/api/drain")[:2] == (202, {"draining": True})
        while (found := ws.read_frame()).opcode != CLOSE:
            pass
        assert int.from_bytes(found.payload[:2], "big") == 1012
        assert it.process.wait(PATIENCE_S) == 0


@pytest.mark.long
def test_a_worker_that_hangs_is_named_and_waited_for_a_second() -> None:
    with service(workers=3) as it:
        served = Operated(it.up())
        hung = it.log("worker started")[1]
        os.kill(hung["pid"], signal.SIGSTOP)
        # in parallel: three seconds later the worker is replaced and no longer missing
        with ThreadPoolExecutor(2) as pool:
            kicking = pool.submit(served.call, "POST", "/api/kick", {"userId": "ann"})
            status, answer, took_s = served.call("GET", "/api/users/ann/sessions")
        assert (status, answer["missing"]) == (200, [hung["worker"]]) and took_s > 0.9
        assert kicking.result()[1] == {"kicked": 0, "missing": [hung["worker"]]}
        wait_until(lambda: served.call("GET", "/api/stats")[1]["missing"] == [])


def test_the_commands_of_the_docs() -> None:
    text = DOCS.read_text()
    steps = re.findall(r"```sh\n(.*?)```(?:\s*```json\n(.*?)```)?", text, re.S)
    assert len(steps) == 13
    with service(workers=2) as it:
        served = Operated(it.up())
        people = [served.enter("ann"), served.enter("bob"), served.enter("eve", privacy={"invisible": True})]
        say(people[0], type="control_request", roomId=ROOM)
        hear(people[0], "control_granted")
        environment = os.environ | {"API": f"{served.base}/api", "KEY": KEY}
        for commands, shown in steps:
            done = subprocess.run(
                ["bash", "-ec", commands], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
            )
            assert done.returncode == 0, commands
            answers = [json.loads(line) for line in done.stdout.replace("}{", "}\n{").splitlines()]
            for answer in answers:
                assert "error" not in answer, commands
                if shown:
                    example = json.loads(shown)
                    assert shape(answer) == shape(example), commands
                    if not {"rooms", "room", "sessions"} & example.keys():  # counters only
                        assert answer == example, commands
        assert it.process.wait(PATIENCE_S) == 0, "the last one drains"


def shape(value: Any) -> Any:
    """Keys and types of a value; of a list those of the first item."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__
