"""One worker: constructs its components, connects them, and starts, drains and stops them.

This is the only module that names the concrete classes and reads the clocks. `Worker` writes the references between
acceptor, hub, bus and shard, and replaces what a reload changes; each component writes its own state. The process
around it is `worker_process`.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.epoll_transport import Poller
from koko_presence._fastpath.wallclock import WallClock
from koko_presence.access.policy import Access, AllowAll, ClaimsAccess
from koko_presence.access.trpc import TrpcAccess
from koko_presence.access.webhook import WebhookAccess
from koko_presence.admin.memory import Level, MemoryWatch, Pressure, Use
from koko_presence.admin.metrics_snapshot import IterationCpu, LoopLag, collect
from koko_presence.admin.upstream_metrics import Upstreams
from koko_presence.auth.factory import Verifiers
from koko_presence.auth.hmac_jwt import ResumeTokens, issue_token
from koko_presence.auth.http_auth import HttpAuthenticator
from koko_presence.auth.http_client import HttpClient
from koko_presence.auth.shared_cache import CacheEntry
from koko_presence.cluster.bus import LocalBus
from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.cluster.local_views import OwnViews, TakeOverTimer
from koko_presence.cluster.mesh import Mesh
from koko_presence.cluster.placement import View
from koko_presence.config import logs
from koko_presence.config.certificate import Certificate
from koko_presence.config.schema import Config
from koko_presence.config.trpc_rules import parse_rule
from koko_presence.config.trusted_proxies import Proxies
from koko_presence.owner.shard import Shard
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.webhook_events import AnyWebhookEvent
from koko_presence.server.accept_delay import AcceptDelay
from koko_presence.server.acceptor import Acceptor
from koko_presence.server.address_counts import AddressCounts
from koko_presence.server.address_limits import AddressLimits
from koko_presence.server.flood_limits import make_read_budget
from koko_presence.server.http.site import HttpSide, demo_files, sdk_files
from koko_presence.server.http.trpc_http import TrpcHttp
from koko_presence.server.http.trpc_stream import EventStreams
from koko_presence.server.http.trpc_websocket import PATH as TRPC_PATH
from koko_presence.server.http.trpc_websocket import TrpcSocket
from koko_presence.server.hub import Hub
from koko_presence.server.origins import Origins
from koko_presence.server.refused_origins import RefusedOrigins
from koko_presence.server.websocket import Connection, Handler
from koko_presence.users.user import MIGRATION_S
from koko_presence.webhooks.sender import Webhooks

from .ids import new_hash_key, new_session_id
from .survey_handlers import SurveyHandlers

log = logging.getLogger("koko_presence.worker")

SDK_FOLDER = Path(__file__).parents[1] / "web" / "sdk"
MINIFIED_SDK_FOLDER = Path(__file__).parents[1] / "web" / "sdk_minified"
DEMO_FOLDER = Path(__file__).parents[1] / "web" / "demo"
WS_PATHS = ("/presence", TRPC_PATH)
DEMO_TOKEN_TTL_S = 3600
WALL_SYNC_S = 1.0
MEMORY_LOOK_S, MEMORY_SHORT_LOOK_S = 0.5, 0.1  # the interval, and the one while memory is short
MEMORY_SHORT_SHARE = 0.75
DRAIN_LONGEST_S = 10.0
DRAIN_CLOSES_PER_S = 500.0
DRAIN_LINGER_S = 1.0
WEBHOOK_TIMEOUT_S = 5.0
WEBHOOKS_LINGER_S = 3.0  # for undelivered webhook events at a drain
EVENTS_A_MESSAGE = 10_000
DRAIN_EXTRA_S = MIGRATION_S + 0.5  # a drain takes at most this much longer than requested

monotonic = time.monotonic


def load_pages() -> None:
    """Read the static files before the fork, so that workers need not."""
    for is_readable in (False, True):
        sdk_files(SDK_FOLDER, MINIFIED_SDK_FOLDER, is_readable=is_readable)
    demo_files(DEMO_FOLDER)


class CpuTimes:
    """Returns the CPU time of this process and its time in the run queue, both in seconds since its start. With more
    workers than cores only the time in the run queue shows that the cores are busy. Linux only: elsewhere, and without
    a free descriptor, the time in the run queue stays as it was."""

    def __init__(self) -> None:
        self._waited_s = 0.0

    def __call__(self) -> tuple[float, float]:
        try:
            with open("/proc/self/schedstat", "rb") as file:
                ran, waited, _ = file.read().split()
        except (OSError, ValueError):
            return time.thread_time(), self._waited_s
        self._waited_s = int(waited) / 1e9
        return int(ran) / 1e9, self._waited_s


class WorkerIdentity(NamedTuple):
    """The identity of one of several workers. `mesh_address` is its Unix socket for the other workers, `address_counts`
    the descriptor of `server.address_counts.shared_memory`."""

    id: int
    slot: int
    mesh_address: str
    address_counts: int | None = None


class Worker:
    """A server on one event loop: `start`, then `drain` and `stop`."""

    def __init__(
        self,
        config: Config,
        *,
        dev: bool = False,
        identity: WorkerIdentity | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        """`identity` is None for a server of one worker. Without `certificate` it is read from the files that `config`
        names. Errors: OSError; ssl.SSLError for an invalid certificate."""
        self.config = config
        self.dev = dev
        self.identity = identity
        self.on_serving: Callable[[int], None] = lambda epoch: None
        self.on_peer_stuck: Callable[[int, bool], None] = lambda peer, lossy: None
        self.on_took_over: Callable[[View], None] = lambda view: None
        self._views = OwnViews()
        self._stopping = False  # from then on deaths of other workers are ignored
        self.on_learned: Callable[[list[CacheEntry]], None] = lambda entries: None
        self.upstreams = Upstreams()
        self._mesh: Mesh | None = None
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._take_over_timer = TakeOverTimer(self._views, loop, monotonic, self._take_over)
        self._started_s = time.time()  # the time of the fork, not of the import
        self._wall = WallClock()
        self._wall_timer: asyncio.TimerHandle | None = None
        self.addresses = AddressLimits(config.limits, _counts(identity), monotonic)
        self._limit_addresses(config)
        self.webhooks: Webhooks | None = None
        self._sync_wall()
        self._poller = Poller(loop)
        self._iteration_cpu = IterationCpu(loop, self._poller.on_next_round)
        self._lag = LoopLag(loop, counters, self._on_lag_looked)
        self.shard = Shard(config.limits, config.rooms, self._wall)
        self._webhook_client: HttpClient | None = None
        self._closing: set[asyncio.Future[None]] = set()  # access policies that are being closed
        self._set_webhooks(config)
        self.bus = self._make_bus()
        self.bus.use_round(self._poller.round)
        edge_id = identity.id if identity is not None else 0
        self._verifiers = Verifiers(
            monotonic, upstreams=self.upstreams, share=None if identity is None else self._share_learned
        )
        self.authenticator = HttpAuthenticator(self._verifiers.make(config), config.auth.cookie)
        self.hub = Hub(
            edge_id,
            bus=self.bus,
            limits=config.limits,
            verifier=self.authenticator.verifier,
            access=_access(config, self.upstreams),
            resume_tokens=ResumeTokens(config.auth.secret),
            wall=self._wall,
            clock=monotonic,
            timers=self._poller,
            round=self._poller.round,
            new_session_id=new_session_id,
            delays=self.shard.context.delays,
        )
        self.bus.attach(edge_id, self.hub)
        self.survey_handlers = SurveyHandlers(self.hub, self.shard, self.bus, self._poller, self.addresses)
        self._http = HttpSide(local_only=dev)
        self._http.add_sdk(SDK_FOLDER, MINIFIED_SDK_FOLDER, is_readable=dev)
        refused_origins = RefusedOrigins(monotonic)
        trpc = TrpcHttp(
            self.hub.procedures,
            self.authenticator,
            lambda: self.acceptor.origins,
            self.hub.unix_s,
            refused_origins,
        )
        self._http.add_trpc(trpc)
        if config.server.demo:
            self._http.add_demo(DEMO_FOLDER)
        if dev:
            self._http.add_dev_tokens(self._dev_token, lambda: self.acceptor.origins, refused_origins)
        self._http_server = self._http.server(config.server.keepalive_s)
        self.acceptor = Acceptor(
            make_handler=self._handler,
            make_read_budget=lambda: make_read_budget(self.hub.limits),
            ws_paths=WS_PATHS,
            http_protocol=self._http_server,
            origins=self._origins(config),
            cookie=config.auth.cookie,
            max_message_bytes=config.limits.max_message_bytes,
            max_frame_bytes=config.limits.max_frame_bytes,
            send_stuck_s=config.limits.send_stuck_s,
            backlog=config.server.backlog,
            ssl_context=_tls(config, certificate),
            poller=self._poller,
            addresses=self.addresses,
            delays=self.shard.context.delays,
            refused_origins=refused_origins,
        )
        self.hub.waits_for = self.acceptor.work_waits_for
        self._arrivals = AcceptDelay(self.acceptor.waits_for, self._lag.late_s, self.bus.note_delay)
        self.bus.before_deadlines = self._arrivals.look
        self._http.add_websocket(WS_PATHS, self.acceptor)
        trpc.add_streams(EventStreams(self.hub, self.acceptor))
        self._verifiers.start()
        self._memory, self._pressure = MemoryWatch(_memory_part(config)), Pressure()
        self._shed_events = self._shed_sessions = 0
        self._events_dropped = 0  # events of another worker that arrived after the webhook was switched off
        self._memory_timer: asyncio.TimerHandle | None = None
        self._look_at_memory()

    @property
    def port(self) -> int:
        """The bound port, also if the configured port is 0."""
        return int(next(iter(self.acceptor.sockets)).getsockname()[1])

    async def start(self) -> None:
        """Open the listening sockets and serve. Errors: OSError if an address cannot be bound."""
        await self.acceptor.open(self.config.server.host, self.config.server.port)

    async def drain(self, longest_s: float = DRAIN_LONGEST_S, hand_over: Callable[[bytes], None] | None = None) -> None:
        """Stop accepting and close all client connections with 1012, in random order, over at most `longest_s` seconds
        [N-d]. Then wait up to a second for their close frames and for connections that were being opened.

        With `hand_over` there are other workers to reconnect to: other members are shown nothing of the move, and this
        worker stays in the view until its sessions have resumed elsewhere, or for MIGRATION_S.

        Webhook events: with `hand_over` the queued events are passed to it at once, in the encoding of
        `take_over_webhooks`, and after the close of the connections those whose delivery failed or did not end in time.
        Without `hand_over` delivery goes on for up to WEBHOOKS_LINGER_S seconds, and the rest is dropped."""
        end = monotonic() + longest_s + DRAIN_EXTRA_S
        self.acceptor.stop_accepting()
        if self.webhooks is not None and hand_over is not None:
            _hand_over(self.webhooks.take_waiting(), hand_over)
        sessions = list(self.hub.connections.values())
        random.shuffle(sessions)
        pause_s = min(longest_s / max(1, len(sessions)), 1.0 / DRAIN_CLOSES_PER_S)
        at = monotonic()
        self.hub.drains = migrate = hand_over is not None
        for session in sessions:
            session.finish(1012, migrates=migrate)
            at += pause_s
            await asyncio.sleep(max(0.0, at - monotonic()))
        closed_at = monotonic()
        while self.acceptor.open_count and monotonic() < closed_at + DRAIN_LINGER_S:
            for session in list(self.hub.connections.values()):
                session.finish(1012, migrates=migrate)
            await asyncio.sleep(0.02)
        while self.hub.migrating and monotonic() < closed_at + MIGRATION_S:
            await asyncio.sleep(0.02)
        if self.webhooks is None:
            return
        longest_s = min(WEBHOOKS_LINGER_S, end - monotonic())
        if hand_over is not None:
            _hand_over(await self.webhooks.take_rest(longest_s), hand_over)
        else:
            await self.webhooks.finish(longest_s)
            self.webhooks.stop()  # before the final counters are sent

    def take_over_webhooks(self, events: bytes) -> None:
        """Deliver the webhook events that another worker has left, before this worker's own, which are newer."""
        found = msgspec.msgpack.decode(events, type=list[AnyWebhookEvent])
        if self.webhooks is not None:
            self.webhooks.take_over(found)
        elif found:
            self._events_dropped += len(found)
            log.warning("webhook events dropped: no webhook is configured", extra={"events": len(found)})

    async def stop(self) -> None:
        """Close all connections, components and timers."""
        self._stopping = True
        self._take_over_timer.stop()
        await self.acceptor.close()
        self.addresses.close()
        self._poller.close()
        self.hub.stop()
        await self._verifiers.close()
        self._close_access(self.hub.access)
        await asyncio.gather(*self._closing)
        self.bus.stop()
        if self._mesh is not None:
            self._mesh.close()
        self._lag.stop()
        self._iteration_cpu.stop()
        if self.webhooks is not None:
            self.webhooks.stop()
        if self._webhook_client is not None:
            await self._webhook_client.close()
        for timer in (self._wall_timer, self._memory_timer):
            if timer is not None:
                timer.cancel()

    def reload(self, config: Config) -> None:
        """Apply new limits, origins, keys and access rules, without touching a connection."""
        if config.access != self.config.access:
            before, self.hub.access = self.hub.access, _access(config, self.upstreams)
            self._close_access(before)
        self.config = config
        self.set_limits(config.limits)
        self.hub.verifier = self.authenticator.verifier = self._verifiers.make(config)
        self._verifiers.start()
        self.authenticator.cookie = self.acceptor.cookie = config.auth.cookie
        self.hub.resume_tokens = ResumeTokens(config.auth.secret)
        self.acceptor.origins = self._origins(config)
        self._limit_addresses(config)
        self._memory.part_bytes = _memory_part(config)
        self._http_server.keepalive_s = config.server.keepalive_s
        self._set_webhooks(config)

    def set_limits(self, limits: Limits) -> None:
        """Apply limits to sessions, memberships and deadlines that begin from now on."""
        self.hub.limits = limits
        self.shard.context.set_limits(limits)
        self.bus.set_limits(limits)
        self.acceptor.set_limits(limits.max_message_bytes, limits.max_frame_bytes, limits.send_stuck_s)

    def snapshot(self) -> bytes:
        """This worker's `Counters` as msgpack, for admin/metrics.py."""
        return collect(
            counters,
            self._lag,
            self._iteration_cpu,
            started_s=self._started_s,
            acceptor=self.acceptor,
            addresses=self.addresses,
            hub=self.hub,
            shard=self.shard,
            bus=self.bus,
            webhooks=self.webhooks,
            events_dropped=self._events_dropped,
            upstreams=self.upstreams,
            memory=self._memory.look(),
        )

    def _on_lag_looked(self) -> None:
        self._iteration_cpu.look()
        self._arrivals.look(monotonic())

    def _close_access(self, access: Access) -> None:
        closing = asyncio.ensure_future(access.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _set_webhooks(self, config: Config) -> None:
        """Switch webhooks on or off, or pass a changed configuration to them."""
        if config.webhooks.url and self.webhooks is None:
            self._webhook_client = HttpClient(
                timeout_s=WEBHOOK_TIMEOUT_S, connections=1, upstream=self.upstreams["webhook"]
            )
            self.webhooks = Webhooks(config.webhooks, self._webhook_client)
        elif config.webhooks.url and self.webhooks is not None:
            self.webhooks.reload(config.webhooks)
        self.shard.context.set_webhook_sink(self.webhooks if config.webhooks.url else None)

    def _handler(self, connection: Connection) -> Handler:
        """Create the handler of a new WebSocket: a session of the presence protocol, or one behind tRPC."""
        if connection.target.partition("?")[0] == TRPC_PATH:
            return TrpcSocket(self.hub, connection)
        return self.hub.accept(connection, connection.address_use)

    def _limit_addresses(self, config: Config) -> None:
        server = config.server
        proxies = Proxies(server.trusted_proxies)
        self.addresses.set(config.limits, proxies, server.forwarded_header, server.proxy_protocol)

    def _origins(self, config: Config) -> Origins:
        return Origins(frozenset(config.server.origins), tls=bool(self.config.server.tls_cert), local_only=self.dev)

    # --- other workers ----------------------------------------------------------------------------------------------

    def _make_bus(self) -> LocalBus:
        """Create the bus: to the worker's own shard, or, with a `identity`, to all workers."""
        if self.identity is None:
            return LocalBus(self.shard, self._poller, monotonic, CpuTimes())
        self._mesh = Mesh(
            self.identity.id,
            self.identity.mesh_address,
            self._on_peer_messages,
            self._on_stuck,
            self._on_overdue,
            self._on_dead,
        )
        return ClusterBus(
            self.identity.id,
            self.shard,
            self._poller,
            monotonic,
            CpuTimes(),
            open_link=self._mesh.open_link,
            on_serving=lambda epoch: self.on_serving(epoch),
        )

    def _on_peer_messages(self, sender: int, found: list[tuple[int, bytes]]) -> None:
        assert isinstance(self.bus, ClusterBus)
        self.bus.on_peer_messages(sender, found)

    def _on_stuck(self, peer: int, lossy: bool) -> None:
        self.on_peer_stuck(peer, lossy)

    def _on_overdue(self, since: float, now: float) -> None:
        self.shard.context.delays.note(since, now)

    async def open_mesh(self) -> None:
        """Listen at `identity.mesh_address`, after which the worker may be added to a view. To be called again if the
        socket file was removed. Errors: OSError."""
        if self._mesh is not None:
            await self._mesh.open()

    def on_view(self, view: View) -> None:
        """Apply the supervisor's view of the workers. `on_serving` is called with its epoch once the change is
        complete, and `on_peer_stuck` with the id of a worker that cannot be reached. If workers end and no view without
        them arrives in time, this worker follows a view of its own (`cluster/local_views.py`) and calls
        `on_took_over`."""
        found = self._views.on_view(view)
        if found is not None:
            self._apply_view(found)

    def _apply_view(self, view: View) -> None:
        assert isinstance(self.bus, ClusterBus) and self._mesh is not None
        self.bus.on_view(view, monotonic())
        self._mesh.forget(view.ids)

    def _on_dead(self, peer: int) -> None:
        if not self._stopping:
            self._take_over_timer.on_death(peer)

    def _take_over(self, before: View, view: View) -> None:
        dead = sorted(peer.slot for peer in before.peers if peer.id not in view.ids)
        log.warning(
            "workers died and the supervisor sent no new view: continuing without them",
            extra={"dead": dead, "epoch": view.epoch},
        )
        self._apply_view(view)
        self.on_took_over(view)

    def _share_learned(self, entries: list[CacheEntry]) -> None:
        self.on_learned(entries)

    def learn(self, entries: list[CacheEntry]) -> None:
        """Store answers of identity providers and access checks that another worker has fetched."""
        self._verifiers.learn(entries, time.time())

    # --- memory -----------------------------------------------------------------------------------------------------

    def _look_at_memory(self) -> None:
        use = self._memory.look()
        pause_s = MEMORY_LOOK_S if use.share < MEMORY_SHORT_SHARE else MEMORY_SHORT_LOOK_S
        self._memory_timer = self._loop.call_later(pause_s, self._look_at_memory)
        self._keep_within(use)

    def _keep_within(self, use: Use) -> None:
        """Apply the memory level: slow subscribers and queued webhook events are shed first, then new connections are
        refused."""
        before, level = self._pressure.level, self._pressure.update(use.share)
        self.acceptor.refuses_new_clients = self.hub.refuses_new_clients = level is Level.REFUSE
        if level >= Level.SHED:
            self._shed_sessions += self.hub.shed_slow()
            self._shed_events += self.webhooks.shed() if self.webhooks is not None else 0
        if level is before:
            return
        extra: dict[str, int] = {"used": use.used, "limit": use.limit}
        if level is Level.REFUSE:
            log.error("memory is short: new connections are refused", extra=extra)
        elif level is Level.SHED and before is Level.ENOUGH:
            log.warning("memory is short: slow subscribers are closed and queued webhook events dropped", extra=extra)
        elif level is Level.SHED:
            log.warning("memory is short: new connections are accepted again", extra=extra)
        else:
            extra |= {"receivers": self._shed_sessions, "events": self._shed_events}
            self._shed_sessions = self._shed_events = 0
            log.info("memory is sufficient again", extra=extra)

    # --- clocks, tokens ---------------------------------------------------------------------------------------------

    def _sync_wall(self) -> None:
        self._wall.sync(monotonic(), time.time())
        logs.report()  # logs how many lines were dropped
        if self.webhooks is not None:
            self.webhooks.log_drops(monotonic())
        self.addresses.tidy()
        self._wall_timer = self._loop.call_later(WALL_SYNC_S, self._sync_wall)

    def _dev_token(self, user: str, name: str | None) -> str:
        return issue_token(
            self.config.auth.secret,
            user=user,
            name=name,
            ttl_s=DEMO_TOKEN_TTL_S,
            now_s=int(time.time()),
            issuer=self.config.auth.issuer or None,
            audience=self.config.auth.audience or None,
        )


def _hand_over(events: list[AnyWebhookEvent], hand_over: Callable[[bytes], None]) -> None:
    for i in range(0, len(events), EVENTS_A_MESSAGE):
        hand_over(msgspec.msgpack.encode(events[i : i + EVENTS_A_MESSAGE]))


def _counts(identity: WorkerIdentity | None) -> AddressCounts:
    counts = AddressCounts(None if identity is None else identity.address_counts, key=new_hash_key())
    if identity is not None and not counts.is_shared:
        log.warning("limits by address are counted by this worker only: an address may reach them at every worker")
    return counts


def _memory_part(config: Config) -> int:
    return config.server.memory_bytes // config.server.worker_count


def _access(config: Config, upstreams: Upstreams) -> Access:
    access, upstream = config.access, upstreams["access"]
    if access.mode == "webhook":
        return WebhookAccess(access.webhook.url, access.webhook.secret, upstream=upstream)
    if access.mode == "trpc":
        trpc, rules = access.trpc, [parse_rule(rule) for rule in access.trpc.rules]
        return TrpcAccess(
            trpc.url, rules, scopes=trpc.scopes, ttl_s=trpc.ttl_s, superjson=trpc.superjson, upstream=upstream
        )
    return AllowAll() if access.mode == "allow_all" else ClaimsAccess()


def _tls(config: Config, certificate: Certificate | None) -> ssl.SSLContext | None:
    if not config.server.tls_cert:
        return None
    return (certificate or Certificate.read(config.server)).context()
