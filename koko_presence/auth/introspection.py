"""Verifies opaque tokens, such as session ids, by a request to the application [RFC 7662].

Answers are cached by the token's SHA-256, for a minute at most and never beyond the token's end, and one request per
token is sent at a time. Without an answer the token is not accepted, and the client may retry. `VerdictCache` writes
the cached results, `Endpoint` holds the pending requests of one connection pool.

Clients can invent tokens. Therefore invalid tokens have a cache of their own, which evicts no valid one; requests about
tokens that were never valid have a rate budget; and some connections are reserved for tokens that were valid before.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import msgspec
from msgspec import Struct, structs

from .hmac_jwt import bearer
from .http_client import Answer, HttpClient, RequestFailed
from .identity import (
    FORM,
    SIGNATURE,
    Identity,
    MayQuery,
    TokenRefused,
    TooManyQueries,
    VerifierUnavailable,
    hash_of,
    unlimited,
)
from .jws import check_length, looks_signed
from .jwt_claims import check_presence, check_rooms, check_settings, check_user_id
from .profile import clean_image, clean_name
from .rate_budget import Budget
from .ttl_cache import CachedValue, TtlCache

log = logging.getLogger("koko_presence.introspect")

TIMEOUT_S = 2.0
MAX_CACHED = 20_000
MAX_QUESTIONS = 2_048  # pending requests per connection pool; any client can cause one
QUESTIONS_BURST_S = 5.0  # burst of the rate budget for unknown tokens, in seconds of its rate
GOOD_BEFORE_S = 86_400.0  # how long it is cached that a token was valid, or that a valid one was refused later
CONNECTIONS, RENEWAL_CONNECTIONS = 24, 8  # for unknown tokens, and for tokens that were valid before
UNKNOWN_TTL_S = 5.0  # how long the refusal of a token is cached
RETRY_AFTER_S = 5.0
QUERY_RETRY_S = 1.0  # for an address with too many unknown tokens, which are counted per second
# the characters of a cookie's value [RFC 6265 section 4.1.1], and so also of a Bearer token
_PRINTABLE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")
# prefixes of the cookie's name; only __Host- prevents sibling domains from setting it [RFC 6265bis section 4.1.3.2]
COOKIE_PREFIXES = ("__Host-", "__Secure-", "")

UNKNOWN_SESSION = "the application knows no such session: sign in again"
Verdict = Identity | str  # the identity of a token, or the reason of its refusal


OnVerdict = Callable[[bytes, CachedValue[Verdict]], None]


class VerdictCache:
    """The cached results for tokens, by their SHA-256: at most `limit` of each kind. Written by its verifiers only, and
    by `learn` with the results of other workers."""

    def __init__(self, limit: int = MAX_CACHED, on_verdict: OnVerdict = lambda key, verdict: None) -> None:
        """`on_verdict` is called with results that other workers need: the identity of a token, and the refusal of a
        token that was valid before. It is not called for tokens that were never valid, which clients can invent."""
        self._identities: TtlCache[bytes, Identity] = TtlCache(limit)
        self._unknown: TtlCache[bytes, str] = TtlCache(limit)
        self._good_before: TtlCache[bytes, bool] = TtlCache(limit)
        self._refused: TtlCache[bytes, bool] = TtlCache(limit)
        self._on_verdict = on_verdict

    def get(self, key: bytes, now_s: float) -> Verdict | None:
        """Return the cached result that is valid at unix second `now_s`, or None."""
        return self._identities.get(key, now_s) or self._unknown.get(key, now_s)

    def was_good(self, key: bytes, now_s: float) -> bool:
        """Return True when the token was valid at the last request about it."""
        return self._good_before.get(key, now_s) is not None

    def was_refused(self, key: bytes, now_s: float) -> bool:
        """Return True when the token was valid once and was refused at the last request about it."""
        return self._refused.get(key, now_s) is not None

    def put(self, key: bytes, verdict: CachedValue[Verdict], now_s: float) -> None:
        """Store the answer of a request of this worker."""
        if isinstance(verdict.value, Identity) or self.was_good(key, now_s):
            self._on_verdict(key, verdict)
        self._store(key, verdict, now_s)

    def learn(self, key: bytes, verdict: CachedValue[Verdict], now_s: float) -> None:
        """Store the answer of another worker's request. An identity does not replace a cached refusal of this worker,
        which may be newer."""
        if verdict.until > now_s and isinstance(verdict.value, Identity):
            if self._unknown.get(key, now_s) is None:
                self._store(key, verdict, now_s)
        elif isinstance(verdict.value, str):
            self._good_before.put(key, True, now_s + GOOD_BEFORE_S)  # otherwise the other worker had not shared it
            self._store(key, verdict, now_s)

    def _store(self, key: bytes, verdict: CachedValue[Verdict], now_s: float) -> None:
        if isinstance(verdict.value, Identity):
            self._identities.put(key, verdict.value, verdict.until)
            self._good_before.put(key, True, now_s + GOOD_BEFORE_S)
            self._refused.forget_one(key)
            self._unknown.forget_one(key)
            return
        self._unknown.put(key, verdict.value, verdict.until)
        self._identities.forget_one(key)
        if self.was_good(key, now_s):
            self._good_before.forget_one(key)
            self._refused.put(key, True, now_s + GOOD_BEFORE_S)


class Endpoint:
    """One of the two connection pools to the application, with its pending requests."""

    def __init__(self, http_client: HttpClient) -> None:
        self.http_client = http_client
        self.questions: TtlCache[bytes, Verdict] = TtlCache(0)  # caches nothing; merges equal pending requests


class Question(Struct, frozen=True, kw_only=True):
    """The form of the request about a token, and the paths of the fields in its answer: `id`, `name`, `image`,
    `expires`, `rooms`, `settings` and `presence` are names joined by dots.

    `token_in` is how the token is sent: "bearer", "cookie", "header", "form" or "json"; `token_name` is the name of the
    cookie, header or field. `authorization` is the header that authenticates this server. `needs_active`: an answer
    without `active` is a refusal [RFC 7662 section 2.2].
    """

    url: str
    method: str
    token_in: str
    token_name: str
    id: str
    name: str
    image: str
    expires: str
    rooms: str
    settings: str = ""
    presence: str = ""
    authorization: str = ""
    needs_active: bool = False

    def __repr__(self) -> str:
        return f"Question(url={self.url!r}, token_in={self.token_in!r})"


class IntrospectVerifier:
    """Verifies tokens by a request to the application, with cached answers."""

    def __init__(
        self,
        question: Question,
        endpoints: tuple[Endpoint, Endpoint],
        verdicts: VerdictCache,
        *,
        cache_s: float,
        session_s: float,
        questions_hz: float = 200.0,
        skips_signed: bool = False,
        forwards: bool = False,
    ) -> None:
        """`endpoints` are the pools for unknown tokens and for tokens that were valid before; `questions_hz` limits the
        requests about unknown ones per second. `cache_s`: seconds for which an answer is cached; `session_s`: seconds
        after which an identity expires unless the answer has an earlier end. `skips_signed`: tokens in the form of a
        JWT are refused, because another verifier reads them. `forwards`: identities carry the token as a header for the
        application's API."""
        self._question = question
        self._endpoints = endpoints
        self._budget = Budget(questions_hz, questions_hz * QUESTIONS_BURST_S)
        self._verdicts = verdicts
        self._cache_s = cache_s
        self._session_s = session_s
        self._skips_signed = skips_signed
        self._forwards = forwards
        self._is_silent = False  # the last request had no usable answer

    is_remote = True

    def was_refused(self, token: str, now_s: float) -> bool:
        """Return True when the latest answer about `token` was a refusal."""
        return self.has_refused(hash_of(token), now_s)

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        """The same for a token of which only the hash is known."""
        known = self._verdicts.get(token_hash, now_s)
        return self._verdicts.was_refused(token_hash, now_s) or isinstance(known, str)

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity | Awaitable[Identity]:
        """Return the identity of `token` at unix second `now_s`: at once when a cached answer is valid. `may_query`
        limits requests about tokens that were never valid. Errors: `TokenRefused`; from the awaitable also
        `VerifierUnavailable`."""
        check_length(token)
        if self._skips_signed and looks_signed(token):
            raise TokenRefused("it is a JWT, which auth.introspect does not check", FORM)
        if not _PRINTABLE.fullmatch(token):
            raise TokenRefused("it holds characters that no session id has", FORM)
        key = hash_of(token)
        known = self._verdicts.get(key, now_s)
        return self._query(key, token, now_s, may_query) if known is None else self._resolve(known, token)

    async def _query(self, key: bytes, token: str, now_s: float, may_query: MayQuery) -> Identity:
        known = self._verdicts.get(key, now_s)
        if known is not None:  # answered before this coroutine ran
            return self._resolve(known, token)
        was_good = self._verdicts.was_good(key, now_s)
        endpoint = self._endpoints[was_good]
        if not endpoint.questions.accepts(key, MAX_QUESTIONS):
            raise VerifierUnavailable(
                "too many tokens are waiting to be checked", RETRY_AFTER_S, is_silence=self._is_silent
            )
        is_new = not (was_good or endpoint.questions.is_pending(key))
        if is_new and not may_query():
            text = "this address has sent too many unknown tokens"
            raise TooManyQueries(text, QUERY_RETRY_S, is_silence=self._is_silent)
        if is_new and not self._budget.take(now_s):
            raise VerifierUnavailable(
                "too many tokens are waiting to be checked", RETRY_AFTER_S, is_silence=self._is_silent
            )

        async def question() -> CachedValue[Verdict]:
            verdict = await self._answer(endpoint.http_client, token, now_s)
            self._verdicts.put(key, verdict, now_s)
            return verdict

        return self._resolve(await endpoint.questions.get_or_fetch(key, now_s, question), token)

    def _resolve(self, known: Verdict, token: str) -> Identity:
        if isinstance(known, str):
            raise TokenRefused(known, SIGNATURE)
        return structs.replace(known, forward=self._forward(token)) if self._forwards else known

    async def _answer(self, http_client: HttpClient, token: str, now_s: float) -> CachedValue[Verdict]:
        question = self._question
        headers, body = _request_parts(question, token)
        try:
            if question.method == "GET":
                answer = await http_client.get(question.url, headers)
            else:
                answer = await http_client.post(question.url, headers, body)
            document = _parse_document(answer)
            self._is_silent = False
        except RequestFailed as failure:
            self._is_silent = True
            log.warning("token introspection failed", extra={"url": question.url, "why": str(failure)})
            raise VerifierUnavailable("the application gave no usable answer about it", RETRY_AFTER_S) from None
        try:
            identity = self._identity(document, now_s)
        except TokenRefused as refused:
            return CachedValue(str(refused), now_s + UNKNOWN_TTL_S)
        return CachedValue(identity, min(now_s + self._cache_s, identity.expires_at_s))

    def _identity(self, document: Any, now_s: float) -> Identity:
        question = self._question
        user_id = _at(document, question.id)
        if isinstance(user_id, int) and not isinstance(user_id, bool):
            user_id = str(user_id)
        if not user_id or not _is_active(document, question.needs_active):
            raise TokenRefused(UNKNOWN_SESSION)
        user_id = check_user_id(user_id)
        end_s = _unix(_at(document, question.expires))
        if end_s is not None and end_s <= now_s:
            raise TokenRefused("it has expired: fetch a new one")
        longest_s = now_s + self._session_s
        rooms, settings = _at(document, question.rooms), _at(document, question.settings)
        name, presence = _at(document, question.name), _at(document, question.presence)
        return Identity(
            user_id=user_id,
            name=clean_name(name, user_id),
            image=clean_image(_at(document, question.image)),
            expires_at_s=int(longest_s if end_s is None else min(longest_s, end_s)),
            rooms={} if rooms is None else check_rooms(rooms),
            settings={} if settings is None else check_settings(settings),
            presence=True if presence is None else check_presence(presence),
            issued_at_s=now_s if isinstance(name, str) else 0.0,
        )

    def _forward(self, token: str) -> tuple[tuple[str, str], ...]:
        question = self._question
        if question.token_in == "cookie":
            return (("cookie", cookies(question.token_name, token)),)
        return ((question.token_name.lower(), token),) if question.token_in == "header" else bearer(token)


