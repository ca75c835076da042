"""Decides which workers run, which view they get and which sockets they accept from; does no I/O.

Every method takes `now`, monotonic seconds, and returns the resulting actions in order: the view without a dead worker
always precedes actions that take time. `Fleet` writes all of its state, and it alone numbers views and workers; no
number is used twice. A death is an end that was not requested, whichever source reports it first: the control socket,
the kernel, or the heartbeat timeout.
"""

import logging
from collections.abc import Callable

from koko_presence.cluster.placement import Peer, View

from .accept_assignment import assign
from .control_channel import Accept, Drain, Stop, Workers
from .fleet_types import (
    Action,
    Exit,
    Kill,
    Member,
    Phase,
    Replacement,
    RollingReload,
    SendMessage,
    Spawn,
    StopListening,
)
from .liveness import ProcessStats
from .restart_backoff import Restarts

log = logging.getLogger("koko_presence.fleet")

SILENT_S = 3.0  # without a heartbeat for this long a worker is dead, unless it is starved; it is replaced within 4 s
FRESH_S = 1.5  # without a heartbeat (three intervals) for this long a worker does not count as accepting
LATE_S = 1.0  # the age from which a heartbeat is late
LATE_SHARE = 0.5  # a worker that is late for a larger share of half a minute is replaced
REPLACE_LATE_EVERY_S = 60.0
READY_WITHIN_S = 20.0  # without progress during the start
FAILURES, WITHOUT_WORKERS_S = 5, 10.0  # after so many failures, and so long without any worker, the service ends
UNREACHABLE_S = 10.0  # a worker with heartbeats that another one cannot reach for this long is replaced
DRAIN_LONGEST_S = 10.0
STOP_WITHIN_S = 2.0  # from Stop to SIGKILL
HURRIED_STOP_WITHIN_S = 0.5
KILLED_WITHIN_S = 2.0  # from SIGKILL to the end of the service, also if processes remain
DRAIN_MARGIN_S = 5.0  # beyond the drain time of a worker, which waits for its clients to reconnect elsewhere
TAKE_OVER_S = 0.5  # for which a new worker waits until the others serve what a lost one has left
STALL_S = 1.0  # after a pause of this length in the supervisor itself the age of the heartbeats means nothing


def _unknown(id: int) -> ProcessStats | None:
    return None


