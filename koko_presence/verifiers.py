"""Which verifiers a configuration asks for: made for a worker, and made anew when the configuration is read again.

What has been learnt stays over a reload while it is of use: the keys of an unchanged JWKS address, the answers of an
unchanged introspection.

Each worker asks for itself. A supervisor that asked for all would be one more thing to hang on, for the sake of a few
small answers every ten minutes.
"""

import asyncio
import time
from collections.abc import Callable

from .auth.asking import Asker
from .auth.claims import ClaimRules
from .auth.identity import TokenVerifier
from .auth.introspect import CONNECTIONS, KEPT_CONNECTIONS, IntrospectVerifier, Question, Remembered, Road
from .auth.introspect import TIMEOUT_S as INTROSPECT_TIMEOUT_S
from .auth.jwks import TIMEOUT_S as JWKS_TIMEOUT_S
from .auth.jwks import Jwks
from .auth.keys import Key, keys_from_pem
from .auth.several import Several
from .auth.signed import FixedKeys, KeyVerifier
from .auth.tokens import HmacVerifier
from .ops.config import Auth, Config


class Verifiers:
    """The verifiers of one worker. Written by itself alone, on the worker's loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is monotonic, in seconds."""
        self._clock = clock
        self._jwks: Jwks | None = None
        self._introspect: tuple[Question, tuple[Road, Road], Remembered] | None = None
        self._closing: set[asyncio.Future[None]] = set()

    def make(self, config: Config) -> TokenVerifier:
        """The verifiers for `config`, as one; from now on those made before count for nothing. Errors: ValueError for a
        key that cannot be used, which `key_faults` finds before."""
        auth, forwards = config.auth, config.access.mode == "trpc"
        self._keep_of(auth)
        made: list[TokenVerifier] = []
        for name in dict.fromkeys(auth.verifiers):
            made += self._jwt(auth, forwards) if name == "jwt" else [self._introspection(auth, forwards)]
        return made[0] if len(made) == 1 else Several(made)

    def start(self) -> None:
        """Begin to refresh what is refreshed in time."""
        if self._jwks is not None:
            self._jwks.start()

    async def close(self) -> None:
        """Ask no more."""
        self._keep_of(None)
        await asyncio.gather(*self._closing)

    def _jwt(self, auth: Auth, forwards: bool) -> list[TokenVerifier]:
        made: list[TokenVerifier] = []
        rules = ClaimRules(
            issuer=auth.issuer or None,
            audience=auth.audience or None,
            leeway_s=auth.leeway_s,
            max_ttl_s=auth.max_ttl_s,
        )
        if auth.secret_algorithms:
            made.append(
                HmacVerifier(
                    auth.secret,
                    algorithms=auth.secret_algorithms,
                    issuer=auth.issuer or None,
                    audience=auth.audience or None,
                    leeway_s=auth.leeway_s,
                    max_ttl_s=auth.max_ttl_s,
                    forwards=forwards,
                )
            )
        if auth.public_key:
            keys = _fixed_keys(auth)
            algorithms = [name for name in auth.key_algorithms if any(name in key.algorithms for key in keys)]
            made.append(KeyVerifier(FixedKeys(keys), algorithms, rules, forwards=forwards))
        if auth.jwks.url:
            if self._jwks is None:
                self._jwks = Jwks(auth.jwks.url, Asker(timeout_s=JWKS_TIMEOUT_S), self._clock)
            made.append(KeyVerifier(self._jwks, auth.key_algorithms, rules, forwards=forwards))
        return made

    def _introspection(self, auth: Auth, forwards: bool) -> TokenVerifier:
        if self._introspect is None:
            self._introspect = (_question(auth), (_road(CONNECTIONS), _road(KEPT_CONNECTIONS)), Remembered())
        question, roads, remembered = self._introspect
        return IntrospectVerifier(
            question,
            roads,
            remembered,
            questions_hz=auth.introspect.questions_hz,
            cache_s=auth.introspect.cache_s,
            session_s=auth.introspect.session_s,
            skips_signed="jwt" in auth.verifiers,
            forwards=forwards,
        )

    def _keep_of(self, auth: Auth | None) -> None:
        """Let go of what `auth` has no use for."""
        if self._jwks is not None and (auth is None or auth.jwks.url != self._jwks.url):
            self._close(self._jwks)
            self._jwks = None
        if self._introspect is not None and (auth is None or _question(auth) != self._introspect[0]):
            for road in self._introspect[1]:
                self._close(road.asker)
            self._introspect = None

    def _close(self, asking: Jwks | Asker) -> None:
        closing: asyncio.Future[None] = asyncio.ensure_future(asking.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def key_faults(config: Config) -> list[str]:
    """What is wrong with the keys of `config`, one line each."""
    auth, faults = config.auth, []
    if auth.secret_algorithms and auth.secret:
        try:
            HmacVerifier(auth.secret, algorithms=auth.secret_algorithms)
        except ValueError as fault:
            faults.append(f"auth.secret: {fault}")
    if auth.public_key:
        named = "auth.public_key_file" if auth.public_key_file else "auth.public_key"
        try:
            keys = _fixed_keys(auth)
        except ValueError as fault:
            return [*faults, f"{named}: {fault}"]
        for name in auth.key_algorithms:
            if not auth.jwks.url and not any(name in key.algorithms for key in keys):
                faults.append(f"auth.algorithms: there is no key for {name} in {named}: take it out, or add the key")
    return faults


def _fixed_keys(auth: Auth) -> list[Key]:
    return keys_from_pem(auth.public_key)


def _road(connections: int) -> Road:
    return Road(Asker(timeout_s=INTROSPECT_TIMEOUT_S, connections=connections))


def _question(auth: Auth) -> Question:
    introspect = auth.introspect
    chosen = {
        name: introspect.chosen(name) for name in ("method", "token_in", "id", "name", "image", "expires", "rooms")
    }
    token_name = introspect.token_name
    if not token_name and chosen["token_in"] == "cookie":
        token_name = auth.cookie  # the cookie that browsers send here is the one that the application reads
    return Question(
        url=introspect.url,
        token_name=token_name or introspect.chosen("token_name"),
        authorization=introspect.authorization,
        needs_active=introspect.preset == "generic",
        **chosen,
    )
