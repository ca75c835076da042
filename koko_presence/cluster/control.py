"""What the supervisor and its workers say to each other, over one socket pair per worker.

Messages are msgpack with a 4-byte length before each. The worker's end is read and written by its loop: a beat tells
that the loop runs, which no side thread could.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from .ring import View

MAX_MESSAGE_BYTES = 64 << 20


class Message(Struct, kw_only=True, tag=True):
    pass


# --- from the supervisor ------------------------------------------------------------------------------------------


class Begin(Message):
    """The first message: who the worker is. `config` is a Config as msgpack, `listening` the descriptors of the slot's
    listening sockets, which outlive the worker."""

    id: int
    slot: int
    mesh_address: str
    listening: list[int]
    config: bytes
    dev: bool = False


class Workers(Message):
    """A new view of the workers."""

    view: View


class Reload(Message):
    """A new configuration, checked already."""

    config: bytes


class Drain(Message):
    """Take no more connections, send the clients elsewhere over at most `longest_s`, answer Drained, and wait."""

    longest_s: float


class Stop(Message):
    """Exit now."""


class AskSnapshot(Message):
    """Answer with Snapshot of the same number."""

    number: int


# --- from a worker ------------------------------------------------------------------------------------------------


class Ready(Message):
    """The mesh socket listens; the worker may be put into a view."""


class Serving(Message):
    """The worker is in a view, knows its peers and accepts connections; `epoch` is that view's."""

    epoch: int


class Beat(Message):
    """The loop runs; `at` is its monotonic second."""

    at: float


class LinkRenewed(Message):
    """The link to worker `peer`, which is alive, was lost and made again."""

    peer: int


class Drained(Message):
    """Every client has been sent elsewhere."""


class Snapshot(Message):
    """The worker's counters, as ops/metrics.py encodes them."""

    number: int
    counters: bytes


class Failed(Message):
    """The worker cannot run; `reason` is one line for people. No restart helps when `final`."""

    reason: str
    final: bool = False


ToWorker = Begin | Workers | Reload | Drain | Stop | AskSnapshot
ToSupervisor = Ready | Serving | Beat | LinkRenewed | Drained | Snapshot | Failed

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ToWorker | ToSupervisor)


def pack(message: Message) -> bytes:
    """One message with its length before it."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


class Unpacker:
    """Whole messages out of a stream of bytes. Errors: ValueError for what no supervisor or worker of ours sends."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Take some bytes; yields every message that is complete with them."""
        self._data += data
        while len(self._data) >= 4:
            size = int.from_bytes(self._data[:4], "big")
            if size > MAX_MESSAGE_BYTES:
                raise ValueError(f"a message of {size} bytes")
            if len(self._data) < 4 + size:
                return
            body = bytes(self._data[4 : 4 + size])
            del self._data[: 4 + size]
            yield _decoder.decode(body)
