"""The server API for operators and back ends, on the operator port [M10, N12, J4].

One table of routes. Each request goes to all workers at once and their answers are merged here, so the API is the same
with one worker and with many. `missing` names the workers that do not answer within a second.
"""

from collections.abc import Awaitable, Callable
from heapq import nsmallest
from typing import Annotated, Any, Protocol

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Raw, UnsetType

from koko_presence.protocol import survey
from koko_presence.protocol.codec import check_free_data
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.models import Activity, RoomSettings, RoomType, Status, Wire
from koko_presence.protocol.settings import SettingsChange
from koko_presence.protocol.survey import (
    Answers,
    AnySurveyRequest,
    Count,
    LimitedRow,
    RoomDetail,
    RoomIdText,
    RoomRow,
    SessionIdText,
    SessionRow,
    UserIdText,
)

from .api import Api, ApiError, Call, Route
from .openapi import document
from .stats import Stats

PREFIX = "/api"
DOCUMENT = f"{PREFIX}/openapi.json"
MAX_BROADCAST_BYTES = 8 << 10  # [J1]
MAX_TO = 20  # [J3]

Missing = Annotated[list[Count], Meta(description="Slots of workers that did not answer within a second.")]


class In(Wire, forbid_unknown_fields=True, kw_only=True):
    """Base of what callers send: an unknown field is an error, since it is most likely a misspelt one."""


class RoomPath(In, kw_only=True):
    room_id: RoomIdText


class UserPath(In, kw_only=True):
    user_id: UserIdText


class RoomsQuery(In, kw_only=True):
    cursor: Annotated[str, Meta(max_length=128, description="`nextCursor` of the previous page.")] = ""
    limit: Annotated[int, Meta(ge=1, le=200, description="Rooms per page.")] = 100
    type: Annotated[RoomType | UnsetType, Meta(description="Only rooms of this type.")] = UNSET
    prefix: Annotated[str, Meta(max_length=128, description="Only rooms whose id begins with this.")] = ""


Reason = Annotated[str, Meta(max_length=200, description="Text for the user, in the `kicked` message.")]


class KickBody(In, kw_only=True):
    """Which sessions to kick: those that match every field given. With `roomId` they leave that room only, without it
    they are disconnected."""

    user_id: UserIdText | UnsetType = UNSET
    room_id: RoomIdText | UnsetType = UNSET
    session_id: SessionIdText | UnsetType = UNSET
    reason: Reason = "Removed by an operator."

    def __post_init__(self) -> None:
        if self.user_id is self.room_id is self.session_id is UNSET:
            raise ValueError("name a userId, a roomId, a sessionId, or several of them")


class RecheckBody(In, kw_only=True):
    """Which memberships to check again: a user's in all rooms, all of a room, or a user's in a room."""

    user_id: UserIdText | UnsetType = UNSET
    room_id: RoomIdText | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.user_id is self.room_id is UNSET:
            raise ValueError("name a userId, a roomId, or both")


class BroadcastBody(In, kw_only=True):
    data: Annotated[
        Raw,
        Meta(
            description="`data` of the event that the members get, at most 8 KiB.",
            extra_json_schema={
                "type": "object",
                "propertyNames": {"not": {"enum": ["__proto__", "constructor", "prototype"]}},
            },
        ),
    ]
    to: Annotated[list[UserIdText], Meta(min_length=1, max_length=MAX_TO)] | UnsetType = UNSET


class UserBody(In, kw_only=True):
    """`presence` false: the user may be in rooms and see others, and is not shown to them; true: as the token and the
    access check say."""

    presence: bool


class SettingsBody(SettingsChange, In, kw_only=True):
    """The settings to change. null takes a key back to its default; a key that is not given stays."""


class RoomsAnswer(Wire, omit_defaults=False, kw_only=True):
    rooms: list[RoomRow]
    next_cursor: str | UnsetType = UNSET
    missing: Missing


class RoomAnswer(Wire, omit_defaults=False, kw_only=True):
    room: RoomDetail
    missing: Missing


class UserAnswer(Wire, omit_defaults=False, kw_only=True):
    """A user's sessions. A user without a session has an empty list and no status."""

    user_id: str
    status: Status | UnsetType = UNSET
    status_message: str | UnsetType = UNSET
    activity: Activity | UnsetType = UNSET
    sessions: list[SessionRow]
    missing: Missing


class PresenceAnswer(Wire, omit_defaults=False, kw_only=True):
    user_id: str
    presence: bool
    sessions: Annotated[int, Meta(ge=0, description="Sessions that the user has just now.")]
    missing: Missing


