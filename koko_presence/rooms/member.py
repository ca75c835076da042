"""Holds the members of a room: a `Person` per user, a `Member` per session of that user. State only; the rules are in
room.py.

Written by `Room`, the other modules of this package, and the owner package. `connected` is False while the place of a
lost session is held for the grace period [D2].
"""

from math import inf
from typing import NamedTuple

from msgspec import UNSET

from koko_presence._fastpath.room_core import MemberCore
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.commands import EnterRoom, Profile
from koko_presence.protocol.events import encode
from koko_presence.protocol.limits import MERGED_BURST, Limits
from koko_presence.protocol.messages import ROOM_MESSAGES, RoomMessage, limits_of
from koko_presence.protocol.models import PresenceUser, RoomSettings, RoomType, Selection, SyncRow
from koko_presence.protocol.settings import NO_SETTINGS

from .playback import Viewer
from .presence_object import PresenceObject, raw

# the rates of messages to rooms, with the names of their limits
_RATES = {message.rate: limits_of(message) for message in ROOM_MESSAGES.values() if message.rate}


def _budget(limits: Limits, hz: str, burst: str = "") -> TokenBucket:
    return TokenBucket(getattr(limits, hz), getattr(limits, burst) if burst else MERGED_BURST)


class PrivateRoom(NamedTuple):
    """The room as a user with only invisible sessions sees it while it has no visible member: its type, the monotonic
    second of its creation [K7], and the settings that came with the user's join, which are the room's if the user
    becomes visible and so begins it [Q10]."""

    type: RoomType
    since: float
    settings: RoomSettings = NO_SETTINGS


class Person:
    """One user in one room, with what the user's sessions share: the profile, the budgets of L1 [E2], and when the room
    has waited for one of them."""

    __slots__ = ("budgets", "members", "private_room", "profile", "user_id", "waited_at")

    def __init__(self, user_id: str, profile: Profile, limits: Limits, private_room: PrivateRoom) -> None:
        self.user_id = user_id
        self.profile = profile
        self.private_room = private_room  # valid while the room is not `shown`
        self.members: dict[str, Member] = {}
        self.waited_at = -inf  # the monotonic second at which the room has begun to wait for the user [H9]
        # by the rates that the messages to rooms declare (`RoomMessage.rate`)
        self.budgets = {rate: _budget(limits, *names) for rate, names in _RATES.items()}

    def budget(self, message: RoomMessage) -> TokenBucket:
        """Return the budget for the rate of `message`. Errors: TypeError when it declares none."""
        if message.rate not in self.budgets:
            raise TypeError(f"messages.py: {type(message).__name__} declares no rate, and its handler spends it")
        return self.budgets[message.rate]

    @property
    def visible_count(self) -> int:
        """The number of sessions that other users may see [D1, K2]."""
        return sum(1 for member in self.members.values() if member.visible)

    @property
    def is_away(self) -> bool:
        """Whether the user is shown as away in the room, by the status or because every visible session is lost."""
        if self.profile.status == "away":
            return True
        return not any(member.visible and member.shown_connected for member in self.members.values())


