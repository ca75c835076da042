"""Which pages may connect, and from which of them a cookie counts [A8]. Pure: headers in, a word out."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from koko_presence.config.host_names import is_loopback, is_own

_DEFAULT_PORTS = {"http": 80, "https": 443}

Values = Callable[[str], Sequence[str]]  # the values of a request's header, by its name in lower case


class Origins(NamedTuple):
    """`listed` are the origins of server.origins. `tls`: the connections are encrypted here. `local_only`: this host is
    known by loopback names and addresses alone, as with --dev (DNS rebinding)."""

    listed: Collection[str] = ()
    tls: bool = False
    local_only: bool = False

    def allow(self, values: Values) -> bool:
        """An exact match of scheme, host and port, or the page of this very host [RFC 6454]. No Origin means that it
        is not a browser."""
        origins = values("origin")
        if not origins:
            return True
        if len(origins) > 1:
            return False
        origin = origins[0].lower()
        return origin in self.listed or self._is_own(origin, values)

    def allow_cookie(self, values: Values) -> bool:
        """Whether the Origin that is there may bring a cookie along: it is allowed, and the page came over TLS or from
        this very machine. Anybody on the way can change a page that came by http."""
        origins = values("origin")
        if not origins or not self.allow(values):
            return False
        page = urlsplit(origins[0].lower())
        return page.scheme != "http" or is_loopback(page.hostname or "")

    def _is_own(self, origin: str, values: Values) -> bool:
        """https://HOST is this host wherever TLS ends; http://HOST only if neither this connection nor the one to a
        proxy before it is encrypted. Whoever forges that a proxy says https only gets less."""
        hosts = values("host")
        if len(hosts) != 1 or (self.local_only and not is_own(hosts)):
            return False
        if origin.startswith("http://") and (self.tls or _came_by_https(values)):
            return False
        return _same_host(origin, hosts[0].lower())


NONE_LISTED = Origins()


def _came_by_https(values: Values) -> bool:
    """Does a proxy say that the client came over TLS [RFC 7239 section 5.4]?"""
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
    except ValueError:  # a port or an address that is none
        return False
