"""Who somebody is, once a token of theirs is believed; and what is said when it is not."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

# How near a refused token came, so that of several refusals the one that helps most is shown.
FORM, ALGORITHM, SIGNATURE, CLAIMS = range(4)


def hash_of(token: str) -> bytes:
    """The SHA-256 by which tokens are known and compared without being kept."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class TokenRefused(Exception):
    """Why a token does not count, in words for its owner; never holds the token. `came` is one of FORM (not of the kind
    that the verifier reads), ALGORITHM, SIGNATURE, and CLAIMS: it is genuine, and yet not good."""

    def __init__(self, reason: str, came: int = CLAIMS) -> None:
        super().__init__(reason)
        self.came = came


class VerifierUnavailable(TokenRefused):
    """Nobody can say now whether the token counts. Come back after `retry_after_s` seconds. `is_silence`: what would
    have to be asked does not answer; else it does, and was not asked because too much is, which strangers can cause."""

    def __init__(self, reason: str, retry_after_s: float = 2.0, *, is_silence: bool = True) -> None:
        super().__init__(reason, SIGNATURE)
        self.retry_after_s, self.is_silence = retry_after_s, is_silence


class AskedTooOften(VerifierUnavailable):
    """Whoever brings the token has caused too many questions about unknown ones [Q5]."""


class Identity(Struct, frozen=True, kw_only=True):
    """Who a verified token speaks for, until unix second `expires_at_s`. `rooms` maps a room id, or a prefix with one
    trailing `*`, to scopes [A6]; without `rooms_known` there may be more. `sid` is the application's own session id,
    never the one of presence [A3].

    `forward` are the headers by which the application's own API knows this user; empty unless the configured access
    asks it. They are as good as the user's password: no repr shows them, and nothing may send them anywhere else.
    """

    user_id: str
    name: str
    image: str | None
    expires_at_s: int
    rooms: Mapping[str, tuple[str, ...]]
    rooms_known: bool = True
    presence: bool = True  # False: the user has switched presence off [K1]
    sid: str | None = None
    forward: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"Identity(user_id={self.user_id!r}, name={self.name!r}, expires_at_s={self.expires_at_s})"

    def __rich_repr__(self) -> Any:  # msgspec has one that shows every field
        yield "user_id", self.user_id


MayAsk = Callable[[], bool]  # counts a question about a token that is not known, and tells whether it may be asked


def freely() -> bool:
    """Every question may be asked."""
    return True


class TokenVerifier(Protocol):
    """Whatever can tell who a token belongs to, at once or after asking elsewhere."""

    def verify(self, token: str, now_s: float, may_ask: MayAsk = freely) -> Identity | Awaitable[Identity]:
        """The identity behind `token` at unix second `now_s`; `may_ask` bounds the questions of whoever brings it.
        Errors: TokenRefused, VerifierUnavailable."""
        ...

    @property
    def asks(self) -> bool:
        """May others have to be asked, so that a good token cannot be checked while they do not answer?"""
        ...

    def was_refused(self, token: str, now_s: float) -> bool:
        """As far as is known without asking: does the last word on `token` say that it does not count?"""
        ...

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        """The same of a token of which the hash alone is known (`hash_of`)."""
        ...
