"""Holds the media of a room: one for each of its targets [H17]. State only; written by media.py, playback_sync.py and
lifetime.py, and by owner/reconcile.py while it restores the room."""

from collections.abc import Iterable, Mapping

from msgspec import UNSET

from koko_presence.protocol.models import MAIN, MAX_MEDIA_TIME_S, MAX_TARGETS, Medium

from .frames import FrameGrid


def named(target: object) -> str:
    """Return the target that a message means by its `target`, which may be absent or empty."""
    return target if isinstance(target, str) and target else MAIN


class Targets:
    """The medium of each target of a room, in the order in which the targets were set. `durations` has for a target the
    one that the last command has named, in seconds, for media that have none [H20]. `removed` are the targets that were
    removed last, the latest at the end [H19]. `from_back_end`: the back end has set the media, so members may not
    [H18]. `end` is the end of the room in seconds: where the last of its media ends; None: it is not known [H20].

    Reports of viewers ask for the end and for frames, so both are kept, and computed when media or durations change."""

    __slots__ = ("_ends", "_grids", "durations", "end", "from_back_end", "media", "removed")

    def __init__(self) -> None:
        self.media: dict[str, Medium] = {}
        self.durations: dict[str, float] = {}
        self.removed: list[str] = []
        self.from_back_end = False
        self.end: float | None = None
        self._ends: dict[str, float] = {}  # by target, of media whose end is known
        self._grids: dict[str, FrameGrid] = {}  # by target, of media with a frame rate

    def put(self, target: str, medium: Medium | None) -> None:
        """Set the medium of a target; None removes the target. The duration that commands have named for another
        medium is forgotten, and with the first medium those for targets that the room turns out not to have."""
        before = self.media.get(target)
        if not self.media and medium is not None:
            self.durations.clear()
        elif before is None or medium is None or before.media_id != medium.media_id:
            self.durations.pop(target, None)
        if target in self.removed:
            self.removed.remove(target)
        if medium is not None:
            self.media[target] = medium
        elif self.media.pop(target, None) is not None:
            self.removed = [*self.removed, target][-MAX_TARGETS:]
        self._compute()

    def put_by_back_end(self, media: Mapping[str, Medium]) -> None:
        """Set the media that the back end names when the room begins [Q10]."""
        for target, medium in media.items():
            self.put(target, medium)
        self.from_back_end = bool(media)

    def restore(
        self,
        media: Mapping[str, Medium],
        durations: Mapping[str, float],
        removed: Iterable[str],
        *,
        from_back_end: bool,
    ) -> None:
        """Take the state of a lost owner's replica."""
        self.media, self.durations, self.removed = dict(media), dict(durations), list(removed)
        self.from_back_end = from_back_end
        self._compute()

    def note_duration(self, target: object, duration: float) -> None:
        """Record the duration in seconds that a command names for `target`, as it stands in the message. In a room with
        media it counts for their targets only; without, those of the `MAX_TARGETS` named last do [H20]."""
        name = named(target)
        if self.media and name not in self.media:
            return
        before = self.durations.pop(name, None)
        self.durations[name] = duration
        if len(self.durations) > MAX_TARGETS:
            del self.durations[next(iter(self.durations))]
        if duration != before:
            self._compute()

    def is_other(self, target: object, media_id: object) -> bool:
        """Return whether `media_id`, as it stands in a message, is not the medium of `target`, or the target has been
        removed. Without an id in the message, or with a target that has had no medium, there is nothing to compare
        [H19]."""
        if not isinstance(media_id, str):
            return False
        medium = self.media.get(named(target))
        return named(target) in self.removed if medium is None else medium.media_id != media_id

    def end_of(self, target: str) -> float | None:
        """Return the position of the room, in seconds, at which the medium of a target ends; None when it is not
        known."""
        return self._ends.get(target)

    def grid_at(self, position: float, target: str | None) -> tuple[str, FrameGrid] | None:
        """Return the target whose frames count at a position of the room, and its frames [H21]: of those with a frame
        rate that run there, `target`, else `main`, else the first one. None: there is none."""
        grids = self._grids
        if not grids:
            return None
        for name in (named(target), MAIN, *grids):
            grid = grids.get(name)
            if grid is not None and grid.runs_at(position):
                return name, grid
        return None

    def _compute(self) -> None:
        self._ends, self._grids = {}, {}
        for name in self.media or self.durations:
            medium = self.media.get(name)
            duration = self.durations.get(name) if medium is None or medium.duration is UNSET else medium.duration
            offset = 0.0 if medium is None or medium.offset is UNSET else medium.offset
            if duration is not None and duration <= offset:
                duration = None  # named by a command: the medium would end before the room begins
            if duration is not None:
                self._ends[name] = min(duration - offset, MAX_MEDIA_TIME_S)
            if medium is not None and medium.frame_rate is not UNSET:
                self._grids[name] = FrameGrid(medium.frame_rate, offset, duration)
        self.end = max(self._ends.values(), default=None)
