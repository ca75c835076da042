"""Tells when the process at the other end of a Unix socket has ended, which a closed connection alone does not say."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable


class ProcessWatch:
    """Calls `on_end` once, when the process has ended: by its descriptor [pidfd_open(2)], which is of that process and
    no other one that gets its number later."""

    def __init__(self, sock: socket.socket, on_end: Callable[[], None]) -> None:
        """The process is that which listens at the other end of `sock`, a Unix socket that has connected [unix(7),
        SO_PEERCRED]. Errors: OSError when there is no descriptor to be had; ProcessLookupError when it has ended."""
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._pidfd: int | None = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._end)

    def _end(self) -> None:
        self.close()
        self._on_end()

    def close(self) -> None:
        """Watch no more."""
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
