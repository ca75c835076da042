"""Sends the messages of this worker to one other worker: in order, written once per loop iteration, and kept until
acknowledged if they must not be lost."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from koko_presence._fastpath.wire import PeerBuffer
from koko_presence.protocol.commands import Command
from koko_presence.protocol.delivery import Delivery

from . import wire_messages


class PeerTransport(Protocol):
    """Carries bytes to one worker, in order and without loss while both live."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class PeerConnection:
    """The connection to one worker. `unacknowledged` are the commands that it has not acknowledged; if it dies, they
    are sent to its backup owners."""

    __slots__ = (
        "_acknowledged", "_completed", "_last_progress", "_link", "_received", "_reported", "outgoing",
        "unacknowledged",
    )  # fmt: skip

    def __init__(self, link: PeerTransport, schedule: Callable[[], object]) -> None:
        self._link = link
        self.outgoing = PeerBuffer(schedule)
        self.unacknowledged: deque[Command] = deque()
        self._acknowledged = 0
        # The last progress seen: number of acknowledged commands, and the monotonic second, while others waited.
        self._last_progress = (0, 0.0)
        self._received = 0  # kept commands received from the peer
        self._completed = 0  # of these, the ones whose effects are all written
        self._reported = 0

    def send_command(self, command: Command, now: float) -> None:
        """Send a command to an owner there, at monotonic second `now`."""
        if command.delivery is Delivery.BUS_REPEATS:
            if not self.unacknowledged:
                self._last_progress = (self._acknowledged, now)
            self.unacknowledged.append(command)
            self.outgoing.put(wire_messages.RELIABLE_COMMAND, wire_messages.encode_command(command))
        else:
            self.outgoing.put(wire_messages.COMMAND, wire_messages.encode_command(command))

    def on_reliable_command(self) -> None:
        """Count a kept command of the peer that was read."""
        self._received += 1

    def on_acknowledged(self, count: int) -> None:
        """Drop the kept commands that the peer has acknowledged, `count` in total. Errors: ValueError when the count is
        impossible."""
        if not 0 <= count - self._acknowledged <= len(self.unacknowledged):
            raise ValueError(
                f"{count} commands are acknowledged after {self._acknowledged}, {len(self.unacknowledged)} are left"
            )
        for _ in range(count - self._acknowledged):
            self.unacknowledged.popleft()
        self._acknowledged = count

    def note_progress(self, now: float) -> None:
        """Record whether the peer has acknowledged anything since the previous call, if commands wait."""
        if self.unacknowledged and self._last_progress[0] != self._acknowledged:
            self._last_progress = (self._acknowledged, now)

    @property
    def stuck_since(self) -> float | None:
        """Since which monotonic second the peer has acknowledged nothing although commands wait, as precisely as
        `note_progress` is called often enough; None when none wait."""
        return self._last_progress[1] if self.unacknowledged else None

    def flush(self) -> None:
        """Write all waiting messages."""
        data = self.outgoing.take()
        if data:
            self._link.write(data)

    def acknowledge(self) -> bool:
        """Acknowledge the peer's commands that had arrived at the previous call: between two calls all their effects
        are written, the flushes of their rooms included. Return whether there are more to acknowledge."""
        if self._completed != self._reported:
            self._reported = self._completed
            self.outgoing.put(wire_messages.ACKNOWLEDGED, wire_messages.encode(self._completed))
        self._completed = self._received
        return self._completed != self._reported

    def close(self) -> None:
        """Close the connection to a worker that is gone, or treated as gone."""
        self._link.close()
