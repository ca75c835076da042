"""The HTTP side of a worker: liveness, the browser SDK, the demo page, development tokens. Not the hot path; aiohttp's
low-level server.

Routes are one table of exact paths and of static files.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from aiohttp import web

from koko_presence.hosts import is_own
from koko_presence.static_files import StaticFile, static_files

from . import trpc_http
from .request_turns import RequestTurns
from .trpc_http import TrpcHttp
from .turning import given_away, wants_websocket
from .upgrade import UPGRADE_REQUIRED

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
        self._files |= static_files(folder, "/sdk", OPEN_TO_ALL, PAGE_HEADERS)

    def add_demo(self, folder: Path) -> None:
        """Serve the demo page at /demo."""
        self._files |= static_files(folder, "/demo", page_headers=PAGE_HEADERS)
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

    def server(self) -> web.Server:
        """What the door calls for each HTTP connection."""
        return web.Server(
            self._handle,
            access_log=None,
            keepalive_timeout=75.0,
            tcp_keepalive=False,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,  # a token of 8192 characters has "Bearer" before it
            auto_decompress=False,
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._local_only and not is_own(request.headers.getall("host", [])):
            return answer(421, {"error": "serve --dev answers to localhost and to addresses, and to no other name."})
        await self._turns.wait()
        if wants_websocket(request) and self._turn(request):
            raise given_away()
        if self._trpc is not None and request.path.startswith(trpc_http.PATH):
            return await self._trpc.handle(request)
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
        return answer(200, {"status": "ok"})


def answer(status: int, body: object) -> web.Response:
    """A JSON answer that no cache keeps."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _upgrade_required(request: web.BaseRequest) -> web.Response:
    refused = answer(426, {"error": UPGRADE_REQUIRED})
    refused.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})  # [RFC 9110 section 15.5.22]
    return refused


def _to_demo(request: web.BaseRequest) -> web.Response:
    return web.Response(status=302, headers={"Location": "/demo"})
