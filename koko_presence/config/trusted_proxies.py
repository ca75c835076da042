"""Client addresses: the key by which limits count them, trusted proxies, and their forwarding headers. Pure.

A forwarding header is read from the right, since a proxy appends the address of its peer. The client can forge all that
is to the left of the rightmost address that is not a trusted proxy.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

Address = IPv4Address | IPv6Address
Header = Literal["x-forwarded-for", "forwarded"]

UNIX = "unix"  # in server.trusted_proxies: peers on Unix sockets
COUNTED_PREFIX = 64  # of IPv6: a customer gets at least a /64, so that counts as one address [Q5]

_WITH_PORT = re.compile(r"\[([^\[\]]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}")


class Proxies:
    """The proxies whose forwarding header is used, `server.trusted_proxies` [Q5]."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """`trusted`: addresses, networks, and `unix`. Errors: ValueError for any other text."""
        texts = list(trusted)
        self._unix = UNIX in texts
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in texts if text != UNIX]

    def trust(self, peer: Address | None) -> bool:
        """Whether `peer` is a trusted proxy. None stands for a peer on a Unix socket."""
        if peer is None:
            return self._unix
        return any(peer in network for network in self._networks)

    def client(self, values: Sequence[str], header: Header) -> Address | None:
        """The rightmost address in the values of `header` that is not a trusted proxy. `values` are in the order of the
        request. None when there is none, or when a text that is not an address is there."""
        for text in _hops(values, header):
            if text == "unix:" and self._unix:
                continue
            address = read_address(text)
            if address is None or not self.trust(address):
                return address
        return None


def read_address(text: str) -> Address | None:
    """The address in `text`, with or without brackets and port; None for any other text. An IPv4-mapped IPv6 address is
    returned as IPv4."""
    found = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((found[1] or found[2]) if found else text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def counted_as(address: Address) -> str:
    """The key by which limits count `address`: an IPv4 address, or the /64 of an IPv6 address."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address) >> COUNTED_PREFIX << COUNTED_PREFIX, COUNTED_PREFIX)))


def _hops(values: Sequence[str], header: Header) -> Iterator[str]:
    """The peer address that each hop reports, the nearest hop first."""
    for value in reversed(values):
        if header == "x-forwarded-for":
            for text in reversed(value.split(",")):
                yield text.strip()
        else:
            for element in _split_from_right(value, ","):
                yield _for(element)


def _for(element: str) -> str:
    """The node in `for=` of a forwarded-element; empty when there is not exactly one [RFC 7239 section 4]."""
    pairs = [pair.strip().partition("=") for pair in _split_from_right(element, ";")]
    nodes = [node for name, _, node in pairs if name.lower() == "for"]
    return nodes[0].removeprefix('"').removesuffix('"') if len(nodes) == 1 else ""


def _split_from_right(text: str, separator: str) -> Iterator[str]:
    """The parts between separators outside quotes, the last one first. A quote that the client leaves open is to the
    left of the part that the proxy adds, so it does not affect that part."""
    end, quoted = len(text), False
    for at in range(len(text) - 1, -1, -1):
        if text[at] == '"':
            quoted = not quoted
        elif text[at] == separator and not quoted:
            yield text[at + 1 : end]
            end = at
    yield text[:end]
