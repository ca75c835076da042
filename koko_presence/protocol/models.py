"""Declares the models that messages and events consist of: values, a cursor, a member's row, a room's snapshot.

Field names are camelCase on the wire and snake_case in Python. Unknown fields are ignored; an absent optional field is
`UNSET` and stays absent when encoded [C15]. The first paragraph of a docstring and the descriptions of fields also go
into the generated files (`make generate`).
"""

from fractions import Fraction
from typing import Annotated, Any, Literal, TypeGuard, TypeVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, structs

RoomType = Literal["project", "video", "comment_thread", "comparison"]
Status = Literal["active", "idle", "away", "busy", "reviewing"]
Activity = Literal["active", "idle", "away"]
PlaybackAction = Literal["sync", "play", "pause", "seek", "rate", "step", "report", "resync", "enable", "disable"]


def one_of(*names: str) -> Meta:
    """Describe the values of a text that only the server writes: for the generated files, without a check."""
    return Meta(extra_json_schema={"enum": list(names)})


SyncState = Annotated[
    str, one_of("synced", "behind", "ahead", "paused", "playing", "buffering", "ended", "other_media", "unknown")
]

# Eleven days of video. A finite position is not enough: 1e308 seconds times a rate of 16 is infinite [B14].
MAX_MEDIA_TIME_S = 1e6
MIN_RATE, MAX_RATE = 0.0625, 16.0
MAX_SERVER_MS = 1e15
MAX_VERSION = 2**53  # above it a browser's numbers are not exact

MediaTime = Annotated[float, Meta(ge=0.0, le=MAX_MEDIA_TIME_S)]
Normalised = Annotated[float, Meta(ge=0.0, le=1.0)]
Rate = Annotated[float, Meta(ge=MIN_RATE, le=MAX_RATE)]
ServerMs = Annotated[float, Meta(ge=0.0, le=MAX_SERVER_MS)]
MaxAgeMs = Annotated[int, Meta(ge=1, le=60_000)]
Version = Annotated[int, Meta(ge=0, le=MAX_VERSION)]
RoomId = Annotated[str, Meta(min_length=1, max_length=128)]
UserId = Annotated[str, Meta(min_length=1, max_length=128)]
Label = Annotated[str, Meta(max_length=64)]
TargetName = Annotated[str, Meta(min_length=1, max_length=64)]
MediaId = Annotated[str, Meta(min_length=1, max_length=200)]
Title = Annotated[str, Meta(max_length=200)]
Duration = Annotated[float, Meta(gt=0.0, le=MAX_MEDIA_TIME_S)]
Offset = Annotated[float, Meta(ge=-MAX_MEDIA_TIME_S, le=MAX_MEDIA_TIME_S)]
FrameRate = (
    Annotated[float, Meta(ge=0.1, le=1000.0)] | Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}/[1-9][0-9]{0,6}$")]
)
ControlMode = Literal["open", "controller", "moderators"]
PresenceData = dict[Annotated[str, Meta(min_length=1, max_length=64)], Any]  # [P1]
MessageId = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**53), le=2**53)]


class Wire(Struct, rename="camel", omit_defaults=True):
    """Base of every message and model of the client protocol."""


# --- media [H17] -------------------------------------------------------------------------------------------------

MAIN = "main"  # the target of what names none
MAX_TARGETS = 4


class Medium(Wire, kw_only=True):
    """The video of one target of a room: position in it = position of the room + `offset` [H17]."""

    media_id: Annotated[MediaId, Meta(description="Which video; another version of it has another id.")]
    title: Title | UnsetType = UNSET
    duration: Annotated[Duration | UnsetType, Meta(description="Seconds.")] = UNSET
    frame_rate: Annotated[
        FrameRate | UnsetType,
        Meta(description='Frames a second: a whole number, or a fraction such as `"24000/1001"`.'),
    ] = UNSET
    offset: Annotated[Offset | UnsetType, Meta(description="Seconds.")] = UNSET

    def __post_init__(self) -> None:
        if self.frame_rate is not UNSET:
            self.frame_rate = exact_rate(self.frame_rate)
        if self.duration is not UNSET and self.offset is not UNSET and self.offset >= self.duration:
            raise ValueError("offset must be less than duration: the medium would end before the room begins")


def exact_rate(rate: float | str) -> float | str:
    """Return a frame rate as it is kept and sent: a whole number as such, any other as a fraction in lowest terms. A
    decimal near one of the rates n × 1000/1001 (23.976, 29.97, 59.94) stands for that [H17]. Errors: ValueError for one
    that is not from 0.1 to 1000."""
    if isinstance(rate, float):
        whole = round(rate * 1.001)
        near = Fraction(whole * 1000, 1001)
        is_decimal = rate != int(rate)
        found = near if is_decimal and abs(rate - near) < 0.004 else Fraction(repr(rate)).limit_denominator(1_000_000)
    else:
        found = Fraction(rate)
    if not Fraction(1, 10) <= found <= 1000:
        raise ValueError("frameRate must be from 0.1 to 1000")
    return float(found) if found.denominator == 1 else f"{found.numerator}/{found.denominator}"


