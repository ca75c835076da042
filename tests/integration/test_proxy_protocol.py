"""The PROXY protocol, version 2: required where it is switched on, and accepted from trusted proxies only [Q5]."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from koko_presence._fastpath.counters import counters
from koko_presence.config.trusted_proxies import Address
from koko_presence.server.address_counts import CONNECTIONS
from koko_presence.server.address_limits import FREE
from koko_presence.server.proxy_protocol import LOCAL, LONGEST_HEADER_BYTES, PROXY, SIGNATURE, TCP4, TCP6, ProxyHeaders
from tests.live import Live, live
from tests.waiting import until

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def header(source: str = "203.0.113.9", *, command: int = PROXY, more: bytes = b"") -> bytes:
    """The header that a proxy sends before the bytes of the client at `source`."""
    address = ip_address(source)
    body = address.packed + ip_address("192.0.2.1" if address.version == 4 else "2001:db8::1").packed + bytes(4) + more
    family = TCP4 if address.version == 4 else TCP6
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


def told(*data: bytes) -> tuple[list[Address | None], bytes, bool]:
    """Send these pieces on one connection. Returns the addresses that the stage reported, the bytes left after the
    header, and whether the connection was closed."""

    async def test() -> tuple[list[Address | None], bytes, bool]:
        found: list[Address | None] = []
        stage = ProxyHeaders(lambda sock, address: found.append(address))
        with socket.create_server(("127.0.0.1", 0)) as server:
            theirs = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        ours.setblocking(False)
        stage.add(ours, 60.0, FREE)
        for part in data:
            theirs.send(part)
            await asyncio.sleep(0.01)
        await until(lambda: bool(found) or ours.fileno() < 0)
        left = ours.recv(100) if ours.fileno() >= 0 and data[-1:] and not stage else b""
        closed = ours.fileno() < 0
        theirs.close()
        ours.close()
        return found, left, closed

    return uvloop.run(test())


@pytest.mark.parametrize(
    ("pieces", "address"),
    [
        ([header() + b"rest"], IPv4Address("203.0.113.9")),
        ([header("2001:db8::7", more=b"\x04\x00\x01x") + b"rest"], IPv6Address("2001:db8::7")),
        ([header("::ffff:203.0.113.9") + b"rest"], IPv4Address("203.0.113.9")),
        ([header()[:5], header()[5:20], header()[20:] + b"rest"], IPv4Address("203.0.113.9")),
        ([SIGNATURE + bytes((LOCAL, 0, 0, 0)) + b"rest"], None),
        ([header(command=LOCAL) + b"rest"], None),
        ([SIGNATURE + bytes((PROXY, 0x31, 0, 216)) + bytes(216) + b"rest"], None),  # a Unix socket
        ([SIGNATURE + bytes((PROXY, TCP4, 0, 2)) + b"xx" + b"rest"], None),  # shorter than two addresses
    ],
)
def test_a_header_is_removed_and_gives_the_address_of_the_client(pieces: list[bytes], address: Any) -> None:
    assert told(*pieces) == ([address], b"rest", False)


@pytest.mark.parametrize(
    "data",
    [
        GET,
        b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n",  # version 1
        SIGNATURE + bytes((0x31, TCP4, 0, 12)) + bytes(12),
        SIGNATURE + bytes((PROXY, TCP4)) + (LONGEST_HEADER_BYTES).to_bytes(2, "big"),
    ],
)
def test_a_connection_without_a_valid_header_is_closed(data: bytes) -> None:
    assert told(data) == ([], b"", True)


async def answer(server: Live, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.worker.port)
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_connections_count_for_the_address_in_the_header_and_others_may_not_connect() -> None:
    async def test() -> None:
        async with live(trusted_proxies=["127.0.0.1"], address_connections=1) as server:
            worker = server.worker
            changed = msgspec.structs.replace(worker.config.server, proxy_protocol=True)
            worker.reload(msgspec.structs.replace(worker.config, server=changed))
            counts = worker.addresses._counts
            cell_indexes = counts.cell_indexes("203.0.113.9")
            assert await answer(server, GET) == b"", "a header is required"
            kept = await asyncio.open_connection("127.0.0.1", worker.port)
            kept[1].write(header() + GET[:10])
            await until(lambda: counts.count(CONNECTIONS, cell_indexes) == 1)
            assert (await answer(server, header() + GET)).startswith(b"HTTP/1.1 503 ")
            assert (await answer(server, header("198.51.100.1") + GET)).startswith(b"HTTP/1.1 200 ")
            assert (await answer(server, SIGNATURE + bytes((LOCAL, 0, 0, 0)) + GET)).startswith(b"HTTP/1.1 200 ")
            kept[1].close()
            await until(lambda: counts.count(CONNECTIONS, cell_indexes) == 0)
            changed = msgspec.structs.replace(changed, trusted_proxies=("192.0.2.1",))
            worker.reload(msgspec.structs.replace(worker.config, server=changed))
            assert await answer(server, header("198.51.100.1") + GET) == b"", "this one is not trusted"

    uvloop.run(test())


def test_a_connection_that_waits_for_a_header_counts_and_a_full_server_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with live(trusted_proxies=["127.0.0.1"]) as server:
            worker = server.worker
            changed = msgspec.structs.replace(worker.config.server, proxy_protocol=True)
            worker.reload(msgspec.structs.replace(worker.config, server=changed))
            acceptor, before = worker.acceptor, counters.turned_away
            acceptor.max_connections = 2
            silent = [await asyncio.open_connection("127.0.0.1", worker.port) for _ in range(2)]
            await until(lambda: acceptor._entering == 2)
            assert await answer(server, header() + GET) == b"" and counters.turned_away == before + 1
            assert [record.message for record in caplog.records if "connection limit reached" in record.message]
            for _, writer in silent:
                writer.close()
            await until(lambda: acceptor._entering == 0)
            assert (await answer(server, header() + GET)).startswith(b"HTTP/1.1 200 ")

    uvloop.run(test())


def test_the_header_comes_before_tls(certificate: tuple[Path, Path], trusting: Any) -> None:
    async def test() -> None:
        async with live(trusted_proxies=["127.0.0.1"], tls=certificate) as server:
            worker = server.worker
            changed = msgspec.structs.replace(worker.config.server, proxy_protocol=True)
            worker.reload(msgspec.structs.replace(worker.config, server=changed))

            def story() -> bytes:
                sock = socket.create_connection(("127.0.0.1", worker.port), 20)
                sock.sendall(header())
                with trusting.wrap_socket(sock, server_hostname="localhost") as secure:
                    secure.sendall(GET)
                    return bytes(secure.recv(100))

            assert (await asyncio.to_thread(story)).startswith(b"HTTP/1.1 200 ")

    uvloop.run(test())
