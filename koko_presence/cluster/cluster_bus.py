"""Carries commands, effects and flushes between this worker and the others. Commands for a key that this worker owns
are applied here, others are sent to its owner as peer messages [N-a].

A room's flush goes once to each worker with members, with the delta of its replica. The delta also goes to the room's
backup owner, so that one more worker has the room. Messages to one worker keep their order. transfer.py changes the
owners.
"""

import logging
from collections import deque
from collections.abc import Callable

import msgspec
from msgspec import UNSET

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.fanout import StreamFrame
from koko_presence._fastpath.flush_scheduler import CursorRoute
from koko_presence._fastpath.room_core import FlushPacing
from koko_presence._fastpath.wire import RemoteCursorRoute, pack_flush, show_cursors, unpack_flush
from koko_presence.owner import reconcile
from koko_presence.owner.shard import Shard
from koko_presence.protocol.commands import Command, ReplyTo, RoomAction
from koko_presence.protocol.edge_messages import CallAnswered, EdgeMessage, Left, Reply, SessionLost
from koko_presence.protocol.events import error_reply
from koko_presence.protocol.messages import CursorMessage, PlaybackMessage
from koko_presence.protocol.models import Cursor
from koko_presence.protocol.snapshots import RoomDelta, SessionRecord, UserRecord
from koko_presence.rooms.room import Room
from koko_presence.rooms.snapshot_delivery import send_snapshot

from . import wire_messages
from .bus import Alarm, EdgePort, LocalBus, Timers
from .peer import PeerConnection, PeerTransport
from .placement import Peer, View, room_key, user_key
from .replica_store import ReplicaStore
from .stream_fence import StreamFence
from .transfer import OwnershipTransfer
from .wire_messages import key_of

log = logging.getLogger("koko_presence.cluster")

# A quiet worker writes to its peers at the end of the loop iteration, one with more than about 1.5 MB/s at most this
# often: reading a message costs more than its content.
PEER_FLUSH_WINDOW_S = 0.002
SEND_DELAY_EVERY_S = 1.0
LOOK_EVERY_S = 1.0  # for workers that acknowledge no commands
# A longer text of a client's message is not relayed: the message is encoded again, without its unknown fields. They
# would be sent and kept until acknowledged, and could be nested more deeply than the owner's decoder accepts.
MAX_RELAYED_TEXT_BYTES = 1024
ACKNOWLEDGE_S = 0.05  # longer than any flush window: the effects of a command are written by then

_encode = msgspec.msgpack.Encoder().encode


