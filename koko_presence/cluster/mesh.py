"""Connects the workers: one Unix stream per direction between any two, in order, and without loss while both live.
`OutLink` writes the state of a stream at its writer, `InLink` at its reader.

The writer connects. It keeps what it has written until the reader has counted it, so that after a lost connection the
stream continues where the reader stopped. When `QUEUE_BYTES` wait for a worker that does not read, the mesh reports it
once and drops all later messages to it: that worker is about to be replaced, and its backup owners receive the whole
state.

On the wire, the writer sends `HANDSHAKE` and its id. The reader answers with the number of bytes that it has received
so far, as 8 bytes, and again as they arrive, and once a second as a heartbeat. The writer then sends peer messages
(_fastpath/wire.pyx). While a worker sends no heartbeat for `SILENT_S`, the mesh reports that, too; whether that worker
hangs, is unreachable or gets no CPU time is decided by the supervisor. The end of a worker's process is reported at
once."""

import asyncio
import errno
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from koko_presence._fastpath.wire import FrameDecoder, PeerMessageTooLong

from .placement import Peer
from .process_watch import ProcessWatch
from .wire_messages import MAX_PEER_MESSAGE_BYTES

log = logging.getLogger("koko_presence.mesh")

HANDSHAKE = b"koko mesh 4\n"
QUEUE_BYTES = 64 << 20
RETRY_S = 0.02
COUNT_S = 1.0
COUNT_BYTES = 256 * 1024
SILENT_S = 3.0
WATCH_S = 0.25
REPORT_EVERY_S = 1.0
OVERDUE_S = 2.0  # a longer silence of a worker counts as a delay of the service
STALL_S = 1.0  # after a longer pause of this worker itself, heartbeats of the others are still unread
WARN_OF_LOSS_AFTER_S = 0.5  # a worker that has ended is removed from the view sooner
SOCKET_BUFFER_BYTES = 1 << 20
SLICE_BYTES = 32 * 1024  # of one worker's messages at once; the rest waits until the other workers were served
ITERATION_S = 0.002  # for the waiting messages of all workers, in one loop iteration

# errors of this process, not of a peer
_LOCAL_FAULTS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

OnPeerMessages = Callable[[int, list[tuple[int, bytes]]], None]
OnStuck = Callable[[int, bool], None]
OnOverdue = Callable[[float, float], None]
OnDead = Callable[[int], None]


class OutLink(asyncio.Protocol):
    """The stream to one worker. Calls `on_stuck(peer, lossy)` when that worker does not read or sends no heartbeat, and
    `on_dead(peer)` when its process ends."""

    def __init__(self, me: int, peer: Peer, on_stuck: OnStuck, on_dead: OnDead) -> None:
        self._me, self._peer, self._on_stuck, self._on_dead = me, peer, on_stuck, on_dead
        self._process: ProcessWatch | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None  # set when the reader has sent its position
        self._handshaking: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._counts = b""
        self._unacknowledged: deque[bytes] = deque()  # written, but not counted by the reader
        self._unacknowledged_bytes = 0
        self._counted = 0
        self._stuck = self._closed = False
        self._loss_warning: asyncio.TimerHandle | None = None
        self.last_received_at = self._loop.time()
        self._reported_at = float("-inf")  # when on_stuck was last called for a missing heartbeat
        self._connect()

    def write(self, data: bytes) -> None:
        """Send `data`, now or after the next connect."""
        if self._closed or self._stuck:
            return
        self._unacknowledged.append(data)
        self._unacknowledged_bytes += len(data)
        if self._unacknowledged_bytes > QUEUE_BYTES:
            self._stuck = True
            self._unacknowledged.clear()
            log.error("peer send queue overflow", extra={"peer": self._peer.slot})
            self._on_stuck(self._peer.id, True)
        elif self._transport is not None:
            self._transport.write(data)

    def report_silence(self, now: float) -> None:
        """Report that the worker sends no heartbeat, at most once a second."""
        if self._stuck or now - self._reported_at < REPORT_EVERY_S:
            return
        if self._reported_at < self.last_received_at:
            log.warning("no heartbeat from peer", extra={"peer": self._peer.slot})
        self._reported_at = now
        self._on_stuck(self._peer.id, False)

    def close(self) -> None:
        """Drop all that waits, and close the stream."""
        self._closed = True
        self._unacknowledged.clear()
        self._cancel_loss_warning()
        if self._process is not None:
            self._process.close()
        if self._task is not None:
            self._task.cancel()
        for transport in (self._transport, self._handshaking):
            if transport is not None:
                transport.abort()

    def _connect(self) -> None:
        if not self._closed:
            self._task = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            await self._loop.create_unix_connection(lambda: self, self._peer.address)
        except OSError as error:
            if error.errno in _LOCAL_FAULTS:
                self.last_received_at = self._loop.time()  # this process cannot connect; the peer may be alive
            self._loop.call_later(RETRY_S, self._connect)

    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        if self._process is None and not self._closed:
            try:
                self._process = ProcessWatch(sock, lambda: self._on_dead(self._peer.id))
            except ProcessLookupError:  # it has ended since it accepted
                self._on_dead(self._peer.id)
            except OSError:
                pass  # only the supervisor detects its death
        self._handshaking, self._counts = transport, b""
        transport.write(HANDSHAKE + struct.pack("<q", self._me))

    def data_received(self, data: bytes) -> None:
        self.last_received_at = self._loop.time()
        self._counts += data
        whole = len(self._counts) // 8 * 8
        for (count,) in struct.iter_unpack("<q", self._counts[:whole]):
            self._on_count(count)
        self._counts = self._counts[whole:]

    def _on_count(self, count: int) -> None:
        while self._unacknowledged and self._counted + len(self._unacknowledged[0]) <= count:
            size = len(self._unacknowledged.popleft())
            self._counted += size
            self._unacknowledged_bytes -= size
        if self._transport is None and self._handshaking is not None:  # the first count: continue from there
            self._continue_from(self._handshaking, count - self._counted)

    def _continue_from(self, transport: asyncio.Transport, offset: int) -> None:
        if not 0 <= offset <= (len(self._unacknowledged[0]) if self._unacknowledged else 0):
            # This worker is not in the peer's view.
            log.error("peer stream position mismatch", extra={"peer": self._peer.slot})
            self.close()
            return
        self._transport, self._handshaking = transport, None
        self._cancel_loss_warning()
        for data in self._unacknowledged:
            transport.write(data[offset:] if offset else data)
            offset = 0

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = self._handshaking = None
        if not (self._closed or self._stuck):
            if self._loss_warning is None:
                self._loss_warning = self._loop.call_later(WARN_OF_LOSS_AFTER_S, self._warn_of_loss)
            self._loop.call_later(RETRY_S, self._connect)

    def _warn_of_loss(self) -> None:
        self._loss_warning = None
        log.warning("peer connection lost", extra={"peer": self._peer.slot})

    def _cancel_loss_warning(self) -> None:
        if self._loss_warning is not None:
            self._loss_warning.cancel()
            self._loss_warning = None