class Fleet:
    """The workers of one service, and the state of its start, rolling reload, drain and stop."""

    def __init__(self, slots: int, folder: str, process_stats: Callable[[int], ProcessStats | None] = _unknown) -> None:
        """`folder` contains the workers' mesh sockets; `process_stats` returns the process statistics of a worker by
        its id."""
        self.slots = slots
        self.phase = Phase.BOOT
        self.members: dict[int, Member] = {}
        self.view = View(epoch=0, peers=())
        self._folder, self._process_stats = folder, process_stats
        self._last_id = 0
        self.rolled = False  # whether the last rolling reload was completed
        self._roll: RollingReload | None = None
        self.deaths = 0  # unrequested ends of workers, since the start of the service
        self._restarts = Restarts()
        self._failures = 0  # since a worker was last present
        self._without_workers_since: float | None = None  # since when no worker is present
        self._late_replaced_at = float("-inf")
        self._ticked_at: float | None = None
        self._drain_at: float | None = None  # when a requested drain begins; None once it has begun
        self._drain_longest_s = self._roll_longest_s = DRAIN_LONGEST_S
        self._exit = Exit(0, "")
        self._over_by = float("inf")  # when the service ends, whether or not its workers have ended; set by the stop
        self._last_fault = ""
        self._over = False
        self._actions: list[Action] = []

    def address(self, id: int) -> str:
        """The path of the mesh socket of worker `id`."""
        return f"{self._folder}/w{id}.sock"

    # --- queries --------------------------------------------------------------------------------------------------

    @property
    def rolling(self) -> bool:
        """Whether a requested rolling reload is in progress."""
        return self._roll is not None and self._roll.all_workers

    def owner(self, slot: int) -> Member | None:
        """The worker that owns the rooms and users of `slot`: the newest one that is present and not retiring; None
        without one."""
        there = [member for member in self.members.values() if member.slot == slot and member.present]
        return max((member for member in there if not member.retiring), key=lambda member: member.id, default=None)

    def successor(self, id: int) -> int | None:
        """The worker that takes over what worker `id` leaves: the owner of its slot, else the present worker with the
        lowest id; None without one."""
        member = self.members.get(id)
        own = self.owner(member.slot) if member is not None else None
        others = [each.id for each in self.members.values() if each.present and not each.retiring and each.id != id]
        return own.id if own is not None and own.id != id else min(others, default=None)

    def present(self, id: int) -> bool:
        """Whether worker `id` is in the view and may hold connections; this includes a worker that retires."""
        member = self.members.get(id)
        return member is not None and member.present

    def wants(self, id: int) -> bool:
        """Whether worker `id`, which was to be started, is still to be started."""
        member = self.members.get(id)
        return member is not None and not member.lost and member.gone_by is None

    def missing(self, now: float) -> list[int]:
        """The slots whose own worker does not serve, or whose heartbeat is overdue."""
        there = {member.slot for member in self._takers() if self._is_fresh(member, now)}
        return sorted(set(range(self.slots)) - there)

    def unready(self, now: float) -> str:
        """The reason why the service is not ready, as text; empty while a fresh worker accepts from every listening
        socket, its own or as a substitute [Q7]."""
        if self.phase is not Phase.RUNNING:
            return str(self.phase.value)
        accepted: set[int] = set()
        for member in self._takers():
            if self._is_fresh(member, now):
                accepted |= member.accepts
        if len(accepted) == self.slots:
            return ""
        missing = self.missing(now)
        return f"{self.slots - len(missing)} of {self.slots} workers serve, missing: {', '.join(map(str, missing))}"

    # --- events of the workers ------------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Action]:
        """Start one worker for each slot."""
        self._without_workers_since = now
        for slot in range(self.slots):
            self._spawn(slot, now)
        return self._take()

    def on_ready(self, id: int, now: float) -> list[Action]:
        """Add worker `id` to the view; during the start of the service one view is published with all workers, later it
        is added once the others serve the newest view, or after TAKE_OVER_S."""
        member = self.members.get(id)
        if member is None or member.ready or member.lost:
            return []
        member.ready_at = member.last_received_at = now
        member.watch.note_received()
        member.deferred = self.phase is Phase.RUNNING and not member.standby
        self._boot()
        return self._settle(now)

    def on_serving(self, id: int, epoch: int, now: float) -> list[Action]:
        """Worker `id` serves in view `epoch`. If the worker has made that view itself (`cluster/local_views.py`), the
        next view gets a higher number."""
        if id in self.members:
            self.members[id].served = epoch
        if epoch > self.view.epoch:
            self.view = View(epoch=epoch, peers=self.view.peers)
        return self._settle(now)

    def on_beat(self, id: int, now: float) -> None:
        """Record a heartbeat of worker `id`."""
        member = self.members.get(id)
        if member is not None:
            member.last_received_at = now
            member.watch.note_received()

    def on_peer_stuck(self, id: int, peer: int, lossy: bool, now: float) -> list[Action]:
        """Worker `id` reports that it receives nothing from worker `peer`; with `lossy`, that it has dropped peer
        messages which `peer` has not read, after which `peer` is replaced at once.

        Without `lossy` the report counts only while the heartbeats of both are in time, since a late heartbeat is
        judged by its age alone. A worker whose heartbeats are in time, but which the same worker cannot reach for
        UNREACHABLE_S, is replaced."""
        member, reporter = self.members.get(peer), self.members.get(id)
        if member is None or reporter is None or member.lost:
            return self._settle(now)
        if lossy:
            self._lose(member, f"worker {reporter.slot} cannot reach it and has dropped peer messages to it", now)
        elif not self.is_new_report(id, peer, lossy, now):
            member.unreached.pop(id, None)
        else:
            since, reported_at = member.unreached.get(id, (now, now))
            since = now if now - reported_at > UNREACHABLE_S / 2 else since
            member.unreached[id] = (since, now)
            if now - since >= UNREACHABLE_S:
                self._lose(member, f"worker {reporter.slot} cannot reach it", now)
        return self._settle(now)

    def is_new_report(self, id: int, peer: int, lossy: bool, now: float) -> bool:
        """Whether the report of worker `id` about worker `peer` adds to the heartbeats of both: with `lossy`, or while
        neither heartbeat is late."""
        member, reporter = self.members.get(peer), self.members.get(id)
        if member is None or reporter is None:
            return False
        return lossy or max(now - reporter.last_received_at, now - member.last_received_at) <= LATE_S

    def on_drained(self, id: int, now: float) -> list[Action]:
        """All client connections of worker `id` are closed."""
        member = self.members.get(id)
        if member is not None:
            self._drained(member, now)
        return self._settle(now)

    def on_failed(self, id: int, reason: str, final: bool, now: float) -> list[Action]:
        """Worker `id` reports that it cannot run, or could not be started. With `final` during the start the service
        ends with exit code 2; later the worker is started again like any other, since the cause may pass."""
        member = self.members.get(id)
        if member is None or member.lost:
            return []
        if final and self.phase is Phase.BOOT:
            member.lost = True
            self._stop(2, reason, now)
        else:
            self._lose(member, reason, now)
        return self._settle(now)

    def on_lost(self, id: int, now: float) -> list[Action]:
        """The control socket of worker `id` is closed."""
        member = self.members.get(id)
        if member is not None:
            self._lose(member, "control socket closed", now)
        return self._settle(now)

    def on_reaped(self, id: int, status: int, now: float) -> list[Action]:
        """The process of worker `id` has ended; `status` is its exit code, or the negative number of a signal."""
        member = self.members.get(id)
        if member is not None:
            why = f"killed by signal {-status}" if status < 0 else f"exit code {status}"
            self._lose(member, why, now, kill=False)
            del self.members[id]
        return self._settle(now)

    def tick(self, now: float) -> list[Action]:
        """Check several times a second for silent, late and overdue workers, and for starts and drains that are due."""
        if self._ticked_at is not None and now - self._ticked_at > STALL_S:
            # The supervisor was stopped or got no CPU time; the workers' heartbeats of that time are still unread.
            for member in self.members.values():
                member.last_received_at = now
                member.watch.note_received()
                member.lateness.forget()
            self._over_by = max(self._over_by, now + KILLED_WITHIN_S)
        self._ticked_at = now
        for member in list(self.members.values()):
            if member.gone_by is not None and now >= member.gone_by:
                member.gone_by = float("inf")
                self._actions.append(Kill(member.id))
            elif not member.lost and member.gone_by is None:
                self._look_at(member, now)
            if member.drained_by is not None and now >= member.drained_by:
                self._drained(member, now)
        for slot in self._restarts.take_due(now):
            if self.phase in (Phase.BOOT, Phase.RUNNING):
                self._cover(slot, now)
        if self._drain_at is not None and now >= self._drain_at:
            self._begin_drain(now)
        self._replace_late(now)
        return self._settle(now)

    def _look_at(self, member: Member, now: float) -> None:
        silent_s = now - member.last_received_at
        if not member.ready:
            process_stats = self._process_stats(member.id)
            if now - member.watch.note_start(process_stats, member.started_at, now) >= READY_WITHIN_S:
                self._lose(member, f"not ready within {READY_WITHIN_S:g} s", now)
            return
        member.lateness.note(silent_s > LATE_S, now)
        if silent_s <= LATE_S:
            return
        starved = member.watch.judge_silence(self._process_stats(member.id), silent_s)
        if silent_s >= SILENT_S and not starved:
            self._lose(member, f"no heartbeat for {silent_s:.1f} s", now)

    def _replace_late(self, now: float) -> None:
        """Replace the worker whose heartbeats were late for the largest share of the time. If more than half of the
        workers are late, the machine is the cause, and new workers would only add load."""
        due = now - self._late_replaced_at >= REPLACE_LATE_EVERY_S
        if self.phase is not Phase.RUNNING or self._roll is not None or not due:
            return
        shares = {member.id: member.lateness.share() for member in self._takers()}
        late = [id for id, share in shares.items() if share > LATE_SHARE]
        if not late or 2 * len(late) > len(shares) or len(shares) < 2:
            return
        member = self.members[max(late, key=lambda id: shares[id])]
        self._late_replaced_at = now
        log.warning(
            "a worker is replaced because its heartbeats are late",
            extra={"worker": member.slot, "id": member.id, "late_share": round(shares[member.id], 2)},
        )
        self._roll = RollingReload([member.slot], self._last_id + 1, 1, all_workers=False)

    # --- requests of the operator ---------------------------------------------------------------------------------

    def no_roll(self) -> str:
        """The reason why no rolling reload can begin now, as text; empty if one can."""
        if self.rolling:
            return "a rolling reload is in progress"
        return "" if self.phase is Phase.RUNNING else f"the server is {self.phase.value}"

    def roll(self, now: float, *, batch: int | None = None, longest_s: float = DRAIN_LONGEST_S) -> list[Action]:
        """Replace every worker, `batch` of them at a time, or all at once without it; each closes its client
        connections within `longest_s` seconds. Errors: ValueError with the text of `no_roll`."""
        refusal = self.no_roll()
        if refusal:
            raise ValueError(refusal)
        self.rolled, self._roll_longest_s = False, longest_s
        roll, first_id = self._roll, self._last_id + 1
        if roll is None:
            self._roll = RollingReload(range(self.slots), first_id, batch or self.slots)
        else:  # a single worker is being replaced: all others follow, and its successor as well
            roll.slots.clear()
            roll.slots.extend(range(self.slots))
            roll.first_id, roll.batch, roll.all_workers = first_id, batch or self.slots, True
        return self._settle(now)

    def drain(self, now: float, longest_s: float, delay_s: float = 0.0) -> list[Action]:
        """Accept connections for another `delay_s` seconds, then close all client connections within `longest_s`
        seconds, then stop. A second call stops without either wait [Q6]."""
        if self.phase in (Phase.DRAINING, Phase.STOPPING):
            return self.hurry(now)
        self.phase, self._roll = Phase.DRAINING, None
        self._drain_at, self._drain_longest_s = now + delay_s, longest_s
        if delay_s <= 0.0:
            self._begin_drain(now)
        return self._settle(now)

    def _begin_drain(self, now: float) -> None:
        self._drain_at = None
        self._actions.append(StopListening())
        for member in self.members.values():
            if member.present:
                self._drain(member, now, self._drain_longest_s)
            elif not member.lost and member.gone_by is None:  # it has no connections yet
                self._end(member, now, 0.0)

    def hurry(self, now: float) -> list[Action]:
        """Stop without waiting for clients."""
        if self.phase is not Phase.STOPPING:
            self._stop(0, "", now)
        for member in self.members.values():
            if member.gone_by is not None:
                member.gone_by = min(member.gone_by, now + HURRIED_STOP_WITHIN_S)
        self._over_by = min(self._over_by, now + HURRIED_STOP_WITHIN_S + KILLED_WITHIN_S)
        return self._settle(now)

    # --- internals ------------------------------------------------------------------------------------------------

    def _spawn(self, slot: int, now: float) -> Member:
        self._last_id += 1
        self._restarts.started(slot)
        member = self.members[self._last_id] = Member(self._last_id, slot, now)
        self._actions.append(Spawn(member.id, slot))
        return member

    def _is_covered(self, slot: int) -> bool:
        return any(member.slot == slot and member.covers for member in self.members.values())

    def _cover(self, slot: int, now: float) -> None:
        if not self._is_covered(slot):
            self._spawn(slot, now)

    def _publish(self) -> None:
        epoch = self.view.epoch + 1
        there = sorted((member for member in self.members.values() if member.present), key=lambda member: member.id)
        owners = {owner.id for slot in range(self.slots) if (owner := self.owner(slot)) is not None}
        if not owners:  # retiring workers own if there are no others
            owners = {member.id for member in there}
        peers = tuple(
            Peer(id=member.id, slot=member.slot, address=self.address(member.id), owns=member.id in owners)
            for member in there
        )
        self.view = View(epoch=epoch, peers=peers)
        for member in there:
            member.entered = member.entered or epoch
            self._actions.append(SendMessage(member.id, Workers(view=self.view)))

    def _admit_deferred(self, now: float) -> None:
        """Add the new workers that wait to the view. A view which arrives while owners change begins the change again,
        so the clients of the rooms that a lost worker has left would wait for both changes."""
        deferred = [member for member in self.members.values() if member.deferred and not member.lost]
        if not deferred:
            return
        taken_over = all(member.served >= self.view.epoch for member in self.members.values() if member.present)
        if taken_over or any(now - (member.ready_at or now) >= TAKE_OVER_S for member in deferred):
            for member in deferred:
                member.deferred = False
            self._publish()

    def _lose(self, member: Member, why: str, now: float, *, kill: bool = True) -> None:
        if member.lost:
            return
        was_there, member.lost = member.present, True
        if (
            self._roll is not None
            and not self._roll.draining
            and any(replacement.new == member.id for replacement in self._roll.replacements)
        ):
            self._give_up_roll(member.slot, why, now)
        if was_there and self.phase is not Phase.BOOT:
            self._publish()
        if kill:
            self._actions.append(Kill(member.id))
        if member.gone_by is not None or self.phase is Phase.STOPPING:
            return
        self.deaths += 1
        log.error("a worker died: %s", why, extra={"worker": member.slot, "id": member.id})
        if self.phase is Phase.DRAINING:
            return
        self._failures += 1
        if not self._is_covered(member.slot):
            self._restarts.failed(member.slot, 0.0 if member.ready_at is None else now - member.ready_at, now)
            if now >= self._restarts.due_at(member.slot):
                self._spawn(member.slot, now)
        self._last_fault = why
        self._boot()

    def _boot(self) -> None:
        """End the start phase once every slot has a worker, except slots that wait for a further attempt."""
        if self.phase is not Phase.BOOT:
            return
        owned = [slot for slot in range(self.slots) if self.owner(slot)]
        if owned and all(self.owner(slot) or self._restarts.pauses(slot) for slot in range(self.slots)):
            self.phase = Phase.RUNNING
            self._publish()

    def _check_any_worker(self, now: float) -> None:
        """End the service if no worker is present and one failure follows another: a new start of the service may
        help."""
        if any(member.present for member in self.members.values()):
            self._failures, self._without_workers_since = 0, None
            return
        if self._without_workers_since is None:
            self._without_workers_since = now
        if self._failures >= FAILURES and now - self._without_workers_since >= WITHOUT_WORKERS_S:
            line = f"no worker could be started in {WITHOUT_WORKERS_S:g} s, the last failure: {self._last_fault}"
            self._stop(1, line, now)

    def _drain(self, member: Member, now: float, longest_s: float, *, hand_over: bool = False) -> None:
        member.drained_by = now + longest_s + DRAIN_MARGIN_S
        self._actions.append(SendMessage(member.id, Drain(longest_s=longest_s, hand_over=hand_over)))

    def _drained(self, member: Member, now: float) -> None:
        member.drained, member.drained_by = True, None
        if self.phase is Phase.RUNNING and member.retiring and member.present:
            member.gone_by = now + STOP_WITHIN_S
            self._publish()
            self._actions.append(SendMessage(member.id, Stop()))

    def _end(self, member: Member, now: float, within_s: float) -> None:
        member.gone_by = now + within_s
        self._actions.append(SendMessage(member.id, Stop()))

    def _stop(self, code: int, line: str, now: float) -> None:
        self.phase, self._roll, self._exit = Phase.STOPPING, None, Exit(code, line)
        self._drain_at, self._over_by = None, now + STOP_WITHIN_S + KILLED_WITHIN_S
        for member in self.members.values():
            if not member.lost and member.gone_by is None:
                self._end(member, now, STOP_WITHIN_S)

    def _settle(self, now: float) -> list[Action]:
        if self.phase in (Phase.BOOT, Phase.RUNNING):
            self._check_any_worker(now)
        if self.phase is Phase.RUNNING:
            self._admit_deferred(now)
            self._go_on_rolling(now)
        if self.phase is Phase.RUNNING or self._drain_at is not None:
            self._assign(now)
        if (
            self.phase is Phase.DRAINING
            and self._drain_at is None
            and all(member.drained or member.lost or member.gone_by is not None for member in self.members.values())
        ):
            self._stop(0, "", now)
        if self.phase is Phase.STOPPING and not self._over and (not self.members or now >= self._over_by):
            self._over = True
            for member in self.members.values():  # without an end reported by the kernel or the fork server
                log.error("the service ends before a worker has ended", extra={"worker": member.slot, "id": member.id})
                self._actions.append(Kill(member.id))
            self._actions.append(self._exit)
        return self._take()

    def _take(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    # --- accepting ------------------------------------------------------------------------------------------------

    def _is_fresh(self, member: Member, now: float) -> bool:
        return now - member.last_received_at <= FRESH_S

    def _takers(self) -> list[Member]:
        """The workers that may accept connections: all that serve and are not leaving; while a batch of a rolling
        reload drains, only its successors."""
        found = [member for member in self.members.values() if member.serving and not member.leaving]
        roll = self._roll
        if roll is None or not (roll.draining and roll.all_workers):
            return found
        first = min(replacement.new for replacement in roll.replacements)
        return [member for member in found if member.id >= first] or found

    def _assign(self, now: float) -> None:
        takers = self._takers()
        fresh = [member.id for member in takers if self._is_fresh(member, now)]
        wanted = assign(self.slots, {member.id: member.slot for member in takers}, fresh)
        changed = [member for member in self.members.values() if wanted.get(member.id, frozenset()) != member.accepts]
        for member in sorted(changed, key=lambda each: each.id not in wanted):  # gaining ones come first
            member.accepts = wanted.get(member.id, frozenset())
            if member.present and not member.leaving:
                self._actions.append(SendMessage(member.id, Accept(slots=sorted(member.accepts))))

    # --- rolling reload -------------------------------------------------------------------------------------------

    def _go_on_rolling(self, now: float) -> None:
        while (roll := self._roll) is not None:
            if not roll.replacements:
                if not self._begin_batch(roll, now):
                    return
                continue
            if not roll.draining and not self._switch(roll, now):
                return
            if any(
                (old := self.members.get(replacement.old)) is not None and old.present
                for replacement in roll.replacements
            ):
                return
            for replacement in roll.replacements:
                log.info(
                    "a worker was replaced",
                    extra={"worker": replacement.slot, "id": replacement.new, "left": len(roll.slots)},
                )
            roll.replacements, roll.draining = [], False

    def _begin_batch(self, roll: RollingReload, now: float) -> bool:
        """Start the successors of the next slots. Returns False if no slot is left."""
        while roll.slots and len(roll.replacements) < roll.batch:
            slot = roll.slots.popleft()
            old = self.owner(slot)
            starting = [member for member in self.members.values() if member.slot == slot and member.covers]
            if any(member.id >= roll.first_id for member in starting):
                continue  # its worker has died meanwhile; the replacement is new already
            for member in starting:
                if member is not old:  # of the old generation, and not ready
                    self._end(member, now, 0.0)
            new = self._spawn(slot, now)
            new.standby = True
            roll.replacements.append(Replacement(slot, old.id if old is not None else 0, new.id))
        if not roll.replacements:
            if roll.all_workers:
                log.info("every worker was replaced")
                self.rolled = True
            self._roll = None
        return bool(roll.replacements)

    def _switch(self, roll: RollingReload, now: float) -> bool:
        """Once all successors of the batch are ready, make them owners, slot by slot. Returns True once they serve and
        the old workers have been sent `Drain`."""
        new = [self.members.get(replacement.new) for replacement in roll.replacements]
        if not all(member is not None and member.ready for member in new):
            return False
        for replacement in roll.replacements:
            member, old = self.members[replacement.new], self.members.get(replacement.old)
            if member.standby:
                member.standby = False
                if old is not None:
                    old.retiring = True
                self._publish()
            if not member.serving:
                return False
        roll.draining = True
        self._assign(now)  # before any client is closed
        for replacement in roll.replacements:
            old = self.members.get(replacement.old)
            if old is not None and old.present and not old.leaving:
                self._drain(old, now, self._roll_longest_s, hand_over=True)
        return True

    def _cancel_roll(self, now: float) -> None:
        """Return the slots of a batch that has not taken over to its old workers, and end its successors."""
        roll, self._roll = self._roll, None
        if roll is None or roll.draining:
            return
        published = False
        for replacement in roll.replacements:
            old, new = self.members.get(replacement.old), self.members.get(replacement.new)
            if old is not None:
                old.retiring = False
            if new is None or new.lost or new.gone_by is not None:
                continue
            if new.standby:
                self._end(new, now, STOP_WITHIN_S)
            elif old is not None and old.present:
                new.retiring = published = True
                self._drain(new, now, self._roll_longest_s, hand_over=True)
        if published:
            self._publish()
        for replacement in roll.replacements:  # a dead worker whose successor was also its replacement
            if not self._is_covered(replacement.slot) and not self._restarts.pauses(replacement.slot):
                self._restarts.failed(replacement.slot, 0.0, now)

    def _give_up_roll(self, slot: int, why: str, now: float) -> None:
        self._cancel_roll(now)
        log.error("rolling reload cancelled: the new worker died: %s", why, extra={"worker": slot})
