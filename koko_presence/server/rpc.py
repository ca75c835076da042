"""Executes the specification's procedures for HTTP calls: checks input and access, and returns the owner's answer.

Procedures send the commands that a session with a socket sends, so rules, limits and errors are the same [M1 to M9].
`Procedures` writes the rates of its callers and the table of HTTP sessions that it has served. For a session with a
socket, its edge gets the effects of a call from the owner (`SessionActed`); a change of privacy applies at once when
this worker is the edge.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
from msgspec import UNSET, Raw

from koko_presence.access.policy import UNSURE, Access, Action, Grant, settings_for
from koko_presence.auth.cookies import SessionCookie
from koko_presence.auth.hmac_jwt import Identity
from koko_presence.protocol.codec import check_presence, encode_presence
from koko_presence.protocol.commands import (
    NO_EDGE,
    Authority,
    BeatStream,
    ChangeGrant,
    ChangePrivacy,
    ChangeStatus,
    EnterRoom,
    LeaveRoom,
    QueryActive,
    QueryLeases,
    QuerySummary,
    RenewLeases,
    RoomAction,
    SessionInfo,
    SpendQueryBudget,
)
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import PROCEDURES, ROOM_MESSAGES, Join, PresenceMessage, SetPrivacy, SetStatus
from koko_presence.protocol.procedures import HeartbeatInput, LeaveInput, RoomTarget, SummariesResult, Target
from koko_presence.users.http_sessions import is_lease, lease_id
from koko_presence.users.user import presence_is_off
from koko_presence.users.user_rate_limits import Budgets

from .address_limits import RETRY_CONNECTION_S
from .http_session_holders import Lease, Leaseholders
from .pending_requests import PendingRequests
from .room_checks import CHECKS_AT_ONCE, check_room_id, checked_type, refused_room, requested_type, settled_type
from .rpc_inputs import read, read_message
from .self_service import change_privacy, hide_with_join
from .session import Session
from .session_ports import EdgeServices

log = logging.getLogger("koko_presence.procedures")

# Calls of one user on one worker: cursors and selections at their full rates, and ten more per second. Owners apply
# their own limits as well [M8]; this one protects the owners.
CALL_HZ, CALL_BURST = 50.0, 100.0

NO_MEMORY = "The server has no room for more people just now. Try again in a moment."


# The grant of a member's call when the access check has no answer: it narrows nothing, so the member's own permissions
# count.
MEMBERS_OWN = Grant(allow=True, can_control=True, can_broadcast=True, moderator=True)


class Caller(NamedTuple):
    """The caller: a verified identity, the session id of header x-presence-session, "" without one [M1], and what it
    was verified by: the token of header Authorization, "" without one, or the cookie. A call on a socket has
    neither."""

    identity: Identity
    session_id: str = ""
    token: str = ""
    cookie: SessionCookie | None = None


class _Joined(msgspec.Struct, rename="camel"):
    """The part of `JoinResult` that says which session has joined."""

    session_id: str


_leases = msgspec.json.Decoder(list[tuple[str, str]])
_joined = msgspec.json.Decoder(_Joined)


class ProceduresHub(EdgeServices, Protocol):
    """The edge that executes calls, with its sessions by id and its pending calls."""

    @property
    def access(self) -> Access: ...

    @property
    def calls(self) -> PendingRequests: ...

    @property
    def sessions(self) -> Mapping[str, Session]: ...

    @property
    def refuses_new_clients(self) -> bool: ...


class Procedures:
    """All procedures of one worker; any worker accepts any call [M9]. Written by the loop's thread only."""

    KINDS: Mapping[str, Literal["query", "mutation"]] = {each.name: each.kind for each in PROCEDURES.values()}

    def __init__(self, hub: ProceduresHub) -> None:
        self._hub = hub
        self._calls, self._joins, self._watches = Budgets(), Budgets(), Budgets()
        self._holders = Leaseholders()

    async def call(self, caller: Caller, name: str, input: Any) -> Any:
        """Execute procedure `name`, a key of KINDS, with `input`, decoded JSON or UNSET. Returns a value that msgspec
        encodes. Errors: PresenceError; KeyError for a name that is no key of KINDS."""
        handler = _HANDLERS[name]
        self._calls.take(caller.identity.user_id, CALL_HZ, CALL_BURST, self._hub.clock())
        return await handler(self, caller, name, input)

    # --- joins and leaves -----------------------------------------------------------------------------------------

    async def _join(self, caller: Caller, name: str, input: Any) -> Raw:
        target, message = read(input, RoomTarget), read_message(input, name)
        check_room_id(message.room_id)
        limits = self._hub.limits  # joins of a socket are counted at its session [M8]
        if message.presence is not UNSET:
            check_presence(message.presence, limits.max_presence_bytes)
        self._joins.take(caller.identity.user_id, limits.join_hz, limits.join_burst, self._hub.clock())
        session_id = _session(caller, target)
        lease = target.client_key is not UNSET or not session_id
        if lease:
            session_id = _lease(caller, message.room_id, target)
        if lease and self._hub.refuses_new_clients and session_id not in self._holders:
            raise PresenceError("UNAVAILABLE", NO_MEMORY, retry_after_s=RETRY_CONNECTION_S)
        own = self._here(caller, session_id)
        if own is not None and message.privacy is not UNSET and caller.identity.presence:  # before the join, in order
            hide_with_join(own, message.privacy, self._hub.clock())
            message.privacy = UNSET
        grant = await self._checked(caller, message.room_id, message.room_type, "join")
        members_only = self._keeps_membership(caller, message.room_id, session_id, grant)
        if not grant.allow and not members_only:
            raise grant.refusal()
        command = self._enter(caller.identity, message, grant, session_id)
        command.lease, command.members_only = lease, members_only
        command.by_stream = lease and target.client_key is UNSET
        result = await self._hub.calls.request(command)
        joined = _joined.decode(result).session_id  # by the owner's decision that of a stream
        if is_lease(joined):
            self._note(caller, [(joined, message.room_id)])
        return Raw(result)

    def _enter(self, identity: Identity, message: Join, grant: Grant, session_id: str) -> EnterRoom:
        session_info = SessionInfo(
            edge=NO_EDGE,  # set by the user's owner for a session with a socket
            session_id=session_id,
            user_id=identity.user_id,
            disabled=not identity.presence,
        )
        return EnterRoom(
            user_id=identity.user_id,
            room_id=message.room_id,
            session_info=session_info,
            user_info=identity.user_info,
            room_type=settled_type(message, grant),
            can_control=grant.can_control,
            can_broadcast=grant.can_broadcast,
            moderator=grant.moderator,
            presence=grant.presence,
            privacy=None if message.privacy is UNSET else message.privacy,
            settings=settings_for(identity, message.room_id, grant),
            known=None if message.known is UNSET else message.known,
            presence_object=b"" if message.presence is UNSET else encode_presence(message.presence),
        )

    async def _leave(self, caller: Caller, name: str, input: Any) -> Raw:
        parsed = read(input, LeaveInput)
        check_room_id(parsed.room_id)
        session_id = _session(caller, parsed)
        if parsed.client_key is not UNSET:
            session_id = _lease(caller, parsed.room_id, parsed)
        command = LeaveRoom(
            user_id=caller.identity.user_id,
            room_id=parsed.room_id,
            session_id=session_id,
            lease=_lease(caller, parsed.room_id, parsed),
            all=parsed.all,
        )
        return Raw(await self._hub.calls.request(command))

    async def _heartbeat(self, caller: Caller, name: str, input: Any) -> Raw:
        parsed = read(input, HeartbeatInput)
        presence: list[bool | None] = [None]
        if parsed.room_id is not UNSET:
            check_room_id(parsed.room_id)
            presence = [await self._still_open(caller, parsed.room_id)]
        named = _session(caller, parsed)
        if parsed.room_id is not UNSET and parsed.session_id is UNSET:
            leases = [(_lease(caller, parsed.room_id, parsed), parsed.room_id)]
        elif named and not is_lease(named):
            return await self._beat(caller, named, parsed)
        else:
            leases, presence = await self._open_leases(caller, named)
        command = RenewLeases(
            user_id=caller.identity.user_id,
            sessions=[session_id for session_id, _ in leases],
            presence=presence,
            activity=None if parsed.status is UNSET else parsed.status,
            client_time=parsed.client_time,
            disabled=not caller.identity.presence,
            user_info=caller.identity.user_info,
        )
        result = await self._hub.calls.request(command)
        self._note(caller, leases)
        return Raw(result)

    async def _beat(self, caller: Caller, session_id: str, parsed: HeartbeatInput) -> Raw:
        """The heartbeat of an event stream's session. Its edge repeats the access checks itself."""
        command = BeatStream(
            user_id=caller.identity.user_id,
            session_id=session_id,
            activity=None if parsed.status is UNSET else parsed.status,
            token=caller.token,
            cookie=caller.cookie,
            expires_at_s=caller.identity.expires_at_s,
            client_time=parsed.client_time,
        )
        return Raw(await self._hub.calls.request(command))

    async def _open_leases(self, caller: Caller, session_id: str) -> tuple[list[tuple[str, str]], list[bool | None]]:
        """The caller's leases, all or the named one, with their rooms, that the access check still allows, and for each
        whether it lets the user be shown there. The others are ended. Errors: FORBIDDEN when none is allowed."""
        command = QueryLeases(user_id=caller.identity.user_id, session_id=session_id)
        still_open: list[tuple[str, str]] = []
        presence: list[bool | None] = []
        refusal = None
        for lease, room_id in _leases.decode(await self._hub.calls.request(command)):
            try:
                presence.append(await self._still_open(caller, room_id))
                still_open.append((lease, room_id))
            except PresenceError as error:
                refusal = error
                self._take_away(caller.identity.user_id, lease, room_id)
        if refusal is not None and not still_open:
            raise refusal
        return still_open, presence

    def recheck(self, user_id: str | None, room_id: str | None, then: Callable[[bool | None], None]) -> int:
        """Repeat the access checks of the leases that this worker has served, end the refused ones and apply the
        permissions of the others [N12]. `then` is called for each with the result, None without an answer. Returns the
        number of leases."""
        leases = list(self._holders.of(user_id, room_id, self._hub.clock()))
        for lease in leases:
            answer = self._hub.access.check(lease.identity, lease.room_id, None)
            if isinstance(answer, Grant):
                self._decide(lease, answer, then)
            else:
                self._hub.await_answer(self._decide_later(lease, answer, then))
        return len(leases)

    async def _decide_later(self, lease: Lease, answer: Awaitable[Grant], then: Callable[[bool | None], None]) -> None:
        self._decide(lease, await _granted(answer), then)

    def _decide(self, lease: Lease, grant: Grant, then: Callable[[bool | None], None]) -> None:
        if not grant.allow and grant.retry_after_s is None:
            self._take_away(lease.identity.user_id, lease.session_id, lease.room_id)
        elif grant.allow:
            command = ChangeGrant(
                user_id=lease.identity.user_id,
                room_id=lease.room_id,
                session_id=lease.session_id,
                connection=0,  # a lease has no connection
                session_version=0,
                can_control=grant.can_control,
                can_broadcast=grant.can_broadcast,
                moderator=grant.moderator,
                presence=grant.presence,
            )
            self._hub.bus.send(command, self._hub.clock())
        then(None if grant.retry_after_s is not None else grant.allow)

    def _take_away(self, user_id: str, session_id: str, room_id: str) -> None:
        self._holders.ended(session_id)
        command = LeaveRoom(user_id=user_id, room_id=room_id, session_id=session_id, reason="kicked")
        self._hub.bus.send(command, self._hub.clock())

    def _note(self, caller: Caller, leases: list[tuple[str, str]]) -> None:
        now = self._hub.clock()
        for session_id, room_id in leases:
            self._holders.renewed(Lease(session_id, room_id, caller.identity), now + self._hub.limits.silence_s, now)

    async def _get_active(self, caller: Caller, name: str, input: Any) -> Raw:
        target, message = read(input, RoomTarget), read_message(input, name)
        check_room_id(message.room_id)
        await self._hub.calls.request(SpendQueryBudget(user_id=caller.identity.user_id))
        grant = await self._grant(caller, message.room_id, message.room_type, "get_active")
        command = QueryActive(
            room_id=message.room_id,
            user_id=caller.identity.user_id,
            session_id=_session(caller, target),
            room_type=settled_type(message, grant) or UNSET,
        )
        return Raw(await self._hub.calls.request(command))

    async def _get_summaries(self, caller: Caller, name: str, input: Any) -> SummariesResult:
        message, limits = read_message(input, name), self._hub.limits
        self._watches.take(caller.identity.user_id, limits.watch_hz, limits.watch_burst, self._hub.clock())
        room_ids = list(dict.fromkeys(message.rooms))
        refused: dict[str, PresenceError] = {}
        grants: dict[str, Grant] = {}
        for at in range(0, len(room_ids), CHECKS_AT_ONCE):
            waiting: dict[str, Awaitable[Grant]] = {}
            for room_id in room_ids[at : at + CHECKS_AT_ONCE]:
                try:
                    check_room_id(room_id)
                except PresenceError as error:
                    refused[room_id] = error
                    continue
                answer = self._hub.access.check(caller.identity, room_id, None, action="get_active")
                if isinstance(answer, Grant):
                    grants[room_id] = answer
                else:
                    waiting[room_id] = _granted(answer)
            if waiting:
                grants.update(zip(waiting, await asyncio.gather(*waiting.values()), strict=True))
        refused |= {room_id: grant.refusal() for room_id, grant in grants.items() if not grant.allow}
        queries = [
            QuerySummary(room_id=room_id, room_type=checked_type(room_id, grants[room_id]))
            for room_id in room_ids
            if room_id not in refused
        ]
        rows = await self._hub.calls.request_all(queries)
        return SummariesResult(
            summaries=Raw(b"[" + b",".join(rows) + b"]"),
            refused=[refused_room(room_id, error) for room_id, error in refused.items()],
        )

    # --- actions of members ---------------------------------------------------------------------------------------

    async def _act(self, caller: Caller, name: str, input: Any) -> Raw:
        target, message = read(input, RoomTarget), read_message(input, name)
        check_room_id(message.room_id)
        session_id = _session(caller, target)
        if target.client_key is not UNSET:
            session_id = _lease(caller, message.room_id, target)
        if name == "syncPlayback" and not session_id:  # [H14]
            raise PresenceError("SESSION_REQUIRED", "Name the session whose player this is, as sessionId.")
        own = self._here(caller, session_id)
        hidden = own is not None and own.hidden  # when the call arrives, not when the access check is done [K3]
        if own is not None and hidden and isinstance(message, PresenceMessage):
            own.memberships.note_hidden_presence(message.room_id)
        grant = await self._checked(caller, message.room_id, UNSET, "join")
        if not grant.allow:
            if not self._keeps_membership(caller, message.room_id, session_id, grant):
                raise grant.refusal()
            grant = MEMBERS_OWN
        authority = Authority(
            caller.identity.user_id,
            can_control=grant.can_control,
            can_broadcast=grant.can_broadcast,
            moderator=grant.moderator,
            presence=caller.identity.presence and grant.presence,
        )
        command = RoomAction(
            room_id=message.room_id, session_id=session_id, message=message, authority=authority, hidden=hidden
        )
        return Raw(await self._hub.calls.request(command))

    async def _set_status(self, caller: Caller, name: str, input: Any) -> Raw:
        target, message = read(input, Target), read_message(input, name)
        assert isinstance(message, SetStatus)
        command = ChangeStatus(
            user_id=caller.identity.user_id,
            session_id=_session(caller, target),
            activity="idle" if message.data.status == "idle" else "active",
            data=message.data,
            at=self._hub.clock(),
            disabled=not caller.identity.presence,
        )
        return Raw(await self._hub.calls.request(command))

    async def _set_privacy(self, caller: Caller, name: str, input: Any) -> Raw:
        target, message = read(input, Target), read_message(input, name)
        assert isinstance(message, SetPrivacy)
        if message.data.invisible is False and not caller.identity.presence:
            raise presence_is_off()
        session_id = _session(caller, target)
        self._hub.calls.check_free()
        own = self._here(caller, session_id)
        if own is not None:  # applies to later calls at once [K3]; if the owner refuses it, its answer restores privacy
            command = change_privacy(own, message.data)
        else:
            command = ChangePrivacy(user_id=caller.identity.user_id, session_id=session_id, privacy=message.data)
        return Raw(await self._hub.calls.request(command))

    # --- helpers --------------------------------------------------------------------------------------------------

    def _here(self, caller: Caller, session_id: str) -> Session | None:
        """The caller's session with that id, if this worker has its socket."""
        session = self._hub.sessions.get(session_id)
        return session if session is not None and session.user_id == caller.identity.user_id else None

    async def _grant(self, caller: Caller, room_id: str, room_type: Any, action: Action = "join") -> Grant:
        """The grant of the caller's token in the room, checked for members as well: another token of the same user may
        allow less. Errors: FORBIDDEN."""
        grant = await self._checked(caller, room_id, room_type, action)
        if not grant.allow:
            raise grant.refusal()
        return grant

    def _keeps_membership(self, caller: Caller, room_id: str, session_id: str, grant: Grant) -> bool:
        """True when the access check has no answer and the caller's session is in the room with its socket here. Such a
        session keeps its permissions, and the check is repeated later."""
        own = self._here(caller, session_id) if grant.retry_after_s is not None else None
        if own is None or own.state != "open" or not own.memberships.is_member(room_id):
            return False
        if own.identity.forward != caller.identity.forward:  # authenticated by another token, which may allow less
            return False
        own.memberships.note_undecided(room_id, self._hub.clock())
        return True

    async def _still_open(self, caller: Caller, room_id: str) -> bool | None:
        """Check that the caller may still be in the room, and return whether the user is shown there; a check without
        an answer is no refusal, and returns None. Errors: FORBIDDEN."""
        grant = await self._checked(caller, room_id, UNSET, "join")
        if not grant.allow and grant.retry_after_s is None:
            raise grant.refusal()
        return grant.presence if grant.allow else None

    async def _checked(self, caller: Caller, room_id: str, room_type: Any, action: Action) -> Grant:
        # without a session id: only the user's owner can verify the one in the header
        answer = self._hub.access.check(caller.identity, room_id, requested_type(room_type), action=action)
        return answer if isinstance(answer, Grant) else await _granted(answer)


async def _granted(answer: Awaitable[Grant]) -> Grant:
    try:
        return await answer
    except Exception:  # fail closed
        log.exception("access check failed")
        return UNSURE


def _session(caller: Caller, target: Target) -> str:
    """The session id of the call: from the input, else from the header [M1]."""
    return caller.session_id if target.session_id is UNSET else target.session_id


def _lease(caller: Caller, room_id: str, target: Target) -> str:
    key = "" if target.client_key is UNSET else target.client_key
    return lease_id(caller.identity.user_id, room_id, key)


_HANDLERS: dict[str, Callable[[Procedures, Caller, str, Any], Awaitable[Any]]] = {
    **{procedure.name: Procedures._act for message in ROOM_MESSAGES.values() for procedure in message.procedures},
    "join": Procedures._join,
    "leave": Procedures._leave,
    "heartbeat": Procedures._heartbeat,
    "getActive": Procedures._get_active,
    "getSummaries": Procedures._get_summaries,
    "setStatus": Procedures._set_status,
    "setPrivacy": Procedures._set_privacy,
}
for _name in PROCEDURES.keys() - _HANDLERS.keys():
    raise ImportError(f"rpc.py: nothing handles {_name}, a procedure of messages.py; only those of a room need nothing")
