"""The messages between the supervisor and its workers, and their transport over one socket pair per worker.

Each message is msgpack behind a 4-byte big-endian length. Messages arrive in the order in which they were sent. The
event loop of the worker reads and writes the worker's end, so that a `Beat` proves that the loop runs; a side thread
could not prove that.
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
READ_BYTES = 32 << 10  # per loop iteration


class Message(Struct, kw_only=True, tag=True):
    pass


# --- from the supervisor ------------------------------------------------------------------------------------------


class Begin(Message):
    """The first message to a worker: its identity and configuration.

    `config` is a `Config` as msgpack. `certificate` and `certificate_key` are PEM texts, empty without TLS. `shares` is
    true if the supervisor accepts `Share`, which a supervisor of an earlier version does not."""

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
    """Accept connections from the listening sockets of exactly these slots."""

    slots: list[int]


class OpenMesh(Message):
    """The mesh socket file was removed from the runtime folder: bind it again."""


class Reload(Message):
    """A new configuration, as msgpack, which the supervisor has validated."""

    config: bytes


class Drain(Message):
    """Stop accepting, close the client connections over at most `longest_s` seconds, answer `Drained`, and wait for
    `Stop`. With `hand_over` other workers stay, and the undelivered webhook events go to the supervisor as
    `UndeliveredEvents`."""

    longest_s: float
    hand_over: bool = False


class Stop(Message):
    """Exit now."""


class SnapshotRequest(Message):
    """Request for a `Snapshot` with the same number."""

    number: int


class Query(Message):
    """A survey request of the operator port (protocol/survey.py), encoded; the worker answers with `Answer` of the same
    number."""

    number: int
    request: bytes


class SwitchPresence(Message):
    """The back end has switched the presence of these users on or off [Q11]. Those whose presence is off follow `Begin`
    and precede the first view."""

    user_ids: list[str]
    on: bool


# --- both directions ----------------------------------------------------------------------------------------------


class Share(Message):
    """Cache entries from identity providers and access checks. From a worker: entries that it has fetched. To a worker:
    entries that another worker has fetched; those that the supervisor holds already follow `Begin` and precede the
    first view."""

    entries: list[CacheEntry]


# --- from a worker ------------------------------------------------------------------------------------------------


class Ready(Message):
    """The mesh socket listens; the worker may be added to a view."""


class Serving(Message):
    """The worker has completed the change to view `epoch`, is connected to its peers and can accept connections."""

    epoch: int


class Beat(Message):
    """Heartbeat of the worker's event loop; `at` is its monotonic time in seconds."""

    at: float


class PeerStuck(Message):
    """The worker receives nothing from worker `peer`; repeated while that lasts. With `lossy`, `peer` has left so much
    unread that peer messages to it were dropped."""

    peer: int
    lossy: bool = False


class Drained(Message):
    """All client connections of the worker are closed."""


FINAL_SNAPSHOT = 0  # the number of a `Snapshot` that was not requested


class Snapshot(Message):
    """The worker's counters, as `admin/metrics_snapshot.py` encodes them: the answer to `SnapshotRequest`, or the final
    counters of a worker that has drained."""

    number: int
    counters: bytes


class Answer(Message):
    """The worker's answer to an `Query`; empty after an error, which the worker logs."""

    number: int
    answer: bytes


class Failed(Message):
    """The worker cannot run; `reason` is one line for the operator. With `final` no restart can help."""

    reason: str
    final: bool = False


# --- both directions ----------------------------------------------------------------------------------------------


class UndeliveredEvents(Message):
    """Undelivered webhook events, which a draining worker leaves to its successor: a list of webhook events as
    msgpack."""

    events: bytes


ToWorker = (
    Begin
    | Workers
    | SwitchPresence
    | Accept
    | OpenMesh
    | UndeliveredEvents
    | Reload
    | Drain
    | Stop
    | SnapshotRequest
    | Query
    | Share
)
ToSupervisor = Ready | Serving | Beat | PeerStuck | Drained | UndeliveredEvents | Snapshot | Answer | Failed | Share

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ToWorker | ToSupervisor)


def pack(message: Message) -> bytes:
    """Encode one message with its length prefix."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


class Unpacker:
    """Decodes a byte stream into messages. Errors: ValueError for a message that is too large or cannot be decoded."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Append received bytes; yields every message that is complete with them."""
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
    """One end of the socket pair on an event loop. `on_lost` is called once, when the other end is closed or has sent
    data that cannot be decoded; it is not called after `close`."""

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
        """Write a message before returning, unless earlier data are still unsent: the notice of a death must not wait
        for a loop iteration. A message to a closed end is lost; `on_lost` reports the closed end."""
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
        """Close the socket. Neither callback is called afterwards."""
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
        except OSError:  # the other end is closed; the reader detects it
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
            except Exception:  # a fault in a handler must not lose the other messages of this read
                log.exception("a message of the control channel failed: %s", type(message).__name__)
            if not self._open:
                return
        if not data:
            self.close()
            self._on_lost()
