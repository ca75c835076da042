"""Moves this worker from one view to the next: it gives up rooms and users, takes over others, and holds commands for
those that move.

view_change.py has the order of the stages. While owners change, commands for keys that move wait here or at the new
owner. No session leaves or is refused because of that, and all other keys are served as usual.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from msgspec import structs

from koko_presence._fastpath.flush_scheduler import CursorRoute
from koko_presence.owner import reconcile
from koko_presence.owner.shard import Shard
from koko_presence.owner.takeover import (
    NONE_COVERED,
    GatheredRoom,
    GatheredUser,
    release_room,
    release_user,
    suspend_sessions_of_lost_edges,
    take_over_room,
    take_over_user,
)
from koko_presence.protocol.commands import AdmitMember, Command, ConfirmMember
from koko_presence.protocol.snapshots import Presence, RoomPresence, RoomRecord, SessionRecord, UserRecord
from koko_presence.rooms.context import EPOCH_BITS
from koko_presence.rooms.room import Room

from . import wire_messages
from .bus import Alarm, EdgePort, Timers
from .peer import PeerConnection
from .placement import Ring, View, room_key, user_key
from .replica_store import ReplicaStore
from .stream_fence import StreamFence
from .unconfirmed import Unconfirmed
from .view_change import QUIESCED, STABLE, SYNCED, TRANSFERRED, ViewChange
from .wire_messages import key_of

log = logging.getLogger("koko_presence.transfer")

MAX_AWAITING_VIEW = 10_000  # messages that wait for a view


class TransferBus(Protocol):
    """What a change of owners needs of its worker's bus: see `ClusterBus`."""

    me: int
    received_seqs: dict[str, int]

    @property
    def shard(self) -> Shard: ...

    @property
    def edge(self) -> EdgePort: ...

    @property
    def peers(self) -> Mapping[int, PeerConnection]: ...

    @property
    def replicas(self) -> ReplicaStore: ...

    @property
    def fence(self) -> StreamFence: ...

    def send(self, command: Command, now: float) -> None: ...

    def dispatch_effects(self, now: float) -> None: ...

    def flush_now(self, room: Room, now: float) -> None: ...

    def flush_ended(self, now: float) -> None: ...

    def resend_snapshots(self, room: Room, edge_id: int, now: float) -> None: ...

    def cursor_route(self, room_id: str, session_id: str) -> CursorRoute | None: ...

    def grant_route(self, room: Room, session_id: str, edge_id: int) -> None: ...

    def drop_routes(self, room: Room) -> None: ...

    def user_replica_holder(self, user_id: str) -> int | None: ...

    def forget_replica_holder(self, user_id: str) -> None: ...

    def on_peer_messages(self, sender: int, found: list[tuple[int, bytes]]) -> None: ...


