"""Questions to other servers over HTTP: whose keys are these, who is that, may they enter.

An answer is small and comes soon, or there is none. Nothing leads elsewhere: no redirects, no proxies out of the
environment, no cookies of earlier answers, so that a question goes to the configured host and no other.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from koko_presence.admin.upstream_metrics import Upstream

MAX_ANSWER_BYTES = 64 * 1024
# Node closes idle connections after 5 s; one that we let go of first cannot be closed under a question
KEEP_ALIVE_S = 4.0


class Answer(NamedTuple):
    """What came back: any status but a redirect, and the whole body."""

    status: int
    body: bytes


class AskFailed(Exception):
    """Why there is no answer, in words for the operator; never holds what was asked."""


class Useless(AskFailed):
    """There was an answer, but none to the question: the other side lives, and may answer the next one."""


class Late(AskFailed):
    """There was no answer in time."""


class HttpClient:
    """Asks over HTTP, with connections of its own. Belongs to the loop on which the first question is asked."""

    def __init__(
        self,
        *,
        timeout_s: float,
        max_bytes: int = MAX_ANSWER_BYTES,
        connections: int = 32,
        upstream: Upstream | None = None,
    ) -> None:
        """`timeout_s` covers all from the name's look-up to the answer's last byte, and also waiting for one of the
        `connections`; `max_bytes` is the longest body that is read. Requests are counted in `upstream`."""
        self._timeout_s = timeout_s
        self._upstream = upstream or Upstream()
        self._max_bytes = max_bytes
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to a GET. Errors: AskFailed."""
        return await self._ask("GET", url, headers or {}, None)

    async def post(self, url: str, headers: Mapping[str, str] | None, body: bytes) -> Answer:
        """The answer to a POST. Errors: AskFailed."""
        return await self._ask("POST", url, headers or {}, body)

    async def close(self) -> None:
        """Let go of all connections. Questions that are on their way fail, and so do later ones."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        session, began_at, result = self._open(), time.monotonic(), "unreachable"
        try:
            answer = await self._send(session, method, url, headers, body)
            result = "answered" if answer.status < 500 else "error"
            return answer
        except Useless:
            result = "error"
            raise
        except (Late, asyncio.CancelledError):
            result = "timeout"
            raise
        finally:
            self._upstream.note(result, time.monotonic() - began_at)

    async def _send(
        self, session: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        try:
            async with session.request(method, url, headers=headers, data=body, allow_redirects=False) as response:
                if 300 <= response.status < 400:
                    raise Useless(f"it answers with a redirect (status {response.status}), which is not followed")
                return Answer(response.status, await self._read(response))
        except TimeoutError:
            raise Late(f"it did not answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            # the texts of these may repeat a header; the kind of failure and its number do not
            detail = getattr(error, "os_error", error)
            because = detail.strerror if isinstance(detail, OSError) and detail.strerror else type(error).__name__
            raise AskFailed(f"it could not be asked: {because}") from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._max_bytes:
                response.close()
                raise Useless(f"its answer is longer than {self._max_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise AskFailed("the server is stopping")
        if self._session is None:
            options: dict[str, Any] = {
                "connector": aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEP_ALIVE_S),
                "timeout": aiohttp.ClientTimeout(total=self._timeout_s),
                "cookie_jar": aiohttp.DummyCookieJar(),
                "trust_env": False,
                # a compressed answer could be a thousand times what its bytes say
                "auto_decompress": False,
                "headers": {"accept": "application/json", "accept-encoding": "identity"},
            }
            self._session = aiohttp.ClientSession(**options)
        return self._session
