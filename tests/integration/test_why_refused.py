"""A page whose WebSocket was refused asks for the reason, which a browser hides: a plain GET of the same address with
`why` [A8]."""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from koko_presence.server.http.site import BAD_WHY
from koko_presence.server.rpc import NO_MEMORY
from tests.integration.conftest import Run
from tests.live import Live, live

LISTED, OTHER = "https://app.example", "https://other.example"
Ask = Callable[..., Coroutine[Any, Any, tuple[int, dict[str, Any]]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "koko_presence.origins")
    return caplog


def asking(server: Live, http: aiohttp.ClientSession, path: str = "/presence") -> Ask:
    """A function that asks as a page of the origin `page`, and returns the status and the body; every page may read
    them."""
    base = server.url.replace("ws:", "http:").removesuffix("/presence")

    async def ask(page: str, *, path: str = path, **headers: str) -> tuple[int, dict[str, Any]]:
        async with http.get(f"{base}{path}?tenant=7&why={quote(page, safe='')}", headers=headers) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.status == 429 or answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store" and answer.content_type == "application/json"
            return answer.status, await answer.json()

    return ask


@pytest.mark.parametrize("path", ["/presence", "/trpc"])
def test_a_page_is_told_whether_its_origin_may_connect(run: Run, path: str, lines: pytest.LogCaptureFixture) -> None:
    """A page of the server's own host sends no Origin with a GET, so it names it. (Behind a proxy that does not pass
    Host on, such a page was told that WebSockets are blocked.)"""

    async def test() -> None:
        async with live(origins=[LISTED]) as server, aiohttp.ClientSession() as http:
            ask = asking(server, http, path)
            assert await ask(LISTED) == (200, {}) == await ask("HTTPS://App.Example") == await ask("")
            assert await ask(OTHER, Host="other.example") == (200, {}), "its own page"
            status, body = await ask(OTHER)
            assert status == 200 and f'add "{OTHER}" to it' in body["error"] and set(body) == {"error"}
            await ask(OTHER)
            status, body = await ask("null")
            assert status == 200 and "it has no host (null)" in body["error"]

    run(test())
    assert [line.getMessage().split(" was refused")[0] for line in lines.records] == [
        f"a page of the origin {origin}" for origin in (OTHER, "null")
    ], "once a minute, as at an upgrade"


def test_a_page_learns_nothing_about_the_origin_of_another_one(run: Run, lines: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with live(origins=[LISTED]) as server, aiohttp.ClientSession() as http:
            ask = asking(server, http)
            for page in (LISTED, "https://unlisted.example"):
                status, body = await ask(page, Origin=OTHER)
                assert (status, f'add "{OTHER}" to it' in body["error"]) == (200, True)

    run(test())
    assert len(lines.records) == 1 and OTHER in lines.records[0].getMessage()


@pytest.mark.parametrize(
    "page",
    ["app.example", "https://app.example\n2026-01-01 a line", "https://app.example/<script>", "https://" + "a" * 4000],
)
def test_what_is_no_origin_is_refused_and_not_logged(run: Run, page: str, lines: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with live(origins=[LISTED]) as server, aiohttp.ClientSession() as http:
            status, body = await asking(server, http)(page)
            assert status == 400 and body == {"error": BAD_WHY}

    run(test())
    assert not lines.records


def test_a_server_without_room_and_one_that_stops_say_so_on_a_kept_connection(run: Run) -> None:
    async def test() -> None:
        async with live(origins=[LISTED]) as server, aiohttp.ClientSession() as http:
            ask, acceptor = asking(server, http), server.worker.acceptor
            assert await ask(LISTED) == (200, {})
            acceptor.refuses_new_clients = True
            assert await ask(LISTED) == (200, {"error": NO_MEMORY})
            acceptor.max_connections = acceptor.open_count + 1
            assert await ask(LISTED) == (200, {"error": NO_MEMORY})
            acceptor.max_connections = acceptor.open_count
            assert (await ask(OTHER))[1]["error"].startswith("The server has no room for more connections.")
            acceptor.stop_accepting()
            status, body = await ask(LISTED)
            assert (status, body["stopping"]) == (200, True) and "is stopping" in body["error"]

    run(test())


def test_an_address_with_too_many_connections_or_requests_is_told_and_counted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        limits = {"address_connections": 2, "address_requests_hz": 5}
        async with live(trusted_proxies=["127.0.0.1"], **limits) as server, aiohttp.ClientSession() as http:  # type: ignore[arg-type]
            monkeypatch.setattr(server.worker.addresses, "_clock", lambda: 1000.0)
            ask, home = asking(server, http), {"X-Forwarded-For": "203.0.113.9"}
            sockets = [await http.ws_connect(server.url, headers=home)]
            assert await ask("", **home) == (200, {})
            sockets.append(await http.ws_connect(server.url, headers=home))
            status, body = await ask("", **home)
            assert status == 200 and body["error"].startswith("This address has as many connections as it may.")
            assert await ask("", **{"X-Forwarded-For": "198.51.100.1"}) == (200, {})
            assert server.worker.addresses.refusals["connections"] == 0, "the question is no connection"
            assert (await ask("", **home))[0] == 200
            assert await ask("", **home) == (429, {"error": "This address sends too many requests."})
            assert server.worker.addresses.refusals["requests"] == 1
            for each in sockets:
                await each.close()

    run(test())


def test_a_plain_get_is_answered_as_before(run: Run) -> None:
    async def test() -> None:
        async with live(origins=[LISTED]) as server:
            for query in ("", "?a=1", "?why", "?whyever=1"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.worker.port)
                request = f"GET /presence{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                writer.close()
                fields = [line for line in head.split(b"\r\n") if not line.startswith((b"Date: ", b"Server: "))]
                assert fields == [
                    b"HTTP/1.1 426 Upgrade Required",
                    b"Cache-Control: no-store",
                    b"Content-Type: application/json",
                    b"Upgrade: websocket",
                    b"Connection: Upgrade",
                    b"Access-Control-Allow-Origin: *",
                    b"Cross-Origin-Resource-Policy: cross-origin",
                    b"X-Content-Type-Options: nosniff",
                    b"Content-Length: %d" % len(body),
                ]
                assert json.loads(body)["error"].startswith("This is the address of a WebSocket.")

    run(test())
