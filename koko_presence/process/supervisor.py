"""The supervisor: starts, watches and replaces the worker processes, and does no presence work.

`process.fleet` decides; this module carries out its actions on processes, sockets and channels, in their order. Signals
are only queued.

The supervisor owns the listening sockets, one per slot and address. They outlive the workers: connections that wait for
a worker that died or hangs are accepted by another one, and a rolling reload refuses no connection. Every worker holds
the sockets of all slots and accepts from those that the supervisor assigns. Workers are forked by a process that has
loaded the program and runs no loop (`process/fork_server.py`), and are children of the supervisor. They receive
configuration and certificate over the control channel, so a replacement starts with the program, configuration and
certificate that were last valid.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from koko_presence.admin.main_process_watch import MainWatch
from koko_presence.admin.stats import Stats
from koko_presence.auth.shared_cache import SharedCache
from koko_presence.config import reload
from koko_presence.config.background_io import OneAtATime
from koko_presence.config.certificate import Certificate, read_certificate
from koko_presence.config.checks import too_many_workers
from koko_presence.config.schema import Config, load
from koko_presence.protocol import survey
from koko_presence.server.address_counts import shared_memory
from koko_presence.server.listeners import listening_sockets

from . import control_channel, memory_headroom, runtime_folder, stack_dump
from .control_channel import Begin, Channel, Snapshot
from .fleet import Fleet
from .fleet_types import Action, Exit, Kill, Phase, SendMessage, Spawn, StopListening
from .fork_client import Forks, Wanted
from .fork_protocol import Fork
from .ids import new_hash_key
from .liveness import ProcessStats
from .os_process import Reserve, Terminal, adopt_orphans, prepare, process_stats, reap_unknown_children
from .service import Service, complain
from .survey_client import OperatorQueries

log = logging.getLogger("koko_presence.supervisor")

TICK_S = 0.1
STOP_EXTEND_S = 10.0
MIGRATE = Path("/proc/sys/net/ipv4/tcp_migrate_req")

monotonic = time.monotonic


def run(config: Config, *, dev: bool = False, reload_config: Callable[[], Config] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. SIGHUP reads the configuration again, SIGUSR1 logs the stacks of this process and
    of all workers, SIGUSR2 replaces the workers.

    Returns the exit code of the process: 0 after a drain; 2 if an address or the certificate cannot be used, which no
    restart mends; 1 if for ten seconds no worker was present and none could be started. In the last case a new start
    may help; StartLimitBurst= of systemd limits the attempts.
    """
    terminal = Terminal()
    prepare()
    return uvloop.run(_serve(config, dev, reload_config or load, terminal))


async def _serve(config: Config, dev: bool, reload_config: Callable[[], Config], terminal: Terminal) -> int:
    server, loop = config.server, asyncio.get_running_loop()
    folder: runtime_folder.RuntimeFolder | None = None
    sockets: list[list[socket.socket]] = []
    try:
        certificate = await read_certificate(server)
        found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets = listening_sockets(found, server.worker_count, backlog=server.backlog)
        port = int(sockets[0][0].getsockname()[1])
        folder = runtime_folder.RuntimeFolder(runtime_folder.runtime_dir(config, port), server.worker_count)
        supervisor = Supervisor(config, dev, reload_config, terminal, sockets, folder, certificate)
        return await supervisor.serve(port)
    except runtime_folder.RuntimeFault as fault:
        return complain(2, str(fault))
    except OSError as error:
        return complain(2, runtime_folder.cannot_serve(config, error))
    finally:
        for sock in [sock for slot in sockets for sock in slot]:
            sock.close()
        if folder is not None:
            folder.close()


class WorkerProcess:
    """The supervisor's side of a worker: its channel, and its process once the pid is received."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.channel: Channel
        self.pid: int | None = None
        self.pidfd = -1
        self.status: int | None = None  # after its end: its exit code, or the negative number of a signal
        self._kill_requested = False  # to be killed as soon as the pid is received

    def begin(self, pid: int) -> None:
        """Set the pid, which is a child of this process. Errors: OSError."""
        self.pid = pid
        if self._kill_requested:
            self.kill()
        self.pidfd = os.pidfd_open(pid)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs. The pid cannot belong to another process before `poll` has reaped
        it."""
        if self.pid is not None and self.status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, now or once the pid is received."""
        self._kill_requested = True
        self.signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Reap the process if it has ended; returns its status, None while it runs."""
        if self.pid is not None and self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # another part of this process has reaped it
                pid, status = self.pid, 1 << 8
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status


