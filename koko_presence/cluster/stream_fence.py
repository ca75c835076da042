"""Decides which flushes of rooms this edge passes on: only the owner's, and only after all flushes of its predecessor.
Also holds back an answer to a leave behind a flush of its room, and what refers to members whose snapshots are awaited:
cursors, selections, changes of presence objects.

A flush that is too early waits until the change of owners is over. The flush of a previous owner, which has missed the
change, is dropped: a room's flushes never go back to an earlier view. A flush of the last owner is also dropped when
this edge, which has not waited for it, has already reported its subscribers to the next owner: a join answered by it
would be unknown there. The edge repeats the join.
"""

import logging
from collections.abc import Mapping, Set
from typing import Protocol

from koko_presence._fastpath.fanout import RoomFlush, StreamFrame
from koko_presence.owner.shard import Shard
from koko_presence.protocol.edge_messages import Left
from koko_presence.rooms.room import Room

from . import wire_messages
from .bus import EdgePort
from .peer import PeerConnection
from .placement import room_key

log = logging.getLogger("koko_presence.cluster")

SNAPSHOT_WITHIN_S = 1.0  # what `strip_unknown` drops is passed on again after that in any case
_PRESENCE_CHANGED = b'{"type":"presence_changed",'
_HEAD_BYTES = 10 + len(_PRESENCE_CHANGED)  # of a frame's header, and of the message's type, its first field


class Ownership(Protocol):
    """What the fence needs of ownership: see `transfer.OwnershipTransfer`."""

    @property
    def recovering(self) -> bool: ...

    @property
    def settled_epoch(self) -> int: ...

    def owners_of(self, key: str) -> set[int]: ...

    def has_reported(self, key: str) -> bool: ...


class FenceBus(Protocol):
    """What the fence needs of its worker's bus: see `ClusterBus`."""

    me: int

    @property
    def shard(self) -> Shard: ...

    @property
    def edge(self) -> EdgePort: ...

    @property
    def peers(self) -> Mapping[int, PeerConnection]: ...

    @property
    def transfer(self) -> Ownership: ...

    def resend_snapshots(self, room: Room, edge_id: int, now: float) -> None: ...

    def on_peer_messages(self, sender: int, found: list[tuple[int, bytes]]) -> None: ...


