"""Reads the PROXY protocol header, version 2, in which a proxy passes the client's address before the client's bytes.

[The PROXY protocol, W. Tarreau, 2020/03/05, section 2.2.] Where it is switched on the header is required, and only
trusted proxies may connect: otherwise a client could send such a header itself. `ProxyHeaders` writes the set of
connections that wait for their header; the header is consumed before TLS or HTTP is read.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from koko_presence.config.trusted_proxies import Address

from .address_limits import AddressUse
from .tls_first_record import FirstRecord

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD_BYTES = 16  # signature, version and command, family and protocol, length of the rest
LONGEST_HEADER_BYTES = 1024  # addresses, and the extensions that a proxy may append
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21


class ProxyHeaders(FirstRecord):
    """Connections of proxies that wait for their PROXY header. The header is consumed from the socket, then
    `begin(sock, address)` is called with the client's address: None for a connection of the proxy itself, and for a
    client that is not connected by TCP."""

    longest_bytes = LONGEST_HEADER_BYTES

    def __init__(self, begin: Callable[[socket.socket, Address | None], None]) -> None:
        super().__init__()
        self._begin = begin

    def size_of(self, data: bytes) -> int | None:
        """The size of a header of version 2."""
        if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
            return None
        if len(data) < HEAD_BYTES:
            return HEAD_BYTES
        return HEAD_BYTES + int.from_bytes(data[14:16], "big") if data[12] in (LOCAL, PROXY) else None

    def on_whole(self, sock: socket.socket, use: AddressUse, record: bytes) -> None:
        """Consume the header and pass on the connection with the client's address."""
        sock.recv(len(record))
        self._begin(sock, source_of(record))


def source_of(header: bytes) -> Address | None:
    """The client's address in a complete header; None when it has none."""
    command, family, body = header[12], header[13], header[HEAD_BYTES:]
    if command == PROXY and family == TCP4 and len(body) >= 12:
        return IPv4Address(body[:4])
    if command == PROXY and family == TCP6 and len(body) >= 36:
        address = IPv6Address(body[:16])
        return address.ipv4_mapped or address
    return None
