"""Subscribes one edge to the summaries of the rooms that its sessions watch, and delivers them [Q12].

`RoomSummaries` has the edge's subscription to each watched room, one whatever the number of its sessions, and the last
summary of the room as one frame, which all of them share. Rooms are watched as rooms of one type, or of any: the one
for which the session has access. Those of another type are empty to it, also when they are made later [C1]. A session
holds the rooms whose summary it has to get, not the summaries: a slow client gets the newest one of each room. Rooms
that change within `BATCH_S` are delivered together, with one write for each session, in parts of `PART_S`, so that
other work of the loop goes on. Written by the loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from koko_presence._fastpath.framing import frame_text
from koko_presence.cluster.bus import Alarm, Bus, Timers
from koko_presence.protocol.commands import WatchRoom
from koko_presence.protocol.edge_messages import SummaryChanged
from koko_presence.protocol.models import RoomType

BATCH_S = 0.25
PART_S, PAUSE_S = 0.004, 0.003  # as for the flushes of rooms
SLOW_S = 0.1  # until a client that has not taken everything is looked at again


class Watcher(Protocol):
    """A session's list of watched rooms. `deliver` writes summaries that it has to get, and returns whether some are
    left."""

    def add_due(self, watched: WatchedRoom) -> bool:
        """Add a room whose summary the session has to get; returns whether it had none to get before."""
        ...

    def deliver(self) -> bool: ...


class WatchedRoom:
    """A room that sessions of this edge watch, as one of `room_type`, None for any. `frame` is its last summary, empty
    before the first."""

    __slots__ = ("_payload", "frame", "room_id", "room_type", "version", "watchers")

    def __init__(self, room_id: str, room_type: RoomType | None) -> None:
        self.room_id = room_id
        self.room_type = room_type
        self.version = 0
        self.frame = b""
        self._payload = b""
        self.watchers: dict[Watcher, None] = {}

    def update(self, message: SummaryChanged) -> bool:
        """Take a summary from the owner, unless it is outdated; returns whether it differs from the one before."""
        if message.version < self.version:
            return False
        self.version = message.version
        if message.payload == self._payload:
            return False
        self._payload, self.frame = message.payload, frame_text(message.payload)
        return True


class RoomSummaries:
    """The watched rooms of one edge."""

    def __init__(self, edge_id: int, bus: Bus, timers: Timers, clock: Callable[[], float]) -> None:
        self._edge_id = edge_id
        self._bus = bus
        self._clock = clock
        self._rooms: dict[tuple[str, RoomType | None], WatchedRoom] = {}
        self._commands = 0
        self._changed: OrderedDict[WatchedRoom, None] = OrderedDict()  # to be delivered with the next batch
        self._is_batch = False  # whether one of them has changed since it was first delivered
        self._batch_at = float("-inf")  # when the last batch began
        self._due: OrderedDict[Watcher, None] = OrderedDict()  # have summaries to get
        self._slow: dict[Watcher, None] = {}  # the same, and have not taken what was written
        self._alarm = Alarm(timers, clock, self._run)

    @property
    def room_ids(self) -> set[str]:
        """The watched rooms."""
        return {room_id for room_id, _ in self._rooms}

    def stop(self) -> None:
        """Stop the timer."""
        self._alarm.stop()

    def add(self, room_id: str, room_type: RoomType | None, watcher: Watcher) -> WatchedRoom:
        """Let a session watch a room, as one of `room_type`. It gets the summary now, or when the owner has sent the
        first one."""
        watched = self._rooms.get((room_id, room_type))
        if watched is not None:
            watched.watchers[watcher] = None
            if watched.frame:
                self._make_due(watcher, watched)
                self._alarm.schedule(self._clock())
            return watched
        watched = self._rooms[room_id, room_type] = WatchedRoom(room_id, room_type)
        watched.watchers[watcher] = None
        self._send(watched, watches=True)
        return watched

    def remove(self, watched: WatchedRoom, watcher: Watcher) -> None:
        """Let a session watch a room no more."""
        watched.watchers.pop(watcher, None)
        key = (watched.room_id, watched.room_type)
        if not watched.watchers and self._rooms.get(key) is watched:
            del self._rooms[key]
            self._changed.pop(watched, None)
            self._send(watched, watches=False)

    def forget(self, watcher: Watcher) -> None:
        """Drop a session that watches nothing any more."""
        self._due.pop(watcher, None)
        self._slow.pop(watcher, None)

    def repeat(self, room_ids: Iterable[str], now: float) -> None:
        """Tell the new owners of these rooms that this edge watches them."""
        wanted = set(room_ids)
        for watched in self._rooms.values():
            if watched.room_id in wanted:
                self._send(watched, watches=True)

    def on_summary(self, message: SummaryChanged) -> None:
        """Take a summary from the owner of a room. One of a room that is not watched tells that the owner does not know
        that."""
        watched = self._rooms.get((message.room_id, message.room_type))
        if watched is None:
            self._send(WatchedRoom(message.room_id, message.room_type), watches=False)
            return
        is_first = not watched.frame
        if not watched.update(message):
            return
        self._changed[watched] = None
        if is_first:  # a client has just asked for it
            self._alarm.schedule(self._clock())
        else:
            self._is_batch = True
            self._alarm.schedule(self._batch_at + BATCH_S)

    def _send(self, watched: WatchedRoom, *, watches: bool) -> None:
        self._commands += 1
        command = WatchRoom(
            room_id=watched.room_id,
            room_type=watched.room_type,
            edge=self._edge_id,
            number=self._commands,
            watches=watches,
        )
        self._bus.send(command, self._clock())

    def _make_due(self, watcher: Watcher, watched: WatchedRoom) -> None:
        if watcher.add_due(watched):
            self._due[watcher] = None

    def _run(self) -> None:
        """Deliver what is due, for `PART_S` at most; the rest follows after other work."""
        now = self._clock()
        until = now + PART_S
        if self._is_batch:
            self._batch_at, self._is_batch = now, False
        while self._changed and self._clock() < until:
            watched, _ = self._changed.popitem(last=False)
            for watcher in watched.watchers:
                self._make_due(watcher, watched)
        slow, self._slow = self._slow, {}
        self._due.update(slow)
        while self._due and self._clock() < until:
            watcher, _ = self._due.popitem(last=False)
            if watcher.deliver():
                self._slow[watcher] = None
        if self._changed or self._due:
            self._alarm.schedule(now + PAUSE_S)
        elif self._slow:
            self._alarm.schedule(now + SLOW_S)
