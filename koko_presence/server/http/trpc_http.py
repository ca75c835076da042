"""Handles requests to `/trpc/presence.<procedure>`: checks the origin, authenticates the caller and runs the calls.

Holds no state of its own. `trpc` parses requests and builds responses; `rpc` executes procedures. The calls of one
request run concurrently, and the response is sent when all have ended. A request for the subscription is answered by an
event stream (`trpc_stream`), refusals included: an EventSource cannot read any other answer.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from aiohttp import web
from msgspec import UNSET

from koko_presence.auth.cookies import OTHER_PAGE, SessionCookie, find_cookie
from koko_presence.auth.http_auth import HttpAuthenticator
from koko_presence.auth.identity import Identity, MayQuery, TokenRefused, TooManyQueries, VerifierUnavailable, unlimited
from koko_presence.protocol.errors import PresenceError
from koko_presence.server.acceptor import TOO_MANY_OF_ADDRESS
from koko_presence.server.address_limits import FREE, RETRY_CONNECTION_S, AddressUse
from koko_presence.server.keepalive_upgrade import given_away
from koko_presence.server.origins import Origins, Values, refusal
from koko_presence.server.refused_origins import RefusedOrigins
from koko_presence.server.rpc import NO_MEMORY, Caller, Procedures

from . import sse, trpc
from .trpc import Call, Input, Outcome, ProcedureKind, RawRequest, Request, TrpcError
from .trpc_events import read_filter
from .trpc_stream import RETRY_LATER_S, RETRY_REFUSED_S, EventStreams, StreamRequest

log = logging.getLogger("koko_presence.trpc")

PATH = "/trpc/"
SESSION_HEADER = "x-presence-session"
RESUME_HEADER = "x-presence-resume"
EVENTS_PATH = trpc.PREFIX + trpc.EVENTS
BODY_TIMEOUT_S = 10.0
# Parameters in which clients of other servers send a token. They would be in every log on the way [A8].
TOKEN_PARAMETERS = ("token", "access_token", "authorization", "resumeToken")
TOKEN_IN_ADDRESS = (
    "A token in the address is not accepted, since addresses are logged: send the header Authorization: Bearer TOKEN, "
    "by an EventSource that is built on fetch, or sign in with the cookie."
)
KINDS: dict[str, ProcedureKind] = {**Procedures.KINDS, trpc.EVENTS: "subscription"}
PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": (
        f"content-type, authorization, trpc-accept, cache-control, last-event-id, {SESSION_HEADER}, {RESUME_HEADER}"
    ),
    "access-control-max-age": "7200",
}


def unauthorized(refused: TokenRefused) -> TrpcError:
    """The tRPC error of a missing or refused token, or of one that cannot be checked now."""
    if isinstance(refused, TooManyQueries):
        return trpc.from_presence(PresenceError("RATE_LIMITED", refused.sentence, retry_after_s=refused.retry_after_s))
    if isinstance(refused, VerifierUnavailable):
        return trpc.from_presence(PresenceError("UNAVAILABLE", refused.sentence, retry_after_s=refused.retry_after_s))
    return trpc.from_presence(PresenceError("UNAUTHENTICATED", f"The token was refused: {refused.sentence}"))


class CanCall(Protocol):
    """`Procedures`, or an object that handles some of the calls before them."""

    async def call(self, caller: Caller, name: str, input: Any) -> Any:
        """Errors: PresenceError."""
        ...


class TrpcHttp:
    """tRPC over HTTP. `origins` returns the origins that may call, besides the server's own; `unix_s` the time in
    seconds since 1970."""

    def __init__(
        self,
        procedures: Procedures,
        authenticator: HttpAuthenticator,
        origins: Callable[[], Origins],
        unix_s: Callable[[], float],
        refused_origins: RefusedOrigins,
    ) -> None:
        self._refused_origins = refused_origins
        self._procedures = procedures
        self._authenticator = authenticator
        self._origins = origins
        self._unix_s = unix_s
        self._streams: EventStreams | None = None

    def add_streams(self, streams: EventStreams) -> None:
        """Answer subscriptions by event streams."""
        self._streams = streams

    async def handle(
        self, request: web.BaseRequest, may_query: MayQuery = unlimited, use: AddressUse = FREE
    ) -> web.StreamResponse:
        """Answer one request below /trpc/; `may_query` counts remote checks of tokens against the limits of its
        address, `use` is how its connection counts for it."""
        origin = request.headers.getall("origin", [])
        if not self._origins().allow(values_of(request)):
            self._refused_origins.note(origin)
            error = TrpcError("FORBIDDEN", refusal(values_of(request)))
            return _response(trpc.refuse(error), {})
        cors = {"access-control-allow-origin": origin[0], "access-control-allow-credentials": "true"} if origin else {}
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={**cors, **(PREFLIGHT if origin else {}), "vary": "Origin"})
        if request.method == "HEAD":
            return web.Response(status=204, headers=cors)
        if origin:
            cors["access-control-expose-headers"] = "retry-after"
        if self._streams is not None and request.method == "GET" and request.path == PATH + EVENTS_PATH:
            return self._stream(request, self._streams, use, cors)
        try:
            raw_request = await self._read(request)
            calls = Request(raw_request, KINDS)
        except TrpcError as error:
            response = _response(trpc.refuse(error), cors)
            if error.code in ("PAYLOAD_TOO_LARGE", "TIMEOUT"):
                response.force_close()  # the rest of the body is not read
            return response
        outcomes = await self._run(request, calls, may_query)
        return _response(trpc.answer(raw_request, calls, outcomes), cors)

    def _stream(
        self, request: web.BaseRequest, streams: EventStreams, use: AddressUse, cors: Mapping[str, str]
    ) -> web.Response:
        """Answer a request for the subscription. Returns the response of a refusal only."""
        headers, wrapped = {"vary": "trpc-accept, accept, Origin", **cors}, False
        try:
            given = _stream_input(request)
            wrapped = given.wrapped
            stream_request = StreamRequest(
                room_id=read_filter(given).room_id,
                wrapped=wrapped,
                token=_bearer(request.headers.getall("authorization", [])),
                cookie=self._cookie(request),
                resume_token=clean(request.headers.get(RESUME_HEADER, request.headers.get("last-event-id", ""))),
                wants_ids=RESUME_HEADER not in request.headers,
                headers=tuple(headers.items()),
            )
            if streams.refuses_new_clients:
                raise trpc.from_presence(PresenceError("UNAVAILABLE", NO_MEMORY, retry_after_s=RETRY_CONNECTION_S))
            counted = use.begin_websocket(values_of(request))
            if counted is None:
                raise trpc.from_presence(
                    PresenceError("UNAVAILABLE", TOO_MANY_OF_ADDRESS, retry_after_s=RETRY_CONNECTION_S)
                )
        except TrpcError as error:
            wait_s = RETRY_LATER_S if error.retry_after_s is None else error.retry_after_s
            retry = sse.retry(wait_s if error.code == "SERVICE_UNAVAILABLE" else RETRY_REFUSED_S)
            body = streams.beginning + sse.failed(trpc.wrap(error.shape(EVENTS_PATH), wrapped)) + retry
            return web.Response(headers={**dict(sse.HEADERS), **headers}, body=body)
        streams.open(request, stream_request, counted)
        raise given_away()

    def _cookie(self, request: web.BaseRequest) -> SessionCookie | str | None:
        """The application's cookie of a request without an Authorization header, or why none counts; None when cookies
        are off."""
        if not self._authenticator.cookie:
            return None
        if not self._cookie_counts(request):
            return OTHER_PAGE
        try:
            return find_cookie(request.headers.getall("cookie", []), self._authenticator.cookie)
        except TokenRefused as refused:
            return str(refused)

    async def _read(self, request: web.BaseRequest) -> RawRequest:
        content_type, query_input = request.headers.get("content-type"), request.query.get("input")
        return RawRequest(
            method=request.method,
            paths=clean(request.path[len(PATH) :]),
            batch=request.query.get("batch") == "1",
            query_input=None if query_input is None else clean(query_input),
            body=b"" if request.method == "GET" else await _body(request),
            content_type=None if content_type is None else clean(content_type),
            jsonl=request.headers.get("trpc-accept") == "application/jsonl",
        )

    async def _run(self, request: web.BaseRequest, calls: Request, may_query: MayQuery) -> list[Outcome]:
        """Execute all calls concurrently, each once, and return their outcomes in order."""
        if all(call.refusal is not None for call in calls.calls):
            return [call.refusal for call in calls.calls]
        try:
            answer = self._authenticator.identify(
                request.headers,
                origin_allowed=self._cookie_counts(request),
                now_s=self._unix_s(),
                may_query=may_query,
            )
            identity = answer if isinstance(answer, Identity) else await answer
        except TokenRefused as refused:
            error = unauthorized(refused)
            return [call.refusal or error for call in calls.calls]
        except Exception:
            log.exception("authentication of a call failed")
            return [call.refusal or trpc.INTERNAL for call in calls.calls]
        token = _bearer(request.headers.getall("authorization", []))
        cookie = None if token else self._cookie(request)
        caller = Caller(
            identity,
            clean(request.headers.get(SESSION_HEADER, "")),
            token,
            cookie if isinstance(cookie, SessionCookie) else None,
        )
        return list(await asyncio.gather(*(self._try(caller, calls, index) for index in range(len(calls.calls)))))

    def _cookie_counts(self, request: web.BaseRequest) -> bool:
        """True when a cookie may authenticate this request. Browsers send no Origin with a GET of the server's own
        page, nor with one of another page that cannot read the response; such requests have Sec-Fetch-Site instead."""
        if "origin" in request.headers:
            return self._origins().allow_cookie(values_of(request))
        return request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")

    async def _try(self, caller: Caller, calls: Request, index: int) -> Outcome:
        call = calls.calls[index]
        if call.refusal is not None:
            return call.refusal
        try:
            value = calls.input(index)
        except TrpcError as error:
            return error
        return await outcome_of(self._procedures, caller, call, value)


async def outcome_of(procedures: CanCall, caller: Caller, call: Call, value: Any) -> Outcome:
    """Execute a call and return its result or error. An unexpected exception is logged and answered with INTERNAL."""
    try:
        data = await procedures.call(caller, call.name, value)
    except PresenceError as error:
        return trpc.from_presence(error)
    except Exception:
        log.exception("procedure failed", extra={"procedure": call.name})
        return trpc.INTERNAL
    return UNSET if data is None else data


def _stream_input(request: web.BaseRequest) -> Input:
    """The input of a request for the subscription. Errors: TrpcError, also for a token in the address."""
    query = request.query
    if query.get("batch") == "1":
        raise TrpcError("BAD_REQUEST", "Cannot batch subscription calls")
    try:
        params = msgspec.json.decode(query.get("connectionParams", "null").encode(errors="replace"))
    except (msgspec.DecodeError, RecursionError):
        params = None
    names = {*query.keys(), *(params if isinstance(params, dict) else ())}
    if any(name in names for name in TOKEN_PARAMETERS):
        raise trpc.from_presence(PresenceError("UNAUTHENTICATED", TOKEN_IN_ADDRESS))
    text = query.get("input", "")
    return trpc.unwrap(trpc.read_json(clean(text))) if text else trpc.NOTHING


def _bearer(values: list[str]) -> str:
    """The token of the header Authorization, "" without the header. Errors: TrpcError UNAUTHORIZED."""
    if not values:
        return ""
    scheme, _, token = values[0].strip().partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        refused = "The token was refused: the Authorization header is not `Bearer` and a token."
        raise trpc.from_presence(PresenceError("UNAUTHENTICATED", refused))
    return clean(token.strip())


def clean(text: str) -> str:
    """Replace lone surrogates, by which aiohttp represents bytes that are not UTF-8 and which JSON cannot encode."""
    return text.encode(errors="replace").decode()


def values_of(request: web.BaseRequest) -> Values:
    """A function that returns the values of a header of `request` by its name."""
    return lambda name: request.headers.getall(name, [])


async def _body(request: web.BaseRequest) -> bytes:
    """Read the whole body. Errors: TrpcError PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, TIMEOUT, BAD_REQUEST."""
    too_large = TrpcError("PAYLOAD_TOO_LARGE", f"A request may have {trpc.MAX_BODY_BYTES} bytes.", reason="TOO_LARGE")
    if (request.content_length or 0) > trpc.MAX_BODY_BYTES:
        raise too_large
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise TrpcError("UNSUPPORTED_MEDIA_TYPE", "Send the body as it is, without a content-encoding.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > trpc.MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise TrpcError("TIMEOUT", "The request's body took too long.") from None
    except (web.RequestPayloadError, ConnectionError):  # the latter: the connection is lost, the response is not sent
        raise TrpcError("BAD_REQUEST", "The request's body cannot be read.") from None
    return bytes(body)


def _response(answer: trpc.Answer, cors: Mapping[str, str]) -> web.Response:
    return web.Response(status=answer.status, headers={**answer.headers, **cors}, body=answer.body)
