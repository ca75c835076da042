"""One worker's letters to another: put in order, written once per turn, and kept until confirmed where that matters."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from koko_presence._fastpath.wire import PeerBuffer
from koko_presence.protocol.commands import Command

from . import wire_messages


class PeerTransport(Protocol):
    """What carries bytes to one worker, in order and without loss while both live."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class PeerConnection:
    """The way to one worker. `kept` are commands that it has not confirmed: should it die, its heirs get them."""

    __slots__ = ("_confirmed", "_done", "_got", "_link", "_looked", "_said_done", "kept", "letters")

    def __init__(self, link: PeerTransport, plan: Callable[[], object]) -> None:
        self._link = link
        self.letters = PeerBuffer(plan)
        self.kept: deque[Command] = deque()
        self._confirmed = 0
        self._looked = (0, 0.0)  # how many were confirmed at which monotonic second, with some left to be confirmed
        self._got = 0  # how many kept commands have come from there
        self._done = 0  # and of how many all that they caused has been written
        self._said_done = 0

    def post(self, command: Command, now: float) -> None:
        """A command for an owner there, at monotonic second `now`."""
        if wire_messages.is_kept(command):
            if not self.kept:
                self._looked = (self._confirmed, now)
            self.kept.append(command)
            self.letters.put(wire_messages.KEPT_COMMAND, wire_messages.encode_command(command))
        else:
            self.letters.put(wire_messages.COMMAND, wire_messages.encode_command(command))

    def on_kept_command(self) -> None:
        """One of the other side's kept commands has been read."""
        self._got += 1

    def on_got(self, count: int) -> None:
        """The other side has done `count` of ours in all. Errors: ValueError when that cannot be."""
        if not 0 <= count - self._confirmed <= len(self.kept):
            raise ValueError(f"{count} commands are confirmed after {self._confirmed}, {len(self.kept)} are left")
        for _ in range(count - self._confirmed):
            self.kept.popleft()
        self._confirmed = count

    def stuck_since(self, now: float) -> float | None:
        """Since which monotonic second nothing has been confirmed although something waits for it, as far as this was
        asked often enough; None when nothing waits."""
        if not self.kept:
            return None
        if self._looked[0] != self._confirmed:
            self._looked = (self._confirmed, now)
        return self._looked[1]

    def flush(self) -> None:
        """Write what waits."""
        data = self.letters.take()
        if data:
            self._link.write(data)

    def confirm(self) -> bool:
        """Say how many of the other side's commands had come when this was called last: between two calls all that they
        have caused is written, the flush of their rooms included. Returns whether there is more to confirm."""
        if self._done != self._said_done:
            self._said_done = self._done
            self.letters.put(wire_messages.GOT, wire_messages.encode(self._done))
        self._done = self._got
        return self._done != self._said_done

    def close(self) -> None:
        """The worker is gone, or to be treated so."""
        self._link.close()
