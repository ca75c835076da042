"""Serve a table of routes as a JSON API on the operator port: key, rate limits, parsing and errors.

aiohttp's router matches paths and methods. Two middlewares of a sub-application hold what all routes share: errors as
JSON, and the key. The same table makes the OpenAPI document (openapi.py).
"""

import asyncio
import hmac
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from aiohttp import web

from koko_presence.protocol.models import Wire

log = logging.getLogger("koko_presence.operator")

MAX_BODY_BYTES = 64 << 10
BODY_TIMEOUT_S = 10.0
CALLS_HZ, CALLS_BURST = 200.0, 400.0  # sum of the routes' weights
GUESSES_HZ, GUESSES_BURST = 10.0, 50.0  # requests with a wrong key, or without a key

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """An error response. `message` says what the caller can do; names of `headers` have `_` for `-`."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ErrorBody(Wire, omit_defaults=False, kw_only=True):
    code: str
    message: str


class ErrorAnswer(Wire, omit_defaults=False, kw_only=True):
    """Body of every error response: a code for programs, and a message that says what the caller can do."""

    error: ErrorBody


class NoBody(Wire, forbid_unknown_fields=True):
    """Body of a request that takes none: an empty object. A field is an error, since it would have no effect."""


class Call(NamedTuple):
    """A decoded request. Each part is an instance of the route's Struct for it, or None where the route has none."""

    path: Any
    query: Any
    body: Any


class Route(NamedTuple):
    """One operation. The {names} in `path` are fields of `path_type`; `answer` is the Struct of the response body,
    `weight` what a call takes of CALLS_HZ, `errors` the statuses that only this operation gives."""

    method: str
    path: str
    name: str
    summary: str
    handle: Callable[[Call], Awaitable[Any]]
    answer: type
    path_type: type | None = None
    query_type: type | None = None
    body_type: type | None = None
    status: int = 200
    weight: float = 1.0
    errors: tuple[int, ...] = ()
    description: str = ""


class Bucket:
    """A token bucket: `hz` tokens a second, of which at most `burst` are saved up. Times are monotonic seconds."""

    def __init__(self, hz: float, burst: float, now: float) -> None:
        self._hz, self._burst = hz, burst
        self._left, self._at = burst, now

    def take(self, weight: float, now: float) -> float:
        """Take `weight` tokens and return 0, or take none and return the seconds until they are there."""
        self._left = min(self._burst, self._left + (now - self._at) * self._hz)
        self._at = now
        if self._left < weight:
            return (weight - self._left) / self._hz
        self._left -= weight
        return 0.0