class Member(MemberCore):
    """One session in one room, with all that it shows; the base `MemberCore` holds what its cursor needs.

    Versions given by the user's owner: `membership_id` identifies the membership, `session_version` orders changes of
    where the session is connected, `privacy_version` what it hides, `granted` its permissions."""

    __slots__ = (
        "_row", "_row_shows", "away_at", "can_broadcast", "can_control", "connection", "edge", "grace_until",
        "granted", "joined_at", "last_step", "lease_until", "membership_id", "moderator", "person", "presence",
        "privacy_version", "report", "room_disabled", "round_trip_s", "selection", "session_disabled",
        "session_version", "share_selection", "typing", "viewer", "watching",
    )  # fmt: skip

    def __init__(self, enter: EnterRoom, membership_id: int, person: Person, limits: Limits, now: float) -> None:
        session_info = enter.session_info
        super().__init__(person.user_id, session_info.session_id, person.budgets["cursor"], now)
        self.person = person
        self.edge = session_info.edge
        self.connection = session_info.connection
        self.membership_id = self.session_version = self.granted = membership_id
        self.privacy_version = session_info.privacy_version
        self.lease_until = session_info.lease_until
        self.away_at = 0.0  # until then a lost session whose client was sent to another worker is shown as connected
        self.grace_until = 0.0  # the monotonic second at which a lost session's place is free; 0 while connected
        self.can_control = enter.can_control
        self.can_broadcast = enter.can_broadcast
        self.moderator = enter.moderator
        self.session_disabled = session_info.disabled  # presence switched off by the token [K1]
        self.room_disabled = not enter.presence  # by the authoriser, in this room [Q11]
        self.disabled = self.session_disabled or self.room_disabled  # or by the back end, for the user: `Room` has that
        self.invisible = session_info.invisible
        self.share_cursor = session_info.share_cursor
        self.share_selection = session_info.share_selection
        self.joined_at = now
        self.selection: Selection | None = None
        self.typing: str | None = None  # the context while typing; "" when none was given
        self.watching = False
        self.presence: PresenceObject | None = None  # made with its first key [P1]
        self.round_trip_s = 0.0  # to its client, as its last playback message said; 0.0: unknown
        self.viewer: Viewer | None = None
        self.last_step = (0, 0)  # connection, and number on it
        self._row = b""
        self._row_shows: tuple[object, ...] = ()  # the values from which `_row` was encoded
        self.report = TokenBucket(limits.report_hz, limits.report_hz)

    def has_done_step(self, number: int) -> bool:
        """Return whether the step with this number on the present connection was done before [H21]."""
        connection, last = self.last_step
        return connection == self.connection and number <= last

    def note_step(self, number: int) -> None:
        """Record that the step with this number on the present connection is done."""
        self.last_step = (self.connection, number)

    @property
    def name(self) -> str:
        """The name that its user shows [A5]."""
        return self.person.profile.user_info.name

    @property
    def image(self) -> str | None:
        """The https address of the image that its user shows."""
        return self.person.profile.user_info.image

    @property
    def leased(self) -> bool:
        """Held over HTTP, without a socket: it receives no events, and ends at `lease_until` unless renewed [M2]."""
        return self.lease_until > 0.0

    @property
    def may_play(self) -> bool:
        """Whether the session may command playback, by the `control` scope or as a moderator [H1]."""
        return self.can_control or self.moderator

    @property
    def may_hold(self) -> bool:
        """Whether the session may have control: it may command playback, and has a socket to receive the events of its
        control [I2, I7, M2]."""
        return self.may_play and not self.leased

    @property
    def shows_cursors(self) -> bool:
        """Whether other users receive its cursor [K3, K5]."""
        return self.visible and self.share_cursor and self.connected

    @property
    def shown_connected(self) -> bool:
        """Whether the session is connected, or still shown as connected after a loss."""
        return self.connected or self.away_at > 0.0

    @property
    def cursor_shown(self) -> bool:
        return (
            self.cursor is not None
            and not self.cursor_put_away
            and self.visible
            and (self.connected or self.away_at > 0.0)
        )

    @property
    def selection_shown(self) -> bool:
        return self.selection is not None and self.visible

    def forget_row(self) -> None:
        """Encode the row anew at the next use: something in it that is not part of this member has changed."""
        self._row_shows = ()

    def encoded_row(self, room_id: str, room_type: RoomType, wall: WallClock) -> bytes:
        """Return `row` as other members see it, as JSON; encoded again only when a value in it has changed."""
        viewer = self.viewer
        shows = (
            self.person.profile, self.connected or self.away_at > 0.0, self.last_active_at,
            self.color, self.index, self.typing, self.watching, self.cursor, self.cursor_shown, self.selection,
            self.visible, None if self.presence is None else self.presence.version,
            None if viewer is None else (viewer.state, viewer.sync, viewer.drift_ms, viewer.drift_frames),
        )  # fmt: skip
        if shows != self._row_shows:
            self._row, self._row_shows = encode(self.row(room_id, room_type, wall, full=True, own=False)), shows
        return self._row

    def row(self, room_id: str, room_type: RoomType, wall: WallClock, *, full: bool, own: bool) -> PresenceUser:
        """Return this session as a `PresenceUser`; `full` for members of the room [C14], `own` for the session itself
        [C5]."""
        profile = self.person.profile
        connected = self.connected or self.away_at > 0.0  # reading the property three times makes a row 6 % slower
        row = PresenceUser(
            user_id=self.user_id,
            session_id=self.session_id,
            name=profile.user_info.name,
            image=profile.user_info.image or UNSET,
            color=self.color,
            status=profile.status if connected else "away",
            status_message=profile.status_message or UNSET,
            activity=profile.activity if connected else "away",
            connected=connected,
            last_active_at=wall.iso(self.last_active_at),
            room_id=room_id,
            room_type=room_type,
            index=UNSET if self.index is None else self.index,
            is_typing=self.typing is not None,
            is_watching=self.watching,
        )
        if self.lease_until:  # set afterwards: a call with more than 16 keyword arguments adds a third to a row's cost
            row.transport = "http"
        if not full:
            return row
        if self.cursor is not None and (own or self.cursor_shown):
            row.cursor = self.cursor
        if self.selection is not None and (own or self.selection_shown):
            row.selection = self.selection
        if self.typing:
            row.typing_context = self.typing
        if self.presence is not None:
            shown = self.presence.merged() if own or not self.visible else self.presence.shown
            if shown:
                row.presence = raw(shown)
        if self.viewer is not None:
            row.playback_state = self.viewer.state
            viewer = self.viewer
            row.viewer_sync = SyncRow(
                state=viewer.sync,
                drift_ms=viewer.drift_ms,
                drift_frames=UNSET if viewer.drift_frames is None else viewer.drift_frames,
            )
        return row
