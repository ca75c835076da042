"""One worker's counters at a scrape: what was counted meanwhile, and gauges that are looked up only now.

Gauges are walks over sessions and rooms, a microsecond or less for each: nothing of theirs is kept up to date while
nobody asks.
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
from koko_presence.protocol.metric_types import ROOM_TYPES, WEBHOOK_RESULTS, Counters, Tallies

from .file_descriptors import Descriptors, allowed
from .memory import Use
from .upstream_metrics import Upstream

LAG_EVERY_S = 0.1
LAG_SLOT_S, LAG_SLOTS = 10.0, 6  # the longest lag, and the longest turn, of the last minute
QUIET_S, TURN_S = 0.008, 0.001  # how often turns are looked at: 125 times a second, or every one of them
STILL_S, STILL_LOOK_S = 0.0005, 0.002  # below so much CPU in 8 ms, and between two looks, nothing is going on
BUSY_S, BUSY_SHARE = 0.004, 0.25  # of a turn, or of the time
BEGIN_S = 1.0

_descriptors = Descriptors()
UNLIMITED = Use(0, 0)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_encode = msgspec.msgpack.Encoder().encode


class Tally(Protocol):
    """The process's counters (_fastpath/counters.pyx)."""

    def lagged(self, seconds: float) -> None: ...

    def read(self) -> Tallies: ...


