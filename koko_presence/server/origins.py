"""Decides which browser origins may connect, and from which of them a cookie counts [A8]. Pure: headers in, a verdict
out."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from koko_presence.config.host_names import WITHOUT_HOST, is_loopback, is_own

ORIGIN_REFUSED = "This page's origin is not on the server's list (server.origins)"

_DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_GIVEN_CHARACTERS = 200
_WRITABLE = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]{0,200}")  # as server.origins may have it

Values = Callable[[str], Sequence[str]]  # the values of a request's header, by its name in lower case


class Origins(NamedTuple):
    """`listed` are the origins of server.origins. `tls`: this server terminates TLS. `local_only`: this host accepts
    loopback names and addresses only, and pages of every loopback origin may connect, as with --dev (DNS
    rebinding)."""

    listed: Collection[str] = ()
    tls: bool = False
    local_only: bool = False

    def allow(self, values: Values) -> bool:
        """True for an exact match of scheme, host and port with a listed origin, for a page of this host, with --dev
        for a page of this machine at any port, and without an Origin header, which browsers send with every upgrade and
        every POST [RFC 6454]."""
        origins = values("origin")
        if not origins:
            return True
        if len(origins) > 1 or not origins[0].isascii():  # a browser writes other letters as punycode
            return False
        origin = origins[0].lower()
        return origin in self.listed or self._is_own(origin, values) or (self.local_only and _is_local(origin, values))

    def allow_cookie(self, values: Values) -> bool:
        """True when the request has an Origin that is allowed and whose page was loaded over TLS or from this machine:
        a page loaded over http can be changed in transit, and any site can make a page without a host."""
        origins = values("origin")
        if not origins or origins[0].lower() in WITHOUT_HOST or not self.allow(values):
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


def refusal(values: Values) -> str:
    """Return why a page's origin is refused, and what the operator has to write so that it is not."""
    origins = values("origin")
    if len(origins) != 1:
        return f"{ORIGIN_REFUSED}: the request has {len(origins)} of them."
    origin = origins[0].lower()
    if origin in WITHOUT_HOST:
        return (
            f"{ORIGIN_REFUSED}: it has no host ({origin}), as a file or a sandboxed frame. Serve the page from an "
            f'address, or add "{origin}" to the list.'
        )
    if _WRITABLE.fullmatch(origin):
        return f'{ORIGIN_REFUSED}: add "{origin}" to it.'
    return f"{ORIGIN_REFUSED}."


def is_origin(text: str) -> bool:
    """True for the text of an origin as browsers send it, in lower case and of at most MAX_GIVEN_CHARACTERS."""
    return text in WITHOUT_HOST or (len(text) <= MAX_GIVEN_CHARACTERS and _WRITABLE.fullmatch(text) is not None)


def of_page(origin: str, values: Values) -> Values:
    """The headers `values` of a request as they would be in an upgrade by a page of `origin`: browsers send no Origin
    with a GET of the page's own host. A header Origin remains, so that a page learns nothing about another one's
    origin. An empty `origin` adds none."""
    return lambda name: values(name) or ([origin] if origin and name == "origin" else [])


def _is_local(origin: str, values: Values) -> bool:
    """True for the page of a server on this machine, at any port, in a request to this server by a name that no DNS
    record can give to it."""
    if not is_own(values("host")):
        return False
    try:
        page = urlsplit(origin)
        _ = page.port
    except ValueError:
        return False
    whole = page.scheme in _DEFAULT_PORTS and origin == f"{page.scheme}://{page.netloc}" and "@" not in page.netloc
    return whole and is_loopback(page.hostname or "")


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
