"""Holds one user on its owner: all its sessions, wherever they are connected, the limits over them, and the user's
profile.

Invariants: at most `max_sessions_per_user` sessions, those in their grace period included [C11]; at most
`max_rooms_per_user` distinct rooms over all of them [C10]; one profile for all rooms and sessions [D10].
"""

from collections.abc import Mapping
from types import MappingProxyType

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
    UserInfo,
)
from koko_presence.protocol.edge_messages import (
    SessionActed,
    SessionEvicted,
    SessionOpened,
    SessionRefused,
    SessionReplaced,
)
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.models import Activity, Privacy
from koko_presence.protocol.snapshots import SessionRecord
from koko_presence.rooms.context import ShardContext

from .session import NONE, UserSession

MIGRATION_S = 3.0  # a client that was sent to another worker is shown as connected for this time
MANUAL = frozenset(("busy", "reviewing", "away"))
NO_ENDED: Mapping[str, str] = MappingProxyType({})  # shared: only a user that was restored without a record has some
UNKNOWN_VERSION = 1  # below all that owners give
_LIVELIEST: tuple[Activity, ...] = ("active", "idle", "away")


def presence_is_off() -> PresenceError:
    """Return the error for a user whose presence the token, the session's or the caller's, or the back end has switched
    off [K1, Q11]."""
    return PresenceError("FORBIDDEN", "Presence is switched off for you. Only your application can change that.")