# --- what clients send and receive --------------------------------------------------------------------------------


class Cursor(Wire, kw_only=True):
    """A cursor: second `timestamp` of the video, and normalised `x` and `y`, both or neither [E4, E5, E7]."""

    timestamp: Annotated[
        MediaTime | UnsetType, Meta(description="Second of the video; required in `video` and `comparison` rooms.")
    ] = UNSET
    x: Annotated[Normalised | UnsetType, Meta(description="0 to 1 of the picture; both or neither.")] = UNSET
    y: Normalised | UnsetType = UNSET
    target: Annotated[Label | UnsetType, Meta(description="Which of two videos, at most 64 characters.")] = UNSET
    media_id: Annotated[MediaId | UnsetType, Meta(description="The medium that it is in.")] = UNSET

    def __post_init__(self) -> None:
        if (self.x is UNSET) != (self.y is UNSET):
            raise ValueError("x and y belong together: send both or neither")

    @property
    def hidden(self) -> bool:
        """`data: {}` hides the cursor, as `data: null` does [E3]."""
        return self.timestamp is UNSET and self.x is UNSET


def is_plain(cursor: Cursor | None) -> TypeGuard[Cursor]:
    """Return True for a cursor that has a point or a second of the video, and neither `target` nor `media_id`."""
    return cursor is not None and cursor.target is UNSET and cursor.media_id is UNSET and not cursor.hidden


class Selection(Wire, kw_only=True):
    """A range of the timeline in seconds of the video; equal ends are allowed [F1]."""

    start_time: Annotated[MediaTime, Meta(description="Seconds of the video; `startTime` is not after `endTime`.")]
    end_time: MediaTime
    target: Label | UnsetType = UNSET
    media_id: Annotated[MediaId | UnsetType, Meta(description="The medium that it is in.")] = UNSET

    def __post_init__(self) -> None:
        if self.end_time < self.start_time:
            raise ValueError("startTime must not be after endTime")


Place = TypeVar("Place", Cursor, Selection)


def in_medium(place: Place, target: str, media_id: str) -> Place:
    """Return a cursor or selection with the medium that it is in: `media_id` when it is in this target and names none
    [H19]."""
    if place.media_id is not UNSET or (place.target or MAIN) != target:
        return place
    return structs.replace(place, media_id=media_id)


class Privacy(Wire, kw_only=True):
    """What other users may see of this session, or of all sessions of the user; an absent field changes nothing
    [K1, K6]."""

    invisible: bool | UnsetType = UNSET
    share_cursor: bool | UnsetType = UNSET
    share_selection: bool | UnsetType = UNSET
    scope: Literal["session", "user"] = "session"


# --- what the server shows of a room [Data Models, section O] -----------------------------------------------------


class ViewerState(Wire, kw_only=True):
    """The state of a viewer's player as last reported; `current_time` in seconds of the video [H6]."""

    is_playing: bool
    current_time: float
    playback_rate: float


class PlaybackRow(Wire, kw_only=True):
    """The room's playback: `current_time` was right at `anchor`, in ms of the server [H4, H5]."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: int
    version: int
    duration: Annotated[float | UnsetType, Meta(description="The end of the room, in seconds.")] = UNSET
    target: str | UnsetType = UNSET
    frame: Annotated[
        int | UnsetType, Meta(description="The frame that is shown, from 0: in a pause, with a known frame rate.")
    ] = UNSET
    frame_target: Annotated[
        str | UnsetType, Meta(description="The target of `frame`, where the room has several media.")
    ] = UNSET
    ended: Annotated[bool, Meta(description="The room has stopped at its end.")] = False


class KnownPlayback(Wire, kw_only=True):
    """The playback of a room as a client has it, with the fields of `PlaybackRow` [H24]. With a number out of range it
    is not taken; the join goes on."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: float
    version: int
    duration: float | UnsetType = UNSET
    target: Label | UnsetType = UNSET


class Known(Wire, kw_only=True):
    """What a client knows of a room that it joins again; it counts after a restart of the whole service [H24]."""

    playback: KnownPlayback
    media: Annotated[
        Annotated[dict[TargetName, Medium], Meta(max_length=MAX_TARGETS)] | UnsetType,
        Meta(description="By target, as in `room.media`."),
    ] = UNSET
    at: Annotated[
        float | UnsetType,
        Meta(
            description="Server time in ms of the last message that the client has received. What was playing is taken "
            "paused after a minute, and nothing after ten."
        ),
    ] = UNSET


