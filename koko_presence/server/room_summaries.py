"""Subscribes one edge to the summaries of the rooms that its sessions watch, and delivers them [Q12].

`RoomSummaries` has the edge's subscription to each watched room, one whatever the number of its sessions, and the last
summary of the room as one frame, which all of them share. Rooms are watched as rooms of one type, or of any: the one
for which the session has access. Those of another type are empty to it, also when they are made later [C1]. Sessions
that watch the same rooms are a `WatchGroup`: a room has the groups that watch it, not the sessions.

Summaries are delivered in passes. A pass publishes the rooms that have changed, joins their frames once for each group
that watches some of them, and writes the joined frames to each session of the group with one write. A session that has
not taken what was written before, or whose first summaries have not been written yet, gets the rooms as rooms that are
due instead: the rooms, not the frames, so that it gets the newest summary of each when it is its turn. Passes begin
`PASS_INTERVAL_S` apart, more if the last one had many writes; no room is published twice within `ROOM_INTERVAL_S`. A
pass is done in parts, so that other work of the loop goes on. Written by the loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.framing import frame_text
from koko_presence.cluster.bus import Alarm, Bus, Timers
from koko_presence.protocol.commands import WatchRoom
from koko_presence.protocol.edge_messages import SummaryChanged
from koko_presence.protocol.models import RoomType

ROOM_INTERVAL_S = 1.0  # between two summaries of a room [Q12]
PASS_INTERVAL_S = 0.25  # between the beginnings of two passes, at least
MAX_PASS_INTERVAL_S = 1.0
# A write to a socket costs about 10 us, whatever its size: passes take about 1 % of a core up to the longest interval.
WRITES_PER_S = 1000.0
PART_S, PAUSE_S = 0.004, 0.003  # as for the flushes of rooms
SESSIONS_AT_ONCE = 128  # of a part: their writes come at the end of the loop iteration, after the clock was read
SLOW_S = 0.1  # until a client that has not taken everything is looked at again
PORTION_BYTES = 64 * 1024  # of summaries, until it is looked whether the client takes them


class Watcher(Protocol):
    """A session's list of watched rooms."""

    def add_due(self, watched: WatchedRoom) -> bool:
        """Add a room whose summary the session has to get; returns whether it had none to get before."""
        ...

    def deliver(self) -> bool:
        """Write summaries that the session has to get; returns whether some are left."""
        ...

    def write(self, frames: tuple[bytes, ...], joined: bytes) -> bool:
        """Write these summaries, unless others are due, or the client has not taken what was written before; returns
        whether they were written. `joined` has all frames."""
        ...


class WatchedRoom:
    """A room that sessions of this edge watch, as one of `room_type`, None for any. `frame` is the summary that was
    published last, empty before the first; `published_at` the monotonic second of the last pass that published one."""

    __slots__ = (
        "_ended", "_groups", "_payload", "_published", "frame", "published_at", "room_id", "room_type", "version",
    )  # fmt: skip

    def __init__(self, room_id: str, room_type: RoomType | None) -> None:
        self.room_id = room_id
        self.room_type = room_type
        self.version = 0
        self.frame = b""
        self.published_at = float("-inf")
        self._payload = self._published = b""
        # A list, with groups that have ended until they are half of it: a table would need five times the memory, which
        # with sessions that all have lists of their own is most of what they cost.
        self._groups: list[WatchGroup] = []
        self._ended = 0

    @property
    def groups(self) -> Iterator[WatchGroup]:
        """The groups that watch the room."""
        return (group for group in self._groups if group.watchers)

    def add(self, group: WatchGroup) -> None:
        """Add a group that watches the room."""
        self._groups.append(group)

    def note_end(self) -> bool:
        """Note that one of the groups has no sessions any more; returns whether any is left."""
        self._ended += 1
        if 2 * self._ended >= len(self._groups):
            self._groups, self._ended = list(self.groups), 0
        return bool(self._groups)

    def update(self, message: SummaryChanged) -> bool:
        """Take a summary from the owner, unless it is outdated; returns whether it differs from the published one."""
        if message.version < self.version:
            return False
        self.version, self._payload = message.version, message.payload
        return self._payload != self._published

    def publish(self) -> bool:
        """Make the newest summary the one that sessions get; returns whether it differs from the one before."""
        if self._payload == self._published:
            return False
        self._published, self.frame = self._payload, frame_text(self._payload)
        return True


