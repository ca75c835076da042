"""The real worker on a free loopback port, with sockets and tokens, in the same event loop as the test.

Several workers share the port, as under the supervisor, and are joined by the real mesh. The kernel spreads a handful
of connections unevenly, so each worker listens on a port of its own as well, and `Live.url` returns the next worker's:
each new client connects to another worker.
"""

import asyncio
import itertools
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from koko_presence.auth.hmac_jwt import issue_token
from koko_presence.cluster.placement import Peer, View
from koko_presence.config.integrations import Webhooks
from koko_presence.config.schema import Access, Auth, Config, Server
from koko_presence.process.worker import Worker, WorkerIdentity
from koko_presence.protocol.limits import Limits
from koko_presence.server.listeners import listening_sockets
from tests.waiting import PATIENCE_S

SECRET = "a secret for live tests that is long enough"
NO_WEBHOOKS = Webhooks()


class Live:
    """A running server. `worker` is its first worker."""

    default_workers = 1

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers
        self.worker = workers[0]
        self._next = itertools.cycle(workers)

    @property
    def url(self) -> str:
        """The address for WebSocket clients: with several workers another one's at each access."""
        return self._url(list(next(self._next).acceptor.sockets)[-1])

    @property
    def shared_url(self) -> str:
        """The address of the port that all workers share, where the kernel chooses the worker."""
        return self._url(next(iter(self.worker.acceptor.sockets)))

    def _url(self, sock: socket.socket) -> str:
        scheme = "wss" if self.worker.config.server.tls_cert else "ws"
        return f"{scheme}://127.0.0.1:{sock.getsockname()[1]}/presence"

    def token(self, user: str, name: str | None = None, ttl_s: int = 3600, **claims: Any) -> str:
        """Return a token as the application's back end signs it."""
        return str(issue_token(SECRET, user=user, name=name, ttl_s=ttl_s, now_s=int(time.time()), **claims))

    def cut(self) -> None:
        """Abort every connection without a close frame, as a network failure does."""
        for worker in self.workers:
            for session in list(worker.hub.connections.values()):
                session.link.abort()


@asynccontextmanager
async def live(
    *,
    workers: int | None = None,
    port: int = 0,
    access: str | Access = "allow_all",
    webhooks: Webhooks = NO_WEBHOOKS,
    tls: tuple[Path, Path] | None = None,
    origins: Sequence[str] = (),
    cookie: str = "",
    trusted_proxies: Sequence[str] = (),
    dev: bool = False,
    **limits: Any,
) -> AsyncIterator[Live]:
    """Serve until the block ends. `tls` is a certificate and its key, `dev` is the option --dev, with one worker;
    `limits` are fields of Limits."""
    cert, key = ("", "") if tls is None else map(str, tls)
    config = Config(
        server=Server(
            port=port,
            origins=tuple(origins),
            tls_cert=cert,
            tls_key=key,
            trusted_proxies=tuple(trusted_proxies),
        ),
        auth=Auth(secret=SECRET, cookie=cookie),
        access=Access(mode=access) if isinstance(access, str) else access,
        webhooks=webhooks,
        limits=Limits(**limits),
    )
    async with AsyncExitStack() as stack:
        count = 1 if dev else workers or Live.default_workers
        if count == 1:
            single = Worker(config, dev=dev)
            await single.start()
            stack.push_async_callback(single.stop)
            yield Live([single])
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="koko")))
            yield Live(await _mesh_of(config, count, folder, stack))


async def _mesh_of(config: Config, count: int, folder: Path, stack: AsyncExitStack) -> list[Worker]:
    """Start workers as the supervisor does: the mesh, one view with all, and then the listening sockets."""
    workers = [
        Worker(config, identity=WorkerIdentity(slot + 1, slot, str(folder / f"{slot + 1}"))) for slot in range(count)
    ]
    for worker in workers:
        stack.push_async_callback(worker.stop)
        await worker.open_mesh()
    serving = [_serving(worker) for worker in workers]
    identities = [worker.identity for worker in workers if worker.identity is not None]
    peers = tuple(Peer(id=identity.id, slot=identity.slot, address=identity.mesh_address) for identity in identities)
    for worker in workers:
        worker.on_view(View(epoch=1, peers=peers))
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*serving)
    for worker, sockets in zip(workers, _listening(config, count), strict=True):
        worker.acceptor.take(sockets)
    return workers


def _serving(worker: Worker) -> "asyncio.Future[int]":
    """Return a future with the epoch of the next view in which the worker serves."""
    served: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    worker.on_serving = lambda epoch: served.done() or served.set_result(epoch)
    return served


def _listening(config: Config, count: int) -> list[list[socket.socket]]:
    """Return for every worker its socket of the shared port and one of a port of its own."""

    def at(port: int, slots: int) -> list[list[socket.socket]]:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (config.server.host, port))]
        return listening_sockets(found, slots, backlog=config.server.backlog)

    return [[*shared, *at(0, 1)[0]] for shared in at(config.server.port, count)]