class Rights(Wire, kw_only=True):
    """What a session may do in a room, by its token and the answer of the back end [A6]."""

    control: Annotated[bool, Meta(description="Command playback, and have control.")]
    broadcast: bool
    moderate: bool


class SyncRow(Wire, kw_only=True):
    """A viewer's deviation from the room's playback [H7]."""

    state: SyncState
    drift_ms: Annotated[int, Meta(description="Reported minus room: behind is negative.")]
    drift_frames: Annotated[int | UnsetType, Meta(description="The same in frames, with a known frame rate.")] = UNSET


class PresenceUser(Wire, kw_only=True):
    """One session (a tab, a device) of one user [PresenceUser, C7]."""

    user_id: str
    session_id: str
    name: str
    image: str | UnsetType = UNSET
    color: str
    status: Status
    status_message: str | UnsetType = UNSET
    activity: Activity
    connected: bool
    last_active_at: str
    room_id: str
    room_type: RoomType
    index: int | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET
    selection: Selection | UnsetType = UNSET
    is_typing: bool
    typing_context: str | UnsetType = UNSET
    is_watching: bool
    playback_state: ViewerState | UnsetType = UNSET
    viewer_sync: SyncRow | UnsetType = UNSET
    transport: Annotated[
        Literal["http"] | UnsetType,
        Meta(description='`"http"` for a session that has no socket; absent for the others.'),
    ] = UNSET
    presence: Annotated[
        dict[str, Any] | UnsetType, Meta(description="Its presence object; absent while it is empty.")
    ] = UNSET


class ControlRequestRow(Wire, kw_only=True):
    """A pending request for control [I5]."""

    user_id: str
    requester_name: str
    requested_at: str


AutoGrantAway = Annotated[float, Meta(ge=0.0, le=86_400.0)]
WaitForViewers = Annotated[float, Meta(ge=0.0, le=10.0)]
MaxUsers = Annotated[int, Meta(ge=1, le=100_000)]
MediaByTarget = Annotated[dict[TargetName, Medium], Meta(min_length=1, max_length=MAX_TARGETS)]


class RoomSettings(Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """What the back end has set for one room. A key that is absent has its default, which `[rooms]` of the
    configuration holds [Q10]. Members see a default control mode other than `open` as if it were set."""

    title: Annotated[
        Title | UnsetType, Meta(description="What is looked at, for the people in the room; at most 200 characters.")
    ] = UNSET
    control_mode: Annotated[
        ControlMode | UnsetType,
        Meta(description="Which members may command playback while no member has control: all, none, or moderators."),
    ] = UNSET
    auto_grant_away: Annotated[
        AutoGrantAway | UnsetType,
        Meta(
            description="Seconds for which the holder of control may be away before it goes to the longest waiting "
            "request, or to the next one. 0: any time."
        ),
    ] = UNSET
    wait_for_viewers: Annotated[
        WaitForViewers | UnsetType,
        Meta(description="Seconds, at most 10, for which playback waits for a viewer who buffers. 0: not at all."),
    ] = UNSET
    max_users: Annotated[
        MaxUsers | UnsetType,
        Meta(description="Users who may be in the room. `limits.max_users_per_room` counts where it is lower."),
    ] = UNSET
    media: Annotated[
        MediaByTarget | UnsetType,
        Meta(description="The medium of each target, at most four. While it is set, members may not set media."),
    ] = UNSET


class PresenceRoom(Wire, kw_only=True):
    """A room as its members see it [PresenceRoom, C7, I5]."""

    id: str
    type: RoomType
    users: list[PresenceUser] | Raw
    user_count: Annotated[int, Meta(description="Number of users; `sessionCount` counts their tabs and devices.")]
    session_count: int
    sync_enabled: bool
    controller: str | UnsetType = UNSET
    controller_session_id: str | UnsetType = UNSET
    control_requests: list[ControlRequestRow]
    playback: PlaybackRow | UnsetType = UNSET
    media: Annotated[dict[str, Medium] | UnsetType, Meta(description="By target; absent when there is none.")] = UNSET
    settings: RoomSettings | UnsetType = UNSET
    created_at: str


# --- a room without its members [Q12] -----------------------------------------------------------------------------


class SummaryUser(Wire, kw_only=True):
    """A user in the summary of a room; `color` is that of the user's first session there [Q12, L8]."""

    user_id: str
    name: str
    image: str | UnsetType = UNSET
    color: str


class SummaryRow(Wire, kw_only=True):
    """The visible users of a room: their number, and the first three [Q12]."""

    room_id: str
    user_count: int
    users: list[SummaryUser]


class RefusedRoom(Wire, kw_only=True):
    """A room whose summary is refused, and why [Q12]."""

    room_id: str
    code: str
    message: str
    retry_after_ms: int | UnsetType = UNSET
