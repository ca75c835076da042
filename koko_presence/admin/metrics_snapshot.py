"""Collects the counters and gauges of one worker for a scrape, and measures its event loop.

Gauges are computed at the scrape from the sessions and rooms, a microsecond or less for each; no state is kept for them
between scrapes. `LoopLag` and `IterationCpu` are the only writers of their state.
"""

import contextlib
import os
import platform
import time
from asyncio import AbstractEventLoop, Handle, TimerHandle
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import msgspec

from koko_presence import __version__
from koko_presence.config.queued_stream import lost_lines
from koko_presence.protocol.metric_types import ROOM_TYPES, WEBHOOK_RESULTS, Counters, CounterTotals

from .file_descriptors import Descriptors, allowed
from .memory import Use
from .upstream_metrics import Upstream

LAG_EVERY_S = 0.1
LAG_SLOT_S, LAG_SLOTS = 10.0, 6  # the longest lag and iteration of the last minute
QUIET_S, ITERATION_S = 0.008, 0.001  # interval of the timer: while the loop is quiet, and while it is busy
STILL_S, STILL_LOOK_S = 0.0005, 0.002  # the loop is idle below this CPU time, in 8 ms and between two calls of `look`
BUSY_S, BUSY_SHARE = 0.004, 0.25  # the loop is busy from this CPU time, or share of the time, on
BEGIN_S = 1.0  # of a worker's start, not measured

_descriptors = Descriptors()
UNLIMITED = Use(0, 0)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_encode = msgspec.msgpack.Encoder().encode


class CounterSet(Protocol):
    """The counters of the process (`_fastpath/counters.pyx`)."""

    def lagged(self, seconds: float) -> None: ...

    def read(self) -> CounterTotals: ...


class LoopLag:
    """Measures the lateness of a timer that fires ten times a second, and calls `on_ring` each time."""

    def __init__(
        self, loop: AbstractEventLoop, counters: CounterSet, on_ring: Callable[[], None] = lambda: None
    ) -> None:
        self._loop, self._counters, self._on_ring = loop, counters, on_ring
        self._slots: deque[float] = deque([0.0], LAG_SLOTS)
        self._slot_ends = time.monotonic() + LAG_SLOT_S
        self._handle: TimerHandle | None = None
        self._due = 0.0
        self._schedule()

    @property
    def longest_s(self) -> float:
        """The longest lateness of the last minute in seconds, including that of a timer which is due now."""
        return max(*self._slots, time.monotonic() - self._due)

    def late_s(self, now: float) -> float:
        """Return how late the timer is at monotonic second `now`, negative when it is not due yet. Another callback
        that runs before the timer after a blocked loop can use it."""
        return now - self._due

    def stop(self) -> None:
        """Stop measuring."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        self._due = time.monotonic() + LAG_EVERY_S
        self._handle = self._loop.call_later(LAG_EVERY_S, self._ring)

    def _ring(self) -> None:
        now = time.monotonic()
        late_s = max(0.0, now - self._due)
        self._counters.lagged(late_s)
        if now >= self._slot_ends:
            self._slots.append(0.0)
            self._slot_ends = now + LAG_SLOT_S
        self._slots[-1] = max(self._slots[-1], late_s)
        self._on_ring()
        self._schedule()


class IterationCpu:
    """Measures the CPU time of the longest event loop iteration of the last minute.

    A timer fires in every iteration while the loop is busy, and every 8 ms while it is not. The CPU time of the loop's
    thread since it fired last is that of one iteration, or, when the loop was not busy, of several within those 8 ms.
    The timer stops while the loop is idle, so that it does not wake the loop. Then the next round of reading is
    measured as one iteration, and `look`, called some times a second, detects the work of timers and other sockets: the
    first such work after an idle time counts as one iteration up to that call, and the timer starts again.

    CPU time of other processes does not count, so this distinguishes too long work from a machine that is too busy. The
    first second, in which a worker loads its data, does not count either.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        on_next_round: Callable[[Callable[[], None] | None], None],
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`on_next_round(callback)` arranges one call of `callback` when the next round of reading begins; None cancels
        it. `cpu_clock` returns the CPU seconds of the loop's thread."""
        self._loop, self._on_next_round, self._cpu_clock = loop, on_next_round, cpu_clock
        self._slots: deque[float] = deque([0.0], LAG_SLOTS)
        self._slot_ends = loop.time() + LAG_SLOT_S
        self._begins_at = loop.time() + BEGIN_S
        self._cpu_s, self._rang_at = cpu_clock(), loop.time()
        self._woken_at = 0.0
        self._handle: Handle | None = loop.call_later(QUIET_S, self._ring)

    @property
    def longest_s(self) -> float:
        """The CPU seconds of the longest iteration of the last minute."""
        return max(self._slots)

    def stop(self) -> None:
        """Stop measuring."""
        self._on_next_round(None)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def look(self) -> None:
        """Start the timer again when the loop was active since the timer stopped."""
        if self._handle is None and self._note()[0] >= STILL_LOOK_S:
            self._on_next_round(None)
            self._handle = self._loop.call_later(ITERATION_S, self._ring)

    def _wake(self) -> None:
        """A round of reading begins: measure it when it is over. Rounds within 8 ms of each other are measured
        together, as those of a loop that is not idle."""
        self._note()
        now = self._loop.time()
        often, self._woken_at = now - self._woken_at < QUIET_S, now
        if often:
            self._handle = self._loop.call_later(QUIET_S, self._ring)
        else:
            self._handle = self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        used_s, passed_s = self._note()
        if used_s >= BUSY_S or (used_s >= STILL_S and used_s > BUSY_SHARE * passed_s):
            self._handle = self._loop.call_later(ITERATION_S, self._ring)
        elif used_s >= STILL_S:
            self._handle = self._loop.call_later(QUIET_S, self._ring)
        else:
            self._handle = None
            self._on_next_round(self._wake)

    def _note(self) -> tuple[float, float]:
        """Return the CPU seconds used and the seconds passed since the last call."""
        now, cpu_s = self._loop.time(), self._cpu_clock()
        used_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        passed_s, self._rang_at = now - self._rang_at, now
        if now >= self._slot_ends:
            self._slots.append(0.0)
            self._slot_ends = now + LAG_SLOT_S
        if now >= self._begins_at:
            self._slots[-1] = max(self._slots[-1], used_s)
        return used_s, passed_s


