"""Sends the state of the main process to systemd (Type=notify): ready, reloading, stopping, alive [sd_notify(3)].

Without NOTIFY_SOCKET every method does nothing. No method raises or blocks, also if the service manager is gone or
busy. Messages for which the socket has no room are sent again every RETRY_S, in their order, while an event loop runs.
`Notifier` writes its own state.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import MutableMapping

RETRY_S = 0.2
MAX_UNSENT = 16  # the oldest are dropped: a later state replaces an earlier one


class Notifier:
    """Sends states to the socket at `address`. `watchdog_interval_s` is the interval for calls of `watchdog`; None
    without a watchdog."""

    def __init__(self, address: str = "", watchdog_interval_s: float | None = None) -> None:
        # "@name" is Linux's abstract namespace, with a zero as its first byte; any other form without a leading slash
        # is ignored
        self._address = "\0" + address[1:] if address.startswith("@") else address if address.startswith("/") else ""
        self._watchdog_interval_s = watchdog_interval_s if self._address else None
        self._unsent: deque[bytes] = deque(maxlen=MAX_UNSENT)
        self._socket: socket.socket | None = None

    def __del__(self) -> None:
        if self._socket is not None:
            self._socket.close()

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "Notifier":
        """Create the notifier from the variables of systemd, and remove these from `environment`, since they do not
        apply to child processes."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period_us = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        ours = pid in ("", str(os.getpid()))
        given = ours and period_us.isdecimal() and int(period_us) > 0
        return cls(address, int(period_us) / 2_000_000 if given else None)

    @property
    def watchdog_interval_s(self) -> float | None:
        """Seconds between two calls of `watchdog`: half of the watchdog's timeout. None without a watchdog."""
        return self._watchdog_interval_s

    @property
    def enabled(self) -> bool:
        """Whether there is a socket."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """Report the end of a start or a reload; `status` is the line that `systemctl status` shows."""
        self._send("READY=1", *([_status(status)] if status else []))

    def reloading(self) -> None:
        """Report the beginning of a reload; `ready` ends it."""
        # Type=notify-reload compares this time with its own, so it is read from the kernel's monotonic clock
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, extend_s: float) -> None:
        """Report the beginning of the end, which takes up to `extend_s` seconds from now. May be repeated."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={max(0, int(extend_s * 1_000_000))}")

    def watchdog(self) -> None:
        """Report that this process is alive. Without it systemd restarts the service after WatchdogSec."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(_status(text))

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        self._unsent.append("\n".join(assignments).encode("utf-8", "backslashreplace"))
        if len(self._unsent) == 1:
            self._send_unsent()

    def _send_unsent(self) -> None:
        """Send the queued messages, as far as the socket has room."""
        try:
            if self._socket is None:
                # kept open: without a free descriptor no message could be sent, and the watchdog would end the service.
                # Not connected: systemd creates a new socket when it is upgraded
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            while self._unsent:
                self._socket.sendto(self._unsent[0], self._address)
                self._unsent.popleft()
        except BlockingIOError:
            try:
                asyncio.get_running_loop().call_later(RETRY_S, self._send_unsent)
            except RuntimeError:  # no loop runs
                self._unsent.clear()
        except (OSError, ValueError):  # no receiver; ValueError: an address with a zero byte inside
            self._unsent.clear()


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())  # a line break would begin another assignment
