"""A TCP proxy to the server that a test can cut, or that can hold back a video: setOffline of the browser does not
affect WebSockets."""

import contextlib
import socket
import struct
import threading

CHUNK = 16_384
UPGRADE = b"\r\nUpgrade: websocket\r\n"
NO_UPGRADES = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Cable:
    """Listens on `port` and forwards bytes to and from `to_port` of this host, with one thread per direction of a
    connection."""

    def __init__(self, to_port: int) -> None:
        self._to = ("127.0.0.1", to_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: set[socket.socket] = set()
        self._film_bytes: int | None = None
        self._flows = threading.Event()
        self._flows.set()
        self._is_plugged = True
        self._swallows = False
        self._moves = threading.Event()
        self._moves.set()
        self.blocks_websockets = False  # as some proxies of companies do
        self.blocked = 0  # WebSockets that were refused
        self.held = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold_film(self, after_bytes: int) -> None:
        """Let only the first `after_bytes` of each answer with a video pass, until `release`."""
        self._film_bytes = after_bytes
        self._flows.clear()

    def release(self) -> None:
        self._film_bytes = None
        self._flows.set()

    def cut(self) -> None:
        """Reset every connection without a close frame: a browser reports close code 1006."""
        for each in list(self._open):
            with contextlib.suppress(OSError):  # its own thread may have closed it already
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._end(each)

    def unplug(self) -> None:
        """Cut, and reset every new connection too, until `plug`."""
        self._is_plugged = False
        self.cut()

    def plug(self) -> None:
        self._is_plugged = True
        self._moves.set()
        if self._swallows:
            self._swallows = False
            self.cut()  # bytes are missing in what was open meanwhile

    def swallow(self) -> None:
        """Take all bytes, of new connections too, and pass none on, until `plug`: no end ever learns of it."""
        self._swallows = True

    def stall(self) -> None:
        """Keep all bytes, and pass them on at `plug`: a network that is silent for a while."""
        self._moves.clear()

    def close(self) -> None:
        self.release()
        self._moves.set()
        self._listener.close()
        self.cut()

    def _end(self, each: socket.socket) -> None:
        self._open.discard(each)
        with contextlib.suppress(OSError):  # it may be closed already
            each.shutdown(socket.SHUT_RDWR)
        each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                if not self._is_plugged:
                    near.close()
                    continue
                if self._swallows:
                    self._open.add(near)
                    continue
                far = socket.create_connection(self._to)
            except OSError:
                return
            self._open |= {near, far}
            for source, target, is_answer in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pass, args=(source, target, is_answer), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        film = 0
        try:
            while data := source.recv(CHUNK):
                if self.blocks_websockets and not is_answer and UPGRADE in data:
                    self.blocked += 1
                    source.sendall(NO_UPGRADES)
                    break
                if self._swallows:
                    continue
                if is_answer and b"Content-Type: video/" in data:
                    film = 1
                elif film:
                    film += len(data)
                if self._film_bytes is not None and film > self._film_bytes:
                    self.held.set()
                    self._flows.wait()
                self._moves.wait()
                target.sendall(data)
        except OSError:
            pass  # the connection was cut
        self._end(source)
        self._end(target)