def cookies(name: str, value: str) -> str:
    """Return a Cookie header with `value` under each name of `COOKIE_PREFIXES`: the application reads one of them."""
    return "; ".join(f"{prefix}{name}={value}" for prefix in COOKIE_PREFIXES)


def _request_parts(question: Question, token: str) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the request about `token`."""
    name, body = question.token_name, b""
    headers = {"authorization": question.authorization} if question.authorization else {}
    match question.token_in:
        case "bearer":
            headers["authorization"] = f"Bearer {token}"
        case "cookie":
            headers["cookie"] = cookies(name, token)
        case "header":
            headers[name] = token
        case "form":
            headers["content-type"] = "application/x-www-form-urlencoded"
            body = f"{quote_plus(name)}={quote_plus(token)}".encode()
        case _:
            headers["content-type"] = "application/json"
            body = msgspec.json.encode({name: token})
    return headers, body


def _parse_document(answer: Answer) -> Any:
    """Return the decoded answer; None for status 401 and 403 and for `null`. Errors: `RequestFailed` for any other
    status than 200, and for a body that is not an object or `null`."""
    if answer.status in (401, 403):
        return None
    if answer.status != 200:
        raise RequestFailed(f"it answers with status {answer.status}")
    try:
        document = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RequestFailed("its answer is not JSON") from None
    if document is not None and not isinstance(document, dict):
        raise RequestFailed("its answer is neither an object nor null")
    return document


def _at(document: Any, path: str) -> Any:
    """Return the value at `path`, names joined by dots; None when it is missing."""
    for name in path.split(".") if path else ("",):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _is_active(document: Any, needed: bool) -> bool:
    """Return True when `active` is true, or absent where it is not `needed` [RFC 7662 section 2.2]. "true" and 1 do not
    count as true."""
    if not isinstance(document, dict) or "active" not in document:
        return not needed
    return document["active"] is True


def _unix(value: Any) -> float | None:
    """Return a time in unix seconds, from a number of seconds, of milliseconds when it is above 1e11, or from an ISO
    8601 date. None when it is missing. Errors: `TokenRefused`."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
        return value / 1000.0 if value > 1e11 else float(value)
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise TokenRefused("its end, as given by the application, is not a valid time") from None
