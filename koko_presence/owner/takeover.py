"""Gives up rooms and users that move to another owner, and takes over those that move here. Writes the rooms and users
of the `Shard`.

The inputs of a take-over are gathered first: the record of the old owner, the replicas of other workers, and the
reports of the edges, which hold the connections. Then each room or user is restored in one step, so that no client
receives an intermediate state.
"""

from collections.abc import Collection, Iterable, Mapping, Set

from msgspec import structs

from koko_presence.protocol.edge_messages import SessionLost, SessionReplaced
from koko_presence.protocol.snapshots import MemberRecord, Presence, RoomRecord, SessionRecord, UserRecord
from koko_presence.rooms import room_settings, webhook_recorder
from koko_presence.rooms.room import Room
from koko_presence.users.user import User

from . import reconcile
from .shard import Shard

HIGHEST = 1 << 62  # above all connection numbers and versions
NONE_COVERED = 0  # below all connection numbers: the `newest` of a report that says nothing about other sessions
RESUME_EXTENSION_S = 1.0  # for which a resume token is accepted beyond the grace period after an owner was lost


class GatheredRoom:
    """The gathered records and reports of one room that this worker is to own."""

    __slots__ = ("best", "competing_rooms", "created_at", "granted", "invisible", "presences", "seqs")

    def __init__(self) -> None:
        self.best: RoomRecord | None = None
        # superseded by `best`: the same room as another owner has created it
        self.competing_rooms: list[RoomRecord] = []
        self.granted: dict[str, int] = {}  # by session: the version of its permissions in the record of its edge
        self.invisible: dict[str, str] = {}  # sessions that are invisible in any of the records, and their users
        self.presences: dict[int, Presence] = {}
        self.seqs: dict[int, int] = {}  # the room's `seq` at each worker
        self.created_at: dict[int, float] = {}  # by worker: when the room last began or ended for others, there

    def lagging_workers(self, flushed_seq: int) -> set[int]:
        """Return the workers that have missed events of the room: their `seq` is below `flushed_seq`, or the room has
        ended and begun anew for others since, with a `seq` from 0."""
        created_at = 0.0 if self.best is None else self.best.head.created_at
        return {
            worker for worker, seq in self.seqs.items() if seq < flushed_seq or self.created_at[worker] != created_at
        }

    def users_who_missed_private_frames(self, room: Room) -> set[str]:
        """Return the users of the restored `room` of whom an edge has missed what has no `seq`: the leave of an
        invisible session, which is in some record and not in the room, or the snapshot with a session's new
        permissions. The record of an edge is what its clients have received."""
        may_see_the_gone = {user_id for session_id, user_id in self.invisible.items() if session_id not in room.members}
        return may_see_the_gone | {
            member.user_id
            for session_id, member in room.members.items()
            if self.granted.get(session_id, member.granted) < member.granted
        }

    def add_presence(self, presence: Presence) -> None:
        """Add an edge's report, in place of an earlier one. A report may arrive after a later one, by way of a worker
        that was to own the room by an earlier view."""
        known = self.presences.get(presence.edge)
        if known is None or presence.epoch >= known.epoch:
            self.presences[presence.edge] = presence

    def add_record(self, sender: int, record: RoomRecord) -> None:
        """Add a record. The one with the highest revision decides which members the room has."""
        self.seqs[sender] = max(record.seq, self.seqs.get(sender, 0))
        self.created_at[sender] = record.head.created_at
        for session_id, member in record.members.items():
            if member.invisible or member.disabled:
                self.invisible[session_id] = member.user_id
            if member.edge == sender:
                self.granted[session_id] = member.granted
        if self.best is None:
            self.best = record
            return
        other = record
        if record.revision > self.best.revision:
            self.best, other = record, self.best
        if other.head.created_at != self.best.head.created_at:
            self.competing_rooms.append(other)


class GatheredUser:
    """The gathered records and reports of one user that this worker is to own."""

    __slots__ = ("best", "epochs", "newest", "sessions_by_edge")

    def __init__(self) -> None:
        self.best: UserRecord | None = None
        self.sessions_by_edge: dict[int, list[SessionRecord]] = {}
        self.newest: dict[int, int] = {}  # by edge: up to which connection its report goes
        self.epochs: dict[int, int] = {}  # by edge: the view by which it has reported

    def add_record(self, record: UserRecord) -> None:
        if self.best is None or record.revision > self.best.revision:
            self.best = record

    def add_sessions(self, edge: int, records: list[SessionRecord], newest: int, epoch: int = 0) -> None:
        """Add an edge's report, in place of an earlier one. A report may arrive after a later one, by way of a worker
        that was to own the user by an earlier view. `newest` is NONE_COVERED in the report of a session that was opened
        after the edge had reported: it is added to the earlier report."""
        known = self.sessions_by_edge.get(edge)
        if epoch < self.epochs.get(edge, 0):
            return
        if known is not None and newest == NONE_COVERED:
            opened = {record.session_id for record in records}
            self.sessions_by_edge[edge] = [each for each in known if each.session_id not in opened] + records
        else:
            self.sessions_by_edge[edge], self.newest[edge], self.epochs[edge] = records, newest, epoch


