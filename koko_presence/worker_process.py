"""The process around a worker: alone, or as one of several under a supervisor.

Alone it is the whole service: signals, operator port, what systemd wants to know. Under a supervisor it is
`python -m koko_presence.worker_process FD`: FD is its end of the control channel, by which everything else comes, the
configuration included, so that no secret stands in a command line or an environment. It beats from its own loop, and
ends with the channel.
"""

import asyncio
import codecs
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import msgspec
import uvloop

from . import inquiries
from .cluster import control
from .cluster.control import Beat, Begin, Channel, Drained, Failed, Ready, Serving, Snapshot
from .cluster.questions import ANSWER_WITHIN_S
from .ops import logs, queued_stream, reloading, runtime
from .ops.beside import OneAtATime
from .ops.collect import versions
from .ops.config import Config, load
from .ops.descriptors import Descriptors, allowed
from .ops.exhaustion import end_when_exhausted
from .ops.main_watch import EVERY_S, MainWatch
from .ops.metrics import render
from .ops.operator import OperatorPort
from .ops.processes import SIGNALS, Terminal, go_first_for_memory, prepare
from .ops.server_api import ServerApi
from .ops.stats import Stats, stats
from .ops.systemd import Notifier
from .worker import DRAIN_LONGEST_S, Place, Worker, monotonic

log = logging.getLogger("koko_presence.worker")

BEAT_S = 0.5
STOP_EXTEND_S = 5.0
PR_SET_PDEATHSIG = 1


