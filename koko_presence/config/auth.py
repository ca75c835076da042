"""The section [auth] with its tables: whose tokens count. The rules that no type can express are below the keys."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from .host_names import is_loopback

MIN_SECRET_BYTES = 32  # HS256 takes no shorter key [RFC 7518 section 3.2]
SECRET_NAMES = frozenset(("secret", "api_key", "authorization"))  # keys whose values are never shown

Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Jwks(Section, frozen=True):
    url: str = ""


class Introspect(Section, frozen=True):
    preset: Literal["better-auth-cookie", "better-auth-bearer", "generic"] = "generic"
    url: str = ""
    method: Literal["", "GET", "POST"] = ""
    token_in: Literal["", "bearer", "cookie", "header", "form", "json"] = ""
    token_name: str = ""
    authorization: str = ""
    authorization_file: str = ""
    id: str = ""
    name: str = ""
    image: str = ""
    expires: str = ""
    rooms: str = ""
    cache_s: Annotated[float, Meta(ge=1.0, le=60.0)] = 30.0
    session_s: Annotated[int, Meta(ge=60, le=86_400)] = 3600
    questions_hz: Annotated[float, Meta(ge=1.0, le=10_000.0)] = 200.0

    def __repr__(self) -> str:
        return f"Introspect(preset={self.preset!r}, url={self.url!r})"

    def chosen(self, name: str) -> str:
        """The value of a key that a preset has: the key's own, or else the preset's."""
        return str(getattr(self, name)) or PRESETS[self.preset][name]


_BETTER_AUTH = {
    "method": "GET",
    "token_name": "better-auth.session_token",
    "id": "user.id",
    "name": "user.name",
    "image": "user.image",
    "expires": "session.expiresAt",
    "rooms": "",
}
PRESETS: Mapping[str, Mapping[str, str]] = {
    "better-auth-cookie": _BETTER_AUTH | {"token_in": "cookie"},
    "better-auth-bearer": _BETTER_AUTH | {"token_in": "bearer"},
    "generic": {  # RFC 7662
        "method": "POST",
        "token_in": "form",
        "token_name": "token",
        "id": "sub",
        "name": "name",
        "image": "picture",
        "expires": "exp",
        "rooms": "rooms",
    },
}


class Auth(Section, frozen=True):
    verifiers: Annotated[tuple[Literal["jwt", "introspect"], ...], Meta(min_length=1)] = ("jwt",)
    secret: str = ""
    secret_file: str = ""
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1)] = ("HS256",)
    public_key: str = ""
    public_key_file: str = ""
    issuer: str = ""
    audience: str = ""
    leeway_s: Annotated[float, Meta(ge=0.0, le=300.0)] = 5.0
    max_ttl_s: Annotated[int, Meta(ge=1, le=31_536_000)] = 86_400
    cookie: str = ""
    jwks: Jwks = Jwks()
    introspect: Introspect = Introspect()

    @property
    def secret_algorithms(self) -> list[str]:
        """The algorithms by which tokens are signed with `secret`; none: it signs no tokens of users."""
        return [name for name in self.algorithms if name.startswith("HS") and "jwt" in self.verifiers]

    @property
    def key_algorithms(self) -> list[str]:
        """The algorithms that go with public keys."""
        return [name for name in self.algorithms if not name.startswith("HS") and "jwt" in self.verifiers]

    def __repr__(self) -> str:
        return f"Auth(secret={'set' if self.secret else 'unset'}, algorithms={self.algorithms!r})"


def check_auth(value: Mapping[str, Any], needs_secret: bool, faults: list[str]) -> None:
    """Add what is wrong with [auth] to `faults`; `value` has every key of the configuration by its dotted name."""
    verifiers, algorithms = value["auth.verifiers"], value["auth.algorithms"]
    with_secret = "jwt" in verifiers and any(name.startswith("HS") for name in algorithms)
    with_key = "jwt" in verifiers and any(not name.startswith("HS") for name in algorithms)
    _check_secret(value["auth.secret"], with_secret and needs_secret, faults)
    has_key = value["auth.public_key"] or value["auth.public_key_file"] or value["auth.jwks.url"]
    if with_key and not has_key:
        named = next(name for name in algorithms if not name.startswith("HS"))
        faults.append(
            f"auth.algorithms: {named} needs public keys: set auth.jwks.url, auth.public_key or auth.public_key_file"
        )
    for dotted in ("auth.public_key", "auth.public_key_file", "auth.jwks.url"):
        if value[dotted] and "jwt" not in verifiers:
            faults.append(f'{dotted}: is for the verifier "jwt", which auth.verifiers does not name')
        elif value[dotted] and not with_key:
            faults.append(f"{dotted}: goes with none of auth.algorithms: add RS256, ES256, EdDSA, whichever signs")
    _check_introspect(value, faults)
    for dotted in ("auth.jwks.url", "auth.introspect.url"):
        problem = url_problem(value[dotted]) if value[dotted] else ""
        if problem:
            faults.append(f"{dotted}: {problem}")
    _check_cookie(value["auth.cookie"], value["server.origins"], faults)


def _check_secret(secret: str, needed: bool, faults: list[str]) -> None:
    if any(fault.startswith("auth.secret") for fault in faults):
        pass
    elif secret and len(secret.encode()) < MIN_SECRET_BYTES:
        faults.append(
            f"auth.secret: has {len(secret.encode())} bytes, at least {MIN_SECRET_BYTES} are needed: "
            "make one with  openssl rand -base64 48"
        )
    elif not secret and needed:
        faults.append("auth.secret: is needed (or auth.secret_file): make one with  openssl rand -base64 48")


def _check_introspect(value: Mapping[str, Any], faults: list[str]) -> None:
    url, named = value["auth.introspect.url"], "introspect" in value["auth.verifiers"]
    if named and not url:
        faults.append("auth.introspect.url: is needed: where the application says whose a token is")
    elif url and not named:
        faults.append('auth.introspect.url: is set, but auth.verifiers does not name "introspect": add it')
    preset = PRESETS[value["auth.introspect.preset"]]
    method, token_in = (value[f"auth.introspect.{key}"] or preset[key] for key in ("method", "token_in"))
    if token_in == "bearer" and value["auth.introspect.authorization"]:
        faults.append('auth.introspect.authorization: is taken by the token itself: choose another token_in, as "form"')
    if method == "GET" and token_in in ("form", "json"):
        faults.append(f'auth.introspect.method: a GET has no body for token_in = "{token_in}": use POST')
    name = value["auth.introspect.token_name"]
    if name and not _NAME.fullmatch(name):
        faults.append(f"auth.introspect.token_name: {name[:80]!r} is no name of a cookie, header or field")
    if not value["auth.introspect.authorization"].isprintable():
        faults.append("auth.introspect.authorization: is one line of printable characters")


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110 section 5.6.2


def _check_cookie(cookie: str, origins: Any, faults: list[str]) -> None:
    if not cookie:
        return
    if not _NAME.fullmatch(cookie):
        faults.append(f"auth.cookie: {cookie[:80]!r} is no name of a cookie")
    elif cookie.startswith(("__Secure-", "__Host-")):
        faults.append("auth.cookie: leave the prefix out: the cookie is found with and without it")
    if not origins:
        faults.append(
            "auth.cookie: needs server.origins: browsers send cookies along for any page, so say which pages may"
        )


def url_problem(url: str) -> str:
    """Why `url` is no address to ask for what nobody else may read or change; empty when it is: https, or http to this
    very machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no address"
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        return "is no address: write https://host/path"
    if parts.username is not None or parts.fragment:
        return "has a user name or a fragment in it: leave that out"
    if parts.scheme == "http" and not is_loopback(host):
        return "is http, which everybody on the way can read and change: use https (http goes to this machine only)"
    return ""
