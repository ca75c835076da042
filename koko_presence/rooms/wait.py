"""Holds for which viewers the playback of a room waits [H9]. State only, written by its room and playback_sync.py."""


class Wait:
    """A wait that ends at monotonic second `until`, or when all `viewers` can play: session ids with the ids of their
    users, in the order in which they began to buffer."""

    __slots__ = ("until", "viewers")

    def __init__(self, until: float, viewers: dict[str, str] | None = None) -> None:
        self.until = until
        self.viewers: dict[str, str] = viewers or {}

    @property
    def users(self) -> list[str]:
        """The ids of the users that are waited for, each once."""
        return list(dict.fromkeys(self.viewers.values()))
