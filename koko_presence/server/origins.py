"""Decides which browser origins may connect, and from which of them a cookie counts [A8]. Pure: headers in, a verdict
out."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from koko_presence.config.host_names import is_loopback, is_own

ORIGIN_REFUSED = "This page's origin is not on the server's list (server.origins)."

_DEFAULT_PORTS = {"http": 80, "https": 443}

Values = Callable[[str], Sequence[str]]  # the values of a request's header, by its name in lower case


class Origins(NamedTuple):
    """`listed` are the origins of server.origins. `tls`: this server terminates TLS. `local_only`: this host accepts
    loopback names and addresses only, as with --dev (DNS rebinding)."""

    listed: Collection[str] = ()
    tls: bool = False
    local_only: bool = False

    def allow(self, values: Values) -> bool:
        """True for an exact match of scheme, host and port with a listed origin, for a page of this host, and without
        an Origin header, which browsers send with every upgrade and every POST [RFC 6454]."""
        origins = values("origin")
        if not origins:
            return True
        if len(origins) > 1:
            return False
        origin = origins[0].lower()
        return origin in self.listed or self._is_own(origin, values)

    def allow_cookie(self, values: Values) -> bool:
        """True when the request has an Origin that is allowed and whose page was loaded over TLS or from this machine:
        a page loaded over http can be changed in transit."""
        origins = values("origin")
        if not origins or not self.allow(values):
            return False
        page = urlsplit(origins[0].lower())
        return page.scheme != "http" or is_loopback(page.hostname or "")

    def _is_own(self, origin: str, values: Values) -> bool:
        """https://HOST is this host wherever TLS is terminated; http://HOST only if neither this connection nor the one
        to a proxy is encrypted. A forged forwarded scheme of https only restricts the request."""
        hosts = values("host")
        if len(hosts) != 1 or (self.local_only and not is_own(hosts)):
            return False
        if origin.startswith("http://") and (self.tls or _came_by_https(values)):
            return False
        return _same_host(origin, hosts[0].lower())


NONE_LISTED = Origins()


def _came_by_https(values: Values) -> bool:
    """True when a proxy's headers state that the client connected over TLS [RFC 7239 section 5.4]."""
    schemes = [part.strip().lower() for value in values("x-forwarded-proto") for part in value.split(",")]
    pairs = [pair.strip().lower() for value in values("forwarded") for pair in value.replace(",", ";").split(";")]
    return "https" in schemes or any(pair.replace('"', "") == "proto=https" for pair in pairs)


def _same_host(origin: str, host: str) -> bool:
    try:
        page = urlsplit(origin)
        own = urlsplit(f"{page.scheme}://{host}")
        if page.scheme not in _DEFAULT_PORTS or origin != f"{page.scheme}://{page.netloc}" or "@" in page.netloc:
            return False
        default = _DEFAULT_PORTS[page.scheme]
        return bool(page.hostname) and (page.hostname, page.port or default) == (own.hostname, own.port or default)
    except ValueError:  # an invalid port or address
        return False
