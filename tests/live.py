"""The real worker on a free loopback port, in the same loop as the test: sockets, tokens and all."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from koko_presence.auth.tokens import issue_token
from koko_presence.limits import Limits
from koko_presence.ops.config import Access, Auth, Config, Server
from koko_presence.worker import Worker

SECRET = "a secret for live tests that is long enough"


class Live:
    """A running server. `url` is where WebSocket clients go."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    @property
    def url(self) -> str:
        scheme = "wss" if self.worker.config.server.tls_cert else "ws"
        return f"{scheme}://127.0.0.1:{self.worker.port}/presence"

    def token(self, user: str, name: str | None = None, ttl_s: int = 3600, **claims: Any) -> str:
        """A token as the application's back end would sign it."""
        return str(issue_token(SECRET, user=user, name=name, ttl_s=ttl_s, now_s=int(time.time()), **claims))

    def cut(self) -> None:
        """Cut every connection without a close frame, as a dead network does."""
        for session in list(self.worker.hub.connections.values()):
            session.link.abort()


@asynccontextmanager
async def live(
    *, port: int = 0, access: str = "allow_all", tls: tuple[Path, Path] | None = None, **limits: Any
) -> AsyncIterator[Live]:
    """Serve until the block ends. `tls` is a certificate and its key, `limits` are fields of Limits."""
    cert, key = ("", "") if tls is None else map(str, tls)
    worker = Worker(
        Config(
            server=Server(port=port, tls_cert=cert, tls_key=key),
            auth=Auth(secret=SECRET),
            access=Access(mode=access),
            limits=Limits(**limits),
        )
    )
    await worker.start()
    try:
        yield Live(worker)
    finally:
        await worker.stop()
