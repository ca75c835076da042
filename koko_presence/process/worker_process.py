"""The process around a worker: standalone, or one of several under a supervisor.

A standalone process is the whole service, with signals, operator port and systemd notifications. Under a supervisor the
process is forked by the fork server, with its end of the control channel and the listening sockets; the configuration
and everything else arrives by the channel, so that no secret is in a command line or an environment. Messages of the
channel are handled in their order. The process sends heartbeats from its loop, and ends when the channel closes.
"""

import asyncio
import codecs
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import msgspec
import uvloop

from koko_presence.admin.file_descriptors import Descriptors, allowed
from koko_presence.admin.main_process_watch import EVERY_S, MainWatch
from koko_presence.admin.metrics import render
from koko_presence.admin.metrics_snapshot import versions
from koko_presence.admin.stats import Stats, stats
from koko_presence.cluster.placement import View
from koko_presence.config import logs, queued_stream
from koko_presence.config.certificate import Certificate, read_certificate
from koko_presence.config.out_of_memory import end_when_exhausted
from koko_presence.config.schema import Config, load
from koko_presence.protocol import survey
from koko_presence.server.request_tracker import RequestTracker

from . import control_channel, runtime_folder
from .accept_assignment import assign
from .control_channel import Beat, Begin, Channel, Drained, Failed, Ready, Serving, Snapshot
from .os_process import SIGNALS, Terminal, end_with, prepare, raise_oom_score
from .service import Service, complain
from .worker import Worker, WorkerIdentity, monotonic
from .worker_queries import ANSWER_WITHIN_S

log = logging.getLogger("koko_presence.worker")

BEAT_S = 0.5
STOP_EXTEND_S = 5.0


