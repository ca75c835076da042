"""Declares the identity of a verified token, the errors of refused tokens, and the interface of token verifiers."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from koko_presence.protocol.commands import UserInfo
from koko_presence.protocol.models import RoomSettings

# The check at which a token was refused, so that of several refusals the one that got furthest is shown.
FORM, ALGORITHM, SIGNATURE, CLAIMS = range(4)


def hash_of(token: str) -> bytes:
    """Return the SHA-256 of a token. Tokens are cached and compared by their hash, and not stored."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class TokenRefused(Exception):
    """A token is refused. The text is for the client and never contains the token. `came` is the check that failed:
    `FORM` (not the kind of token that the verifier reads), `ALGORITHM`, `SIGNATURE`, or `CLAIMS` (genuine, but not
    valid)."""

    def __init__(self, reason: str, came: int = CLAIMS) -> None:
        super().__init__(reason)
        self.came = came

    @property
    def sentence(self) -> str:
        """The text with the full stop of a sentence, unless it ends with a question mark."""
        text = str(self)
        return text if text.endswith("?") else f"{text}."


class VerifierUnavailable(TokenRefused):
    """The token cannot be checked now; the client may retry after `retry_after_s` seconds. `is_silence`: the server
    that must be queried does not answer. Otherwise the request was not sent because of a limit, which clients with
    invalid tokens can cause."""

    def __init__(self, reason: str, retry_after_s: float = 2.0, *, is_silence: bool = True) -> None:
        super().__init__(reason, SIGNATURE)
        self.retry_after_s, self.is_silence = retry_after_s, is_silence


class TooManyQueries(VerifierUnavailable):
    """The client's address has sent too many unknown tokens [Q5]."""


class Identity(Struct, frozen=True, kw_only=True):
    """The user of a verified token, valid until unix second `expires_at_s`. `rooms` maps a room id, or a prefix with
    one trailing `*`, to scopes [A6]; without `rooms_known` the list may be incomplete. `settings` maps the same to the
    settings that the room gets if this user makes it [Q10]. `sid` is the application's session id, never the one of
    this server [A3]. `issued_at_s` is the unix second at which the token was issued, or verified where it does not say
    that; 0.0 when the token has no name, or was not verified.

    `forward` holds the headers that authenticate this user at the application's API; empty unless the configured access
    queries that. They are as sensitive as a password: `repr` does not show them, and they are sent nowhere else.
    """

    user_id: str
    name: str
    image: str | None
    expires_at_s: int
    rooms: Mapping[str, tuple[str, ...]]
    rooms_known: bool = True
    settings: Mapping[str, RoomSettings] = {}
    presence: bool = True  # False: the user has switched presence off [K1]
    sid: str | None = None
    forward: tuple[tuple[str, str], ...] = ()
    issued_at_s: float = 0.0

    @property
    def user_info(self) -> UserInfo:
        """What the token says of the user's name and image."""
        return UserInfo(self.name, self.image, self.issued_at_s)

    def __repr__(self) -> str:
        return f"Identity(user_id={self.user_id!r}, name={self.name!r}, expires_at_s={self.expires_at_s})"

    def __rich_repr__(self) -> Any:  # the one of msgspec shows every field
        yield "user_id", self.user_id


MayQuery = Callable[[], bool]  # counts a request about an unknown token, and returns whether it may be sent


def unlimited() -> bool:
    """Permit every request."""
    return True


class TokenVerifier(Protocol):
    """Verifies tokens, at once or after a request to another server."""

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity | Awaitable[Identity]:
        """Return the identity of `token` at unix second `now_s`; `may_query` limits the requests that the client
        causes. Errors: `TokenRefused`, `VerifierUnavailable`."""
        ...

    @property
    def is_remote(self) -> bool:
        """True when verification may need another server, so that a valid token cannot be checked during its outage."""
        ...

    def was_refused(self, token: str, now_s: float) -> bool:
        """Return True when, without a request, the latest known result for `token` is a refusal."""
        ...

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        """The same for a token of which only the hash is known (`hash_of`)."""
        ...
