"""Holds the rules of one room: its members, what they may see of each other, and the one ordered stream of events that
all of them receive.

Invariants, checked by the state machine test:
- at most `max_users_per_room` distinct users, those in their grace period and the invisible ones included [C6, C8, C9];
- events of an invisible or disabled session go only to its user's other sessions, and take no `seq` [K, K7];
- for other users a room without a visible member does not exist: lifetime.py begins and ends it [K7, C12];
- a member receives `joined` before any event of the room, and then every later event in the owner's order [B11, C4];
- there is at most one controller, always a visible session in the room [I].

The room writes only its own state. Its output goes into `out` (frames, in order) and into `effects` (commands for other
owners, messages for edges).
"""

from collections.abc import Set

import msgspec
from msgspec import UNSET, structs

from koko_presence._fastpath.fanout import StreamFrame
from koko_presence._fastpath.framing import frame_text
from koko_presence.protocol.commands import EnterRoom, Profile
from koko_presence.protocol.edge_messages import Left
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import (
    AnyData,
    ControlGranted,
    ControlReleased,
    CursorShown,
    Event,
    Joined,
    LeftReply,
    SelectionShown,
    StatusShown,
    TypingStopped,
    UserChanged,
    UserLeft,
    declared,
    encode,
)
from koko_presence.protocol.models import MessageId
from koko_presence.protocol.settings import NO_SETTINGS

from . import colors, known_state, lifetime, webhook_recorder
from .member import Member, Person, PrivateRoom
from .presence_object import PresenceObject, raw
from .room_state import RoomState, unnamed_type
from .snapshot_delivery import repeat_snapshot, send_snapshot
from .wait import WAITS_AGAIN_S

# Extra time for which a place is held after a take-over: a message about a resume may be under way.
RESUME_MARGIN_S = 0.5
FORGET_S = 10.0  # leaving and joining again does not refill a budget [L1]; a wait is remembered for longer [H9]


