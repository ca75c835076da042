"""Detects the end of the process at the other end of a Unix socket; a closed connection alone does not prove it."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable


class ProcessWatch:
    """Calls `on_end` once, when the process has ended. It uses a process descriptor [pidfd_open(2)], which stays valid
    for this process even when its number is reused."""

    def __init__(self, sock: socket.socket, on_end: Callable[[], None]) -> None:
        """Watch the process that listens at the other end of `sock`, a connected Unix socket [unix(7), SO_PEERCRED].
        Errors: OSError when no descriptor is available; ProcessLookupError when the process has ended."""
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._pidfd: int | None = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._end)

    def _end(self) -> None:
        self.close()
        self._on_end()

    def close(self) -> None:
        """Stop watching."""
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
