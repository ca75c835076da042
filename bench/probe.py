"""Measures small quiet rooms during a load: `python -m bench.probe PORT`, started by bench.load.

A second, small generator. Pairs of clients seek (until `playback_synced` at the other one), type (until
`typing_started` or `typing_stopped`), request and release control (until `control_granted` and `control_released`), and
new clients connect, authenticate and join. Each waits for the result before the next step, within the default limits,
which takes a few per cent of a core. Latencies are in ms, from the write to the receipt of the event.

Protocol: the process connects its pairs and prints one line; a line on stdin begins the measurement and the next one
ends it. Then it prints one JSON object: samples by kind, and losses (refused, closed, not answered in time).
"""

import asyncio
import gc
import json
import math
import os
import sys
import time
from collections import Counter, defaultdict
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from koko_presence.auth.hmac_jwt import issue_token

PAIRS = 10
CYCLE_S = 0.55  # slightly more than the interval of `typing_hz`
CONTROL_EACH = 5  # cycles; both clients request in turn, which keeps each within `control_hz`
NEWCOMERS_HZ = 5.0
ANSWER_S = 10.0


class Samples:
    """`ms` by kind, and `lost` by kind and reason, of operations begun between `begin` and `end`."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = defaultdict(list)
        self.lost: Counter[str] = Counter()
        self._from = self._to = math.inf

    def begin(self) -> None:
        self._from = time.monotonic()

    def end(self) -> None:
        self._to = time.monotonic()

    @property
    def open(self) -> bool:
        return self._counts(time.monotonic())

    def _counts(self, since: float) -> bool:
        return self._from <= since < self._to

    def add(self, kind: str, since: float) -> None:
        """Record an operation begun at `since` that completes now, regardless of its duration."""
        if self._counts(since):
            self.ms[kind].append(round((time.monotonic() - since) * 1000.0, 3))

    def lose(self, kind: str, why: str, since: float | None = None) -> None:
        if self._counts(time.monotonic() if since is None else since):
            self.lost[f"{kind}: {why}"] += 1


class Person:
    def __init__(self, port: int, secret: str, user: str, room: str, samples: Samples) -> None:
        self.url, self.room, self.samples = f"ws://127.0.0.1:{port}/presence", room, samples
        self.token = issue_token(secret, user=user, name=user, ttl_s=3600, now_s=int(time.time()))
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.socket: ClientConnection | None = None

    async def come(self) -> None:
        """Connect, authenticate, join. Errors: OSError, TimeoutError, WebSocketException."""
        begun = time.monotonic()
        self.socket = await connect(self.url, compression=None, ping_interval=None, open_timeout=ANSWER_S, proxy=None)
        self.reading = asyncio.create_task(self._read(self.socket))
        await self.say({"type": "auth", "token": self.token}, self.expect("authenticated"))
        asked = time.monotonic()
        await self.say({"type": "join", "roomId": self.room, "roomType": "video"}, self.expect("joined"))
        self.samples.add("join", asked)
        self.samples.add("connect", begun)

    async def go(self) -> None:
        if self.socket is not None:
            socket, self.socket = self.socket, None
            await socket.close()
            await self.reading

    def expect(self, kind: str) -> asyncio.Future[None]:
        return self.waiting.setdefault(kind, asyncio.get_running_loop().create_future())

    async def say(self, message: dict[str, Any], answer: asyncio.Future[None]) -> None:
        assert self.socket is not None
        await self.socket.send(json.dumps(message))
        async with asyncio.timeout(ANSWER_S):
            await answer

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "error":
                    self.samples.lose("refused", message["code"])
                waiting = self.waiting.pop(message["type"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)
        except WebSocketException:
            pass
        if self.socket is not None:
            self.samples.lose("closed", str(socket.close_code))


async def timed(kind: str, sender: Person, message: dict[str, Any], receiver: Person, event: str) -> None:
    """Measure one message from the sender's write to the receipt of its event."""
    begun = time.monotonic()
    try:
        await sender.say({"roomId": sender.room, **message}, receiver.expect(event))
    except (TimeoutError, OSError, WebSocketException) as error:
        receiver.waiting.pop(event, None)
        sender.samples.lose(kind, type(error).__name__, begun)
    else:
        sender.samples.add(kind, begun)


async def pair(number: int, a: Person, b: Person) -> None:
    """Run cycles while samples are taken."""
    await asyncio.sleep(CYCLE_S * number / PAIRS)
    cycle, types = number, False
    while a.samples.open:
        begun = time.monotonic()
        if cycle % CONTROL_EACH == 0:
            asks, other = (a, b) if cycle // CONTROL_EACH % 2 else (b, a)
            await timed("control", asks, {"type": "control_request"}, other, "control_granted")
            await timed("control", asks, {"type": "control_release"}, other, "control_released")
        seek = {"type": "playback", "data": {"action": "seek", "currentTime": float(cycle)}}
        await timed("playback", a, seek, b, "playback_synced")
        types = not types
        typing = {"type": "typing", "data": {"isTyping": types}}
        await timed("typing", a, typing, b, "typing_started" if types else "typing_stopped")
        cycle += 1
        await asyncio.sleep(max(0.0, begun + CYCLE_S - time.monotonic()))


async def newcomers(port: int, secret: str, samples: Samples) -> None:
    """Connect clients one after the other, each in a room of its own, while samples are taken."""
    number = 0
    while samples.open:
        begun = time.monotonic()
        person = Person(port, secret, f"newcomer{number}", f"probe_new_{number}", samples)
        try:
            await person.come()
            await person.go()
        except (TimeoutError, OSError, WebSocketException) as error:
            samples.lose("connect", type(error).__name__, begun)
        number += 1
        await asyncio.sleep(max(0.0, begun + 1.0 / NEWCOMERS_HZ - time.monotonic()))


async def probe(port: int, secret: str, lines: asyncio.StreamReader) -> Samples:
    samples = Samples()
    people = [
        Person(port, secret, f"probe{side}{number}", f"probe_{number}", samples)
        for number in range(PAIRS)
        for side in "ab"
    ]
    for person in people:
        await person.come()
    print("ready", flush=True)
    await lines.readline()
    samples.begin()
    tasks = [pair(number, *people[2 * number : 2 * number + 2]) for number in range(PAIRS)]
    ended = asyncio.gather(*tasks, newcomers(port, secret, samples))
    await lines.readline()
    samples.end()
    await ended
    return samples


def first_in_line() -> None:
    """Raise the priority above the load generator on the same core, if permitted, so that delays are those of the
    server."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        except OSError:
            print("probe: may not raise its priority: latencies may be the generator's", file=sys.stderr)


async def main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    samples = await probe(int(sys.argv[1]), os.environ["KOKO_PRESENCE_AUTH_SECRET"], lines)
    print(json.dumps({"ms": samples.ms, "lost": samples.lost}), flush=True)


if __name__ == "__main__":
    first_in_line()
    gc.disable()
    asyncio.run(main())