class Room(RoomState):
    """One room on its owner. `now` is in monotonic seconds in all methods; a broken rule raises PresenceError."""

    __slots__ = ()

    # --- joins, leaves, losses, privacy ---------------------------------------------------------------------------

    def admit(self, enter: EnterRoom, membership_id: int, profile: Profile, now: float) -> None:
        """Add a session and emit `user_joined`; a second join of the same session only repeats the snapshot [C3].

        Errors: ROOM_TYPE_MISMATCH [C1], INVALID_MESSAGE [C2], ROOM_FULL [C6].
        """
        session_info = enter.session_info
        disabled = session_info.disabled or not enter.presence or session_info.user_id in self.context.presence_off
        visible = not (session_info.invisible or disabled)
        member = self.members.get(session_info.session_id)
        person = self.people.get(session_info.user_id)
        begins = visible and member is None and not self.shown
        known_type = self.type_for(person)
        room_type = enter.room_type or known_type
        if room_type is None:
            raise unnamed_type()
        if known_type not in (None, room_type) and not begins:
            raise PresenceError("ROOM_TYPE_MISMATCH", f"The room is a {known_type} room.")
        if member is not None:
            if not member.connected:
                self.resume(member, session_info.edge, session_info.connection, now)
            member.edge, member.connection = session_info.edge, session_info.connection
            member.membership_id = member.session_version = membership_id
            if not enter.members_only:
                member.granted = membership_id
                member.can_control, member.can_broadcast = enter.can_control, enter.can_broadcast
                member.moderator = enter.moderator
                self.apply_room_presence(member, now, on=enter.presence)
            self.apply_profile(member.person, profile, member.session_id, False, now)
            self.extend_lease(member, session_info.lease_until)
            if session_info.privacy_version > member.privacy_version:  # a change was lost with an owner
                self.apply_privacy(
                    member,
                    version=session_info.privacy_version,
                    invisible=session_info.invisible,
                    disabled=session_info.disabled,
                    share_cursor=session_info.share_cursor,
                    share_selection=session_info.share_selection,
                    now=now,
                )
            self._take_known(member, enter, now)
            send_snapshot(self, member, enter.message_id, now)
            return
        if person is None and len(self.people) >= self.max_users:
            raise PresenceError("ROOM_FULL")
        settings = NO_SETTINGS if enter.settings is None else enter.settings
        if begins:
            lifetime.begin(self, room_type, settings, now)
        if person is None:
            person = self.gone.pop(session_info.user_id, None)
            if person is None:
                person = Person(
                    session_info.user_id, profile, self.context.limits, PrivateRoom(room_type, now, settings)
                )
            self.context.deadlines.cancel(("forget", self.id, session_info.user_id))
            self.people[session_info.user_id] = person
            person.profile = profile
        if self.shown:  # the user's own room would begin later: with what the back end has said last
            self._set_private_room(person, PrivateRoom(room_type, now, settings))
        self.apply_profile(person, profile, session_info.session_id, False, now)  # other sessions may show an older one
        member = Member(enter, membership_id, person, self.context.limits, now)
        member.disabled = disabled
        member.color = colors.choose(session_info.user_id, self._colors_taken(member))
        if enter.presence_object:
            member.presence = PresenceObject(msgspec.json.decode(enter.presence_object))
        if member.visible:
            member.index = self._free_index()
        person.members[member.session_id] = self.members[member.session_id] = member
        self.extend_lease(member, session_info.lease_until)
        if member.visible:  # counted before the snapshot is taken, so that the stream continues exactly where it ends
            self.context.deadlines.cancel(("empty", self.id, ""))
            self._emit_joined(member, now)
        self._take_known(member, enter, now)
        send_snapshot(self, member, enter.message_id, now)
        if not member.visible:
            self._emit_joined(member, now)
        self.watch_holder(now)  # a new session of the holder may be present again

    def _set_private_room(self, person: Person, private_room: PrivateRoom) -> None:
        same = self.settings if private_room.settings == self.settings else private_room.settings
        person.private_room = private_room._replace(settings=same)  # one object for all who have the room's
        self._replicate_private_room(person)

    def _replicate_private_room(self, person: Person) -> None:
        """Replicate what a user sees without a visible session, which is part of the records of its sessions then."""
        if self.context.replicated and person.visible_count == 0:
            self.mark_changed(person.members)

    def _take_known(self, member: Member, enter: EnterRoom, now: float) -> None:
        """Restore the playback from what a joining member knows, before its snapshot, and show it to the others
        [H24]."""
        if enter.known is not None:
            for data in known_state.restore(self, member, enter.known, now):
                self.emit(member, data, now)

    def extend_lease(self, member: Member, lease_until: float) -> None:
        """Set the end of a leased member to monotonic second `lease_until`; 0 for a member with a socket [M2]."""
        member.lease_until = lease_until
        if lease_until:
            self.context.deadlines.set(("grace", self.id, member.session_id), lease_until)

    def remove(self, member: Member, reason: str, now: float, *, id: MessageId | None = None) -> None:
        """End a membership and emit one `user_left`, which implies the end of all that the member showed [G6]."""
        if member.attached:  # first, so that it receives no event caused by its removal
            self.edges_to_notify.add(member.edge)
            frame = frame_text(encode(LeftReply(id=id, room_id=self.id))) if reason == "left" else b""
            self.out.append(StreamFrame(frame, only=member.session_id, detach=True))
        elif reason == "left" and not member.leased:  # resumed, but not joined again; or wrongly taken for lost
            payload = encode(LeftReply(id=id, room_id=self.id))
            edge_message = Left(session_id=member.session_id, room_id=self.id, payload=payload)
            self.context.add_effect((member.edge, edge_message))
        self.drop_deferred(member)
        self.detach(member)
        self._wait_no_longer_for(member, now)
        del self.members[member.session_id]
        person = member.person
        del person.members[member.session_id]
        if not person.members:
            del self.people[person.user_id]
            if self.shown:  # budgets are kept after a leave
                self.gone[person.user_id] = person
                forget_at = max(now + FORGET_S, person.waited_at + WAITS_AGAIN_S)
                self.context.deadlines.set(("forget", self.id, person.user_id), forget_at)
        if person.visible_count == 0:
            self.control.withdraw(person.user_id)
        for kind in (*member.pending, "grace", "away", "typing_stop", "report_stale"):
            self.context.deadlines.cancel((kind, self.id, member.session_id))
        self._replicate_private_room(person)
        self.emit(member, UserLeft(reason=reason, session_count=person.visible_count), now)
        webhook_recorder.left(self, member, reason, now)
        self.pass_control_on(member, reason, now)
        self.watch_holder(now)
        lifetime.note_removal(self, reason, now, visible=member.visible)

    def suspend(self, member: Member, now: float, grace_until: float = 0.0, away_at: float = 0.0) -> None:
        """Handle a lost socket: keep the place for the grace period, which ends at monotonic second `grace_until`; 0:
        it begins now. The session is shown as connected until monotonic second `away_at`; 0.0: it is shown as away at
        once [D2]."""
        self.keep_place(member, grace_until or now + self.context.limits.grace_s, now, not_before=away_at)
        if away_at > now:
            member.away_at = away_at
            member.connected = False
            self.detach(member)
            self.context.deadlines.set(("away", self.id, member.session_id), away_at)
        else:
            self.show_away(member, now)

    def show_away(self, member: Member, now: float) -> None:
        """Show a lost session as away: end its cursor, typing and sync state, and move its control to another session
        [D2, E3, G4]."""
        if member.cursor_shown:
            self.hide_cursor(member, now)
        if member.typing is not None:
            self.stop_typing(member, "disconnected", now)
        self.show_presence(member, now)
        for kind in member.pending:
            self.context.deadlines.cancel((kind, self.id, member.session_id))
        member.pending.clear()
        self.drop_deferred(member)
        member.cursor_put_away = member.cursor is not None
        member.connected = member.watching = False
        self.detach(member)
        member.away_at = 0.0
        if member.viewer is not None:
            member.viewer.lapse()
        self._wait_no_longer_for(member, now)
        self.context.deadlines.cancel(("report_stale", self.id, member.session_id))
        if self.control.session_id == member.session_id:
            self._move_control(member)  # another session of the controller takes it, without an event [I6]
        self.emit_status(member, now)
        self.watch_holder(now)

    def keep_place(self, member: Member, grace_until: float, now: float, not_before: float = 0.0) -> None:
        """Set the end of a lost session's grace period to monotonic second `grace_until`. Its place is kept until then,
        or until `not_before` when that is later. When `grace_until` has passed, the place is kept `RESUME_MARGIN_S`
        longer: the user's owner, which still holds the session, then ends the membership or resumes it."""
        member.grace_until = grace_until
        free_at = max(grace_until if grace_until > now else now + RESUME_MARGIN_S, not_before)
        self.context.deadlines.set(("grace", self.id, member.session_id), free_at)

    def resume(self, member: Member, edge: int, connection: int, now: float) -> None:
        """Reconnect a member within its grace period; it emits only a `status_changed` [D2]. Its events resume at its
        next join [C4]."""
        for kind in ("grace", "away"):
            self.context.deadlines.cancel((kind, self.id, member.session_id))
        member.edge, member.connection, member.grace_until = edge, connection, 0.0
        self.detach(member)
        # a snapshot queued for the old connection is not valid for the new one
        self.out = [item for item in self.out if not (item.attach and item.only == member.session_id)]
        if not member.connected:
            seen, member.connected, member.away_at = member.shown_connected, True, 0.0
            if not seen:
                self.emit_status(member, now)
            self.watch_holder(now)

    def apply_privacy(
        self,
        member: Member,
        *,
        version: int,
        invisible: bool,
        disabled: bool,
        share_cursor: bool,
        share_selection: bool,
        now: float,
    ) -> None:
        """Change what the member hides. Becoming invisible is shown as a leave, becoming visible as a join [K2]; hiding
        the cursor takes effect at once [K5]. A `version` lower than the member's changes nothing."""
        if version < member.privacy_version:
            return
        member.privacy_version, member.session_disabled = version, disabled
        self._apply_hidden(
            member, invisible=invisible, share_cursor=share_cursor, share_selection=share_selection, now=now
        )

    def apply_room_presence(self, member: Member, now: float, *, on: bool) -> None:
        """Apply the authoriser's switch of the user's presence in this room [Q11]."""
        member.room_disabled = not on
        self.apply_user_presence(member, now)

    def apply_user_presence(self, member: Member, now: float) -> None:
        """Apply the back end's switch of the user's presence, which `context` has [Q11]."""
        self._apply_hidden(
            member,
            invisible=member.invisible,
            share_cursor=member.share_cursor,
            share_selection=member.share_selection,
            now=now,
        )

    def _apply_hidden(
        self, member: Member, *, invisible: bool, share_cursor: bool, share_selection: bool, now: float
    ) -> None:
        """Apply what a member hides: as its session wants, as the token, the authoriser and the back end say."""
        disabled = member.session_disabled or member.room_disabled or member.user_id in self.context.presence_off
        was_visible = member.visible
        shown = (member.cursor_shown, member.selection_shown)
        hides = invisible or disabled
        begins = not hides and not self.shown
        if begins:
            private_room = member.person.private_room
            lifetime.begin(self, private_room.type, private_room.settings, now, except_for=member)
        if not was_visible and not hides:
            self._drop_pending(member, "cursor", "selection", "typing")
        if not member.share_cursor and share_cursor:
            self._drop_pending(member, "cursor")
        if not member.share_selection and share_selection:
            self._drop_pending(member, "selection")
        if member.cursor_shown and not share_cursor and not hides:
            self.hide_cursor(member, now)
        if member.selection_shown and not share_selection and not hides:
            self.emit(member, SelectionShown(color=member.color, cleared=True), now)
        if not share_cursor:
            self.drop_deferred(member)
            member.cursor = None
        if not share_selection:
            member.selection = None
        member.share_cursor, member.share_selection = share_cursor, share_selection
        member.invisible, member.disabled = invisible, disabled
        if was_visible and not member.visible:
            self._hide_member(member, *shown, now=now)
        elif not was_visible and member.visible:
            self._reveal_member(member, now)
            if begins:
                webhook_recorder.shown(self, now)

    def _reveal_member(self, member: Member, now: float) -> None:
        """Show a member that was invisible as one that has just joined, at the end of the list [K2, K7]."""
        person = member.person
        for sessions in (self.members, person.members):
            sessions[member.session_id] = sessions.pop(member.session_id)
        member.last_active_at = now
        member.viewer, member.watching = None, False
        self.context.deadlines.cancel(("report_stale", self.id, member.session_id))
        self.context.deadlines.cancel(("empty", self.id, ""))
        member.color = colors.choose(member.user_id, self._colors_taken(member))
        member.index = self._free_index()
        if member.presence is not None:
            member.presence.reveal()
            member.presence.show()
        self._emit_joined(member, now)
        repeat_snapshot(self, member, now)  # its colour, its number and the room may have changed
        if not member.shown_connected:  # user_joined does not carry the grace period
            self.emit_status(member, now)
        self.watch_holder(now)

    def _wait_no_longer_for(self, member: Member, now: float) -> None:
        """Remove a member from those that the room waits for. After the last one the deadline ends the wait [H9]."""
        if self.wait is not None and self.wait.viewers.pop(member.session_id, "") and not self.wait.viewers:
            self.context.deadlines.set(("wait", self.id, ""), now)

    def _drop_pending(self, member: Member, *kinds: str) -> None:
        """Drop pending values that were sent while they were not to be shown: they count as dropped then [K3, K5]."""
        for kind in kinds:
            member.pending.drop(kind)
            self.context.deadlines.cancel((kind, self.id, member.session_id))

    def _hide_member(self, member: Member, cursor_shown: bool, selection_shown: bool, *, now: float) -> None:
        """Take an invisible member from the room of others. Its user's other sessions go on showing it, without what it
        does, which was shown before [K3, K4]."""
        member.index = None
        if cursor_shown:
            self.hide_cursor(member, now)
        if selection_shown:
            self.emit(member, SelectionShown(color=member.color, cleared=True), now)
        if member.typing is not None:
            self.stop_typing(member, "stopped", now)
        self._wait_no_longer_for(member, now)
        self.show_presence(member, now)  # to the user's other sessions
        if member.presence is not None and member.presence.hidden:  # to those that have joined since it was sent
            self.emit(member, raw(member.presence.hidden), now)
        member.cursor = member.selection = None
        for kind in member.pending:
            self.context.deadlines.cancel((kind, self.id, member.session_id))
        member.pending.clear()
        self.drop_deferred(member)
        self._replicate_private_room(member.person)
        if member.person.visible_count == 0:
            self.control.withdraw(member.user_id)
        data = UserLeft(reason="left", session_count=member.person.visible_count)
        frame = self.frame(data, member.user_id, member.session_id, now, public=True)
        for other in self.members.values():
            if other.attached and other.person is not member.person:
                self.out.append(StreamFrame(frame, skip=member.session_id, only=other.session_id))
        self.pass_control_on(member, "left", now)
        self.watch_holder(now)
        lifetime.note_removal(self, "left", now)

    def apply_profile(self, person: Person, profile: Profile, session_id: str, interacted: bool, now: float) -> None:
        """Apply the person's profile: one `user_changed` for another name or image [A5], one `status_changed` for
        another status [D10], per room and actual change."""
        member = person.members.get(session_id)
        if interacted and member is not None:
            member.last_active_at = now
        before = person.profile
        if profile.version < before.version:
            return
        if not profile.user_info.name:  # the user's owner has lost all records, and no token has come since
            profile = structs.replace(profile, user_info=before.user_info)
        person.profile = profile
        is_renamed = profile.user_info.shows != before.user_info.shows
        if profile.shows == before.shows and not is_renamed:
            return
        self.watch_holder(now)
        shown = next((each for each in person.members.values() if each.shown_connected and each.visible), None)
        if member is not None and member.shown_connected and member.visible:
            shown = member
        if is_renamed:
            self.control.rename(person.user_id, profile.user_info.name)
            # a lost session is shown with its name, too; one that is hidden, to the user's own sessions
            author = max(
                person.members.values(), key=lambda each: (each.visible, each is (shown or member)), default=None
            )
            if author is not None:
                self.emit(author, UserChanged(name=author.name, image=author.image or UNSET), now)
        if profile.shows != before.shows and shown is not None:
            self.emit_status(shown, now)
        elif profile.shows != before.shows:
            # a lost session is shown as away, whatever an invisible one does
            if member is not None and member.visible and profile.status_message != before.status_message:
                self.emit_status(member, now)
            # to the user's own sessions only; `session_id` may be lost, or not in this room
            hidden = [each for each in person.members.values() if not each.visible]
            if hidden:
                self.emit_status(max(hidden, key=lambda each: (each.shown_connected, each is member)), now)

    # --- event stream ---------------------------------------------------------------------------------------------

    def emit(
        self,
        member: Member,
        data: AnyData,
        now: float,
        *,
        merge: str = "",
        compact: bytes | None = None,
    ) -> None:
        """Append an event of `member` to the stream, for all other members, and for its author too when the event says
        `to_self` [B9].

        `merge` and `compact` are those of `StreamFrame`. Events of an invisible member go only to the same user's other
        sessions, without a `seq` [K4, K7].
        """
        public, to_self = member.visible, declared(data).to_self
        frame = self.frame(data, member.user_id, member.session_id, now, public=public)
        if public:
            self.out.append(StreamFrame(frame, skip="" if to_self else member.session_id, merge=merge, compact=compact))
            return
        for other in member.person.members.values():
            if other.attached and (to_self or other is not member):
                # with its author, so that a slow client gets it after what the author showed while it was visible
                skip = "" if other is member else member.session_id
                self.out.append(StreamFrame(frame, skip=skip, only=other.session_id))

    def hide_cursor(self, member: Member, now: float) -> None:
        """Emit that a member's cursor is hidden [E3]."""
        shown = CursorShown(color=member.color, hidden=True)
        self.emit(member, shown, now, merge=f"c{member.session_id}", compact=encode((member.index,)))

    def show_presence(self, member: Member, now: float) -> None:
        """Show what waits of a member's presence object, whatever the budget [P2]."""
        if "presence" in member.pending:
            member.pending.drop("presence")
            self.context.deadlines.cancel(("presence", self.id, member.session_id))
        if member.presence is not None and (changed := member.presence.show()):
            self.emit(member, raw(changed), now, merge=f"p{member.session_id}")

    def emit_status(self, member: Member, now: float) -> None:
        profile = member.person.profile
        shown = StatusShown(
            status=profile.status if member.shown_connected else "away",
            status_message=profile.status_message or UNSET,
            activity=profile.activity if member.shown_connected else "away",
            is_watching=member.watching,
            connected=member.shown_connected,
        )
        self.emit(member, shown, now)

    def frame(self, data: AnyData, user_id: str, session_id: str, now: float, *, public: bool) -> bytes:
        """Encode and frame an event once; a public one takes the room's next sequence number."""
        event = Event(
            type=declared(data).event,
            room_id=self.id,
            user_id=user_id,
            session_id=session_id,
            data=data,
            timestamp=self.context.wall.iso(now),
        )
        if public:
            self.seq += 1
            event.seq = self.seq
        return frame_text(encode(event))

    def _emit_joined(self, member: Member, now: float) -> None:
        profile = member.person.profile
        data = Joined(
            name=member.name,
            image=member.image or UNSET,
            color=member.color,
            session_count=member.person.visible_count,
            status=profile.status,
            activity=profile.activity,
            status_message=profile.status_message or UNSET,
            index=UNSET if member.index is None else member.index,
            transport="http" if member.leased else UNSET,
        )
        if member.presence is not None and member.presence.shown:
            data.presence = raw(member.presence.shown)
        self.emit(member, data, now)

    def stop_typing(self, member: Member, reason: str, now: float) -> None:
        """End the shown typing [G1, G4]. `reason`: stopped, timeout, changed, disconnected."""
        context, member.typing = member.typing, None
        self.context.deadlines.cancel(("typing_stop", self.id, member.session_id))
        self.emit(member, TypingStopped(context=context or UNSET, reason=reason), now)

    # --- control follows its holder [I6] --------------------------------------------------------------------------

    def pass_control_on(self, member: Member, reason: str, now: float) -> None:
        """Take control from `member`, which can no longer hold it: another session of the user gets it without an
        event, or it is released."""
        if self.control.session_id != member.session_id or self._move_control(member):
            return
        self.release_control(member, reason, now)

    def release_control(self, member: Member, reason: str, now: float) -> None:
        """Release control; playback goes on as it was [I6]."""
        self.control.release()
        self.urgent = True
        data = ControlReleased(reason=reason, version=self.control.version)
        # public even when the holder has just become invisible: it held control as a visible session
        frame = self.frame(data, member.user_id, member.session_id, now, public=True)
        self.out.append(StreamFrame(frame))
        webhook_recorder.control_changed(self, member.user_id, reason, now)
        self.watch_holder(now)
        if self.context.options.auto_grant:
            self._grant_oldest(now)

    def _move_control(self, member: Member) -> bool:
        successor = self.best_session(member.person, other_than=member)
        if successor is not None and not successor.may_hold:
            successor = None
        if successor is not None:
            self.control.session_id = successor.session_id
        return successor is not None

    def best_session(self, person: Person, other_than: Member | None = None) -> Member | None:
        """Return the person's visible session with a connected socket that was active last, preferring those that may
        have control; None when there is none."""
        able = [
            m for m in person.members.values() if m.connected and m.visible and not m.leased and m is not other_than
        ]
        return max(able, key=lambda m: (m.may_hold, m.last_active_at), default=None)

    def grant_control(self, person: Person, by: Member | None, now: float, *, to: Member | None = None) -> None:
        """Give control to `person`, at its session `to` or the best one; `by` is None when the room itself grants it
        [I1, I3, I6]. Errors: TARGET_NOT_IN_ROOM."""
        session = to if to is not None and to.connected else self.best_session(person)
        if session is None or not session.may_hold:  # `to` is lost, and another tab may have a lesser token
            raise PresenceError("TARGET_NOT_IN_ROOM")
        before = self.control.user_id
        self.control.give(person.user_id, session.session_id)
        self.urgent = True
        data = ControlGranted(
            to_user_id=person.user_id,
            to_user_name=session.name,
            from_user_id=before,
            controller_session_id=session.session_id,
            version=self.control.version,
            auto=by is None,
        )
        self.emit(by or session, data, now)
        webhook_recorder.control_changed(self, before, "auto" if by is None else "granted", now)
        self.watch_holder(now)

    def watch_holder(self, now: float) -> None:
        """Record since when the holder of control is shown as away, and set or cancel the deadline at which control is
        passed on [I7]. Called after every change of the holder, of its status and sessions, and of the setting."""
        control = self.control
        person = None if control.user_id is None else self.people.get(control.user_id)
        if person is None or not person.is_away:
            control.away_since = 0.0
        elif not control.away_since:
            control.away_since = now
        deadline = ("holder_away", self.id, "")
        if control.away_since and self.auto_grant_away_s:
            self.context.deadlines.set(deadline, control.away_since + self.auto_grant_away_s)
        else:
            self.context.deadlines.cancel(deadline)

    def holder_is_overdue(self, now: float) -> bool:
        """Return whether the holder of control has been away for so long that the next request is granted [I7]."""
        away_since, longest_s = self.control.away_since, self.auto_grant_away_s
        return bool(away_since and longest_s) and now >= away_since + longest_s

    def replace_holder(self, now: float) -> None:
        """Grant control to the longest waiting request, because its holder has been away for too long; without a
        request the holder keeps it until the next one [I7]. In the mode "moderators" a request of another member is
        decided by them."""
        if self.holder_is_overdue(now):
            self._grant_oldest(now, moderators_only=self.control_mode == "moderators")

    def _grant_oldest(self, now: float, *, moderators_only: bool = False) -> None:
        for user_id in self.control.by_age():
            successor = self.best_session(self.people[user_id])
            # others are in their grace period, or without the scope by now
            if successor is not None and successor.may_hold and (successor.moderator or not moderators_only):
                self.context.deadlines.cancel(("control_request", self.id, user_id))
                self.grant_control(successor.person, None, now)
                return

    # --- helpers --------------------------------------------------------------------------------------------------

    def repeat_private(self, now: float, also: Set[str]) -> None:
        """Repeat the snapshot to users with an invisible session, because the last events of the previous owner may be
        lost, or some edge may have missed them, and to the users `also`, of whom that is certain. A client that misses
        a numbered event detects the gap, but the events of invisible sessions, which only their user's own sessions
        receive, have no number, and neither has the snapshot by which members learn that the room has ended for all
        others [K7]."""
        for person in self.people.values():
            if not self.shown or person.visible_count < len(person.members) or person.user_id in also:
                for member in person.members.values():
                    repeat_snapshot(self, member, now)

    def _colors_taken(self, by_others_than: Member) -> set[str]:
        # the colour of an invisible session counts as free, or a skipped colour would reveal it [K7]
        return {m.color for m in self.members.values() if m.visible and m is not by_others_than}

    def _free_index(self) -> int:
        taken = {member.index for member in self.members.values()}
        return next(index for index in range(len(taken) + 1) if index not in taken)
