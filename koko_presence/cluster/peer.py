"""Sends the messages of this worker to one other worker: in order, written once per loop iteration, and kept until
confirmed if they must not be lost."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from koko_presence._fastpath.wire import PeerBuffer
from koko_presence.protocol.commands import Command

from . import wire_messages


class PeerTransport(Protocol):
    """Carries bytes to one worker, in order and without loss while both live."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class PeerConnection:
    """The connection to one worker. `unconfirmed` are the commands that it has not confirmed; if it dies, they are sent
    to its backup owners."""

    __slots__ = (
        "_completed", "_confirmed", "_last_progress", "_link", "_received", "_reported", "outgoing", "unconfirmed",
    )  # fmt: skip

    def __init__(self, link: PeerTransport, schedule: Callable[[], object]) -> None:
        self._link = link
        self.outgoing = PeerBuffer(schedule)
        self.unconfirmed: deque[Command] = deque()
        self._confirmed = 0
        # The last progress seen: number of confirmed commands, and the monotonic second, while others were unconfirmed.
        self._last_progress = (0, 0.0)
        self._received = 0  # kept commands received from the peer
        self._completed = 0  # of these, the ones whose effects are all written
        self._reported = 0

    def send_command(self, command: Command, now: float) -> None:
        """Send a command to an owner there, at monotonic second `now`."""
        if wire_messages.is_reliable(command):
            if not self.unconfirmed:
                self._last_progress = (self._confirmed, now)
            self.unconfirmed.append(command)
            self.outgoing.put(wire_messages.RELIABLE_COMMAND, wire_messages.encode_command(command))
        else:
            self.outgoing.put(wire_messages.COMMAND, wire_messages.encode_command(command))

    def on_reliable_command(self) -> None:
        """Count a kept command of the peer that was read."""
        self._received += 1

    def on_confirmed(self, count: int) -> None:
        """Drop the kept commands that the peer has confirmed, `count` in total. Errors: ValueError when the count is
        impossible."""
        if not 0 <= count - self._confirmed <= len(self.unconfirmed):
            raise ValueError(
                f"{count} commands are confirmed after {self._confirmed}, {len(self.unconfirmed)} are left"
            )
        for _ in range(count - self._confirmed):
            self.unconfirmed.popleft()
        self._confirmed = count

    def note_progress(self, now: float) -> None:
        """Record whether the peer has confirmed anything since the previous call, if commands wait."""
        if self.unconfirmed and self._last_progress[0] != self._confirmed:
            self._last_progress = (self._confirmed, now)

    @property
    def stuck_since(self) -> float | None:
        """Since which monotonic second the peer has confirmed nothing although commands wait, as precisely as
        `note_progress` is called often enough; None when none wait."""
        return self._last_progress[1] if self.unconfirmed else None

    def flush(self) -> None:
        """Write all waiting messages."""
        data = self.outgoing.take()
        if data:
            self._link.write(data)

    def confirm(self) -> bool:
        """Confirm the peer's commands that had arrived at the previous call: between two calls all their effects are
        written, the flushes of their rooms included. Return whether there are more to confirm."""
        if self._completed != self._reported:
            self._reported = self._completed
            self.outgoing.put(wire_messages.CONFIRMED, wire_messages.encode(self._completed))
        self._completed = self._received
        return self._completed != self._reported

    def close(self) -> None:
        """Close the connection to a worker that is gone, or treated as gone."""
        self._link.close()
