"""Declares every message that clients send, one class each, with all that is said about it; `codec` decodes them.

The class attributes of a message (`ClientMessage`, `RoomMessage`) are its declaration. The decoder, the dispatch at the
edge, the procedures over HTTP, the metric labels and the generated files (`make generate`) are made from these
classes, in their order. Each message names its section of the specification or its decision; `events` has what the
server sends.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType, field

from .delivery import Delivery
from .events import (
    BroadcastSent,
    ControlDenied,
    ControlGranted,
    ControlReleased,
    ControlRequested,
    CursorShown,
    EventData,
    Joined,
    MediaChanged,
    PlaybackSynced,
    PresenceChanged,
    SelectionShown,
    StatusShown,
    TypingStarted,
    TypingStopped,
    UserChanged,
    UserLeft,
    ViewerSync,
)
from .limits import Limits
from .models import (
    Activity,
    Cursor,
    Duration,
    FrameRate,
    Known,
    Label,
    MaxAgeMs,
    MediaId,
    MediaTime,
    Medium,
    MessageId,
    Offset,
    PlaybackAction,
    PresenceData,
    Privacy,
    Rate,
    RoomId,
    RoomType,
    Selection,
    ServerMs,
    Status,
    TargetName,
    Title,
    UserId,
    Version,
    Wire,
)
from .procedures import (
    ActiveResult,
    BroadcastResult,
    GrantControlResult,
    HeartbeatInput,
    HeartbeatResult,
    JoinResult,
    LeaveInput,
    LeaveResult,
    MediaResult,
    PlaybackResult,
    PresenceResult,
    PrivacyResult,
    Procedure,
    RequestControlResult,
    StatusResult,
    SummariesResult,
)

EDGE: Literal["edge"] = "edge"
OWNER: Literal["owner"] = "owner"


class ClientMessage(Wire, tag_field="type", kw_only=True):
    """Base of the messages of clients; `id` is repeated in the reply, the error or the `ack` [B8].

    A session handles its messages itself, by the table of `server/session.py`, except those derived from
    `RoomMessage`. Class attributes:

    `causes` are the events that the message may cause.
    `procedures` are its forms over HTTP.
    `rate` names the limits `RATE_hz` and `RATE_burst` that apply to it; "": only those of the connection. A message
    that is coalesced may have no `RATE_burst`.
    """

    causes: ClassVar[tuple[type[EventData], ...]]
    procedures: ClassVar[tuple[Procedure, ...]] = ()
    rate: ClassVar[str] = ""

    id: MessageId | None = None


class RoomMessage(ClientMessage, kw_only=True):
    """Base of what a member sends to its room: the edge passes it on to the room's owner, where a function in `rooms/`
    handles it (`@handles`).

    `delivery` says what happens to the message when the room's owner is lost.
    `coalesced`: only the newest value counts. At the "edge" it waits for the rate of its session, and replaces the one
    that is held during a join; at the "owner" it waits for the rate of its user [E1, L3].
    """

    delivery: ClassVar[Delivery]
    coalesced: ClassVar[tuple[Literal["edge", "owner"], ...]] = ()

    room_id: RoomId


def _agreed(name: str, top: Any, under_data: Any) -> Any:
    """Return a field that may be at the top level or under `data`. Errors: ValueError when both values are present and
    differ [B3]."""
    if top is not UNSET and under_data is not UNSET and top != under_data:
        raise ValueError(f"{name} stands twice with different values")
    return under_data if top is UNSET else top


# --- the session and its rooms ------------------------------------------------------------------------------------


class Auth(ClientMessage, tag="auth", kw_only=True):
    causes = (StatusShown, UserChanged, UserLeft)

    token: Annotated[str, Meta(max_length=8192)] | UnsetType = UNSET
    resume_token: Annotated[str, Meta(max_length=6144)] | None = None
    caps: Annotated[list[Label], Meta(max_length=16)] = field(default_factory=list)
    privacy: Privacy | None = None


class JoinData(Wire, kw_only=True):
    room_type: RoomType | UnsetType = UNSET
    privacy: Privacy | UnsetType = UNSET
    known: Known | UnsetType = UNSET
    presence: PresenceData | UnsetType = UNSET


class Join(ClientMessage, tag="join", kw_only=True):
    causes = (Joined, UserLeft, PlaybackSynced, MediaChanged)
    procedures = (Procedure("join", returns=JoinResult),)
    rate = "join"

    room_id: RoomId
    room_type: Annotated[
        RoomType | UnsetType,
        Meta(
            description="May be left out where the room is live, or its name begins with `video_`, `project_` and so "
            "on."
        ),
    ] = UNSET
    privacy: Privacy | UnsetType = UNSET
    known: Known | UnsetType = UNSET
    presence: Annotated[
        PresenceData | UnsetType,
        Meta(description="The session's presence object at first; a member that joins again keeps the one it has."),
    ] = UNSET
    data: JoinData | None = None

    def __post_init__(self) -> None:
        if self.data is not None:  # the same fields under `data` are accepted too [B3]
            self.room_type = _agreed("roomType", self.room_type, self.data.room_type)
            self.privacy = _agreed("privacy", self.privacy, self.data.privacy)
            self.known = _agreed("known", self.known, self.data.known)
            self.presence = _agreed("presence", self.presence, self.data.presence)


class Leave(ClientMessage, tag="leave", kw_only=True):
    causes = (UserLeft, ControlReleased, ControlGranted)
    procedures = (Procedure("leave", returns=LeaveResult, input=LeaveInput),)

    room_id: RoomId


class HeartbeatData(Wire, kw_only=True):
    status: Activity | UnsetType = UNSET
    client_time: float | UnsetType = UNSET


class Heartbeat(ClientMessage, tag="heartbeat", kw_only=True):
    causes = (StatusShown,)
    procedures = (Procedure("heartbeat", returns=HeartbeatResult, input=HeartbeatInput),)

    status: Activity | UnsetType = UNSET
    client_time: float | UnsetType = UNSET
    data: HeartbeatData | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            self.status = _agreed("status", self.status, self.data.status)
            self.client_time = _agreed("clientTime", self.client_time, self.data.client_time)


class GetActive(ClientMessage, tag="get_active", kw_only=True):
    causes = ()
    procedures = (Procedure("getActive", kind="query", returns=ActiveResult),)
    rate = "join"

    room_id: RoomId
    room_type: RoomType | UnsetType = UNSET
    data: JoinData | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            self.room_type = _agreed("roomType", self.room_type, self.data.room_type)


MAX_WATCHED_ROOMS = 200


class Watch(ClientMessage, tag="watch", kw_only=True):
    """The rooms to watch without joining them, the whole list: it replaces the one before [Q12]."""

    causes = ()
    procedures = (Procedure("getSummaries", kind="query", returns=SummariesResult),)
    rate = "watch"

    rooms: Annotated[list[RoomId], Meta(max_length=MAX_WATCHED_ROOMS, description="An empty list ends watching.")]


# --- presence -----------------------------------------------------------------------------------------------------


class CursorMessage(RoomMessage, tag="cursor", kw_only=True):
    delivery = Delivery.AT_MOST_ONCE  # a cursor is followed by the next one
    causes = (CursorShown,)
    procedures = (Procedure("updateCursor"),)
    rate = "cursor"
    coalesced = (EDGE, OWNER)

    data: Annotated[Cursor | None, Meta(description="null hides the cursor.")]


class SelectionMessage(RoomMessage, tag="selection", kw_only=True):
    delivery = Delivery.BUS_REPEATS
    causes = (SelectionShown,)
    procedures = (Procedure("updateSelection"),)
    rate = "selection"
    coalesced = (EDGE, OWNER)

    data: Annotated[Selection | None, Meta(description="null clears the selection.")]


class StatusData(Wire, kw_only=True):
    status: Status
    status_message: Annotated[
        str | UnsetType, Meta(description="At most 100 characters; the empty text clears it.")
    ] = UNSET

    def __post_init__(self) -> None:
        # the specification's zod max(100) counts UTF-16 units [B15]
        if self.status_message is not UNSET and len(self.status_message.encode("utf-16-le")) > 200:
            raise ValueError("statusMessage may have at most 100 characters (UTF-16 units)")


class SetStatus(ClientMessage, tag="status", kw_only=True):
    causes = (StatusShown,)
    procedures: ClassVar[tuple[Procedure, ...]] = (Procedure("setStatus", returns=StatusResult),)
    rate = "status"

    data: StatusData


class SetStatusAlias(SetStatus, tag="set_status", kw_only=True):
    """`SetStatus` under the procedure's name, which is accepted as well [B2]."""

    procedures = ()