class Api:
    """The routes below `prefix`. `key` returns the current bearer key; while it is empty, every call is refused."""

    def __init__(
        self,
        prefix: str,
        routes: Sequence[Route],
        key: Callable[[], str],
        open_documents: dict[str, bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_documents` are JSON documents by path. They are served without a key, so they must hold nothing that
        is not public. `clock` returns monotonic seconds."""
        self._prefix, self._key, self._clock = prefix, key, clock
        self._documents = open_documents
        self._routes = routes
        self._calls = Bucket(CALLS_HZ, CALLS_BURST, clock())
        self._guesses = Bucket(GUESSES_HZ, GUESSES_BURST, clock())

    def add_to(self, app: web.Application) -> None:
        """Serve every path below the prefix in `app`, which has not been started yet."""
        below = web.Application(middlewares=[self._errors_as_json, self._check_key])
        for path, document in self._documents.items():
            below.router.add_get(path.removeprefix(self._prefix), partial(_give_document, document))
        for route in self._routes:
            # aiohttp matches the decoded path, and its own pattern for a name excludes braces
            path = route.path.removeprefix(self._prefix).replace("}", ":[^/]+}")
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                below.router.add_route(method, path, partial(self._answer, route))
        app.add_subapp(self._prefix, below)

    async def _answer(self, route: Route, request: web.Request) -> web.Response:
        self._limit_rate(self._calls, route.weight)
        call = Call(_path_of(route, request), _query_of(route, request), await _body_of(route, request))
        return _json(route.status, await route.handle(call))

    @web.middleware
    async def _errors_as_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer with an ErrorAnswer for each exception: our own, aiohttp's for a wrong path, method or length, and
        faults of a handler, which are logged."""
        try:
            return await handler(request)
        except ApiError as error:
            return _error(error)
        except web.HTTPNotFound:
            known = f"{self._prefix}/openapi.json lists what there is."
            return _error(ApiError(404, "NOT_FOUND", f"There is no {_shown(request.rel_url.raw_path)} here. {known}"))
        except web.HTTPMethodNotAllowed as error:
            allowed = sorted(error.allowed_methods)
            message = f"Use {' or '.join(allowed)} here, not {request.method}."
            return _error(ApiError(405, "METHOD_NOT_ALLOWED", message, Allow=", ".join(allowed)))
        except web.HTTPRequestEntityTooLarge:
            message = f"The body is too large: {MAX_BODY_BYTES} bytes are allowed."
            return _error(ApiError(413, "TOO_LARGE", message))
        except Exception:
            log.exception("a call of the server API failed", extra={"path": request.path[:200]})
            return _error(ApiError(500, "INTERNAL", "Something went wrong here. It was logged."))

    @web.middleware
    async def _check_key(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Require the bearer key for all but the open documents, also where the router finds no route.

        Errors: ApiError 401, 403, 429."""
        if request.path not in self._documents:
            self._require_key(request)
        return await handler(request)

    def _require_key(self, request: web.Request) -> None:
        key = self._key()
        if not key:
            raise ApiError(
                403,
                "API_OFF",
                "The server API is off, since there is no key. Put one of your own into operator.api_key (or the file "
                "operator.api_key_file names), reload, and send it as  Authorization: Bearer KEY",
            )
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(errors="replace"), key.encode()):
            return
        self._limit_rate(self._guesses, 1.0)
        what = "This is not the key." if given else "There is no key."
        how = "Send operator.api_key of the configuration as  Authorization: Bearer KEY"
        raise ApiError(401, "UNAUTHORIZED", f"{what} {how}", WWW_Authenticate='Bearer realm="koko-presence"')

    def _limit_rate(self, bucket: Bucket, weight: float) -> None:
        wait_s = bucket.take(weight, self._clock())
        if wait_s:
            seconds = math.ceil(wait_s)
            raise ApiError(429, "RATE_LIMITED", f"Too many calls. Wait {seconds} s.", Retry_After=str(seconds))


_HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), headers=_HEADERS | (headers or {}))


def _error(error: ApiError) -> web.Response:
    return _json(error.status, ErrorAnswer(error=ErrorBody(code=error.code, message=error.message)), error.headers)


async def _give_document(document: bytes, request: web.Request) -> web.Response:
    return web.Response(body=document, headers=_HEADERS)


def _shown(text: str) -> str:
    return text[:100] + ("..." if len(text) > 100 else "")


def _path_of(route: Route, request: web.Request) -> Any:
    if route.path_type is None:
        return None
    try:
        for part in request.rel_url.raw_path.split("/"):
            unquote(part, errors="strict")  # aiohttp leaves what is not UTF-8 percent-encoded in match_info
        return msgspec.convert(dict(request.match_info), route.path_type)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ApiError(400, "INVALID_PATH", f"The address is wrong: {error}") from None


def _query_of(route: Route, request: web.Request) -> Any:
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise ApiError(400, "INVALID_QUERY", f"{_shown(name)} is given more than once. Give it once.")
        given[name] = value
    if route.query_type is None:
        if given:
            raise ApiError(400, "INVALID_QUERY", f"{_shown(next(iter(given)))} is unknown: this takes no parameters.")
        return None
    try:
        return msgspec.convert(given, route.query_type, strict=False)
    except msgspec.ValidationError as error:
        raise ApiError(400, "INVALID_QUERY", f"{error}. The parameters are: {_fields(route.query_type)}") from None


def _fields(kind: type) -> str:
    return ", ".join(field.encode_name for field in msgspec.structs.fields(kind))


_NOT_JSON = "UNSUPPORTED_MEDIA_TYPE", "Send JSON, with the header  Content-Type: application/json"
_ENCODED = "UNSUPPORTED_MEDIA_TYPE", "Send the body as it is: compressed ones are not read. Leave Content-Encoding out."


async def _body_of(route: Route, request: web.Request) -> Any:
    if route.body_type is None and not request.can_read_body:
        return None
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(415, *_ENCODED, Accept_Encoding="identity")  # [RFC 9110 section 15.5.16]
    is_json = request.content_type == "application/json"
    if route.body_type is not None and not is_json:
        raise ApiError(415, *_NOT_JSON)
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)  # before the body is sent
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
    except TimeoutError:
        raise ApiError(
            408, "TIMEOUT", f"The body has not arrived within {BODY_TIMEOUT_S:g} s. Is Content-Length right?"
        ) from None
    except (web.RequestPayloadError, ConnectionError):  # ConnectionError: the client has closed, and reads no response
        raise ApiError(400, "INVALID_BODY", "The body cannot be read.") from None
    if route.body_type is None and not body.strip():
        return None
    if not is_json:
        raise ApiError(415, *_NOT_JSON)
    try:
        decoded: Any = msgspec.json.decode(body, type=route.body_type or NoBody)
        _EACH_ONCE.decode(body.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        charset = (request.charset or "utf-8").lower()
        hint = "" if charset in ("utf-8", "us-ascii") else f". JSON is read as UTF-8, not as {_shown(charset)}"
        if isinstance(error, msgspec.ValidationError) and route.body_type is not None:
            hint = f". The fields are: {_fields(route.body_type)}"
        raise ApiError(400, "INVALID_BODY", f"The body is not what is needed: {error}{hint}") from None
    return decoded


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    """Errors: ApiError for an object with a key that it has twice, of which msgspec takes the last one."""
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise ApiError(400, "INVALID_BODY", f"{_shown(name)!r} stands more than once in an object. Give it once.")
        names.add(name)


# digits are not converted: a number may have more than Python's limit for integers
_EACH_ONCE = json.JSONDecoder(object_pairs_hook=_each_once, parse_int=str, parse_float=str)
