"""Handles a shard's commands for users: sessions, statuses, privacy, and the number of rooms. Commands for rooms are in
shard.py."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.protocol.commands import (
    BeatStream,
    ChangeGrant,
    ChangePrivacy,
    ChangeStatus,
    ConfirmMember,
    EndSession,
    EnterRoom,
    LeaveRoom,
    OpenSession,
    QueryLeases,
    RenewLeases,
    RenewUserInfo,
    ReportActivity,
    RoomLeft,
    SpendQueryBudget,
)
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.procedures import HeartbeatResult
from koko_presence.rooms.context import ShardContext
from koko_presence.rooms.handler_table import HandlerTable
from koko_presence.rooms.message_handlers import Result
from koko_presence.users import http_sessions, member_confirmation
from koko_presence.users.user import NO_ENDED, User, presence_is_off
from koko_presence.users.user_rate_limits import Budgets

USER_COMMANDS = HandlerTable()
MOST_ENDED_USERS = 1000  # users restored without a record whose last session has ended since: few at a time


class UserHandlers:
    """The users' part of one shard; `users` is written here and by takeover.py. `accepts_unknown_resumes(now)` returns
    whether an unknown session may have been held by a lost owner."""

    def __init__(
        self, context: ShardContext, users: dict[str, User], accepts_unknown_resumes: Callable[[float], bool]
    ) -> None:
        self._context = context
        self._users = users
        # users that were reported to a room as unknown, since the last change of owners
        self._denied: set[str] = set()
        # `User.ended_sessions` of users that are gone, the last ones: a room may still have one of the sessions
        self._ended_sessions: OrderedDict[str, Mapping[str, str]] = OrderedDict()
        self._accepts_unknown_resumes = accepts_unknown_resumes
        self._query_budgets = Budgets()  # of all HTTP callers, also those without a session

    def was_denied(self, user_id: str) -> bool:
        """Return whether a room was notified that the user is unknown, since the last change of owners."""
        return user_id in self._denied

    def forget_denied(self) -> None:
        """Drop the record of unknown users: owners have changed."""
        self._denied.clear()

    @USER_COMMANDS.handles(OpenSession)
    def _open(self, command: OpenSession, now: float) -> None:
        user = self._users.get(command.user_id)
        if user is None:
            user = self._users[command.user_id] = User(command.user_id, self._context)
        user.open(command, now, trusting=self._accepts_unknown_resumes(now))
        self.drop_if_gone(user)  # it may have had no session to resume

    @USER_COMMANDS.handles(EndSession)
    def _end(self, command: EndSession, now: float) -> None:
        user = self._users.get(command.user_id)
        if user is not None:
            user.end(command, now)
            self.drop_if_gone(user)

    @USER_COMMANDS.handles(EnterRoom)
    def _enter(self, command: EnterRoom, now: float) -> None:
        if command.by_call:
            user = self._users.get(command.user_id) or User(command.user_id, self._context)
            http_sessions.prepare(user, command, now)
            self._users[command.user_id] = user
        self._user(command.user_id).enter(command)

    @USER_COMMANDS.handles(LeaveRoom)
    def _leave(self, command: LeaveRoom, now: float) -> Result:
        user = self._users.get(command.user_id)
        result: Result = None
        if command.by_call:
            if not http_sessions.leave(user or User(command.user_id, self._context), command):
                result = {"success": True, "left": 0}
        elif user is not None:
            user.leave(command)
        if user is not None:
            self.drop_if_gone(user)  # a lease ends with its room
        return result

    @USER_COMMANDS.handles(RoomLeft)
    def _left(self, command: RoomLeft, now: float) -> None:
        user = self._users.get(command.user_id)
        if user is not None:
            user.left(command.session_id, command.room_id, command.membership_id)
            self.drop_if_gone(user)

    @USER_COMMANDS.handles(ConfirmMember)
    def _confirm_member(self, command: ConfirmMember, now: float) -> None:
        user = self._users.get(command.user_id)
        if command.session_info.lease_until:
            user = user or User(command.user_id, self._context)
            http_sessions.restore_http_session(user, command, now)
            if user.sessions:
                self._users[user.id] = user
                member_confirmation.reconcile_shown(user, command)
            return
        if user is None:
            self._denied.add(command.user_id)
            user = self._users[command.user_id] = User(command.user_id, self._context)
            user.restored_empty_version = self._context.next_version()
            user.ended_sessions = self._ended_sessions.pop(command.user_id, NO_ENDED)
        member_confirmation.confirm(user, command, now)
        member_confirmation.reconcile_shown(user, command)
        self.drop_if_gone(user)

    @USER_COMMANDS.handles(ReportActivity)
    def _report(self, command: ReportActivity, now: float) -> None:
        user = self._users.get(command.user_id)
        if user is not None:
            user.report(command)

    @USER_COMMANDS.handles(ChangeStatus)
    def _change_status(self, command: ChangeStatus, now: float) -> Result:
        if not command.by_call:
            known = self._users.get(command.user_id)
            return None if known is None else known.change_status(command)
        user = self._charged_user(command, now)
        if command.disabled and any(not session.disabled for session in user.sessions.values()):
            raise presence_is_off()  # they would show the status
        return user.change_status(command)

    @USER_COMMANDS.handles(ChangePrivacy)
    def _change_privacy(self, command: ChangePrivacy, now: float) -> Result:
        user = self._users.get(command.user_id)
        if command.of_join:
            if user is not None:
                user.change_with_join(command)
            return None
        try:
            if command.by_call:
                return http_sessions.change_privacy(self._charged_user(command, now), command)
            if user is None:
                return None
            result = user.change_privacy(command)
            if len(user.sessions) > 1:  # another session may have changed it meanwhile: send the result
                user.send_privacy_to_edge(command.session_id)
            return result
        except PresenceError:
            if user is not None and command.session_id in user.sessions:
                user.accept_privacy_change(command)
                user.send_privacy_to_edge(command.session_id)  # its edge may have applied it
            raise

    @USER_COMMANDS.handles(RenewUserInfo)
    def _renew_user_info(self, command: RenewUserInfo, now: float) -> None:
        user = self._users.get(command.user_id)
        if user is not None:
            user.take_user_info(command.session_id, command.user_info)

    @USER_COMMANDS.handles(ChangeGrant)
    def _change_grant(self, command: ChangeGrant, now: float) -> None:
        user = self._users.get(command.user_id)
        if user is not None:
            user.regrant(command)

    @USER_COMMANDS.handles(SpendQueryBudget)
    def _spend_query_budget(self, command: SpendQueryBudget, now: float) -> Result:
        limits = self._context.limits
        self._query_budgets.take(command.user_id, limits.join_hz, limits.join_burst, now)
        return {"success": True}

    @USER_COMMANDS.handles(QueryLeases)
    def _query_leases(self, command: QueryLeases, now: float) -> list[tuple[str, str]]:
        user = self._users.get(command.user_id)
        return [] if user is None else http_sessions.held(user, command.session_id, shown=command.shown)

    @USER_COMMANDS.handles(RenewLeases)
    def _renew(self, command: RenewLeases, now: float) -> None:
        user = self._users.get(command.user_id)
        if user is None:
            raise http_sessions.nothing_to_renew()
        http_sessions.renew(user, command, now)

    @USER_COMMANDS.handles(BeatStream)
    def _beat(self, command: BeatStream, now: float) -> HeartbeatResult:
        user = self._users.get(command.user_id)
        if user is None:
            raise http_sessions.nothing_to_renew()
        http_sessions.beat(user, command)
        wall = self._context.wall
        return HeartbeatResult(
            success=True, renewed=1, timestamp=wall.iso(now), server_time=wall.ms(now), echo=command.client_time
        )

    def _charged_user(self, command: ChangeStatus | ChangePrivacy, now: float) -> User:
        """Return the user that a call changes, and charge its budget; a socket's session has such a budget at its edge.
        Errors: SESSION_REQUIRED, RATE_LIMITED."""
        user = self._users.get(command.user_id)
        if user is None or (command.session_id and command.session_id not in user.sessions):
            raise http_sessions.unknown_session()
        if user.budget is None:
            user.budget = TokenBucket(self._context.limits.status_hz, self._context.limits.status_burst)
        if not user.budget.take(now):
            raise PresenceError("RATE_LIMITED", retry_after_s=user.budget.ready_at(now) - now)
        return user

    def _user(self, user_id: str) -> User:
        user = self._users.get(user_id)
        if user is None:
            raise PresenceError("UNAUTHENTICATED", "This session has ended. Connect again.")
        return user

    def drop_if_gone(self, user: User) -> None:
        """Drop a user without sessions."""
        if user.sessions:
            return
        self._users.pop(user.id, None)  # and with it the status message [D13]
        if user.ended_sessions:
            self._ended_sessions.pop(user.id, None)
            self._ended_sessions[user.id] = user.ended_sessions
            if len(self._ended_sessions) > MOST_ENDED_USERS:
                self._ended_sessions.popitem(last=False)
