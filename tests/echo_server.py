"""A WebSocket echo on the product's own connection layer, for conformance runs: `python -m tests.echo_server HOST
PORT`.

Texts and binaries up to --max-bytes (default 16 MiB) are sent back unchanged, on every path. SIGTERM and Ctrl-C stop
it. Input is read without a limit on its rate; --frames-hz and --bytes-hz switch on the read budget of a connection,
with these rates.
"""

import argparse
import asyncio
import signal
import ssl
import sys

import uvloop
from aiohttp import web

from koko_presence._fastpath.epoll_transport import Poller
from koko_presence._fastpath.read_budget import ReadBudget
from koko_presence.server.acceptor import Acceptor
from koko_presence.server.http.site import HttpServer
from koko_presence.server.websocket import Connection

UNLIMITED_HZ = 1e12


class Echo:
    """Sends every message back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def on_open(self, connection: Connection) -> None:
        connection.lift_preauth_limit()

    def on_text(self, data: bytes) -> None:
        self._connection.send_text(data)

    def on_binary(self, data: bytes) -> None:
        self._connection.send_binary(data)

    def on_too_large(self, size: int) -> None:
        self._connection.close(1009, "too big")

    def on_ping(self, count: int = 1) -> None: ...

    def on_pong(self, payload: bytes, count: int = 1) -> None: ...

    def on_throttled(self, until: float) -> None: ...

    def on_preauth_limit(self) -> None: ...

    def on_close(self, code: int | None, clean: bool) -> None: ...

    def on_writable(self) -> None: ...

    def on_unwritable(self) -> None: ...


async def not_found(request: web.BaseRequest) -> web.Response:
    return web.Response(status=404, text="This is a WebSocket echo.")


async def serve(
    host: str, port: int, max_bytes: int, tls: ssl.SSLContext | None, frames_hz: float, bytes_hz: float
) -> None:
    """Serve until a signal arrives. A rate of 0 means no limit."""

    def make_read_budget() -> ReadBudget | None:
        if not (frames_hz or bytes_hz):
            return None
        frames, size = frames_hz or UNLIMITED_HZ, bytes_hz or UNLIMITED_HZ
        return ReadBudget(frames, max(1.0, frames), size, max(size, 2.0 * max_bytes), 0)

    acceptor = Acceptor(
        make_handler=Echo,
        make_read_budget=make_read_budget,
        http_protocol=HttpServer(not_found),
        max_message_bytes=max_bytes,
        max_frame_bytes=max_bytes,
        ssl_context=tls,
        ws_paths=None,
        poller=Poller(asyncio.get_running_loop()),
    )
    await acceptor.open(host, port)
    scheme = "wss" if tls else "ws"
    sys.stdout.write(f"listening on {scheme}://{host}:{next(iter(acceptor.sockets)).getsockname()[1]}/\n")
    sys.stdout.flush()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await acceptor.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--max-bytes", type=int, default=16 * 1024 * 1024)
    parser.add_argument("--frames-hz", type=float, default=0.0, help="frames a second that are read of one connection")
    parser.add_argument("--bytes-hz", type=float, default=0.0, help="bytes a second that are read of one connection")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    arguments = parser.parse_args()
    context = None
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
    rates = (arguments.frames_hz, arguments.bytes_hz)
    uvloop.run(serve(arguments.host, arguments.port, arguments.max_bytes, context, *rates))


if __name__ == "__main__":
    main()
