"""Sends HTTP requests to other servers: for keys, for a token's user, for access to a room, for webhooks.

Size and time of an answer are bounded. A request goes only to the configured host: redirects, proxies from the
environment and cookies of earlier answers are not used. `HttpClient` is the only writer of its state.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from koko_presence.admin.upstream_metrics import Upstream

MAX_ANSWER_BYTES = 64 * 1024
# Node closes idle connections after 5 s; a connection that is closed here before cannot be closed during a request
KEEP_ALIVE_S = 4.0


class Answer(NamedTuple):
    """An answer: any status except a redirect, and the complete body."""

    status: int
    body: bytes


class RequestFailed(Exception):
    """The request has no usable answer. The text is for the operator and never contains the request."""


class UnusableResponse(RequestFailed):
    """The server has answered with a redirect or too long a body: it is reachable, and the next request may succeed."""


class ResponseTimeout(RequestFailed):
    """The server has not answered within the time-out."""


class HttpClient:
    """An HTTP client with its own connection pool. It belongs to the event loop on which the first request is sent."""

    def __init__(
        self,
        *,
        timeout_s: float,
        max_bytes: int = MAX_ANSWER_BYTES,
        connections: int = 32,
        upstream: Upstream | None = None,
    ) -> None:
        """`timeout_s` covers a whole request: waiting for one of the `connections`, the look-up of the name, and
        reading the answer to its last byte. `max_bytes` is the largest body that is read. Requests are counted in
        `upstream`."""
        self._timeout_s = timeout_s
        self._upstream = upstream or Upstream()
        self._max_bytes = max_bytes
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET request and return the answer. Errors: `RequestFailed`."""
        return await self._request("GET", url, headers or {}, None)

    async def post(self, url: str, headers: Mapping[str, str] | None, body: bytes) -> Answer:
        """Send a POST request and return the answer. Errors: `RequestFailed`."""
        return await self._request("POST", url, headers or {}, body)

    async def close(self) -> None:
        """Close all connections. Pending requests fail, and so do later ones."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        session, began_at, result = self._open(), time.monotonic(), "unreachable"
        try:
            answer = await self._send(session, method, url, headers, body)
            result = "answered" if answer.status < 500 else "error"
            return answer
        except UnusableResponse:
            result = "error"
            raise
        except (ResponseTimeout, asyncio.CancelledError):
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
                    raise UnusableResponse(
                        f"it answers with a redirect (status {response.status}), which is not followed"
                    )
                return Answer(response.status, await self._read(response))
        except TimeoutError:
            raise ResponseTimeout(f"it did not answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            # the texts of these errors may contain a header; the kind of error and its errno text do not
            detail = getattr(error, "os_error", error)
            because = detail.strerror if isinstance(detail, OSError) and detail.strerror else type(error).__name__
            raise RequestFailed(f"it could not be asked: {because}") from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._max_bytes:
                response.close()
                raise UnusableResponse(f"its answer is longer than {self._max_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RequestFailed("the server is stopping")
        if self._session is None:
            options: dict[str, Any] = {
                "connector": aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEP_ALIVE_S),
                "timeout": aiohttp.ClientTimeout(total=self._timeout_s),
                "cookie_jar": aiohttp.DummyCookieJar(),
                "trust_env": False,
                # a compressed body could expand to a thousand times its size
                "auto_decompress": False,
                "headers": {"accept": "application/json", "accept-encoding": "identity"},
            }
            self._session = aiohttp.ClientSession(**options)
        return self._session
