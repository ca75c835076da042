"""Holds the rooms and users of one worker and applies commands to them: commands in, effects out, without I/O.

Its state is written by `handle` and `tick`, by `UserHandlers`, and by takeover.py. `handle` applies one command, `tick`
what is due; `take_effects` returns their effects in order: commands for other owners and messages for edges. A room's
stream is collected in the room. When `flush_queue` schedules it, `make_flush` makes one flush of it, of which each edge
with members gets a copy: at once when the room is quiet or has an event of playback or control, else at the end of a
short window, so that events share a write [L4].
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf, nextafter
from typing import Any, NamedTuple

from msgspec import UNSET

from koko_presence._fastpath.fanout import RoomFlush, StreamFrame
from koko_presence._fastpath.framing import frame_text
from koko_presence._fastpath.room_core import FlushQueue
from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.commands import (
    AdmitMember,
    ApplyPrivacy,
    ApplyProfile,
    ApplyUserPresence,
    ChangeSettings,
    Command,
    QueryActive,
    QuerySummary,
    RemoveMember,
    RenewLease,
    ResumeMember,
    RoomAction,
    RoomLeft,
    ServerBroadcast,
    SuspendMember,
    UpdatePermissions,
    UserCommand,
    WatchRoom,
)
from koko_presence.protocol.edge_messages import EdgeMessage, SessionActed
from koko_presence.protocol.errors import NOT_CHECKED, NOT_CHECKED_RETRY_S, PresenceError
from koko_presence.protocol.events import ServerNotice, encode
from koko_presence.protocol.limits import Limits, RoomOptions
from koko_presence.protocol.messages import Broadcast, CursorMessage, PlaybackMessage, RoomMessage
from koko_presence.protocol.models import SummaryRow
from koko_presence.protocol.procedures import ActiveResult, HeartbeatResult, JoinResult
from koko_presence.protocol.snapshots import MembershipEnd
from koko_presence.rooms import (
    call_scopes,
    lifetime,
    media,  # noqa: F401 - registers its handlers
    playback_sync,
    presence_state,
    room_settings,
    snapshot_view,
    webhook_recorder,
)
from koko_presence.rooms.context import ShardContext
from koko_presence.rooms.deadlines import Deadlines
from koko_presence.rooms.due import handle_due
from koko_presence.rooms.handler_table import HandlerTable
from koko_presence.rooms.member import Member
from koko_presence.rooms.message_handlers import MESSAGE_HANDLERS, Result
from koko_presence.rooms.room import Room
from koko_presence.rooms.room_state import unnamed_type
from koko_presence.rooms.snapshot_delivery import repeat_snapshot, send_snapshot
from koko_presence.users import http_sessions
from koko_presence.users.user import User

from .answers import Answers
from .room_watchers import RoomWatchers
from .user_handlers import USER_COMMANDS, UserHandlers


class Ended(NamedTuple):
    """The end of a membership: its version (`membership_id`), when the room emitted it (`notified_at`; 0.0: the session
    was not in the room), when it was recorded, when the room was created (0.0: there was none), and the reason of
    `user_left`. Times are monotonic seconds."""

    membership_id: int
    notified_at: float
    noted_at: float
    created_at: float
    reason: str


NEVER = Ended(0, 0.0, 0.0, 0.0, "left")
NO_ENDS: Mapping[str, Ended] = {}
ENDED_S = 10.0  # longer than a message can be under way: a worker that hangs is replaced before

Effect = tuple[int, EdgeMessage] | Command
ROOM_COMMANDS = HandlerTable()
MessageHandler = Callable[[Room, Member, Any, float], Result]


class Shard:
    """Owner of rooms and users. Its state changes only in `handle` and `tick`, in a take-over, when a room is flushed,
    and through a member's `CursorRoute`, the compiled path of its cursors."""

    def __init__(self, limits: Limits, options: RoomOptions, wall: WallClock) -> None:
        self.deadlines = Deadlines()
        self.context = ShardContext(limits, options, wall, self.deadlines)
        # Returns the effects of `handle` and `tick` since the last call, in order. Bound here, because a method of its
        # own would cost every command a call.
        self.take_effects: Callable[[], list[Effect]] = self.context.take_effects
        self.rooms: dict[str, Room] = {}
        self.users: dict[str, User] = {}
        self.freed: list[Room] = []  # rooms that are gone, whose replicas are to be deleted
        # Since when, and for how long, a resume token is accepted without its session: an owner was lost [N-c].
        self._unknown_resumes_from = self._unknown_resumes_s = 0.0
        # The rooms with something to flush, and when.
        self.flush_queue = FlushQueue(limits.flush_window_ms / 1000.0, limits.flush_ceiling_ms / 1000.0)
        # Recent ends of memberships: an `AdmitMember` that took another way may come after the `RemoveMember`.
        self._ended: dict[str, dict[str, Ended]] = {}  # by room and session
        self._swept_at = 0.0
        self.watchers = RoomWatchers(self.context)
        self._answers = Answers(self.context, self.rooms, self.users)
        self._user_handlers = UserHandlers(self.context, self.users, self.accepts_unknown_resumes)
        # by the type of a command, and of a `RoomAction` by that of its message
        self._handlers: dict[type, Callable[[Any, float], Any]] = {
            **ROOM_COMMANDS.methods_of(self),
            **USER_COMMANDS.methods_of(self._user_handlers),
            **{kind: partial(self._act, handler) for kind, handler in MESSAGE_HANDLERS.functions.items()},
        }

    def handle(self, command: Command, now: float) -> None:
        """Apply one command at monotonic second `now`. A broken rule becomes the error reply of L6, never an
        exception."""
        kind = type(command.message) if isinstance(command, RoomAction) else type(command)
        room = self.rooms.get(getattr(command, "room_id", ""))
        if room is not None and kind is not CursorMessage:
            room.settle()  # earlier cursors are encoded first, for the members that were to receive them
        try:
            outcome = self._handlers[kind](command, now)
        except PresenceError as error:
            outcome = error
        if outcome is not None:
            self._answers.send(command, outcome)
        if self.context.replicated and isinstance(command, UserCommand):
            self.context.touch_user(command.user_id)

    def delete_replicas(self, room: Room) -> None:
        """Have the replicas of a room that is gone deleted."""
        if self.context.replicated:
            self.freed.append(room)

    def take_freed(self) -> list[Room]:
        """Return the rooms that have gone since the last call, whose replicas are to be deleted."""
        freed, self.freed = self.freed, []
        return freed

    # --- time -----------------------------------------------------------------------------------------------------

    def accepts_unknown_resumes(self, now: float) -> bool:
        """Return whether a session that is unknown here may have been held by a lost owner [N-c]."""
        return now < self.context.delays.ends(self._unknown_resumes_from, self._unknown_resumes_s)

    def accept_unknown_resumes_for(self, seconds: float, now: float) -> None:
        """Accept resume tokens of unknown sessions for `seconds`, longer while the service is behind: an owner was
        lost."""
        self._unknown_resumes_from, self._unknown_resumes_s = now, seconds

    def was_denied(self, user_id: str) -> bool:
        """Return whether a room was notified that the user is unknown, since the last change of owners."""
        return self._user_handlers.was_denied(user_id)

    def forget_denied(self) -> None:
        """Drop the record of unknown users: owners have changed."""
        self._user_handlers.forget_denied()

    def next_at(self) -> float | None:
        """Return the monotonic second at which `tick` is to be called; None: there is no deadline."""
        return self.deadlines.next_at()

    def tick(self, now: float) -> None:
        """Apply all passed deadlines."""
        for kind, owner_id, sub_id in self.deadlines.take_due(now):
            if kind == "session":
                user = self.users.get(owner_id)
                if user is not None and sub_id in user.sessions:
                    user.expire(sub_id, now)
                    if sub_id not in user.sessions:
                        self.context.touch_user(owner_id)
                        self._user_handlers.drop_if_gone(user)
                continue
            room = self.rooms.get(owner_id)
            if kind == "summary":
                self.watchers.note_change(owner_id, room, now)
                continue
            if room is None:
                continue
            room.settle()
            if kind == "empty":
                lifetime.end(room, now)
                self._touch(room, now, "", *room.members)
                self._free_if_empty(room, now)
                continue
            due = handle_due(room, kind, sub_id, now)
            if due.ended:
                self._after_removal(room, sub_id, now)
            if due.touched is not None:
                self._touch(room, now, *due.touched)

    # --- flushes --------------------------------------------------------------------------------------------------

    def make_flush(self, room: Room, items: list[StreamFrame], now: float) -> RoomFlush:
        """Return the flush of a room with the frames `items`."""
        return RoomFlush(room.id, items, self.context.wall.iso(now))

    def changed_room(self, room: Room, now: float) -> None:
        """Flush and replicate the whole room: anything in it may have changed."""
        self._touch(room, now, "", *room.members)

    def changed_user(self, user: User, now: float) -> None:
        """Replicate the user, and drop it when it has no sessions: anything of it may have changed."""
        self.context.touch_user(user.id)
        self._user_handlers.drop_if_gone(user)

    def _touch(self, room: Room, now: float, *session_ids: str) -> None:
        """Schedule the room's flush, the replication of these sessions, and the room's summary if it has changed."""
        self.watchers.note_change(room.id, room, now)
        self._schedule(room, now, *session_ids)

    def _schedule(self, room: Room, now: float, *session_ids: str) -> None:
        """As `_touch`, after what does not change who is in the room."""
        if self.context.replicated and session_ids:
            room.mark_changed(session_ids)
            self.flush_queue.schedule_now(room, now) if not room.out else self.flush_queue.touch(room, now)
            return
        self.flush_queue.touch(room, now)

    # --- commands to rooms ----------------------------------------------------------------------------------------

    @ROOM_COMMANDS.handles(AdmitMember)
    def _admit(self, command: AdmitMember, now: float) -> JoinResult | None:
        enter = command.enter
        room = self.rooms.get(command.room_id)
        before = None if room is None else room.members.get(enter.session_info.session_id)
        made, known = room is None, before is not None
        might_play = before is not None and before.may_play
        shown = room is not None and room.shown
        if before is not None and not enter.by_call and command.membership_id < before.membership_id:
            return None  # from an owner that stalled: the session has joined again since
        ended = self.ended(command.room_id, enter.session_info.session_id)
        if command.membership_id <= ended.membership_id:  # from an owner that stalled: the session has left since
            if enter.by_call:
                raise PresenceError("UNAVAILABLE")
            return None
        try:
            if enter.members_only and before is None:
                raise PresenceError("FORBIDDEN", NOT_CHECKED, retry_after_s=NOT_CHECKED_RETRY_S)
            if room is None:
                if enter.room_type is None:
                    raise unnamed_type()
                room = self.rooms[command.room_id] = Room(command.room_id, enter.room_type, self.context, now)
            room.admit(enter, command.membership_id, command.profile, now)
        except PresenceError:
            if before is None:  # a refused second join changes nothing
                sid = enter.session_info.session_id
                room_left = RoomLeft(
                    user_id=enter.user_id, room_id=enter.room_id, session_id=sid, membership_id=command.membership_id
                )
                self.context.add_effect(room_left)
            raise
        member = room.members[enter.session_info.session_id]
        if not known:
            # in the same loop iteration as its last leave: the events of the two memberships need different times
            if member.joined_at <= ended.notified_at:
                member.joined_at = nextafter(ended.notified_at, inf)
            webhook_recorder.entered(room, member, now, made=made, begun=room.shown and not shown)
        elif might_play and not member.may_play:  # it has joined again, with fewer rights
            playback_sync.lose_control(room, member, now)
        self._touch(room, now, *room.people[enter.user_id].members)  # they share the profile
        return snapshot_view.join_result(room, member, now) if enter.by_call else None

    @ROOM_COMMANDS.handles(RemoveMember)
    def _remove(self, command: RemoveMember, now: float) -> Result:
        room, member = self._find(command.room_id, command.session_id)
        self._note_end(command, now if member is None else max(now, member.joined_at), notified=member is not None)
        if room is not None and member is not None and not 0 < command.membership_id < member.membership_id:
            room.remove(member, command.reason, now, id=command.message_id)  # decided by the user's owner
            self._after_removal(room, member.session_id, now)
        if not command.by_call:
            return None
        return {"success": True, "left": command.left if member is not None else command.left - 1}

    def ended(self, room_id: str, session_id: str) -> Ended:
        """Return the last recent end of a membership of the session in the room; `NEVER` for none."""
        return self._ended.get(room_id, NO_ENDS).get(session_id, NEVER)

    def ends(self, now: float) -> dict[str, list[MembershipEnd]]:
        """Return the recent ends of memberships, by room."""
        self._sweep_ends(now)
        return {
            room_id: [MembershipEnd(session_id, *end) for session_id, end in ends.items()]
            for room_id, ends in self._ended.items()
        }

    def note_ends(self, room_id: str, ends: list[MembershipEnd], now: float) -> None:
        """Merge the ends that the room's previous owner has recorded."""
        for end in ends:
            known = self.ended(room_id, end.session_id)
            self._ended.setdefault(room_id, {})[end.session_id] = Ended(
                max(known.membership_id, end.membership_id),
                max(known.notified_at, end.notified_at),
                max(known.noted_at, end.noted_at),
                max(known.created_at, end.created_at),
                known.reason if known.membership_id > end.membership_id else end.reason,
            )
        if room_id in self.rooms:
            self.repeat_entries_after_competing_end(self.rooms[room_id], now)

    def repeat_entries_after_competing_end(self, room: Room, now: float) -> None:
        """Record the entries of the present members once more when another owner, without a record of this room, has
        created it too and reported its end: the application's back end takes the room for empty."""
        competing_ends = [end for end in self._ended.get(room.id, NO_ENDS).values() if end.created_at > room.created_at]
        if not competing_ends:
            return
        made_at = max(end.created_at for end in competing_ends)
        notified_at = max(end.notified_at for end in competing_ends)
        webhook_recorder.entered_before_creation(room, made_at, notified_at, now)

    def _note_end(self, command: RemoveMember, at: float, *, notified: bool) -> None:
        if at > self._swept_at + ENDED_S:
            self._sweep_ends(at)
            self._swept_at = at
        known, room = self.ended(command.room_id, command.session_id), self.rooms.get(command.room_id)
        made_at = known.created_at if room is None else room.created_at
        self._ended.setdefault(command.room_id, {})[command.session_id] = Ended(
            max(known.membership_id, command.membership_id),
            at if notified else known.notified_at,
            at,
            made_at,
            known.reason if known.membership_id > command.membership_id else command.reason,
        )

    def note_end_sent(self, room_id: str, session_id: str, now: float) -> None:
        """Record that the room has sent the end of a membership now, whose version may be unknown here."""
        end = self.ended(room_id, session_id)._replace(notified_at=now, noted_at=now)
        self._ended.setdefault(room_id, {})[session_id] = end

    def _sweep_ends(self, now: float) -> None:
        for room_id, ends in list(self._ended.items()):
            recent = {session_id: end for session_id, end in ends.items() if now - end.noted_at <= ENDED_S}
            if recent:
                self._ended[room_id] = recent
            else:
                del self._ended[room_id]

    @ROOM_COMMANDS.handles(RenewLease)
    def _renew(self, command: RenewLease, now: float) -> HeartbeatResult:
        room, member = self._find(command.room_id, command.session_id)
        found = room is not None and member is not None and member.leased
        if room is not None and member is not None and member.leased:
            room.extend_lease(member, max(member.lease_until, command.lease_until))  # it may come twice
            if command.presence is not None:
                room.apply_room_presence(member, now, on=command.presence)
            self._touch(room, now, member.session_id)
        else:  # lost with an owner: notify the user's owner
            self.context.add_effect(
                RoomLeft(
                    user_id=command.user_id,
                    room_id=command.room_id,
                    session_id=command.session_id,
                    membership_id=command.membership_id,
                )
            )
        renewed = command.renewed if found else command.renewed - 1
        if not renewed:
            raise http_sessions.nothing_to_renew()
        wall = self.context.wall
        return HeartbeatResult(
            success=True,
            renewed=renewed,
            lease_seconds=self.context.limits.silence_s,
            timestamp=wall.iso(now),
            server_time=wall.ms(now),
            echo=command.client_time,
        )

    def _after_removal(self, room: Room, session_id: str, now: float) -> None:
        self._touch(room, now, session_id)
        self._free_if_empty(room, now)

    def _free_if_empty(self, room: Room, now: float) -> None:
        """Drop a room that has no members and does not exist for other users [C12]."""
        if room.members or room.shown:
            return
        if room.out:  # flushed before anything of a new room with the same id
            self.flush_queue.schedule_now(room, now)
        lifetime.forget_deadlines(room)
        if self.rooms.get(room.id) is room:
            del self.rooms[room.id]
            self.delete_replicas(room)

    @ROOM_COMMANDS.handles(SuspendMember)
    def _suspend(self, command: SuspendMember, now: float) -> None:
        room, member = self._find(command.room_id, command.session_id)
        if room is None or member is None or member.leased or command.version < member.session_version:
            return
        if member.connection != command.connection and (member.connected or command.grace_until <= member.grace_until):
            return
        member.session_version = command.version
        if member.connected:
            presence_state.settle(room, member, now)
            room.suspend(member, now, command.grace_until, command.away_at)
        elif member.grace_until != command.grace_until:  # the room's new owner did not have its beginning
            room.keep_place(member, command.grace_until, now)
        else:
            return
        self._touch(room, now, member.session_id)

    @ROOM_COMMANDS.handles(ResumeMember)
    def _resume(self, command: ResumeMember, now: float) -> None:
        room, member = self._find(command.room_id, command.session_id)
        if room is None or member is None:
            if command.membership_id:  # else restored from an edge's report, which the room receives itself
                self.context.add_effect(
                    RoomLeft(
                        user_id=command.user_id,
                        room_id=command.room_id,
                        session_id=command.session_id,
                        membership_id=command.membership_id,
                    )
                )
            return
        if command.version < member.session_version:
            return  # repeated, or from a previous owner
        member.session_version = command.version
        if member.connected and (member.edge, member.connection) == (command.edge, command.connection):
            if not command.subscribed or member.attached:
                return  # repeated to the backup owner of an owner that had sent it
        else:
            room.resume(member, command.edge, command.connection, now)
        if command.subscribed:  # it has not received what the room has sent meanwhile
            send_snapshot(room, member, None, now)
        self._touch(room, now, member.session_id)

    @ROOM_COMMANDS.handles(ApplyProfile)
    def _apply_profile(self, command: ApplyProfile, now: float) -> None:
        room = self.rooms.get(command.room_id)
        person = room.people.get(command.user_id) if room is not None else None
        if room is not None and person is not None:
            room.apply_profile(person, command.profile, command.session_id, command.interacted, now)
            self._touch(room, now, *person.members)

    @ROOM_COMMANDS.handles(ApplyPrivacy)
    def _apply_privacy(self, command: ApplyPrivacy, now: float) -> None:
        room, member = self._find(command.room_id, command.session_id)
        if room is not None and member is not None:
            room.apply_privacy(
                member,
                version=command.version,
                invisible=command.invisible,
                disabled=command.disabled,
                share_cursor=command.share_cursor,
                share_selection=command.share_selection,
                now=now,
            )
            self._touch(room, now, member.session_id)
            if not room.out:  # its place in this iteration's order of flushes must not depend on invisible members [K7]
                self.flush_queue.schedule_now(room, now)

    @ROOM_COMMANDS.handles(UpdatePermissions)
    def _regrant(self, command: UpdatePermissions, now: float) -> None:
        room, member = self._find(command.room_id, command.session_id)
        if room is not None and member is not None and command.version >= member.granted:
            before = snapshot_view.rights(member)
            member.granted = command.version
            member.can_control, member.can_broadcast = command.can_control, command.can_broadcast
            member.moderator = command.moderator
            room.apply_room_presence(member, now, on=command.presence)
            if not member.may_hold:
                playback_sync.lose_control(room, member, now)
            if snapshot_view.rights(member) != before:
                repeat_snapshot(room, member, now)  # it has the session's rights
            self._touch(room, now, *member.person.members)

    @ROOM_COMMANDS.handles(ApplyUserPresence)
    def _apply_user_presence(self, command: ApplyUserPresence, now: float) -> None:
        room = self.rooms.get(command.room_id)
        person = room.people.get(command.user_id) if room is not None else None
        if room is not None and person is not None:
            for member in list(person.members.values()):
                room.apply_user_presence(member, now)
            self._touch(room, now, *person.members)

    def _act(self, handler: MessageHandler, command: RoomAction, now: float) -> None:
        """Handle a member's message, sent over its socket, or by a call for a session of the caller [M1]. It is
        answered here: the answer may go into the room's stream, which is flushed next."""
        room, message, authority = self.rooms.get(command.room_id), command.message, command.authority
        member = snapshot_view.acting_member(room, command.session_id, authority)
        assert room is not None
        if command.connection:
            if _is_outdated(command, member):
                return
            if member.presence is not None:
                member.presence.note_session(command.session_version)
        hides = command.hidden and not _is_own_matter(message)
        if command.round_trip_ms:
            member.round_trip_s = command.round_trip_ms / 1000.0
        outcome: Any = None
        try:
            if command.step and member.has_done_step(command.step):
                outcome = playback_sync.repeated_answer(room)
            elif authority is None and not hides:
                outcome = self._do(handler, room, member, message, now)
                if command.step:
                    member.note_step(command.step)
            else:
                with call_scopes.restricted(member, authority, hidden=hides):
                    if not call_scopes.is_dropped(member, message, authority):
                        outcome = self._do(handler, room, member, message, now)
        except PresenceError as error:
            outcome = error
        if authority is None:
            if outcome is not None:
                self._answers.send(command, outcome, member)
        else:
            self._answers.send(command, outcome or {"success": True})
            if isinstance(outcome, PresenceError):
                return
            if member.last_active_at == now and not member.leased:  # counted as an interaction [D12]
                edge_message = SessionActed(session_id=member.session_id, activity="active")
                self.context.add_effect((member.edge, edge_message))
        if isinstance(message, (CursorMessage, Broadcast)):
            self._schedule(room, now)
        else:
            self._schedule(room, now, member.session_id)

    def _do(self, handler: MessageHandler, room: Room, member: Member, message: RoomMessage, now: float) -> Result:
        if member.visible and room.meter.tick(now):
            self.on_second(room, now)
        return handler(room, member, message, now)

    def on_second(self, room: Room, now: float) -> None:
        """Evaluate a counted second of a room's events, and advise another send interval if needed [L2]."""
        if room.load.judge(now):
            self.advise(room)

    def advise(self, room: Room) -> None:
        """Send the advised send interval to a room's members, when it differs from what they have [N17]."""
        room.advised_ms = self.flush_queue.advised_ms
        interval_ms = room.send_interval_ms
        if interval_ms == room.sent_interval_ms:
            return
        room.sent_interval_ms = interval_ms
        notice = ServerNotice(
            code="SEND_INTERVAL",
            message=f"Send cursors and selections at most every {interval_ms} ms in this room.",
            room_id=room.id,
            send_interval_ms=interval_ms,
        )
        room.out.append(StreamFrame(frame_text(encode(notice))))

    @ROOM_COMMANDS.handles(QueryActive)
    def _query_active(self, command: QueryActive, now: float) -> ActiveResult:
        room = self.rooms.get(command.room_id)
        known_type = None if room is None else room.type_for(room.people.get(command.user_id))
        if room is None or known_type is None:  # [C13]
            return ActiveResult(users=[], total_count=0, session_count=0)
        if command.room_type not in (UNSET, known_type):  # access to a project gives none to a film of the same id
            raise PresenceError("ROOM_TYPE_MISMATCH", f"The room is a {known_type} room.")
        return snapshot_view.active_result(room, command)

    @ROOM_COMMANDS.handles(WatchRoom)
    def _watch(self, command: WatchRoom, now: float) -> None:
        if command.watches:
            self.watchers.begin(command, self.rooms.get(command.room_id))
        else:
            self.watchers.end(command)

    @ROOM_COMMANDS.handles(QuerySummary)
    def _query_summary(self, command: QuerySummary, now: float) -> SummaryRow:
        return snapshot_view.summary(command.room_id, self.rooms.get(command.room_id), command.room_type)

    @ROOM_COMMANDS.handles(ServerBroadcast)
    def _broadcast_as_system(self, command: ServerBroadcast, now: float) -> None:
        room = self.rooms.get(command.room_id)
        if room is not None:
            presence_state.broadcast_as_system(room, command.data, command.to, now)
            self._touch(room, now)

    @ROOM_COMMANDS.handles(ChangeSettings)
    def _change_settings(self, command: ChangeSettings, now: float) -> None:
        room = self.rooms.get(command.room_id)
        if room is not None and room.shown and room_settings.change_settings(room, command.change, now):
            room.watch_holder(now)
            self._touch(room, now, "")

    def _find(self, room_id: str, session_id: str) -> tuple[Room | None, Member | None]:
        room = self.rooms.get(room_id)
        return room, None if room is None else room.members.get(session_id)


def _is_outdated(command: RoomAction, member: Member) -> bool:
    """Return whether a change of the presence object comes from an earlier connection of the session than the present
    one, or than one whose changes have arrived: the client has sent it again on the later one [P3]."""
    version = command.session_version
    known = 0 if member.presence is None else member.presence.session_version
    return version < known or (command.connection != member.connection and version < member.session_version)


def _is_own_matter(message: RoomMessage) -> bool:
    """Return whether the message is allowed to invisible sessions, too: a viewer's report or resync [K3]."""
    return isinstance(message, PlaybackMessage) and message.data.action in ("report", "resync")
