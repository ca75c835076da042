"""Which workers there are, and what is to be done about it: the supervisor's decisions, without any of its I/O.

Every method takes `now`, monotonic seconds, and gives the actions that follow, in their order: a view without a dead
worker always comes before anything that takes time. The fleet alone numbers views and workers; neither number is used
twice. A death is one that was not asked for, whatever told of it first: the control socket, the kernel, or silence.
"""

import logging
from collections import deque

from .control import Drain, Stop, Workers
from .crew import Action, Exit, Kill, Member, Phase, Roll, Spawn, Tell
from .ring import Peer, View

log = logging.getLogger("koko_presence.fleet")

SILENT_S = 3.0  # a worker that has not beaten for so long is dead: 4 s to its replacement, less its start
FRESH_S = 1.5  # a worker that has not beaten for so long is not counted on: three beats
READY_WITHIN_S = 20.0
DEATHS, DEATHS_WITHIN_S = 5, 10.0  # so many of one slot in so short a time are a crash loop
RETRY_S = 5.0  # between replacements that say themselves that they cannot run
DRAIN_LONGEST_S = 10.0
STOP_WITHIN_S = 2.0  # from Stop to SIGKILL
HURRIED_STOP_WITHIN_S = 0.5
DRAIN_MARGIN_S = 3.0  # beyond the time a worker was given
STALL_S = 1.0  # the supervisor itself was held up, and knows nothing of the workers' beats meanwhile