class TypingData(Wire, kw_only=True):
    is_typing: bool
    context: Label | UnsetType = UNSET


class Typing(RoomMessage, tag="typing", kw_only=True):
    delivery = Delivery.BUS_REPEATS
    causes = (TypingStarted, TypingStopped)
    procedures = (
        Procedure("startTyping", fixed={"isTyping": True}, input_name="TypingInput"),  # [M7]
        Procedure("stopTyping", fixed={"isTyping": False}, input_name="TypingInput"),
    )
    rate = "typing"
    coalesced = (OWNER,)

    data: TypingData


class PresenceMessage(RoomMessage, tag="presence", kw_only=True):
    """Change the session's presence object in the room [P2]."""

    delivery = Delivery.BUS_REPEATS
    causes = (PresenceChanged,)
    procedures = (Procedure("setPresence", returns=PresenceResult),)
    rate = "presence"
    coalesced = (OWNER,)

    data: Annotated[
        PresenceData | None,
        Meta(
            description="The keys to set; a key with null is removed, and null alone removes all. The merged object "
            "has at most 1 KiB as compact JSON."
        ),
    ]


# --- playback and control -----------------------------------------------------------------------------------------


class PlaybackData(Wire, kw_only=True):
    """One playback command or report. H3 defines the fields that each action needs; `at` is server time in ms [H4]."""

    action: PlaybackAction
    is_playing: bool | UnsetType = UNSET
    current_time: MediaTime | UnsetType = UNSET
    playback_rate: Rate | UnsetType = UNSET
    at: ServerMs | UnsetType = UNSET
    max_age_ms: Annotated[
        MaxAgeMs | UnsetType,
        Meta(
            description="How long after `at` it may arrive: later a report is ignored, and a command is `STALE` and "
            "changes nothing."
        ),
    ] = UNSET
    base_version: Version | UnsetType = UNSET
    frames: Annotated[
        Annotated[int, Meta(ge=-1000, le=1000)] | UnsetType, Meta(description="How far a step goes; not 0.")
    ] = UNSET
    duration: Duration | UnsetType = UNSET
    buffering: bool = False
    follow: bool = True
    target: Label | UnsetType = UNSET
    media_id: Annotated[
        MediaId | UnsetType,
        Meta(description="The medium that is meant; `STALE` when the target has another one by now."),
    ] = UNSET
    start_delay_ms: Annotated[
        Annotated[int, Meta(ge=0, le=2000)] | Literal["auto"] | UnsetType,
        Meta(
            description='With `play`: all players start so much later, together. "auto": as the slowest connection '
            "needs, at most 500. Other actions ignore it."
        ),
    ] = UNSET

    def __post_init__(self) -> None:
        if self.frames == 0:
            raise ValueError("frames must not be 0")
        for name in _REQUIRED[self.action]:
            if getattr(self, name) is UNSET:
                raise ValueError(f"action '{self.action}' needs {_CAMEL[name]}")


