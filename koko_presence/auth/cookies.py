"""The cookie by which the application knows who has signed in, as a browser sends it along by itself.

It counts only where it is certain which page sent it: whoever calls this has looked at the Origin [A8].
"""

from collections.abc import Awaitable, Iterable
from typing import NamedTuple

from msgspec import structs

from .identity import FORM, Identity, TokenRefused, TokenVerifier
from .introspect import COOKIE_PREFIXES

OTHER_PAGE = "a cookie counts only from a page on the list server.origins: send a token"


class SessionCookie(NamedTuple):
    """A cookie under the name with which it came."""

    name: str
    value: str

    def __repr__(self) -> str:
        return f"SessionCookie({self.name!r})"


def find_cookie(headers: Iterable[str], name: str) -> SessionCookie:
    """The cookie `name`, or the same with the prefix __Secure- or __Host- which go before it, in Cookie headers.

    Errors: TokenRefused when there is none, and when there are several: a neighbouring domain may have set one of them.
    """
    found: dict[str, set[str]] = {}
    for header in headers:
        for pair in header.split(";"):
            key, _, value = pair.strip(" \t").partition("=")
            found.setdefault(key, set()).add(value)
    for prefix in COOKIE_PREFIXES:
        values = found.get(prefix + name)
        if values:
            if len(values) > 1:
                raise TokenRefused(f"there are several cookies {prefix}{name}: delete them and sign in again", FORM)
            return SessionCookie(prefix + name, values.pop())
    raise TokenRefused(f"there is no cookie {name}: sign in first, or send a token", FORM)


def verify_cookie(verifier: TokenVerifier, cookie: SessionCookie, now_s: float) -> Identity | Awaitable[Identity]:
    """The identity behind a cookie's value. Errors: as TokenVerifier.verify."""
    answer = verifier.verify(cookie.value, now_s)
    return _as_cookie(answer, cookie) if isinstance(answer, Identity) else _later(answer, cookie)


async def _later(answer: Awaitable[Identity], cookie: SessionCookie) -> Identity:
    return _as_cookie(await answer, cookie)


def _as_cookie(identity: Identity, cookie: SessionCookie) -> Identity:
    """The application's API takes it as it came: as a cookie, under its name."""
    if not identity.forward:
        return identity
    return structs.replace(identity, forward=(("cookie", f"{cookie.name}={cookie.value}"),))
