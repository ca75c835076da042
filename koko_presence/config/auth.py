"""The section [auth] with its tables: how tokens are verified. Rules that no type can express follow the keys."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from .sections import Section, ValueFile, check_secret, url_problem

Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class Jwks(Section, frozen=True):
    url: Annotated[
        str, Meta(description="URL of the identity provider's public keys (JWKS), https. Read every 10 minutes.")
    ] = ""


class Introspect(Section, frozen=True):
    preset: Annotated[
        Literal["better-auth-cookie", "better-auth-bearer", "generic"],
        Meta(
            description='"better-auth-cookie", "better-auth-bearer": get-session of Better Auth. "generic": RFC 7662. '
            "Each key below that is not empty replaces the preset's value."
        ),
    ] = "generic"
    url: Annotated[
        str,
        Meta(
            description="URL at which the application says whose a token is, https, such as "
            "https://app.example.com/api/auth/get-session."
        ),
    ] = ""
    method: Annotated[Literal["", "GET", "POST"], Meta(description='Method of the request, "GET" or "POST".')] = ""
    token_in: Annotated[
        Literal["", "bearer", "cookie", "header", "form", "json"],
        Meta(description='Where the request carries the token: "bearer", "cookie", "header", "form" or "json".'),
    ] = ""
    token_name: Annotated[str, Meta(description="Name of that cookie, header or field.")] = ""
    authorization: Annotated[
        str, Meta(description="Authorization header with which this server identifies itself to the application.")
    ] = ""
    authorization_file: ValueFile = ""
    id: Annotated[str, Meta(description='Path of the user id in the response, such as "user.id".')] = ""
    name: Annotated[str, Meta(description="Path of the user's name in the response.")] = ""
    image: Annotated[str, Meta(description="Path of the user's picture in the response.")] = ""
    expires: Annotated[
        str, Meta(description="Path of the session's end in the response: a date, Unix seconds or Unix milliseconds.")
    ] = ""
    rooms: Annotated[
        str, Meta(description="Path of the rooms and scopes in the response, which have the form of the claim `rooms`.")
    ] = ""
    settings: Annotated[
        str,
        Meta(description="Path of the rooms' settings in the response, which have the form of the claim `settings`."),
    ] = ""
    presence: Annotated[
        str,
        Meta(
            description="Path of `false` in the response for users who have switched their presence off: they see, and "
            "are not shown."
        ),
    ] = ""
    cache_s: Annotated[float, Meta(ge=1.0, le=60.0, description="Time for which a response is cached.")] = 30.0
    session_s: Annotated[
        int,
        Meta(
            ge=60,
            le=86_400,
            description="Time after which a connected client has to authenticate again, if the response sets no "
            "earlier end.",
        ),
    ] = 3600
    questions_hz: Annotated[
        float,
        Meta(
            ge=1.0,
            le=10_000.0,
            description="Requests of one worker about unknown tokens. Above that clients are told to try again later. "
            "Tokens that were valid before do not count.",
        ),
    ] = 200.0

    def __repr__(self) -> str:
        return f"Introspect(preset={self.preset!r}, url={self.url!r})"

    def chosen(self, name: str) -> str:
        """The effective value of the key `name`: its own, or the preset's when its own is empty."""
        return str(getattr(self, name)) or PRESETS[self.preset][name]


_BETTER_AUTH = {
    "method": "GET",
    "token_name": "better-auth.session_token",
    "id": "user.id",
    "name": "user.name",
    "image": "user.image",
    "expires": "session.expiresAt",
    "rooms": "",
    "settings": "",
    "presence": "",
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
        "settings": "settings",
        "presence": "presence",
    },
}