class StreamFence:
    """Decides which flushes the edge of one worker passes on, and whose members get a new snapshot."""

    __slots__ = (
        "_awaiting_snapshot",
        "_bus",
        "_deferred",
        "_deferred_rooms",
        "_discarded",
        "_epochs",
        "_settling",
        "_to_refresh",
    )

    def __init__(self, bus: FenceBus) -> None:
        self._bus = bus
        # in the order of arrival: flushes, each with its sender, and answers to leaves behind them
        self._deferred: list[tuple[int, bytes] | Left] = []
        self._deferred_rooms: set[str] = set()  # the rooms of `_deferred`
        self._discarded: set[str] = set()  # rooms of which a flush was dropped in this change of owners
        self._settling = False  # the deferred flushes are passed on
        self._epochs: dict[str, int] = {}  # of the last flush passed on, by room
        # rooms of which edges need new snapshots, once their owners are settled
        self._to_refresh: list[tuple[str, int]] = []
        # By room: the sessions that have missed events and wait for a new snapshot, and until when.
        self._awaiting_snapshot: dict[str, tuple[set[str], float]] = {}

    def admit(self, sender: int, room_id: str, epoch: int, body: bytes) -> bool:
        """Decide on a flush. Return whether it may be passed on now; one that is too early is kept for `settle`."""
        bus, transfer = self._bus, self._bus.transfer
        # a room that is still here has not been given up yet
        here = transfer.recovering and room_id in bus.shard.rooms
        if epoch > transfer.settled_epoch or here or room_id in self._deferred_rooms:
            self._deferred.append((sender, body))
            self._deferred_rooms.add(room_id)
            return False
        outdated = epoch < self._epochs.get(room_id, 0) or transfer.has_reported(room_key(room_id))
        if outdated or sender not in transfer.owners_of(room_key(room_id)):
            if self._settling or transfer.has_reported(room_key(room_id)):
                self._discarded.add(room_id)
            return False
        self._epochs[room_id] = epoch
        if len(self._epochs) > 2 * len(bus.edge.subscriptions) + 64:  # rooms without subscribers here
            self._epochs = {each: known for each, known in self._epochs.items() if each in bus.edge.subscriptions}
        return True

    def defer(self, answer: Left) -> bool:
        """Return whether an answer to a leave waits for `settle`, behind a flush of the room that waits: the flush may
        have the answer to an earlier join of the same session."""
        if answer.room_id not in self._deferred_rooms:
            return False
        self._deferred.append(answer)
        return True

    def refresh(self, room_id: str, edge: int, now: float) -> None:
        """Make the owner of a room send a new snapshot to the members at `edge`, which have missed events. While owners
        change, this is done afterwards."""
        bus = self._bus
        room = bus.shard.rooms.get(room_id)
        if edge == bus.me:
            self._awaiting_snapshot.pop(room_id, None)
        if bus.transfer.recovering:
            self._to_refresh.append((room_id, edge))
            self._await_snapshots(room_id, edge, now)
        elif room is not None:
            bus.resend_snapshots(room, edge, now)
        else:
            self._await_snapshots(room_id, edge, now)
            (owner,) = bus.transfer.owners_of(room_key(room_id))
            peer = bus.peers.get(owner)
            if peer is not None:
                peer.outgoing.put(wire_messages.REFRESH, wire_messages.encode(wire_messages.Refresh(room_id, edge)))

    def _await_snapshots(self, room_id: str, edge: int, now: float) -> None:
        """Wait for the snapshots of a room that another worker is to send, if `edge` is this worker's."""
        subscriptions = self._bus.edge.subscriptions
        if edge != self._bus.me or room_id not in subscriptions:
            return
        if len(self._awaiting_snapshot) > 64:
            self._awaiting_snapshot = {
                each: sessions for each, sessions in self._awaiting_snapshot.items() if each in subscriptions
            }
        self._awaiting_snapshot[room_id] = set(subscriptions[room_id].subscribers), now + SNAPSHOT_WITHIN_S

    def strip_unknown(self, flush: RoomFlush, now: float) -> RoomFlush:
        """Return the flush, without cursors, selections and changes of presence objects while snapshots are awaited,
        those ahead of the last awaited snapshot in this flush included: they may belong to members that the clients
        have not received yet, and a snapshot has all three. A session that leaves the room gets no snapshot, and is not
        waited for: others have their snapshots, and would lose what is dropped."""
        if not self._awaiting_snapshot or flush.room_id not in self._awaiting_snapshot:
            return flush
        sessions, until = self._awaiting_snapshot[flush.room_id]
        subscription = self._bus.edge.subscriptions.get(flush.room_id)
        sessions.intersection_update(() if subscription is None else subscription.subscribers)
        known_from = 0  # the place behind the last awaited snapshot
        for at, item in enumerate(flush.items, 1):
            if item.attach and item.only in sessions:
                sessions.remove(item.only)
                known_from = at
            elif item.detach:
                sessions.discard(item.only)
        if sessions:
            known_from = len(flush.items)
        else:
            del self._awaiting_snapshot[flush.room_id]
        if now >= until:
            return flush
        items = [item for at, item in enumerate(flush.items) if at >= known_from or not _is_in_snapshots(item)]
        return RoomFlush(flush.room_id, items, flush.timestamp)

    def settle(self, missed_rooms: Set[str], now: float) -> None:
        """Pass on the flushes and answers that have waited: the change of owners is over. Rooms that still waited for a
        snapshot when their owner was lost are refreshed by the new one, and so are `missed_rooms`, of which the last
        flushes of a previous owner may not have arrived: if they still come, they are dropped. The flushes of a worker
        that has left the view since are dropped too, but not its answers, which no other worker has."""
        to_refresh, self._to_refresh = self._to_refresh, []
        subscriptions, me = self._bus.edge.subscriptions, self._bus.me
        awaiting_snapshot, self._awaiting_snapshot = self._awaiting_snapshot, {}
        to_refresh += [
            (room, me)
            for room, (session_ids, _) in awaiting_snapshot.items()
            if room in subscriptions and session_ids & subscriptions[room].subscribers.keys()
        ]
        for room_id, edge in dict.fromkeys(to_refresh):
            self.refresh(room_id, edge, now)
        refreshed = {room_id for room_id, edge in to_refresh if edge == me}
        deferred, self._deferred = self._deferred, []
        self._deferred_rooms.clear()
        early, self._discarded = self._discarded, set()
        self._settling = True
        try:
            for waiting in deferred:
                if isinstance(waiting, Left):
                    self._answer(waiting, now)
                else:
                    sender, body = waiting
                    self._bus.on_peer_messages(sender, [(wire_messages.FLUSH, body)])
        finally:
            self._settling = False
        discarded, self._discarded = self._discarded, set()
        if discarded:  # perhaps with the answer to a join: its room has moved on while it waited here
            self._bus.edge.retry_pending(now)
        # The next owner has the record of the last one, so only this edge knows what is missing. Events of invisible
        # sessions have no number, so a client does not notice that they are [K7].
        for room_id in sorted(((missed_rooms | early | discarded) & subscriptions.keys()) - refreshed):
            self.refresh(room_id, me, now)

    def _answer(self, answer: Left, now: float) -> None:
        """Pass on an answer that has waited, unless the flush ahead of it waits once more. One that cannot be handled
        is logged and dropped, because others follow."""
        if self.defer(answer):
            return
        try:
            self._bus.edge.on_edge_message(answer, now)
        except Exception:
            log.exception("failed to handle an answer to a leave that has waited")
        self._bus.edge.on_flushed(now)


def _is_in_snapshots(item: StreamFrame) -> bool:
    """Return whether a frame only repeats what a later snapshot has. The changes of the presence object of an invisible
    session, which go to single sessions, have no mark."""
    return bool(item.merge) or (bool(item.only) and _PRESENCE_CHANGED in item.frame[:_HEAD_BYTES])