class LoopLag:
    """How late the loop is for a timer that rings ten times a second, and calls `on_ring` each time."""

    def __init__(self, loop: AbstractEventLoop, tally: Tally, on_ring: Callable[[], None] = lambda: None) -> None:
        self._loop, self._tally, self._on_ring = loop, tally, on_ring
        self._slots: deque[float] = deque([0.0], LAG_SLOTS)
        self._slot_ends = time.monotonic() + LAG_SLOT_S
        self._handle: TimerHandle | None = None
        self._due = 0.0
        self._plan()

    @property
    def longest_s(self) -> float:
        """The longest of the last minute, up to now: a loop that only just moves again has not told its timer yet."""
        return max(*self._slots, time.monotonic() - self._due)

    def late_s(self, now: float) -> float:
        """How late the timer is at monotonic second `now`, below 0 when it is not due yet: whatever else rings first
        after a time in which the loop did not run can ask."""
        return now - self._due

    def stop(self) -> None:
        """Watch no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _plan(self) -> None:
        self._due = time.monotonic() + LAG_EVERY_S
        self._handle = self._loop.call_later(LAG_EVERY_S, self._ring)

    def _ring(self) -> None:
        now = time.monotonic()
        late_s = max(0.0, now - self._due)
        self._tally.lagged(late_s)
        if now >= self._slot_ends:
            self._slots.append(0.0)
            self._slot_ends = now + LAG_SLOT_S
        self._slots[-1] = max(self._slots[-1], late_s)
        self._on_ring()
        self._plan()


class TurnCpu:
    """The CPU time of the loop's longest turn, in the last minute.

    A timer rings once in every turn while the loop is busy, and every 8 ms while it is not; what the loop's thread has
    used since it rang last is one turn's, or, when it was not busy before, that of several within those 8 ms. Once
    nothing goes on the timer stops, and an idle loop is not woken: the next round of reading is a turn of its own, and
    `look`, called some times a second, finds what timers and other sockets have caused. The first such work after a
    silence counts as one turn up to the look; from then on the timer rings.

    Time that other processes take does not count, so this tells work that is too long from a machine that is too full.
    Nor does the first second, in which a worker loads what it needs.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        on_next_round: Callable[[Callable[[], None] | None], None],
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`on_next_round(callback)`: call it once, when the next round of reading begins; None takes that back.
        `cpu_clock` gives the CPU seconds of the loop's thread."""
        self._loop, self._on_next_round, self._cpu_clock = loop, on_next_round, cpu_clock
        self._slots: deque[float] = deque([0.0], LAG_SLOTS)
        self._slot_ends = loop.time() + LAG_SLOT_S
        self._begins_at = loop.time() + BEGIN_S
        self._cpu_s, self._rang_at = cpu_clock(), loop.time()
        self._woken_at = 0.0
        self._handle: Handle | None = loop.call_later(QUIET_S, self._ring)

    @property
    def longest_s(self) -> float:
        """CPU seconds of the longest turn of the last minute."""
        return max(self._slots)

    def stop(self) -> None:
        """Watch no more."""
        self._on_next_round(None)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def look(self) -> None:
        """Has anything gone on since the timer stopped?"""
        if self._handle is None and self._note()[0] >= STILL_LOOK_S:
            self._on_next_round(None)
            self._handle = self._loop.call_later(TURN_S, self._ring)

    def _wake(self) -> None:
        """A round of reading begins: it is looked at when it is over. Rounds that come one after the other are not
        looked at one by one, but as those of a loop that is not idle."""
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
            self._handle = self._loop.call_later(TURN_S, self._ring)
        elif used_s >= STILL_S:
            self._handle = self._loop.call_later(QUIET_S, self._ring)
        else:
            self._handle = None
            self._on_next_round(self._wake)

    def _note(self) -> tuple[float, float]:
        """CPU seconds used, and seconds passed, since the last look."""
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
    tally: Tally,
    lag: LoopLag,
    turn: TurnCpu,
    *,
    started_s: float,
    door: Any,
    addresses: Any,
    hub: Any,
    shard: Any,
    bus: Any,
    webhooks: Any = None,
    events_dropped: int = 0,
    upstreams: Mapping[str, Upstream],
    memory: Use = UNLIMITED,
) -> bytes:
    """The Counters of the worker that has these, as msgpack. `webhooks` is None where they are off, where
    `events_dropped` were left by another worker; `memory` is how it stands."""
    tallies = tally.read()
    tallies.given_up = door.given_up
    tallies.forwards += getattr(bus, "forwards", 0)
    tallies.limited = dict(addresses.refusals)
    tallies.log_lines_lost = lost_lines()
    tallies.webhooks = dict.fromkeys(WEBHOOK_RESULTS, 0) if webhooks is None else webhooks.counts
    tallies.webhooks["dropped"] += events_dropped
    tallies.upstream_requests = {name: upstream.results for name, upstream in upstreams.items()}
    tallies.upstream_durations = {name: upstream.durations.read() for name, upstream in upstreams.items()}
    tallies.join_access = hub.join_access.read()
    handover = getattr(bus, "handover", None)  # of a worker among several
    governor = bus.governor
    outboxes = [session.outbox for session in hub.sessions.values()]
    rooms = Counter(room.type for room in shard.rooms.values())
    return _encode(
        Counters(
            tallies=tallies,
            versions=versions(),
            connections=len(door.connections),
            sessions=len(outboxes),
            users=len(shard.users),
            rooms={type_: rooms[type_] for type_ in ROOM_TYPES},
            room_members_max=max((len(room.members) for room in shard.rooms.values()), default=0),
            send_queue_bytes=sum(outbox.waiting_bytes() for outbox in outboxes),
            slow_receivers=sum(outbox.slow for outbox in outboxes),
            lag_max_s=lag.longest_s,
            turn_cpu_max_s=turn.longest_s,
            cpu_s=time.process_time(),
            resident_bytes=_resident.read_bytes(),
            started_s=started_s,
            webhook_queue=0 if webhooks is None else webhooks.waiting,
            access_breaker_open=hub.access.breaker_open,
            view_epoch=0 if handover is None else handover.epoch,
            recovering=handover is not None and handover.recovering,
            load=governor.load,
            overloaded=governor.overloaded,
            entry_wait_s=door.waits_for(time.monotonic()),
            flush_window_s=governor.window_s,
            advised_interval_s=governor.advised_ms / 1000.0,
            connections_allowed=door.max_connections,
            memory_bytes=memory.used,
            memory_limit_bytes=memory.limit,
            descriptors=_descriptors.used(door.open_count),
            descriptors_allowed=allowed(),
        )
    )


@cache
def versions() -> dict[str, str]:
    """Of what runs; read from files the first time."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "picows": version("picows"),
        "uvloop": version("uvloop"),
    }


class Resident:
    """The memory of this process that is in RAM."""

    def __init__(self) -> None:
        self._last_bytes = 0

    def read_bytes(self) -> int:
        """So many bytes now; without a free descriptor to read it with, those of the last time."""
        with contextlib.suppress(OSError):
            self._last_bytes = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
        return self._last_bytes


_resident = Resident()
