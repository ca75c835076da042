"""An identity provider for tests: key pairs, tokens signed with them, and the JWK sets that publish them.

`Provider` is a real HTTP server; the rest needs no network.
"""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

MAKERS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def private_key(algorithm: str, number: int = 0) -> Any:
    """Return a key pair; another `number` is another pair."""
    return _made("RS256" if algorithm in ("RS384", "RS512", "PS256") else algorithm, number)


@functools.cache
def _made(kind: str, number: int) -> Any:
    return MAKERS[kind]()


def public_pem(algorithm: str, number: int = 0) -> str:
    key = private_key(algorithm, number).public_key()
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_bytes(serialization.Encoding.PEM, kind).decode())


def private_pem(algorithm: str) -> str:
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return str(private_key(algorithm).private_bytes(encoding, kind, serialization.NoEncryption()).decode())


def jwk(algorithm: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """Return the public key as a JWK whose `kid` names both arguments; a field given as None is left out."""
    writer: Any = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[algorithm[0]]
    writer = OKPAlgorithm if algorithm == "EdDSA" else writer
    shown = writer.to_jwk(private_key(algorithm, number).public_key(), as_dict=True)
    shown.pop("key_ops", None)
    shown |= {"kid": f"{algorithm}-{number}", "alg": algorithm, "use": "sig"} | more
    return {name: value for name, value in shown.items() if value is not None}


def jwk_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signed(algorithm: str, claims: dict[str, Any], number: int = 0, **headers: Any) -> str:
    """Return a signed token with the `kid` of `jwk`; without one if `kid=None`."""
    headers = {"kid": f"{algorithm}-{number}"} | headers
    headers = {name: value for name, value in headers.items() if value is not None}
    return jwt.encode(claims, private_key(algorithm, number), algorithm=algorithm, headers=headers)


class Provider:
    """An HTTP server whose keys and sessions can be changed while it runs. `asked` counts requests per path; `handle`
    may be replaced."""

    def __init__(self) -> None:
        self.keys = jwk_set(jwk("EdDSA"))
        self.sessions: dict[str, dict[str, Any]] = {}  # of Better Auth, by the cookie's value
        self.asked: dict[str, int] = {}
        self.seen: list[dict[str, str]] = []
        self.base = ""
        self.handle: Callable[[web.BaseRequest], Any] = self.answer

    async def on_request(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked[request.path] = self.asked.get(request.path, 0) + 1
        self.seen.append({name.lower(): value for name, value in request.headers.items()})
        answer = self.handle(request)
        found: web.StreamResponse = await answer if asyncio.iscoroutine(answer) else answer
        return found

    def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer with the JWKS at /jwks, and as Better Auth at /get-session, by cookie or bearer token."""
        if request.path == "/jwks":
            return web.Response(body=self.keys, content_type="application/json")
        if request.path != "/get-session":
            return web.Response(status=404)
        value = request.headers.get("authorization", "").removeprefix("Bearer ")
        for pair in request.headers.get("cookie", "").split("; "):
            name, _, given = pair.partition("=")
            value = given if name == "__Secure-better-auth.session_token" else value
        return web.json_response(self.sessions.get(value))

    def sign_in(self, value: str, user: str, expires_at: Any = "2099-01-01T00:00:00.000Z") -> None:
        """Add `value` as a session of `user`."""
        self.sessions[value] = {
            "session": {"id": "s", "token": value, "userId": user, "expiresAt": expires_at},
            "user": {"id": user, "name": user.title(), "email": f"{user}@example.com", "image": None},
        }


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Serve on a free loopback port until the block ends."""
    serving = Provider()
    runner = web.ServerRunner(web.Server(serving.on_request), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    serving.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield serving
    finally:
        await runner.cleanup()
