"""Carries commands from edges to owners, and effects and flushes from owners to edges. The code above and below is the
same for any number of workers.

`LocalBus` serves one worker: a command is a direct call. `send` returns when the command and all its effects are
applied; its edge messages are delivered before the next command, the commands that it causes are applied in order. One
timer of the event loop serves the shard's deadlines and one its flushes. Nothing here awaits.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from koko_presence._fastpath.fanout import RoomFlush, StreamFrame
from koko_presence._fastpath.flush_scheduler import CursorRoute, FlushScheduler
from koko_presence._fastpath.outbox import WriteBatch
from koko_presence._fastpath.rounds import Round
from koko_presence.owner.shard import Shard
from koko_presence.protocol.commands import Command
from koko_presence.protocol.edge_messages import EdgeMessage
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.snapshots import Present, SessionRecord
from koko_presence.rooms.load_control import FlushWindowController
from koko_presence.rooms.room import Room

log = logging.getLogger("koko_presence.bus")


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    """The part of an event loop that the bus needs; tests pass a fake one."""

    def call_soon(self, callback: Callable[[], object]) -> Any: ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> TimerHandle: ...


class EdgePort(Protocol):
    """What the bus needs of an edge. A flush that changes no subscribers may go directly to `subscriptions`
    (fanout.RoomSubscription by room id), and is written with `write_batch`."""

    @property
    def subscriptions(self) -> dict[str, Any]: ...

    @property
    def write_batch(self) -> WriteBatch: ...

    def on_edge_message(self, message: EdgeMessage, now: float) -> None: ...

    def on_flush(self, flush: RoomFlush, now: float) -> None: ...

    def on_flushed(self, now: float) -> None: ...

    def on_route(self, session_id: str, route: CursorRoute) -> None:
        """Give a session's cursors in one room their compiled route."""
        ...

    def drop_routes(self, room_ids: Iterable[str]) -> None:
        """Drop the cursor routes of these rooms, which get another owner."""
        ...

    @property
    def newest(self) -> int:
        """The number up to which each connection has a session or is gone; later ones are still undecided."""
        ...

    def presences(self) -> dict[str, Present]:
        """Return, for each room, the sessions of this edge that are in it, each with its connection, whether it
        receives the room's events, and its last cursor."""
        ...

    def retry_pending(self, now: float) -> None:
        """Repeat all unanswered requests, because an owner was lost."""
        ...

    @property
    def watched_rooms(self) -> Iterable[str]:
        """The rooms that sessions of this edge watch without being in them."""
        ...

    def repeat_watches(self, room_ids: Iterable[str], now: float) -> None:
        """Tell the owners of these rooms, which have changed, that this edge watches them."""
        ...

    def session_records(self) -> dict[str, list[SessionRecord]]:
        """Return the records of all sessions that are connected here, by user."""
        ...


class Bus(Protocol):
    """Delivers commands to the owner of their room or user."""

    def send(self, command: Command, now: float) -> None: ...

    def cursor_route(self, room_id: str, session_id: str) -> CursorRoute | None:
        """Return the compiled route of a member's cursors; None when there is none."""
        ...

    def note_opened(self, user_id: str, version: int, record: Callable[[], SessionRecord], now: float) -> None:
        """Note that the user's owner has opened a session here, with session version `version`. Called before any
        command of the session is sent. `record` returns its record, as in `EdgePort.session_records`."""
        ...


class Alarm:
    """One timer of the event loop, set for the earliest requested time."""

    def __init__(self, timers: Timers, clock: Callable[[], float], callback: Callable[[], None]) -> None:
        self._timers, self._clock, self._callback = timers, clock, callback
        self._handle: TimerHandle | None = None
        self._at = float("inf")

    def schedule(self, at: float | None) -> None:
        """Call back at monotonic second `at`, or earlier if that was requested before; None requests nothing."""
        if at is None or at >= self._at:
            return
        self.stop()
        self._at = at
        # The loop counts whole milliseconds and may call early; the callback then requests the time again.
        self._handle = self._timers.call_later(max(0.001, at - self._clock()), self._ring)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._at = None, float("inf")

    def _ring(self) -> None:
        self._handle, self._at = None, float("inf")
        self._callback()


