"""Holds the presence object of a member: JSON of the application that the member shows in the room [P].

The object is `shown`, what other members have got, with two patches over it: `waiting` waits for the budget of its
user, `hidden` for the moment at which the session is visible again [P2, P3]. The member itself has all three merged.
A patch keeps only what it changes in what lies below it, so its removed keys are keys that exist there: the size of
all three is bounded by that of the object. Values are compact JSON, so that equal ones have equal texts; None stands
for a removed key. State only; the rules are in presence_state.py.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from koko_presence.protocol.events import encode

Patch = dict[str, str | None]


class PresenceObject:
    """Written by `Room`, the handler in presence_state.py, and owner/reconcile.py. `version` changes with every change.
    `session_version` is the highest version of a connection that has sent a change over a socket."""

    __slots__ = ("hidden", "session_version", "shown", "version", "waiting")

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        self.shown: dict[str, str] = {} if data is None else {key: _text(value) for key, value in data.items()}
        self.waiting: Patch = {}
        self.hidden: Patch = {}
        self.version = 1
        self.session_version = 0

    def restore(self, shown: dict[str, str], waiting: Patch, hidden: Patch, session_version: int) -> None:
        """Set the state from a record."""
        self.shown, self.waiting, self.hidden, self.session_version = shown, waiting, hidden, session_version

    def merged(self) -> dict[str, str]:
        """Return the whole object."""
        return _applied(_applied(self.shown, self.waiting), self.hidden)

    def merged_with(self, patch: Patch) -> dict[str, str]:
        """Return the whole object as it would be with a patch."""
        return _applied(self.merged(), patch)

    def changes(self, data: Mapping[str, Any] | None) -> Patch:
        """Return what a message changes in the whole object: None clears it, a key with None is removed."""
        merged = self.merged()
        if data is None:
            return dict.fromkeys(merged)
        patch = {key: None if value is None else _text(value) for key, value in data.items()}
        return _changes(merged, patch)

    def wait(self, patch: Patch) -> None:
        """Add a patch to what waits for its budget."""
        self.waiting = _changes(self.shown, self.waiting | patch)  # a new object: the one before may be in a record
        self.version += 1

    def hide(self, patch: Patch) -> None:
        """Add a patch to what was sent while invisible."""
        self.hidden = _changes(_applied(self.shown, self.waiting), self.hidden | patch)
        self.version += 1

    def reveal(self) -> None:
        """Let what was sent while invisible wait for its budget: the session is visible."""
        if self.hidden:
            self.wait(self.hidden)
            self.hidden = {}

    def show(self) -> Patch:
        """Show what waits; return the keys that this changes for other members."""
        changed = _changes(self.shown, self.waiting)
        self.shown, self.waiting = _applied(self.shown, self.waiting), {}
        self.version += 1
        return changed

    def note_session(self, session_version: int) -> None:
        """Record the version of the connection that has sent a change."""
        self.session_version = max(self.session_version, session_version)


def raw(values: Mapping[str, str | None]) -> dict[str, Raw | None]:
    """Return values as they are encoded in a message."""
    return {key: None if value is None else Raw(value.encode()) for key, value in values.items()}


def size_of(values: Mapping[str, str]) -> int:
    """Return the size of an object as compact JSON, in bytes."""
    return len(encode(raw(values)))


def _applied(values: dict[str, str], patch: Patch) -> dict[str, str]:
    if not patch:
        return values
    kept = {key: value for key, value in values.items() if key not in patch}
    return kept | {key: value for key, value in patch.items() if value is not None}


def _changes(values: dict[str, str], patch: Patch) -> Patch:
    """Return the part of a patch that changes something."""
    return {key: value for key, value in patch.items() if values.get(key) != value}


def _text(value: Any) -> str:
    return encode(value).decode()
