"""Measures the specification's four operations in a room of 100: `python -m bench.targets`

Join, cursor, typing and playback, each from the write of the message to the receipt of its result: the answer for a
join, otherwise the event at another member. One table: with 1 and 4 workers, plain and TLS, sent over WebSocket
(`/presence`), over tRPC (a WebSocket at `/trpc`; the receiver subscribes there as well) and over HTTP (POST to `/trpc`;
the receiver has a WebSocket). The server runs on one core and this process on another; there is no other load in the
room.

Ten members send in turn, within the default limits, one receives, further users join and leave one after the other, and
the other members only read. The targets: p99 of join and playback below 100 ms, of cursor and typing below 50 ms [L5].
The specification counts from receipt at the server to its last write; here sending, waking up and reading are included.
"""

import argparse
import asyncio
import gc
import itertools
import json
import math
import os
import ssl
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from koko_presence.auth.hmac_jwt import issue_token

from .crowd import HANDSHAKE, frame
from .floods import certificate, free_port
from .load import SECRET, koko_server

WAYS = ("websocket", "trpc", "http")
TARGETS_MS = {"join": 100.0, "cursor": 50.0, "typing": 50.0, "playback": 100.0}
ROOM = {"roomId": "video_1", "roomType": "video"}
SENDERS = 10
PEOPLE = 100
CYCLE_S = 0.6  # per sender: one message of each kind, within the limits of typing, the lowest
ANSWER_S = 10.0
PROCEDURES = {"cursor": "updateCursor", "playback": "syncPlayback"}


