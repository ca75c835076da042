"""One user on their owner: all sessions wherever they are connected, the caps over them, and what the person shows.

Invariants: at most `max_sessions_per_user` sessions, those in their grace included [C11]; at most `max_rooms_per_user`
distinct rooms over all of them [C10]; one profile for all rooms and tabs [D10].
"""

from math import inf, nextafter

from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.commands import (
    Admit,
    ApplyPrivacy,
    ApplyProfile,
    ChangePrivacy,
    ChangeStatus,
    Drop,
    EndSession,
    EnterRoom,
    LeaveRoom,
    OpenSession,
    Profile,
    Remove,
    ReportActivity,
    Resume,
)
from koko_presence.errors import PresenceError
from koko_presence.messages import Activity, Privacy
from koko_presence.news import SessionActed, SessionEvicted, SessionOpened, SessionRefused, SessionReplaced

from .setting import Setting
from .usersession import UserSession

MANUAL = frozenset(("busy", "reviewing", "away"))
_LIVELIEST: tuple[Activity, ...] = ("active", "idle", "away")


def presence_is_off() -> PresenceError:
    """The token has switched presence off [K1], the session's or the caller's."""
    return PresenceError("FORBIDDEN", "Presence is switched off for you. Only your application can change that.")


class User:
    """All of one user. Commands for rooms and news for edges go into `setting.effects`, in order."""

    __slots__ = (
        "activity", "blank", "budget", "id", "manual", "revision", "sessions", "setting", "status_message", "stays",
        "wishes",
    )  # fmt: skip

    def __init__(self, user_id: str, setting: Setting) -> None:
        self.id = user_id
        self.setting = setting
        self.sessions: dict[str, UserSession] = {}
        self.manual: str | None = None
        self.status_message = ""
        self.activity: Activity = "active"
        self.stays = 0
        self.revision = 0  # counts changes, so that of two records the newer one is known
        self.budget: TokenBucket | None = None  # of HTTP calls for status and privacy [M8]
        self.blank = False  # taken over without a record: rooms know more of what the person shows
        self.wishes = Privacy()  # what the person has hidden with scope "user" [K6]

    @property
    def profile(self) -> Profile:
        """Shown status: the manual one if it says busy, reviewing or away, else the activity [D8]."""
        status = self.manual if self.manual is not None else self.activity
        return Profile(
            status=status,  # type: ignore[arg-type]
            status_message=self.status_message,
            activity=self.activity,
            revision=self.setting.next_revision(0),
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
        elif session is not None and session.connected and session.at > command.at:  # came late: a newer one has it
            effects.append((command.edge, SessionReplaced(session_id=session_id, connection=command.connection)))
            return
        elif session is not None:
            self.setting.deadlines.cancel(("session", self.id, session_id))
            if session.connected:
                effects.append((session.edge, SessionReplaced(session_id=session_id, connection=session.connection)))
            session.edge, session.connection, session.connected = command.edge, command.connection, True
            session.at = command.at
            self.set_disabled(session_id, command.disabled)
            if command.privacy is not None:
                self.spread_privacy(session_id, command.privacy)
            for room_id in sorted(session.rooms):
                effects.append(self.resume_word(session_id, room_id, session.rooms[room_id], hears=False, now=now))
            self.update_activity(session_id, interacted=False)
        else:
            if not self._make_place():
                effects.append((command.edge, SessionRefused(connection=command.connection, code="TOO_MANY_SESSIONS")))
                return
            if trusting and command.resume is not None:  # signed, and its owner was lost with all it knew [N-c]
                session_id = command.resume
            session = self.sessions[session_id] = UserSession(
                command.edge, command.connection, command.at, disabled=command.disabled
            )
            session.hide(self.wishes)
            if command.privacy is not None:
                self.spread_privacy(session_id, command.privacy)
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
                ),
            )
        )

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
        resume has replaced is ignored [D16]."""
        session = self.sessions.get(command.session_id)
        if session is None or session.connection != command.connection:
            return
        if not command.grace or self.setting.limits.grace_s <= 0.0:
            self.forget(command.session_id, command.reason)
        elif session.connected:
            session.at = nextafter(session.at, inf)  # what this connection has said before comes too late now
            self.hold(command.session_id, now)

    def hold(self, session_id: str, now: float) -> None:
        """The session's connection is lost: it may resume until the grace is over [D2]."""
        session = self.sessions[session_id]
        session.connected = False
        self.setting.deadlines.set(("session", self.id, session_id), now + self.setting.limits.grace_s)
        for room_id in sorted(session.rooms):
            self.setting.effects.append(
                Drop(room_id=room_id, session_id=session_id, connection=session.connection, said=now)
            )
        self.update_activity(session_id, interacted=False)

    def expire(self, session_id: str) -> None:
        """The grace, or the lease, is over; the rooms end the membership at the same time by their own deadline."""
        self.forget(session_id, "timeout" if self.sessions[session_id].leased else "disconnected")

    def forget(self, session_id: str, reason: str) -> None:
        """The session has ended, and with it its memberships; `reason` is user_left's."""
        session = self.sessions.pop(session_id)
        self.setting.deadlines.cancel(("session", self.id, session_id))
        for room_id, stay in sorted(session.rooms.items()):
            self.setting.effects.append(Remove(room_id=room_id, session_id=session_id, reason=reason, stay=stay))
        self.update_activity(session_id, interacted=False)

    # --- rooms ----------------------------------------------------------------------------------------------------

    def enter(self, command: EnterRoom, now: float) -> None:
        """Count the room, then let its owner decide. Errors: TOO_MANY_ROOMS [C10], UNAUTHENTICATED for a session that
        is gone meanwhile."""
        session = self.sessions.get(command.visitor.session_id)
        if session is None:
            raise PresenceError("UNAUTHENTICATED", "This session has ended. Connect again.")
        if command.call is None:
            if command.visitor.at < session.at:
                return  # said once more for a connection that is no more
            if not session.connected or session.connection != command.visitor.connection:
                # a lost owner had given it the session, or an edge's word of it came too late
                hears = session.connection == command.visitor.connection
                session.edge, session.connection = command.visitor.edge, command.visitor.connection
                session.at, session.connected = command.visitor.at, True
                self.setting.deadlines.cancel(("session", self.id, command.visitor.session_id))
                self._tell_back(command.visitor.session_id, command.room_id, hears=hears, now=now)
        if command.privacy is not None:  # in any case, for the edge counts on it
            self.spread_privacy(command.visitor.session_id, command.privacy)
            if command.call is not None:
                self.tell_privacy(command.visitor.session_id)
        self.check_rooms(command.room_id)
        session.rooms[command.room_id] = self._next_stay(now)
        visitor = command.visitor
        visitor.disabled = session.disabled
        visitor.invisible = session.invisible
        visitor.share_cursor, visitor.share_selection = session.share_cursor, session.share_selection
        self.setting.effects.append(
            Admit(room_id=command.room_id, enter=command, stay=self.stays, profile=self.profile)
        )

    def _next_stay(self, now: float) -> int:
        # above every number of an owner before this one, whose clock is the same
        self.stays = max(self.stays + 1, int(now * 1e6))
        return self.stays

    def _tell_back(self, session_id: str, but: str, *, hears: bool, now: float) -> None:
        """The session is connected after all: all its rooms but one are told."""
        session = self.sessions[session_id]
        for room_id in sorted(session.rooms.keys() - {but}):
            word = self.resume_word(session_id, room_id, session.rooms[room_id], hears=hears, now=now)
            self.setting.effects.append(word)

    def resume_word(self, session_id: str, room_id: str, stay: int, *, hears: bool, now: float) -> Resume:
        """What tells a room that the session is connected, as it is known here at monotonic second `now`."""
        session = self.sessions[session_id]
        return Resume(
            room_id=room_id,
            session_id=session_id,
            user_id=self.id,
            edge=session.edge,
            connection=session.connection,
            at=session.at,
            said=now,
            stay=stay,
            hears=hears,
        )

    def check_rooms(self, room_id: str) -> None:
        """Errors: TOO_MANY_ROOMS when `room_id` would be one too many [C10]."""
        rooms = {room_id for each in self.sessions.values() for room_id in each.rooms}
        if room_id not in rooms and len(rooms) >= self.setting.limits.max_rooms_per_user:
            raise PresenceError("TOO_MANY_ROOMS")

    def leave(self, command: LeaveRoom, now: float) -> None:
        """A client's own leave; the room answers it."""
        word = Remove(room_id=command.room_id, session_id=command.session_id, reason=command.reason, id=command.id)
        self.step_out(word, now)

    def step_out(self, word: Remove, now: float) -> None:
        """A session leaves a room, which is told with `word`; with its room a lease ends."""
        session = self.sessions.get(word.session_id)
        if session is not None:
            word.stay = session.rooms.pop(word.room_id, 0) or self._next_stay(now)  # not known: any until now
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
        before, self.blank = self.profile.shows, False
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
        if command.disabled is not None:
            self.set_disabled(command.session_id, command.disabled)
        if session.disabled and command.privacy.invisible is False:
            raise presence_is_off()
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
            self.spread_privacy(command.session_id, command.privacy)
            if len(self.sessions) > 1:  # another tab may have changed it meanwhile
                self.tell_privacy(command.session_id)

    def spread_privacy(self, session_id: str, privacy: Privacy) -> None:
        """Let the session, or by its scope all of the user's, hide what `privacy` says [K6]."""
        targets = [session_id]
        if privacy.scope == "user":
            targets = list(self.sessions)
            for name in ("invisible", "share_cursor", "share_selection"):  # for the tabs to come, too
                if isinstance(value := getattr(privacy, name), bool):
                    setattr(self.wishes, name, value)
        for each in targets:
            if self.sessions[each].hide(privacy):
                self._apply_privacy(each)
                if each != session_id:
                    self.tell_privacy(each)

    def tell_privacy(self, session_id: str) -> None:
        """What a session hides, for its edge, if it has one: it was said by another way than its socket [K6]."""
        session = self.sessions[session_id]
        if session.connected and not session.leased:
            news = SessionActed(session_id=session_id, privacy=session.privacy())
            self.setting.effects.append((session.edge, news))

    def set_disabled(self, session_id: str, disabled: bool) -> None:
        """The token's own word on presence [K1]."""
        if self.sessions[session_id].disabled != disabled:
            self.sessions[session_id].disabled = disabled
            self._apply_privacy(session_id)

    def _apply_privacy(self, session_id: str) -> None:
        session = self.sessions[session_id]
        for room_id in sorted(session.rooms):
            self.setting.effects.append(
                ApplyPrivacy(
                    room_id=room_id,
                    session_id=session_id,
                    invisible=session.invisible,
                    disabled=session.disabled,
                    share_cursor=session.share_cursor,
                    share_selection=session.share_selection,
                )
            )

    def liveliest(self) -> Activity:
        """The best activity of the connected sessions [D10]."""
        shown = {session.activity for session in self.sessions.values() if session.connected}
        return next((activity for activity in _LIVELIEST if activity in shown), self.activity)

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