_ALL_THREE = ("is_playing", "current_time", "playback_rate")
_REQUIRED: dict[str, tuple[str, ...]] = {
    "sync": _ALL_THREE,
    "report": _ALL_THREE,
    "seek": ("current_time",),
    "rate": ("playback_rate",),
    "step": ("frames",),
    "play": (),
    "pause": (),
    "resync": (),
    "enable": (),
    "disable": (),
}
_CAMEL = {
    "is_playing": "isPlaying", "current_time": "currentTime", "playback_rate": "playbackRate", "frames": "frames"
}  # fmt: skip


class PlaybackMessage(RoomMessage, tag="playback", kw_only=True):
    """`playback` is the rate of commands; reports are coalesced, at `report_hz` of their session."""

    delivery = Delivery.BUS_REPEATS
    causes = (PlaybackSynced, ViewerSync, StatusShown)
    procedures = (Procedure("syncPlayback", returns=PlaybackResult, default={"action": "sync"}),)
    rate = "playback"
    coalesced = (OWNER,)

    data: PlaybackData

    @property
    def adds_up(self) -> bool:
        """Whether the command counts twice when it is done twice: a step that says neither from where it goes nor from
        which version of the state."""
        data = self.data
        return data.action == "step" and data.current_time is UNSET and data.base_version is UNSET