def calm_collector() -> None:
    """What is there at the start stays; and a busy worker's short-lived lists are no reason to look at every object."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def end_process(status: int) -> NoReturn:
    """End now, once the last lines are out. The loop is not closed: that waits for names that are being looked up. And
    nothing is left to be tidied up, which takes its time with a big heap."""
    sys.stdout.flush()
    queued_stream.drain()
    os._exit(status)


def load_ahead() -> None:
    """Load what Python would read from files when it is used for the first time, while people wait."""
    for codec in ("utf-16-le", "unicode_escape", "idna"):
        codecs.lookup(codec)
    versions()


def say_what_fits(worker: Worker) -> None:
    """How many connections the worker can hold, in its log."""
    fits = {"connections": worker.door.max_connections, "used": Descriptors().used(), "allowed": allowed()}
    log.info("connections that the descriptor limit allows", extra=fits)


# --- alone --------------------------------------------------------------------------------------------------------


def run(config: Config, *, dev: bool = False, reload_config: Callable[[], Config] | None = None) -> NoReturn:
    """Serve with one worker until SIGINT or SIGTERM; SIGHUP reads the configuration again, SIGUSR1 writes the stacks of
    all threads to the log. Then the process ends, with exit code 0 after a drain, 2 when an address or the certificate
    cannot be used, which no restart helps."""
    terminal = Terminal()
    prepare()
    uvloop.run(_serve_alone(config, dev, reload_config or load, terminal))


async def _serve_alone(config: Config, dev: bool, reload_config: Callable[[], Config], terminal: Terminal) -> NoReturn:
    end_when_exhausted(asyncio.get_running_loop())
    end_process(await Alone(config, dev, reload_config, terminal).serve())


class Alone:
    """A service of one worker."""

    def __init__(self, config: Config, dev: bool, reload_config: Callable[[], Config], terminal: Terminal) -> None:
        self._config, self._dev, self._reload_config = config, dev, reload_config
        self._terminal = terminal
        self._reason = "starting"
        self._signals: asyncio.Queue[int] = asyncio.Queue()
        self._reloads = OneAtATime(self._reload)
        self._notifier = Notifier.from_environment()
        self._main_watch = MainWatch(is_supervisor=False)
        self._worker: Worker

    async def serve(self) -> int:
        config, line = self._config, ""
        operator = OperatorPort(lambda: self._reason, self._metrics)
        ServerApi(
            lambda: self._config.operator.api_key,
            self._ask,
            self._stats,
            lambda: self._signals.put_nowait(signal.SIGTERM),
        ).add_to(operator.app)
        folder: runtime.RuntimeFolder | None = None
        try:
            self._worker = Worker(config, dev=self._dev)
            await self._worker.start()
        except OSError as error:
            sys.stderr.write(f"koko-presence: {runtime.cannot_serve(config, error)}\n")
            return 2
        port = self._worker.port
        try:
            folder = runtime.RuntimeFolder(runtime.runtime_dir(config, port), 1)
            await operator.start(config.operator, dev=self._dev)
        except runtime.RuntimeFault as fault:
            line = str(fault)
        except OSError as error:
            line = runtime.no_operator_port(config, error)
        if line:
            sys.stderr.write(f"koko-presence: {line}\n")
        else:
            load_ahead()
            calm_collector()
            say_what_fits(self._worker)
            log.info("serving", extra=runtime.serving_fields(config, port))
            await self._until_told(port)
        await operator.stop()
        await self._worker.stop()
        if folder is not None:
            folder.close()
        return 2 if line else 0

    async def _until_told(self, port: int) -> None:
        signals = self._signals
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
        self._reason = ""
        runtime.announce(self._config, port, dev=self._dev)
        self._notifier.ready("serving")
        self._watch()
        self._tick()
        while (told := await signals.get()) in (signal.SIGHUP, signal.SIGUSR2):
            if told == signal.SIGHUP and self._terminal.is_gone:
                break
            if told == signal.SIGHUP:
                self._reloads.ask()
            else:
                log.warning(
                    "one worker cannot be replaced while it serves: restart, or set server.workers to 2 or more"
                )
        self._reason = "draining"
        self._notifier.stopping(DRAIN_LONGEST_S + STOP_EXTEND_S)
        log.info("draining", extra={"connections": len(self._worker.hub.connections)})
        drained = asyncio.ensure_future(self._worker.drain())
        second = asyncio.ensure_future(_next_end(signals))  # a second Ctrl-C does not wait
        await asyncio.wait((drained, second), return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, second):
            task.cancel()
        log.info("stopped")

    def _tick(self) -> None:
        self._main_watch.tick(monotonic())
        asyncio.get_running_loop().call_later(EVERY_S, self._tick)

    def _watch(self) -> None:
        interval_s = self._notifier.watchdog_interval_s
        if interval_s is not None:
            self._notifier.watchdog()
            asyncio.get_running_loop().call_later(interval_s, self._watch)

    async def _reload(self) -> None:
        self._notifier.reloading()
        config = await reloading.read_again(self._reload_config, lambda: self._config, rolling=False)
        if config is not None:
            self._config = config
            logs.configure(config.log, config.secrets)
            self._worker.reload(config)
            log.info("configuration reloaded")
        self._notifier.ready("serving")

    async def _metrics(self) -> str:
        return render([("0", self._worker.snapshot())], main=self._main_watch.counts())

    async def _stats(self) -> Stats:
        return stats([("0", self._worker.snapshot())], unready=self._reason)

    async def _ask(self, inquiry: inquiries.AnyInquiry) -> inquiries.Answers:
        answer: asyncio.Future[inquiries.AnyAnswer | None] = asyncio.get_running_loop().create_future()
        self._worker.answering.ask(inquiry, lambda found: None if answer.done() else answer.set_result(found))
        await asyncio.wait([answer], timeout=ANSWER_WITHIN_S)
        found = answer.result() if answer.done() else None
        return inquiries.Answers(found=[found] if found else [], missing=[] if found else [0])


async def _next_end(signals: "asyncio.Queue[int]") -> None:
    while await signals.get() not in (signal.SIGINT, signal.SIGTERM):
        pass


# --- one of several -----------------------------------------------------------------------------------------------


def main(argv: list[str]) -> NoReturn:
    """Serve until the supervisor says Stop, or is gone."""
    for number in SIGNALS:  # these are the supervisor's affair, also when somebody sends them to the whole group
        signal.signal(number, signal.SIG_IGN)
    # a worker whose loop hangs sees no end of the channel, and would hold the port against the next supervisor
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    queued_stream.queue_stderr()
    prepare()
    go_first_for_memory()
    uvloop.run(_serve(socket.socket(fileno=int(argv[0]))))


async def _serve(sock: socket.socket) -> NoReturn:
    end_when_exhausted(asyncio.get_running_loop())
    end_process(await Member(sock).serve())


class Member:
    """One worker among several: does what comes by the channel."""

    def __init__(self, sock: socket.socket) -> None:
        self._worker: Worker | None = None
        self._listening: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._channel = Channel(sock, self._on_message, self._end)

    async def serve(self) -> int:
        await self._over
        if self._worker is not None:
            await self._worker.stop()
        return 0

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _on_message(self, message: Any) -> None:
        worker = self._worker
        if isinstance(message, Begin):
            try:
                self._begin(message)
            except Exception as error:  # a fault of ours: the supervisor must not have to wait until it is too late
                self._fail_by(error)
        elif isinstance(message, control.Stop) or worker is None:
            self._end()
        elif isinstance(message, control.Workers):
            log.debug("view", extra={"epoch": message.view.epoch, "peers": sorted(message.view.ids)})
            worker.on_view(message.view)
        elif isinstance(message, control.Share):
            worker.learn(message.entries)
        elif isinstance(message, control.Reload):
            config = msgspec.msgpack.decode(message.config, type=Config)
            self._log_as(config)
            worker.reload(config)
        elif isinstance(message, control.Drain):
            self._start(self._drain(worker, message.longest_s))
        elif isinstance(message, control.AskSnapshot):
            self._channel.send(Snapshot(number=message.number, counters=worker.snapshot()))
        elif isinstance(message, control.Ask):
            worker.answering.ask(inquiries.decode_inquiry(message.inquiry), partial(self._answer, message.number))

    def _answer(self, number: int, answer: inquiries.AnyAnswer | None) -> None:
        self._channel.send(control.Answer(number=number, answer=inquiries.encode(answer) if answer else b""))

    def _begin(self, begin: Begin) -> None:
        counts = begin.address_counts if begin.address_counts >= 0 else None
        self._place = Place(begin.id, begin.slot, begin.mesh_address, counts)
        self._listening = [socket.socket(fileno=number) for number in begin.listening]
        config = msgspec.msgpack.decode(begin.config, type=Config)
        self._log_as(config)
        try:
            worker = self._worker = Worker(config, dev=begin.dev, place=self._place)
        except OSError as error:
            self._fail(runtime.cannot_serve(config, error), final=True)
            return
        worker.on_serving = self._on_serving
        worker.on_peer_stuck = lambda peer: self._channel.send(control.PeerStuck(peer=peer))
        if begin.shares:
            worker.on_learned = lambda entries: self._channel.send(control.Share(entries=entries))
        self._beat()
        self._start(self._get_ready(worker))

    async def _get_ready(self, worker: Worker) -> None:
        try:
            await worker.open_mesh()
        except OSError as error:
            self._fail(f"cannot listen on {self._place.mesh_address}: {error.strerror or error}", final=False)
            return
        except Exception as error:
            self._fail_by(error)
            return
        load_ahead()
        calm_collector()
        say_what_fits(worker)
        self._channel.send(Ready())

    def _on_serving(self, epoch: int) -> None:
        if self._listening and self._worker is not None:
            self._worker.door.take(self._listening)
            self._listening = []
        self._channel.send(Serving(epoch=epoch))

    async def _drain(self, worker: Worker, longest_s: float) -> None:
        self._listening = []  # nobody comes in any more, whatever view is still on its way
        log.info("draining", extra={"connections": len(worker.hub.connections)})
        await worker.drain(longest_s)
        self._channel.send(Snapshot(number=control.LAST_WORDS, counters=worker.snapshot()))
        self._channel.send(Drained())

    def _beat(self) -> None:
        self._channel.send(Beat(at=monotonic()))
        asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _fail(self, reason: str, *, final: bool) -> None:
        self._channel.send(Failed(reason=reason, final=final))
        self._end()

    def _fail_by(self, error: Exception) -> None:
        log.error("the worker cannot begin", exc_info=error)
        text = " ".join(str(error).split())
        self._fail(f"it cannot begin: {type(error).__name__}: {text}", final=False)

    def _log_as(self, config: Config) -> None:
        logs.configure(config.log, config.secrets, fields={"worker": self._place.slot, "id": self._place.id})

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


if __name__ == "__main__":
    main(sys.argv[1:])
