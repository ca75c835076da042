"""Names of hosts as requests carry them: the Host header, and which of its values may be ours.

A page of a foreign name whose DNS answer changes to one of our addresses (DNS rebinding) is same-origin with us as far
as its browser is concerned; the Host header still carries the foreign name. Addresses need no DNS, so they are safe.
"""

import ipaddress
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit


def host_of(authority: str) -> str:
    """The host of `HOST[:PORT]` in lower case, without brackets and final dot; empty for what is no authority."""
    if "@" in authority or "/" in authority:
        return ""
    try:
        found = urlsplit(f"//{authority}")
        _ = found.port
    except ValueError:
        return ""
    return (found.hostname or "").removesuffix(".")


def is_loopback(host: str) -> bool:
    """Whether `host` is this very machine: a loopback address, or a name that is always one [RFC 6761 section 6.3]."""
    try:
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, which no name server was asked for."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_own(hosts: Sequence[str], names: Collection[str] = ()) -> bool:
    """Whether a request with these Host headers may be meant for us: loopback names, addresses, and `names` (in lower
    case). No header at all comes from HTTP/1.0, which no browser speaks."""
    if not hosts:
        return True
    host = host_of(hosts[0].lower())
    return len(hosts) == 1 and (is_loopback(host) or is_address(host) or host in names)
