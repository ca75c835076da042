"""How a table of routes becomes a JSON API on the operator port: the key, the limits, parsing, errors.

Knows nothing of what the routes do. The same table makes the OpenAPI document (openapi.py).
"""

import hmac
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from aiohttp import web

from koko_presence.protocol.messages import Wire

log = logging.getLogger("koko_presence.operator")

MAX_BODY_BYTES = 64 << 10
CALLS_HZ, CALLS_BURST = 200.0, 400.0  # by weight; a page of rooms weighs more than a look at one
GUESSES_HZ, GUESSES_BURST = 10.0, 50.0  # requests with a wrong key, or none


class ApiError(Exception):
    """An answer that is an error: `message` says what to do next."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ErrorBody(Wire, omit_defaults=False, kw_only=True):
    code: str
    message: str


class ErrorAnswer(Wire, omit_defaults=False, kw_only=True):
    """Every error: a code for programs, and a sentence that says what to do next."""

    error: ErrorBody


class NoBody(Wire, forbid_unknown_fields=True):
    """What may be sent where nothing is asked for: no field at all, since a caller that sends one expects it to
    matter."""


class Call(NamedTuple):
    """A request that has been understood; each of the three is an instance of the route's Struct."""

    path: Any
    query: Any
    body: Any


class Route(NamedTuple):
    """One operation. `path` has {names} that are fields of `path_type`; `answer` is the Struct of the answer."""

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
    """So many a second, with a burst saved up."""

    def __init__(self, hz: float, burst: float, now: float) -> None:
        self._hz, self._burst = hz, burst
        self._left, self._at = burst, now

    def take(self, weight: float, now: float) -> float:
        """Seconds to wait; 0 when it has been taken."""
        self._left = min(self._burst, self._left + (now - self._at) * self._hz)
        self._at = now
        if self._left < weight:
            return (weight - self._left) / self._hz
        self._left -= weight
        return 0.0


class Api:
    """The routes below `prefix`. `key` gives the bearer key of now, empty for none: then everything is refused."""

    def __init__(
        self,
        prefix: str,
        routes: Sequence[Route],
        key: Callable[[], str],
        open_documents: dict[str, bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_documents` are JSON by path, for everybody: they hold nothing that is not in the sources."""
        self._prefix, self._key, self._clock = prefix, key, clock
        self._documents = open_documents
        self._routes = [([part for part in route.path.split("/") if part], route) for route in routes]
        self._calls = Bucket(CALLS_HZ, CALLS_BURST, clock())
        self._guesses = Bucket(GUESSES_HZ, GUESSES_BURST, clock())

    def add_to(self, app: web.Application) -> None:
        """Answer every path below the prefix."""
        app.router.add_route("*", self._prefix + r"/{rest:[\s\S]*}", self._answer)  # a newline is no end
        app.router.add_route("*", self._prefix, self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            return await self._route(request)
        except ApiError as error:
            body = ErrorAnswer(error=ErrorBody(code=error.code, message=error.message))
            return _json(error.status, body, error.headers)
        except Exception:
            log.exception("a call of the server API failed", extra={"path": request.path[:200]})
            body = ErrorAnswer(error=ErrorBody(code="INTERNAL", message="Something went wrong here. It was logged."))
            return _json(500, body)

    async def _route(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path
        document = self._documents.get(path)
        if document is not None:
            _check_method(request.method, ["GET"])
            return web.Response(body=document, headers=_HEADERS)
        self._admit(request)
        parts = [part for part in path.split("/") if part] if not path.endswith("/") else []
        found = {route.method: (names, route) for names, route in self._routes if _matches(names, parts)}
        if not found:
            known = f"{self._prefix}/openapi.json lists what there is."
            raise ApiError(404, "NOT_FOUND", f"There is no {_shown(path)} here. {known}")
        _check_method(request.method, list(found))
        names, route = found["GET" if request.method == "HEAD" else request.method]
        self._pace(self._calls, route.weight)
        call = Call(_path_of(route, names, parts), _query_of(route, request), await _body_of(route, request))
        return _json(route.status, await route.handle(call))

    def _admit(self, request: web.Request) -> None:
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
        self._pace(self._guesses, 1.0)
        what = "This is not the key." if given else "There is no key."
        how = "Send operator.api_key of the configuration as  Authorization: Bearer KEY"
        raise ApiError(401, "UNAUTHORIZED", f"{what} {how}", WWW_Authenticate='Bearer realm="koko-presence"')

    def _pace(self, bucket: Bucket, weight: float) -> None:
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


def _shown(text: str) -> str:
    return text[:100] + ("..." if len(text) > 100 else "")


def _check_method(method: str, allowed: list[str]) -> None:
    if "GET" in allowed:
        allowed = [*allowed, "HEAD"]
    if method not in allowed:
        raise ApiError(
            405, "METHOD_NOT_ALLOWED", f"Use {' or '.join(allowed)} here, not {method}.", Allow=", ".join(allowed)
        )


def _matches(names: list[str], parts: list[str]) -> bool:
    return len(names) == len(parts) and all(
        name.startswith("{") or name == part for name, part in zip(names, parts, strict=True)
    )


def _path_of(route: Route, names: list[str], parts: list[str]) -> Any:
    if route.path_type is None:
        return None
    try:
        given = {
            name[1:-1]: unquote(part, errors="strict")
            for name, part in zip(names, parts, strict=True)
            if name.startswith("{")
        }
        return msgspec.convert(given, route.path_type)
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
        known = ", ".join(msgspec.structs.fields(route.query_type)[i].encode_name for i in range(len(_names(route))))
        raise ApiError(400, "INVALID_QUERY", f"{error}. The parameters are: {known}") from None


def _names(route: Route) -> tuple[str, ...]:
    return () if route.query_type is None else route.query_type.__struct_fields__  # type: ignore[attr-defined]


_NOT_JSON = "UNSUPPORTED_MEDIA_TYPE", "Send JSON, with the header  Content-Type: application/json"


async def _body_of(route: Route, request: web.Request) -> Any:
    if route.body_type is None and not request.can_read_body:
        return None
    is_json = request.content_type == "application/json"
    if route.body_type is not None and not is_json:
        raise ApiError(415, *_NOT_JSON)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "TOO_LARGE", f"The body is too large: {MAX_BODY_BYTES} bytes are allowed.") from None
    except (web.RequestPayloadError, ConnectionError):  # the latter: the client is gone, and reads no answer either
        raise ApiError(400, "INVALID_BODY", "The body cannot be read.") from None
    if route.body_type is None and not body.strip():
        return None
    if not is_json:
        raise ApiError(415, *_NOT_JSON)
    try:
        return msgspec.json.decode(body, type=route.body_type or NoBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "INVALID_BODY", f"The body is not what is needed: {error}") from None
