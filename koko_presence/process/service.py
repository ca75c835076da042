"""What a service does, with one worker or with many: signals, reload, drain, operator port, systemd's watchdog.

`worker_process.SingleProcessServer` and `supervisor.Supervisor` are the two forms of it. They differ in what a reload,
a drain and a question of the operator come down to, and only that stands there.
"""

import asyncio
import logging
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from koko_presence.admin.operator_port import OperatorPort
from koko_presence.admin.server_api import ServerApi
from koko_presence.admin.stats import Stats
from koko_presence.config import logs, reload
from koko_presence.config.background_io import OneAtATime
from koko_presence.config.certificate import Certificate
from koko_presence.config.schema import Config
from koko_presence.protocol import survey

from . import runtime_folder
from .os_process import SIGNALS, Terminal
from .systemd import Notifier

log = logging.getLogger("koko_presence.service")

FOLDER_EVERY_S = 60.0
DRAIN_ONCE = 0  # among the signals: drain, unless that is under way

monotonic = time.monotonic


def complain(code: int, line: str) -> int:
    """Say why the service ends, at the terminal; gives the process's exit code."""
    sys.stderr.write(f"koko-presence: {line}\n")
    return code


class Service(ABC):
    """One running service. Signals only queue: they are handled by a task, one after the other."""

    can_roll = True  # its workers can be replaced while it serves

    def __init__(self, config: Config, dev: bool, reload_config: Callable[[], Config], terminal: Terminal) -> None:
        self._config, self._dev, self._reload_config = config, dev, reload_config
        self._terminal = terminal
        self._certificate: Certificate | None = None  # what new workers serve with
        self._loop = asyncio.get_running_loop()
        self._signals: asyncio.Queue[int] = asyncio.Queue()
        self._reloads = OneAtATime(self._reload)
        self._notifier = Notifier.from_environment()
        self._folder: runtime_folder.RuntimeFolder
        self._folder_timer: asyncio.TimerHandle | None = None
        self._operator = OperatorPort(self.unready, self.metrics, self.missing)
        ServerApi(lambda: self._config.operator.api_key, self.ask, self.stats, self.drain_as_told).add_to(
            self._operator.app
        )

    # --- what the two forms do in their own way -------------------------------------------------------------------

    @abstractmethod
    def unready(self) -> str:
        """Why the service is not ready, in words; empty when it is."""

    @abstractmethod
    def missing(self) -> list[int]:
        """The slots whose own worker does not serve."""

    @abstractmethod
    async def metrics(self) -> str:
        """The text for Prometheus."""

    @abstractmethod
    async def stats(self) -> Stats:
        """The same as one document."""

    @abstractmethod
    async def ask(self, inquiry: survey.AnyInquiry) -> survey.Answers:
        """Put an inquiry of the server API to all workers."""

    @abstractmethod
    def apply(self, config: Config) -> None:
        """Serve with a new configuration, which has been read again."""

    @abstractmethod
    def roll(self) -> None:
        """Replace the workers while they serve, or say why not."""

    @abstractmethod
    def drain(self) -> None:
        """Begin to drain, or, when that has begun, end at once [Q6]."""

    @abstractmethod
    def is_leaving(self) -> bool:
        """Whether it drains or stops."""

    @abstractmethod
    def look_at_sockets(self) -> None:
        """The runtime folder is there. Make anew what is missing in it."""

    # --- signals --------------------------------------------------------------------------------------------------

    def catch_signals(self) -> None:
        """From now on signals are queued."""
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._signals.put_nowait, number)

    async def listen(self) -> None:
        """Do what signals ask for, until cancelled."""
        while True:
            number = await self._signals.get()
            try:
                self._on_signal(number)
            except Exception:
                log.exception("signal %d could not be obeyed", number)

    def _on_signal(self, number: int) -> None:
        if number == DRAIN_ONCE:
            if not self.is_leaving():
                self.drain()
        elif number == signal.SIGHUP and not self._terminal.is_gone:
            self._reloads.ask()
        elif number == signal.SIGUSR2:
            self.roll()
        else:
            self.drain()

    def drain_as_told(self) -> None:
        """What POST /api/drain does: as a first SIGTERM. It may be repeated, since an answer can be lost."""
        self._signals.put_nowait(DRAIN_ONCE)

    async def _reload(self) -> None:
        self._notifier.reloading()
        try:
            config = await reload.read_again(
                self._reload_config, lambda: self._config, rolling=False, can_roll=self.can_roll
            )
            if config is not None:
                await reload.look_at_certificate(config.server, self._certificate, can_roll=self.can_roll)
                self.apply(config)
                self._config = config
                logs.configure(config.log, config.secrets)
                log.info("configuration reloaded")
        except Exception:
            log.exception("configuration not reloaded")
        finally:
            self.reloaded()

    @abstractmethod
    def reloaded(self) -> None:
        """A reload is over: systemd is told so, unless something else is under way."""

    # --- what goes on beside --------------------------------------------------------------------------------------

    async def open_operator_port(self) -> str:
        """Answer on it. Gives the line for people when that is not possible, else an empty one."""
        try:
            await self._operator.start(self._config.operator, dev=self._dev)
        except OSError as error:
            return runtime_folder.no_operator_port(self._config, error)
        return ""

    async def close_operator_port(self) -> None:
        """Answer no more."""
        await self._operator.stop()

    def watch_folder(self) -> None:
        """See to the runtime folder now and once a minute."""
        self._folder_timer = self._loop.call_later(FOLDER_EVERY_S, self.watch_folder)
        self.mend_folder()

    def mend_folder(self) -> None:
        """Make the runtime folder again if it is gone, and what belongs into it."""
        try:
            if self._folder.mend():
                log.warning("the runtime folder was gone and is made again", extra={"folder": str(self._folder.path)})
        except runtime_folder.RuntimeFault as fault:
            log.error("the runtime folder is gone: %s", fault)
            return
        self.look_at_sockets()

    def leave_folder(self) -> None:
        """Look no more."""
        if self._folder_timer is not None:
            self._folder_timer.cancel()