class ClusterBus(LocalBus):
    """The bus of one worker among several; it writes `peers`, `replicas`, `received_seqs` and the cursor routes.
    `open_link(peer)` opens the connection to a worker, whose messages are passed to `on_peer_messages`."""

    def __init__(
        self,
        me: int,
        shard: Shard,
        timers: Timers,
        clock: Callable[[], float],
        cpu_clock: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
        *,
        open_link: Callable[[Peer], PeerTransport],
        on_serving: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        super().__init__(shard, timers, clock, cpu_clock)
        self.me = me
        self.peers: dict[int, PeerConnection] = {}
        self.replicas = ReplicaStore()
        self.received_seqs: dict[str, int] = {}  # by room of another owner: the `seq` that this edge has received
        # by user that is owned here: the backup owner that has its record
        self._user_replica_holders: dict[str, int] = {}
        # rooms that are gone, in the order in which they ended: those from the first one whose last frames wait
        self._ended: deque[Room] = deque()
        self.forwards = 0  # commands sent to other workers
        self._timers = timers
        self._open_link = open_link
        self._flushing = False
        self._pacing = FlushPacing()  # counts KiB
        self._put_bytes = 0
        self._newest = 0  # highest worker id in any view
        self._from_unknown_workers: list[tuple[int, list[tuple[int, bytes]]]] = []
        self._routes: dict[int, CursorRoute] = {}
        self._route_handles: dict[tuple[str, str], int] = {}
        self._route_targets: dict[int, tuple[str, str]] = {}  # the inverse of `_route_handles`
        self._last_handle = 0
        self._acknowledge_alarm = Alarm(timers, clock, self._acknowledge)
        self._stuck_alarm = Alarm(timers, clock, self._look_for_stuck)
        self._delay_sent_at = float("-inf")
        self.transfer = OwnershipTransfer(self, clock, timers, on_serving)
        self.fence = StreamFence(self)
        shard.context.start_replication()

    @property
    def shard(self) -> Shard:
        return self._shard

    @property
    def edge(self) -> EdgePort:
        """This worker's own edge."""
        return self._edges[self.me]

    def attach(self, edge_id: int, edge: EdgePort) -> None:
        """Register this worker's edge."""
        self._edges[edge_id] = edge
        self._scheduler.use_fast_path(None, edge.write_batch)

    def on_view(self, view: View, now: float) -> None:
        """Apply the supervisor's newest view."""
        lost = [peer for peer in self.peers if peer not in view.ids]
        for worker in lost:
            connection = self.peers.pop(worker)
            connection.close()
            self.transfer.unacknowledged.extend(connection.unacknowledged)
        for peer in view.peers:
            if peer.id != self.me and peer.id not in self.peers:
                connection = self.peers[peer.id] = PeerConnection(self._open_link(peer), self._schedule_peer_flush)
                for since, until in self._shard.context.delays.times:  # waiting clients may come to the new worker
                    connection.outgoing.put(
                        wire_messages.DELAY, wire_messages.encode(wire_messages.Delay(since, until))
                    )
        self._newest = max(self._newest, *view.ids)
        self.transfer.begin(view, lost, now)
        unknown, self._from_unknown_workers = self._from_unknown_workers, []
        for sender, found in unknown:
            self.on_peer_messages(sender, found)

    def stop(self) -> None:
        """Stop all timers."""
        super().stop()
        self._acknowledge_alarm.stop()
        self._stuck_alarm.stop()
        self.transfer.stop()

    def note_delay(self, since: float, now: float) -> None:
        """Record the delay, and send it to the other workers, at most once a second."""
        if self._shard.context.delays.note(since, now) and now - self._delay_sent_at >= SEND_DELAY_EVERY_S:
            self._delay_sent_at = now
            body = wire_messages.encode(wire_messages.Delay(since, now))
            for peer in self.peers.values():
                peer.outgoing.put(wire_messages.DELAY, body)

    # --- commands -------------------------------------------------------------------------------------------------

    def _apply(self, command: Command, now: float) -> None:
        if isinstance(command, RoomAction):
            if len(command.raw) > MAX_RELAYED_TEXT_BYTES:
                command.raw = b""
            if isinstance(command.message, PlaybackMessage):
                data = command.message.data
                # It may be repeated to a backup owner, and must not mean a later moment then.
                if data.at is UNSET and data.action != "report":
                    data.at, command.raw = float(self._shard.context.wall.ms(now)), b""
        owner = self.transfer.locate(key_of(command), command)
        if owner == self.me:
            super()._apply(command, now)
            self._replicate_users()
        elif owner is not None:
            self.forwards += 1
            self.peers[owner].send_command(command, now)
            self._stuck_alarm.schedule(now + LOOK_EVERY_S)

    def note_opened(self, user_id: str, version: int, record: Callable[[], SessionRecord], now: float) -> None:
        """Report the session to the user's next owner, if the report of this edge came too early to have it."""
        self.transfer.note_opened(user_id, version, record, now)

    def _send_to_edge(self, edge_id: int, message: EdgeMessage, now: float) -> None:
        if edge_id == self.me:
            self.edge.on_edge_message(message, now)
        elif edge_id in self.peers:
            self.peers[edge_id].outgoing.put(wire_messages.EDGE_MESSAGE, wire_messages.encode(message))

    def _tick(self) -> None:
        super()._tick()
        self._replicate_users()

    def _schedule(self, now: float) -> None:
        self._end_replicas(now)
        super()._schedule(now)

    def dispatch_effects(self, now: float) -> None:
        """Send the effects of changes that were made outside of a command."""
        self._dispatch_effects(now)
        self._drain(now)
        self._replicate_users()

    # --- peer messages --------------------------------------------------------------------------------------------

    def _schedule_peer_flush(self) -> None:
        if self._flushing:
            return
        self._flushing = True
        now = self._clock()
        wait_s = self._pacing.flush_at(now, PEER_FLUSH_WINDOW_S) - now
        if wait_s <= 0.0:
            self._timers.call_soon(self._flush_peers)
        else:
            self._timers.call_later(wait_s, self._flush_peers)

    def _flush_peers(self) -> None:
        self._flushing = False
        put_bytes = sum(peer.outgoing.put_bytes for peer in self.peers.values())
        self._pacing.flushed(self._clock(), (put_bytes - self._put_bytes) // 1024)
        self._put_bytes = put_bytes
        for peer in self.peers.values():
            peer.flush()

    def _flushed(self, now: float) -> None:
        # Before this worker's own clients: should it die in between, they have received nothing that no other worker
        # has. Not at the end of the window for peer messages: rooms have their own, a second one would only delay
        # flushes.
        self._flush_peers()
        super()._flushed(now)
        while self._ended and not self._ended[0].out:
            self._ended.popleft()

    def _acknowledge(self) -> None:
        if self.transfer.holds_commands:
            self._acknowledge_alarm.schedule(self._clock() + ACKNOWLEDGE_S)
            return
        more = [peer.acknowledge() for peer in self.peers.values()]
        if any(more):
            self._acknowledge_alarm.schedule(self._clock() + ACKNOWLEDGE_S)

    def _look_for_stuck(self) -> None:
        """Record a delay while workers acknowledge no commands: clients that wait for such an owner are not late
        themselves."""
        now = self._clock()
        for peer in self.peers.values():
            peer.note_progress(now)
        waits = [since for peer in self.peers.values() if (since := peer.stuck_since) is not None]
        if waits:
            self.note_delay(min(waits), now)
            self._stuck_alarm.schedule(now + LOOK_EVERY_S)

    def on_peer_messages(self, sender: int, found: list[tuple[int, bytes]]) -> None:
        """Handle the messages of another worker, in their order. A message that cannot be decoded or handled is logged
        and dropped, because messages for other rooms and users follow. All messages of a worker that has left the view
        are dropped; those of a worker above all known ids wait for its view."""
        peer = self.peers.get(sender)
        if peer is None:
            if sender > self._newest:  # in a view that has not arrived here yet
                self._from_unknown_workers.append((sender, found))
            return
        now = self._clock()
        for kind, body in found:
            try:
                self._on_peer_message(sender, peer, kind, body, now)
            except Exception:
                log.exception("failed to handle a message from worker %d", sender)
        self.edge.on_flushed(now)

    def _on_peer_message(self, sender: int, peer: PeerConnection, kind: int, body: bytes, now: float) -> None:
        if kind == wire_messages.CURSORS:
            show_cursors(body, self._routes, now, self._on_refused_cursor)
        elif kind == wire_messages.FLUSH:
            self._on_flush(sender, body, now)
        elif kind in (wire_messages.COMMAND, wire_messages.RELIABLE_COMMAND):
            if kind == wire_messages.RELIABLE_COMMAND:
                peer.on_reliable_command()
                self._acknowledge_alarm.schedule(now + ACKNOWLEDGE_S)
            try:
                command = wire_messages.decode_command(body)
            except wire_messages.UndecodableAction as error:
                self._refuse(error, now)
                return
            self.transfer.on_command(sender, command, now)
        elif kind == wire_messages.ACKNOWLEDGED:
            peer.on_acknowledged(wire_messages.decode(kind, body))
        elif kind == wire_messages.EDGE_MESSAGE:
            message = wire_messages.decode(kind, body)
            if not (isinstance(message, Left) and self.fence.defer(message)):
                self.edge.on_edge_message(message, now)
        elif kind == wire_messages.ROUTE:
            given = wire_messages.decode(kind, body)
            if not self.transfer.is_owner(sender, room_key(given.room_id), given.epoch):
                return  # not any more: cursors would be lost there
            route = RemoteCursorRoute(given.room_id, given.handle, peer.outgoing, self._scheduler)
            self.edge.on_route(given.session_id, route)
        elif kind == wire_messages.REFRESH:
            request = wire_messages.decode(kind, body)
            self.fence.refresh(request.room_id, request.edge, now)
            self._schedule(now)
        elif kind == wire_messages.DELAY:
            delay = wire_messages.decode(kind, body)
            self._shard.context.delays.note(delay.since, delay.until)
        elif kind == wire_messages.REPLICA_REQUEST:
            room = self._shard.rooms.get(wire_messages.decode(kind, body))
            if room is not None:
                room.drop_replica_holder(sender)
                self._shard.changed_room(room, now)
                self._schedule(now)
        elif kind == wire_messages.ROOM_REPLICA:
            replica = wire_messages.decode(kind, body)
            self.replicas.store_whole_room(replica.room_id, replica.record)
        elif kind == wire_messages.USER_REPLICA:
            self.replicas.store_user(wire_messages.decode(kind, body))
        else:
            self.transfer.on_peer_message(sender, kind, wire_messages.decode(kind, body), now)

    def _refuse(self, error: wire_messages.UndecodableAction, now: float) -> None:
        """Answer a client's message that cannot be decoded here, at the edge that has relayed it."""
        counters.bad(error)
        reply_to = error.reply_to
        if reply_to is None:
            return
        payload = error_reply(error, error.id, error.room_id)
        answer: EdgeMessage
        if reply_to.is_call:
            answer = CallAnswered(number=reply_to.number, payload=payload, refused=True)
        else:
            answer = Reply(session_id=reply_to.session_id, payload=payload, refusal=True)
        self._send_to_edge(reply_to.edge, answer, now)

    def _on_refused_cursor(self, handle: int, cursor: Cursor) -> None:
        """Handle a cursor of the compiled route that a rule applies to: send it as a command."""
        room_id, session_id = self._route_targets[handle]
        member = self._shard.rooms[room_id].members.get(session_id) if room_id in self._shard.rooms else None
        edge = self.me if member is None else member.edge
        message, reply_to = CursorMessage(room_id=room_id, data=cursor), ReplyTo(edge, session_id)
        self.send(RoomAction(room_id=room_id, session_id=session_id, message=message, reply_to=reply_to), self._clock())

    # --- flushes --------------------------------------------------------------------------------------------------

    def _on_flush(self, sender: int, body: bytes, now: float) -> None:
        flush, epoch, before, seq, delta = unpack_flush(body)
        if not self.fence.admit(sender, flush.room_id, epoch, body):
            return
        is_another = bool(delta) and self._store_delta(sender, flush.room_id, delta)
        received_seq = self.received_seqs.pop(flush.room_id, before)
        is_another = is_another or before <= seq < received_seq
        if is_another and (subscription := self.edge.subscriptions.get(flush.room_id)) is not None:
            # another room of the same id: the room that these members had was lost with all replicas of it, or those
            # that are left have not reached its next owner in time
            for session_id in list(subscription.subscribers):
                self.edge.on_edge_message(SessionLost(session_id=session_id), now)
            received_seq = before
        # (`before` above `seq`: the room has begun anew for all but its invisible members, which have received that)
        if received_seq != before and flush.room_id in self.edge.subscriptions:
            # an owner was lost or cut off before all its flushes arrived: the members here need a new snapshot
            self.fence.refresh(flush.room_id, self.me, now)
        flush = self.fence.strip_unknown(flush, now)
        self.replicas.note_seq(flush.room_id, seq)
        if flush.items:
            self.edge.on_flush(flush, now)
        if flush.room_id in self.edge.subscriptions:
            self.received_seqs[flush.room_id] = seq  # not the maximum: a room of the same id may have begun anew
        if len(self.received_seqs) > 2 * len(self.edge.subscriptions) + 64:  # rooms whose last member here has left
            self.received_seqs = {
                room_id: seq for room_id, seq in self.received_seqs.items() if room_id in self.edge.subscriptions
            }

    def _store_delta(self, sender: int, room_id: str, delta: bytes) -> bool:
        """Apply the delta of a room to its replica, or request the whole record from the owner. Return whether the
        replica was of another room of the same id."""
        known_version = self.replicas.created_version(room_id)
        if not self.replicas.store_room(room_id, delta) and sender in self.peers:
            self.peers[sender].outgoing.put(wire_messages.REPLICA_REQUEST, wire_messages.encode(room_id))
        return known_version != 0 and self.replicas.created_version(room_id) not in (0, known_version)

    def _deliver(self, room: Room, items: list[StreamFrame], now: float) -> None:
        if room.moved:
            return
        deltas: dict[int, bytes] = {}
        edges = room.edges
        if room.changed or room.edges_to_notify:
            edges = room.take_flush_edges()
            deltas = self._deltas(room)
        if not items and not deltas:
            return
        flush = self._shard.make_flush(room, items, now)
        plain = b""
        before = room.note_flushed()
        # The own edge comes last: a session there may answer by ending the room, and the deletion of the replicas must
        # not overtake these deltas.
        for edge_id in edges:
            if edge_id != self.me and (peer := self.peers.get(edge_id)) is not None:
                delta = deltas.pop(edge_id, b"") if deltas else b""
                if delta:
                    body = pack_flush(flush, self.transfer.epoch, before, room.seq, delta)
                else:
                    plain = body = plain or pack_flush(flush, self.transfer.epoch, before, room.seq, b"")
                peer.outgoing.put(wire_messages.FLUSH, body)
                self._grant_routes(room, edge_id, items)
        for worker, delta in deltas.items():
            self._send_delta(worker, room, delta, now)
        if self.me in edges:
            self._edges[self.me].on_flush(flush, now)

    def _deltas(self, room: Room) -> dict[int, bytes]:
        """Take what has changed since the last delta, and return the delta for each replica holder of the room."""
        changed = room.take_changed()
        if not changed:
            return {}
        room.advance_revision()
        for session_id in changed:
            if session_id not in room.members:
                self._drop_route(room.id, session_id)
        wanted = {*room.edges, self.transfer.backup_owner(room_key(room.id))} - {self.me}
        if self.transfer.recovering:
            wanted |= room.replica_holders & self.peers.keys()  # until the next ones have it for certain
        part = _encode(reconcile.delta_of(room, changed)) if wanted & room.replica_holders else b""
        full = _encode(reconcile.full_delta(room)) if wanted - room.replica_holders else b""
        deltas = {worker: part if worker in room.replica_holders else full for worker in wanted}
        former_holders = [worker for worker in room.replica_holders - wanted if worker in self.peers]
        if former_holders:
            body = _encode(_deletion_of(room))
            deltas |= dict.fromkeys(former_holders, body)
        room.set_replica_holders(wanted)
        return deltas

    def _send_delta(self, worker: int, room: Room, delta: bytes, now: float) -> None:
        peer = self.peers.get(worker)
        if peer is not None:
            flush = self._shard.make_flush(room, [], now)
            seq = room.flushed_seq  # events for the edges come with a flush
            peer.outgoing.put(wire_messages.FLUSH, pack_flush(flush, self.transfer.epoch, seq, seq, delta))

    def _end_replicas(self, now: float) -> None:
        """Delete the replicas of rooms that are gone."""
        freed = self._shard.take_freed()
        if not freed:
            return
        self._ended.extend(room for room in freed if room.out)
        for room in freed:
            # After a take-over, the replica holders of the previous owner have a record, too. The room's last events
            # are for the edges only, and follow without a delta.
            holders = {*room.end_replicas(), self.transfer.backup_owner(room_key(room.id))}
            for worker in sorted(holders - {self.me}):
                self._send_delta(worker, room, _encode(_deletion_of(room)), now)
            for session_id in room.take_changed():
                self._drop_route(room.id, session_id)

    def _replicate_users(self) -> None:
        """Send the records of changed users to their backup owners."""
        for user_id in sorted(self._shard.context.take_touched_users()):
            user = self._shard.users.get(user_id)
            backup = self.transfer.backup_owner(user_key(user_id))
            before = self._user_replica_holders.pop(user_id, backup)
            holders = {backup}
            if before != backup and self.transfer.recovering:
                holders.add(before)  # until the next one has it for certain
            elif before != backup:
                # The previous one may have swept its replicas before the last record arrived, and would restore the
                # user from that at a later take-over.
                self._replicate_user(before, self._issue_ended_user(user_id))
            if user is None:
                record = self._issue_ended_user(user_id)
            else:
                self._user_replica_holders[user_id] = before if before in holders else backup
                user.advance_revision()
                record = reconcile.user_record(user)
            for holder in sorted(holders):
                self._replicate_user(holder, record)

    def _replicate_user(self, worker: int, record: UserRecord) -> None:
        peer = self.peers.get(worker)
        if peer is not None:
            peer.outgoing.put(wire_messages.USER_REPLICA, wire_messages.encode(record))

    def _issue_ended_user(self, user_id: str) -> UserRecord:
        revision, nothing = self._shard.context.next_version(), (None, None, None)
        return UserRecord(
            user_id=user_id, revision=revision, manual=None, status_message="", privacy_defaults=nothing, sessions=[]
        )

    def user_replica_holder(self, user_id: str) -> int | None:
        """Return the backup owner that has the record of a user owned here; None: it was not sent yet."""
        return self._user_replica_holders.get(user_id)

    def forget_replica_holder(self, user_id: str) -> None:
        """Forget the backup owner that has the user's record, because the user has another owner now."""
        self._user_replica_holders.pop(user_id, None)

    # --- cursor routes --------------------------------------------------------------------------------------------

    def _grant_routes(self, room: Room, edge_id: int, items: list[StreamFrame]) -> None:
        for item in items:
            if item.attach and (member := room.members.get(item.only)) is not None and member.edge == edge_id:
                self.grant_route(room, item.only, edge_id)

    def grant_route(self, room: Room, session_id: str, edge_id: int) -> None:
        """Send an edge the handle of the compiled route for a member's cursors."""
        route = self.cursor_route(room.id, session_id)
        if route is None or edge_id not in self.peers:
            return
        self._drop_route(room.id, session_id)
        self._last_handle += 1
        handle = self._route_handles[(room.id, session_id)] = self._last_handle
        self._route_targets[handle] = (room.id, session_id)
        self._routes[handle] = route
        given = wire_messages.RouteGranted(room.id, session_id, handle, self.transfer.epoch)
        self.peers[edge_id].outgoing.put(wire_messages.ROUTE, wire_messages.encode(given))

    def _drop_route(self, room_id: str, session_id: str) -> None:
        handle = self._route_handles.pop((room_id, session_id), None)
        if handle is not None:
            del self._routes[handle], self._route_targets[handle]

    def resend_snapshots(self, room: Room, edge_id: int, now: float) -> None:
        """Send a new snapshot to all members at an edge that has missed events of the room."""
        for member in room.members.values():
            if member.attached and member.edge == edge_id:
                send_snapshot(room, member, None, now)
        self._shard.changed_room(room, now)

    def flush_now(self, room: Room, now: float) -> None:
        """Flush a room now, whatever its schedule."""
        self._deliver(room, room.take_items(now), now)

    def flush_ended(self, now: float) -> None:
        """Flush the last frames of rooms that are gone, ahead of those of new rooms with the same ids. A session that
        receives them may end another room by what it has held back."""
        while self._ended:
            self.flush_now(self._ended.popleft(), now)

    def drop_routes(self, room: Room) -> None:
        """Drop the cursor routes of a room that has another owner now."""
        for session_id in room.members:
            self._drop_route(room.id, session_id)


def _deletion_of(room: Room) -> RoomDelta:
    return RoomDelta(seq=room.seq, revision=room.revision, head=None, members=[], removed=[], deleted=True)
