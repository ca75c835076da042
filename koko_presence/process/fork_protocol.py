"""What the supervisor and its fork server say to each other, in packets over a Unix socket [unix(7), SOCK_SEQPACKET].

A request carries the worker's descriptors [SCM_RIGHTS], so the fork server holds none of the service's sockets between
two requests. Each packet is one message as msgpack.
"""

import socket
from collections.abc import Sequence

import msgspec
from msgspec import Struct

PACKET_BYTES = 4096
FDS_A_PACKET = 200  # the kernel allows 253 [SCM_MAX_FD]


class Fork(Struct, tag=True, frozen=True):
    """Start worker `id` for `slot`. With it come the worker's end of the control channel, its listening sockets, the
    same number for each of `slots`, and when `shares_counts` the memory in which all workers count by address. What
    does not fit into a packet comes in More; `fds` is how many there are."""

    id: int
    slot: int
    slots: int
    shares_counts: bool
    fds: int


class More(Struct, tag=True, frozen=True):
    """Further descriptors of the last Fork."""


class Loaded(Struct, tag=True, frozen=True):
    """The fork server has loaded the program and takes requests."""


class Forked(Struct, tag=True, frozen=True):
    """Worker `id` is process `pid`, a child of the supervisor."""

    id: int
    pid: int


class NotForked(Struct, tag=True, frozen=True):
    """Worker `id` could not be started; `reason` is for people."""

    id: int
    reason: str


ToForkServer = Fork | More
FromForkServer = Loaded | Forked | NotForked

_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(ToForkServer).decode
decode_answer = msgspec.msgpack.Decoder(FromForkServer).decode


def send_request(sock: socket.socket, request: Fork, fds: Sequence[int]) -> None:
    """Errors: OSError; then the other end may have got a part, and is of no more use."""
    socket.send_fds(sock, [_encode(request)], list(fds[:FDS_A_PACKET]))
    for i in range(FDS_A_PACKET, len(fds), FDS_A_PACKET):
        socket.send_fds(sock, [_encode(More())], list(fds[i : i + FDS_A_PACKET]))


def receive_request(sock: socket.socket) -> tuple[Fork, list[int]] | None:
    """The next request and its descriptors, which are the caller's to close; fewer than `fds` when this process may
    open no more. None at the end. Waits."""
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
    """Errors: OSError."""
    sock.send(_encode(answer))