def release_room(shard: Shard, room: Room) -> RoomRecord:
    """Remove a room that moves to another owner, and return its record; it must have been flushed."""
    reconcile.forget_deadlines(room)
    del shard.rooms[room.id]
    room.release()
    room.advance_revision()
    return reconcile.record_of(room)


def release_user(shard: Shard, user_id: str) -> UserRecord:
    """Remove a user that moves to another owner, and return its record."""
    user = shard.users.pop(user_id)
    for session_id in user.sessions:
        shard.context.deadlines.cancel(("session", user_id, session_id))
    user.advance_revision()
    return reconcile.user_record(user)


def take_over_room(
    shard: Shard,
    room_id: str,
    gathered: GatheredRoom,
    reporting_edges: Collection[int],
    edges: Collection[int],
    now: float,
) -> None:
    """Restore a room. `reporting_edges` are the edges that have reported all their sessions, so that a session missing
    there is not connected; `edges` are all workers of the view. To a room that exists here only the edges' reports are
    applied."""
    room, best = shard.rooms.get(room_id), gathered.best
    made = room is None
    if room is None:
        room = _restored(shard, room_id, gathered, now)
        if room is None:
            return
        if best is not None:
            room_settings.note_default_mode(room, best.head.control_mode, now)
    elif best is not None:
        for record in (best, *gathered.competing_rooms):
            if record.revision > room.restored_revision:  # of an owner that stalled
                _record_competing_room(shard, room, record, now)
    lost: dict[int, set[str]] = {}
    silent = {edge: Presence(edge=edge, sessions={}) for edge in (reporting_edges if made else ())}
    for edge, presence in sorted((silent | gathered.presences).items()):
        lost[edge] = set(reconcile.reconcile(room, presence, edges, now, delayed=not made))
    _send_session_lost(shard, lost)
    for member in list(room.members.values()):  # the back end may have switched presence while the room moved [Q11]
        room.apply_user_presence(member, now)
    shard.changed_room(room, now)


def _restored(shard: Shard, room_id: str, gathered: GatheredRoom, now: float) -> Room | None:
    """Restore the room from the newest record, without the members whose membership has ended here since: those leaves
    that the room has not sent are sent now. Return None when there is no record, or when all its members have left,
    which has ended the room."""
    record = gathered.best
    members = () if record is None else record.members.values()
    ended = [
        member for member in members if member.membership_id <= shard.ended(room_id, member.session_id).membership_id
    ]
    gone = {member.session_id for member in ended}
    if record is None or (gone and gone == record.members.keys()):
        _send_session_lost(
            shard, {edge: presence.sessions.keys() - gone for edge, presence in gathered.presences.items()}
        )
        if record is not None:
            _end_room(shard, room_id, record, ended, gathered.seqs, now)
        return None
    missed = {member.session_id for member in ended if _is_unsent(shard, room_id, member)}
    present = {each: member for each, member in record.members.items() if each not in gone or each in missed}
    seq = max(gathered.seqs.values())
    room = reconcile.restore_room(room_id, structs.replace(record, members=present), seq, shard.context, now)
    shard.rooms[room_id] = room
    for session_id in sorted(missed):
        room.remove(room.members[session_id], shard.ended(room_id, session_id).reason, now)
        shard.note_end_sent(room_id, session_id, now)
    for competing in gathered.competing_rooms:
        _record_competing_room(shard, room, competing, now)
    shard.repeat_entries_after_competing_end(room, now)
    return room


def _record_competing_room(shard: Shard, room: Room, record: RoomRecord, now: float) -> None:
    """Record webhook events for a room that two owners have created, of which `record` is given up: the leaves of the
    members that were only in `record`. If that room was created later, its `room_created` has cleared the entries of
    `room`: record them once more."""
    _record_missed_leaves(shard, room, (each for key, each in record.members.items() if key not in room.members), now)
    created_at = record.head.created_at
    if created_at > room.created_at:
        webhook_recorder.entered_before_creation(room, created_at, created_at, now)


def _record_missed_leaves(shard: Shard, room: Room, ended: Iterable[MemberRecord], now: float) -> None:
    """Record the leaves of members whose entry was reported after the end of their last membership, by an owner that
    stalled and then handled older commands."""
    for member in ended:
        if _is_unsent(shard, room.id, member):
            webhook_recorder.left_with_its_owner(room, member, now)
            shard.note_end_sent(room.id, member.session_id, max(now, member.joined_at))


