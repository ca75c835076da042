"""The operator port: is the server alive, is it ready, what does it count; and the live page that draws it.

It belongs to the supervisor, or to the only worker. Further routes (the server API) are added to `app` before `start`.
"""

import errno
import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from koko_presence.hosts import is_own

from .api import MAX_BODY_BYTES
from .config import Operator
from .live_page import add_live_page

log = logging.getLogger("koko_presence.operator")

SHUTDOWN_S = 0.2  # for answers under way when the server ends
Answers = Callable[[web.Request], Awaitable[web.StreamResponse]]
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class OperatorPort:
    """Answers on the operator's address. `unready` gives the reason why the server is not ready, empty when it is;
    `metrics` the text for Prometheus."""

    def __init__(self, unready: Callable[[], str], metrics: Callable[[], Awaitable[str]]) -> None:
        self.app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._check_host])
        self._names: frozenset[str] = frozenset()
        self._unready = unready
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self.app.router.add_get("/healthz", self._healthz)
        self.app.router.add_get("/readyz", self._readyz)
        self.app.router.add_get("/metrics", self._give_metrics)
        add_live_page(self.app)

    async def start(self, where: Operator, *, dev: bool = False) -> int:
        """Listen; gives the port. With `dev` a taken one is replaced by a free one, for several demos on one machine.

        Errors: OSError when the address is taken or not ours."""
        self._names = frozenset(name.lower() for name in (where.host, *where.hosts))
        self._runner = web.AppRunner(self.app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, where.host, where.port).start()
        except OSError as error:
            if not (dev and error.errno == errno.EADDRINUSE):
                await self.stop()
                raise
            await web.TCPSite(self._runner, where.host, 0).start()
            log.info("the operator port is taken, another one is used", extra={"taken": where.port})
        port = int(self._runner.addresses[0][1])
        log.info("operator port", extra={"address": f"{where.host}:{port}"})
        return port

    async def stop(self) -> None:
        """Close the port."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Answers) -> web.StreamResponse:
        """Foreign names are refused: a page of theirs would be same-origin with this port (DNS rebinding)."""
        if is_own(request.headers.getall("host", []), self._names):
            return await handler(request)
        message = (
            "This name is not known here. Use an address, localhost or operator.host, or add it to operator.hosts."
        )
        return _answer(421, {"error": {"code": "WRONG_HOST", "message": message}})

    async def _healthz(self, request: web.Request) -> web.Response:
        """This process's loop runs, or nobody would answer."""
        return _answer(200, {"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self._unready()
        return _answer(503, {"status": "not ready", "reason": reason}) if reason else _answer(200, {"status": "ready"})

    async def _give_metrics(self, request: web.Request) -> web.Response:
        text = await self._metrics()
        return web.Response(body=text.encode(), headers={"Content-Type": METRICS_TYPE, "Cache-Control": "no-store"})


def _answer(status: int, body: object) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
