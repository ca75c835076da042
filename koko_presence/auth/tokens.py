"""Placeholder until the real one lands."""

import hashlib
import hmac
from collections.abc import Awaitable
from typing import Protocol

import jwt
from msgspec import Struct


class TokenRefused(Exception):
    pass


class Identity(Struct, frozen=True, kw_only=True):
    user_id: str
    name: str
    image: str | None
    expires_at_s: int
    rooms: dict[str, tuple[str, ...]]
    presence: bool = True


class TokenVerifier(Protocol):
    def verify(self, token: str, now_s: float) -> Identity | Awaitable[Identity]: ...


class HmacVerifier:
    def __init__(
        self, secret: str, *, algorithms=("HS256",), issuer=None, audience=None, leeway_s=5.0, max_ttl_s=86400
    ):
        self.secret = secret
        self.algorithms = list(algorithms)

    def verify(self, token: str, now_s: float) -> Identity:
        try:
            c = jwt.decode(
                token, self.secret, algorithms=self.algorithms, options={"verify_exp": False, "verify_aud": False}
            )
        except jwt.PyJWTError as e:
            raise TokenRefused(str(e)) from None
        if c["exp"] < now_s:
            raise TokenRefused("it has expired")
        return Identity(
            user_id=c["sub"],
            name=c.get("name") or c["sub"],
            image=c.get("image"),
            expires_at_s=c["exp"],
            rooms={k: tuple(v) for k, v in c.get("rooms", {}).items()},
            presence=c.get("presence", True),
        )


def issue_token(
    secret, *, user, name=None, image=None, rooms=None, ttl_s=3600, now_s, issuer=None, audience=None, algorithm="HS256"
):
    return jwt.encode(
        {"sub": user, "name": name, "rooms": rooms or {}, "exp": now_s + ttl_s}, secret, algorithm=algorithm
    )


class ResumeTokens:
    def __init__(self, secret: str):
        self.key = hashlib.sha256(b"resume" + secret.encode()).digest()

    def issue(self, user_id, session_id, expires_at_s):
        body = f"{session_id}|{expires_at_s}"
        sig = hmac.new(self.key, f"{user_id}|{body}".encode(), "sha256").hexdigest()
        return f"{body}|{sig}"

    def read(self, token, user_id, now_s):
        p = token.split("|")
        if len(p) == 3 and self.issue(user_id, p[0], p[1]) == token and int(p[1]) > now_s:
            return p[0]
        return None