def collect(
    counters: CounterSet,
    lag: LoopLag,
    iteration: IterationCpu,
    *,
    started_s: float,
    acceptor: Any,
    addresses: Any,
    hub: Any,
    shard: Any,
    bus: Any,
    webhooks: Any = None,
    events_dropped: int = 0,
    upstreams: Mapping[str, Upstream],
    memory: Use = UNLIMITED,
) -> bytes:
    """Return the `Counters` of a worker with these components, as msgpack. `webhooks` is None when they are off;
    `events_dropped` counts webhook events of other workers that were dropped because of that. `memory` is the present
    use."""
    totals = counters.read()
    totals.given_up = acceptor.given_up
    totals.forwards += getattr(bus, "forwards", 0)
    totals.limited = dict(addresses.refusals)
    totals.log_lines_lost = lost_lines()
    totals.webhooks = dict.fromkeys(WEBHOOK_RESULTS, 0) if webhooks is None else webhooks.counts
    totals.webhooks["dropped"] += events_dropped
    totals.upstream_requests = {name: upstream.results for name, upstream in upstreams.items()}
    totals.upstream_durations = {name: upstream.durations.read() for name, upstream in upstreams.items()}
    totals.join_access = hub.join_access.read()
    transfer = getattr(bus, "transfer", None)  # of a worker among several
    window_controller = bus.window_controller
    outboxes = [session.outbox for session in hub.sessions.values()]
    rooms = Counter(room.type for room in shard.rooms.values())
    return _encode(
        Counters(
            totals=totals,
            versions=versions(),
            connections=len(acceptor.connections) + acceptor.stream_count,
            sessions=len(outboxes),
            users=len(shard.users),
            rooms={type_: rooms[type_] for type_ in ROOM_TYPES},
            room_members_max=max((len(room.members) for room in shard.rooms.values()), default=0),
            send_queue_bytes=sum(outbox.waiting_bytes() for outbox in outboxes),
            slow_receivers=sum(outbox.is_backed_up() for outbox in outboxes),
            lag_max_s=lag.longest_s,
            iteration_cpu_max_s=iteration.longest_s,
            cpu_s=time.process_time(),
            resident_bytes=_resident.read_bytes(),
            started_s=started_s,
            webhook_queue=0 if webhooks is None else webhooks.waiting,
            access_breaker_open=hub.access.breaker_open,
            view_epoch=0 if transfer is None else transfer.epoch,
            recovering=transfer is not None and transfer.recovering,
            load=window_controller.load,
            overloaded=window_controller.overloaded,
            entry_wait_s=acceptor.waits_for(time.monotonic()),
            flush_window_s=window_controller.window_s,
            advised_interval_s=window_controller.advised_ms / 1000.0,
            connections_allowed=acceptor.max_connections,
            memory_bytes=memory.used,
            memory_limit_bytes=memory.limit,
            descriptors=_descriptors.used(acceptor.open_count),
            descriptors_allowed=allowed(),
        )
    )


@cache
def versions() -> dict[str, str]:
    """Return the running versions; they are read from files once."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "picows": version("picows"),
        "uvloop": version("uvloop"),
    }


class Resident:
    """Reads the resident memory of this process."""

    def __init__(self) -> None:
        self._last_bytes = 0

    def read_bytes(self) -> int:
        """Return the resident memory in bytes; the last value when it cannot be read, as without a free descriptor."""
        with contextlib.suppress(OSError):
            self._last_bytes = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
        return self._last_bytes


_resident = Resident()
