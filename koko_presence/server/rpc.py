"""The procedures of the specification, as HTTP calls them: input checked, access asked, the owner's answer awaited.

They send the commands that a socket's session would send, so the rules, limits and errors are the same [M1 to M9]. What
they do for a session that has a socket, its edge learns from the owner; what it hides, at once if this is the edge.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from koko_presence.access.policy import UNSURE, Action, Grant
from koko_presence.auth.hmac_jwt import Identity
from koko_presence.protocol.commands import (
    NO_EDGE,
    AskActive,
    AskLeases,
    ChangePrivacy,
    ChangeStatus,
    EnterRoom,
    LeaveRoom,
    RenewLeases,
    RoomAction,
    Scopes,
    SessionInfo,
    TakeLook,
)
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import Join, SetPrivacy, SetStatus, Wire
from koko_presence.users.http_sessions import is_lease, lease_id
from koko_presence.users.user import presence_is_off
from koko_presence.users.user_rate_limits import Budgets

from .address_limits import RETRY_CONNECTION_S
from .http_session_holders import Lease, Leaseholders
from .room_checks import check_room_id, claimed_type, settled_type
from .rpc_inputs import HeartbeatInput, LeaveInput, RoomTarget, Target, read, read_message
from .self_service import change_privacy, hide_with_join

if TYPE_CHECKING:
    from .hub import Hub
    from .session import Session

log = logging.getLogger("koko_presence.procedures")

# What one user may call on one worker: cursors and selections at their full rates and ten more. The owners' own limits
# come on top [M8]; this one protects them.
CALL_HZ, CALL_BURST = 50.0, 100.0

NO_MEMORY = "The server has no room for more people just now. Try again in a moment."


# In a call of a member of whom nobody can say what it may do: it narrows nothing, so what the member may do counts.
MEMBERS_OWN = Grant(allow=True, can_control=True, can_broadcast=True, moderator=True)


class Caller(NamedTuple):
    """Who calls: a verified identity, and the session of header x-presence-session, "" when none was named [M1]."""

    identity: Identity
    session_id: str = ""


class JoinResult(Wire, kw_only=True):
    """join's answer; `lease_seconds` stands there when the session is held over HTTP [M2]."""

    room: Raw
    assigned_color: str
    session_id: str
    lease_seconds: float | UnsetType = UNSET
    seq: int
    server_time: int
    send_interval_ms: int


class ActiveResult(Wire, kw_only=True):
    """getActive's answer."""

    users: Raw
    total_count: int
    session_count: int


class HeartbeatResult(Wire, kw_only=True):
    """heartbeat's answer: how many leases live on, and what `pong` says [D7]."""

    success: bool
    renewed: int
    lease_seconds: float | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET
    server_time: int | UnsetType = UNSET
    echo: float | UnsetType = UNSET


_joined = msgspec.json.Decoder(JoinResult)
_active = msgspec.json.Decoder(ActiveResult)
_leases = msgspec.json.Decoder(list[tuple[str, str]])
_renewed = msgspec.json.Decoder(HeartbeatResult)