class LocalBus:
    """The bus of a single worker. It writes the schedule of flushes (`Shard.flush_queue`) together with the shard."""

    def __init__(
        self,
        shard: Shard,
        timers: Timers,
        clock: Callable[[], float],
        cpu_clock: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
    ) -> None:
        """`cpu_clock` returns the seconds for which this worker's thread has run, and has waited for a core."""
        self._shard = shard
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._edges: dict[int, EdgePort] = {}
        self._queue: deque[Command] = deque()
        self._draining = False
        self.window_controller = FlushWindowController(shard.context.limits, clock(), *cpu_clock())
        self._flush_alarm = Alarm(timers, clock, self._flush)
        self._scheduler = FlushScheduler(
            shard.flush_queue, timers, clock, self._flush_alarm, self._deliver, self._flushed, self._judge, shard.advise
        )
        self._tick_alarm = Alarm(timers, clock, self._tick)
        # Called before anything is ended at its deadline: this worker may be late itself.
        self.before_deadlines: Callable[[float], object] = lambda now: None

    def attach(self, edge_id: int, edge: EdgePort) -> None:
        """Register `edge` as `edge_id`."""
        self._edges[edge_id] = edge
        if len(self._edges) == 1:
            self._scheduler.use_fast_path(edge.subscriptions, edge.write_batch)
        else:
            self._scheduler.use_fast_path(None, None)

    def use_round(self, round: Round) -> None:
        """Make flushes share the worker's time with reading, which is done in rounds like `round`."""
        self._scheduler.use_round(round)

    def note_opened(self, user_id: str, version: int, record: Callable[[], SessionRecord], now: float) -> None:
        """Do nothing: the user has no other owner."""

    def cursor_route(self, room_id: str, session_id: str) -> CursorRoute | None:
        """Return the compiled route of a member's cursors, which bypasses commands and effects; None when the session
        is not a member."""
        room = self._shard.rooms.get(room_id)
        member = None if room is None else room.members.get(session_id)
        if room is None or member is None:
            return None
        return CursorRoute(room, member, self._scheduler, self._on_second)

    def set_limits(self, limits: Limits) -> None:
        """Apply new limits to the windows of busy rooms."""
        self.window_controller.set_limits(limits)
        self._shard.flush_queue.ceiling_s = limits.flush_ceiling_ms / 1000.0
        self._govern()

    def send(self, command: Command, now: float) -> None:
        """Apply a command and all its effects. A call from within another one queues the command."""
        self._queue.append(command)
        if not self._draining:
            self._drain(now)

    def note_delay(self, since: float, now: float) -> None:
        """Record that a client has waited for this worker since monotonic second `since`. The client is not late, the
        service is; its session may be owned by any worker."""
        self._shard.context.delays.note(since, now)

    def stop(self) -> None:
        """Stop all timers."""
        self._flush_alarm.stop()
        self._tick_alarm.stop()

    def _drain(self, now: float) -> None:
        self._draining = True
        try:
            while self._queue:
                command = self._queue.popleft()
                try:
                    self._apply(command, now)
                except Exception:  # a fault in one command must not affect the others
                    log.exception("command failed: %s", type(command).__name__)
        finally:
            self._draining = False
        self._schedule(now)

    def _apply(self, command: Command, now: float) -> None:
        self._shard.handle(command, now)
        self._dispatch_effects(now)

    def _dispatch_effects(self, now: float) -> None:
        for effect in self._shard.take_effects():
            if isinstance(effect, tuple):
                self._send_to_edge(effect[0], effect[1], now)
            else:
                self._queue.append(effect)

    def _send_to_edge(self, edge_id: int, message: EdgeMessage, now: float) -> None:
        self._edges[edge_id].on_edge_message(message, now)

    def _schedule(self, now: float) -> None:
        self._scheduler.schedule_flush(now)
        self._tick_alarm.schedule(self._shard.next_at())

    def _tick(self) -> None:
        now = self._clock()
        self.before_deadlines(now)
        try:
            self._shard.tick(now)
            self._dispatch_effects(now)
        finally:
            self._drain(now)

    def _flush(self) -> None:
        self._scheduler.run()

    def _deliver(self, room: Room, items: list[StreamFrame], now: float) -> None:
        flush = self._shard.make_flush(room, items, now)
        for edge_id in room.take_flush_edges():
            self._edges[edge_id].on_flush(flush, now)

    def _flushed(self, now: float) -> None:
        for edge in self._edges.values():
            edge.on_flushed(now)

    def _judge(self, now: float) -> None:
        self.window_controller.judge(now, *self._cpu_clock())
        self._govern()

    def _govern(self) -> None:
        flush_queue, window_controller = self._shard.flush_queue, self.window_controller
        flush_queue.window_s, flush_queue.full = window_controller.window_s, window_controller.full
        flush_queue.advised_ms = window_controller.advised_ms
        self._shard.context.set_advised_ms(window_controller.advised_ms)

    def _on_second(self, room: Room, now: float) -> None:
        self._shard.on_second(room, now)
