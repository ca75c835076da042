"""The part of a service that does not depend on the number of workers: signals, reload, drain, operator port, runtime
folder.

`worker_process.SingleProcessServer` and `supervisor.Supervisor` implement the rest: how a reload, a drain and a survey
request are carried out. Signals are queued by their handlers and handled by one task, in the order of arrival.
`Service` and the subclass write the state.
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
MAX_PRESENCE_OFF = 10_000  # users whose presence is off by a call [Q11]; each worker has the list
DRAIN_ONCE = 0  # a queue entry beside the signals: drain, unless a drain is in progress

monotonic = time.monotonic


def complain(code: int, line: str) -> int:
    """Write the reason for the end of the service to stderr; returns `code`, the exit code of the process."""
    sys.stderr.write(f"koko-presence: {line}\n")
    return code


class Service(ABC):
    """One running service. Signal handlers only queue the signal; one task handles them, one after the other."""

    can_roll = True  # whether workers can be replaced while the service runs

    def __init__(self, config: Config, dev: bool, reload_config: Callable[[], Config], terminal: Terminal) -> None:
        self._config, self._dev, self._reload_config = config, dev, reload_config
        self._terminal = terminal
        self._certificate: Certificate | None = None  # for workers that start from now on
        self._loop = asyncio.get_running_loop()
        self._signals: asyncio.Queue[int] = asyncio.Queue()
        self._reloads = OneAtATime(self._reload)
        self._notifier = Notifier.from_environment()
        self._folder: runtime_folder.RuntimeFolder
        self._folder_timer: asyncio.TimerHandle | None = None
        self._operator = OperatorPort(self.unready, self.metrics, self.missing)
        self._presence_off: dict[str, None] = {}  # users whose presence the back end has switched off, in order [Q11]
        ServerApi(
            lambda: self._config.operator.api_key,
            self.run_survey,
            self.stats,
            self.drain_on_request,
            self.switch_presence,
        ).add_to(self._operator.app)

    # --- implemented by the subclasses ----------------------------------------------------------------------------

    @abstractmethod
    def unready(self) -> str:
        """The reason why the service is not ready, as text; empty if it is."""

    @abstractmethod
    def missing(self) -> list[int]:
        """The slots whose own worker does not serve."""

    @abstractmethod
    async def metrics(self) -> str:
        """The metrics in the text format of Prometheus."""

    @abstractmethod
    async def stats(self) -> Stats:
        """The metrics as one document."""

    @abstractmethod
    async def run_survey(self, request: survey.AnySurveyRequest) -> survey.Answers:
        """Send a survey request of the server API to all workers and collect their answers."""

    @abstractmethod
    def tell_presence(self, user_id: str, *, on: bool) -> None:
        """Tell all workers, also those that start, that the back end has switched a user's presence on or off."""

    @abstractmethod
    def apply(self, config: Config) -> None:
        """Apply a configuration that was read again."""

    @abstractmethod
    def roll(self) -> None:
        """Replace the workers while the service runs, or log why that is impossible."""

    @abstractmethod
    def drain(self) -> None:
        """Begin to drain; during a drain, end at once [Q6]."""

    @abstractmethod
    def is_leaving(self) -> bool:
        """Whether the service drains or stops."""

    @abstractmethod
    def look_at_sockets(self) -> None:
        """Create what is missing in the runtime folder, which exists."""

    # --- presence of users ----------------------------------------------------------------------------------------

    def switch_presence(self, user_id: str, *, on: bool) -> bool:
        """Switch a user's presence on or off, for as long as the service runs [Q11]. Return False when it is off for as
        many users as are kept."""
        if not on and user_id not in self._presence_off and len(self._presence_off) >= MAX_PRESENCE_OFF:
            return False
        if on:
            self._presence_off.pop(user_id, None)
        else:
            self._presence_off[user_id] = None
        self.tell_presence(user_id, on=on)
        return True

    # --- signals --------------------------------------------------------------------------------------------------

    def catch_signals(self) -> None:
        """Install the signal handlers."""
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._signals.put_nowait, number)

    async def listen(self) -> None:
        """Handle queued signals until cancelled."""
        while True:
            number = await self._signals.get()
            try:
                self._on_signal(number)
            except Exception:
                log.exception("signal %d could not be handled", number)

    def _on_signal(self, number: int) -> None:
        if number == DRAIN_ONCE:
            if not self.is_leaving():
                self.drain()
        elif number == signal.SIGHUP and not self._terminal.is_gone:
            self._reloads.request()
        elif number == signal.SIGUSR2:
            self.roll()
        else:
            self.drain()

    def drain_on_request(self) -> None:
        """Queue a drain for POST /api/drain: it acts as a first SIGTERM. It may be repeated, since a client repeats a
        request whose answer was lost."""
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
        """Report the end of a reload to systemd, unless another operation is in progress."""

    # --- operator port and runtime folder -------------------------------------------------------------------------

    async def open_operator_port(self) -> str:
        """Open the operator port. Returns the error message for the operator; empty on success."""
        try:
            await self._operator.start(self._config.operator, dev=self._dev)
        except OSError as error:
            return runtime_folder.no_operator_port(self._config, error)
        return ""

    async def close_operator_port(self) -> None:
        """Close the operator port."""
        await self._operator.stop()

    def watch_folder(self) -> None:
        """Check the runtime folder now and every FOLDER_EVERY_S."""
        self._folder_timer = self._loop.call_later(FOLDER_EVERY_S, self.watch_folder)
        self.mend_folder()

    def mend_folder(self) -> None:
        """Create the runtime folder and its files again if they were removed."""
        try:
            if self._folder.mend():
                log.warning(
                    "the runtime folder was missing and was created again", extra={"folder": str(self._folder.path)}
                )
        except runtime_folder.RuntimeFault as fault:
            log.error("the runtime folder is missing: %s", fault)
            return
        self.look_at_sockets()

    def leave_folder(self) -> None:
        """End the checks of the runtime folder."""
        if self._folder_timer is not None:
            self._folder_timer.cancel()