class Procedures:
    """All procedures of one worker; any worker can take any call [M9]. Written by the loop's thread alone."""

    KINDS: Mapping[str, Literal["query", "mutation"]] = {
        "getActive": "query",
        **dict.fromkeys(
            (
                "join", "leave", "heartbeat", "updateCursor", "updateSelection", "setStatus", "startTyping",
                "stopTyping", "syncPlayback", "requestControl", "grantControl", "denyControl", "releaseControl",
                "cancelControl", "broadcast", "setPrivacy",
            ),
            "mutation",
        ),
    }  # fmt: skip

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._calls, self._joins = Budgets(), Budgets()
        self._holders = Leaseholders()

    async def call(self, caller: Caller, name: str, input: Any) -> Any:
        """Do procedure `name`, a key of KINDS, with `input`, decoded JSON or UNSET. Returns what msgspec encodes.
        Errors: PresenceError; KeyError for a name that is no key of KINDS."""
        handler = _HANDLERS[name]
        self._calls.take(caller.identity.user_id, CALL_HZ, CALL_BURST, self._hub.clock())
        return await handler(self, caller, name, input)

    # --- in and out -----------------------------------------------------------------------------------------------

    async def _join(self, caller: Caller, name: str, input: Any) -> JoinResult:
        target, message = read(input, RoomTarget), read_message(input, name)
        check_room_id(message.room_id)
        limits = self._hub.limits  # a socket's own are counted at its session [M8]
        self._joins.take(caller.identity.user_id, limits.join_hz, limits.join_burst, self._hub.clock())
        session_id = _session(caller, target)
        lease = target.client_key is not UNSET or not session_id
        if lease:
            session_id = _lease(caller, message.room_id, target)
        if lease and self._hub.refuses_newcomers and session_id not in self._holders:
            raise PresenceError("UNAVAILABLE", NO_MEMORY, retry_after_s=RETRY_CONNECTION_S)
        own = self._here(caller, session_id)
        if own is not None and message.privacy is not UNSET and caller.identity.presence:  # in its turn, as a socket's
            hide_with_join(own, message.privacy, self._hub.clock())
            message.privacy = UNSET
        grant = await self._checked(caller, message.room_id, message.room_type, "join")
        stays = self._stays(caller, message.room_id, session_id, grant)
        if not grant.allow and not stays:
            raise grant.refusal()
        command = self._enter(caller.identity, message, grant, session_id)
        command.lease, command.stays = lease, stays
        result = _joined.decode(await self._ask(caller, command))
        if is_lease(result.session_id):
            result.lease_seconds = self._hub.limits.silence_s
            self._note(caller, [(result.session_id, message.room_id)])
        return result

    def _enter(self, identity: Identity, message: Join, grant: Grant, session_id: str) -> EnterRoom:
        visitor = SessionInfo(
            edge=NO_EDGE,  # where the session is connected, its user's owner knows
            session_id=session_id,
            user_id=identity.user_id,
            name=identity.name,
            image=identity.image,
            disabled=not identity.presence,
        )
        return EnterRoom(
            user_id=identity.user_id,
            room_id=message.room_id,
            visitor=visitor,
            room_type=settled_type(message, grant),
            can_control=grant.can_control,
            can_broadcast=grant.can_broadcast,
            moderator=grant.moderator,
            privacy=None if message.privacy is UNSET else message.privacy,
        )

    async def _leave(self, caller: Caller, name: str, input: Any) -> Raw:
        asked = read(input, LeaveInput)
        check_room_id(asked.room_id)
        session_id = _session(caller, asked)
        if asked.client_key is not UNSET:
            session_id = _lease(caller, asked.room_id, asked)
        command = LeaveRoom(
            user_id=caller.identity.user_id,
            room_id=asked.room_id,
            session_id=session_id,
            lease=_lease(caller, asked.room_id, asked),
            all=asked.all,
        )
        return Raw(await self._ask(caller, command))

    async def _heartbeat(self, caller: Caller, name: str, input: Any) -> HeartbeatResult:
        asked = read(input, HeartbeatInput)
        if asked.room_id is not UNSET:
            check_room_id(asked.room_id)
            await self._still_open(caller, asked.room_id)
        if asked.room_id is not UNSET and asked.session_id is UNSET:
            leases = [(_lease(caller, asked.room_id, asked), asked.room_id)]
        else:
            leases = await self._open_leases(caller, _session(caller, asked))
        command = RenewLeases(
            user_id=caller.identity.user_id,
            sessions=[session_id for session_id, _ in leases],
            activity=None if asked.status is UNSET else asked.status,
            disabled=not caller.identity.presence,
        )
        result = _renewed.decode(await self._ask(caller, command))
        self._note(caller, leases)
        now, wall = self._hub.clock(), self._hub.wall
        result.lease_seconds = self._hub.limits.silence_s
        result.timestamp, result.server_time, result.echo = wall.iso(now), wall.ms(now), asked.client_time
        return result

    async def _open_leases(self, caller: Caller, session_id: str) -> list[tuple[str, str]]:
        """The caller's leases that may be renewed, and their rooms: all, or the named one. The others end. Errors:
        FORBIDDEN when none may be."""
        command = AskLeases(user_id=caller.identity.user_id, session_id=session_id)
        still_open, refusal = [], None
        for lease, room_id in _leases.decode(await self._ask(caller, command)):
            try:
                await self._still_open(caller, room_id)
                still_open.append((lease, room_id))
            except PresenceError as error:
                refusal = error
                self._take_away(caller.identity.user_id, lease, room_id)
        if refusal is not None and not still_open:
            raise refusal
        return still_open

    def recheck(self, user_id: str | None, room_id: str | None, then: Callable[[bool | None], None]) -> int:
        """Ask again about the leases that this worker knows of, and end those that are refused [N12]. `then` hears of
        each, or None when nobody could say. Returns how many these are."""
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
        then(None if grant.retry_after_s is not None else grant.allow)

    def _take_away(self, user_id: str, session_id: str, room_id: str) -> None:
        self._holders.ended(session_id)
        command = LeaveRoom(user_id=user_id, room_id=room_id, session_id=session_id, reason="kicked")
        self._hub.bus.send(command, self._hub.clock())

    def _note(self, caller: Caller, leases: list[tuple[str, str]]) -> None:
        now = self._hub.clock()
        for session_id, room_id in leases:
            self._holders.renewed(Lease(session_id, room_id, caller.identity), now + self._hub.limits.silence_s, now)

    async def _get_active(self, caller: Caller, name: str, input: Any) -> ActiveResult:
        target, message = read(input, RoomTarget), read_message(input, name)
        check_room_id(message.room_id)
        await self._ask(caller, TakeLook(user_id=caller.identity.user_id))
        grant = await self._grant(caller, message.room_id, message.room_type, "get_active")
        message.room_type = settled_type(message, grant) or UNSET
        command = AskActive(
            room_id=message.room_id,
            user_id=caller.identity.user_id,
            session_id=_session(caller, target),
            edge=self._hub.edge_id,
            message=message,
        )
        return _active.decode(await self._ask(caller, command))

    # --- what a member does ---------------------------------------------------------------------------------------

    async def _act(self, caller: Caller, name: str, input: Any) -> Raw:
        target, message = read(input, RoomTarget), read_message(input, name)
        check_room_id(message.room_id)
        session_id = _session(caller, target)
        if target.client_key is not UNSET:
            session_id = _lease(caller, message.room_id, target)
        if name == "syncPlayback" and not session_id:  # [H14]
            raise PresenceError("SESSION_REQUIRED", "Name the session whose player this is, as sessionId.")
        own = self._here(caller, session_id)
        hidden = own is not None and own.hidden  # now that the call has come, whatever is so when access is known [K3]
        grant = await self._checked(caller, message.room_id, UNSET, "join")
        if not grant.allow:
            if not self._stays(caller, message.room_id, session_id, grant):
                raise grant.refusal()
            grant = MEMBERS_OWN
        command = RoomAction(
            room_id=message.room_id, session_id=session_id, edge=self._hub.edge_id, message=message, hidden=hidden
        )
        scopes = Scopes(grant.can_control, grant.can_broadcast, grant.moderator, caller.identity.presence)
        return Raw(await self._hub.calls.ask(command, caller.identity.user_id, scopes))

    async def _set_status(self, caller: Caller, name: str, input: Any) -> Raw:
        target, message = read(input, Target), read_message(input, name)
        assert isinstance(message, SetStatus)
        command = ChangeStatus(
            user_id=caller.identity.user_id,
            session_id=_session(caller, target),
            activity="idle" if message.data.status == "idle" else "active",
            message=message,
            disabled=not caller.identity.presence,
        )
        return Raw(await self._ask(caller, command))

    async def _set_privacy(self, caller: Caller, name: str, input: Any) -> Raw:
        target, message = read(input, Target), read_message(input, name)
        assert isinstance(message, SetPrivacy)
        if message.data.invisible is False and not caller.identity.presence:
            raise presence_is_off()
        session_id = _session(caller, target)
        self._hub.calls.check_free()
        own = self._here(caller, session_id)
        if own is not None:  # for the calls behind this one [K3]; should it be refused, the owner says what is so
            command = change_privacy(own, message.data)
        else:
            command = ChangePrivacy(user_id=caller.identity.user_id, session_id=session_id, privacy=message.data)
        return Raw(await self._ask(caller, command))

    # --- small things ---------------------------------------------------------------------------------------------

    def _here(self, caller: Caller, session_id: str) -> Session | None:
        """The caller's session of that id, if this worker has its socket."""
        session = self._hub.sessions.get(session_id)
        return session if session is not None and session.user_id == caller.identity.user_id else None

    async def _ask(self, caller: Caller, command: Any) -> bytes:
        return await self._hub.calls.ask(command, caller.identity.user_id)

    async def _grant(self, caller: Caller, room_id: str, room_type: Any, action: Action = "join") -> Grant:
        """What the caller's token allows in the room, also to a member: another token of the same user may open less.
        Errors: FORBIDDEN."""
        grant = await self._checked(caller, room_id, room_type, action)
        if not grant.allow:
            raise grant.refusal()
        return grant

    def _stays(self, caller: Caller, room_id: str, session_id: str, grant: Grant) -> bool:
        """Could nobody say what the caller may do in a room in which its own session is, that has its socket here? Such
        a session stays what it was, and is asked about later."""
        own = self._here(caller, session_id) if grant.retry_after_s is not None else None
        if own is None or own.state != "open" or room_id not in own.rooms.joined:
            return False
        if own.identity.forward != caller.identity.forward:  # known by something else, which may open less
            return False
        own.rooms.note_undecided(room_id, self._hub.clock())
        return True

    async def _still_open(self, caller: Caller, room_id: str) -> None:
        """Somebody who is in is kept in, unless there is a no: that nobody can be asked is none. Errors: FORBIDDEN."""
        grant = await self._checked(caller, room_id, UNSET, "join")
        if not grant.allow and grant.retry_after_s is None:
            raise grant.refusal()

    async def _checked(self, caller: Caller, room_id: str, room_type: Any, action: Action) -> Grant:
        # without a session id: whose the one in the header is, only its user's owner knows
        answer = self._hub.access.check(caller.identity, room_id, claimed_type(room_type), action=action)
        return answer if isinstance(answer, Grant) else await _granted(answer)


async def _granted(answer: Awaitable[Grant]) -> Grant:
    try:
        return await answer
    except Exception:  # fail closed
        log.exception("the access check failed")
        return UNSURE


def _session(caller: Caller, target: Target) -> str:
    """The session that was named: in the input, or in the header [M1]."""
    return caller.session_id if target.session_id is UNSET else target.session_id


def _lease(caller: Caller, room_id: str, target: Target) -> str:
    key = "" if target.client_key is UNSET else target.client_key
    return lease_id(caller.identity.user_id, room_id, key)


_HANDLERS: dict[str, Callable[[Procedures, Caller, str, Any], Awaitable[Any]]] = {
    **dict.fromkeys(Procedures.KINDS, Procedures._act),
    "join": Procedures._join,
    "leave": Procedures._leave,
    "heartbeat": Procedures._heartbeat,
    "getActive": Procedures._get_active,
    "setStatus": Procedures._set_status,
    "setPrivacy": Procedures._set_privacy,
}
