"""Computes the playback state: one anchored state per room [H4], and each viewer's distance from it [H7]. Pure
arithmetic.

A state means: at monotonic second `anchor` the position was `current_time`. There is no timer: a position is computed
when it is read. `version` counts accepted commands; the highest one is valid [H16].
"""

from math import inf

from msgspec import UNSET, UnsetType

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.messages import MediaData, PlaybackData
from koko_presence.protocol.models import MAX_MEDIA_TIME_S, KnownPlayback, PlaybackRow, ViewerState

from .targets import Targets, named

# A client's `at` is accepted within this distance from the receipt, as Jellyfin does [H4].
MAX_CLOCK_SKEW_S = 2.0

SYNC_ENTER_S = 0.250
SYNC_LEAVE_S = 0.500
SYNC_LOST_S = 2.0
SETTLE_S = 1.0
IN_STEP = ("synced", "ended")  # the states of viewers that count as synced
NEWCOMER_S = 5.0  # for which a viewer is in step without a break until it is no newcomer any more [H9]
AT_END_S = 0.250  # a player may stop this much before the duration that its container names [H20]


def acted_at(data: PlaybackData, wall: WallClock, now: float) -> float:
    """Return the monotonic second at which the client acted: its `at` when that is within 2 s of the receipt, else the
    receipt."""
    if not isinstance(data.at, float):
        return now
    at = now + (data.at - wall.ms(now)) / 1000.0
    # a clock that is ahead is cut to `now`: an anchor in the future would delay the commands of all other users
    return min(at, now) if abs(at - now) <= MAX_CLOCK_SKEW_S else now


def is_too_old(data: PlaybackData | MediaData, wall: WallClock, now: float) -> bool:
    """Return whether a message arrives later after its `at` than its `max_age_ms` permits, as one does that a network
    has held back [H4]. One that lacks either of the two is never too old."""
    if not (isinstance(data.at, float) and isinstance(data.max_age_ms, int)):
        return False
    return wall.ms(now) - data.at > data.max_age_ms