class LimitsAnswer(Wire, omit_defaults=False, kw_only=True):
    """Addresses that reached a limit by address in the last ten minutes, those with the most refusals first."""

    limited: list[LimitedRow]
    missing: Missing


class KickAnswer(Wire, omit_defaults=False, kw_only=True):
    kicked: Annotated[int, Meta(ge=0, description="Sessions that were kicked.")]
    missing: Missing


class RecheckAnswer(Wire, omit_defaults=False, kw_only=True):
    checked: Annotated[int, Meta(ge=0, description="Memberships that were checked.")]
    refused: Annotated[int, Meta(ge=0, description="Of these, memberships that were refused and ended.")]
    undecided: Annotated[
        int, Meta(ge=0, description="Of these, memberships for which your back end has not answered yet.")
    ]
    missing: Missing


class BroadcastAnswer(Wire, omit_defaults=False, kw_only=True):
    delivered: Annotated[int, Meta(ge=0, description="Sessions that the event was sent to, without invisible ones.")]


class SettingsAnswer(Wire, omit_defaults=False, kw_only=True):
    """All settings of the room after the change that are not at their defaults."""

    settings: RoomSettings


class DrainAnswer(Wire, omit_defaults=False, kw_only=True):
    draining: bool


_FRACTIONS = "|".join(
    f"[1-9][0-9]{{{digits},{min(digits + 2, 8)}}}/[1-9][0-9]{{{digits}}}"
    for digits in range(7)  # after the first one
)


def _settings_rules() -> dict[str, Any]:
    """The rules of the media in a SettingsBody that the fields of a Medium do not express: which fractions are frame
    rates, from 0.1 to 1000, and that no medium ends before the room begins. Answers have rates in lowest terms.

    A pattern compares numbers by their digits only: a numerator may have up to two digits more than the denominator."""
    _, schemas = msgspec.json.schema_components((SettingsBody,))
    medium, properties = schemas["Medium"], schemas["SettingsBody"]["properties"]
    number, _ = medium["properties"]["frameRate"]["anyOf"]
    medium["properties"]["frameRate"]["anyOf"] = [
        number,
        {"type": "string", "pattern": f"^({_FRACTIONS})$"},
    ]
    without_one = [{"not": {"required": [name]}} for name in ("offset", "duration")]
    medium["anyOf"] = [*without_one, {"properties": {"offset": {"maximum": 0.0}}}]
    media, _ = properties["media"]["anyOf"]
    media["additionalProperties"] = medium
    return {"properties": properties}


# rules of request bodies that a Struct cannot express, by its name
_RULES: dict[str, dict[str, Any]] = {
    "KickBody": {"anyOf": [{"required": [name]} for name in ("userId", "roomId", "sessionId")]},
    "RecheckBody": {"anyOf": [{"required": [name]} for name in ("userId", "roomId")]},
    "SettingsBody": _settings_rules(),
}


class SwitchPresence(Protocol):
    """Switches the presence of a user on or off [Q11]. Returns False when it is off for too many users."""

    def __call__(self, user_id: str, *, on: bool) -> bool: ...


