"""Answers the survey requests of the operator port for one worker: for the rooms and users it owns, and the sessions
connected to it [M10].

Every request goes to all workers at once, so a kick works without an owner: each edge disconnects its sessions, each
owner ends the sessions in their grace period. Long lists are walked in slices, with loop iterations between them.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from typing import Any

from koko_presence.cluster.bus import Bus, Timers
from koko_presence.owner import admin_view
from koko_presence.owner.shard import Shard
from koko_presence.protocol.commands import ApplyUserPresence, ChangeSettings, EndSession, LeaveRoom, ServerBroadcast
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.settings import merged
from koko_presence.protocol.survey import (
    AnyAnswer,
    AnySurveyRequest,
    BroadcastSent,
    ChangeRefused,
    ChangeRoom,
    Kick,
    Kicked,
    LimitedFound,
    LimitedRow,
    ListLimited,
    ListRooms,
    NotHere,
    Recheck,
    Rechecked,
    RoomChanged,
    RoomFound,
    RoomRow,
    RoomsFound,
    SendBroadcast,
    ShowRoom,
    ShowUser,
    UserFound,
)
from koko_presence.rooms import presence_state
from koko_presence.rooms.member import Member
from koko_presence.server.address_limits import AddressLimits
from koko_presence.server.hub import Hub
from koko_presence.server.reauthorization import NO_LONGER_OPEN, kick
from koko_presence.server.session import Session
from koko_presence.users.session import UserSession

log = logging.getLogger("koko_presence.operator")

Reply = Callable[[AnyAnswer | None], None]

SLICE = 2000  # ids compared, or members counted, per loop iteration: about a millisecond
DECIDED_WITHIN_S = 0.8  # the longest wait of a re-check for the access checks


class SurveyHandlers:
    """Answers survey requests for one worker. Changes no state itself; edges and owners do."""

    def __init__(self, hub: Hub, shard: Shard, bus: Bus, timers: Timers, addresses: AddressLimits) -> None:
        self._hub, self._shard, self._bus, self._timers = hub, shard, bus, timers
        self._addresses = addresses
        self._handlers: dict[type, Callable[[Any, Reply], None]] = {
            ListLimited: self._list_limited,
            ListRooms: self._list,
            ShowRoom: self._show_room,
            ShowUser: self._show_user,
            Kick: self._kick,
            Recheck: self._recheck,
            SendBroadcast: self._send_broadcast,
            ChangeRoom: self._change_room,
        }

    def handle(self, request: AnySurveyRequest, reply: Reply) -> None:
        """Answer a request, now or some loop iterations later; with None after a fault, which is logged."""
        try:
            self._handlers[type(request)](request, reply)
        except Exception:
            log.exception("a survey request failed: %s", type(request).__name__)
            reply(None)

    # --- queries --------------------------------------------------------------------------------------------------

    def _list(self, request: ListRooms, reply: Reply) -> None:
        steps = self._listing(request)

        def go_on() -> None:
            try:
                found = next(steps)
            except Exception:
                log.exception("listing rooms failed")
                reply(None)
                return
            if found is None:
                self._timers.call_soon(go_on)
            else:
                reply(found)

        go_on()

    def _listing(self, request: ListRooms) -> Iterator[RoomsFound | None]:
        """Yields None between slices, and finally the answer."""
        ids, rooms, found = list(self._shard.rooms), self._shard.rooms, list[str]()
        for at in range(0, len(ids), SLICE):
            if at:
                yield None
            fitting = (room_id for room_id in ids[at : at + SLICE] if self._fits(request, room_id))
            found = nsmallest(request.limit + 1, (*found, *fitting))
        rows: list[RoomRow] = []
        walked = 0
        for room_id in found[: request.limit]:
            room = rooms.get(room_id)  # it may have ended meanwhile
            if room is None:
                continue
            rows.append(admin_view.room_row(room))
            walked += 10 + len(room.members)
            if walked > SLICE:
                walked = 0
                yield None
        yield RoomsFound(rooms=rows, more=len(found) > request.limit)

    def _fits(self, request: ListRooms, room_id: str) -> bool:
        if room_id <= request.after or not room_id.startswith(request.prefix):
            return False
        room = self._shard.rooms.get(room_id)
        return room is not None and request.type in (None, room.type)

    def _list_limited(self, request: ListLimited, reply: Reply) -> None:
        wall = self._hub.wall
        rows = [
            LimitedRow(address=each.address, limit=each.limit, refused=each.refused, last_at=wall.iso(each.at))
            for each in self._addresses.limited()
        ]
        reply(LimitedFound(limited=rows))

    def _show_room(self, request: ShowRoom, reply: Reply) -> None:
        room = self._shard.rooms.get(request.room_id)
        reply(self._nothing() if room is None else RoomFound(room=admin_view.room_detail(room, self._hub.clock())))

    def _show_user(self, request: ShowUser, reply: Reply) -> None:
        user = self._shard.users.get(request.user_id)
        reply(self._nothing() if user is None else UserFound(user=admin_view.user_row(user)))

    def _nothing(self) -> NotHere:
        transfer = getattr(self._bus, "transfer", None)  # of a worker among several
        return NotHere(moving=transfer is not None and transfer.recovering)

    # --- server broadcasts ----------------------------------------------------------------------------------------

    def _send_broadcast(self, request: SendBroadcast, reply: Reply) -> None:
        room = self._shard.rooms.get(request.room_id)
        if room is None:
            reply(self._nothing())
            return
        delivered = presence_state.reach(room, request.to)
        self._bus.send(ServerBroadcast(room_id=room.id, data=request.data, to=request.to), self._hub.clock())
        reply(BroadcastSent(delivered=delivered))

    # --- settings of a room ---------------------------------------------------------------------------------------

    def _change_room(self, request: ChangeRoom, reply: Reply) -> None:
        room = self._shard.rooms.get(request.room_id)
        if room is None or not room.shown:
            reply(self._nothing())
            return
        try:
            settings = merged(room.settings, request.change)
        except PresenceError as error:
            reply(ChangeRefused(code=error.code, message=error.message))
            return
        self._bus.send(ChangeSettings(room_id=room.id, change=request.change), self._hub.clock())
        reply(RoomChanged(settings=settings))

    # --- presence of a user ---------------------------------------------------------------------------------------

    def switch_presence(self, user_ids: Iterable[str], *, on: bool) -> None:
        """Switch the presence of users on or off at this worker, also for sessions that come later [Q11]."""
        now = self._hub.clock()
        for user_id in user_ids:
            self._shard.context.switch_presence(user_id, on=on)
            for room_id in [room.id for room in self._shard.rooms.values() if user_id in room.people]:
                self._bus.send(ApplyUserPresence(room_id=room_id, user_id=user_id), now)

    # --- kicks ----------------------------------------------------------------------------------------------------

    def _kick(self, request: Kick, reply: Reply) -> None:
        now, kicked = self._hub.clock(), 0
        for session in self._fitting(request.user_id, request.session_id):
            if request.room_id is None:
                kick(session, request.reason)
                kicked += 1
            elif session.state == "open":
                kicked += session.memberships.expel(request.room_id, request.reason, now)
        reply(Kicked(sessions=kicked + self._end_held(request, now)))

    def _fitting(self, user_id: str | None, session_id: str | None = None) -> list[Session]:
        """The authenticated sessions of this edge with this user id, this session id, or both."""
        return [
            session
            for session in self._hub.connections.values()
            if session.state in ("opening", "open")
            and (user_id is None or session.user_id == user_id)
            and (session_id is None or session.session_id == session_id)
        ]

    def _end_held(self, request: Kick, now: float) -> int:
        """End the matching sessions without an edge, which are in their grace period or held over HTTP: as the owner of
        the user, or of the room. Returns their number."""
        ended = 0
        if request.user_id is None and request.session_id is None:
            room = self._shard.rooms.get(request.room_id or "")
            held = [] if room is None else [m for m in room.members.values() if not _has_socket(m)]
            for member in held:
                self._leave(member.user_id, member.session_id, request.room_id or "", now)
            return len(held)
        if request.user_id is None:
            users = [user for user in self._shard.users.values() if request.session_id in user.sessions]
        else:
            users = [self._shard.users[request.user_id]] if request.user_id in self._shard.users else []
        for user in users:
            for session_id, session in list(user.sessions.items()):
                if _has_socket(session) or request.session_id not in (None, session_id):
                    continue
                if request.room_id is None:
                    command = EndSession(
                        user_id=user.id,
                        session_id=session_id,
                        connection=session.connection,
                        grace=False,
                        reason="kicked",
                    )
                    self._bus.send(command, now)
                elif request.room_id in session.rooms:
                    self._leave(user.id, session_id, request.room_id, now)
                else:
                    continue
                ended += 1
        return ended

    def _leave(self, user_id: str, session_id: str, room_id: str, now: float) -> None:
        self._bus.send(LeaveRoom(user_id=user_id, room_id=room_id, session_id=session_id, reason="kicked"), now)

    # --- access re-checks -----------------------------------------------------------------------------------------

    def _recheck(self, request: Recheck, reply: Reply) -> None:
        self._hub.access.forget(request.user_id, request.room_id)
        check = Checks(reply)
        for session in self._fitting(request.user_id):
            if session.state != "open":  # its rooms are checked once it is open: on resume, or when it joins
                continue
            for room_id in session.memberships.current:
                if request.room_id in (None, room_id):
                    check.started += 1
                    session.memberships.recheck(room_id, NO_LONGER_OPEN, check.on_answer)
            check.started += session.recheck_watched(request.room_id, check.on_answer)
        # HTTP sessions as well; some answers arrive before they are counted here
        check.started += self._hub.procedures.recheck(request.user_id, request.room_id, check.on_answer)
        check.all_started = True
        if not check.conclude():
            self._timers.call_later(DECIDED_WITHIN_S, check.give_up)


def _has_socket(one: Member | UserSession) -> bool:
    """Whether an edge holds the session: it is neither in its grace period nor held over HTTP [D2, M2]."""
    return one.connected and not one.leased


class Checks:
    """The pending checks of one re-check. `reply` is called once, when all are answered or `give_up` is called."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.started = self.answered = self.refused = self.unsure = 0
        self.all_started = self._over = False

    def on_answer(self, allowed: bool | None) -> None:
        self.answered += 1
        self.refused += allowed is False
        self.unsure += allowed is None
        self.conclude()

    def conclude(self) -> bool:
        """Reply if all checks are answered; returns whether the reply was sent."""
        if self.all_started and self.answered == self.started:
            self.give_up()
        return self._over

    def give_up(self) -> None:
        """Reply with the answers received so far."""
        if not self._over:
            self._over = True
            undecided = self.started - self.answered + self.unsure
            self._reply(Rechecked(checked=self.started, refused=self.refused, undecided=undecided))