def calm_collector() -> None:
    """Exclude all present objects from garbage collection, and collect rarely, since a collection visits every
    object."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def end_process(status: int) -> NoReturn:
    """End the process once the last log lines are written. The loop is not closed, since that waits for pending name
    lookups; and objects are not freed, which takes long for a large heap."""
    sys.stdout.flush()
    queued_stream.drain()
    os._exit(status)


def load_ahead() -> None:
    """Load what Python would otherwise read from files at the first use, while requests wait."""
    for codec in ("utf-16-le", "unicode_escape", "idna"):
        codecs.lookup(codec)
    versions()


def log_capacity(worker: Worker) -> None:
    """Log how many connections the worker can hold."""
    fits = {"connections": worker.acceptor.max_connections, "used": Descriptors().used(), "allowed": allowed()}
    log.info("connections that the descriptor limit allows", extra=fits)


# --- standalone ---------------------------------------------------------------------------------------------------


def run(config: Config, *, dev: bool = False, reload_config: Callable[[], Config] | None = None) -> NoReturn:
    """Serve with one worker until SIGINT or SIGTERM; SIGHUP reads the configuration again, SIGUSR1 logs the stacks of
    all threads. Then the process ends: with exit code 0 after a drain, 2 if an address or the certificate cannot be
    used, which no restart mends."""
    terminal = Terminal()
    prepare()
    uvloop.run(_serve_standalone(config, dev, reload_config or load, terminal))


async def _serve_standalone(
    config: Config, dev: bool, reload_config: Callable[[], Config], terminal: Terminal
) -> NoReturn:
    end_when_exhausted(asyncio.get_running_loop())
    end_process(await SingleProcessServer(config, dev, reload_config, terminal).serve())


class SingleProcessServer(Service):
    """A service of one worker. The worker cannot be replaced while it serves and has no substitute: its death is the
    end of the service, which the service manager has to start again."""

    can_roll = False

    def __init__(self, config: Config, dev: bool, reload_config: Callable[[], Config], terminal: Terminal) -> None:
        super().__init__(config, dev, reload_config, terminal)
        self._reason = "starting"
        self._main_watch = MainWatch(is_supervisor=False)
        self._worker: Worker
        self._leaving: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._surveys: RequestTracker[survey.AnySurveyRequest, survey.AnyAnswer | None] = RequestTracker(
            self._loop, monotonic, ANSWER_WITHIN_S
        )

    async def serve(self) -> int:
        """Run the service until its end; returns the exit code."""
        config, line = self._config, ""
        try:
            certificate = self._certificate = await read_certificate(config.server)
            self._worker = Worker(config, dev=self._dev, certificate=certificate)
            await self._worker.start()
        except OSError as error:
            return complain(2, runtime_folder.cannot_serve(config, error))
        port = self._worker.port
        folder: runtime_folder.RuntimeFolder | None = None
        try:
            folder = self._folder = runtime_folder.RuntimeFolder(runtime_folder.runtime_dir(config, port), 1)
            line = await self.open_operator_port()
        except runtime_folder.RuntimeFault as fault:
            line = str(fault)
        if line:
            complain(2, line)
        else:
            load_ahead()
            calm_collector()
            log_capacity(self._worker)
            log.info("serving", extra=runtime_folder.serving_fields(config, port, dev=self._dev))
            await self._serve_until_stopped(port)
        await self.close_operator_port()
        await self._worker.stop()
        if folder is not None:
            folder.close()
        return 2 if line else 0

    async def _serve_until_stopped(self, port: int) -> None:
        self.catch_signals()
        self._reason = ""
        runtime_folder.announce(self._config, port, dev=self._dev)
        self._notifier.ready("serving")
        self._watch()
        self._tick()
        self.watch_folder()
        listening = asyncio.ensure_future(self.listen())
        await self._over
        listening.cancel()
        self.leave_folder()
        if self._leaving is not None:
            self._leaving.cancel()
        log.info("stopped")

    def _tick(self) -> None:
        self._main_watch.tick(monotonic())
        asyncio.get_running_loop().call_later(EVERY_S, self._tick)

    def _watch(self) -> None:
        interval_s = self._notifier.watchdog_interval_s
        if interval_s is not None:
            self._notifier.watchdog()
            self._loop.call_later(interval_s, self._watch)

    # --- the service with one worker ------------------------------------------------------------------------------

    def unready(self) -> str:
        return self._reason

    def missing(self) -> list[int]:
        return []

    async def metrics(self) -> str:
        return render([("0", self._worker.snapshot())], main=self._main_watch.counts())

    async def stats(self) -> Stats:
        return stats([("0", self._worker.snapshot())], unready=self._reason)

    async def run_survey(self, request: survey.AnySurveyRequest) -> survey.Answers:
        handle, found = self._worker.survey_handlers.handle, None
        with suppress(TimeoutError):
            found = await self._surveys.request(
                request, lambda number: handle(request, partial(self._surveys.answer, number))
            )
        return survey.Answers(found=[found] if found else [], missing=[] if found else [0])

    def tell_presence(self, user_id: str, *, on: bool) -> None:
        self._worker.survey_handlers.switch_presence([user_id], on=on)

    def apply(self, config: Config) -> None:
        self._worker.reload(config)

    def reloaded(self) -> None:
        if self._leaving is None:
            self._notifier.ready("serving")

    def roll(self) -> None:
        log.warning("one worker cannot be replaced while it serves: restart, or set server.workers to 2 or more")

    def drain(self) -> None:
        if self._leaving is not None:  # a second SIGINT or SIGTERM does not wait
            self._end()
            return
        server = self._config.server
        self._reason = "draining"
        self._notifier.stopping(server.drain_delay_s + server.drain_s + STOP_EXTEND_S)
        extra = {"delay_s": server.drain_delay_s, "longest_s": server.drain_s}
        log.info("draining", extra=extra | {"connections": len(self._worker.hub.connections)})
        self._leaving = asyncio.ensure_future(self._leave(server.drain_delay_s, server.drain_s))
        self._leaving.add_done_callback(lambda _: self._end())

    async def _leave(self, delay_s: float, longest_s: float) -> None:
        if delay_s > 0.0:
            await asyncio.sleep(delay_s)
        await self._worker.drain(longest_s)

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def is_leaving(self) -> bool:
        return self._leaving is not None

    def look_at_sockets(self) -> None:
        """Do nothing: a single worker has no mesh socket."""


# --- one of several -----------------------------------------------------------------------------------------------


def run_one(channel: int, listening: Sequence[Sequence[int]], address_counts: int | None, supervisor: int) -> NoReturn:
    """Serve until the supervisor, process `supervisor`, sends `Stop` or ends. The descriptors are this worker's end of
    the control channel, the listening sockets of each slot, and the shared memory of the counts by address."""
    for number in SIGNALS:  # signals to the process group are meant for the supervisor
        signal.signal(number, signal.SIG_IGN)
    # a worker whose loop hangs does not see the end of the channel, and would keep the port from the next supervisor
    end_with(supervisor)
    queued_stream.queue_stderr()
    prepare()
    raise_oom_score()
    sockets = [[socket.socket(fileno=number) for number in slot] for slot in listening]
    uvloop.run(_serve(socket.socket(fileno=channel), sockets, address_counts))


async def _serve(sock: socket.socket, listening: list[list[socket.socket]], address_counts: int | None) -> NoReturn:
    end_when_exhausted(asyncio.get_running_loop())
    end_process(await Member(sock, listening, address_counts).serve())


class Member:
    """One worker among several: handles the messages of the control channel."""

    def __init__(
        self, sock: socket.socket, listening: list[list[socket.socket]], address_counts: int | None = None
    ) -> None:
        """`listening` are the sockets of each slot; `address_counts` is passed to `WorkerIdentity`."""
        self._worker: Worker | None = None
        self._listening, self._address_counts = listening, address_counts
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
            except Exception as error:  # report a fault at once, or the supervisor waits for its timeout
                self._fail_by(error)
        elif isinstance(message, control_channel.Stop) or worker is None:
            self._end()
        elif isinstance(message, control_channel.Workers):
            log.debug("view", extra={"epoch": message.view.epoch, "peers": sorted(message.view.ids)})
            worker.on_view(message.view)
        elif isinstance(message, control_channel.Share):
            worker.learn(message.entries)
        elif isinstance(message, control_channel.SwitchPresence):
            worker.survey_handlers.switch_presence(message.user_ids, on=message.on)
        elif isinstance(message, control_channel.Accept):
            if self._listening:
                worker.acceptor.take([sock for slot in message.slots for sock in self._listening[slot]])
        elif isinstance(message, control_channel.OpenMesh):
            self._start(self._open_mesh_again(worker))
        elif isinstance(message, control_channel.UndeliveredEvents):
            worker.take_over_webhooks(message.events)
        elif isinstance(message, control_channel.Reload):
            config = msgspec.msgpack.decode(message.config, type=Config)
            self._log_as(config)
            worker.reload(config)
        elif isinstance(message, control_channel.Drain):
            self._start(self._drain(worker, message.longest_s, hand_over=message.hand_over))
        elif isinstance(message, control_channel.SnapshotRequest):
            self._channel.send(Snapshot(number=message.number, counters=worker.snapshot()))
        elif isinstance(message, control_channel.Query):
            worker.survey_handlers.handle(survey.decode_request(message.request), partial(self._answer, message.number))

    def _answer(self, number: int, answer: survey.AnyAnswer | None) -> None:
        self._channel.send(control_channel.Answer(number=number, answer=survey.encode(answer) if answer else b""))

    def _begin(self, begin: Begin) -> None:
        self._identity = WorkerIdentity(begin.id, begin.slot, begin.mesh_address, self._address_counts)
        config = msgspec.msgpack.decode(begin.config, type=Config)
        self._log_as(config)
        try:
            certificate = Certificate(begin.certificate, begin.certificate_key) if begin.certificate else None
            worker = self._worker = Worker(config, dev=begin.dev, identity=self._identity, certificate=certificate)
        except OSError as error:
            self._fail(runtime_folder.cannot_serve(config, error), final=True)
            return
        worker.on_serving = lambda epoch: self._channel.send(Serving(epoch=epoch))
        worker.on_peer_stuck = lambda peer, lossy: self._channel.send(control_channel.PeerStuck(peer=peer, lossy=lossy))
        worker.on_took_over = self._cover_slots
        if begin.shares:
            worker.on_learned = lambda entries: self._channel.send(control_channel.Share(entries=entries))
        self._beat()
        self._start(self._get_ready(worker))

    async def _get_ready(self, worker: Worker) -> None:
        try:
            await worker.open_mesh()
        except OSError as error:
            self._fail(f"cannot listen on {self._identity.mesh_address}: {error.strerror or error}", final=False)
            return
        except Exception as error:
            self._fail_by(error)
            return
        load_ahead()
        calm_collector()
        log_capacity(worker)
        self._channel.send(Ready())

    def _cover_slots(self, view: View) -> None:
        """Accept for the slots of dead workers, by the assignment that the supervisor would make from `view`."""
        owners = {peer.id: peer.slot for peer in view.peers if peer.owns}
        slots = assign(len(self._listening), owners, owners).get(self._identity.id)
        if slots is not None and self._listening and self._worker is not None:
            self._worker.acceptor.take([sock for slot in sorted(slots) for sock in self._listening[slot]])

    async def _open_mesh_again(self, worker: Worker) -> None:
        try:
            await worker.open_mesh()
        except OSError as error:  # the supervisor checks again
            log.error("cannot listen on %s: %s", self._identity.mesh_address, error.strerror or error)

    async def _drain(self, worker: Worker, longest_s: float, *, hand_over: bool) -> None:
        worker.acceptor.stop_accepting()
        for sock in [sock for slot in self._listening for sock in slot]:
            sock.close()
        self._listening = []  # an `Accept` that arrives later has no effect
        log.info("draining", extra={"connections": len(worker.hub.connections)})
        hand = (
            (lambda events: self._channel.send(control_channel.UndeliveredEvents(events=events))) if hand_over else None
        )
        await worker.drain(longest_s, hand)
        self._channel.send(Snapshot(number=control_channel.FINAL_SNAPSHOT, counters=worker.snapshot()))
        self._channel.send(Drained())

    def _beat(self) -> None:
        self._channel.send(Beat(at=monotonic()))
        asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _fail(self, reason: str, *, final: bool) -> None:
        self._channel.send(Failed(reason=reason, final=final))
        self._end()

    def _fail_by(self, error: Exception) -> None:
        log.error("the worker cannot start", exc_info=error)
        text = " ".join(str(error).split())
        self._fail(f"cannot start: {type(error).__name__}: {text}", final=False)

    def _log_as(self, config: Config) -> None:
        logs.configure(config.log, config.secrets, fields={"worker": self._identity.slot, "id": self._identity.id})

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
