"""The messages between the supervisor and its fork server, as packets over a Unix socket [unix(7), SOCK_SEQPACKET].

Each packet is one message as msgpack. A request carries the worker's descriptors [SCM_RIGHTS], so the fork server holds
no socket of the service between two requests. Requests are answered in order.
"""

import socket
from collections.abc import Sequence

import msgspec
from msgspec import Struct

PACKET_BYTES = 4096
FDS_A_PACKET = 200  # the kernel allows 253 [SCM_MAX_FD]


class Fork(Struct, tag=True, frozen=True):
    """Start worker `id` for `slot`.

    Its descriptors are the worker's end of the control channel, the listening sockets (the same number for each of
    `slots` slots), and, with `shares_counts`, the shared memory of the counts by address. `fds` is their number; those
    beyond the first packet follow in `More`."""

    id: int
    slot: int
    slots: int
    shares_counts: bool
    fds: int


class More(Struct, tag=True, frozen=True):
    """Further descriptors of the preceding `Fork`."""


class Loaded(Struct, tag=True, frozen=True):
    """The fork server has loaded the program and accepts requests."""


class Forked(Struct, tag=True, frozen=True):
    """Worker `id` runs as process `pid`, a child of the supervisor."""

    id: int
    pid: int


class NotForked(Struct, tag=True, frozen=True):
    """Worker `id` could not be started; `reason` is for the operator."""

    id: int
    reason: str


ToForkServer = Fork | More
FromForkServer = Loaded | Forked | NotForked

_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(ToForkServer).decode
decode_answer = msgspec.msgpack.Decoder(FromForkServer).decode


def send_request(sock: socket.socket, request: Fork, fds: Sequence[int]) -> None:
    """Send a request and its descriptors. Errors: OSError, after which the receiver may have a part of it and the
    socket must not be used again."""
    socket.send_fds(sock, [_encode(request)], list(fds[:FDS_A_PACKET]))
    for i in range(FDS_A_PACKET, len(fds), FDS_A_PACKET):
        socket.send_fds(sock, [_encode(More())], list(fds[i : i + FDS_A_PACKET]))


def receive_request(sock: socket.socket) -> tuple[Fork, list[int]] | None:
    """Wait for the next request and its descriptors, which the caller closes. There are fewer than `fds` if this
    process may open no more. Returns None at the end of the stream."""
    request, found = None, list[int]()
    while True:
        data, fds, _, _ = socket.recv_fds(sock, PACKET_BYTES, FDS_A_PACKET)
        found += fds
        if not data:
            return None
        message = _decode_request(data)
        if isinstance(message, Fork):
            request, packets = message, 1 + max(0, message.fds - 1) // FDS_A_PACKET
        packets -= 1
        if packets == 0 and request is not None:
            return request, found


def send_answer(sock: socket.socket, answer: FromForkServer) -> None:
    """Send one answer. Errors: OSError."""
    sock.send(_encode(answer))
