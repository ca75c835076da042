"""Answers a worker's HTTP requests: health check, browser SDK, demo page, development tokens, and the dispatch to tRPC.

Runs on aiohttp's low-level server. Routes are exact paths and static files; `HttpSide` writes both tables before the
server starts. Requests begin in the order received (`RequestScheduler`), after the checks of rate, head size and host
name.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from aiohttp import HttpVersion11, web

from koko_presence.admin.http_connection import JsonErrors
from koko_presence.config.host_names import is_own
from koko_presence.server.address_limits import FREE, RETRY_RATE_S, AddressUse
from koko_presence.server.handshake import UPGRADE_REQUIRED
from koko_presence.server.keepalive_upgrade import (
    HEAD_TOO_LARGE,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    given_away,
    wants_websocket,
)
from koko_presence.server.origins import Origins, Values, is_origin, of_page, refusal
from koko_presence.server.refused_origins import RefusedOrigins
from koko_presence.web.hashed_files import current_path, hashed_files
from koko_presence.web.static_files import StaticFile, static_files

from . import trpc, trpc_http
from .request_scheduler import RequestScheduler
from .trpc_http import TrpcHttp, values_of

Handler = Callable[[web.BaseRequest], web.Response]

# No inline code and no foreign sources: bounds the effect of names and images in the demo [reliability reference, XSS].
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: https:; "
    "media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "no-referrer"}

# The SDK contains nothing secret or personal, so pages of any origin may load it. They may read as well why a WebSocket
# was refused, which a browser hides from them.
OPEN_TO_ALL = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}


MAX_LINE_BYTES = 16 * 1024  # for batches of queries in the request line; the acceptor limits the head to the same


class HttpConnection(JsonErrors):
    """A connection of the public port, with its `address_use`, and a limit of MAX_HEAD_BYTES for a head that is not
    complete: aiohttp limits the length and the number of a head's lines, but not their sum."""

    __slots__ = ("_head_bytes", "_heads", "address_use", "body")

    head_too_large = HEAD_TOO_LARGE

    def __init__(self, server: web.Server, use: AddressUse, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.address_use = use
        self.body: Any = None  # of the last request that has begun
        self._heads = 0  # number of complete heads
        self._head_bytes = 0  # received since the last complete head

    def data_received(self, data: bytes) -> None:
        """Pass received bytes to aiohttp, and close the connection with 431 when the head exceeds its limit."""
        super().data_received(data)
        if self._heads != self._request_count or self._in_body:
            self._heads, self._head_bytes = self._request_count, 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and self.transport is not None:
            if self._waiter is not None:  # no response is being written
                self.transport.write(_TOO_LARGE)
            self.force_close()

    def error_body(self, code: str, message: str) -> object:
        """The body of an error response on this port, which has no codes."""
        return {"error": message}

    @property
    def _in_body(self) -> bool:
        """True when received bytes belong to the body of a request."""
        body = self._messages[-1][1] if self._messages else self.body
        return body is not None and not body.is_eof()


BAD_WHY = (
    "`why` is the origin of the page that cannot connect, such as https://app.example.com; it is empty without one."
)
STOPPING = "The server is stopping. Connect again in a moment."
_TOO_LARGE = (
    f"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n"
    f"Content-Length: {len(HEAD_TOO_LARGE)}\r\nConnection: close\r\n\r\n{HEAD_TOO_LARGE}"
).encode()


class Request(web.BaseRequest):
    """A request that is handled once it is complete, even when its connection is lost before it begins: the last call
    of a page that is closed."""

    def _cancel(self, exc: BaseException) -> None:
        """Cancel the request when its connection is lost, unless its body is complete."""
        if not self._payload.is_eof():
            super()._cancel(exc)


class HttpServer(web.Server):
    """Makes an `HttpConnection` for each connection; idle connections are closed after `keepalive_s` seconds."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[Any]], keepalive_s: float = 75.0) -> None:
        super().__init__(handler)
        self.keepalive_s = keepalive_s

    def _make_request(
        self, message: Any, payload: Any, protocol: web.RequestHandler, writer: Any, task: Any
    ) -> web.BaseRequest:
        cast(HttpConnection, protocol).body = payload
        return Request(message, payload, protocol, writer, task, self._loop)

    def __call__(self, use: AddressUse = FREE) -> HttpConnection:
        return HttpConnection(
            self,
            use,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=self.keepalive_s,
            tcp_keepalive=False,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,  # more than a token of 8192 characters after "Bearer "
            auto_decompress=False,
        )


@cache
def sdk_files(folder: Path, minified: Path, *, is_readable: bool = False) -> dict[str, StaticFile]:
    """The browser SDK's files, read at the first call in this process or in the process that it was forked from. Files
    in `minified` take the place of those of the same name, unless `is_readable`; they are also served at hashed
    addresses, which `/sdk/manifest.json` names."""
    files = static_files(folder, "/sdk", OPEN_TO_ALL, PAGE_HEADERS)
    if not is_readable:
        files |= static_files(minified, "/sdk", OPEN_TO_ALL, PAGE_HEADERS)
    return files | hashed_files(minified, "/sdk", OPEN_TO_ALL)


@cache
def demo_files(folder: Path) -> dict[str, StaticFile]:
    """The demo page's files, read like `sdk_files`."""
    return static_files(folder, "/demo", page_headers=PAGE_HEADERS)


class WebSocketSide(Protocol):
    """What a plain request for the address of a WebSocket is answered by: the acceptor."""

    origins: Origins
    refused_origins: RefusedOrigins
    is_stopping: bool  # new connections are not accepted any more, which a request on an open one does not show

    def upgrade(self, request: web.BaseRequest) -> bool:
        """Take the connection of an upgrade request. Returns False when it cannot."""
        ...

    def refusal(self, use: AddressUse, values: Values) -> str | None:
        """Why an upgrade with these headers would be refused now."""
        ...


class HttpSide:
    """Answers every HTTP request that is not an upgrade to WebSocket. Its tables are written before the server
    starts."""

    def __init__(self, *, local_only: bool = False) -> None:
        """`local_only`: serve loopback names and addresses only, as --dev requires (DNS rebinding)."""
        self._local_only = local_only
        self._routes: dict[str, Handler] = {"/healthz": self._healthz}
        self._files: dict[str, StaticFile] = {}
        self._trpc: TrpcHttp | None = None
        self._request_scheduler = RequestScheduler()
        self._websocket: WebSocketSide | None = None

    def add_websocket(self, paths: Iterable[str], side: WebSocketSide) -> None:
        """Register the WebSocket `paths`. A plain request is answered with what an upgrade lacks; one with the field
        `why` in its query with why an upgrade would be refused."""

        def plain(request: web.BaseRequest) -> web.Response:
            page = request.query.get("why") if _asks_why(request) else None
            response = upgrade_required(request) if page is None else reason(request, page.lower())
            response.headers.update(OPEN_TO_ALL)
            return response

        def reason(request: web.BaseRequest, page: str) -> web.Response:
            """Why a page of the origin `page`, empty for none, cannot connect. A browser hides it, and logs an answer
            that is an error in the console of the page, so the status is 200."""
            if page and not is_origin(page):
                return answer(400, {"error": BAD_WHY})
            values = of_page(page, values_of(request))
            if side.is_stopping:
                stopping = answer(200, {"error": STOPPING, "stopping": True})
                stopping.force_close()
                return stopping
            if not side.origins.allow(values):
                side.refused_origins.note(values("origin"))
            refused = side.refusal(cast(HttpConnection, request.protocol).address_use, values)
            return answer(200, {} if refused is None else {"error": refused})

        def upgrade_required(request: web.BaseRequest) -> web.Response:
            if side.is_stopping:
                refused = answer(503, {"error": STOPPING, "stopping": True})
                refused.headers["Retry-After"] = "1"
                refused.force_close()
            elif not side.origins.allow(values_of(request)):
                refused = answer(403, {"error": refusal(values_of(request))})
            else:
                refused = answer(426, {"error": UPGRADE_REQUIRED})
                refused.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})  # [RFC 9110 15.5.22]
            return refused

        self._websocket = side
        self._routes |= dict.fromkeys(paths, plain)

    def add_trpc(self, trpc: TrpcHttp) -> None:
        """Serve calls below /trpc/ [M6]."""
        self._trpc = trpc

    def add_sdk(self, folder: Path, minified: Path, *, is_readable: bool = False) -> None:
        """Serve the browser SDK at /sdk, to pages of any origin: see `sdk_files`."""
        self._files |= sdk_files(folder, minified, is_readable=is_readable)

    def add_demo(self, folder: Path) -> None:
        """Serve the demo page at /demo."""
        self._files |= demo_files(folder)
        self._routes["/"] = _to_demo

    def add_dev_tokens(
        self, issue: Callable[[str, str | None], str], origins: Callable[[], Origins], refused_origins: RefusedOrigins
    ) -> None:
        """Issue tokens without authentication at /dev/token?user=ID&name=NAME; with `--dev` only. Pages of the listed
        `origins` may read them, so that the page of a front-end's own development server can be tried; those of others
        are noted in `refused_origins`."""

        def dev_token(request: web.BaseRequest) -> web.Response:
            user = request.query.get("user", "")
            try:
                token = issue(user, request.query.get("name"))
            except ValueError as error:
                return answer(400, {"error": f"{error} Ask as in /dev/token?user=ID&name=NAME"})
            response = answer(200, {"token": token})
            origin = request.headers.getall("Origin", [])
            if not origins().allow(values_of(request)):
                refused_origins.note(origin)
            elif origin:
                # pages ask with the cookies of their back end's route, which has the place of this one later
                allowed = {"Access-Control-Allow-Origin": origin[0], "Access-Control-Allow-Credentials": "true"}
                response.headers.update({**allowed, "Vary": "Origin"})
            return response

        self._routes["/dev/token"] = dev_token

    def server(self, keepalive_s: float) -> HttpServer:
        """The factory of protocols for the acceptor's HTTP connections; idle ones are closed after `keepalive_s`
        seconds."""
        return HttpServer(self._handle, keepalive_s)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        use = cast(HttpConnection, request.protocol).address_use
        values = values_of(request)
        upgrade = wants_websocket(request)  # the acceptor counts and limits upgrades itself
        if not upgrade and not use.take_request(values):
            return _too_many(request)
        if not upgrade and not _has_fit_head(request):
            refused = answer(431, {"error": HEAD_TOO_LARGE})
            refused.force_close()
            return refused
        if self._local_only and not is_own(request.headers.getall("host", [])):
            return answer(421, {"error": "serve --dev answers to localhost and to addresses, and to no other name."})
        await self._request_scheduler.wait()
        if upgrade and self._websocket is not None and self._websocket.upgrade(request):
            raise given_away()
        if self._trpc is not None and request.path.startswith(trpc_http.PATH):
            await _let_continue(request)
            return await self._trpc.handle(request, use.question_taker(values), use)
        route = self._routes.get(request.path)
        file = self._files.get(request.path) or self._files.get(current_path(request.path) or "")
        if route is None and file is None:
            wanted = trpc_http.clean(request.path[:100]) or request.method
            missing = answer(404, {"error": f"Nothing here. The WebSocket is at /presence, not {wanted}"})
            missing.headers.update(OPEN_TO_ALL)
            return missing
        if request.method not in ("GET", "HEAD"):
            refused = answer(405, {"error": "Only GET is answered here."})
            refused.headers["Allow"] = "GET, HEAD"
            return refused
        if file is not None:
            return file.answer(request)
        assert route is not None
        response = route(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _healthz(self, request: web.BaseRequest) -> web.Response:
        """Report that this worker's loop runs."""
        response = answer(200, {"status": "ok"})
        response.headers.update(OPEN_TO_ALL)  # the SDK requests it from pages of any origin when an upgrade fails
        return response


def answer(status: int, body: object) -> web.Response:
    """A JSON response that caches do not store."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def _let_continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send the body [RFC 9110 section 10.1.1]; aiohttp does so in applications only.
    A body that is too large is refused before it is sent."""
    if request.version < HttpVersion11 or request.headers.get("expect", "").lower() != "100-continue":
        return
    if (request.content_length or 0) <= trpc.MAX_BODY_BYTES:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # no part of the response


def _has_fit_head(request: web.BaseRequest) -> bool:
    fields = request.raw_headers
    line = len(request.method) + len(request.raw_path) + 2 + len("HTTP/1.1")
    size = line + sum(len(name) + len(value) + 4 for name, value in fields)  # 4 bytes: ": " and the end of the line
    return size <= MAX_HEAD_BYTES and len(fields) <= MAX_FIELDS


def _asks_why(request: web.BaseRequest) -> bool:
    """True when the query may have the field `why`; a query is not parsed for any other request."""
    return "why=" in request.query_string


def _too_many(request: web.BaseRequest) -> web.Response:
    refused = answer(429, {"error": "This address sends too many requests."})
    refused.headers["Retry-After"] = str(RETRY_RATE_S)
    if _asks_why(request):
        refused.headers.update(OPEN_TO_ALL)
    return refused


def _to_demo(request: web.BaseRequest) -> web.Response:
    return web.Response(status=302, headers={"Location": "/demo"})