class _Incoming:
    """What has arrived from one worker, over all its connections; nothing is handled once it is `broken`."""

    __slots__ = ("broken", "count", "decoder", "reader")

    def __init__(self) -> None:
        self.broken = False
        self.count = 0
        self.decoder = FrameDecoder(MAX_PEER_MESSAGE_BYTES)
        self.reader: InLink | None = None


class InLink(asyncio.Protocol):
    """One connection on which another worker writes to this one."""

    def __init__(self, mesh: "Mesh") -> None:
        self._mesh = mesh
        self._head = b""
        self._incoming: _Incoming | None = None
        self._sender = 0
        self._acknowledged = 0
        self._rest = b""  # read, but neither handled nor counted; reading is paused until it is
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        sock = transport.get_extra_info("socket")
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            log.error("peer uid mismatch", extra={"uid": uid})
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._incoming is None:
            self._head += data
            size = len(HANDSHAKE) + 8
            if len(self._head) < size:
                return
            if not self._head.startswith(HANDSHAKE):
                log.error("invalid peer handshake")
                self._transport.abort()
                return
            self._sender = struct.unpack_from("<q", self._head, len(HANDSHAKE))[0]
            self._begin()
            data, self._head = self._head[size:], b""
        if self._rest:
            self._rest += data
        elif len(data) <= SLICE_BYTES:
            self._take(data)
        else:
            self._rest = data
            self._transport.pause_reading()
            self._mesh.schedule(self)

    def take_slice(self) -> bool:
        """Handle the next slice of what waits. Return False when that was all; reading is resumed then."""
        data, self._rest = self._rest[:SLICE_BYTES], self._rest[SLICE_BYTES:]
        self._take(data)
        if self._rest:
            return True
        if not self._transport.is_closing():
            self._transport.resume_reading()
        return False

    def _begin(self) -> None:
        self._incoming = self._mesh.incoming.setdefault(self._sender, _Incoming())
        if self._incoming.reader is not None:
            self._incoming.reader.abort()  # replaced: the worker has connected again
        self._incoming.reader = self
        self._count()

    def abort(self) -> None:
        """Stop reading. What waits was not counted, and is sent again on the next connection."""
        self._incoming = None
        self._head = self._rest = b""
        self._transport.abort()

    def _take(self, data: bytes) -> None:
        incoming = self._incoming
        if incoming is None or incoming.broken or not data:
            return  # not counted any more, so the writer detects that this worker does not read
        incoming.count += len(data)
        try:
            found = incoming.decoder.feed(data)
        except PeerMessageTooLong:
            log.exception("invalid frame from worker %d", self._sender)
            incoming.broken = True
            return
        if found:
            self._mesh.on_peer_messages(self._sender, found)
        if incoming.count - self._acknowledged > COUNT_BYTES:
            self._count()

    def _count(self) -> None:
        if self._incoming is None:
            return
        self._acknowledged = self._incoming.count
        self._transport.write(struct.pack("<q", self._acknowledged))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._mesh.loop.call_later(COUNT_S, self._count)

    def connection_lost(self, error: Exception | None) -> None:
        rest, self._rest = self._rest, b""
        self._take(rest)  # a worker that has ended sends its last messages only here
        if self._timer is not None:
            self._timer.cancel()
        if self._incoming is not None and self._incoming.reader is self:
            self._incoming.reader = None
        self._incoming = None