class Playback:
    """The playback state of a room, from its first playback command on [H5]."""

    __slots__ = (
        "acted_at", "anchor", "current_time", "decided_version", "is_playing", "known_version", "playback_rate",
        "target", "targets", "version",
    )  # fmt: skip

    def __init__(self, now: float, targets: Targets) -> None:
        self.targets = targets  # of the room, shared
        self.is_playing = False
        self.current_time = 0.0
        self.playback_rate = 1.0
        self.anchor = now
        self.acted_at = now  # the monotonic second of the last command; before `anchor` for a delayed start [H10]
        self.version = 0
        self.decided_version = 0  # before the room's own switches, which make no command stale [H9, H16]
        self.known_version = 0  # of the client from which the state was restored; 0 after a command [H24]
        self.target: str | None = None

    @property
    def duration(self) -> float | None:
        """The room's end in seconds; None when it is not known [H20]."""
        return self.targets.end

    @property
    def ended(self) -> bool:
        """Whether the room has stopped at its end [H20]."""
        end = self.duration
        return not self.is_playing and end is not None and self.current_time >= end

    @property
    def ends_at(self) -> float | None:
        """The monotonic second at which the room reaches its end; None when it is paused, or the end not known."""
        end = self.duration
        if not self.is_playing or end is None:
            return None
        return self.anchor + (end - self.current_time) / self.playback_rate

    @property
    def frame(self) -> tuple[str, int] | None:
        """The target whose frames count, and its frame, while the room is paused; None while it plays, and without a
        frame rate [H21]."""
        found = None if self.is_playing else self.targets.grid_at(self.current_time, self.target)
        return None if found is None else (found[0], found[1].frame_at(self.current_time))

    def position(self, at: float) -> float:
        """Return the second of the video at monotonic second `at`, clamped to the duration where that is known [H4].
        Before a delayed start it stands [H10]."""
        position = self.current_time
        if self.plays_at(at):
            position += (at - self.anchor) * self.playback_rate
        return self._limited(position)

    def _limited(self, position: float) -> float:
        end = self.duration
        return min(max(position, 0.0), MAX_MEDIA_TIME_S if end is None else end)

    def plays_at(self, at: float) -> bool:
        """Return whether the video plays at monotonic second `at`: not before a delayed start [H10]."""
        return self.is_playing and (at >= self.anchor or self.anchor <= self.acted_at)

    def apply(self, data: PlaybackData, at: float, delay_s: float = 0.0) -> None:
        """Apply a sync, play, pause, seek, rate or step command; the message's own validation has checked its fields
        [H3], and `may_step` that a step is possible. `delay_s`: a `play` starts so much later [H10]. A seek or rate
        before a delayed start does not change when that is."""
        if isinstance(data.duration, float):
            self.targets.note_duration(data.target, data.duration)
        if isinstance(data.target, str):
            self.target = data.target
        at = max(at, self.acted_at)  # a time before the last command's would run the position backwards
        starts_at = at + delay_s
        if data.action in ("seek", "rate") and self.is_playing:
            starts_at = max(at, self.anchor)
        position = self.position(at)
        if isinstance(data.current_time, float) and data.action != "rate":
            position = self._limited(data.current_time)
        if data.action == "sync":
            self.is_playing = data.is_playing is True
        elif data.action == "play":
            self.is_playing = True
            position = 0.0 if position == self.duration else position  # from the end it begins anew [H20]
        elif data.action in ("pause", "step"):
            self.is_playing = False
        if isinstance(data.playback_rate, float) and data.action in ("sync", "rate"):
            self.playback_rate = data.playback_rate
        self.current_time = self._stepped(position, data.frames) if isinstance(data.frames, int) else position
        self.anchor, self.acted_at = starts_at, at
        self._settle()
        self._advance()

    def switch(self, now: float, *, plays: bool) -> None:
        """Play or stop at the present position, by the room itself [H9]."""
        self.current_time = self.position(now)
        self.is_playing = plays
        self.anchor = self.acted_at = now
        self._settle()
        self.version, self.known_version = self.version + 1, 0

    def media_changed(self, now: float, *, keep_position: bool) -> None:
        """Apply a change of the room's targets at monotonic second `now`. Unless `keep_position`, the room is paused at
        0 [H18]."""
        now = max(now, self.acted_at)
        starts_at = max(now, self.anchor) if keep_position and self.is_playing else now
        self.current_time = self.position(now) if keep_position else 0.0
        self.is_playing = self.is_playing and keep_position
        self.anchor, self.acted_at = starts_at, now
        self._settle()
        self._advance()

    def restore(self, known: KnownPlayback, wall: WallClock, now: float) -> None:
        """Take the state that a client knows from before a restart [H24]."""
        self.is_playing, self.playback_rate = known.is_playing, known.playback_rate
        self.anchor = min(now + (known.anchor - wall.ms(now)) / 1000.0, now)
        if known.target is not UNSET:
            self.target = known.target
        if known.duration is not UNSET and not self.targets.media:  # it is the room's, which media give themselves
            self.targets.note_duration(known.target, known.duration)
        self.current_time = self._limited(known.current_time)
        self.current_time = self.position(now)
        self.anchor = self.acted_at = now
        self._settle()
        self._advance()
        self.known_version = known.version

    def stop_at_end(self) -> None:
        """Stop at the room's end, which has been reached at `ends_at` [H20]."""
        ends_at, end = self.ends_at, self.duration
        assert ends_at is not None and end is not None
        self.is_playing, self.current_time = False, end
        self.anchor = self.acted_at = ends_at
        self._advance()

    def is_late(self, base_version: int) -> bool:
        """Return whether the room has moved on since the version `base_version`, other than by its own switches for
        viewers who buffer [H16]."""
        return not self.decided_version <= base_version <= self.version

    def _advance(self) -> None:
        self.version, self.known_version = self.version + 1, 0
        self.decided_version = self.version

    def may_step(self, target: str | None, at: float) -> bool:
        """Return whether the room can go by frames: those of `target` when it is named, else of any [H21]."""
        found = self.targets.grid_at(self.position(at), target)
        return found is not None and target in (None, "", found[0])

    def _stepped(self, position: float, frames: int) -> float:
        found = self.targets.grid_at(position, self.target)
        if found is None:
            return position
        grid = found[1]
        return self._limited(grid.middle_of(grid.limited(grid.frame_at(position) + frames)))

    def _settle(self) -> None:
        """Stop at the end [H20]; a paused position becomes the middle of the frame there [H21]."""
        if self.duration is not None and self.current_time >= self.duration:
            self.is_playing, self.current_time = False, self.duration
        elif not self.is_playing:
            found = self.targets.grid_at(self.current_time, self.target)
            if found is not None:
                self.current_time = self._limited(found[1].middle_of(found[1].frame_at(self.current_time)))

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
        row.frame, row.frame_target = self.shown_frame()
        row.ended = self.ended
        return row

    def shown_frame(self) -> tuple[int | UnsetType, str | UnsetType]:
        """Return `frame` and `frameTarget` of the state; the second only where the room has several media."""
        frame = self.frame
        if frame is None:
            return UNSET, UNSET
        return frame[1], frame[0] if len(self.targets.media) > 1 else UNSET


