"""Fakes without a network: an HTTP client with prepared answers, and a clock that a test moves."""

import asyncio
from typing import Any

from koko_presence.auth.http_client import Answer, RequestFailed

NOW = 1_700_000_000
GOOD = {"sub": "ann", "exp": NOW + 600}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeHttpClient:
    """Answers with `body`, or fails while `body` is None. `hold` delays all answers until it is set."""

    def __init__(self, body: bytes | None = None, status: int = 200) -> None:
        self.body, self.status = body, status
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.hold: asyncio.Event | None = None
        self.closed = False

    async def get(self, url: str, headers: Any = None) -> Answer:
        return await self.post(url, headers, b"")

    async def post(self, url: str, headers: Any, body: bytes) -> Answer:
        self.requests.append((url, dict(headers or {}), body))
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        if self.body is None:
            raise RequestFailed("it did not answer within 1 s")
        return Answer(self.status, self.body)

    async def close(self) -> None:
        self.closed = True
