"""Finds and verifies the application's session cookie in a request's Cookie headers.

A browser sends the cookie with requests of any page, so the caller must check the request's Origin before [A8]. The
module holds no state.
"""

from collections.abc import Awaitable, Iterable
from typing import NamedTuple

from msgspec import structs

from .identity import FORM, Identity, MayQuery, TokenRefused, TokenVerifier, unlimited
from .introspection import COOKIE_PREFIXES

OTHER_PAGE = "a cookie counts only from a page on the list server.origins: send a token"


class SessionCookie(NamedTuple):
    """A cookie with the name under which it was received."""

    name: str
    value: str

    def __repr__(self) -> str:
        return f"SessionCookie({self.name!r})"


def find_cookie(headers: Iterable[str], name: str) -> SessionCookie:
    """Return the cookie `name` from Cookie headers, with or without one of `COOKIE_PREFIXES`.

    A `__Host-` cookie takes precedence, because only this host can have set it. Sibling domains may have set the
    others, so these must have one value. Errors: `TokenRefused` when there is none, and when values differ.
    """
    found: dict[str, set[str]] = {}
    for header in headers:
        for pair in header.split(";"):
            key, _, value = pair.strip(" \t").partition("=")
            found.setdefault(key, set()).add(value)
    present = [prefix + name for prefix in COOKIE_PREFIXES if prefix + name in found]
    if not present:
        raise TokenRefused(f"there is no cookie {name}: sign in first, or send a token", FORM)
    equals = present[:1] if present[0].startswith("__Host-") else present
    values = set().union(*(found[each] for each in equals))
    if len(values) > 1:
        several = " and ".join(equals)
        raise TokenRefused(f"there are several cookies {several} that differ: delete them and sign in again", FORM)
    return SessionCookie(present[0], values.pop())


def verify_cookie(
    verifier: TokenVerifier, cookie: SessionCookie, now_s: float, may_query: MayQuery = unlimited
) -> Identity | Awaitable[Identity]:
    """Return the identity of a cookie's value. Errors: those of `TokenVerifier.verify`."""
    answer = verifier.verify(cookie.value, now_s, may_query)
    return _as_cookie(answer, cookie) if isinstance(answer, Identity) else _later(answer, cookie)


async def _later(answer: Awaitable[Identity], cookie: SessionCookie) -> Identity:
    return _as_cookie(await answer, cookie)


def _as_cookie(identity: Identity, cookie: SessionCookie) -> Identity:
    """Return the identity with the cookie as its forwarded header, under the name under which it was received."""
    if not identity.forward:
        return identity
    return structs.replace(identity, forward=(("cookie", f"{cookie.name}={cookie.value}"),))