class Supervisor(Service):
    """Carries out the actions of the fleet, and passes events of the processes and channels to it."""

    def __init__(
        self,
        config: Config,
        dev: bool,
        reload_config: Callable[[], Config],
        terminal: Terminal,
        sockets: list[list[socket.socket]],
        folder: runtime_folder.RuntimeFolder,
        certificate: Certificate | None,
    ) -> None:
        """`sockets` are the listening sockets of each slot."""
        super().__init__(config, dev, reload_config, terminal)
        self._config_before = config  # restored if a rolling reload fails
        self._certificate = self._certificate_before = certificate
        self._sockets, self._folder = sockets, folder
        self._counts = _address_counts(len(sockets))  # outlives the workers, as the sockets do
        self._reserve = Reserve()
        self._fleet = Fleet(len(sockets), str(folder.path), self._process_stats)
        self._workers: dict[int, WorkerProcess] = {}
        adopt_orphans()  # workers are forked twice
        self._forks = Forks(self, _process_stats_of)
        self._rolls = OneAtATime(self._roll)
        self._over: asyncio.Future[Exit] = self._loop.create_future()
        self._watchdog_at = 0.0
        self._status = ""
        self._announced = self._was_whole = False  # whether it has served, and with all workers
        self._rolling = False
        self._watch = MainWatch(is_supervisor=True, workers=len(sockets))
        self._operator_queries = OperatorQueries(self._fleet, self._channels, self._loop, self._watch.counts)
        self._shared = SharedCache()  # entries that workers have fetched, for their successors

    async def serve(self, port: int) -> int:
        """Run the service until its end; `port` is the port of the listening sockets. Returns the exit code."""
        self.catch_signals()
        stack_dump.listen(self._on_stacks)
        line = await self.open_operator_port()
        if line:
            return complain(2, line)
        self._port = port
        _report_migration()
        warning = too_many_workers(self._config)
        if warning:
            log.warning("%s", warning)
        self._do(self._fleet.begin(monotonic()))
        self._tick()
        self.watch_folder()
        listening = asyncio.ensure_future(self.listen())
        end = await self._over
        listening.cancel()
        self.leave_folder()
        self._forks.close()
        await self.close_operator_port()
        if end.line:
            return complain(end.code, end.line)
        log.info("stopped")
        return end.code

    # --- the service with several workers -------------------------------------------------------------------------

    def unready(self) -> str:
        return self._fleet.unready(monotonic())

    def missing(self) -> list[int]:
        return self._fleet.missing(monotonic())

    async def metrics(self) -> str:
        return await self._operator_queries.metrics()

    async def stats(self) -> Stats:
        return await self._operator_queries.stats()

    async def run_survey(self, request: survey.AnySurveyRequest) -> survey.Answers:
        return await self._operator_queries.run_survey(request)

    def tell_presence(self, user_id: str, *, on: bool) -> None:
        for worker in self._workers.values():
            worker.channel.send(control_channel.SwitchPresence(user_ids=[user_id], on=on))

    def apply(self, config: Config) -> None:
        self._config_before = reload.settle(self._config_before, config, rolling=False).config
        message = control_channel.Reload(config=msgspec.msgpack.encode(config))
        for worker in self._workers.values():
            worker.channel.send(message)

    def reloaded(self) -> None:
        if not self._rolling:
            self._notifier.ready(self._status)

    def _on_stacks(self) -> None:
        """Called in another thread after the supervisor's own stacks were written."""
        self._loop.call_soon_threadsafe(self._request_stacks)

    def _request_stacks(self) -> None:
        for id, worker in self._workers.items():
            if self._fleet.present(id):  # a worker that only starts has no handler yet
                worker.signal(signal.SIGUSR1)

    def roll(self) -> None:
        self._rolls.request()

    async def _roll(self) -> None:
        refusal = self._fleet.no_roll()
        if refusal:
            log.warning("rolling reload refused: %s", refusal)
            return
        config = await reload.read_again(self._reload_config, lambda: self._config, rolling=True)
        if config is None or self._fleet.no_roll():  # a drain may have begun meanwhile
            return
        try:
            certificate = await read_certificate(config.server)
        except OSError as error:
            log.error("rolling reload failed: %s", runtime_folder.cannot_serve(config, error))
            return
        why = await self._forks.renew()
        if self._fleet.no_roll():
            self._forks.go_back()
            return
        if why:
            log.error("the new workers run the previous program: %s", why)
        self._config, self._config_before = config, self._config
        self._certificate, self._certificate_before = certificate, self._certificate
        pids = [worker.pid for worker in self._workers.values() if worker.pid is not None]
        batch = min(memory_headroom.how_many_more(pids), self._fleet.slots)
        log.info("rolling reload: every worker is replaced", extra={"workers": self._fleet.slots, "batch": batch})
        self._rolling = True
        self._notifier.reloading()
        self._do(self._fleet.roll(monotonic(), batch=batch, longest_s=config.server.drain_s))

    def drain(self) -> None:
        server = self._config.server
        if self._fleet.phase in (Phase.BOOT, Phase.RUNNING):
            extra = {"workers": len(self._workers), "delay_s": server.drain_delay_s, "longest_s": server.drain_s}
            log.info("draining", extra=extra)
            self._notifier.stopping(server.drain_delay_s + server.drain_s + STOP_EXTEND_S)
        self._do(self._fleet.drain(monotonic(), server.drain_s, server.drain_delay_s))

    def is_leaving(self) -> bool:
        return self._fleet.phase in (Phase.DRAINING, Phase.STOPPING)

    def look_at_sockets(self) -> None:
        for id, worker in self._workers.items():
            if self._fleet.present(id) and self._folder.lacks(self._fleet.address(id)):
                log.warning(
                    "a worker's socket was missing and is created again", extra={"worker": worker.slot, "id": id}
                )
                worker.channel.send(control_channel.OpenMesh())

    # --- actions of the fleet -------------------------------------------------------------------------------------

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendMessage):
                worker = self._workers.get(action.id)
                if worker is not None:
                    worker.channel.send(action.message)
            elif isinstance(action, Spawn):
                self._loop.call_soon(self._spawn, action.id)  # messages of this batch go first
            elif isinstance(action, Kill):
                if action.id in self._workers:
                    self._workers[action.id].kill()
                elif self._forks.forget(action.id):
                    self._loop.call_soon(self._on_forgotten, action.id)
            elif isinstance(action, StopListening):
                for sock in [sock for slot in self._sockets for sock in slot]:
                    sock.close()
            elif not self._over.done():
                self._over.set_result(action)
        self._show_state()

    # --- starting workers -----------------------------------------------------------------------------------------

    def _spawn(self, id: int) -> None:
        if self._fleet.wants(id):
            self.mend_folder()  # the new worker looks up the sockets of the others there
            self._forks.request(id)
        else:  # the fleet has cancelled it in the same loop iteration
            self._do(self._fleet.on_reaped(id, 0, monotonic()))

    def _on_forgotten(self, id: int) -> None:
        self._do(self._fleet.on_reaped(id, 0, monotonic()))

    def prepare(self, id: int) -> Wanted | None:
        """Create the channel of worker `id`, with its first messages in it, and return the request for its fork.
        Errors: OSError."""
        if not self._fleet.wants(id):
            self._do(self._fleet.on_reaped(id, 0, monotonic()))
            return None
        with self._reserve:
            ours, theirs = socket.socketpair()
        slot = self._fleet.members[id].slot
        worker = self._workers[id] = WorkerProcess(slot)
        worker.channel = Channel(ours, partial(self._on_message, id), partial(self._on_lost, id))
        certificate = self._certificate
        begin = Begin(
            id=id,
            slot=slot,
            mesh_address=self._fleet.address(id),
            shares=True,
            config=msgspec.msgpack.encode(self._config),
            certificate=certificate.chain if certificate is not None else b"",
            certificate_key=certificate.key if certificate is not None else b"",
            dev=self._dev,
        )
        worker.channel.send(begin)
        if self._presence_off:
            worker.channel.send(control_channel.SwitchPresence(user_ids=list(self._presence_off), on=False))
        for entries in self._shared.batches(time.time()):
            worker.channel.send(control_channel.Share(entries=entries))
        listening = [sock.fileno() for sockets in self._sockets for sock in sockets]
        fds = [theirs.fileno(), *listening, *self._counts]
        request = Fork(id, slot, slots=len(self._sockets), shares_counts=bool(self._counts), fds=len(fds))
        return Wanted(request, fds, theirs.close)

    def forked(self, id: int, pid: int) -> None:
        """Worker `id` runs as process `pid`."""
        worker = self._workers[id]
        try:
            with self._reserve:
                worker.begin(pid)
        except OSError as error:
            worker.kill()  # reaped with unknown children
            self.failed(id, error.strerror or str(error))
            return
        self._loop.add_reader(worker.pidfd, self._on_reaped, id)
        log.info("worker started", extra={"worker": worker.slot, "id": id, "pid": pid})

    def failed(self, id: int, reason: str) -> None:
        """Worker `id` could not be started, for lack of memory, processes or descriptors; its channel is closed."""
        worker = self._workers.pop(id, None)
        if worker is not None:
            worker.channel.close()
        self._do(self._fleet.on_failed(id, f"could not be started: {reason}", False, monotonic()))
        self._do(self._fleet.on_reaped(id, 1, monotonic()))

    def _channels(self) -> dict[int, Channel]:
        return {id: worker.channel for id, worker in self._workers.items()}

    # --- events of the workers ------------------------------------------------------------------------------------

    def _on_message(self, id: int, message: Any) -> None:
        now = monotonic()
        if isinstance(message, control_channel.Beat):
            self._fleet.on_beat(id, now)
        elif isinstance(message, control_channel.Ready):
            self._do(self._fleet.on_ready(id, now))
        elif isinstance(message, control_channel.Serving):
            self._do(self._fleet.on_serving(id, message.epoch, now))
        elif isinstance(message, control_channel.PeerStuck):
            members = self._fleet.members
            if self._fleet.is_new_report(id, message.peer, message.lossy, now):
                self._watch.on_report(members[message.peer].slot, members[id].slot, now)
            self._do(self._fleet.on_peer_stuck(id, message.peer, message.lossy, now))
        elif isinstance(message, control_channel.Drained):
            self._do(self._fleet.on_drained(id, now))
        elif isinstance(message, control_channel.UndeliveredEvents):
            self._pass_on(id, message)
        elif isinstance(message, control_channel.Failed):
            self._do(self._fleet.on_failed(id, message.reason, message.final, now))
        elif isinstance(message, Snapshot):
            self._operator_queries.on_snapshot(id, message)
        elif isinstance(message, control_channel.Answer):
            self._operator_queries.on_answer(id, message)
        elif isinstance(message, control_channel.Share):
            self._share(id, message)

    def _share(self, id: int, share: control_channel.Share) -> None:
        for entry in share.entries:
            self._shared.put(entry)
        for other, worker in self._workers.items():
            if other != id:
                worker.channel.send(share)

    def _pass_on(self, id: int, undelivered: control_channel.UndeliveredEvents) -> None:
        """Send the undelivered webhook events of worker `id` to the owner of its slot, or to another worker; without
        one they are counted as dropped."""
        successor = self._fleet.successor(id)
        if successor is not None and successor in self._workers:
            self._workers[successor].channel.send(undelivered)
        else:
            self._watch.on_events_dropped(len(msgspec.msgpack.decode(undelivered.events, type=list[msgspec.Raw])))

    def _on_lost(self, id: int) -> None:
        worker = self._workers[id]
        if worker.poll() is not None:
            self._on_reaped(id)  # its status is more precise
        elif worker.pid is not None:  # otherwise the fork failed, which `failed` reports
            self._do(self._fleet.on_lost(id, monotonic()))

    def _on_reaped(self, id: int) -> None:
        worker = self._workers.get(id)
        status = worker.poll() if worker is not None else None
        if worker is None or status is None:
            return
        del self._workers[id]
        self._loop.remove_reader(worker.pidfd)
        os.close(worker.pidfd)
        worker.channel.close()
        self._operator_queries.on_gone(id)
        self._do(self._fleet.on_reaped(id, status, monotonic()))
        self._folder.forget(self._fleet.address(id))

    def _process_stats(self, id: int) -> ProcessStats | None:
        worker = self._workers.get(id)
        return self._forks.process_stats() if worker is None or worker.pid is None else _process_stats_of(worker.pid)

    def _tick(self) -> None:
        now = monotonic()
        self._loop.call_later(TICK_S, self._tick)
        self._watch.tick(now)
        self._forks.tick(now)
        if not self._forks.awaits_answer:
            reap_unknown_children(
                {*self._forks.pids, *(each.pid for each in self._workers.values() if each.pid is not None)}
            )
        self._do(self._fleet.tick(now))
        interval_s = self._notifier.watchdog_interval_s
        if interval_s is not None and now >= self._watchdog_at:
            # covers this process only: silent workers are replaced from here, and starved ones must be left alone
            self._watchdog_at = now + interval_s
            self._notifier.watchdog()

    def _show_state(self) -> None:
        """Report a changed state to systemd, to the log and at the terminal."""
        reason = self.unready()
        missing = self.missing()
        status = f"{self._fleet.slots} workers serve"
        if reason or missing:
            status = reason or f"others accept for worker {', '.join(map(str, missing))}"
        was_rolling, self._rolling = self._rolling, self._fleet.rolling
        if was_rolling and not self._rolling and self._fleet.rolled:
            self._forks.keep()
        elif was_rolling and not self._rolling:
            self._config, self._certificate = self._config_before, self._certificate_before
            self._forks.go_back()
        if status == self._status and self._rolling == was_rolling:
            return
        self._status = status
        if reason:
            self._notifier.status(reason)
            if self._announced and self._fleet.phase is Phase.RUNNING:
                log.warning("not ready: %s", reason)
        elif not self._announced:
            self._announced, self._was_whole = True, not missing
            log.info("serving", extra=runtime_folder.serving_fields(self._config, self._port, dev=self._dev))
            runtime_folder.announce(self._config, self._port, dev=self._dev)
            self._notifier.ready(status)
        elif not self._rolling:
            if not missing:
                self._was_whole = True
                log.info("ready")
            elif self._was_whole:
                log.warning("workers are missing, others accept for them", extra={"missing": missing})
            else:  # the service is ready without its last workers; a failed one is logged by itself
                log.info("workers are still starting", extra={"missing": missing})
            self._notifier.ready(status)


def _process_stats_of(pid: int) -> ProcessStats | None:
    found = process_stats(pid)
    return None if found is None else ProcessStats(*found)


def _address_counts(workers: int) -> list[int]:
    """The descriptor of the shared memory of the counts by address; empty where shared memory is not available."""
    try:
        return [shared_memory(workers, new_hash_key())]
    except OSError as error:
        log.warning("cannot create shared memory: limits by address apply per worker", extra={"why": str(error)})
        return []


def _report_migration() -> None:
    """Warn if the kernel resets connections that wait at a closing listening socket while other sockets of the port
    stay open.

    The supervisor holds every listening socket for the lifetime of the service, so no death, hang or reload of a worker
    closes one. The setting matters only when the whole service stops.
    """
    try:
        off = MIGRATE.read_text().strip() == "0"
    except OSError:
        return
    if off:
        log.warning(
            "net.ipv4.tcp_migrate_req is 0: when the service stops, a connection that no worker has accepted yet is "
            "reset, although another worker may still accept it; a worker that dies, hangs or is replaced loses none. "
            "To change it: sysctl -w net.ipv4.tcp_migrate_req=1, or install deploy/sysctl.d"
        )
