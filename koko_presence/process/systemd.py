"""What the main process tells systemd (Type=notify): ready, reloading, stopping, alive [sd_notify(3)].

Without NOTIFY_SOCKET every method does nothing, and none ever raises: a server does not fall because its manager is
gone or busy, nor does it wait. What systemd has no room for is repeated soon, in its order, as long as a loop runs.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import MutableMapping

RETRY_S = 0.2
MAX_UNSAID = 16  # the oldest go first: what was said later holds


class Notifier:
    """Sends states to the socket at `address`; `watchdog_interval_s` is how often `watchdog` is due, None for never."""

    def __init__(self, address: str = "", watchdog_interval_s: float | None = None) -> None:
        # "@name" is Linux's abstract namespace, where the first byte is zero; what is neither is of no use here
        self._address = "\0" + address[1:] if address.startswith("@") else address if address.startswith("/") else ""
        self._watchdog_interval_s = watchdog_interval_s if self._address else None
        self._unsaid: deque[bytes] = deque(maxlen=MAX_UNSAID)
        self._socket: socket.socket | None = None

    def __del__(self) -> None:
        if self._socket is not None:
            self._socket.close()

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "Notifier":
        """The one systemd asked for. Takes the variables away, so that no child process believes they are meant."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period_us = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        ours = pid in ("", str(os.getpid()))
        given = ours and period_us.isdecimal() and int(period_us) > 0
        return cls(address, int(period_us) / 2_000_000 if given else None)

    @property
    def watchdog_interval_s(self) -> float | None:
        """Seconds between two calls of `watchdog`: half of what systemd waits. None: nobody waits."""
        return self._watchdog_interval_s

    @property
    def enabled(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """Start or reload is complete; `status` is the line that `systemctl status` shows."""
        self._send("READY=1", *([_status(status)] if status else []))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        # Type=notify-reload matches this time with its own, so it is the kernel's clock, not one of ours
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, extend_s: float) -> None:
        """The end begins and takes up to `extend_s` from now. May be said again while it lasts."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={max(0, int(extend_s * 1_000_000))}")

    def watchdog(self) -> None:
        """Everything that should run does. Left out, systemd ends the service after WatchdogSec and starts it again."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows."""
        self._send(_status(text))

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        self._unsaid.append("\n".join(assignments).encode("utf-8", "backslashreplace"))
        if len(self._unsaid) == 1:
            self._say()

    def _say(self) -> None:
        """Say what is to be said, as far as there is room for it."""
        try:
            if self._socket is None:
                # kept: without a free descriptor nothing could be said, and the watchdog would end the service. Not
                # connected: systemd makes a new socket when it is upgraded
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            while self._unsaid:
                self._socket.sendto(self._unsaid[0], self._address)
                self._unsaid.popleft()
        except BlockingIOError:
            try:
                asyncio.get_running_loop().call_later(RETRY_S, self._say)
            except RuntimeError:  # no loop: before the start, or after the end
                self._unsaid.clear()
        except (OSError, ValueError):  # nobody is there; ValueError: an address with a zero byte inside
            self._unsaid.clear()


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())  # a line break would begin another assignment
