"""Who calls over HTTP: by the Authorization header, or by the application's cookie where the page may be trusted."""

from collections.abc import Awaitable, Mapping
from typing import Any

from .cookies import OTHER_PAGE, find_cookie, verify_cookie
from .identity import FORM, Identity, MayAsk, TokenRefused, TokenVerifier, freely


class HttpAuthenticator:
    """Identities of HTTP requests. The worker exchanges `verifier` and `cookie` at a reload."""

    def __init__(self, verifier: TokenVerifier, cookie: str = "") -> None:
        """`cookie` is the name in auth.cookie; empty: cookies do not count."""
        self.verifier = verifier
        self.cookie = cookie

    def identify(
        self, headers: Mapping[str, str], *, origin_allowed: bool, now_s: float, may_ask: MayAsk = freely
    ) -> Identity | Awaitable[Identity]:
        """Who sends a request with these `headers` (names in any case, or all small) at unix second `now_s`.

        `origin_allowed` must be true only if the request's Origin is one of server.origins or this very host: a browser
        sends cookies along for any page. With an Authorization header it makes no difference, and neither does the
        cookie. `may_ask` counts the questions that the caller's address causes.

        Errors: TokenRefused, VerifierUnavailable (503), at once or from what is awaited.
        """
        given = _values(headers, "authorization")
        if given:
            scheme, _, token = given[0].strip().partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
                raise TokenRefused("the Authorization header is not `Bearer` and a token", FORM)
            return self.verifier.verify(token.strip(), now_s, may_ask)
        if not self.cookie:
            raise TokenRefused("there is none: send the header Authorization: Bearer TOKEN", FORM)
        cookie = find_cookie(_values(headers, "cookie"), self.cookie)
        if not origin_allowed:
            raise TokenRefused(OTHER_PAGE, FORM)
        return verify_cookie(self.verifier, cookie, now_s, may_ask)


def _values(headers: Mapping[str, str], name: str) -> list[str]:
    every: Any = getattr(headers, "getall", None)  # of multidict: a header may come twice
    if every is not None:
        return list(every(name, ()))
    return [value for key, value in headers.items() if key.lower() == name]
