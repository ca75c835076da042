"""Serves the operator port: liveness, readiness, metrics and the live page.

It runs in the supervisor, or in the only worker. Further routes (the server API) are added to `app` before `start`.
`OperatorPort` is the only writer of its state.
"""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from koko_presence.config.host_names import is_own
from koko_presence.config.schema import Operator

from .api import MAX_BODY_BYTES
from .file_descriptors import are_few
from .http_connection import JsonErrors
from .idle_connections import Bounded
from .live_page import add_live_page

log = logging.getLogger("koko_presence.operator")

IDLE_S = 30.0  # for idle connections; Prometheus scrapes every 15 s by default
SHUTDOWN_S = 0.2  # for pending answers when the server stops
Answers = Callable[[web.Request], Awaitable[web.StreamResponse]]
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Connection(JsonErrors):
    """A connection of the operator port."""

    __slots__ = ()

    def not_found(self, path: str) -> str:
        return (
            f"There is no {path} here. This is the operator port: the live page is at /, and there are /healthz, "
            "/readyz, /metrics, and the server API, which /api/openapi.json lists."
        )


class OperatorPort:
    """The HTTP server of the operator port. `unready` returns the reason why the server is not ready, an empty text
    when it is; `metrics` the text for Prometheus; `missing` the slots whose worker does not serve and is covered by
    others."""

    def __init__(
        self,
        unready: Callable[[], str],
        metrics: Callable[[], Awaitable[str]],
        missing: Callable[[], list[int]] = list,
    ) -> None:
        self.app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._check_host])
        self._names: frozenset[str] = frozenset()
        self._unready = unready
        self._metrics = metrics
        self._missing = missing
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._bounded: Bounded | None = None
        self.app.router.add_get("/healthz", self._healthz)
        self.app.router.add_get("/readyz", self._readyz)
        self.app.router.add_get("/metrics", self._give_metrics)
        add_live_page(self.app)

    async def start(self, where: Operator, *, dev: bool = False) -> int:
        """Listen, and return the port. With `dev` a port in use is replaced by a free one, for several demos on one
        machine. Errors: OSError when the address is in use or not of this machine."""
        self._names = frozenset(name.lower() for name in (where.host, *where.hosts))
        loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(self.app, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        assert self._runner.server is not None
        # without auto_decompress a body is refused by its Content-Encoding before it is read
        settings: dict[str, Any] = {"loop": loop, "access_log": None, "auto_decompress": False}
        connect = partial(_Connection, self._runner.server, **settings)
        bounded = self._bounded = Bounded(connect, most=max_connections(), idle_s=IDLE_S)
        try:
            self._server = await loop.create_server(bounded, where.host, where.port)
        except OSError as error:
            if not (dev and error.errno == errno.EADDRINUSE):
                await self.stop()
                raise
            self._server = await loop.create_server(bounded, where.host, 0)
            log.info("operator port in use, listening on a free port", extra={"taken": where.port})
        port = int(self._server.sockets[0].getsockname()[1])
        log.info("operator port", extra={"address": f"{where.host}:{port}"})
        return port

    async def stop(self) -> None:
        """Close the port."""
        runner, self._runner = self._runner, None
        server, self._server = self._server, None
        if server is not None:
            server.close()
        if self._bounded is not None:
            self._bounded.close()
        if runner is not None:
            await runner.cleanup()

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Answers) -> web.StreamResponse:
        """Refuse requests for unknown host names, whose pages would be same-origin with this port (DNS rebinding)."""
        if is_own(request.headers.getall("host", []), self._names):
            return await handler(request)
        message = (
            "This name is not known here. Use an address, localhost or operator.host, or add it to operator.hosts."
        )
        return _answer(421, {"error": {"code": "WRONG_HOST", "message": message}})

    async def _healthz(self, request: web.Request) -> web.Response:
        """Answer 200: the event loop of this process runs."""
        return _answer(200, {"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        reason, missing = self._unready(), self._missing()
        more: dict[str, object] = {"missingWorkers": missing} if missing else {}
        if reason:
            return _answer(503, {"status": "not ready", "reason": reason} | more)
        return _answer(200, {"status": "ready"} | more)

    async def _give_metrics(self, request: web.Request) -> web.Response:
        text = await self._metrics()
        return web.Response(body=text.encode(), headers={"Content-Type": METRICS_TYPE, "Cache-Control": "no-store"})


def max_connections() -> int:
    """Return the limit of connections to the operator port: part of the descriptors reserved for other uses than client
    connections."""
    return 12 if are_few() else 64


def _answer(status: int, body: object) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
