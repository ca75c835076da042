"""The identity provider, the access webhook and the event webhook fail in every way while workers are killed and
replaced. No connected user loses the session, the messages of others or the name, and no member is seen to leave."""

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from tests.integration.conftest import Run
from tests.integration.test_identity_providers import enter
from tests.integration.test_supervisor import Service
from tests.provider import Provider, provider, signed
from tests.waiting import until, wait_until

SECRET = "a secret for the neighbours' tests, long enough"
CONFIG = """
[server]
port = 0
workers = 2
runtime_dir = "{folder}/run"
[operator]
port = 0
[auth]
verifiers = ["jwt", "introspect"]
algorithms = ["EdDSA"]
secret = "{secret}"
[auth.jwks]
url = "{base}/jwks"
[auth.introspect]
preset = "better-auth-bearer"
url = "{base}/get-session"
cache_s = 1.0
[access]
mode = "webhook"
[access.webhook]
url = "{base}/access"
secret = "{secret}"
[webhooks]
url = "{base}/hooks"
secret = "{secret}"
batch_s = 0.1
[limits]
grace_s = 30.0
"""
# The grace period is long: a client that reaches the port of a worker which is just starting waits for it, which takes
# seconds on a busy machine and is independent of the failing services.
PATHS = {"provider": ("/jwks", "/get-session"), "authoriser": ("/access",), "webhook": ("/hooks",)}
ROOM = "video_1"
PEOPLE = 8


class Neighbours(Service):
    """A server of two workers that sends its requests to `base`."""

    def configure(self, **settings: Any) -> None:
        self.settings |= {"secret": SECRET} | settings
        self.config.write_text(CONFIG.format(folder=self.folder, **self.settings))


async def status_503(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=503)


async def hang(request: web.BaseRequest) -> web.StreamResponse:
    while True:
        await asyncio.sleep(0.2)


class Application:
    """The application behind all addresses. A path in `fails` fails as given there; all others are answered."""

    def __init__(self, idp: Provider) -> None:
        self._idp = idp
        self.fails: dict[str, str] = {}  # path -> "503", "hanging" or "5 s slow"
        idp.handle = self.answer

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        how = self.fails.get(request.path)
        if how == "503":
            return await status_503(request)
        if how == "hanging":
            return await hang(request)
        for _ in range(25 if how == "5 s slow" else 0):
            await asyncio.sleep(0.2)
        if request.path == "/access":
            return web.json_response({"allow": True, "scopes": ["join", "broadcast"], "ttl": 0})
        return web.Response() if request.path == "/hooks" else self._idp.answer(request)


class Person:
    """A member of the room that reconnects whenever its connection is lost, and broadcasts every 0.1 s."""

    def __init__(self, number: int, port: int, everybody: list["Person"]) -> None:
        self.user = f"user{number}"
        self.by_key = number % 2 == 0  # a JWT, a fresh one each time; else the application's session id
        self._port, self._everybody = port, everybody
        self._resume: dict[str, str] = {}
        self.session_id = ""
        self.connections = 0  # connections that have joined the room
        self.inside = False
        self.said = 0
        self.heard: dict[str, int] = {}
        self.faults: list[str] = []
        self.longest_out_s, self._out_since, self._handshake_s = 0.0, time.monotonic(), 0.0

    @property
    def name(self) -> str:
        return self.user if self.by_key else self.user.title()

    async def live(self) -> None:
        while True:
            began_at = time.monotonic()
            with suppress(OSError, WebSocketException, InvalidHandshake):
                async with connect(f"ws://127.0.0.1:{self._port}/presence", proxy=None) as ws:
                    self._handshake_s = time.monotonic() - began_at
                    await self._talk(ws)
            if self.inside:
                self.inside, self._out_since = False, time.monotonic()
            await asyncio.sleep(0.02)

    async def _talk(self, ws: ClientConnection) -> None:
        claims = {"sub": self.user, "exp": int(time.time()) + 600, "jti": str(time.monotonic())}
        token = signed("EdDSA", claims) if self.by_key else f"{self.user}.c2ln"
        await ws.send(json.dumps({"type": "auth", "token": token, **self._resume}))
        speaking: asyncio.Task[None] | None = None
        try:
            async for data in ws:
                self._hear(message := json.loads(data))
                if message["type"] == "authenticated":
                    await ws.send(json.dumps({"type": "join", "roomId": ROOM, "roomType": "video"}))
                elif message["type"] == "joined":
                    speaking = speaking or asyncio.ensure_future(self._speak(ws))
        finally:
            if speaking is not None:
                speaking.cancel()

    async def _speak(self, ws: ClientConnection) -> None:
        while True:
            self.said += 1
            data = {"from": self.user, "n": self.said}
            await ws.send(json.dumps({"type": "broadcast", "roomId": ROOM, "data": data}))
            await asyncio.sleep(0.1)

    def _hear(self, message: dict[str, Any]) -> None:
        type_ = message["type"]
        if type_ == "authenticated":
            if self.session_id not in ("", message["sessionId"]):
                out_s, handshake_s = time.monotonic() - self._out_since, self._handshake_s
                self.faults.append(f"{self.user} got another session, {out_s:.1f} s out, handshake {handshake_s:.1f} s")
            self.session_id, self._resume = message["sessionId"], {"resumeToken": message["resumeToken"]}
        elif type_ == "joined":
            self.inside = True
            self.connections += 1
            if self.connections > 1:
                self.longest_out_s = max(self.longest_out_s, time.monotonic() - self._out_since)
            self._check_names(message["room"]["users"])
        elif type_ == "broadcast":
            self.heard[message["data"]["from"]] = message["data"]["n"]
        elif type_ in ("error", "kicked") or (type_ in ("user_left", "user_joined") and self.connections > 1):
            self.faults.append(f"{self.user} was told: {json.dumps(message)}")
        elif type_ == "user_left":
            self.faults.append(f"{self.user} saw {message['userId']} leave: {message['data']}")

    def _check_names(self, rows: list[dict[str, Any]]) -> None:
        names = {row["userId"]: row["name"] for row in rows}
        self.faults += [
            f"{self.user} sees {each.user} as {names[each.user]}"
            for each in self._everybody
            if names.get(each.user, each.name) != each.name
        ]


