"""Authenticates HTTP requests, by the Authorization header or, for a trusted Origin, by the application's cookie."""

from collections.abc import Awaitable, Mapping
from typing import Any

from .cookies import OTHER_PAGE, find_cookie, verify_cookie
from .identity import FORM, Identity, MayQuery, TokenRefused, TokenVerifier, unlimited


class HttpAuthenticator:
    """Authenticates HTTP requests. The worker replaces `verifier` and `cookie` at a reload; there is no other state."""

    def __init__(self, verifier: TokenVerifier, cookie: str = "") -> None:
        """`cookie` is the name in `auth.cookie`; empty: cookies are ignored."""
        self.verifier = verifier
        self.cookie = cookie

    def identify(
        self, headers: Mapping[str, str], *, origin_allowed: bool, now_s: float, may_query: MayQuery = unlimited
    ) -> Identity | Awaitable[Identity]:
        """Return the identity of a request with these `headers`, names in any case, at unix second `now_s`.

        `origin_allowed` must be true only if the request's Origin is one of `server.origins` or this host: a browser
        sends cookies with requests of any page. With an Authorization header, Origin and cookie are ignored.
        `may_query` limits the requests to other servers that the client's address causes.

        Errors: `TokenRefused` and `VerifierUnavailable` (503), at once or from the awaitable.
        """
        given = _values(headers, "authorization")
        if given:
            scheme, _, token = given[0].strip().partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
                raise TokenRefused("the Authorization header is not `Bearer` and a token", FORM)
            return self.verifier.verify(token.strip(), now_s, may_query)
        if not self.cookie:
            raise TokenRefused("there is none: send the header Authorization: Bearer TOKEN", FORM)
        cookie = find_cookie(_values(headers, "cookie"), self.cookie)
        if not origin_allowed:
            raise TokenRefused(OTHER_PAGE, FORM)
        return verify_cookie(self.verifier, cookie, now_s, may_query)


def _values(headers: Mapping[str, str], name: str) -> list[str]:
    every: Any = getattr(headers, "getall", None)  # of multidict: a header may occur twice
    if every is not None:
        return list(every(name, ()))
    return [value for key, value in headers.items() if key.lower() == name]
