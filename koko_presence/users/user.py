"""One user on their owner: all sessions wherever they are connected, the caps over them, and what the person shows.

Invariants: at most `max_sessions_per_user` sessions, those in their grace included [C11]; at most `max_rooms_per_user`
distinct rooms over all of them [C10]; one profile for all rooms and tabs [D10].
"""

from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.protocol.commands import (
    AdmitMember,
    ApplyPrivacy,
    ApplyProfile,
    ChangeGrant,
    ChangePrivacy,
    ChangeStatus,
    EndSession,
    EnterRoom,
    LeaveRoom,
    OpenSession,
    Profile,
    RemoveMember,
    ReportActivity,
    ResumeMember,
    SessionInfo,
    SuspendMember,
    UpdatePermissions,
)
from koko_presence.protocol.edge_messages import (
    SessionActed,
    SessionEvicted,
    SessionOpened,
    SessionRefused,
    SessionReplaced,
)
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import Activity, Privacy
from koko_presence.protocol.snapshots import SessionRecord
from koko_presence.rooms.context import ShardContext

from .session import NONE, UserSession

MIGRATION_S = 3.0  # a client that was sent to another worker is shown as connected for so long
MANUAL = frozenset(("busy", "reviewing", "away"))
_LIVELIEST: tuple[Activity, ...] = ("active", "idle", "away")


def presence_is_off() -> PresenceError:
    """The token has switched presence off [K1], the session's or the caller's."""
    return PresenceError("FORBIDDEN", "Presence is switched off for you. Only your application can change that.")