class Scene:
    """Clients in a room of one service, and the application that it depends on."""

    def __init__(self, service: Neighbours, people: list[Person], application: Application) -> None:
        self.service, self.people, self.application = service, people, application

    @property
    def faults(self) -> list[str]:
        return [fault for person in self.people for fault in person.faults]

    async def all_hear_all(self) -> None:
        """Wait until a later broadcast of every client has reached every other one; assert that there was no fault."""
        marks = {person.user: person.said for person in self.people}
        pairs = list(itertools.permutations(self.people, 2))
        await until(
            lambda: self.faults or all(hearer.heard.get(each.user, 0) > marks[each.user] for hearer, each in pairs)
        )
        assert self.faults == [], self.faults

    async def kill(self) -> None:
        """Kill workers until one had clients, and wait for each successor. The kernel distributes the clients."""
        was = [each.connections for each in self.people]
        while was == [each.connections for each in self.people]:
            before = len(self.service.log("worker started"))
            os.kill((await asyncio.to_thread(self.service.alive))[0], signal.SIGKILL)
            await until(lambda before=before: len(self.service.log("worker started")) > before)
            await asyncio.to_thread(self.until_ready)
            await self.all_hear_all()

    async def roll(self) -> None:
        """Replace all workers by a rolling reload and wait for its end."""
        before, was = len(self.service.log("every worker was replaced")), [each.connections for each in self.people]
        self.service.signal(signal.SIGUSR2)
        await until(lambda: self.faults or len(self.service.log("every worker was replaced")) > before)
        await self.all_hear_all()
        assert all(each.connections > count for each, count in zip(self.people, was, strict=True)), "all came back"

    def until_ready(self) -> None:
        while not self.service.ready():
            time.sleep(0.05)


def played(run: Run, test: Callable[[Scene], Awaitable[None]]) -> None:
    """Let clients join while the application answers, then run `test`."""

    async def play() -> None:
        with TemporaryDirectory(prefix="koko") as folder:
            async with provider() as idp:
                application = Application(idp)
                for number in range(PEOPLE):
                    idp.sign_in(f"user{number}.c2ln", f"user{number}")
                service = Neighbours(Path(folder), base=idp.base)
                tasks: list[asyncio.Task[None]] = []
                try:
                    port = await asyncio.to_thread(lambda: service.up().port)
                    people: list[Person] = []
                    people += [Person(number, port, people) for number in range(PEOPLE)]
                    tasks += [asyncio.ensure_future(person.live()) for person in people]
                    scene = Scene(service, people, application)
                    await scene.all_hear_all()
                    await test(scene)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                    await asyncio.to_thread(service.end)

    run(play())


def counted(scene: Scene, name: str) -> float:
    """The value of a metric, summed over all workers."""
    _, text = scene.service.ask("/metrics")
    rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return float(rows[f"koko_presence_{name}"])


@pytest.mark.long
def test_with_every_service_hanging_a_killed_worker_and_a_rolling_reload_affect_no_member(run: Run) -> None:
    async def test(scene: Scene) -> None:
        scene.application.fails = {path: "hanging" for paths in PATHS.values() for path in paths}
        await scene.kill()
        await scene.roll()
        for number in range(6):  # whichever new worker accepts the connection: all have the key
            token = signed("EdDSA", {"sub": f"new{number}", "exp": int(time.time()) + 600})
            assert (await enter(scene.service.port, {"token": token}))["type"] == "authenticated"
        await asyncio.to_thread(wait_until, lambda: counted(scene, 'auth_total{result="resumed_unchecked"}') > 0)
        timed_out = 'upstream_requests_total{upstream="access",result="timeout"}'
        await asyncio.to_thread(wait_until, lambda: counted(scene, timed_out) > 0)
        scene.application.fails = {}
        await scene.all_hear_all()

    played(run, test)


@pytest.mark.long
@pytest.mark.parametrize("how", ["503", "hanging", "5 s slow"])
@pytest.mark.parametrize("which", list(PATHS))
def test_each_service_of_the_application_fails_in_each_way(run: Run, which: str, how: str) -> None:
    async def test(scene: Scene) -> None:
        scene.application.fails = dict.fromkeys(PATHS[which], how)
        await scene.kill()
        await scene.roll()
        await scene.kill()
        scene.application.fails = {}
        await scene.all_hear_all()

    played(run, test)
