"""What the supervisor and its workers say to each other, over one socket pair per worker.

Messages are msgpack with a 4-byte length before each. The worker's end is read and written by its loop: a beat tells
that the loop runs, which no side thread could.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from koko_presence.auth.shared_cache import CacheEntry
from koko_presence.cluster.placement import View

log = logging.getLogger("koko_presence.control")

MAX_MESSAGE_BYTES = 64 << 20
READ_BYTES = 32 << 10  # in one turn of the loop


class Message(Struct, kw_only=True, tag=True):
    pass


# --- from the supervisor ------------------------------------------------------------------------------------------


class Begin(Message):
    """The first message: who the worker is. `config` is a Config as msgpack. `certificate` and `certificate_key` are
    PEM texts, empty without TLS. `shares`: the supervisor takes Share, which one of an earlier version does not
    know."""

    id: int
    slot: int
    mesh_address: str
    config: bytes
    certificate: bytes = b""
    certificate_key: bytes = b""
    shares: bool = False
    dev: bool = False


class Workers(Message):
    """A new view of the workers."""

    view: View


class Accept(Message):
    """Accept connections from the listening sockets of these slots, and from no others."""

    slots: list[int]


class OpenMesh(Message):
    """The mesh socket is gone from the runtime folder: listen there again."""


class Reload(Message):
    """A new configuration, checked already."""

    config: bytes


class Drain(Message):
    """Take no more connections, send the clients elsewhere over at most `longest_s`, answer Drained, and wait.
    `hand_over`: others stay, and what is still to be told by webhook goes to the supervisor as Untold."""

    longest_s: float
    hand_over: bool = False


class Stop(Message):
    """Exit now."""


class AskSnapshot(Message):
    """Answer with Snapshot of the same number."""

    number: int


class Ask(Message):
    """An inquiry of the operator port (survey.py), to be answered with Answer of the same number."""

    number: int
    inquiry: bytes


# --- both ways ----------------------------------------------------------------------------------------------------


class Share(Message):
    """From a worker: it has been told this outside. To a worker: another one has; what the supervisor knows already
    comes behind Begin, before the first view."""

    entries: list[CacheEntry]


# --- from a worker ------------------------------------------------------------------------------------------------


class Ready(Message):
    """The mesh socket listens; the worker may be put into a view."""


class Serving(Message):
    """The worker is in a view, knows its peers and can accept connections; `epoch` is that view's."""

    epoch: int


class Beat(Message):
    """The loop runs; `at` is its monotonic second."""

    at: float


class PeerStuck(Message):
    """Worker `peer` gives this one no sign of life, repeated while that lasts; or, `lossy`, it has not read
    so much that some of what this one had to tell it was dropped."""

    peer: int
    lossy: bool = False


class Drained(Message):
    """Every client has been sent elsewhere."""


LAST_WORDS = 0  # a snapshot's number when nobody has asked


class Snapshot(Message):
    """The worker's counters, as admin/metrics_snapshot.py encodes them. Asked for, or the last words of one that has
    drained."""

    number: int
    counters: bytes


class Answer(Message):
    """The worker's answer to an Ask; empty when something went wrong, which stands in its log."""

    number: int
    answer: bytes


class Failed(Message):
    """The worker cannot run; `reason` is one line for people. No restart helps when `final`."""

    reason: str
    final: bool = False


# --- both ways ----------------------------------------------------------------------------------------------------


class Untold(Message):
    """Events that a worker which drains leaves to its successor to tell by webhook: a list of Happenings as msgpack."""

    events: bytes


ToWorker = Begin | Workers | Accept | OpenMesh | Untold | Reload | Drain | Stop | AskSnapshot | Ask | Share
ToSupervisor = Ready | Serving | Beat | PeerStuck | Drained | Untold | Snapshot | Answer | Failed | Share

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


class Channel:
    """One end of the socket pair on a loop. `on_lost` is called once, when the other end is gone or talks nonsense;
    not after `close`."""

    def __init__(self, sock: socket.socket, on_message: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._sock = sock
        self._on_message, self._on_lost = on_message, on_lost
        self._loop = asyncio.get_running_loop()
        self._unpacker = Unpacker()
        self._unsent = bytearray()
        self._open = True
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)

    def send(self, message: Message) -> None:
        """Written before this returns, unless the other end is behind: news of a death must not wait for a turn of the
        loop. To an end that is gone it is lost; `on_lost` tells."""
        if not self._open:
            return
        data = pack(message)
        if not self._unsent:
            data = data[self._write(data) :]
        if data:
            if not self._unsent:
                self._loop.add_writer(self._sock, self._write_more)
            self._unsent += data

    def close(self) -> None:
        """Nothing is read, written or told any more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:  # gone; the reader sees its end
            return len(data)

    def _write_more(self) -> None:
        del self._unsent[: self._write(self._unsent)]
        if not self._unsent:
            self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        try:
            messages = list(self._unpacker.feed(data))
        except ValueError:
            messages, data = [], b""
        for message in messages:
            try:
                self._on_message(message)
            except Exception:  # a fault of ours: what was read with it has to be handled all the same
                log.exception("a message of the control channel failed: %s", type(message).__name__)
            if not self._open:
                return
        if not data:
            self.close()
            self._on_lost()