class User:
    """All of one user. Commands for rooms and news for edges go into `setting.effects`, in order."""

    __slots__ = (
        "activity", "believed", "blank", "budget", "id", "manual", "revision", "sessions", "setting",
        "status_message", "wishes",
    )  # fmt: skip

    def __init__(self, user_id: str, setting: ShardContext) -> None:
        self.id = user_id
        self.setting = setting
        self.sessions: dict[str, UserSession] = {}
        self.manual: str | None = None
        self.status_message = ""
        self.activity: Activity = "active"
        self.revision = 0  # counts changes, so that of two records the newer one is known
        self.budget: TokenBucket | None = None  # of HTTP calls for status and privacy [M8]
        # taken over without a record, at this version: rooms know more of what the person shows. 0: not so
        self.blank = 0
        self.believed = 0  # the version of what was believed of them
        self.wishes = Privacy()  # what the person has hidden with scope "user" [K6]

    @property
    def profile(self) -> Profile:
        """Shown status: the manual one if it says busy, reviewing or away, else the activity [D8]."""
        status = self.manual if self.manual is not None else self.activity
        return Profile(
            status=status,  # type: ignore[arg-type]
            status_message=self.status_message,
            activity=self.activity,
            version=self.setting.next_version(),
        )

    # --- sessions -------------------------------------------------------------------------------------------------

    def open(self, command: OpenSession, now: float, *, trusting: bool = False) -> None:
        """A new session, or an earlier one resumed; the cap may first cost a session in its grace its place [C11].
        `trusting`: an owner has just been lost, and a session that is not known here may well have been to it."""
        effects = self.setting.effects
        if command.resumes_only and command.resume not in self.sessions and not trusting:
            effects.append((command.edge, SessionRefused(connection=command.connection, code="UNAUTHENTICATED")))
            return
        session_id = command.resume if command.resume in self.sessions else command.fresh
        session = self.sessions.get(session_id)
        if session is not None and session.connection == command.connection and session.connected:
            pass  # said once more by the heir of an owner who had opened it
        elif session is not None and session.connected and session.accepted_at > command.accepted_at:
            # came late: a newer one has it
            effects.append((command.edge, SessionReplaced(session_id=session_id, connection=command.connection)))
            return
        elif session is not None:
            if session.connected or session.away_at:
                effects.append((session.edge, SessionReplaced(session_id=session_id, connection=session.connection)))
            self.keep(session_id)
            session.edge, session.connection, session.connected = command.edge, command.connection, True
            session.accepted_at, session.opening, session.heard = command.accepted_at, self.setting.next_version(), 0
            session.named = NONE
            self.set_disabled(session_id, command.disabled)
            self._take_first_word(session_id, command.privacy)
            for room_id in sorted(session.rooms):
                effects.append(self.resume_word(session_id, room_id, session.rooms[room_id], hears=False))
            self.update_activity(session_id, interacted=False)
        else:
            if not self._make_place():
                effects.append((command.edge, SessionRefused(connection=command.connection, code="TOO_MANY_SESSIONS")))
                return
            if trusting and command.resume is not None:  # signed, and its owner was lost with all it knew [N-c]
                session_id = command.resume
            session = self.sessions[session_id] = UserSession(
                command.edge,
                command.connection,
                command.accepted_at,
                self.setting.next_version(),
                disabled=command.disabled,
            )
            session.hide(self.wishes)
            self._take_first_word(session_id, command.privacy)
            self.update_activity(session_id, interacted=False)
        effects.append(
            (
                command.edge,
                SessionOpened(
                    user_id=self.id,
                    connection=command.connection,
                    session_id=session_id,
                    # one with rooms has been answered before; should it be gone by now, it has a grace
                    resumed=session_id == command.resume or bool(session.rooms),
                    rooms=sorted(session.rooms),
                    activity=session.activity,
                    privacy=session.privacy(),
                    opening=session.opening,
                    privacy_version=session.privacy_version,
                ),
            )
        )

    def _take_first_word(self, session_id: str, privacy: Privacy | None) -> None:
        """What a new connection said of its privacy in its `auth` is the first of its words."""
        if privacy is not None:
            self.sessions[session_id].heard = 1
            self.spread_privacy(session_id, privacy)

    @property
    def full(self) -> bool:
        """Has the user as many sessions as one may have, those in their grace included [C11]?"""
        return len(self.sessions) >= self.setting.limits.max_sessions_per_user

    def _make_place(self) -> bool:
        """Room for one more socket: a session in its grace goes first [C11], then the lease that ends first, because
        what nobody looks at must not shut a person's own tab out."""
        limits = self.setting.limits
        if not self.full:
            return True
        for session_id, session in self.sessions.items():  # oldest first
            if not session.connected:
                self.forget(session_id, "disconnected")
                return True
        leases = [session_id for session_id, session in self.sessions.items() if session.leased]
        if leases:
            self.forget(min(leases, key=lambda each: self.sessions[each].lease_until), "timeout")
            return True
        if limits.evict_oldest:
            session_id, session = next(iter(self.sessions.items()))
            self.setting.effects.append(
                (session.edge, SessionEvicted(session_id=session_id, connection=session.connection))
            )
            self.forget(session_id, "kicked")
            return True
        return False

    def end(self, command: EndSession, now: float) -> None:
        """The socket is gone: hold the session for the grace, or forget it [D2]. A late word of an old socket that a
        resume has replaced is ignored [D16]. That of a socket with which a lost owner had resumed the session, which is
        not known here, begins the grace anew."""
        session = self.sessions.get(command.session_id)
        if session is None:
            return
        resumed_elsewhere = not session.connected and command.opening > session.opening
        if session.connection != command.connection:
            if not resumed_elsewhere:
                return
            session.edge, session.connection = command.edge, command.connection
        if not command.grace or (self.setting.limits.grace_s <= 0.0 and not command.migrates):
            self.forget(command.session_id, command.reason)
        elif session.connected or resumed_elsewhere:
            session.opening = self.setting.next_version()  # what this connection has said before comes too late now
            self.hold(command.session_id, now, away_at=now + MIGRATION_S if command.migrates else 0.0)

    def hold(self, session_id: str, now: float, *, away_at: float = 0.0) -> None:
        """The session's connection is lost: it may resume until the grace is over [D2]. It is shown as connected until
        monotonic second `away_at`."""
        session = self.sessions[session_id]
        session.connected, session.away_at = False, away_at
        self.hold_until(session_id, now + self.setting.limits.grace_s)
        if away_at:
            self.setting.deadlines.set(("session", self.id, session_id), away_at)
        for room_id in sorted(session.rooms):
            self.setting.effects.append(
                SuspendMember(
                    room_id=room_id,
                    session_id=session_id,
                    connection=session.connection,
                    grace_until=session.grace_until,
                    version=self.setting.next_version(),
                    away_at=away_at,
                )
            )
        self.update_activity(session_id, interacted=False)

    def hold_until(self, session_id: str, grace_until: float, not_before: float = 0.0) -> None:
        """A lost session's grace ends at monotonic second `grace_until`; it is given up then, or at `not_before` when
        that is later."""
        self.sessions[session_id].grace_until = grace_until
        self.setting.deadlines.set(("session", self.id, session_id), max(grace_until, not_before))

    def keep(self, session_id: str) -> None:
        """The session has a connection (again): its grace, if it was in one, is over."""
        session = self.sessions[session_id]
        session.grace_until = session.away_at = 0.0
        self.setting.deadlines.cancel(("session", self.id, session_id))

    def expire(self, session_id: str, now: float) -> None:
        """The grace, or the lease, is over; the rooms end the membership at the same time by their own deadline. A
        grace goes on while the service is behind. Before that a client that was sent to another worker, and has not
        come there, counts as away."""
        session = self.sessions[session_id]
        if session.away_at:
            session.away_at = 0.0
            self.update_activity(session_id, interacted=False)
            if session.grace_until > now:
                self.hold_until(session_id, session.grace_until)
                return
        until = 0.0 if session.leased else self.setting.more_grace(session.grace_until, now)
        if until:
            self.setting.deadlines.set(("session", self.id, session_id), until)
        else:
            self.forget(session_id, "timeout" if session.leased else "disconnected")

    def forget(self, session_id: str, reason: str) -> None:
        """The session has ended, and with it its memberships; `reason` is user_left's."""
        session = self.sessions.pop(session_id)
        self.setting.deadlines.cancel(("session", self.id, session_id))
        for room_id, stay in sorted(session.rooms.items()):
            self.setting.effects.append(RemoveMember(room_id=room_id, session_id=session_id, reason=reason, stay=stay))
        self.update_activity(session_id, interacted=False)

    # --- rooms ----------------------------------------------------------------------------------------------------

    def enter(self, command: EnterRoom) -> None:
        """Count the room, then let its owner decide. Errors: TOO_MANY_ROOMS [C10], UNAUTHENTICATED for a session that
        is gone meanwhile."""
        session = self.sessions.get(command.visitor.session_id)
        if session is None:
            raise PresenceError("UNAUTHENTICATED", "This session has ended. Connect again.")
        if command.call is None:
            if self._is_late(session, command.visitor.connection, command.visitor.opening):
                return  # said once more for a connection that is no more
            if not session.connected or session.connection != command.visitor.connection:
                # a lost owner had given it the session, or an edge's word of it came too late
                hears = session.connection == command.visitor.connection
                session.edge, session.connection = command.visitor.edge, command.visitor.connection
                session.named = NONE
                session.opening, session.connected = max(session.opening, command.visitor.opening), True
                self.keep(command.visitor.session_id)
                self._tell_back(command.visitor.session_id, command.room_id, hears=hears)
        if command.privacy is not None:  # in any case, for the edge counts on it
            self.spread_privacy(command.visitor.session_id, command.privacy)
            if command.call is not None:
                self.tell_privacy(command.visitor.session_id)
        self.check_rooms(command.room_id)
        stay = session.rooms[command.room_id] = self.setting.next_version()
        session.forget_named(command.room_id)
        visitor = command.visitor
        visitor.privacy_version, visitor.disabled = session.privacy_version, session.disabled
        visitor.invisible = session.invisible
        visitor.share_cursor, visitor.share_selection = session.share_cursor, session.share_selection
        self.setting.effects.append(
            AdmitMember(room_id=command.room_id, enter=command, stay=stay, profile=self.profile)
        )

    @staticmethod
    def _is_late(session: UserSession, connection: int, opening: int) -> bool:
        """Is this the word of a connection from which the session has gone?"""
        return opening < session.opening and not (session.connected and session.connection == connection)

    def regrant(self, command: ChangeGrant) -> None:
        """What a session may do in a room is new [A4]."""
        session = self.sessions.get(command.session_id)
        if session is None or self._is_late(session, command.connection, command.opening):
            return
        word = UpdatePermissions(
            room_id=command.room_id,
            session_id=command.session_id,
            version=self.setting.next_version(),
            can_control=command.can_control,
            can_broadcast=command.can_broadcast,
            moderator=command.moderator,
        )
        self.setting.effects.append(word)

    def _tell_back(self, session_id: str, but: str, *, hears: bool) -> None:
        """The session is connected after all: all its rooms but one are told."""
        session = self.sessions[session_id]
        for room_id in sorted(session.rooms.keys() - {but}):
            self.setting.effects.append(self.resume_word(session_id, room_id, session.rooms[room_id], hears=hears))

    def resume_word(self, session_id: str, room_id: str, stay: int, *, hears: bool) -> ResumeMember:
        """What tells a room that the session is connected."""
        session = self.sessions[session_id]
        return ResumeMember(
            room_id=room_id,
            session_id=session_id,
            user_id=self.id,
            edge=session.edge,
            connection=session.connection,
            version=self.setting.next_version(),
            stay=stay,
            hears=hears,
        )

    def check_rooms(self, room_id: str) -> None:
        """Errors: TOO_MANY_ROOMS when `room_id` would be one too many [C10]."""
        rooms = {room_id for each in self.sessions.values() for room_id in each.rooms}
        if room_id not in rooms and len(rooms) >= self.setting.limits.max_rooms_per_user:
            raise PresenceError("TOO_MANY_ROOMS")

    def leave(self, command: LeaveRoom) -> None:
        """A client's own leave; the room answers it."""
        word = RemoveMember(
            room_id=command.room_id, session_id=command.session_id, reason=command.reason, id=command.id
        )
        self.step_out(word)

    def step_out(self, word: RemoveMember) -> None:
        """A session leaves a room, which is told with `word`; with its room a lease ends."""
        session = self.sessions.get(word.session_id)
        if session is not None:
            session.forget_named(word.room_id)
            # the stay that ends; when it is not known, any until now
            word.stay = session.rooms.pop(word.room_id, 0) or self.setting.next_version()
        self.setting.effects.append(word)
        self._end_lease(word.session_id, word.reason)

    def left(self, session_id: str, room_id: str, stay: int) -> None:
        """The room says that the session is not in it (any more)."""
        session = self.sessions.get(session_id)
        if session is not None and session.rooms.get(room_id) == stay:
            del session.rooms[room_id]
            self._end_lease(session_id, "timeout")

    def _end_lease(self, session_id: str, reason: str) -> None:
        session = self.sessions.get(session_id)
        if session is not None and session.leased and not session.rooms:
            self.forget(session_id, reason)

    # --- what the person shows ------------------------------------------------------------------------------------

    def report(self, command: ReportActivity) -> None:
        """A session's activity; the user's is the best of the connected ones [D10]."""
        session = self.sessions.get(command.session_id)
        if session is not None:
            session.activity = command.activity
            self.update_activity(command.session_id, interacted=command.interacted)

    def change_status(self, command: ChangeStatus) -> dict[str, object]:
        """setStatus: active and idle clear the manual status [D8]. Returns the fields of the acknowledgement [M5]."""
        data = command.message.data
        before, self.blank = self.profile.shows, 0
        self.manual = data.status if data.status in MANUAL else None
        if isinstance(data.status_message, str):
            self.status_message = data.status_message
        session = self.sessions.get(command.session_id)
        if session is not None:
            session.activity = command.activity
            self.activity = self.liveliest()
        self.spread_profile(command.session_id, changed=self.profile.shows != before, interacted=True)
        return {"success": True, "status": self.profile.status, "statusMessage": self.status_message}

    def change_privacy(self, command: ChangePrivacy) -> dict[str, object]:
        """The live switches of K1. Returns the fields of the acknowledgement. Errors: FORBIDDEN for a user whose token
        has switched presence off and who wants to be seen."""
        session = self.sessions.get(command.session_id)
        if session is None:
            raise PresenceError("UNAUTHENTICATED", "This session has ended. Connect again.")
        new = self.hear(command)
        if new and command.disabled is not None:
            self.set_disabled(command.session_id, command.disabled)
        if new and session.disabled and command.privacy.invisible is False:
            raise presence_is_off()
        if new:
            self.spread_privacy(command.session_id, command.privacy)
        return {
            "success": True,
            "invisible": session.invisible,
            "shareCursor": session.share_cursor,
            "shareSelection": session.share_selection,
        }

    def change_with_join(self, command: ChangePrivacy) -> None:
        """The privacy that came with a join: nothing of it is answered, and who is disabled stays so."""
        if command.session_id in self.sessions:
            if self.hear(command):
                self.spread_privacy(command.session_id, command.privacy)
            if len(self.sessions) > 1:  # another tab may have changed it meanwhile
                self.tell_privacy(command.session_id)

    def hear(self, command: ChangePrivacy) -> bool:
        """Is a change of privacy new here, and does it come in its turn? One of the socket may be repeated to an
        heir, or come when the session has another connection that has spoken of it. From here on it has been heard."""
        session = self.sessions[command.session_id]
        if not command.word:  # by another way than the session's socket
            return True
        if command.connection != session.connection:
            return not session.heard or not self._is_late(session, command.connection, command.opening)
        before, session.heard = session.heard, max(session.heard, command.word)
        return command.word > before

    def spread_privacy(self, session_id: str, privacy: Privacy) -> None:
        """Let the session, or by its scope all of the user's, hide what `privacy` says [K6]."""
        targets = [session_id]
        if privacy.scope == "user":
            targets = list(self.sessions)
            for name in ("invisible", "share_cursor", "share_selection"):  # for the tabs to come, too
                if isinstance(value := getattr(privacy, name), bool):
                    setattr(self.wishes, name, value)
        hidden = {each for each in targets if self.sessions[each].hidden}
        changed = [each for each in targets if self.sessions[each].hide(privacy)]
        for each in changed:
            self.sessions[each].privacy_version = self.setting.next_version()
        self._send_privacy(session_id, changed, hidden)
        for each in changed:
            if each != session_id:
                self.tell_privacy(each)

    def _send_privacy(self, session_id: str, changed: list[str], hidden: set[str]) -> None:
        """Tell the rooms what these sessions hide now, of which `hidden` were hidden before, and what the activity of
        the user is with that: before a session is seen again, which shows it, and after one is seen no more [K7]."""
        shown = [each for each in changed if each in hidden and not self.sessions[each].hidden]
        self._send_privacy_of([each for each in changed if each not in shown])
        self.update_activity(session_id, interacted=False)
        self._send_privacy_of(shown)

    def _send_privacy_of(self, session_ids: list[str]) -> None:
        for session_id in session_ids:
            for room_id in sorted(self.sessions[session_id].rooms):
                self.setting.effects.append(self.privacy_word(session_id, room_id))

    def tell_privacy(self, session_id: str) -> None:
        """What a session hides, for its edge, if it has one: it was said by another way than its socket [K6]."""
        session = self.sessions[session_id]
        if session.connected and not session.leased:
            news = SessionActed(
                session_id=session_id,
                privacy=session.privacy(),
                privacy_version=session.privacy_version,
                connection=session.connection,
                heard=session.heard,
            )
            self.setting.effects.append((session.edge, news))

    def set_disabled(self, session_id: str, disabled: bool) -> None:
        """The token's own word on presence [K1]."""
        session = self.sessions[session_id]
        if session.disabled != disabled:
            hidden = {session_id} if session.hidden else set()
            session.disabled, session.privacy_version = disabled, self.setting.next_version()
            self._send_privacy(session_id, [session_id], hidden)

    def believe_privacy(self, session_id: str, source: SessionInfo | SessionRecord) -> None:
        """A room or edge has a newer word of an earlier owner on what the session hides than its record has."""
        session = self.sessions[session_id]
        before, hidden = session.hides, {session_id} if session.hidden else set()
        session.invisible, session.disabled = source.invisible, source.disabled
        session.share_cursor, session.share_selection = source.share_cursor, source.share_selection
        session.privacy_version = source.privacy_version
        if session.hides != before:
            self._send_privacy(session_id, [session_id], hidden)

    def privacy_word(self, session_id: str, room_id: str) -> ApplyPrivacy:
        """What tells a room what the session hides."""
        session = self.sessions[session_id]
        return ApplyPrivacy(
            room_id=room_id,
            session_id=session_id,
            version=session.privacy_version,
            invisible=session.invisible,
            disabled=session.disabled,
            share_cursor=session.share_cursor,
            share_selection=session.share_selection,
        )

    def liveliest(self) -> Activity:
        """The best activity of the connected sessions [D10]; those that others may not know of count only when there
        is no visible one [K7]."""
        connected = [session for session in self.sessions.values() if session.connected or session.away_at]
        visible = [session for session in connected if not session.hidden]
        found = {session.activity for session in visible or connected}
        return next((activity for activity in _LIVELIEST if activity in found), self.activity)

    def update_activity(self, session_id: str, *, interacted: bool) -> None:
        """The user's activity may have changed with that of this session; the rooms are told if it has."""
        before = self.activity
        self.activity = self.liveliest()
        self.spread_profile(session_id, changed=self.activity != before, interacted=interacted)

    def spread_profile(self, session_id: str, *, changed: bool, interacted: bool) -> None:
        """Tell the rooms what the person shows: all of them when that has `changed`, else the session's own."""
        if not (changed or interacted):
            return
        own = set(self.sessions[session_id].rooms) if session_id in self.sessions else set()
        rooms = {room_id for each in self.sessions.values() for room_id in each.rooms} if changed else own
        profile = self.profile
        for room_id in sorted(rooms):
            self.setting.effects.append(
                ApplyProfile(
                    room_id=room_id,
                    user_id=self.id,
                    session_id=session_id,
                    profile=profile,
                    interacted=interacted,
                )
            )