class Auth(Section, frozen=True):
    verifiers: Annotated[
        tuple[Literal["jwt", "introspect"], ...],
        Meta(
            min_length=1,
            description='How tokens are verified, in this order. "jwt": signed tokens that name the user. '
            '"introspect": tokens, such as session ids, that are sent to the application.',
        ),
    ] = ("jwt",)
    secret: Annotated[
        str,
        Meta(
            description="Secret that signs tokens, at least 32 bytes, the same as in the application. Required when "
            "an algorithm begins with HS. Otherwise it signs resume tokens only, and without it each start makes its "
            "own."
        ),
    ] = ""
    secret_file: ValueFile = ""
    algorithms: Annotated[
        tuple[Algorithm, ...],
        Meta(
            min_length=1,
            description="Signature algorithms that are accepted: HS256, HS384, HS512 with the secret; RS256, RS384, "
            "RS512, PS256, ES256, ES384, EdDSA with public keys.",
        ),
    ] = ("HS256",)
    public_key: Annotated[
        str,
        Meta(description="Public key as PEM text, or several, one below the other. Certificates are accepted, too."),
    ] = ""
    public_key_file: ValueFile = ""
    issuer: Annotated[str, Meta(description="Value that the claim `iss` of a token must have. Empty: not checked.")] = (
        ""
    )
    audience: Annotated[
        str, Meta(description="Value that the claim `aud` of a token must have. Empty: not checked.")
    ] = ""
    leeway_s: Annotated[
        float,
        Meta(
            ge=0.0,
            le=300.0,
            description="Permitted difference between this clock and the clock of the issuer of tokens.",
        ),
    ] = 5.0
    max_ttl_s: Annotated[
        int,
        Meta(
            ge=1,
            le=31_536_000,
            description="Longest time until a token expires; a token that expires later is refused.",
        ),
    ] = 86_400
    cookie: Annotated[
        str,
        Meta(
            description="Name of the application's session cookie, without __Secure- or __Host-. With it, pages of "
            "server.origins, which is then required, connect without a token. Empty: cookies are ignored."
        ),
    ] = ""
    jwks: Jwks = Jwks()
    introspect: Introspect = Introspect()

    @property
    def secret_algorithms(self) -> list[str]:
        """The algorithms that sign tokens with `secret`. When there are none, `secret` signs resume tokens only."""
        return [name for name in self.algorithms if name.startswith("HS") and "jwt" in self.verifiers]

    @property
    def key_algorithms(self) -> list[str]:
        """The algorithms that need public keys."""
        return [name for name in self.algorithms if not name.startswith("HS") and "jwt" in self.verifiers]

    def __repr__(self) -> str:
        return f"Auth(secret={'set' if self.secret else 'unset'}, algorithms={self.algorithms!r})"


def check_auth(value: Mapping[str, Any], needs_secret: bool, faults: list[str]) -> None:
    """Add a line for each fault of [auth] to `faults`. `value` has every key of the configuration by its dotted name;
    `needs_secret`: the command needs a secret for tokens."""
    verifiers, algorithms = value["auth.verifiers"], value["auth.algorithms"]
    with_secret = "jwt" in verifiers and any(name.startswith("HS") for name in algorithms)
    with_key = "jwt" in verifiers and any(not name.startswith("HS") for name in algorithms)
    check_secret("auth.secret", value["auth.secret"], with_secret and needs_secret, faults)
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
            faults.append(f"{dotted}: is used by none of auth.algorithms: add RS256, ES256, EdDSA, whichever signs")
    _check_introspect(value, faults)
    for dotted in ("auth.jwks.url", "auth.introspect.url"):
        problem = url_problem(value[dotted]) if value[dotted] else ""
        if problem:
            faults.append(f"{dotted}: {problem}")
    _check_cookie(value["auth.cookie"], value["server.origins"], faults)


def _check_introspect(value: Mapping[str, Any], faults: list[str]) -> None:
    url, named = value["auth.introspect.url"], "introspect" in value["auth.verifiers"]
    if named and not url:
        faults.append("auth.introspect.url: is needed: the URL at which the application says whose a token is")
    elif url and not named:
        faults.append('auth.introspect.url: is set, but auth.verifiers does not name "introspect": add it')
    preset = PRESETS[value["auth.introspect.preset"]]
    method, token_in = (value[f"auth.introspect.{key}"] or preset[key] for key in ("method", "token_in"))
    if token_in == "bearer" and value["auth.introspect.authorization"]:
        faults.append(
            'auth.introspect.authorization: carries the token already: choose another token_in, such as "form"'
        )
    if method == "GET" and token_in in ("form", "json"):
        faults.append(f'auth.introspect.method: a GET has no body for token_in = "{token_in}": use POST')
    name = value["auth.introspect.token_name"]
    if name and not _NAME.fullmatch(name):
        faults.append(f"auth.introspect.token_name: {name[:80]!r} is not a valid name of a cookie, header or field")
    if not value["auth.introspect.authorization"].isprintable():
        faults.append("auth.introspect.authorization: has to be one line of printable characters")


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110 section 5.6.2


def _check_cookie(cookie: str, origins: Any, faults: list[str]) -> None:
    if not cookie:
        return
    if not _NAME.fullmatch(cookie):
        faults.append(f"auth.cookie: {cookie[:80]!r} is not a valid name of a cookie")
    elif cookie.startswith(("__Secure-", "__Host-")):
        faults.append("auth.cookie: leave the prefix out: the cookie is found with and without it")
    if not origins:
        faults.append(
            "auth.cookie: needs server.origins: browsers send cookies for any page, so list the pages that may connect"
        )
