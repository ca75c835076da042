"""Resume tokens: the server's own tokens for coming back to a session, signed, so that any worker with the secret can
read them [A1, N-c].

There are two forms. The short one names an end and a session, and opens nothing without a good token of the user beside
it. The long one, made where tokens are checked with another server, which may not answer, also holds whom this server
has believed the client to be: while the token *cannot* be checked, it is proof enough for a session that is not over.
Everything in it is what the client's own token said; it is signed, not encrypted.
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
_LONG = b"\x00"  # behind the signature; the short form has a digit there
_TOKEN = "\x00"  # stands for the token in what is forwarded


class Resumable(NamedTuple):
    """What a long resume token is proof of: a session, whom it belonged to, and by which token (its SHA-256), the last
    one that was checked. `is_same`: the client brings that very token along."""

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
    rooms: dict[str, tuple[str, ...]] | None  # None: too long to be carried along
    presence: bool
    sid: str | None
    token_hash: bytes
    forward: list[tuple[str, str]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class ResumeTokens:
    """Makes and reads resume tokens with one secret."""

    def __init__(self, secret: str) -> None:
        """Errors: ValueError without a secret: everybody could make such tokens."""
        if not secret:
            raise ValueError("Resume tokens need a secret.")
        # keys of their own: what is signed here can never be taken for a JWT of the same secret
        self._key = hmac.digest(secret.encode(), b"koko-presence resume token", "sha256")
        self._long_key = hmac.digest(secret.encode(), b"koko-presence resume token with identity", "sha256")

    def issue(self, user_id: str, session_id: str, expires_at_s: int) -> str:
        """A short token for `session_id`, good until unix second `expires_at_s`."""
        body = f"{expires_at_s}.{session_id}".encode()
        return _text(self._sign(user_id, body) + body)

    def issue_for(
        self, identity: Identity, session_id: str, expires_at_s: int, token: str, token_hash: bytes | None = None
    ) -> str:
        """A long one, for the client that came with `token`: at most MAX_RESUME_CHARS characters, for which the rooms
        of the identity are left out when they are many. `token_hash` is that of the last token that was checked, when
        it is another one."""
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
        """The session id, or None for a token that is forged, expired, another user's or no token at all."""
        try:
            raw = _raw(token)
            if raw[_MAC_BYTES : _MAC_BYTES + 1] == _LONG:
                body = self._read_long(raw, now_s)
                return body.session_id if body is not None and body.user_id == user_id else None
            end, _, session_id = raw[_MAC_BYTES:].decode().partition(".")
            expires_at_s = int(end)
            # made again and compared whole: int has several spellings of one value, this leaves one
            genuine = hmac.compare_digest(self.issue(user_id, session_id, expires_at_s).encode(), token.encode())
            return session_id if genuine and expires_at_s > now_s else None
        except ValueError:
            return None

    def read_identity(self, resume_token: str, token: str, now_s: float) -> Resumable | None:
        """What a long resume token proves for a client that brings `token` along, which cannot be checked: that must be
        the very one with which the session began, or a signed one that names the same user and has not expired. None
        when it proves nothing. The identity is forwarded with `token`."""
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
    """Errors: ValueError for what is not base64url as `_text` writes it."""
    raw = from_base64url(token.encode("ascii"))
    if _text(raw) != token:  # base64 has several spellings of one value
        raise ValueError("another spelling")
    return raw


def _names(token: str, user_id: str, now_s: float) -> bool:
    """Does a signed token, as far as it can be read without its key, name this user and an end to come? After
    signing in as another user a client must not come back to the session of the user before."""
    if len(token) > MAX_TOKEN_CHARS or not looks_signed(token):
        return False
    try:
        claims = msgspec.json.decode(from_base64url(token.split(".")[1].encode("ascii")))
        return bool(claims["sub"] == user_id and claims["exp"] > now_s)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
