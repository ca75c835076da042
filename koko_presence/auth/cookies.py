"""The cookie by which the application knows who has signed in, as a browser sends it along by itself.

It counts only where it is certain which page sent it: whoever calls this has looked at the Origin [A8].
"""

from collections.abc import Awaitable, Iterable
from typing import NamedTuple

from msgspec import structs

from .identity import FORM, Identity, MayAsk, TokenRefused, TokenVerifier, freely
from .introspection import COOKIE_PREFIXES

OTHER_PAGE = "a cookie counts only from a page on the list server.origins: send a token"


class SessionCookie(NamedTuple):
    """A cookie under the name with which it came."""

    name: str
    value: str

    def __repr__(self) -> str:
        return f"SessionCookie({self.name!r})"


def find_cookie(headers: Iterable[str], name: str) -> SessionCookie:
    """The cookie `name` in Cookie headers, also with one of COOKIE_PREFIXES before it.

    __Host- counts before all others, since only this very host can have set it. A neighbouring domain may have set any
    of the others, so they must have one value. Errors: TokenRefused when there is none, and when values differ.
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
    verifier: TokenVerifier, cookie: SessionCookie, now_s: float, may_ask: MayAsk = freely
) -> Identity | Awaitable[Identity]:
    """The identity behind a cookie's value. Errors: as TokenVerifier.verify."""
    answer = verifier.verify(cookie.value, now_s, may_ask)
    return _as_cookie(answer, cookie) if isinstance(answer, Identity) else _later(answer, cookie)


async def _later(answer: Awaitable[Identity], cookie: SessionCookie) -> Identity:
    return _as_cookie(await answer, cookie)


def _as_cookie(identity: Identity, cookie: SessionCookie) -> Identity:
    """The application's API takes it as it came: as a cookie, under its name."""
    if not identity.forward:
        return identity
    return structs.replace(identity, forward=(("cookie", f"{cookie.name}={cookie.value}"),))