class WatchGroup:
    """The sessions of this edge that watch the same rooms. `watched` are the rooms, ordered by id; `published` those
    that a pass has published for the sessions in `waiting`, or for all while that is None."""

    __slots__ = ("frames", "joined", "published", "waiting", "watched", "watchers")

    def __init__(self, watched: tuple[WatchedRoom, ...]) -> None:
        self.watched = watched
        self.watchers: dict[Watcher, None] = {}
        self.published: tuple[WatchedRoom, ...] = ()
        self.frames: tuple[bytes, ...] = ()
        self.joined = b""
        self.waiting: dict[Watcher, None] | None = None

    def add(self, watcher: Watcher) -> None:
        """Add a session. It does not wait for what is published already: its first summaries have that."""
        if self.published:
            self.begin()
        self.watchers[watcher] = None

    def remove(self, watcher: Watcher) -> Collection[WatchedRoom]:
        """Remove a session; returns what it was waiting for."""
        waited_for = self.claim(watcher)
        del self.watchers[watcher]
        return waited_for

    def claim(self, watcher: Watcher) -> Collection[WatchedRoom]:
        """Return the rooms for which the session waits, and which it gets by itself from now on."""
        if not self.published:
            return ()
        waiting = self.begin()
        if watcher not in waiting:
            return ()
        del waiting[watcher]
        return self.published

    def begin(self) -> dict[Watcher, None]:
        """Begin to deliver what has changed to the present sessions, unless that has begun; returns those that wait."""
        if self.waiting is not None:
            return self.waiting
        self.waiting = self.watchers.copy()
        self.frames = tuple(room.frame for room in self.published)
        self.joined = b"".join(self.frames)
        return self.waiting

    def end(self) -> None:
        """End the delivery: no session waits any more."""
        self.published, self.waiting, self.frames, self.joined = (), None, (), b""