def _is_unsent(shard: Shard, room_id: str, member: MemberRecord) -> bool:
    """Return whether the room has not sent the leave of this membership, or an earlier one of the session only."""
    return member.joined_at > shard.ended(room_id, member.session_id).notified_at


def _end_room(
    shard: Shard,
    room_id: str,
    record: RoomRecord,
    ended: Collection[MemberRecord],
    seqs: Mapping[int, int],
    now: float,
) -> None:
    """End a room whose recorded members have all left here since. The workers in `seqs` have records of it, each with
    this `seq`, which are deleted: the deletion that the previous owner has sent may come too late. Record webhook
    events: its creation may have been reported once more."""
    empty = structs.replace(record, members={}, head=structs.replace(record.head, controller=None, requests=[]))
    room = reconcile.restore_room(room_id, empty, max(seqs.values()), shard.context, now)
    reconcile.forget_deadlines(room)
    room.set_replica_holders(set(seqs))
    shard.delete_replicas(room)
    if shard.context.webhook_sink is None:
        return
    made_since = record.head.created_at > max(shard.ended(room_id, member.session_id).notified_at for member in ended)
    _record_missed_leaves(shard, room, ended, now)
    if made_since:
        webhook_recorder.emptied(room, now)


def _send_session_lost(shard: Shard, sessions: Mapping[int, Set[str]]) -> None:
    for edge, lost in sorted(sessions.items()):
        for session_id in sorted(lost):
            shard.context.add_effect((edge, SessionLost(session_id=session_id)))


def take_over_user(
    shard: Shard,
    user_id: str,
    gathered: GatheredUser,
    reporting_edges: Collection[int],
    edges: Collection[int],
    *,
    delayed: bool,
    now: float,
) -> None:
    """Restore a user. `reporting_edges` are the edges that have reported all their sessions, so that a session missing
    there is not connected; `edges` are all workers of the view. `delayed`: the user was already reported to rooms as
    unknown."""
    delayed = delayed or shard.was_denied(user_id)
    user = shard.users.get(user_id)
    made = user is None
    if user is None:
        user = shard.users[user_id] = reconcile.restore_user(user_id, gathered.best, shard.context, now)
    stale: list[SessionRecord] = []
    changed = False
    if not made and gathered.best is not None:  # it may have a later connection, but also sessions that have ended
        changed = reconcile.merge_delayed_record(user, gathered.best)
        reconcile.merge_delayed_privacy(user, gathered.best)
        reconcile.merge_delayed_rooms(user, gathered.best)
        stale = [
            record
            for record in gathered.best.sessions
            if record.connected
            and not record.lease_until
            and record.session_version > _session_version(user, record.session_id)
        ]
    for records in (stale, *(records for _, records in sorted(gathered.sessions_by_edge.items()))):
        for record in records:
            replaced = reconcile.merge_live_session(user, record, notify_rooms=delayed)
            if replaced is not None:
                edge_message = SessionReplaced(session_id=replaced.session_id, connection=replaced.connection)
                shard.context.add_effect((replaced.edge, edge_message))
    if made:
        for records in gathered.sessions_by_edge.values():
            for record in records:
                reconcile.leave_left_rooms(user, record)
    named = {edge: {record.session_id for record in records} for edge, records in gathered.sessions_by_edge.items()}
    if made:
        for edge in reporting_edges:
            named.setdefault(edge, set())
    # When a user is restored, what these edges do not report is not connected, whatever its number.
    complete = reporting_edges if made else ()
    newest = {edge: number for edge, number in gathered.newest.items() if edge not in complete}
    reconcile.suspend_absent_sessions(user, edges, named, now, newest)
    reported = [record for _, records in sorted(gathered.sessions_by_edge.items()) for record in records]
    reconcile.merge_reported_name(user, reported)
    if changed or (made and delayed):  # rooms may show an outdated profile
        user.publish_profile(min(user.sessions, default=""), changed=True, interacted=False)
    shard.changed_user(user, now)


def _session_version(user: User, session_id: str) -> int:
    session = user.sessions.get(session_id)
    return HIGHEST if session is None else session.session_version


def suspend_sessions_of_lost_edges(shard: Shard, edges: Collection[int], lost_some: bool, now: float) -> None:
    """Hold the places of all sessions at edges that are not among `edges`, the workers of the view."""
    shard.forget_denied()
    shard.watchers.keep_edges(edges)
    for room in list(shard.rooms.values()):
        if reconcile.suspend_absent_members(room, edges, now):
            shard.changed_room(room, now)
    for user in list(shard.users.values()):
        sessions = user.sessions.values()
        if any(each.connected and not each.leased and each.edge not in edges for each in sessions):
            reconcile.suspend_absent_sessions(user, edges, {}, now)
            shard.changed_user(user, now)
    if lost_some:
        shard.accept_unknown_resumes_for(shard.context.limits.grace_s + RESUME_EXTENSION_S, now)