class MediaData(Wire, kw_only=True):
    """The medium of a target, `main` when none is named [H17, H18]. Where the target has this `media_id` already, an
    absent field keeps its value. `at` is server time in ms [H4]."""

    target: TargetName | UnsetType = UNSET
    media_id: Annotated[MediaId | None, Meta(description="null removes the target.")]
    title: Title | UnsetType = UNSET
    duration: Annotated[Duration | UnsetType, Meta(description="Seconds.")] = UNSET
    frame_rate: Annotated[
        FrameRate | UnsetType, Meta(description='Frames a second: a number, or a fraction such as `"24000/1001"`.')
    ] = UNSET
    offset: Annotated[
        Offset | UnsetType, Meta(description="Seconds: position in it = position of the room + offset.")
    ] = UNSET
    keep_position: Annotated[bool, Meta(description="Position and play state stay; else the room is paused at 0.")] = (
        False
    )
    at: ServerMs | UnsetType = UNSET
    max_age_ms: Annotated[
        MaxAgeMs | UnsetType,
        Meta(description="How long after `at` it may arrive: later it is `STALE` and changes nothing."),
    ] = UNSET
    base_version: Version | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.medium()  # raises ValueError for a wrong one

    def medium(self) -> Medium | None:
        """Return the film; None when the target is to be removed."""
        if self.media_id is None:
            return None
        return Medium(
            media_id=self.media_id,
            title=self.title,
            duration=self.duration,
            frame_rate=self.frame_rate,
            offset=self.offset,
        )


class MediaMessage(RoomMessage, tag="media", kw_only=True):
    """Set the medium of a target [H18]."""

    delivery = Delivery.BUS_REPEATS
    causes = (MediaChanged,)
    procedures = (Procedure("setMedia", returns=MediaResult),)
    rate = "playback"

    data: MediaData


class ToUser(Wire, kw_only=True):
    to_user_id: UserId


class ControlRequest(RoomMessage, tag="control_request", kw_only=True):
    delivery = Delivery.BUS_REPEATS
    causes = (ControlRequested, ControlGranted)
    procedures = (Procedure("requestControl", returns=RequestControlResult),)
    rate = "control"


class ControlGrant(RoomMessage, tag="control_grant", kw_only=True):
    delivery = Delivery.BUS_REPEATS
    causes = (ControlGranted,)
    procedures = (Procedure("grantControl", returns=GrantControlResult, input_name="ToUserInput"),)
    rate = "playback"

    data: ToUser


class ControlDeny(RoomMessage, tag="control_deny", kw_only=True):
    delivery = Delivery.BUS_REPEATS
    causes = (ControlDenied,)
    procedures = (Procedure("denyControl", input_name="ToUserInput"),)

    data: ToUser


class ControlRelease(RoomMessage, tag="control_release", kw_only=True):
    delivery = Delivery.BUS_REPEATS
    causes = (ControlReleased, ControlGranted)
    procedures = (Procedure("releaseControl"),)
    rate = "playback"


class ControlCancel(RoomMessage, tag="control_cancel", kw_only=True):
    delivery = Delivery.BUS_REPEATS
    causes = (ControlDenied,)
    procedures = (Procedure("cancelControl"),)


# --- the application's own, and privacy ---------------------------------------------------------------------------


