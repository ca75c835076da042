"""The hot paths, each as a `run(n)` that performs one operation n times; timed by test_*.py and counted by
instructions.py.

Nothing waits: the clock is a number that each operation advances, the loop is a list of callbacks, and the wires keep
only their last frame. Time advances so that no limit is ever reached.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, count, cycle, islice, repeat
from operator import getitem
from typing import Any
from unittest import mock

import msgspec

from koko_presence._fastpath.cursor_parser import scanned
from koko_presence._fastpath.fanout import CursorTemplate, RoomSubscription, StreamFrame
from koko_presence._fastpath.frame_boundaries import unmasked
from koko_presence._fastpath.frame_prefilter import FrameReader
from koko_presence._fastpath.listener import FrameListener
from koko_presence._fastpath.outbox import Outbox, WriteBatch
from koko_presence._fastpath.read_budget import ReadBudget
from koko_presence._fastpath.throttle import Coalescer, TokenBucket
from koko_presence.protocol.codec import BadMessage, decode
from tests.raw_ws import CONTINUATION, PING, TEXT, frame
from tests.world import Client, World

Run = Callable[[int], Any]

ROOM = "video_123"
ISO = "2025-01-15T10:30:00.123Z"
BATCH = 10
PEOPLE = 100
STEP_S = 0.001  # between two cursors; each user sends every 100 ms, half as often as allowed
ROUNDS = 200


def measure(benchmark: Any, run: Run, n: int) -> Any:
    """Time `run(n)` repeatedly; returns its result. Runs once, untimed, with --benchmark-disable."""
    return benchmark.pedantic(run, args=(n,), rounds=ROUNDS, warmup_rounds=5)


def cursor_numbers(number: int) -> tuple[float, float, float]:
    """Media time, x and y, rounded as by a browser."""
    return 15.5 + number * 0.05, number * 2617 % 10_000 / 10_000, number * 7919 % 10_000 / 10_000


def cursor_text(number: int, room: str = ROOM) -> bytes:
    timestamp, x, y = cursor_numbers(number)
    data = {"timestamp": timestamp, "x": x, "y": y}
    return msgspec.json.encode({"type": "cursor", "roomId": room, "data": data})


CURSORS = [cursor_text(number) for number in range(20)]
FRAMES = [frame(TEXT, data) for data in CURSORS]
TYPING = b'{"type":"typing","roomId":"video_123","data":{"isTyping":true,"context":"comment"}}'
HEARTBEAT = b'{"type":"heartbeat","clientTime":1736937000123,"status":"active"}'
BAD = b'{"type":"cursor","id":7,"roomId":"video_123","data":{"timestamp":15.5,"x":1.5,"y":0.3}}'


# --- one message --------------------------------------------------------------------------------------------------


def last(results: Iterable[Any]) -> Any:
    """Exhaust an iterator in C, so that the loop itself is not measured."""
    return deque(results, maxlen=1).pop()


def unmask_cursor(n: int) -> Any:
    return last(map(unmasked, islice(cycle(FRAMES), n)))


def scan_cursor(n: int) -> Any:
    return last(map(scanned, islice(cycle(CURSORS), n)))


def decode_cursor(n: int) -> Any:
    return last(map(decode, islice(cycle(CURSORS), n)))


def decode_again(data: bytes, n: int) -> Any:
    return last(map(decode, repeat(data, n)))


def explain(n: int) -> BadMessage:
    for _ in repeat(None, n):
        try:
            decode(BAD)
        except BadMessage as error:
            found = error
    return found


# --- budgets and encoding -----------------------------------------------------------------------------------------


def times(n: int, step_s: float) -> Iterator[float]:
    """n times, step_s apart."""
    return islice(count(step_s, step_s), n)


def take_token(n: int) -> int:
    """Take from a bucket of 20 Hz at 40 Hz: every second take is refused. Returns the number of tokens."""
    return sum(map(TokenBucket(20.0).take, times(n, 0.025)))


def offer_value(n: int) -> float:
    """Offer values that all pass; each returns 0.0."""
    own, shared = repeat(TokenBucket(20.0)), repeat(TokenBucket(2000.0, 2000.0))
    return sum(map(Coalescer().offer, repeat("cursor"), repeat(None), own, shared, times(n, 0.051)))


def template(number: int = 0, index: int | None = None) -> CursorTemplate:
    return CursorTemplate(ROOM, f"user_{number}", f"session_{number}", "#3b82f6", index, f"csession_{number}")


def make_cursor(n: int) -> StreamFrame:
    seconds, xs, ys = zip(*map(cursor_numbers, range(20)), strict=True)
    return last(map(template().make, cycle(seconds), cycle(xs), cycle(ys), repeat(ISO), range(1000, 1000 + n)))


# --- a flush ------------------------------------------------------------------------------------------------------


class Wire:
    """Accepts all frames and keeps the last one."""

    unsent_bytes = 0

    def __init__(self) -> None:
        self.last: deque[bytes] = deque(maxlen=1)
        self.send_frames = self.last.append


class Batch:
    """A flush of ten cursors to a number of receivers, of whom the first ten, or all in turn, are the authors."""

    def __init__(self, subscribers: int, *, compact: bool = False) -> None:
        self.write_batch = WriteBatch(lambda callback: None)
        self.subscription = RoomSubscription(ROOM)
        self.wires = {f"session_{number}": Wire() for number in range(subscribers)}
        for session_id, wire in self.wires.items():
            outbox = Outbox(wire, 64 * 1024, 1024 * 1024, self.write_batch, lambda: None)
            outbox.compact = compact
            self.subscription.outboxes[session_id] = outbox
        makers = [template(number % subscribers, number).make for number in range(BATCH)]
        self.items = [make(*cursor_numbers(seq), ISO, seq) for seq, make in enumerate(makers)]

    def run(self, n: int) -> dict[str, Wire]:
        fan_out, write_batch, items = self.subscription.fan_out, self.write_batch, self.items
        for _ in repeat(None, n):
            write_batch.hold()
            fan_out(items, ISO)
            write_batch.write()
        return self.wires


# --- the whole server ---------------------------------------------------------------------------------------------


class Loop:
    """The timers of `World`: callbacks for soon are a list, later ones are never called.

    Clock and list are built-in, so that no Python code of them is counted.
    """

    def __init__(self) -> None:
        self.time = [1000.0]
        self.clock = partial(getitem, self.time, 0)
        self.soon: list[Callable[[], object]] = []
        self.call_soon = self.soon.append

    @property
    def now(self) -> float:
        return self.time[0]

    def call_later(self, delay: float, callback: Callable[[], object]) -> "Loop":
        return self

    def cancel(self) -> None:
        """Exists for the handle of a timer."""

    def iterate(self) -> None:
        for callback in self.soon:  # including callbacks added meanwhile
            callback()
        self.soon.clear()

    def advance(self, seconds: float) -> None:
        self.time[0] += seconds
        self.iterate()


class Browser(Client):
    """A client that keeps only the last write."""

    def __init__(self, world: World) -> None:
        self.last: deque[bytes] = deque(maxlen=1)
        self.send_frames = self.last.append  # type: ignore[method-assign]
        super().__init__(world)


class Listener(FrameListener):
    """The listener of a reader, without Python code to be counted; cursors go through the rate limiter."""

    on_frame = on_pings = slice  # any C function with two or three arguments


class Rooms:
    """A hundred users in rooms of `size`, on a worker that flushes at once."""

    def __init__(self, size: int) -> None:
        with mock.patch("tests.world.FakeTimers", Loop):
            self.world = World(flush_window_ms=0.0, join_hz=100_000.0, join_burst=100_000)
        self.loop: Any = self.world.timers
        names = [f"video_{number // size}" for number in range(PEOPLE)]
        self.people = [
            Browser(self.world).auth(f"user_{number}").join(room, "video") for number, room in enumerate(names)
        ]
        texts = [cursor_text(number, room) for number, room in enumerate(names)]
        self.members = list(chain.from_iterable(room.members.values() for room in self.world.shard.rooms.values()))
        self._sends = cycle(zip((browser.session.rate_limiter.take for browser in self.people), texts, strict=True))
        self._join = msgspec.json.encode({"type": "join", "roomId": names[-1], "roomType": "video"})
        self._leave = msgspec.json.encode({"type": "leave", "roomId": names[-1]})
        self.echo(PEOPLE)  # each user has a cursor

    def echo(self, n: int) -> list[Any]:
        """Process n cursors one after the other: from the text of a message to the write at every receiver."""
        time, soon = self.loop.time, self.loop.soon
        for take, data in islice(self._sends, n):
            time[0] += STEP_S
            take(data)  # as the listener does; a cursor refused here would take the Python path and schedule no flush
            soon.pop()()
        return self.people

    def read_frames(self, n: int) -> Any:
        """Feed the bytes of a client in two reads: three cursors, a ping, a message in two fragments, a split
        cursor."""
        listener = Listener()
        listener.rate_limiter = self.people[0].session.rate_limiter
        listener.read_budget = ReadBudget(1e6, 1e6, 1e9, 1e9, 1 << 30)
        feed, time, loop = FrameReader(listener, 64 * 1024).feed, self.loop.time, self.loop
        cursor = frame(TEXT, cursor_text(0, "video_0"))
        stream = cursor * 3 + frame(PING, b"there?") + frame(TEXT, TYPING[:20], fin=False)
        stream += frame(CONTINUATION, TYPING[20:]) + cursor
        first, second = stream[:-30], stream[-30:]
        for _ in repeat(None, n):
            time[0] += 0.1
            feed(first)
            feed(second)
            loop.iterate()
        return self.people

    def join_again(self, n: int) -> Any:
        """Request the snapshot for the last user; no member has moved meanwhile."""
        return self._say_last([self._join], n)

    def join_after_moves(self, n: int) -> Any:
        """Request the snapshot while all members move, so that every row is encoded again."""
        for _ in repeat(None, n):
            now = self.loop.now
            for member in self.members:
                member.last_active_at = now
            frames = self._say_last([self._join], 1)
        return frames

    def leave_and_join(self, n: int) -> Any:
        """Let the last user leave and join again, with the events to the others."""
        return self._say_last([self._leave, self._join], n)

    def _say_last(self, texts: Iterable[bytes], n: int) -> Any:
        browser, loop = self.people[-1], self.loop
        on_text = browser.session.on_text
        for _ in repeat(None, n):
            for text in texts:
                loop.time[0] += 0.02  # the rate limit of a connection
                on_text(text)
                loop.iterate()
        return browser.last[0]