class Mesh:
    """This worker's end of all streams.

    - `on_peer_messages(sender, messages)` receives the messages of other workers.
    - `on_stuck(peer, lossy)` is called for a worker that does not read, so that messages were dropped (`lossy`), or
      that sends no heartbeat.
    - `on_overdue(since, now)` is called several times a second for a worker whose heartbeat was due at monotonic second
      `since`.
    - `on_dead(peer)` is called for a worker whose process has ended.
    """

    def __init__(
        self,
        me: int,
        address: str,
        on_peer_messages: OnPeerMessages,
        on_stuck: OnStuck,
        on_overdue: OnOverdue = lambda since, now: None,
        on_dead: OnDead = lambda peer: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.incoming: dict[int, _Incoming] = {}
        self.on_peer_messages = on_peer_messages
        self._me, self._address, self._on_stuck = me, address, on_stuck
        self._on_overdue, self._on_dead = on_overdue, on_dead
        self._server: asyncio.AbstractServer | None = None
        self._links: dict[int, OutLink] = {}
        self._known: set[int] = set()  # all workers that were ever in a view; their ids are not reused
        self._watched_at = self.loop.time()
        self._watch_timer: asyncio.TimerHandle | None = None
        self._waiting: deque[InLink] = deque()
        self._scheduled = False

    async def open(self) -> None:
        """Listen; again when the socket was removed from its folder, in which case existing connections stay. Errors:
        OSError."""
        before = self._server
        self._server = await self.loop.create_unix_server(lambda: InLink(self), self._address, backlog=1024)
        os.chmod(self._address, 0o600)
        if before is not None:
            before.close()
            return
        self._watched_at = self.loop.time()
        self._watch()

    def open_link(self, peer: Peer) -> OutLink:
        """Open the stream to another worker."""
        link = self._links[peer.id] = OutLink(self._me, peer, self._on_stuck, self._on_dead)
        return link

    def schedule(self, link: InLink) -> None:
        """Handle in slices what `link` has read, alternating with other connections."""
        self._waiting.append(link)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._serve)

    def _serve(self) -> None:
        until = self.loop.time() + ITERATION_S
        while self._waiting:
            link = self._waiting.popleft()
            try:
                more = link.take_slice()
            except Exception:
                log.exception("failed to handle data from a peer")
                link.abort()
                continue
            if more:
                self._waiting.append(link)
            if self.loop.time() >= until:
                break
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            self.loop.call_soon(self._serve)

    def forget(self, workers: "set[int] | frozenset[int]") -> None:
        """Keep the streams of `workers`. Abort the incoming streams of all other workers that were in a view before;
        the bus closes the outgoing ones. A worker that was in no view yet is kept: its view has not arrived here."""
        for worker in self._known - workers:
            incoming = self.incoming.pop(worker, None)
            if incoming is not None and incoming.reader is not None:
                incoming.reader.abort()
        self._known |= workers
        self._links = {worker: link for worker, link in self._links.items() if worker in workers}

    def _watch(self) -> None:
        """Report workers without a heartbeat. After a pause of this worker itself, all heartbeats count from now: those
        sent meanwhile are still unread."""
        now = self.loop.time()
        stalled, self._watched_at = now - self._watched_at > STALL_S, now
        for link in list(self._links.values()):
            if stalled:
                link.last_received_at = now
                continue
            if now - link.last_received_at > OVERDUE_S:
                self._on_overdue(link.last_received_at + COUNT_S, now)
            if now - link.last_received_at > SILENT_S:
                link.report_silence(now)
        self._watch_timer = self.loop.call_later(WATCH_S, self._watch)

    def close(self) -> None:
        """Close all streams and stop listening."""
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            link.close()
        for incoming in self.incoming.values():
            if incoming.reader is not None:
                incoming.reader.abort()
