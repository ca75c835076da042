"""A WebSocket client that can send any bytes and reads frames. Blocking, with a time-out on every call."""

import socket
import ssl
import zlib
from typing import NamedTuple

from tests.waiting import PATIENCE_S

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Frame(NamedTuple):
    first_byte: int
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.first_byte & 15


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: bytes | None = None,
) -> bytes:
    """Return one client frame; `length` replaces the length bytes, flag byte included."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length is None:
        size = len(payload)
        if size < 126:
            length = bytes([size])
        elif size < 65536:
            length = bytes([126]) + size.to_bytes(2, "big")
        else:
            length = bytes([127]) + size.to_bytes(8, "big")
    if not masked:
        return head + length + payload
    # the same in every process, because it becomes part of test names
    mask = zlib.crc32(payload, opcode + 1).to_bytes(4, "big")
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")
    return head + bytes([length[0] | 0x80]) + length[1:] + mask + body


def handshake(path: str = "/presence", **headers: str | None) -> bytes:
    """Return an upgrade request. A header given as None is left out; underscores stand for hyphens."""
    fields: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    known = {name.lower(): name for name in fields}
    for name, value in given.items():
        fields[known.get(name.lower(), name)] = value
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return f"GET {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n"


class RawSocket:
    """A TCP (or TLS) connection with a buffer."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.sock: socket.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.buffer = b""

    def __enter__(self) -> "RawSocket":
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes. Errors: EOFError when the other end has closed."""
        while len(self.buffer) < size:
            self._fill()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_head(self) -> str:
        """Return a response's head, up to the empty line. Errors: EOFError."""
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def read_to_end(self) -> bytes:
        try:
            while True:
                self._fill()
        except EOFError:
            pass
        data, self.buffer = self.buffer, b""
        return data

    def _fill(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        self.buffer += data

    def upgrade(self, path: str = "/presence", **headers: str | None) -> str:
        """Do the opening handshake and return the response's status line."""
        self.send(handshake(path, **headers))
        return self.read_head().split("\r\n")[0]

    def read_frame(self) -> Frame:
        first, second = self.read(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(self.read(2 if size == 126 else 8), "big")
        return Frame(first, self.read(size))

    def read_close(self) -> int | None:
        """Return the code of the next close frame, skipping the frames before it; None when the connection ends without
        one."""
        try:
            while (got := self.read_frame()).opcode != CLOSE:
                pass
        except EOFError:
            return None
        return int.from_bytes(got.payload[:2], "big") if got.payload else 1005
