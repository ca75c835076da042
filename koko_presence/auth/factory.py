"""Makes the token verifiers of a worker from its configuration, at the start and at each reload.

`Verifiers` is the only writer of its state. It keeps cached data over a reload while it applies: the keys of an
unchanged JWKS address, the answers of an unchanged introspection.

Each worker sends its own requests and shares the answers with the other workers, and by way of the supervisor with
workers that start later. The supervisor sends no requests itself, so that it cannot hang in one.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from koko_presence.admin.upstream_metrics import Upstreams
from koko_presence.config.schema import Auth, Config

from .hmac_jwt import HmacVerifier
from .http_client import HttpClient
from .identity import Identity, TokenVerifier
from .introspection import (
    CONNECTIONS,
    GOOD_BEFORE_S,
    RENEWAL_CONNECTIONS,
    Endpoint,
    IntrospectVerifier,
    Question,
    Verdict,
    VerdictCache,
)
from .introspection import TIMEOUT_S as INTROSPECT_TIMEOUT_S
from .jwks import TIMEOUT_S as JWKS_TIMEOUT_S
from .jwks import Jwks
from .jwt_claims import ClaimRules
from .public_key_jwt import FixedKeys, KeyVerifier
from .public_keys import Key, keys_from_pem
from .shared_cache import CacheEntry
from .ttl_cache import CachedValue
from .verifier_chain import VerifierChain

SHARE_EVERY_S = 0.1  # answers of this time are sent together
NO_END = float("inf")

Share = Callable[[list[CacheEntry]], None]


class SharedKeys(Struct, array_like=True):
    """The keys of one JWKS address, as requested at monotonic second `read_at`."""

    body: bytes
    read_at: float
    withdrawn: list[str]


class SharedAnswer(Struct, array_like=True):
    """The identity of a token, or the reason of its refusal, valid until unix second `until_s`."""

    identity: Identity | None
    refusal: str
    until_s: float


_encode = msgspec.msgpack.Encoder().encode
_decode_keys = msgspec.msgpack.Decoder(SharedKeys).decode
_decode_answer = msgspec.msgpack.Decoder(SharedAnswer).decode


class Verifiers:
    """The verifiers of one worker. It is the only writer of its state, on the worker's event loop."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        upstreams: Upstreams | None = None,
        share: Share | None = None,
    ) -> None:
        """`clock` returns monotonic seconds; requests are counted in `upstreams`. `share` sends entries to the other
        workers, where `learn` takes them; None: there are no other workers."""
        self._clock = clock
        self._upstreams = upstreams or Upstreams()
        self._share = share
        self._unshared: list[CacheEntry] = []
        self._sharing: asyncio.TimerHandle | None = None
        self._jwks: Jwks | None = None
        self._introspect: tuple[Question, tuple[Endpoint, Endpoint], VerdictCache] | None = None
        self._closing: set[asyncio.Future[None]] = set()

    def make(self, config: Config) -> TokenVerifier:
        """Return one verifier for `config`; verifiers made before must not be used any more. Errors: ValueError for an
        unusable key, which `key_faults` reports beforehand."""
        auth, forwards = config.auth, config.access.mode == "trpc"
        self._close_changed(auth)
        made: list[TokenVerifier] = []
        for name in dict.fromkeys(auth.verifiers):
            made += self._jwt(auth, forwards) if name == "jwt" else [self._introspection(auth, forwards)]
        return made[0] if len(made) == 1 else VerifierChain(made)

    def start(self) -> None:
        """Start the periodic refresh of the JWKS keys."""
        if self._jwks is not None:
            self._jwks.start()

    def learn(self, entries: Sequence[CacheEntry], now_s: float) -> None:
        """Store entries of another worker: keys of the same JWKS address, answers of the same introspection. `now_s` is
        in unix seconds. Other entries are ignored."""
        for entry in entries:
            if entry.kind == "keys":
                if self._jwks is not None and entry.key == self._jwks.url.encode():
                    keys = _decode_keys(entry.value)
                    self._jwks.learn(keys.body, keys.read_at, keys.withdrawn)
            elif self._introspect is not None:
                question, _, verdicts = self._introspect
                source = _source(question)
                if entry.key.startswith(source):
                    answer = _decode_answer(entry.value)
                    verdict: Verdict = answer.refusal if answer.identity is None else answer.identity
                    verdicts.learn(entry.key[len(source) :], CachedValue(verdict, answer.until_s), now_s)

    async def close(self) -> None:
        """Cancel all requests and close their connections."""
        if self._sharing is not None:
            self._sharing.cancel()
        self._close_changed(None)
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
                http_client = HttpClient(timeout_s=JWKS_TIMEOUT_S, upstream=self._upstreams["jwks"])
                self._jwks = Jwks(auth.jwks.url, http_client, self._clock, self._on_keys(auth.jwks.url))
            made.append(KeyVerifier(self._jwks, auth.key_algorithms, rules, forwards=forwards))
        return made

    def _introspection(self, auth: Auth, forwards: bool) -> TokenVerifier:
        if self._introspect is None:
            question = _question(auth)
            endpoints = (self._endpoint(CONNECTIONS), self._endpoint(RENEWAL_CONNECTIONS))
            self._introspect = (question, endpoints, VerdictCache(on_verdict=self._on_verdict(_source(question))))
        question, endpoints, verdicts = self._introspect
        return IntrospectVerifier(
            question,
            endpoints,
            verdicts,
            questions_hz=auth.introspect.questions_hz,
            cache_s=auth.introspect.cache_s,
            session_s=auth.introspect.session_s,
            skips_signed="jwt" in auth.verifiers,
            forwards=forwards,
        )

    def _endpoint(self, connections: int) -> Endpoint:
        upstream = self._upstreams["introspect"]
        return Endpoint(HttpClient(timeout_s=INTROSPECT_TIMEOUT_S, connections=connections, upstream=upstream))

    # --- answers for other workers ----------------------------------------------------------------------------------

    def _on_keys(self, url: str) -> Callable[[bytes, float, Sequence[str]], None]:
        def on_read(body: bytes, read_at: float, withdrawn: Sequence[str]) -> None:
            keys = SharedKeys(body=body, read_at=read_at, withdrawn=list(withdrawn))
            self._pass_on(CacheEntry("keys", url.encode(), NO_END, _encode(keys)))

        return on_read

    def _on_verdict(self, source: bytes) -> Callable[[bytes, CachedValue[Verdict]], None]:
        def on_verdict(key: bytes, verdict: CachedValue[Verdict]) -> None:
            if isinstance(verdict.value, Identity):
                answer = SharedAnswer(identity=verdict.value, refusal="", until_s=verdict.until)
                self._pass_on(CacheEntry("answer", source + key, verdict.until, _encode(answer)))
            else:
                answer = SharedAnswer(identity=None, refusal=verdict.value, until_s=verdict.until)
                self._pass_on(CacheEntry("refusal", source + key, verdict.until + GOOD_BEFORE_S, _encode(answer)))

        return on_verdict

    def _pass_on(self, entry: CacheEntry) -> None:
        if self._share is None:
            return
        self._unshared.append(entry)
        if self._sharing is None:
            self._sharing = asyncio.get_running_loop().call_later(SHARE_EVERY_S, self._pass_on_now)

    def _pass_on_now(self) -> None:
        entries, self._unshared, self._sharing = self._unshared, [], None
        if self._share is not None:
            self._share(entries)

    def _close_changed(self, auth: Auth | None) -> None:
        """Close and drop the clients and cached data that `auth` does not use."""
        if self._jwks is not None and (auth is None or auth.jwks.url != self._jwks.url):
            self._close(self._jwks)
            self._jwks = None
        if self._introspect is not None and (auth is None or _question(auth) != self._introspect[0]):
            for endpoint in self._introspect[1]:
                self._close(endpoint.http_client)
            self._introspect = None

    def _close(self, source: Jwks | HttpClient) -> None:
        closing: asyncio.Future[None] = asyncio.ensure_future(source.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def key_faults(config: Config) -> list[str]:
    """Return the faults of the keys of `config`, one line each."""
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


def _source(question: Question) -> bytes:
    """Return 16 bytes that identify an introspection request. They are a hash, because the request holds secrets."""
    return hashlib.sha256(_encode(question)).digest()[:16]


def _question(auth: Auth) -> Question:
    introspect = auth.introspect
    chosen = {
        name: introspect.chosen(name)
        for name in ("method", "token_in", "id", "name", "image", "expires", "rooms", "settings", "presence")
    }
    token_name = introspect.token_name
    if not token_name and chosen["token_in"] == "cookie":
        token_name = auth.cookie  # browsers send the application's own cookie
    return Question(
        url=introspect.url,
        token_name=token_name or introspect.chosen("token_name"),
        authorization=introspect.authorization,
        needs_active=introspect.preset == "generic",
        **chosen,
    )