class Broadcast(RoomMessage, tag="broadcast", kw_only=True):
    """`data` is the application's object, relayed unchanged; `to` lists at most 20 users [J1, J3]."""

    delivery = Delivery.AT_MOST_ONCE  # [J2]
    causes = (BroadcastSent,)
    procedures = (Procedure("broadcast", returns=BroadcastResult),)
    rate = "broadcast"

    data: Annotated[
        Raw, Meta(description="Yours, carried unchanged; at most 8 KiB.", extra_json_schema={"type": "object"})
    ]
    to: Annotated[Annotated[list[UserId], Meta(max_length=20)] | None, Meta(description="At most 20 user ids.")] = None


class SetPrivacy(ClientMessage, tag="privacy", kw_only=True):
    causes = (Joined, UserLeft, CursorShown, SelectionShown, ControlReleased, ControlGranted)
    procedures = (Procedure("setPrivacy", returns=PrivacyResult),)

    data: Privacy


# --- all of them, by type -----------------------------------------------------------------------------------------


def data_struct(message: type[ClientMessage]) -> type[Wire] | None:
    """Return the Struct of a message's required `data`; None when it has none."""
    for each_field in msgspec.structs.fields(message):
        if each_field.name == "data" and each_field.required:
            for each in _parts(each_field.type):
                if isinstance(each, type) and issubclass(each, Wire):
                    return each
    return None


def _parts(type_: Any) -> list[Any]:
    """Return the types of a union and of what is annotated, and the type itself."""
    return [type_, *(part for each in get_args(type_) for part in _parts(each))]


def data_names(message: type[ClientMessage]) -> tuple[str, ...]:
    """Return the names on the wire of the fields of a message's required `data`."""
    struct = data_struct(message)
    return () if struct is None else tuple(each.encode_name for each in msgspec.structs.fields(struct))


def limits_of(message: type[ClientMessage]) -> tuple[str, ...]:
    """Return the names of the limits of a message's rate: its Hz and, if it has one, its burst."""
    if not message.rate:
        return ()
    hz, burst = f"{message.rate}_hz", f"{message.rate}_burst"
    coalesced = issubclass(message, RoomMessage) and bool(message.coalesced)
    return (hz,) if coalesced and burst not in Limits.__struct_fields__ else (hz, burst)


def _declared(names: Mapping[str, Any]) -> dict[str, type[ClientMessage]]:
    """Return the messages among the values of `names`, by type. Errors: ImportError that says what is wrong."""
    found: dict[str, type[ClientMessage]] = {}
    for message in names.values():
        is_message = isinstance(message, type) and issubclass(message, ClientMessage)
        if not is_message or message in (ClientMessage, RoomMessage):
            continue
        type_ = str(message.__struct_config__.tag)
        where = f"messages.py: {message.__name__}"
        if type_ == message.__name__:
            raise ImportError(f"{where} does not say its type, as in  class HandRaise(..., tag='hand_raise')")
        if type_ in found:
            raise ImportError(f"{where} and {found[type_].__name__} are both {type_!r}")
        if not hasattr(message, "causes"):
            raise ImportError(f"{where} does not say which events it may cause, as in  causes = (HandRaised,)")
        if issubclass(message, RoomMessage) and not hasattr(message, "delivery"):
            raise ImportError(f"{where} has no delivery between workers, as in  delivery = Delivery.BUS_REPEATS")
        for limit in limits_of(message):
            if limit not in Limits.__struct_fields__:
                raise ImportError(f"{where} has the rate {message.rate!r}, and limits.py has no {limit}")
        for procedure in message.procedures:
            unknown = {*procedure.fixed, *procedure.default}.difference(data_names(message))
            if unknown:
                raise ImportError(f"{where}: {procedure.name} sets {sorted(unknown)}, which its data does not have")
        found[type_] = message
    return found


MESSAGES = _declared(globals())
ROOM_MESSAGES: dict[str, type[RoomMessage]] = {
    type_: message for type_, message in MESSAGES.items() if issubclass(message, RoomMessage)
}
PROCEDURES = {procedure.name: procedure for message in MESSAGES.values() for procedure in message.procedures}