class Viewer:
    """One session's last report, and the sync state derived from it [H6, H7]."""

    __slots__ = (
        "drift_frames", "drift_ms", "following", "in_step_since", "is_newcomer", "reported_at", "state", "strikes",
        "sync",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = ViewerState(is_playing=False, current_time=0.0, playback_rate=1.0)
        self.sync = "unknown"
        self.drift_ms = 0
        self.drift_frames: int | None = None  # None without a frame rate [H22]
        self.strikes = 0
        self.following = True
        self.reported_at = 0.0
        self.in_step_since = inf  # the monotonic second since which each report was in step; inf: the last was not
        self.is_newcomer = True  # for which the room does not wait [H9]

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
            self._become("unknown")
        elif room.targets.is_other(data.target, data.media_id):
            self._become("other_media")  # [H19]
        else:
            self._judge(data, room, at)
            if self.sync in IN_STEP:
                self.in_step_since = min(self.in_step_since, now)
                self.is_newcomer = self.is_newcomer and now < self.in_step_since + NEWCOMER_S
            else:
                self.in_step_since = inf
        return (self.sync, self.following) != before

    def lapse(self) -> bool:
        """Reset the sync state when reports have stopped. Return True when it changed."""
        changed = self.sync != "unknown"
        self._become("unknown")
        return changed

    def _become(self, sync: str) -> None:
        """Set a sync state in which there is no drift."""
        self.sync, self.drift_ms, self.drift_frames, self.strikes = sync, 0, None, 0
        self.in_step_since = inf

    def _judge(self, data: PlaybackData, room: Playback, at: float) -> None:
        position, reported = room.position(at), self.state.current_time
        end = room.targets.end_of(named(data.target))
        end = room.duration if end is None else end
        drift = reported - (position if end is None else min(position, end))
        self.drift_ms = round(drift * 1000.0)
        self.drift_frames = self._drift_in_frames(data, room, position, drift)
        same_state = self.state.is_playing == room.plays_at(at)
        if data.buffering:
            found = "buffering"
        elif end is not None and not self.state.is_playing and _has_ended(reported, position, end, room):
            found = "ended"
        elif not same_state:
            found = "playing" if self.state.is_playing else "paused"
        else:
            allowed = SYNC_LEAVE_S if self.sync in (*IN_STEP, "unknown") else SYNC_ENTER_S
            found = "synced" if abs(drift) <= allowed else ("behind" if drift < 0 else "ahead")
        if found in IN_STEP or self.sync not in IN_STEP or data.buffering:
            self.sync, self.strikes = found, 0
            return
        self.strikes += 1
        # A report sent just before a command, or one hiccup, must not make the shown state flicker: two in a row are
        # needed.
        certain = abs(drift) > SYNC_LOST_S if same_state else at - room.anchor > SETTLE_S
        if certain or self.strikes >= 2:
            self.sync, self.strikes = found, 0

    def _drift_in_frames(self, data: PlaybackData, room: Playback, position: float, drift: float) -> int | None:
        """Return the drift in frames of the reported target: exact while both are paused, else rounded [H22]."""
        target = data.target if isinstance(data.target, str) else room.target
        found = room.targets.grid_at(position, target)
        if found is None:
            return None
        grid = found[1]
        if self.state.is_playing or room.is_playing:
            return round(drift * grid.per_second)
        return grid.frame_at(self.state.current_time) - grid.frame_at(position)


def _has_ended(reported: float, position: float, end: float, room: Playback) -> bool:
    """Return whether a viewer that has stopped at `reported` is at the end of its medium, `end`, and the room has
    ended, is beyond that end, or is about to reach it [H20]."""
    if reported < end - AT_END_S:
        return False
    return room.ended or position >= end or (room.is_playing and position >= end - SYNC_LEAVE_S)