class OwnershipTransfer:
    """The change of owners at one worker. Written by itself, from views and peer messages. `unacknowledged` are the
    commands that lost workers have not acknowledged."""

    def __init__(
        self, bus: TransferBus, clock: Callable[[], float], timers: Timers, on_serving: Callable[[int], None]
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._on_serving = on_serving
        self._change = ViewChange(bus.me)
        self._alarm = Alarm(timers, clock, self._on_alarm)
        self._owners: Ring | None = None  # the owners that commands go to
        self._held: deque[Command] = deque()  # for owners that are giving up the key
        self._awaiting_ownership: deque[Command] = deque()  # for this worker, which does not own the key yet
        # Messages of workers that follow a view which has not arrived here.
        self._awaiting_view: list[tuple[int, int, Any]] = []
        self._rooms: dict[str, GatheredRoom] = {}
        self._users: dict[str, GatheredUser] = {}
        self._gathered: set[str] = set()  # the keys of both
        self._lost_workers = False
        self._gave_up_before = False  # a worker was given up before a later view made this change begin again
        self._unconfirmed = Unconfirmed()
        self._recovered_rooms: set[str] = set()  # rooms taken over without their owner's final record, or before it
        self.unacknowledged: list[Command] = []

    @property
    def epoch(self) -> int:
        """The epoch by which flushes are sent."""
        return self._owners.view.epoch if self._owners is not None else 0

    @property
    def target(self) -> View:
        """The owners of the newest view. Errors: IndexError before the first one."""
        return self._change.target.view

    @property
    def recovering(self) -> bool:
        """Whether a change of owners is under way."""
        return self._change.stage != STABLE

    @property
    def _gave_up(self) -> bool:
        """Whether a worker was given up since owners were last stable; between changes, in the last one."""
        return self._gave_up_before or self._change.gave_up

    def stop(self) -> None:
        """Stop the timer."""
        self._alarm.stop()

    @property
    def holds_commands(self) -> bool:
        """Whether commands of other workers wait here, which must not be acknowledged yet."""
        return self.recovering or bool(self._awaiting_view)

    @property
    def settled_epoch(self) -> int:
        """The highest epoch whose owners are known here; below the newest view's while owners change."""
        return self._change.epoch - 1 if self.recovering else self.epoch

    def owners_of(self, key: str) -> set[int]:
        """Return the owner of `key`; while owners change, all its owners from the first to the newest view of the
        change."""
        assert self._owners is not None
        return {ring.owner(key) for ring in (self._change.rings if self.recovering else [self._owners])}

    def has_reported(self, key: str) -> bool:
        """Return whether `key` changes its owner, and its next owner has received which sessions are connected here."""
        return self._change.stage == SYNCED and self._change.moved(key)

    def is_owner(self, worker: int, key: str, epoch: int) -> bool:
        """Return whether `worker` owns `key` by the newest view here; True when `epoch`, the view that it follows, is
        newer than that."""
        return epoch > self._change.epoch or self._change.target.owner(key) == worker

    def backup_owner(self, key: str) -> int:
        """Return the backup owner of `key`, which holds a replica besides the edges with members."""
        return self._owners.backup_owner(key) if self._owners is not None else self._bus.me

    # --- routing of commands --------------------------------------------------------------------------------------

    def locate(self, key: str, command: Command) -> int | None:
        """Return the worker that a command goes to now; None when it waits here."""
        if self._owners is None:
            self._held.append(command)
            return None
        owner = self._owners.owner(key)
        stage = self._change.stage
        if stage == STABLE or not self._change.moved(key):
            if key not in self._gathered:
                return owner
            # A late edge has reported the key: the command waits until the report is applied.
            self._awaiting_ownership.append(command)
            return None
        if owner == self._bus.me:
            if stage == QUIESCED and not self._change.has_released(key):
                return owner  # owned since before the change, and not given up yet
            self._awaiting_ownership.append(command)
        else:
            self._held.append(command)
        return None

    def on_command(self, sender: int, command: Command, now: float) -> None:
        """Handle a command from another worker, by whose view this worker is the owner or about to be."""
        if self._change.rings:
            key = key_of(command)
            target = self._change.target.owner(key)
            if target != self._bus.me and self._hold_for_view(sender, wire_messages.COMMAND, command):
                return
            owner = self._owners.owner(key) if self._owners is not None else None
            if self._change.stage == QUIESCED and owner != self._bus.me and target == self._bus.me:
                self._awaiting_ownership.append(command)
                return
        self._bus.send(command, now)

    # --- stages ---------------------------------------------------------------------------------------------------

    def begin(self, view: View, lost: list[int], now: float) -> None:
        """Begin the change to a new view."""
        self._change.forget(lost)
        self._unconfirmed.forget(lost)
        self._lost_workers = self._lost_workers or bool(lost)
        self._gave_up_before = self.recovering and self._gave_up
        self._change.begin(view, now)
        if self._owners is None:
            self._own_by(self._change.rings[0])
            self._lost_workers = True  # unknown: a new worker may replace a lost one
        ahead, self._awaiting_view = self._awaiting_view, []
        for sender, kind, message in ahead:
            if kind == wire_messages.COMMAND:
                self.on_command(sender, message, now)
            else:
                self.on_peer_message(sender, kind, message, now)
        self._send_stage(QUIESCED, now)
        self._advance(now)

    def on_peer_message(self, sender: int, kind: int, message: Any, now: float) -> None:
        """Handle a message of another worker about the change of owners."""
        if kind == wire_messages.STAGE:
            self._change.note(sender, message.epoch, message.stage)
            if message.stage == SYNCED and self._unconfirmed.settle(self._bus.shard, sender, message.epoch, now):
                self._bus.dispatch_effects(now)
            self._advance(now)
            if message.stage == SYNCED and not self.recovering:
                self._sweep_replicas()
            return
        key = (
            user_key(message.user_id)
            if kind in (wire_messages.USER, wire_messages.SESSIONS)
            else room_key(message.room_id)
        )
        assert self._owners is not None
        owner = self._owners.owner(key)
        if owner != self._bus.me and not (self.recovering and self._change.target.owner(key) == self._bus.me):
            if not self._hold_for_view(sender, kind, message):
                # The sender's view is older. The owner by the newest view gets it: the previous one may be gone.
                self._send_to_peer(self._change.target.owner(key), kind, message)
            return
        if self._is_outdated(kind, message):
            return
        if kind == wire_messages.MEMBERSHIP_ENDS:
            self._bus.shard.note_ends(message.room_id, message.ends, now)
        elif kind == wire_messages.ROOM:
            self._gather_room(message.room_id).add_record(message.holder, message.record)
        elif kind == wire_messages.USER:
            self._gather_user(message.user_id).add_record(message)
        elif kind == wire_messages.PRESENCE:
            self._gather_room(message.room_id).add_presence(message.presence)
            self._unconfirmed.confirm_room(message.room_id, message.presence)
        elif kind == wire_messages.SESSIONS:
            self._gather_user(message.user_id).add_sessions(
                message.edge, message.sessions, message.newest, message.epoch
            )
            self._unconfirmed.confirm_user(message.user_id, message.edge, message.sessions)
        if not self.recovering:
            self._take_over(now)

    def _is_outdated(self, kind: int, message: Any) -> bool:
        """Return whether a message is an edge's report of its sessions by an earlier view, and the edge has reported by
        the newest one since, perhaps also that a connection has ended. It comes late by way of a worker that was to own
        the key by the earlier view and was stopped meanwhile."""
        if kind == wire_messages.SESSIONS:
            edge, epoch = message.edge, message.epoch
        elif kind == wire_messages.PRESENCE:
            edge, epoch = message.presence.edge, message.presence.epoch
        else:
            return False
        return not self.recovering and epoch < self._change.epoch and edge in self._change.reporting_edges()

    def _hold_for_view(self, sender: int, kind: int, message: Any) -> bool:
        """Return whether a message for another worker's key waits for a newer view, which its sender follows: by the
        present view it would go to a worker that may be gone."""
        if not self._change.is_ahead(sender) or len(self._awaiting_view) >= MAX_AWAITING_VIEW:
            return False
        self._awaiting_view.append((sender, kind, message))
        return True

    def _on_alarm(self) -> None:
        now = self._clock()
        if self.recovering and now >= self._change.deadline:
            log.warning("view change timed out", extra={"workers": sorted(self._change.missing())})
        self._advance(now)

    def _advance(self, now: float) -> None:
        while self._change.may_advance(now):
            self._change.give_up_missing()
            if self._change.stage == QUIESCED:
                self._release(now)
                self._send_stage(TRANSFERRED, now)
            elif self._change.stage == TRANSFERRED:
                self._report_sessions()
                self._send_stage(SYNCED, now)
            else:
                self._settle(now)
        if self.recovering:
            self._alarm.stop()
            self._alarm.schedule(max(self._change.deadline, now + 0.001))

    def _own_by(self, ring: Ring) -> None:
        self._owners = ring
        self._bus.shard.context.begin_epoch(ring.view.epoch)

    def _send_stage(self, stage: int, now: float) -> None:
        self._change.enter(stage, now)
        body = wire_messages.encode(wire_messages.Stage(self._change.epoch, stage))
        for peer in self._bus.peers.values():
            peer.outgoing.put(wire_messages.STAGE, body)

    def _release(self, now: float) -> None:
        """Flush and send away the rooms and users that this worker gives up, and its replicas of others that move."""
        bus, moved = self._bus, self._change.moved
        going = self._flush_moved(now)
        self._replicate_to_next_backups(now)
        records = {room_id: record for room_id, record in bus.replicas.rooms.items() if moved(room_key(room_id))}
        bus.edge.drop_routes([room.id for room in going])
        for room in going:
            bus.drop_routes(room)
            if room.id in bus.edge.subscriptions:
                bus.received_seqs[room.id] = room.seq
            records[room.id] = record = release_room(bus.shard, room)
            # in case the next owner is lost at once
            bus.replicas.rooms[room.id] = structs.replace(record, final=False)
        users = {user_id: record for user_id, record in bus.replicas.users.items() if moved(user_key(user_id))}
        for user_id in [user_id for user_id in bus.shard.users if moved(user_key(user_id))]:
            users[user_id] = bus.replicas.users[user_id] = release_user(bus.shard, user_id)
            bus.forget_replica_holder(user_id)
        bus.shard.watchers.release(lambda room_id: moved(room_key(room_id)))
        owners = self._change.target
        self._own_by(owners)
        self._change.release()
        for room_id, ends in bus.shard.ends(now).items():  # a replica holder may have sent an older record
            if moved(room_key(room_id)):
                self._send_to_peer(
                    self._owner_of_room(room_id),
                    wire_messages.MEMBERSHIP_ENDS,
                    wire_messages.MembershipEnds(room_id, ends),
                )
        for room_id, record in records.items():
            self._give_room(room_id, record, bus.me)
        for user_id, user in users.items():
            self._give_user(user_id, user)
        for room_id in [room_id for room_id in self._rooms if self._owner_of_room(room_id) != bus.me]:
            self._pass_on_room(room_id, self._rooms.pop(room_id))
        for user_id in [user_id for user_id in self._users if owners.owner(user_key(user_id)) != bus.me]:
            self._pass_on_user(user_id, self._users.pop(user_id))
        self._gathered = {*map(room_key, self._rooms), *map(user_key, self._users)}

    def _flush_moved(self, now: float) -> list[Room]:
        """Flush the rooms that move until nothing is left to send, and return them. A session whose join is answered by
        that sends what it has held back, which may change any room, or end it. A room that has ended sends its last
        frames first: a new one of the same id may be here already."""
        flushed: set[Room] = set()
        while True:
            self._bus.flush_ended(now)
            rooms = [room for room in self._bus.shard.rooms.values() if self._change.moved(room_key(room.id))]
            for room in rooms:
                reconcile.release_waiting(room, now)
            waiting = [room for room in rooms if room.out or room.changed or room not in flushed]
            if not waiting:
                return rooms
            flushed.update(waiting)
            for room in waiting:
                self._bus.flush_now(room, now)

    def _replicate_to_next_backups(self, now: float) -> None:
        """Send the rooms and users that stay here to their next backup owners. The previous ones drop their replicas at
        the end of the change, when each worker has received this; a flush with a replica may come later."""
        bus, next_ring = self._bus, self._change.target
        for room in list(bus.shard.rooms.values()):
            backup = next_ring.backup_owner(room_key(room.id))
            if self._change.moved(room_key(room.id)) or backup == bus.me or backup in room.replica_holders:
                continue
            if room.out or room.changed:
                bus.flush_now(room, now)
            record = structs.replace(reconcile.record_of(room), final=False)
            self._send_to_peer(backup, wire_messages.ROOM_REPLICA, wire_messages.RoomReplica(room.id, bus.me, record))
        for user in bus.shard.users.values():
            backup = next_ring.backup_owner(user_key(user.id))
            if not self._change.moved(user_key(user.id)) and backup not in (bus.me, bus.user_replica_holder(user.id)):
                self._send_to_peer(backup, wire_messages.USER_REPLICA, reconcile.user_record(user))

    def _report_sessions(self) -> None:
        """Send the next owners which sessions are connected here."""
        bus, epoch = self._bus, self._change.epoch
        for room_id, sessions in bus.edge.presences().items():
            if self._change.moved(room_key(room_id)):
                presence = Presence(edge=bus.me, sessions=sessions, epoch=epoch)
                owner = self._owner_of_room(room_id)
                if owner == bus.me:
                    self._gather_room(room_id).add_presence(presence)
                else:
                    self._send_to_peer(owner, wire_messages.PRESENCE, RoomPresence(room_id=room_id, presence=presence))
                bus.edge.drop_routes([room_id])
        for user_id, records in bus.edge.session_records().items():
            if self._change.moved(user_key(user_id)):
                assert self._owners is not None
                owner = self._owners.owner(user_key(user_id))
                if owner == bus.me:
                    self._gather_user(user_id).add_sessions(bus.me, records, bus.edge.newest, epoch)
                else:
                    message = wire_messages.EdgeSessions(user_id, bus.me, records, bus.edge.newest, epoch)
                    self._send_to_peer(owner, wire_messages.SESSIONS, message)

    def note_opened(self, user_id: str, version: int, record: Callable[[], SessionRecord], now: float) -> None:
        """Report a session that has just been opened here with session version `version`, if its user's next owner
        would miss it: an owner that stalled has opened it by an earlier view, after this edge had reported its
        sessions. `record` returns the session's record."""
        change, key = self._change, user_key(user_id)
        is_moving = change.moved(key)
        if is_moving and change.stage != SYNCED:
            return  # the report is still to come
        if version >> EPOCH_BITS >= (change.epoch if is_moving else change.rings[0].view.epoch):
            return  # opened by the present owner
        assert self._owners is not None
        owner = self._owners.owner(key)
        message = wire_messages.EdgeSessions(user_id, self._bus.me, [record()], NONE_COVERED, change.epoch)
        if owner != self._bus.me:
            self._send_to_peer(owner, wire_messages.SESSIONS, message)
            return
        self._gather_user(user_id).add_sessions(message.edge, message.sessions, message.newest, message.epoch)
        if not self.recovering:
            self._take_over(now)

    def _settle(self, now: float) -> None:
        """Finish the change: all reports have arrived, or their time is up. Apply the gathered records and reports,
        then the waiting commands, then the early flushes."""
        bus = self._bus
        self._take_over(now)
        moved = self._change.moved
        confirmations = _confirmations(
            bus.shard.rooms.values(), lambda room, user: room in self._recovered_rooms or moved(user_key(user))
        )
        self._recovered_rooms.clear()
        watched_rooms = [room_id for room_id in bus.edge.watched_rooms if moved(room_key(room_id))]
        missed_rooms = {
            room_id for room_id in bus.edge.subscriptions if self._change.may_have_missed(room_key(room_id))
        }
        self._change.settle()
        self._alarm.stop()
        suspend_sessions_of_lost_edges(bus.shard, self._change.target.view.ids, self._lost_workers, now)
        retry = self._lost_workers or self._change.gave_up
        self._lost_workers = False
        self._renew_replicas(now)
        unacknowledged = [command for command in self.unacknowledged if not self._has_ended(command)]
        waiting = [*unacknowledged, *self._held, *self._awaiting_ownership]
        self.unacknowledged = []
        self._held.clear()
        self._awaiting_ownership.clear()
        for command in [*waiting, *confirmations]:
            bus.send(command, now)
        bus.edge.repeat_watches(watched_rooms, now)
        if retry:
            bus.edge.retry_pending(now)
        bus.dispatch_effects(now)
        bus.fence.settle(missed_rooms, now)
        self._on_serving(self._change.epoch)

    def _has_ended(self, command: Command) -> bool:
        """Return whether an unacknowledged command of a lost worker is an `AdmitMember` for a membership that has ended
        since, by the state of its user's owner, if that is this worker. The `RemoveMember` may have gone to another
        owner of the room, and been acknowledged there."""
        if not isinstance(command, AdmitMember) or command.by_call:  # the room must answer a call
            return False
        user_id, session_id = command.enter.user_id, command.enter.session_info.session_id
        if self._change.target.owner(user_key(user_id)) != self._bus.me:
            return False
        user = self._bus.shard.users.get(user_id)
        session = None if user is None else user.sessions.get(session_id)
        return session is None or session.rooms.get(command.room_id) != command.membership_id

    def _take_over(self, now: float) -> None:
        """Restore the gathered rooms and users, or apply late reports to those that exist."""
        bus, reporting_edges = self._bus, self._change.reporting_edges()
        rooms, self._rooms = self._rooms, {}
        users, self._users = self._users, {}
        self._gathered.clear()
        # A late record is from an owner that stalled: the last changes sent to it may be in no other record.
        delayed = [] if self.recovering else [room_id for room_id, room in rooms.items() if room.best is not None]
        for room_id, room in rooms.items():
            made = room_id not in bus.shard.rooms
            if made and (room.best is None or not room.best.final):
                self._recovered_rooms.add(room_id)  # the last events of its previous owner may be lost
            elif not made and self.recovering and room.best is not None:
                self._recovered_rooms.add(room_id)  # a late record, during the next change
            take_over_room(bus.shard, room_id, room, reporting_edges, self._change.target.view.ids, now)
            if made:
                self._unconfirmed.note_room(bus.shard, room_id, room.presences, reporting_edges)
                # An edge that was given up may not have received the last events, although the record has them: their
                # owner has not waited for it, and may be gone before they arrive.
                is_unsure = room_id in self._recovered_rooms or self._gave_up
                if is_unsure and (restored := bus.shard.rooms.get(room_id)) is not None:
                    restored.repeat_private(now, room.users_who_missed_private_frames(restored))
            bus.replicas.rooms.pop(room_id, None)
            received_seq = bus.received_seqs.pop(room_id, None)
            taken = bus.shard.rooms.get(room_id)
            if taken is not None:
                lagging_edges = room.lagging_workers(taken.flushed_seq)
                # The last events of its previous owner had not arrived here.
                if received_seq is not None and received_seq != taken.flushed_seq:
                    lagging_edges = lagging_edges | {bus.me}
                if made and self._may_show_the_gone(room, taken):
                    lagging_edges = lagging_edges | set(taken.edges_with_members())
                for edge_id in sorted(lagging_edges):
                    bus.resend_snapshots(taken, edge_id, now)
                for _, presence in sorted(room.presences.items()):  # after the snapshots, which introduce their members
                    reconcile.show_last_cursors(taken, presence, now)
                self._grant_routes(room_id)
        for user_id, user in users.items():
            made = user_id not in bus.shard.users
            edges = self._change.target.view.ids
            take_over_user(bus.shard, user_id, user, reporting_edges, edges, delayed=not self.recovering, now=now)
            if made:
                self._unconfirmed.note_user(bus.shard, user_id, user.sessions_by_edge, reporting_edges)
            bus.replicas.users.pop(user_id, None)
        if not self.recovering:
            found = [bus.shard.rooms[room_id] for room_id in delayed if room_id in bus.shard.rooms]
            for confirmation in _confirmations(found, lambda room, user: True):
                bus.send(confirmation, now)
            bus.dispatch_effects(now)

    def _may_show_the_gone(self, gathered: GatheredRoom, taken: Room) -> bool:
        """Return whether clients in a restored room may see members that are not there for them any more, although
        their edges have received all numbers of the room."""
        if gathered.best is None:
            return False
        # Without visible members the room has no numbers. A lost owner has not sent all edges that the last one left.
        if not taken.shown and taken.id in self._recovered_rooms:
            return True
        # Their leaves were sent by an owner that stalled, whose flushes the stream fence drops.
        return not gathered.best.members.keys() <= taken.members.keys()

    def _grant_routes(self, room_id: str) -> None:
        room = self._bus.shard.rooms[room_id]
        for member in room.members.values():
            if member.attached and member.edge == self._bus.me:
                route = self._bus.cursor_route(room_id, member.session_id)
                if route is not None:
                    self._bus.edge.on_route(member.session_id, route)
            elif member.attached:
                self._bus.grant_route(room, member.session_id, member.edge)

    def _renew_replicas(self, now: float) -> None:
        """Replicate the rooms whose replica holders have changed with the new view, and all users, and sweep the
        replicas here."""
        bus = self._bus
        for room in bus.shard.rooms.values():
            room.keep_replica_holders(bus.peers.keys())
            # A worker that is no longer a replica holder has dropped its replica, and may be one again by the next
            # view.
            if {self.backup_owner(room_key(room.id)), *room.edges} - {bus.me} != room.replica_holders or not room.edges:
                bus.shard.changed_room(room, now)
        bus.shard.context.touch_users(bus.shard.users)
        self._sweep_replicas()

    def _sweep_replicas(self) -> None:
        """Drop the replicas that other workers hold by this view. Those of an owner that has not reported by
        this view are kept: it may be gone, with records that no other worker has."""
        bus, silent = self._bus, self._change.target.view.ids - self._change.reporting_edges()

        def holds(key: str) -> bool:
            return self.backup_owner(key) == bus.me or (bool(silent) and self._change.target.owner(key) in silent)

        bus.replicas.sweep(
            lambda room_id: room_id in bus.edge.subscriptions or holds(room_key(room_id)),
            lambda user_id: holds(user_key(user_id)),
        )

    # --- gathered records and reports -----------------------------------------------------------------------------

    def _owner_of_room(self, room_id: str) -> int:
        assert self._owners is not None
        return self._owners.owner(room_key(room_id))

    def _gather_room(self, room_id: str) -> GatheredRoom:
        self._gathered.add(room_key(room_id))
        return self._rooms.setdefault(room_id, GatheredRoom())

    def _gather_user(self, user_id: str) -> GatheredUser:
        self._gathered.add(user_key(user_id))
        return self._users.setdefault(user_id, GatheredUser())

    def _give_room(self, room_id: str, record: RoomRecord, holder: int) -> None:
        owner = self._owner_of_room(room_id)
        if owner == self._bus.me:
            self._gather_room(room_id).add_record(holder, record)
        else:
            self._send_to_peer(owner, wire_messages.ROOM, wire_messages.RoomReplica(room_id, holder, record))

    def _give_user(self, user_id: str, record: UserRecord) -> None:
        assert self._owners is not None
        owner = self._owners.owner(user_key(user_id))
        if owner == self._bus.me:
            self._gather_user(user_id).add_record(record)
        else:
            self._send_to_peer(owner, wire_messages.USER, record)

    def _pass_on_room(self, room_id: str, room: GatheredRoom) -> None:
        """Send on what was gathered for a room that has yet another owner by now."""
        if room.best is not None:
            self._give_room(room_id, room.best, self._bus.me)
        for presence in room.presences.values():
            room_presence = RoomPresence(room_id=room_id, presence=presence)
            self._send_to_peer(self._owner_of_room(room_id), wire_messages.PRESENCE, room_presence)

    def _pass_on_user(self, user_id: str, user: GatheredUser) -> None:
        assert self._owners is not None
        if user.best is not None:
            self._give_user(user_id, user.best)
        for edge, records in user.sessions_by_edge.items():
            message = wire_messages.EdgeSessions(user_id, edge, records, user.newest[edge], user.epochs[edge])
            self._send_to_peer(self._owners.owner(user_key(user_id)), wire_messages.SESSIONS, message)

    def _send_to_peer(self, worker: int, kind: int, message: RoomRecord | UserRecord | SessionRecord | Any) -> None:
        peer = self._bus.peers.get(worker)
        if peer is not None:
            peer.outgoing.put(kind, wire_messages.encode(message))


def _confirmations(rooms: Iterable[Room], wanted: Callable[[str, str], bool]) -> list[Command]:
    """Return the commands by which rooms report their members to new owners of users. The previous owner of a user may
    have received the end of a session, and be lost with it. Leases are reported in any case: no edge reports them, and
    the owner of a room may be lost before it does."""
    return [
        ConfirmMember(
            user_id=member.user_id,
            room_id=room.id,
            session_id=member.session_id,
            membership_id=member.membership_id,
            connection=member.connection,
            connected=member.connected,
            grace_until=member.grace_until,
            profile=member.person.profile,
            session_info=reconcile.session_info_of(member),
        )
        for room in rooms
        for member in room.members.values()
        if member.leased or wanted(room.id, member.user_id)
    ]
