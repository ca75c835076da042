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
    """The connection to one worker. `kept` are the commands that it has not confirmed; if it dies, they are sent to its
    backup owners."""

    __slots__ = ("_confirmed", "_done", "_got", "_link", "_looked", "_said_done", "kept", "letters")

    def __init__(self, link: PeerTransport, plan: Callable[[], object]) -> None:
        self._link = link
        self.letters = PeerBuffer(plan)
        self.kept: deque[Command] = deque()
        self._confirmed = 0
        # The last progress seen: number of confirmed commands, and the monotonic second, while others were unconfirmed.
        self._looked = (0, 0.0)
        self._got = 0  # kept commands received from the peer
        self._done = 0  # of these, the ones whose effects are all written
        self._said_done = 0

    def post(self, command: Command, now: float) -> None:
        """Send a command to an owner there, at monotonic second `now`."""
        if wire_messages.is_kept(command):
            if not self.kept:
                self._looked = (self._confirmed, now)
            self.kept.append(command)
            self.letters.put(wire_messages.KEPT_COMMAND, wire_messages.encode_command(command))
        else:
            self.letters.put(wire_messages.COMMAND, wire_messages.encode_command(command))

    def on_kept_command(self) -> None:
        """Count a kept command of the peer that was read."""
        self._got += 1

    def on_got(self, count: int) -> None:
        """Drop the kept commands that the peer has confirmed, `count` in total. Errors: ValueError when the count is
        impossible."""
        if not 0 <= count - self._confirmed <= len(self.kept):
            raise ValueError(f"{count} commands are confirmed after {self._confirmed}, {len(self.kept)} are left")
        for _ in range(count - self._confirmed):
            self.kept.popleft()
        self._confirmed = count

    def stuck_since(self, now: float) -> float | None:
        """Return since which monotonic second the peer has confirmed nothing although commands wait, as precisely as
        this is called often enough; None when none wait."""
        if not self.kept:
            return None
        if self._looked[0] != self._confirmed:
            self._looked = (self._confirmed, now)
        return self._looked[1]

    def flush(self) -> None:
        """Write all waiting messages."""
        data = self.letters.take()
        if data:
            self._link.write(data)

    def confirm(self) -> bool:
        """Confirm the peer's commands that had arrived at the previous call: between two calls all their effects are
        written, the flushes of their rooms included. Return whether there are more to confirm."""
        if self._done != self._said_done:
            self._said_done = self._done
            self.letters.put(wire_messages.GOT, wire_messages.encode(self._done))
        self._done = self._got
        return self._done != self._said_done

    def close(self) -> None:
        """Close the connection to a worker that is gone, or treated as gone."""
        self._link.close()
