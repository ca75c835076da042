"""Host names in requests: parsing the Host header, and the check against DNS rebinding.

A page of a foreign name whose DNS record changes to an address of this server (DNS rebinding) is same-origin with this
server for the browser, but the Host header still has the foreign name. Addresses need no DNS, so they are safe.
"""

import ipaddress
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

# The Origin of pages without a host: files, sandboxed frames, pages made of data. Any site can make such a frame.
WITHOUT_HOST = frozenset(("null", "file://"))


def host_of(authority: str) -> str:
    """The host of `HOST[:PORT]` in lower case, without brackets and final dot; empty for any other text."""
    if "@" in authority or "/" in authority:
        return ""
    try:
        found = urlsplit(f"//{authority}")
        _ = found.port
    except ValueError:
        return ""
    return (found.hostname or "").removesuffix(".")


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address or a name that always resolves to one [RFC 6761 section 6.3]."""
    try:
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, which needs no DNS."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_own(hosts: Sequence[str], names: Collection[str] = ()) -> bool:
    """Whether a request with these Host headers is accepted: one header with a loopback name, an address, or one of
    `names` (in lower case). A request without the header is accepted, too: it is HTTP/1.0, which no browser uses."""
    if not hosts:
        return True
    host = host_of(hosts[0].lower())
    return len(hosts) == 1 and (is_loopback(host) or is_address(host) or host in names)
