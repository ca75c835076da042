"""Issues and verifies resume tokens, which this server signs so that a client can resume its session on any worker with
the same secret [A1, N-c].

There are two forms. The short form has an expiry and a session id, and is accepted only together with a valid token of
the user. The long form is issued where tokens are checked with another server, which may fail; it also has the identity
of the client's last verified token. While the client's token *cannot* be checked, it is sufficient for a session that
has not ended. It contains only data of the client's own token; it is signed, not encrypted.
"""

import base64
import hashlib
import hmac
from typing import NamedTuple

import msgspec
from msgspec import Struct

from .identity import Identity, hash_of
from .jws import MAX_TOKEN_CHARS, from_base64url, looks_signed

MAX_RESUME_CHARS = 6144
_MAC_BYTES = 16
_LONG = b"\x00"  # first byte after the MAC; the short form has a digit there
_TOKEN = "\x00"  # replaces the token in the forwarded headers


class Resumable(NamedTuple):
    """The content of a long resume token: a session, its identity, and the SHA-256 of the last token that was checked.
    `is_same`: the client has sent that same token."""

    session_id: str
    identity: Identity
    token_hash: bytes
    is_same: bool


class _Body(Struct, array_like=True):
    expires_at_s: int  # of the resume token; the identity has its own end
    session_id: str
    user_id: str
    name: str
    image: str | None
    identity_expires_at_s: int
    rooms: dict[str, tuple[str, ...]] | None  # None: left out because of its size
    presence: bool
    sid: str | None
    token_hash: bytes
    forward: list[tuple[str, str]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class ResumeTokens:
    """Issues and verifies resume tokens with one secret; it holds only the derived keys."""

    def __init__(self, secret: str) -> None:
        """Errors: ValueError for an empty secret, with which any client could issue such tokens."""
        if not secret:
            raise ValueError("Resume tokens need a secret.")
        # separate keys: a resume token can never be accepted as a JWT of the same secret
        self._key = hmac.digest(secret.encode(), b"koko-presence resume token", "sha256")
        self._long_key = hmac.digest(secret.encode(), b"koko-presence resume token with identity", "sha256")

    def issue(self, user_id: str, session_id: str, expires_at_s: int) -> str:
        """Return a short token for `session_id`, valid until unix second `expires_at_s`."""
        body = f"{expires_at_s}.{session_id}".encode()
        return _text(self._sign(user_id, body) + body)

    def issue_for(
        self, identity: Identity, session_id: str, expires_at_s: int, token: str, token_hash: bytes | None = None
    ) -> str:
        """Return a long token for the client that has sent `token`. It has at most `MAX_RESUME_CHARS` characters; the
        identity's rooms are left out when it would be longer. `token_hash` is that of the last token that was checked,
        when that is not `token`."""
        body = _Body(
            expires_at_s=expires_at_s,
            session_id=session_id,
            user_id=identity.user_id,
            name=identity.name,
            image=identity.image,
            identity_expires_at_s=identity.expires_at_s,
            rooms={room: tuple(scopes) for room, scopes in identity.rooms.items()} if identity.rooms_known else None,
            presence=identity.presence,
            sid=identity.sid,
            token_hash=token_hash or hash_of(token),
            forward=[(name, value.replace(token, _TOKEN)) for name, value in identity.forward],
        )
        text = self._issue_long(body)
        if len(text) > MAX_RESUME_CHARS:
            body.rooms = None
            text = self._issue_long(body)
        return text

    def _issue_long(self, body: _Body) -> str:
        signed = _LONG + _encode(body)
        return _text(hmac.digest(self._long_key, signed, hashlib.sha256)[:_MAC_BYTES] + signed)

    def read(self, token: str, user_id: str, now_s: float) -> str | None:
        """Return the session id, or None for a token that is forged, expired, malformed or of another user."""
        try:
            raw = _raw(token)
            if raw[_MAC_BYTES : _MAC_BYTES + 1] == _LONG:
                body = self._read_long(raw, now_s)
                return body.session_id if body is not None and body.user_id == user_id else None
            end, _, session_id = raw[_MAC_BYTES:].decode().partition(".")
            expires_at_s = int(end)
            # issued again and compared as a whole, because int() accepts several spellings of one value
            genuine = hmac.compare_digest(self.issue(user_id, session_id, expires_at_s).encode(), token.encode())
            return session_id if genuine and expires_at_s > now_s else None
        except ValueError:
            return None

    def read_identity(self, resume_token: str, token: str, now_s: float) -> Resumable | None:
        """Return the content of a long resume token for a client whose `token` cannot be checked. `token` must be the
        last one that was checked for the session, or a JWS that names the same user and has not expired; otherwise, and
        for an invalid resume token, the result is None. The forwarded headers of the identity carry `token`."""
        try:
            raw = _raw(resume_token)
            is_long = raw[_MAC_BYTES : _MAC_BYTES + 1] == _LONG
            body = self._read_long(raw, now_s) if is_long else None
        except ValueError:
            return None
        if body is None:
            return None
        is_same = hash_of(token) == body.token_hash
        if not is_same and not _names(token, body.user_id, now_s):
            return None
        identity = Identity(
            user_id=body.user_id,
            name=body.name,
            image=body.image,
            expires_at_s=body.identity_expires_at_s,
            rooms=body.rooms or {},
            rooms_known=body.rooms is not None,
            presence=body.presence,
            sid=body.sid,
            forward=tuple((name, value.replace(_TOKEN, token)) for name, value in body.forward),
        )
        return Resumable(body.session_id, identity, body.token_hash, is_same)

    def _read_long(self, raw: bytes, now_s: float) -> _Body | None:
        mac, signed = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(hmac.digest(self._long_key, signed, hashlib.sha256)[:_MAC_BYTES], mac):
            return None
        body = _decode(signed[1:])
        return body if body.expires_at_s > now_s else None

    def _sign(self, user_id: str, body: bytes) -> bytes:
        user = user_id.encode()
        return hmac.digest(self._key, len(user).to_bytes(4, "big") + user + body, hashlib.sha256)[:_MAC_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(token: str) -> bytes:
    """Decode base64url. Errors: ValueError for text that is not exactly as `_text` writes it."""
    raw = from_base64url(token.encode("ascii"))
    if _text(raw) != token:  # base64 has several spellings of one value
        raise ValueError("another spelling")
    return raw


def _names(token: str, user_id: str, now_s: float) -> bool:
    """Return True when the unverified claims of a JWS name this user and an expiry after `now_s`. After signing in as
    another user a client must not resume the session of the previous one."""
    if len(token) > MAX_TOKEN_CHARS or not looks_signed(token):
        return False
    try:
        claims = msgspec.json.decode(from_base64url(token.split(".")[1].encode("ascii")))
        return bool(claims["sub"] == user_id and claims["exp"] > now_s)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
