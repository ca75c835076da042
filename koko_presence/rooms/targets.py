"""Holds the media of a room: one for each of its targets [H17]. State only; written by media.py, playback_sync.py and
lifetime.py, and by owner/reconcile.py while it restores the room."""

from collections.abc import Mapping

from msgspec import UNSET

from koko_presence.protocol.models import MAIN, Medium

from .frames import FrameGrid, grid_of


def named(target: object) -> str:
    """Return the target that a message means by its `target`, which may be absent or empty."""
    return target if isinstance(target, str) and target else MAIN


class Targets:
    """The medium of each target of a room, in the order in which the targets were set. `durations` has for a target the
    one that the last command has named, in seconds, for media that have none [H20]. `from_back_end`: the back
    end has set the media, so members may not [H18]."""

    __slots__ = ("durations", "from_back_end", "media")

    def __init__(self) -> None:
        self.media: dict[str, Medium] = {}
        self.durations: dict[str, float] = {}
        self.from_back_end = False

    def put(self, target: str, medium: Medium | None) -> None:
        """Set the medium of a target; None removes the target. The duration that commands have named for another
        medium is forgotten."""
        before = self.media.get(target)
        if before is None or medium is None or before.media_id != medium.media_id:
            self.durations.pop(target, None)
        if medium is None:
            self.media.pop(target, None)
        else:
            self.media[target] = medium

    def put_by_back_end(self, media: Mapping[str, Medium]) -> None:
        """Set the media that the back end names when the room begins [Q10]."""
        for target, medium in media.items():
            self.put(target, medium)
        self.from_back_end = bool(media)

    def note_duration(self, target: object, duration: float) -> None:
        """Record the duration in seconds that a command names for `target`, as it stands in the message."""
        self.durations[named(target)] = duration

    def is_other(self, target: object, media_id: object) -> bool:
        """Return whether `media_id`, as it stands in a message, is not the medium of `target`. Without an id in the
        message, or without a medium, there is nothing to compare [H19]."""
        if not isinstance(media_id, str):
            return False
        medium = self.media.get(named(target))
        return medium is not None and medium.media_id != media_id

    def duration_of(self, target: str) -> float | None:
        """Return how long the medium of a target is, in seconds; None when it is not known."""
        medium = self.media.get(target)
        return self.durations.get(target) if medium is None or medium.duration is UNSET else medium.duration

    def final_position_of(self, target: str) -> float | None:
        """Return the position of the room, in seconds, at which the medium of a target ends; None when it is not
        known, or before the room begins."""
        duration, medium = self.duration_of(target), self.media.get(target)
        if duration is None:
            return None
        position = duration - (0.0 if medium is None or medium.offset is UNSET else medium.offset)
        return position if position > 0.0 else None

    @property
    def end(self) -> float | None:
        """The end of the room in seconds: where the last of its media ends; without media, by the durations that
        commands have named. None: it is not known [H20]."""
        ends = (self.final_position_of(target) for target in self.media or self.durations)
        return max((end for end in ends if end is not None), default=None)

    def grid_at(self, position: float, target: str | None) -> tuple[str, FrameGrid] | None:
        """Return the target whose frames count at a position of the room, and its frames [H21]: of those with a frame
        rate that run there, `target`, else `main`, else the first one. None: there is none."""
        for name in dict.fromkeys((named(target), MAIN, *self.media)):
            medium = self.media.get(name)
            grid = None if medium is None else grid_of(medium, self.duration_of(name))
            if grid is not None and grid.runs_at(position):
                return name, grid
        return None