class RoomSummaries:
    """The watched rooms of one edge."""

    def __init__(self, edge_id: int, bus: Bus, timers: Timers, clock: Callable[[], float]) -> None:
        self._edge_id = edge_id
        self._bus = bus
        self._clock = clock
        self._rooms: dict[tuple[str, RoomType | None], WatchedRoom] = {}
        self._groups: dict[tuple[WatchedRoom, ...], WatchGroup] = {}
        self._commands = 0
        self._changed: dict[WatchedRoom, None] = {}  # to be published by the next pass
        self._publishing: deque[WatchedRoom] = deque()  # by the present pass
        self._passing: OrderedDict[WatchGroup, None] = OrderedDict()  # to which the present pass delivers
        self._is_pass = False
        self._pass_began = self._pass_at = float("-inf")  # the last pass, and the earliest time of the next one
        self._served = 0  # sessions, by the present pass
        self._due: OrderedDict[Watcher, None] = OrderedDict()  # have summaries of their own to get
        self._slow: dict[Watcher, None] = {}  # the same, and have not taken what was written
        self._slow_at = float("-inf")  # when they are looked at again
        self._alarm = Alarm(timers, clock, self._run)

    @property
    def room_ids(self) -> set[str]:
        """The watched rooms."""
        return {room_id for room_id, _ in self._rooms}

    def stop(self) -> None:
        """Stop the timer."""
        self._alarm.stop()

    # --- lists ----------------------------------------------------------------------------------------------------

    def replace(
        self, watcher: Watcher, former: WatchGroup | None, wanted: Mapping[str, RoomType | None]
    ) -> WatchGroup | None:
        """Let a session, until now in the group `former`, watch these rooms and no others, each as one of its type. It
        gets the summaries of those that are new to it now, or when the owner has sent the first one. Returns its group,
        None for no rooms."""
        begun: list[WatchedRoom] = []
        for key in wanted.items():
            if key not in self._rooms:
                watched = self._rooms[key] = WatchedRoom(*key)
                begun.append(watched)
        group = self._open_group(wanted)
        if group is not former:
            missed = former.remove(watcher) if former is not None else ()
            if group is not None:
                group.add(watcher)
                self._make_first_due(watcher, former, wanted, missed)
            if former is not None and not former.watchers:
                self._drop(former)
        for watched in begun:
            self._send(watched, watches=True)
        return group

    def _open_group(self, wanted: Mapping[str, RoomType | None]) -> WatchGroup | None:
        rooms = tuple(self._rooms[room_id, wanted[room_id]] for room_id in sorted(wanted))
        if not rooms:
            return None
        group = self._groups.get(rooms)
        if group is None:
            group = self._groups[rooms] = WatchGroup(rooms)
            for watched in rooms:
                watched.add(group)
        return group

    def _make_first_due(
        self,
        watcher: Watcher,
        former: WatchGroup | None,
        wanted: Mapping[str, RoomType | None],
        missed: Iterable[WatchedRoom],
    ) -> None:
        known = set() if former is None else set(former.watched).difference(missed)
        for key in wanted.items():
            watched = self._rooms[key]
            if watched.frame and watched not in known:
                self._make_due(watcher, watched)
        if watcher in self._due:
            self._alarm.schedule(self._clock())

    def _drop(self, group: WatchGroup) -> None:
        del self._groups[group.watched]
        self._passing.pop(group, None)
        rooms, group.watched = group.watched, ()
        for watched in rooms:
            if not watched.note_end():
                del self._rooms[watched.room_id, watched.room_type]
                self._changed.pop(watched, None)
                self._send(watched, watches=False)

    def forget(self, watcher: Watcher) -> None:
        """Drop a session that watches nothing any more."""
        self._due.pop(watcher, None)
        self._slow.pop(watcher, None)

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

    # --- owners ---------------------------------------------------------------------------------------------------

    def repeat(self, room_ids: Iterable[str], now: float) -> None:
        """Tell the new owners of these rooms that this edge watches them."""
        wanted = set(room_ids)
        for key, watched in list(self._rooms.items()):
            # an owner that is this worker answers at once, and a session may end its watching by that
            if watched.room_id in wanted and self._rooms.get(key) is watched:
                self._send(watched, watches=True)

    def on_summary(self, message: SummaryChanged) -> None:
        """Take a summary from the owner of a room. One of a room that is not watched tells that the owner does not know
        that."""
        watched = self._rooms.get((message.room_id, message.room_type))
        if watched is None:
            self._send(WatchedRoom(message.room_id, message.room_type), watches=False)
        elif watched.update(message):
            if not watched.frame:  # a client has just asked for it
                watched.publish()
                for group in watched.groups:
                    self._make_all_due(group, watched)
                self._alarm.schedule(self._clock())
            else:
                self._changed[watched] = None
                if not self._is_pass:
                    self._alarm.schedule(self._publishable_at(watched))

    def _publishable_at(self, watched: WatchedRoom) -> float:
        return max(self._pass_at, watched.published_at + ROOM_INTERVAL_S)

    # --- delivery -------------------------------------------------------------------------------------------------

    def _make_due(self, watcher: Watcher, watched: WatchedRoom) -> None:
        if watcher.add_due(watched):
            self._due[watcher] = None

    def _make_all_due(self, group: WatchGroup, watched: WatchedRoom) -> None:
        for watcher in group.watchers:
            self._make_due(watcher, watched)

    def _run(self) -> None:
        """Deliver what is due, for `PART_S` and to `SESSIONS_AT_ONCE` sessions at most; the rest follows after other
        work."""
        now = self._clock()
        until, left = now + PART_S, SESSIONS_AT_ONCE
        if self._slow and now >= self._slow_at:
            self._due.update(self._slow)
            self._slow = {}
        if not self._is_pass:
            self._begin_pass(now)
        while self._publishing and self._clock() < until:
            self._publish(self._publishing.popleft())
        while not self._publishing and self._due and left and self._clock() < until:
            watcher, _ = self._due.popitem(last=False)
            left -= 1
            if watcher.deliver():
                if not self._slow:
                    self._slow_at = now + SLOW_S
                self._slow[watcher] = None
        while not self._publishing and self._passing and left and self._clock() < until:
            left -= self._pass_on(next(iter(self._passing)), left)
        if self._is_pass and not self._publishing and not self._passing:
            self._is_pass = False
            if self._served:
                interval_s = max(PASS_INTERVAL_S, self._served / WRITES_PER_S)
                self._pass_at = self._pass_began + min(interval_s, MAX_PASS_INTERVAL_S)
        if self._is_pass or self._due:
            self._alarm.schedule(now + PAUSE_S)
        else:
            self._alarm.schedule(min(map(self._publishable_at, self._changed), default=None))
            self._alarm.schedule(self._slow_at if self._slow else None)

    def _begin_pass(self, now: float) -> None:
        publishable = [watched for watched in self._changed if self._publishable_at(watched) <= now]
        if publishable:
            self._is_pass, self._pass_began, self._served = True, now, 0
            for watched in publishable:
                del self._changed[watched]
            self._publishing.extend(publishable)

    def _publish(self, watched: WatchedRoom) -> None:
        if watched.publish():
            watched.published_at = self._pass_began
            for group in watched.groups:
                if group.waiting is not None:  # it has begun, because a session was added after rooms were published
                    self._make_all_due(group, watched)
                else:
                    group.published += (watched,)
                    self._passing[group] = None

    def _pass_on(self, group: WatchGroup, most: int) -> int:
        """Deliver to so many sessions of the group at most; returns to how many."""
        waiting, frames = group.begin(), group.frames
        is_portion = len(group.joined) <= PORTION_BYTES
        written = count = 0
        while waiting and count < most:
            watcher, _ = waiting.popitem()
            count += 1
            if is_portion and watcher.write(frames, group.joined):
                written += 1
            else:
                for watched in group.published:
                    self._make_due(watcher, watched)
        for frame in frames:
            counters.sent(frame, written)
        if not waiting:
            group.end()
            del self._passing[group]
        self._served += count
        return count