class Table:
    """Samples in ms by kind; `lost` counts missing answers."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = defaultdict(list)
        self.lost = 0

    def quantile(self, kind: str, share: float) -> float:
        values = sorted(self.ms[kind])
        return values[min(len(values) - 1, int(len(values) * share))] if values else math.inf


def token(user: str) -> str:
    return issue_token(SECRET, user=user, name=user, ttl_s=3600, now_s=int(time.time()))


class Quiet(asyncio.Protocol):
    """A member that reads and discards its messages."""

    def __init__(self, user: str) -> None:
        self._user = user

    def connection_made(self, transport: Any) -> None:
        transport.write(HANDSHAKE)
        for message in ({"type": "auth", "token": token(self._user)}, {"type": "join", **ROOM}):
            transport.write(frame(json.dumps(message).encode()))


class Member:
    """A member that sends by one of the ways, or receives over a WebSocket at `/presence` or `/trpc`."""

    def __init__(self, base: str, way: str, user: str, tls: ssl.SSLContext | None) -> None:
        self._base, self._way, self.user, self._tls = base, way, user, tls
        self._token = token(user)
        self._socket: ClientConnection | None = None
        self._http: aiohttp.ClientSession | None = None
        self._reading: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._session = ""
        self.on_event: Callable[[dict[str, Any]], None] = lambda event: None
        self._authenticated = asyncio.Event()

    async def open(self) -> None:
        """Connect and authenticate."""
        if self._way == "http":
            self._http = aiohttp.ClientSession(headers={"authorization": f"Bearer {self._token}"})
            return
        path = "/presence" if self._way == "websocket" else "/trpc?connectionParams=1"
        url = self._base.replace("http", "ws", 1) + path
        self._socket = await connect(
            url, ssl=self._tls, compression=None, ping_interval=None, proxy=None, max_size=None
        )
        self._reading = asyncio.create_task(self._read(self._socket))
        if self._way == "websocket":
            await self._say({"type": "auth", "token": self._token})
        else:
            await self._say({"method": "connectionParams", "data": {"token": self._token}})
            await self._say({"id": 0, "method": "subscription", "params": {"path": "presence.onEvent"}})
        async with asyncio.timeout(ANSWER_S):
            await self._authenticated.wait()

    async def join(self) -> float:
        """Join the room; returns the duration in ms."""
        began = time.perf_counter()
        result = await self.ask("join", ROOM)
        self._session = result.get("sessionId", "")
        return (time.perf_counter() - began) * 1e3

    async def leave(self) -> None:
        await self.ask("leave", {"roomId": ROOM["roomId"]})

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._reading is not None:
            await self._reading
        if self._http is not None:
            await self._http.close()

    async def ask(self, procedure: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Call a procedure and return its result. Errors: TimeoutError; RuntimeError if it is refused."""
        async with asyncio.timeout(ANSWER_S):
            if self._http is not None:
                return await self._post(procedure, fields)
            number = next(self._numbers)
            answer = self._answers[number] = asyncio.get_running_loop().create_future()
            if self._way == "websocket":
                await self._say({"type": procedure, "id": number, **fields})
            else:
                params = {"path": f"presence.{procedure}", "input": fields}
                await self._say({"id": number, "method": "mutation", "params": params})
            return dict(await answer)

    async def send(self, kind: str, value: float) -> None:
        """Send one message of a kind. Only HTTP waits for the answer, where calls would accumulate otherwise."""
        if self._way == "websocket":
            data: dict[str, Any] = {
                "cursor": {"timestamp": value},
                "typing": {"isTyping": bool(int(value) % 2)},
                "playback": {"action": "seek", "currentTime": value},
            }[kind]
            await self._say({"type": kind, "roomId": ROOM["roomId"], "data": data})
            return
        fields: dict[str, Any] = {"roomId": ROOM["roomId"]}
        procedure = PROCEDURES.get(kind) or ("startTyping" if int(value) % 2 else "stopTyping")
        if kind == "cursor":
            fields["timestamp"] = value
        if kind == "playback":
            fields |= {"action": "seek", "currentTime": value}
        if self._http is not None:
            fields["sessionId"] = self._session
            await self._post(procedure, fields)
        else:
            params = {"path": f"presence.{procedure}", "input": fields}
            await self._say({"id": next(self._numbers), "method": "mutation", "params": params})

    async def _post(self, procedure: str, fields: dict[str, Any]) -> dict[str, Any]:
        assert self._http is not None
        url = f"{self._base}/trpc/presence.{procedure}"
        async with self._http.post(url, json=fields, ssl=self._tls or False) as response:
            answer = await response.json()
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return dict(answer["result"].get("data") or {})

    async def _say(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        await self._socket.send(json.dumps(message))

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            if self._way == "trpc":
                self._on_envelope(message)
            else:
                self._on_message(message)

    def _on_envelope(self, envelope: dict[str, Any]) -> None:
        result, number = envelope.get("result", {}), envelope.get("id")
        if number == 0:
            if "data" in result:
                self._on_message(result["data"])
        elif number in self._answers:
            self._answer(number, result.get("data", {}), envelope.get("error"))

    def _on_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "authenticated":
            self._authenticated.set()
        elif message.get("id") in self._answers and self._way == "websocket":
            self._answer(message["id"], message, message if message["type"] == "error" else None)
        else:
            self.on_event(message)

    def _answer(self, number: int, result: dict[str, Any], error: dict[str, Any] | None) -> None:
        answer = self._answers.pop(number)
        if answer.done():
            return
        if error is not None:
            answer.set_exception(RuntimeError(error["message"]))
        else:
            answer.set_result(result)


class Receiver:
    """The messages that were sent and have not arrived at the receiving member."""

    def __init__(self, member: Member, table: Table) -> None:
        self._waiting: dict[tuple[str, Any], float] = {}  # send times, by kind and mark
        self._table = table
        member.on_event = self._on_event

    def expect(self, kind: str, mark: Any) -> None:
        self._waiting[kind, mark] = time.perf_counter()

    def _on_event(self, event: dict[str, Any]) -> None:
        type_, data = event["type"], event.get("data") or {}
        if type_ == "cursor_moved":
            self._seen("cursor", data.get("timestamp"))
        elif type_ in ("typing_started", "typing_stopped"):
            self._seen("typing", (event["userId"], type_ == "typing_started"))
        elif type_ == "playback_synced":
            self._seen("playback", data.get("currentTime"))

    def _seen(self, kind: str, mark: Any) -> None:
        since = self._waiting.pop((kind, mark), None)
        if since is not None:
            self._table.ms[kind].append((time.perf_counter() - since) * 1e3)

    def lost(self) -> int:
        """The number of messages that have not arrived."""
        return len(self._waiting)


async def send(member: Member, number: int, receiver: Receiver, until: float) -> None:
    """Run one sender: a cursor, a typing and a seek message per cycle, at different times of it."""
    await asyncio.sleep(CYCLE_S * number / SENDERS)
    for cycle in itertools.count(1):
        for part, kind in enumerate(("cursor", "typing", "playback")):
            if time.perf_counter() > until:
                return
            value = float(cycle * 100 + number) if kind != "typing" else float(cycle)
            receiver.expect(kind, (member.user, bool(cycle % 2)) if kind == "typing" else value)
            began = time.perf_counter()
            await member.send(kind, value)
            await asyncio.sleep(max(0.0, began + CYCLE_S / 3 - time.perf_counter() + 0.001 * part))


async def come_and_go(make: Callable[[str], Member], table: Table, until: float) -> None:
    for number in itertools.count():
        if time.perf_counter() > until:
            return
        member = make(f"newcomer{number}")
        try:
            await member.open()
            table.ms["join"].append(await member.join())
            await member.leave()
        except (OSError, TimeoutError, RuntimeError) as error:
            print(f"targets: {error}", file=sys.stderr)
            table.lost += 1
        finally:
            await member.close()
        await asyncio.sleep(0.1)


async def measure(port: int, way: str, tls: ssl.SSLContext | None, seconds: float) -> Table:
    """Measure one row with the server at `port`."""
    loop, table = asyncio.get_running_loop(), Table()
    base = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    quiet = [
        (await loop.create_connection(lambda n=n: Quiet(f"quiet{n}"), "127.0.0.1", port, ssl=tls))[0]  # type: ignore[misc]
        for n in range(PEOPLE - SENDERS - 2)
    ]
    receiving = Member(base, "trpc" if way == "trpc" else "websocket", "receiver", tls)
    await receiving.open()
    await receiving.join()
    receiver = Receiver(receiving, table)
    senders = [Member(base, way, f"sender{number}", tls) for number in range(SENDERS)]
    for sender in senders:
        await sender.open()
        await sender.join()
    until = time.perf_counter() + seconds
    await asyncio.gather(
        come_and_go(lambda user: Member(base, way, user, tls), table, until),
        *(send(sender, number, receiver, until) for number, sender in enumerate(senders)),
    )
    await asyncio.sleep(1.0)
    table.lost += receiver.lost()
    for member in (receiving, *senders):
        await member.close()
    for transport in quiet:
        transport.close()
    return table


def row(workers: int, secure: bool, way: str, seconds: float, cores: tuple[int, int]) -> str:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="koko-targets-")))
        settings: dict[str, Any] = {"server_workers": workers, "server_runtime_dir": folder / "run"}
        context = None
        if secure:
            settings["server_tls_cert"], settings["server_tls_key"] = certificate(folder)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        port = free_port()
        stack.enter_context(koko_server(port, cores[0], **settings))
        table = uvloop.run(measure(port, way, context, seconds))
    figures = []
    for kind, target in TARGETS_MS.items():
        p50, p99 = table.quantile(kind, 0.5), table.quantile(kind, 0.99)
        figures.append(f"{p50:.1f}, {p99:.1f}" + (" **above**" if p99 >= target else ""))
    samples = min(len(table.ms[kind]) for kind in TARGETS_MS)
    return f"| {workers} | {'TLS' if secure else 'plain'} | {way} | {' | '.join(figures)} | {samples} | {table.lost} |"


HEAD = """| workers | line | way | join p50, p99 ms | cursor | typing | playback | samples each, at least | lost |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--lines", choices=["plain", "tls"], nargs="+", default=["plain", "tls"])
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds measured per row (15)")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.load_core})
    gc.disable()
    print(HEAD, flush=True)
    for workers, line, way in itertools.product(arguments.workers, arguments.lines, arguments.ways):
        cores = (arguments.server_core, arguments.load_core)
        print(row(workers, line == "tls", way, arguments.seconds, cores), flush=True)


if __name__ == "__main__":
    main()