class Fleet:
    """The workers of one service."""

    def __init__(self, slots: int, folder: str) -> None:
        """`folder` is where the workers' mesh sockets are."""
        self.slots = slots
        self.phase = Phase.BOOT
        self.members: dict[int, Member] = {}
        self.view = View(epoch=0, peers=())
        self._folder = folder
        self._last_id = 0
        self.rolled = False  # whether the last rolling reload came to its end
        self._roll: Roll | None = None
        self.deaths = 0  # of workers that were to live, ever
        self._lately: deque[tuple[float, int]] = deque()  # deaths: when, and in which slot
        self._retries: dict[int, float] = {}
        self._ticked_at: float | None = None
        self._exit = Exit(0, "")
        self._over = False
        self._actions: list[Action] = []

    def address(self, id: int) -> str:
        """The mesh socket of worker `id`."""
        return f"{self._folder}/w{id}.sock"

    # --- what is asked of it --------------------------------------------------------------------------------------

    @property
    def rolling(self) -> bool:
        return self._roll is not None

    def owner(self, slot: int) -> Member | None:
        """The worker that owns what belongs to `slot`: the newest that is there and stays."""
        there = [member for member in self.members.values() if member.slot == slot and member.present]
        return max((member for member in there if not member.retiring), key=lambda member: member.id, default=None)

    def present(self, id: int) -> bool:
        """Whether worker `id` is there and may hold connections, be it on its way out."""
        member = self.members.get(id)
        return member is not None and member.present

    def wants(self, id: int) -> bool:
        """Whether a worker that was to be started is still to be started."""
        member = self.members.get(id)
        return member is not None and not member.lost and member.gone_by is None

    def unready(self, now: float) -> str:
        """Why the service is not ready, in words; empty when every worker serves."""
        if self.phase is not Phase.RUNNING:
            return str(self.phase.value)
        taking = [member for member in self.members.values() if member.serving and not member.leaving]
        missing = sorted(set(range(self.slots)) - {member.slot for member in taking})
        if missing:
            count = self.slots - len(missing)
            return f"{count} of {self.slots} workers serve, missing: {', '.join(map(str, missing))}"
        silent = sorted({member.slot for member in taking if now - member.heard_at > FRESH_S})
        return f"no sign of life from worker {', '.join(map(str, silent))}" if silent else ""

    def fresh(self, now: float) -> bool:
        """Whether every worker in the view has beaten lately."""
        return all(now - member.heard_at <= FRESH_S for member in self.members.values() if member.present)

    # --- what happens to the workers ------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Action]:
        """Start one worker for each slot."""
        for slot in range(self.slots):
            self._spawn(slot, now)
        return self._take()

    def on_ready(self, id: int, now: float) -> list[Action]:
        """Into the view; at the start into one view with all."""
        member = self.members.get(id)
        if member is None or member.ready or member.lost:
            return []
        member.ready, member.heard_at = True, now
        if self.phase is Phase.BOOT and all(self.owner(slot) for slot in range(self.slots)):
            self.phase = Phase.RUNNING
        if self._roll is not None and id == self._roll.new and self._roll.old in self.members:
            self.members[self._roll.old].retiring = True
        if self.phase is Phase.RUNNING and member.present:
            self._publish()
        return self._settle(now)

    def on_serving(self, id: int, epoch: int, now: float) -> list[Action]:
        """The worker knows view `epoch` and accepts connections."""
        if id in self.members:
            self.members[id].served = epoch
        return self._settle(now)

    def on_beat(self, id: int, now: float) -> None:
        """The worker's loop runs."""
        if id in self.members:
            self.members[id].heard_at = now

    def on_peer_stuck(self, id: int, peer: int, now: float) -> list[Action]:
        """Worker `id` has too much that worker `peer` does not read, or gets no sign of life from it. What it writes to
        it from now on may be lost, so `peer` has to be replaced, whatever its beats say."""
        member = self.members.get(peer)
        if member is not None and id in self.members:
            self._lose(member, f"worker {self.members[id].slot} cannot reach it", now)
        return self._settle(now)

    def on_drained(self, id: int, now: float) -> list[Action]:
        """The worker's clients are gone."""
        member = self.members.get(id)
        if member is not None:
            self._drained(member, now)
        return self._settle(now)

    def on_failed(self, id: int, reason: str, final: bool, now: float) -> list[Action]:
        """The worker says that it cannot run. At the start that may be the end: no restart mends a certificate."""
        member = self.members.get(id)
        if member is None or member.lost:
            return []
        if final and self.phase is Phase.BOOT:
            member.lost = True
            self._stop(2, reason, now)
        else:
            self._lose(member, reason, now, counts=not final)
        return self._settle(now)

    def on_lost(self, id: int, now: float) -> list[Action]:
        """The worker's control socket is closed."""
        member = self.members.get(id)
        if member is not None:
            self._lose(member, "its control socket closed", now)
        return self._settle(now)

    def on_reaped(self, id: int, status: int, now: float) -> list[Action]:
        """The process is over; `status` is its exit code, or a signal's number below 0."""
        member = self.members.get(id)
        if member is not None:
            why = f"it was killed by signal {-status}" if status < 0 else f"it exited with {status}"
            self._lose(member, why, now, kill=False)
            del self.members[id]
        return self._settle(now)

    def tick(self, now: float) -> list[Action]:
        """Several times a second: who is silent, late, or overdue."""
        if self._ticked_at is not None and now - self._ticked_at > STALL_S:
            # whoever stopped the supervisor did not stop the workers; their beats wait to be read
            for member in self.members.values():
                member.heard_at = now
        self._ticked_at = now
        for member in list(self.members.values()):
            if member.gone_by is not None and now >= member.gone_by:
                member.gone_by = float("inf")
                self._actions.append(Kill(member.id))
            elif not member.ready and now - member.started_at >= READY_WITHIN_S:
                self._lose(member, f"it was not ready within {READY_WITHIN_S:g} s", now)
            elif member.ready and now - member.heard_at >= SILENT_S:
                self._lose(member, f"it was silent for {SILENT_S:g} s", now)
            elif member.drained_by is not None and now >= member.drained_by:
                self._drained(member, now)
        for slot in [slot for slot, at in self._retries.items() if now >= at]:
            del self._retries[slot]
            self._cover(slot, now)
        return self._settle(now)

    # --- what people ask for --------------------------------------------------------------------------------------

    def no_roll(self) -> str:
        """Why no rolling reload can begin now, in words; empty when it can."""
        if self._roll is not None:
            return "a rolling reload is under way already"
        return "" if self.phase is Phase.RUNNING else f"the server is {self.phase.value}"

    def roll(self, now: float) -> list[Action]:
        """Replace every worker, one at a time. Errors: ValueError, in words, when that is not possible now."""
        refusal = self.no_roll()
        if refusal:
            raise ValueError(refusal)
        self.rolled = False
        self._roll = Roll(range(self.slots), self._last_id + 1)
        return self._settle(now)

    def drain(self, now: float, longest_s: float) -> list[Action]:
        """Send all clients elsewhere within `longest_s`, then stop. Asked again it does not wait."""
        if self.phase in (Phase.DRAINING, Phase.STOPPING):
            return self.hurry(now)
        self.phase, self._roll = Phase.DRAINING, None
        for member in self.members.values():
            if member.present:
                self._drain(member, now, longest_s)
            elif not member.lost and member.gone_by is None:  # has nobody yet
                self._end(member, now, 0.0)
        return self._settle(now)

    def hurry(self, now: float) -> list[Action]:
        """Stop without waiting for anybody."""
        if self.phase is not Phase.STOPPING:
            self._stop(0, "", now)
        for member in self.members.values():
            if member.gone_by is not None:
                member.gone_by = min(member.gone_by, now + HURRIED_STOP_WITHIN_S)
        return self._settle(now)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _spawn(self, slot: int, now: float) -> Member:
        self._last_id += 1
        member = self.members[self._last_id] = Member(self._last_id, slot, now)
        self._actions.append(Spawn(member.id, slot))
        return member

    def _cover(self, slot: int, now: float) -> None:
        if not any(member.slot == slot and member.covers for member in self.members.values()):
            self._spawn(slot, now)

    def _publish(self) -> None:
        epoch = self.view.epoch + 1
        there = sorted((member for member in self.members.values() if member.present), key=lambda member: member.id)
        owners = {owner.id for slot in range(self.slots) if (owner := self.owner(slot)) is not None}
        if not owners:  # those on their way out are better than nobody
            owners = {member.id for member in there}
        peers = tuple(
            Peer(id=member.id, slot=member.slot, address=self.address(member.id), owns=member.id in owners)
            for member in there
        )
        self.view = View(epoch=epoch, peers=peers)
        for member in there:
            member.entered = member.entered or epoch
            self._actions.append(Tell(member.id, Workers(view=self.view)))

    def _lose(self, member: Member, why: str, now: float, *, counts: bool = True, kill: bool = True) -> None:
        if member.lost:
            return
        was_there, member.lost = member.present, True
        if self._roll is not None and member.id == self._roll.new:
            self._give_up_roll(member.slot, why)
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
        if not counts:
            if not any(other.slot == member.slot and other.covers for other in self.members.values()):
                self._retries[member.slot] = now + RETRY_S
            return
        self._lately.append((now, member.slot))
        while self._lately[0][0] <= now - DEATHS_WITHIN_S:
            self._lately.popleft()
        # at the start they die of the same thing; later on five of many may be chance, five of one are not
        if sum(slot == member.slot or self.phase is Phase.BOOT for _, slot in self._lately) >= DEATHS:
            line = f"worker {member.slot} died {DEATHS} times within {DEATHS_WITHIN_S:g} s"
            if self.phase is Phase.BOOT:
                line = f"{DEATHS} workers died within {DEATHS_WITHIN_S:g} s"
            self._stop(1, f"{line}, the last one because {why}", now)
        else:
            self._cover(member.slot, now)

    def _drain(self, member: Member, now: float, longest_s: float) -> None:
        member.drained_by = now + longest_s + DRAIN_MARGIN_S
        self._actions.append(Tell(member.id, Drain(longest_s=longest_s)))

    def _drained(self, member: Member, now: float) -> None:
        member.drained, member.drained_by = True, None
        if self.phase is Phase.RUNNING and member.retiring and member.present:
            member.gone_by = now + STOP_WITHIN_S
            self._publish()
            self._actions.append(Tell(member.id, Stop()))

    def _end(self, member: Member, now: float, within_s: float) -> None:
        member.gone_by = now + within_s
        self._actions.append(Tell(member.id, Stop()))

    def _stop(self, code: int, line: str, now: float) -> None:
        self.phase, self._roll, self._exit = Phase.STOPPING, None, Exit(code, line)
        for member in self.members.values():
            if not member.lost and member.gone_by is None:
                self._end(member, now, STOP_WITHIN_S)

    def _settle(self, now: float) -> list[Action]:
        if self.phase is Phase.RUNNING:
            self._go_on_rolling(now)
        if self.phase is Phase.DRAINING and all(
            member.drained or member.lost or member.gone_by is not None for member in self.members.values()
        ):
            self._stop(0, "", now)
        if self.phase is Phase.STOPPING and not self.members and not self._over:
            self._over = True
            self._actions.append(self._exit)
        return self._take()

    def _take(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    # --- rolling --------------------------------------------------------------------------------------------------

    def _go_on_rolling(self, now: float) -> None:
        roll = self._roll
        while roll is not None and self._roll is roll:
            if not roll.new and not self._roll_next(roll, now):
                return
            if not roll.new:
                continue
            new, old = self.members[roll.new], self.members.get(roll.old)
            if not new.serving:
                return
            if old is not None and old.present:
                if not old.leaving:
                    self._drain(old, now, DRAIN_LONGEST_S)
                return
            log.info("a worker was replaced", extra={"worker": new.slot, "id": new.id, "left": len(roll.slots)})
            roll.old = roll.new = 0

    def _roll_next(self, roll: Roll, now: float) -> bool:
        """Begin with the next slot. False: not now, or no more."""
        if not roll.slots:
            log.info("every worker was replaced")
            self._roll, self.rolled = None, True
            return False
        if any((owner := self.owner(slot)) is None or not owner.serving for slot in range(self.slots)):
            return False  # one at a time
        slot = roll.slots.popleft()
        old = self.owner(slot)
        if old is not None and old.id < roll.first_id:
            roll.old, roll.new = old.id, self._spawn(slot, now).id
        return True

    def _give_up_roll(self, slot: int, why: str) -> None:
        roll, self._roll = self._roll, None
        old = None if roll is None else self.members.get(roll.old)
        if old is not None and not old.leaving:
            old.retiring = False  # it takes its slot back
        log.error("the rolling reload ends here: the new worker died: %s", why, extra={"worker": slot})
