"""One worker: the only place that names concrete classes and reads the clocks.

Builds the house from the roof down (door, hub, bus, shard), runs it until a signal, drains it. Signals only queue: what
they ask for is done by the loop.
"""

import asyncio
import gc
import logging
import random
import resource
import signal
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from koko_presence._fastpath.wallclock import WallClock

from ._fastpath.polling import Poller
from .auth.access import Access, AllowAll, ClaimsAccess
from .auth.tokens import HmacVerifier, ResumeTokens, issue_token
from .cluster.bus import LocalBus
from .edge.door import Door
from .edge.http import HttpSide
from .edge.hub import Hub
from .ids import new_session_id
from .limits import Limits
from .ops.config import Config, ConfigError, load
from .ops.logs import BoundedHandler
from .shard import Shard

log = logging.getLogger("koko_presence.worker")

DEMO_FOLDER = Path(__file__).parent / "web" / "demo"
DEMO_TOKEN_TTL_S = 3600
WALL_SYNC_S = 1.0
DRAIN_LONGEST_S = 10.0
DRAIN_CLOSES_PER_S = 500.0

monotonic = time.monotonic


class Worker:
    """A running server on one loop. `start`, then `drain` and `stop`."""

    def __init__(self, config: Config, *, dev: bool = False) -> None:
        self.config = config
        self.dev = dev
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._wall = WallClock()
        self._wall_timer: asyncio.TimerHandle | None = None
        self._sync_wall()
        self.shard = Shard(config.limits, config.rooms, self._wall)
        self._poller = Poller(loop)
        self.bus = LocalBus(self.shard, self._poller, monotonic, time.thread_time)
        self.hub = Hub(
            0,
            bus=self.bus,
            limits=config.limits,
            verifier=_verifier(config),
            access=_access(config),
            resume_tokens=ResumeTokens(config.auth.secret),
            wall=self._wall,
            clock=monotonic,
            timers=self._poller,
            new_session_id=new_session_id,
        )
        self.bus.attach(0, self.hub)
        self._http = HttpSide()
        if config.server.demo:
            self._http.add_demo(DEMO_FOLDER)
        if dev:
            self._http.add_dev_tokens(self._dev_token)
        self.door = Door(
            make_handler=self.hub.accept,
            http_protocol=self._http.server(),
            origins=config.server.origins,
            max_message_bytes=config.limits.max_message_bytes,
            max_frame_bytes=config.limits.max_frame_bytes,
            backlog=config.server.backlog,
            ssl_context=_tls(config),
            poller=self._poller,
        )

    @property
    def port(self) -> int:
        """The port in use, also when the configuration said 0."""
        return int(next(iter(self.door.sockets)).getsockname()[1])

    async def start(self) -> None:
        """Serve. Errors: OSError when the address cannot be bound."""
        await self.door.open(self.config.server.host, self.config.server.port)

    async def drain(self, longest_s: float = DRAIN_LONGEST_S) -> None:
        """Stop accepting and ask the clients to come back elsewhere: 1012, in a random order, over at most
        `longest_s` seconds [N-d]."""
        self.door.stop_accepting()
        sessions = list(self.hub.connections.values())
        random.shuffle(sessions)
        pause_s = min(longest_s / max(1, len(sessions)), 1.0 / DRAIN_CLOSES_PER_S)
        for session in sessions:
            session.finish(1012)
            await asyncio.sleep(pause_s)

    async def stop(self) -> None:
        """Close what is open and every timer with it."""
        await self.door.close()
        self._poller.close()
        self.hub.stop()
        self.bus.stop()
        if self._wall_timer is not None:
            self._wall_timer.cancel()

    def reload(self, config: Config) -> None:
        """Take over new limits, origins and log level without touching a connection."""
        self.config = config
        self.set_limits(config.limits)
        self.door.origins = config.server.origins
        logging.getLogger("koko_presence").setLevel(config.log.level.upper())

    def set_limits(self, limits: Limits) -> None:
        """New limits hold for what begins from now on: sessions, people in rooms, deadlines."""
        self.hub.limits = limits
        self.shard.setting.limits = limits
        self.bus.set_limits(limits)

    def _sync_wall(self) -> None:
        self._wall.sync(monotonic(), time.time())
        for handler in logging.getLogger().handlers:
            if isinstance(handler, BoundedHandler):
                handler.report()  # how many lines a flood has cost
        self._wall_timer = self._loop.call_later(WALL_SYNC_S, self._sync_wall)

    def _dev_token(self, user: str, name: str | None) -> str:
        return issue_token(
            self.config.auth.secret, user=user, name=name, ttl_s=DEMO_TOKEN_TTL_S, now_s=int(time.time())
        )


def _verifier(config: Config) -> HmacVerifier:
    auth = config.auth
    return HmacVerifier(
        auth.secret,
        algorithms=tuple(auth.algorithms),
        issuer=auth.issuer or None,
        audience=auth.audience or None,
        leeway_s=auth.leeway_s,
        max_ttl_s=auth.max_ttl_s,
    )


def _access(config: Config) -> Access:
    return AllowAll() if config.access.mode == "allow_all" else ClaimsAccess()


def _tls(config: Config) -> ssl.SSLContext | None:
    if not config.server.tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.server.tls_cert, config.server.tls_key)
    return context


def run(config: Config, *, dev: bool = False, reload_config: Callable[[], Config] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the configuration again. Returns the process's exit code: 0 after a
    drain, 2 when the address or the certificate cannot be used, which no restart helps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:  # every connection is a file; the soft limit of 1024 is for programs that use select()
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return uvloop.run(_serve(config, dev, reload_config or load))


async def _serve(config: Config, dev: bool, reload_config: Callable[[], Config]) -> int:
    address = f"{config.server.host}:{config.server.port}"
    try:
        worker = Worker(config, dev=dev)
        await worker.start()
        _calm_collector()
    except OSError as error:
        reason = error.strerror or str(error)
        sys.stderr.write(f"koko-presence: cannot serve on {address}: {reason}. Is something else there?\n")
        return 2
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    _announce(worker, dev)
    while (await signals.get()) == signal.SIGHUP:
        _reload(worker, reload_config)
    log.info("draining", extra={"connections": len(worker.hub.connections)})
    drained = asyncio.ensure_future(worker.drain())
    second = asyncio.ensure_future(signals.get())  # a second Ctrl-C does not wait
    await asyncio.wait((drained, second), return_when=asyncio.FIRST_COMPLETED)
    for task in (drained, second):
        task.cancel()
    await worker.stop()
    log.info("stopped")
    return 0


def _calm_collector() -> None:
    """What is there at the start stays; and a busy worker's short-lived lists are no reason to look at every object."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _announce(worker: Worker, dev: bool) -> None:
    scheme = "https" if worker.config.server.tls_cert else "http"
    host = worker.config.server.host
    place = f"{'[' + host + ']' if ':' in host else host}:{worker.port}"
    log.info("serving", extra={"address": place, "websocket": f"ws{scheme[4:]}://{place}/presence"})
    if worker.config.server.demo:
        sys.stdout.write(f"Demo:  {scheme}://{place}/demo   (open it in two windows)\n")
    if dev:
        sys.stdout.write(f"Token: {scheme}://{place}/dev/token?user=ID&name=NAME   Stop with Ctrl-C\n")
    sys.stdout.flush()


def _reload(worker: Worker, reload_config: Callable[[], Config]) -> None:
    try:
        worker.reload(reload_config())
        log.info("configuration reloaded")
    except ConfigError as error:
        for fault in error.faults:
            log.error("configuration not reloaded: %s", fault)
