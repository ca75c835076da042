"""Computes the playback state: one anchored state per room [H4], and each viewer's distance from it [H7]. Pure
arithmetic.

A state means: at monotonic second `anchor` the position was `current_time`. There is no timer: a position is computed
when it is read. `version` counts accepted commands; the highest one is valid [H16].
"""

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.messages import PlaybackData
from koko_presence.protocol.models import MAX_MEDIA_TIME_S, PlaybackRow, ViewerState

from .targets import Targets

# A client's `at` is accepted within this distance from the receipt, as Jellyfin does [H4].
MAX_CLOCK_SKEW_S = 2.0

SYNC_ENTER_S = 0.250
SYNC_LEAVE_S = 0.500
SYNC_LOST_S = 2.0
SETTLE_S = 1.0


def acted_at(data: PlaybackData, wall: WallClock, now: float) -> float:
    """Return the monotonic second at which the client acted: its `at` when that is within 2 s of the receipt, else the
    receipt."""
    if not isinstance(data.at, float):
        return now
    at = now + (data.at - wall.ms(now)) / 1000.0
    # a clock that is ahead is cut to `now`: an anchor in the future would delay the commands of all other users
    return min(at, now) if abs(at - now) <= MAX_CLOCK_SKEW_S else now


class Playback:
    """The playback state of a room, from its first playback command on [H5]."""

    __slots__ = ("anchor", "current_time", "is_playing", "playback_rate", "target", "targets", "version")

    def __init__(self, now: float, targets: Targets) -> None:
        self.targets = targets  # of the room, shared
        self.is_playing = False
        self.current_time = 0.0
        self.playback_rate = 1.0
        self.anchor = now
        self.version = 0
        self.target: str | None = None

    @property
    def duration(self) -> float | None:
        """The room's end in seconds; None when it is not known [H20]."""
        return self.targets.end

    def position(self, at: float) -> float:
        """Return the second of the video at monotonic second `at`, clamped to the duration where that is known [H4]."""
        position = self.current_time
        if self.is_playing:
            position += (at - self.anchor) * self.playback_rate
        return self._limited(position)

    def _limited(self, position: float) -> float:
        end = self.duration
        return min(max(position, 0.0), MAX_MEDIA_TIME_S if end is None else end)

    def apply(self, data: PlaybackData, at: float) -> None:
        """Apply a sync, play, pause, seek or rate command; the message's own validation has checked its fields [H3]."""
        if isinstance(data.duration, float):
            self.targets.note_duration(data.target, data.duration)
        if isinstance(data.target, str):
            self.target = data.target
        at = max(at, self.anchor)  # a time before the last command's would run the position backwards
        position = self.position(at)
        if isinstance(data.current_time, float) and data.action != "rate":
            position = data.current_time
        if data.action == "sync":
            self.is_playing = data.is_playing is True
        elif data.action == "play":
            self.is_playing = True
        elif data.action == "pause":
            self.is_playing = False
        if isinstance(data.playback_rate, float) and data.action in ("sync", "rate"):
            self.playback_rate = data.playback_rate
        self.current_time = self._limited(position)
        self.anchor = at
        self.version += 1

    def media_changed(self, now: float, *, keep_position: bool) -> None:
        """Apply a change of the room's targets at monotonic second `now`. Unless `keep_position`, the room is paused at
        0 [H18]."""
        now = max(now, self.anchor)
        self.current_time = self.position(now) if keep_position else 0.0
        self.is_playing = self.is_playing and keep_position
        self.anchor = now
        self.version += 1

    def row(self, wall: WallClock) -> PlaybackRow:
        """Return the state for snapshots and refusals [H1, H5]."""
        row = PlaybackRow(
            is_playing=self.is_playing,
            current_time=self.current_time,
            playback_rate=self.playback_rate,
            anchor=wall.ms(self.anchor),
            version=self.version,
        )
        duration = self.duration
        if duration is not None:
            row.duration = duration
        if self.target is not None:
            row.target = self.target
        return row


class Viewer:
    """One session's last report, and the sync state derived from it [H6, H7]."""

    __slots__ = ("drift_ms", "following", "reported_at", "state", "strikes", "sync")

    def __init__(self) -> None:
        self.state = ViewerState(is_playing=False, current_time=0.0, playback_rate=1.0)
        self.sync = "unknown"
        self.drift_ms = 0
        self.strikes = 0
        self.following = True
        self.reported_at = 0.0

    def take(self, data: PlaybackData, room: Playback | None, at: float, now: float) -> bool:
        """Store a report made at monotonic second `at`. Return True when `sync` or `following` changed."""
        assert isinstance(data.current_time, float) and isinstance(data.playback_rate, float)
        self.state = ViewerState(
            is_playing=data.is_playing is True, current_time=data.current_time, playback_rate=data.playback_rate
        )
        self.reported_at = now
        before = (self.sync, self.following)
        self.following = data.follow
        if room is None or room.version == 0:
            self.sync, self.drift_ms, self.strikes = "unknown", 0, 0
        elif room.targets.is_other(data.target, data.media_id):
            self.sync, self.drift_ms, self.strikes = "other_media", 0, 0
        else:
            self._judge(data.buffering, room, at)
        return (self.sync, self.following) != before

    def lapse(self) -> bool:
        """Reset the sync state when reports have stopped. Return True when it changed."""
        changed = self.sync != "unknown"
        self.sync, self.drift_ms, self.strikes = "unknown", 0, 0
        return changed

    def _judge(self, buffering: bool, room: Playback, at: float) -> None:
        drift = self.state.current_time - room.position(at)
        self.drift_ms = round(drift * 1000.0)
        same_state = self.state.is_playing == room.is_playing
        if buffering:
            found = "buffering"
        elif not same_state:
            found = "paused" if room.is_playing else "playing"
        else:
            allowed = SYNC_LEAVE_S if self.sync in ("synced", "unknown") else SYNC_ENTER_S
            found = "synced" if abs(drift) <= allowed else ("behind" if drift < 0 else "ahead")
        if found == "synced" or self.sync != "synced" or buffering:
            self.sync, self.strikes = found, 0
            return
        self.strikes += 1
        # A report sent just before a command, or one hiccup, must not make the shown state flicker: two in a row are
        # needed.
        certain = abs(drift) > SYNC_LOST_S if same_state else at - room.anchor > SETTLE_S
        if certain or self.strikes >= 2:
            self.sync, self.strikes = found, 0