class User:
    """The state and rules of one user. Commands for rooms and messages for edges go into the effects of
    `context`, in order."""

    __slots__ = (
        "activity", "budget", "context", "ended_sessions", "id", "idle_at", "manual", "privacy_defaults",
        "restored_empty_version", "restored_profile_version", "revision", "sessions", "status_at", "status_message",
        "user_info", "user_info_version",
    )  # fmt: skip

    def __init__(self, user_id: str, context: ShardContext) -> None:
        self.id = user_id
        self.context = context
        self.sessions: dict[str, UserSession] = {}
        self.manual: str | None = None
        self.status_message = ""
        self.user_info = UserInfo()  # of the newest token; without a name until a token is known here
        self.user_info_version = 0  # at which it was known; decides between tokens that were issued in the same second
        # The monotonic second at which the user was set to idle, as long as no session has acted since [D8]; else 0.0
        self.idle_at = 0.0
        self.status_at = 0.0  # the monotonic second at which the status was last set
        self.activity: Activity = "active"
        self.revision = 0  # of the last record written; of two records the higher revision is the newer
        self.budget: TokenBucket | None = None  # of HTTP calls for status and privacy [M8]
        # The version at which the user was restored without a record: rooms have more of what the user shows. 0: it was
        # not.
        self.restored_empty_version = 0
        # Sessions that have ended since, the last ones, with their reasons: a room may still have one of them.
        self.ended_sessions: Mapping[str, str] = NO_ENDED
        self.restored_profile_version = 0  # the version of the profile that was restored from rooms
        self.privacy_defaults = Privacy()  # what the user hides with scope "user" [K6]

    @property
    def profile(self) -> Profile:
        """The shown profile, without a version. Its status is the manual one if that is busy, reviewing or away, else
        the activity [D8]."""
        return self._profile(version=0)

    def issue_profile(self) -> Profile:
        """Return the shown profile with a new version, to be sent to rooms."""
        return self._profile(version=self.context.next_version())

    def _profile(self, version: int) -> Profile:
        status = self.manual if self.manual is not None else self.activity
        return Profile(
            status=status,  # type: ignore[arg-type]
            status_message=self.status_message,
            activity=self.activity,
            user_info=self.user_info,
            version=version,
            status_at=self.status_at,
        )

    def note_restored(self, revision: int) -> None:
        """Record the revision of the record from which the user was restored."""
        self.revision = revision

    def advance_revision(self) -> None:
        """Give the user's next record a revision above all earlier ones."""
        self.revision = self.context.next_version(self.revision)

    # --- sessions -------------------------------------------------------------------------------------------------

    def open(self, command: OpenSession, now: float, *, trusting: bool = False) -> None:
        """Open a new session, or resume an earlier one; at the limit a session in its grace period is ended first
        [C11]. `trusting`: an owner was lost a short time ago, which may have held the session."""
        add_effect = self.context.add_effect
        if command.resumes_only and command.resume not in self.sessions and not trusting:
            add_effect((command.edge, SessionRefused(connection=command.connection, code="UNAUTHENTICATED")))
            return
        session_id = command.resume if command.resume in self.sessions else command.new_session_id
        session = self.sessions.get(session_id)
        if session is not None and session.connection == command.connection and session.connected:
            pass  # repeated to the backup owner of a lost owner that had opened it
        elif session is not None and session.connected and session.accepted_at > command.accepted_at:
            # came late: a newer connection has the session
            add_effect((command.edge, SessionReplaced(session_id=session_id, connection=command.connection)))
            return
        elif session is not None:
            if session.connected or session.away_at:
                add_effect((session.edge, SessionReplaced(session_id=session_id, connection=session.connection)))
            self.end_grace(session_id)
            session.edge, session.connection, session.connected = command.edge, command.connection, True
            session.accepted_at, session.stream = command.accepted_at, command.stream
            session.session_version = self.context.next_version()
            session.received_privacy_seq = 0
            session.named = NONE
            self.set_disabled(session_id, command.disabled)
            self._apply_initial_privacy(session_id, command.privacy)
            for room_id in sorted(session.rooms):
                add_effect(self.issue_resume(session_id, room_id, session.rooms[room_id], subscribed=False))
            self.update_activity(session_id, interacted=False)
        else:
            if not self._free_slot():
                add_effect((command.edge, SessionRefused(connection=command.connection, code="TOO_MANY_SESSIONS")))
                return
            if trusting and command.resume is not None:  # signed, and lost with its owner's records [N-c]
                session_id = command.resume
            session = self.sessions[session_id] = UserSession(
                command.edge,
                command.connection,
                command.accepted_at,
                self.context.next_version(),
                disabled=command.disabled,
            )
            session.stream = command.stream
            if self.idle_at:  # a connection is no act; a join is
                session.activity = "idle"
            session.hide(self.privacy_defaults)
            self._apply_initial_privacy(session_id, command.privacy)
            self.update_activity(session_id, interacted=False)
        self.take_user_info(session_id, command.user_info)
        add_effect(
            (
                command.edge,
                SessionOpened(
                    user_id=self.id,
                    connection=command.connection,
                    session_id=session_id,
                    # a session with rooms was opened before; if it is gone by now, it has a grace period
                    resumed=session_id == command.resume or bool(session.rooms),
                    rooms=sorted(session.rooms),
                    activity=session.activity,
                    privacy=session.privacy(),
                    session_version=session.session_version,
                    privacy_version=session.privacy_version,
                ),
            )
        )

    def _apply_initial_privacy(self, session_id: str, privacy: Privacy | None) -> None:
        """Apply the privacy in a new connection's `auth`, which is the first of its privacy changes."""
        if privacy is not None:
            self.sessions[session_id].received_privacy_seq = 1
            self.apply_privacy(session_id, privacy)

    @property
    def full(self) -> bool:
        """Whether the user has the maximum number of sessions, those in their grace period included [C11]."""
        return len(self.sessions) >= self.context.limits.max_sessions_per_user

    def _free_slot(self) -> bool:
        """Make place for one more socket. A session in its grace period is ended first [C11], then the lease that ends
        first: a lease must not keep a user's own tab out. Return False when there is no place."""
        limits = self.context.limits
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
            self.context.add_effect(
                (session.edge, SessionEvicted(session_id=session_id, connection=session.connection))
            )
            self.forget(session_id, "kicked")
            return True
        return False

    def end(self, command: EndSession, now: float) -> None:
        """Handle the loss of a socket: suspend the session for the grace period, or end it [D2]. The late message of an
        earlier socket, which a resume has replaced, is ignored [D16]. The message of a socket with which a lost owner
        had resumed the session, unknown here, begins the grace period anew."""
        session = self.sessions.get(command.session_id)
        if session is None:
            return
        resumed_elsewhere = not session.connected and command.session_version > session.session_version
        if session.connection != command.connection:
            if not resumed_elsewhere:
                return
            session.edge, session.connection = command.edge, command.connection
        if not command.grace or (self.context.limits.grace_s <= 0.0 and not command.migrates):
            self.forget(command.session_id, command.reason)
        elif session.connected or resumed_elsewhere:
            session.session_version = self.context.next_version()  # later messages of this connection are outdated
            self.suspend(command.session_id, now, away_at=now + MIGRATION_S if command.migrates else 0.0)

    def suspend(self, session_id: str, now: float, *, away_at: float = 0.0) -> None:
        """Keep a session whose connection is lost: it may resume until the grace period is over [D2]. It is shown as
        connected until monotonic second `away_at`."""
        session = self.sessions[session_id]
        session.connected, session.away_at = False, away_at
        self.keep_until(session_id, now + self.context.limits.grace_s)
        if away_at:
            self.context.deadlines.set(("session", self.id, session_id), away_at)
        for room_id in sorted(session.rooms):
            self.context.add_effect(
                SuspendMember(
                    room_id=room_id,
                    session_id=session_id,
                    connection=session.connection,
                    grace_until=session.grace_until,
                    version=self.context.next_version(),
                    away_at=away_at,
                )
            )
        self.update_activity(session_id, interacted=False)

    def keep_until(self, session_id: str, grace_until: float, not_before: float = 0.0) -> None:
        """Set the end of a lost session's grace period to monotonic second `grace_until`; the session ends then, or at
        `not_before` when that is later."""
        self.sessions[session_id].grace_until = grace_until
        self.context.deadlines.set(("session", self.id, session_id), max(grace_until, not_before))

    def end_grace(self, session_id: str) -> None:
        """End the session's grace period, if it is in one: it has a connection."""
        session = self.sessions[session_id]
        session.grace_until = session.away_at = 0.0
        self.context.deadlines.cancel(("session", self.id, session_id))

    def expire(self, session_id: str, now: float) -> None:
        """Handle the session's deadline: its `away_at`, the end of its grace period, or the end of its lease. From
        `away_at` on a client that was sent to another worker, and has not arrived there, counts as away. The grace
        period is extended while the service is behind. The rooms end the membership at the same time, by their own
        deadline."""
        session = self.sessions[session_id]
        if session.away_at:
            session.away_at = 0.0
            self.update_activity(session_id, interacted=False)
            if session.grace_until > now:
                self.keep_until(session_id, session.grace_until)
                return
        until = 0.0 if session.leased else self.context.more_grace(session.grace_until, now)
        if until:
            self.context.deadlines.set(("session", self.id, session_id), until)
        else:
            self.forget(session_id, "timeout" if session.leased else "disconnected")

    def forget(self, session_id: str, reason: str) -> None:
        """End the session and its memberships; `reason` is that of `user_left`."""
        session = self.sessions.pop(session_id)
        if self.restored_empty_version:
            last = list(self.ended_sessions.items())[1 - 2 * self.context.limits.max_sessions_per_user :]
            self.ended_sessions = dict(last) | {session_id: reason}
        self.context.deadlines.cancel(("session", self.id, session_id))
        for room_id, membership_id in sorted(session.rooms.items()):
            self.context.add_effect(
                RemoveMember(room_id=room_id, session_id=session_id, reason=reason, membership_id=membership_id)
            )
        self.update_activity(session_id, interacted=False)

    # --- rooms ----------------------------------------------------------------------------------------------------

    def enter(self, command: EnterRoom) -> None:
        """Count the room and pass the join on to its owner. Errors: TOO_MANY_ROOMS [C10], UNAUTHENTICATED for a session
        that has ended meanwhile."""
        session = self.sessions.get(command.session_info.session_id)
        if session is None:
            raise PresenceError("UNAUTHENTICATED", "This session has ended. Connect again.")
        if not command.by_call:
            if self._is_outdated(session, command.session_info.connection, command.session_info.session_version):
                return  # repeated for a connection that no longer has the session
            if not session.connected or session.connection != command.session_info.connection:
                # a lost owner had given it the session, or its edge's report came too late
                subscribed = session.connection == command.session_info.connection
                session.edge, session.connection = command.session_info.edge, command.session_info.connection
                session.named = NONE
                session.session_version = max(session.session_version, command.session_info.session_version)
                session.connected = True
                self.end_grace(command.session_info.session_id)
                self._resume_in_other_rooms(command.session_info.session_id, command.room_id, subscribed=subscribed)
        if command.by_call:
            self.take_user_info(command.session_info.session_id, command.user_info)
        else:
            self.take_repeated_user_info(command.session_info.session_id, command.user_info)
        if command.privacy is not None:  # even when the join fails: the edge has applied it
            self.apply_privacy(command.session_info.session_id, command.privacy)
            if command.by_call:
                self.send_privacy_to_edge(command.session_info.session_id)
        self.check_rooms(command.room_id)
        membership_id = session.rooms[command.room_id] = self.context.next_version()
        session.forget_named(command.room_id)
        session_info = command.session_info
        session_info.privacy_version, session_info.disabled = session.privacy_version, session.disabled
        session_info.invisible = session.invisible
        session_info.share_cursor, session_info.share_selection = session.share_cursor, session.share_selection
        self.context.add_effect(
            AdmitMember(
                room_id=command.room_id, enter=command, membership_id=membership_id, profile=self.issue_profile()
            )
        )

    @staticmethod
    def _is_outdated(session: UserSession, connection: int, session_version: int) -> bool:
        """Return whether a command comes from a connection that no longer has the session."""
        return session_version < session.session_version and not (
            session.connected and session.connection == connection
        )

    def regrant(self, command: ChangeGrant) -> None:
        """Pass on the session's new permissions in a room [A4]."""
        session = self.sessions.get(command.session_id)
        if session is None or self._is_outdated(session, command.connection, command.session_version):
            return
        update = UpdatePermissions(
            room_id=command.room_id,
            session_id=command.session_id,
            version=self.context.next_version(),
            can_control=command.can_control,
            can_broadcast=command.can_broadcast,
            moderator=command.moderator,
            presence=command.presence,
        )
        self.context.add_effect(update)

    def _resume_in_other_rooms(self, session_id: str, except_for: str, *, subscribed: bool) -> None:
        """Notify all rooms of the session, except the room `except_for`, that it is connected."""
        session = self.sessions[session_id]
        for room_id in sorted(session.rooms.keys() - {except_for}):
            self.context.add_effect(
                self.issue_resume(session_id, room_id, session.rooms[room_id], subscribed=subscribed)
            )

    def issue_resume(self, session_id: str, room_id: str, membership_id: int, *, subscribed: bool) -> ResumeMember:
        """Return a new command, with a new version, that notifies a room that the session is connected."""
        session = self.sessions[session_id]
        return ResumeMember(
            room_id=room_id,
            session_id=session_id,
            user_id=self.id,
            edge=session.edge,
            connection=session.connection,
            version=self.context.next_version(),
            membership_id=membership_id,
            subscribed=subscribed,
        )

    def check_rooms(self, room_id: str) -> None:
        """Check the limit of rooms. Errors: TOO_MANY_ROOMS when `room_id` would be one too many [C10]."""
        rooms = {room_id for each in self.sessions.values() for room_id in each.rooms}
        if room_id not in rooms and len(rooms) >= self.context.limits.max_rooms_per_user:
            raise PresenceError("TOO_MANY_ROOMS")

    def leave(self, command: LeaveRoom) -> None:
        """Handle a client's own leave; the room answers it. One of an earlier connection is ignored when the session
        has joined the room since over its present one. With `before`, a session that is not in the room, or that has
        come since, is left as it is, without an answer."""
        session = self.sessions.get(command.session_id)
        membership_id = None if session is None else session.rooms.get(command.room_id)
        if command.before and (membership_id is None or membership_id >= command.before):
            return
        if (
            command.connection
            and session is not None
            and self._is_outdated(session, command.connection, command.session_version)
            and membership_id is not None
            and membership_id > session.session_version
        ):
            return
        removal = RemoveMember(
            room_id=command.room_id, session_id=command.session_id, reason=command.reason, reply_to=command.reply_to
        )
        self.leave_room(removal)

    def leave_room(self, removal: RemoveMember) -> None:
        """Remove a session from a room, to which `removal` is sent; a lease ends with its room."""
        session = self.sessions.get(removal.session_id)
        if session is not None:
            session.forget_named(removal.room_id)
            # the membership that ends; if unknown, any up to now
            removal.membership_id = session.rooms.pop(removal.room_id, 0) or self.context.next_version()
        self.context.add_effect(removal)
        self._end_lease(removal.session_id, removal.reason)

    def left(self, session_id: str, room_id: str, membership_id: int) -> None:
        """Handle the room's message that the session is not in it, or no longer; ignored for an earlier membership."""
        session = self.sessions.get(session_id)
        if session is not None and session.rooms.get(room_id) == membership_id:
            del session.rooms[room_id]
            self._end_lease(session_id, "timeout")

    def _end_lease(self, session_id: str, reason: str) -> None:
        session = self.sessions.get(session_id)
        if session is not None and session.leased and not session.rooms:
            self.forget(session_id, reason)

    # --- name, status and privacy ---------------------------------------------------------------------------------

    def take_user_info(self, session_id: str, user_info: UserInfo, version: int = 0) -> None:
        """Show this name and image, which are those of a token of session `session_id`, in all rooms, unless a newer
        token has said otherwise [A5]. Of two that were issued in the same second, the one with the higher `version`
        counts: that of a record or of a room's profile; 0: the token comes now."""
        known, issued_at_s = self.user_info, user_info.issued_at_s
        is_older = issued_at_s < known.issued_at_s or (
            issued_at_s == known.issued_at_s and 0 < version < self.user_info_version
        )
        if known.name and (not issued_at_s or is_older):
            return
        self.user_info, self.user_info_version = user_info, version or self.context.next_version()
        self.publish_profile(session_id, changed=bool(known.name) and user_info.shows != known.shows, interacted=False)

    def take_repeated_user_info(self, session_id: str, user_info: UserInfo) -> None:
        """Show this name and image, which the token of a socket has said before, unless another token has said
        otherwise. If both were issued in the same second, the one known here came later, and counts."""
        if not self.user_info.name or user_info.issued_at_s > self.user_info.issued_at_s:
            self.take_user_info(session_id, user_info, UNKNOWN_VERSION)

    def report(self, command: ReportActivity) -> None:
        """Apply a session's activity; the user's is the best of the connected ones [D10]."""
        if not self._note_activity(command.session_id, command.activity, command.at):
            return
        if command.activity == "active":
            self.idle_at = 0.0
        self.update_activity(command.session_id, interacted=command.interacted)

    def _note_activity(self, session_id: str, activity: Activity, at: float) -> bool:
        """Set the activity that a session had at monotonic second `at`. Return False when it changes nothing: its edge
        has reported a later one, or it acted before the user was set to idle. A command that is repeated after the loss
        of an owner may arrive behind later ones, which took another way."""
        session = self.sessions.get(session_id)
        if session is None or at < session.activity_at or (activity == "active" and at < self.idle_at):
            return False
        session.activity, session.activity_at = activity, at
        return True

    def change_status(self, command: ChangeStatus) -> dict[str, object]:
        """setStatus: active and idle clear the manual status; idle makes all sessions idle, until one of them acts
        [D8]. A status that was set before the present one, and arrives late, changes the session's activity at most.
        The edge of a call's session gets the activity, unless the call is late: the edge would take it for a new act.
        Return the fields of the acknowledgement [M5]."""
        data, before = command.data, self.profile.shows
        is_latest = command.at >= self.status_at
        acted = self._note_activity(command.session_id, command.activity, command.at) and is_latest and command.by_call
        if is_latest:
            self.restored_empty_version, self.status_at = 0, command.at
            self.manual = data.status if data.status in MANUAL else None
            if isinstance(data.status_message, str):
                self.status_message = data.status_message
            self.idle_at = command.at if data.status == "idle" else 0.0
            if self.idle_at:
                # The edge of a call's session gets the activity itself. That of a socket's session has it, but the
                # session may have acted since: a command that is repeated after the loss of an owner may come behind
                # that report.
                self._make_idle(except_for=command.session_id if acted else "")
        self.activity = self.liveliest()
        self.publish_profile(command.session_id, changed=self.profile.shows != before, interacted=True)
        if acted:
            self.send_to_edge(SessionActed(session_id=command.session_id, activity=command.activity))
        return {"success": True, "status": self.profile.status, "statusMessage": self.status_message}

    def _make_idle(self, except_for: str) -> None:
        """Make all active sessions idle, and notify their edges, except that of session `except_for`."""
        for each, session in self.sessions.items():
            if session.activity == "active":
                session.activity = "idle"
            if each != except_for:
                self.send_idle_to_edge(each)

    def send_idle_to_edge(self, session_id: str) -> None:
        """Notify the session's edge, if it has one, that the user was set to idle; the edge reports an act since
        [D8]."""
        self.send_to_edge(SessionActed(session_id=session_id, idle_at=self.idle_at))

    def send_to_edge(self, acted: SessionActed) -> None:
        """Notify the edge of the message's session, if it has one, of an action for the session that did not come over
        its socket."""
        session = self.sessions.get(acted.session_id)
        if session is not None and session.connected and not session.leased:
            self.context.add_effect((session.edge, acted))

    def change_privacy(self, command: ChangePrivacy) -> dict[str, object]:
        """Apply the privacy switches of K1. Return the fields of the acknowledgement. Errors: FORBIDDEN when the token
        disables presence and the session is to become visible; UNAUTHENTICATED when it has ended."""
        session = self.sessions.get(command.session_id)
        if session is None:
            raise PresenceError("UNAUTHENTICATED", "This session has ended. Connect again.")
        new = self.accept_privacy_change(command)
        if new and command.disabled is not None:
            self.set_disabled(command.session_id, command.disabled)
        is_off = session.disabled or self.id in self.context.presence_off
        if new and is_off and command.privacy.invisible is False:
            raise presence_is_off()
        if new:
            self.apply_privacy(command.session_id, command.privacy)
        return {
            "success": True,
            "invisible": session.invisible,
            "shareCursor": session.share_cursor,
            "shareSelection": session.share_selection,
        }

    def change_with_join(self, command: ChangePrivacy) -> None:
        """Apply the privacy that came with a join. It is not answered, and a session with disabled presence stays
        disabled."""
        if command.session_id in self.sessions:
            if self.accept_privacy_change(command):
                self.apply_privacy(command.session_id, command.privacy)
            if len(self.sessions) > 1:  # another session may have changed it meanwhile
                self.send_privacy_to_edge(command.session_id)

    def accept_privacy_change(self, command: ChangePrivacy) -> bool:
        """Return whether a change of privacy is new and in order, and count it. One sent over the socket may be
        repeated to a backup owner, or arrive when the session has another connection that has changed its privacy."""
        session = self.sessions[command.session_id]
        if not command.privacy_seq:  # not over the session's socket
            return True
        if command.connection != session.connection:
            return not session.received_privacy_seq or not self._is_outdated(
                session, command.connection, command.session_version
            )
        before = session.received_privacy_seq
        session.received_privacy_seq = max(session.received_privacy_seq, command.privacy_seq)
        return command.privacy_seq > before

    def apply_privacy(self, session_id: str, privacy: Privacy) -> None:
        """Apply `privacy` to the session, or with scope "user" to all sessions of the user [K6]."""
        targets = [session_id]
        if privacy.scope == "user":
            targets = list(self.sessions)
            for name in ("invisible", "share_cursor", "share_selection"):  # for later sessions, too
                if isinstance(value := getattr(privacy, name), bool):
                    setattr(self.privacy_defaults, name, value)
        hidden = {each for each in targets if self.sessions[each].hidden}
        changed = [each for each in targets if self.sessions[each].hide(privacy)]
        for each in changed:
            self.sessions[each].privacy_version = self.context.next_version()
        self._send_privacy(session_id, changed, hidden)
        for each in changed:
            if each != session_id:
                self.send_privacy_to_edge(each)

    def _send_privacy(self, session_id: str, changed: list[str], hidden: set[str]) -> None:
        """Send the rooms what these sessions hide now; those in `hidden` were hidden before. The user's activity
        changes before a session becomes visible, which shows it, and after one has become hidden [K7]."""
        shown = [each for each in changed if each in hidden and not self.sessions[each].hidden]
        self._send_privacy_of([each for each in changed if each not in shown])
        self.update_activity(session_id, interacted=False)
        self._send_privacy_of(shown)

    def _send_privacy_of(self, session_ids: list[str]) -> None:
        for session_id in session_ids:
            for room_id in sorted(self.sessions[session_id].rooms):
                self.context.add_effect(self.privacy_command(session_id, room_id))

    def send_privacy_to_edge(self, session_id: str) -> None:
        """Send what a session hides to its edge, if it has one, after a change that did not come over its socket
        [K6]."""
        session = self.sessions[session_id]
        self.send_to_edge(
            SessionActed(
                session_id=session_id,
                privacy=session.privacy(),
                privacy_version=session.privacy_version,
                connection=session.connection,
                received_privacy_seq=session.received_privacy_seq,
            )
        )

    def set_disabled(self, session_id: str, disabled: bool) -> None:
        """Apply the token's switch of presence [K1]."""
        session = self.sessions[session_id]
        if session.disabled != disabled:
            hidden = {session_id} if session.hidden else set()
            session.disabled, session.privacy_version = disabled, self.context.next_version()
            self._send_privacy(session_id, [session_id], hidden)

    def restore_privacy(self, session_id: str, source: SessionInfo | SessionRecord) -> None:
        """Apply what a room or edge has from an earlier owner with a higher version on what the session hides."""
        session = self.sessions[session_id]
        before, hidden = session.hides, {session_id} if session.hidden else set()
        session.invisible, session.disabled = source.invisible, source.disabled
        session.share_cursor, session.share_selection = source.share_cursor, source.share_selection
        session.privacy_version = source.privacy_version
        if session.hides != before:
            self._send_privacy(session_id, [session_id], hidden)

    def privacy_command(self, session_id: str, room_id: str) -> ApplyPrivacy:
        """Return the command that sends a room what the session hides."""
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
        """Return the best activity of the connected sessions [D10]; hidden ones count only when there is no visible one
        [K7]."""
        connected = [session for session in self.sessions.values() if session.connected or session.away_at]
        visible = [session for session in connected if not session.hidden]
        found = {session.activity for session in visible or connected}
        return next((activity for activity in _LIVELIEST if activity in found), self.activity)

    def update_activity(self, session_id: str, *, interacted: bool) -> None:
        """Compute the user's activity after a change of this session, and send it to the rooms if it has changed."""
        before = self.activity
        self.activity = self.liveliest()
        self.publish_profile(session_id, changed=self.activity != before, interacted=interacted)

    def publish_profile(self, session_id: str, *, changed: bool, interacted: bool) -> None:
        """Send the profile to the rooms: to all of the user's when it has `changed`, else to the session's own."""
        if not (changed or interacted):
            return
        own = set(self.sessions[session_id].rooms) if session_id in self.sessions else set()
        rooms = {room_id for each in self.sessions.values() for room_id in each.rooms} if changed else own
        profile = self.issue_profile()
        for room_id in sorted(rooms):
            self.context.add_effect(
                ApplyProfile(
                    room_id=room_id,
                    user_id=self.id,
                    session_id=session_id,
                    profile=profile,
                    interacted=interacted,
                )
            )
