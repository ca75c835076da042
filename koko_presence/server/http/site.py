"""The HTTP side of a worker: liveness, the browser SDK, the demo page, development tokens. Not the hot path; aiohttp's
low-level server.

Routes are one table of exact paths and of static files.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, cast

import msgspec
from aiohttp import web

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
from koko_presence.web.static_files import StaticFile, static_files

from . import trpc_http
from .request_turns import RequestTurns
from .trpc_http import TrpcHttp, values_of

Handler = Callable[[web.BaseRequest], web.Response]

# Nothing inline, nothing foreign: what the demo's names and images could at worst do [reliability reference, XSS].
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: https:; "
    "media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "no-referrer"}

# Nothing in the SDK is secret or personal, so any page may load it from here.
OPEN_TO_ALL = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}


MAX_LINE_BYTES = 16 * 1024  # a batch of queries stands in the request's line; the door takes no longer head


class HttpConnection(web.RequestHandler):
    """aiohttp's side of one connection, which also knows how its address is counted, and how much has come of a head
    that is not whole: aiohttp bounds a head's lines and their number, and not what they come to."""

    __slots__ = ("_head_bytes", "_heads", "address_use", "body")

    def __init__(self, server: web.Server, use: AddressUse, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.address_use = use
        self.body: Any = None  # of the last request that was begun
        self._heads = 0  # that were whole
        self._head_bytes = 0  # since then

    def data_received(self, data: bytes) -> None:
        """What comes, but for upgrades."""
        super().data_received(data)
        if self._heads != self._request_count or self._in_body:
            self._heads, self._head_bytes = self._request_count, 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and self.transport is not None:
            if self._waiter is not None:  # no answer is being written
                self.transport.write(_TOO_LARGE)
            self.force_close()

    @property
    def _in_body(self) -> bool:
        """Does what comes now belong to the body of a request?"""
        body = self._messages[-1][1] if self._messages else self.body
        return body is not None and not body.is_eof()


_TOO_LARGE = (
    f"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n"
    f"Content-Length: {len(HEAD_TOO_LARGE)}\r\nConnection: close\r\n\r\n{HEAD_TOO_LARGE}"
).encode()


class Request(web.BaseRequest):
    """A request that has come whole is handled, though its connection is lost before its turn: a page's last call."""

    def _cancel(self, exc: BaseException) -> None:
        """The connection is lost: a body that is not whole never will be."""
        if not self._payload.is_eof():
            super()._cancel(exc)


class HttpServer(web.Server):
    """Makes an HttpConnection for each connection; one that idles is closed after `keepalive_s`."""

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
            max_field_size=MAX_LINE_BYTES,  # a token of 8192 characters has "Bearer" before it
            auto_decompress=False,
        )


@cache
def sdk_files(folder: Path) -> dict[str, StaticFile]:
    """The browser SDK, read when it is asked for the first time in this process or the one that it was forked from."""
    return static_files(folder, "/sdk", OPEN_TO_ALL, PAGE_HEADERS)


@cache
def demo_files(folder: Path) -> dict[str, StaticFile]:
    """The same for the demo page."""
    return static_files(folder, "/demo", page_headers=PAGE_HEADERS)


class HttpSide:
    """Answers every HTTP request that is not an upgrade on the presence path."""

    def __init__(self, *, local_only: bool = False) -> None:
        """`local_only`: answer to loopback names and addresses alone, as --dev must (DNS rebinding)."""
        self._local_only = local_only
        self._routes: dict[str, Handler] = {"/healthz": self._healthz}
        self._files: dict[str, StaticFile] = {}
        self._trpc: TrpcHttp | None = None
        self._turns = RequestTurns()
        self._turn: Callable[[web.BaseRequest], bool] = lambda request: False

    def add_websocket(self, paths: Iterable[str], turn: Callable[[web.BaseRequest], bool]) -> None:
        """There is a WebSocket at `paths`; `turn` takes the connection of an upgrade, if it can."""
        self._turn = turn
        self._routes |= dict.fromkeys(paths, _upgrade_required)

    def add_trpc(self, trpc: TrpcHttp) -> None:
        """Answer calls below /trpc/ [M6]."""
        self._trpc = trpc

    def add_sdk(self, folder: Path) -> None:
        """Serve the browser SDK at /sdk, to pages of any origin."""
        self._files |= sdk_files(folder)

    def add_demo(self, folder: Path) -> None:
        """Serve the demo page at /demo."""
        self._files |= demo_files(folder)
        self._routes["/"] = _to_demo

    def add_dev_tokens(self, issue: Callable[[str, str | None], str]) -> None:
        """Give a token to whoever asks, at /dev/token?user=ID&name=NAME; for `--dev` alone."""

        def dev_token(request: web.BaseRequest) -> web.Response:
            user = request.query.get("user", "")
            try:
                token = issue(user, request.query.get("name"))
            except ValueError as error:
                return answer(400, {"error": f"{error} Ask as in /dev/token?user=ID&name=NAME"})
            return answer(200, {"token": token})

        self._routes["/dev/token"] = dev_token

    def server(self, keepalive_s: float) -> HttpServer:
        """What the door calls for each HTTP connection; one that idles is closed after `keepalive_s`."""
        return HttpServer(self._handle, keepalive_s)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        use = cast(HttpConnection, request.protocol).address_use
        values = values_of(request)
        upgrade = wants_websocket(request)  # the door counts and bounds these itself
        if not upgrade and not use.take_request(values):
            return _too_many()
        if not upgrade and not _has_fit_head(request):
            refused = answer(431, {"error": HEAD_TOO_LARGE})
            refused.force_close()
            return refused
        if self._local_only and not is_own(request.headers.getall("host", [])):
            return answer(421, {"error": "serve --dev answers to localhost and to addresses, and to no other name."})
        await self._turns.wait()
        if upgrade and self._turn(request):
            raise given_away()
        if self._trpc is not None and request.path.startswith(trpc_http.PATH):
            return await self._trpc.handle(request, use.may_ask_for(values))
        route = self._routes.get(request.path)
        file = self._files.get(request.path)
        if route is None and file is None:
            return answer(
                404,
                {"error": f"Nothing here. The WebSocket is at /presence, not {trpc_http.clean(request.path[:100])}"},
            )
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
        """This worker's loop runs, or nobody would answer."""
        response = answer(200, {"status": "ok"})
        response.headers.update(OPEN_TO_ALL)  # the SDK asks, of a page of any origin, when an upgrade fails
        return response


def answer(status: int, body: object) -> web.Response:
    """A JSON answer that no cache keeps."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _has_fit_head(request: web.BaseRequest) -> bool:
    fields = request.raw_headers
    line = len(request.method) + len(request.raw_path) + 2 + len("HTTP/1.1")
    size = line + sum(len(name) + len(value) + 4 for name, value in fields)  # ": " and the end of the line
    return size <= MAX_HEAD_BYTES and len(fields) <= MAX_FIELDS


def _too_many() -> web.Response:
    refused = answer(429, {"error": "This address sends too many requests."})
    refused.headers["Retry-After"] = str(RETRY_RATE_S)
    return refused


def _upgrade_required(request: web.BaseRequest) -> web.Response:
    refused = answer(426, {"error": UPGRADE_REQUIRED})
    refused.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})  # [RFC 9110 section 15.5.22]
    return refused


def _to_demo(request: web.BaseRequest) -> web.Response:
    return web.Response(status=302, headers={"Location": "/demo"})
