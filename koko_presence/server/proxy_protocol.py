"""The PROXY protocol, version 2: a proxy that passes bytes on says before them whose they are.

[The PROXY protocol, W. Tarreau, 2020/03/05, section 2.2.] It is required where it is switched on, since a client could
send such a header itself if it were not; and only trusted proxies may connect at all.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from koko_presence.config.trusted_proxies import Address

from .address_limits import AddressUse
from .tls_first_record import FirstRecord

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD_BYTES = 16  # signature, version and command, family and protocol, length of what follows
LONGEST_HEADER_BYTES = 1024  # addresses, and what a proxy may add behind them
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21


class ProxyHeaders(FirstRecord):
    """Connections of proxies that wait for their PROXY header. It is taken from the socket, and `begin(sock, address)`
    called with whose the connection is; None for the proxy's own, and for who did not come by TCP."""

    longest_bytes = LONGEST_HEADER_BYTES

    def __init__(self, begin: Callable[[socket.socket, Address | None], None]) -> None:
        super().__init__()
        self._begin = begin

    def size_of(self, data: bytes) -> int | None:
        """Of a header of version 2."""
        if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
            return None
        if len(data) < HEAD_BYTES:
            return HEAD_BYTES
        return HEAD_BYTES + int.from_bytes(data[14:16], "big") if data[12] in (LOCAL, PROXY) else None

    def on_whole(self, sock: socket.socket, use: AddressUse, record: bytes) -> None:
        """It says whose the connection is."""
        sock.recv(len(record))
        self._begin(sock, source_of(record))


def source_of(header: bytes) -> Address | None:
    """The client's address in a whole header; None when it has none."""
    command, family, body = header[12], header[13], header[HEAD_BYTES:]
    if command == PROXY and family == TCP4 and len(body) >= 12:
        return IPv4Address(body[:4])
    if command == PROXY and family == TCP6 and len(body) >= 36:
        address = IPv6Address(body[:16])
        return address.ipv4_mapped or address
    return None