class ServerApi:
    """Serves the routes below /api. `key` returns the current bearer key, `run_survey` sends a survey request to all
    workers, `stats` returns the counters, `drain` starts what SIGTERM starts, unless that is under way.
    `switch_presence` switches the presence of a user on or off at all workers; it returns False when it is off for too
    many users."""

    def __init__(
        self,
        key: Callable[[], str],
        run_survey: Callable[[AnySurveyRequest], Awaitable[Answers]],
        stats: Callable[[], Awaitable[Stats]],
        drain: Callable[[], None],
        switch_presence: SwitchPresence,
    ) -> None:
        self._run_survey, self._stats, self._drain = run_survey, stats, drain
        self._switch_presence = switch_presence
        self.routes = (
            Route(
                "GET", "/api/rooms", "listRooms", "List rooms", self._rooms, RoomsAnswer,
                query_type=RoomsQuery, weight=4.0,
                description="Sorted by id, a page at a time. A room that is opened or closed between two pages may be "
                "missing.",
            ),
            Route(
                "GET", "/api/rooms/{roomId}", "showRoom", "Show a room and its members", self._room, RoomAnswer,
                path_type=RoomPath, errors=(404, 503),
                description="Invisible members are included and have `invisible: true`; other members do not see them.",
            ),
            Route(
                "PATCH", "/api/rooms/{roomId}", "changeRoom", "Change settings of a room", self._change_room,
                SettingsAnswer, path_type=RoomPath, body_type=SettingsBody, errors=(404, 503),
                description="The members get `room_changed` with the keys that have changed. The settings end with the "
                "room, when its last visible member has left. A room that is not open has none: give those of the next "
                "one in the token, or in the answer to the access check.",
            ),
            Route(
                "GET", "/api/users/{userId}/sessions", "listSessions", "List a user's sessions", self._user, UserAnswer,
                path_type=UserPath,
            ),
            Route(
                "PATCH", "/api/users/{userId}", "changeUser", "Switch a user's presence off or on", self._change_user,
                PresenceAnswer, path_type=UserPath, body_type=UserBody, errors=(409,),
                description="With `presence` false the user is not shown to others, in no room and with no session, "
                "present and later ones: to others it looks like a leave. The user sees all that members see. It lasts "
                "until the call with true, or until the service ends, for at most 10,000 users. The token and the "
                "answer to the access check can switch presence off, too; true does not undo that.",
            ),
            Route(
                "POST", "/api/kick", "kick", "Kick a user, a session, or all members of a room", self._kick,
                KickAnswer, body_type=KickBody,
                description="With roomId: the sessions leave that room, with a `kicked` message; others get user_left "
                "with the reason `kicked`. Without: a `kicked` message, then the socket is closed with 4403. A user "
                "can come back while the token allows it; to prevent that, withdraw the access first and use "
                "/api/recheck.",
            ),
            Route(
                "POST", "/api/recheck", "recheck", "Check again who may be in a room", self._recheck, RecheckAnswer,
                body_type=RecheckBody,
                description="Cached answers about access are dropped, and access is checked again. A session that may "
                "not stay gets `kicked` as the next and last frame of that room.",
            ),
            Route(
                "POST", "/api/rooms/{roomId}/broadcast", "broadcast", "Broadcast to a room as the user `system`",
                self._broadcast, BroadcastAnswer, path_type=RoomPath, body_type=BroadcastBody, errors=(404, 503),
            ),
            Route(
                "GET", "/api/limits", "listLimited", "List addresses that reached a limit", self._limits, LimitsAnswer,
                description="Addresses that were refused connections, requests or token checks in the last ten "
                "minutes, because they had reached `limits.address_*`. Each worker keeps the latest 256.",
            ),
            Route("GET", "/api/stats", "stats", "Show all counters", self._give_stats, Stats, weight=2.0),
            Route(
                "POST", "/api/drain", "drain", "Drain and stop, as SIGTERM does", self._begin_drain, DrainAnswer,
                status=202,
                description="After `server.drain_delay_s` clients are disconnected with 1012, over at most "
                "`server.drain_s`; then the service ends with exit code 0. A second request changes nothing.",
            ),
        )  # fmt: skip
        text = msgspec.json.encode(document(self.routes, _RULES))
        self._api = Api(PREFIX, self.routes, key, {DOCUMENT: text})

    def add_to(self, app: web.Application) -> None:
        """Serve every path below /api in `app`, which has not been started yet."""
        self._api.add_to(app)

    # --- queries --------------------------------------------------------------------------------------------------

    async def _rooms(self, call: Call) -> RoomsAnswer:
        query: RoomsQuery = call.query
        type_ = None if isinstance(query.type, UnsetType) else query.type
        survey_request = survey.ListRooms(after=query.cursor, limit=query.limit, type=type_, prefix=query.prefix)
        answers = await self._run_survey(survey_request)
        rooms = {row.id: row for each in answers.found for row in each.rooms}
        page = nsmallest(query.limit, rooms.values(), key=lambda row: row.id)
        more = len(rooms) > len(page) or any(each.more for each in answers.found)
        next_cursor = page[-1].id if more and page else UNSET
        return RoomsAnswer(rooms=page, next_cursor=next_cursor, missing=answers.missing)

    async def _room(self, call: Call) -> RoomAnswer:
        room_id = call.path.room_id
        answers = await self._run_survey(survey.ShowRoom(room_id=room_id))
        found = _only(answers, survey.RoomFound, f"No room {room_id!r} is open just now.")
        return RoomAnswer(room=found.room, missing=answers.missing)

    async def _user(self, call: Call) -> UserAnswer:
        user_id = call.path.user_id
        answers = await self._run_survey(survey.ShowUser(user_id=user_id))
        answer = UserAnswer(user_id=user_id, sessions=[], missing=answers.missing)
        for each in answers.found:
            if isinstance(each, survey.UserFound):
                answer.status, answer.activity = each.user.status, each.user.activity
                answer.status_message, answer.sessions = each.user.status_message, each.user.sessions
        return answer

    async def _limits(self, call: Call) -> LimitsAnswer:
        answers = await self._run_survey(survey.ListLimited())
        limited: dict[tuple[str, str], LimitedRow] = {}
        for row in (row for each in answers.found for row in each.limited):
            known = limited.setdefault((row.address, row.limit), row)
            if known is not row:
                known.refused += row.refused
                known.last_at = max(known.last_at, row.last_at)
        rows = sorted(limited.values(), key=lambda row: (-row.refused, row.address, row.limit))
        return LimitsAnswer(limited=rows, missing=answers.missing)

    async def _give_stats(self, call: Call) -> Stats:
        return await self._stats()

    # --- commands -------------------------------------------------------------------------------------------------

    async def _kick(self, call: Call) -> KickAnswer:
        body: KickBody = call.body
        survey_request = survey.Kick(
            user_id=_named(body.user_id),
            room_id=_named(body.room_id),
            session_id=_named(body.session_id),
            reason=body.reason,
        )
        answers = await self._run_survey(survey_request)
        return KickAnswer(kicked=sum(each.sessions for each in answers.found), missing=answers.missing)

    async def _recheck(self, call: Call) -> RecheckAnswer:
        body: RecheckBody = call.body
        answers = await self._run_survey(survey.Recheck(user_id=_named(body.user_id), room_id=_named(body.room_id)))
        return RecheckAnswer(
            checked=sum(each.checked for each in answers.found),
            refused=sum(each.refused for each in answers.found),
            undecided=sum(each.undecided for each in answers.found),
            missing=answers.missing,
        )

    async def _broadcast(self, call: Call) -> BroadcastAnswer:
        body: BroadcastBody = call.body
        if len(bytes(body.data)) > MAX_BROADCAST_BYTES:
            raise ApiError(413, "TOO_LARGE", f"data may have {MAX_BROADCAST_BYTES} bytes.")
        try:
            check_free_data(body.data)
        except PresenceError as error:
            raise ApiError(400, "INVALID_BODY", error.message) from None
        to = None if isinstance(body.to, UnsetType) else body.to
        room_id = call.path.room_id
        answers = await self._run_survey(survey.SendBroadcast(room_id=room_id, data=bytes(body.data), to=to))
        found = _only(answers, survey.BroadcastSent, f"No room {room_id!r} is open just now, so no member received it.")
        return BroadcastAnswer(delivered=found.delivered)

    async def _change_room(self, call: Call) -> SettingsAnswer:
        body: SettingsBody = call.body
        room_id = call.path.room_id
        change = SettingsChange(**msgspec.structs.asdict(body))
        answers = await self._run_survey(survey.ChangeRoom(room_id=room_id, change=change))
        for each in answers.found:
            if isinstance(each, survey.ChangeRefused):
                raise ApiError(413, each.code, each.message)
        found = _only(
            answers,
            survey.RoomChanged,
            f"No room {room_id!r} with a visible member is open just now. Give the settings in the token, or in the "
            "answer to the access check: the room has them when it opens.",
        )
        return SettingsAnswer(settings=found.settings)

    async def _change_user(self, call: Call) -> PresenceAnswer:
        body: UserBody = call.body
        user_id = call.path.user_id
        if not self._switch_presence(user_id, on=body.presence):
            text = "Presence is switched off for too many users. Put it into their tokens, or into the access check."
            raise ApiError(409, "TOO_MANY", text)
        # each worker has been told before it is asked, so that its answer means that it has done so
        answers = await self._run_survey(survey.ShowUser(user_id=user_id))
        sessions = sum(len(each.user.sessions) for each in answers.found if isinstance(each, survey.UserFound))
        return PresenceAnswer(user_id=user_id, presence=body.presence, sessions=sessions, missing=answers.missing)

    async def _begin_drain(self, call: Call) -> DrainAnswer:
        self._drain()
        return DrainAnswer(draining=True)


def _named(value: str | UnsetType) -> str | None:
    return None if isinstance(value, UnsetType) else value


def _only(answers: Answers, kind: type, sorry: str) -> Any:
    """The answer of this kind. Errors: ApiError 404, or 503 when a worker that may own the room did not answer or
    rooms move between workers."""
    for each in answers.found:
        if isinstance(each, kind):
            return each
    if answers.missing or any(each.moving for each in answers.found):
        who = (
            f"Worker {', '.join(map(str, answers.missing))} does not answer" if answers.missing else "Rooms are moving"
        )
        raise ApiError(503, "UNAVAILABLE", f"{who} just now. Try again in a second.", Retry_After="1")
    raise ApiError(404, "NOT_FOUND", f"{sorry} GET /api/rooms lists those that are.")
