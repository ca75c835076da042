"""The supervisor's decisions on a fake clock: views, deaths, crash loops, rolling reloads, drains."""

import random
from typing import Any

import pytest

from koko_presence.cluster.placement import View
from koko_presence.process.control_channel import Accept, Drain, Stop, Workers
from koko_presence.process.fleet import (
    DRAIN_MARGIN_S,
    FAILURES,
    FRESH_S,
    HURRIED_STOP_WITHIN_S,
    KILLED_WITHIN_S,
    LATE_S,
    READY_WITHIN_S,
    SILENT_S,
    STOP_WITHIN_S,
    TAKE_OVER_S,
    UNREACHABLE_S,
    WITHOUT_WORKERS_S,
    Fleet,
)
from koko_presence.process.fleet_types import Exit, Kill, Phase, SendMessage, Spawn, StopListening
from koko_presence.process.heartbeat_lateness import WINDOW_S
from koko_presence.process.liveness import SILENT_CPU_S, START_CPU_S, STARVED_LONGEST_S, ProcessStats
from koko_presence.process.restart_backoff import PAUSES_S, STEADY_S


class Yard:
    """A fleet whose workers follow every instruction, except those that a test controls."""

    def __init__(self, slots: int = 3) -> None:
        self.now = 1000.0
        self.process_stats: dict[int, ProcessStats] = {}
        self.fleet = Fleet(slots, "/run/k", lambda id: self.process_stats.get(id))
        self.accepting: dict[int, list[int]] = {}
        self.listening = True
        self.alive: dict[int, int] = {}  # id to slot
        self.views: dict[int, list[View]] = {}
        self.told: list[tuple[int, Any]] = []
        self.killed: list[int] = []
        self.exit: Exit | None = None
        self.silent: set[int] = set()
        self.slow: set[int] = set()  # never ready
        self.reluctant: set[int] = set()  # never drained, ignores Stop

    def do(self, actions: list[Any]) -> list[Any]:
        for action in actions:
            if isinstance(action, Spawn):
                self.alive[action.id] = action.slot
            elif isinstance(action, Kill):
                self.killed.append(action.id)
            elif isinstance(action, Exit):
                assert self.exit is None
                self.exit = action
            elif isinstance(action, StopListening):
                self.listening = False
            elif isinstance(action.message, Accept):
                self.accepting[action.id] = action.message.slots
            elif isinstance(action.message, Workers):
                self.views.setdefault(action.id, []).append(action.message.view)
            self.told.append((getattr(action, "id", 0), action))
        return actions

    def boot(self) -> "Yard":
        self.do(self.fleet.begin(self.now))
        return self.settle()

    def settle(self) -> "Yard":
        """Let every worker answer until none has an answer left."""
        before = -1
        while before != len(self.told):
            before = len(self.told)
            for id in list(self.alive):
                member = self.fleet.members.get(id)
                if member is None or id in self.slow:
                    continue
                if not member.ready and not member.lost:
                    self.do(self.fleet.on_ready(id, self.now))
                if self.views.get(id) and member.served < self.views[id][-1].epoch:
                    self.do(self.fleet.on_serving(id, self.views[id][-1].epoch, self.now))
                asked = [a.message for who, a in self.told if who == id and isinstance(a, SendMessage)]
                if any(isinstance(m, Drain) for m in asked) and not member.drained and id not in self.reluctant:
                    self.do(self.fleet.on_drained(id, self.now))
                if id in self.killed or (any(isinstance(m, Stop) for m in asked) and id not in self.reluctant):
                    self.die(id, status=0)
        return self

    def die(self, id: int, status: int = -9) -> list[Any]:
        self.alive.pop(id, None)
        self.accepting.pop(id, None)
        return self.do(self.fleet.on_reaped(id, status, self.now))

    def pass_time(self, seconds: float, step: float = 0.1, settle: bool = True) -> "Yard":
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + step)
            for id in self.alive:
                if id not in self.silent:
                    self.fleet.on_beat(id, self.now)
            self.do(self.fleet.tick(self.now))
            if settle:
                self.settle()
        return self

    @property
    def view(self) -> View:
        return self.fleet.view

    def unready(self) -> str:
        return self.fleet.unready(self.now)


def owners(view: View) -> dict[int, int]:
    return {peer.slot: peer.id for peer in view.peers if peer.owns}


def kinds(actions: list[Any]) -> list[str]:
    return [type(a.message).__name__ if isinstance(a, SendMessage) else type(a).__name__ for a in actions]


# --- the start
# ----------------------------------------------------------------------------------------------------------


def test_the_first_view_has_all_workers_and_no_view_comes_before() -> None:
    yard = Yard()
    yard.do(yard.fleet.begin(yard.now))
    yard.do(yard.fleet.on_ready(1, yard.now))
    yard.do(yard.fleet.on_ready(3, yard.now))
    assert yard.views == {} and yard.unready() == "starting"
    yard.do(yard.fleet.on_ready(2, yard.now))
    assert owners(yard.view) == {0: 1, 1: 2, 2: 3} and yard.view.epoch == 1
    assert [peer.address for peer in yard.view.peers] == ["/run/k/w1.sock", "/run/k/w2.sock", "/run/k/w3.sock"]
    assert yard.unready() == "0 of 3 workers serve, missing: 0, 1, 2"
    yard.settle()
    assert yard.unready() == "" and set(yard.views) == {1, 2, 3}


def test_a_view_that_a_worker_has_made_itself_is_older_than_the_next_one() -> None:
    """The supervisor's next view is newer than one that a worker made itself. While the supervisor is stopped, workers
    make views of their own: its next ones must not be ignored."""
    yard = Yard().boot()
    yard.do(yard.fleet.on_serving(1, 9, yard.now))
    assert yard.view.epoch == 9 and len(yard.view.peers) == 3
    yard.die(2)
    yard.settle()
    assert [view.epoch for view in yard.views[1]][-2:] == [10, 11] and owners(yard.view) == {0: 1, 1: 4, 2: 3}


def test_a_worker_that_dies_at_the_start_is_replaced_before_there_is_a_view() -> None:
    yard = Yard(2)
    yard.do(yard.fleet.begin(yard.now))
    yard.do(yard.fleet.on_ready(1, yard.now))
    yard.die(1)
    assert yard.alive == {2: 1, 3: 0} and yard.views == {}
    yard.settle()
    assert owners(yard.view) == {0: 3, 1: 2} and yard.view.epoch == 1


def test_a_worker_that_is_never_ready_counts_as_dead() -> None:
    yard = Yard(2)
    yard.slow.add(1)
    yard.boot().pass_time(READY_WITHIN_S - 0.2)
    assert yard.killed == []
    yard.pass_time(0.3)
    assert yard.killed == [1] and yard.unready() == "" and owners(yard.view) == {0: 3, 1: 2}


def test_a_worker_that_can_never_run_ends_the_service_at_the_start_with_its_error() -> None:
    yard = Yard()
    yard.do(yard.fleet.begin(yard.now))
    yard.do(yard.fleet.on_failed(2, "no certificate", True, yard.now))
    yard.settle()
    for id in list(yard.alive):
        yard.die(id, 0)
    assert yard.exit == Exit(2, "no certificate") and yard.fleet.phase is Phase.STOPPING


# --- deaths
# -------------------------------------------------------------------------------------------------------------


def test_the_other_workers_are_notified_of_a_death_first() -> None:
    yard = Yard().boot()
    actions = yard.die(2)
    assert kinds(actions) == ["Workers", "Workers", "Spawn", "Accept"]
    assert owners(yard.view) == {0: 1, 2: 3} and yard.fleet.missing(yard.now) == [1]
    assert yard.unready() == "" and yard.accepting == {1: [0, 1], 3: [2]}, "another worker stands in"
    yard.settle()
    assert owners(yard.view) == {0: 1, 1: 4, 2: 3} and yard.unready() == ""


def test_a_replacement_enters_the_view_only_after_the_others_have_taken_over() -> None:
    """A view that arrives while owners change begins the change again: clients would wait for both."""
    yard = Yard().boot()
    yard.die(2)
    yard.do(yard.fleet.on_ready(4, yard.now))
    yard.do(yard.fleet.on_serving(1, 2, yard.now))
    assert owners(yard.view) == {0: 1, 2: 3}, "worker 3 has not taken over yet"
    yard.do(yard.fleet.on_serving(3, 2, yard.now))
    assert owners(yard.view) == {0: 1, 1: 4, 2: 3} and yard.view.epoch == 3


def test_replacements_of_workers_that_died_together_enter_one_view() -> None:
    yard = Yard().boot()
    yard.die(1)
    yard.die(2)
    for id in (4, 5):
        yard.do(yard.fleet.on_ready(id, yard.now))
    assert owners(yard.view) == {2: 3}
    yard.do(yard.fleet.on_serving(3, yard.view.epoch, yard.now))
    assert owners(yard.view) == {0: 4, 1: 5, 2: 3}


def test_a_worker_that_does_not_take_over_does_not_keep_a_replacement_out() -> None:
    yard = Yard().boot()
    yard.die(2)
    yard.do(yard.fleet.on_ready(4, yard.now))
    yard.pass_time(TAKE_OVER_S - 0.1, settle=False)
    assert owners(yard.view) == {0: 1, 2: 3}
    yard.pass_time(0.2, settle=False)
    assert owners(yard.view) == {0: 1, 1: 4, 2: 3}


def test_a_replacement_that_dies_while_it_waits_enters_no_view() -> None:
    yard = Yard().boot()
    yard.die(2)
    yard.do(yard.fleet.on_ready(4, yard.now))
    yard.die(4)
    yard.pass_time(TAKE_OVER_S + 1.0)
    assert all(peer.id != 4 for views in yard.views.values() for view in views for peer in view.peers)
    assert owners(yard.view).keys() == {0, 1, 2}


def test_a_death_reported_by_socket_and_kernel_is_one_death() -> None:
    yard = Yard().boot()
    first = yard.do(yard.fleet.on_lost(2, yard.now))
    assert kinds(first) == ["Workers", "Workers", "Kill", "Spawn", "Accept"]
    assert kinds(yard.die(2)) == []


def test_a_silent_worker_is_killed_and_replaced_within_the_time() -> None:
    yard = Yard().boot().pass_time(1.0)
    yard.silent.add(1)
    yard.pass_time(FRESH_S + 0.1, settle=False)
    assert yard.killed == [] and yard.unready() == "" and yard.fleet.missing(yard.now) == [0]
    assert yard.accepting == {1: [0], 2: [0, 1], 3: [2]}, "another one accepts, too"
    yard.pass_time(SILENT_S - FRESH_S + 0.1, settle=False)
    assert yard.killed == [1] and owners(yard.view) == {1: 2, 2: 3}
    assert yard.settle().unready() == "" and owners(yard.view)[0] == 4


def test_a_supervisor_that_was_stopped_itself_kills_no_worker() -> None:
    yard = Yard().boot().pass_time(1.0)
    yard.now += 60.0  # SIGSTOP, or a stall of the machine
    yard.do(yard.fleet.tick(yard.now))
    yard.pass_time(5.0)
    assert yard.killed == []


def test_a_slot_whose_worker_dies_again_and_again_is_tried_after_growing_pauses_while_others_serve() -> None:
    """A slot whose worker dies repeatedly is retried after growing pauses while the others serve. Five deaths of one
    slot within ten seconds ended the whole service."""
    yard = Yard().boot()
    begun: list[float] = []
    id = 3
    for _ in range(12):
        before, since = set(yard.alive), yard.now
        yard.die(id)
        for _ in range(60):
            if set(yard.alive) - before:
                break
            yard.pass_time(0.1)
        (id,) = set(yard.alive) - before or {max(yard.alive)}
        begun.append(yard.now - since)
        assert yard.exit is None and yard.unready() == ""
    assert begun == pytest.approx([*PAUSES_S, *[PAUSES_S[-1]] * 7], abs=0.11)
    yard.pass_time(STEADY_S + 0.1)
    assert yard.fleet.missing(yard.now) == []
    yard.die(id)
    assert len(yard.alive) == 3, "one that has run for a while is replaced at once"


def test_the_service_ends_when_no_worker_can_start() -> None:
    yard = Yard(2).boot()
    began = yard.now
    while yard.exit is None:
        assert yard.now - began < WITHOUT_WORKERS_S + 3.0
        for id in list(yard.alive):
            yard.die(id, 1)
        yard.pass_time(0.1, settle=False)
    assert yard.exit.code == 1 and "no worker could be started in 10 s, the last failure: " in yard.exit.line
    assert yard.now - began >= WITHOUT_WORKERS_S and yard.fleet.deaths > FAILURES


def test_one_worker_that_cannot_start_does_not_hold_up_the_start_of_the_others() -> None:
    yard = Yard(3)
    yard.do(yard.fleet.begin(yard.now))
    for id in (2, 4):  # slot 1
        yard.do(yard.fleet.on_failed(id, "no process to be had", False, yard.now))
        yard.die(id, 1)
    assert yard.fleet.phase is Phase.BOOT
    yard.settle()
    assert yard.fleet.phase is Phase.RUNNING and owners(yard.view) == {0: 1, 2: 3} and yard.unready() == ""
    assert yard.accepting == {1: [0, 1], 3: [2]}
    yard.pass_time(1.0)
    assert owners(yard.view) == {0: 1, 1: 5, 2: 3} and yard.accepting == {1: [0], 3: [2], 5: [1]}


def test_no_socket_is_without_a_worker_that_accepts_however_many_die() -> None:
    yard = Yard(8).boot()
    for id in range(1, 8):
        yard.slow.update(range(9, 40))
        yard.die(id)
        assert sorted(slot for slots in yard.accepting.values() for slot in slots) == list(range(8))
        assert yard.unready() == ""
    counts = {id: len(slots) for id, slots in yard.accepting.items()}
    assert counts == {8: 8}
    yard.die(8)
    assert yard.unready().startswith("0 of 8 workers serve, missing: 0, 1")


def test_five_workers_of_many_that_die_once_each_are_all_replaced_at_once() -> None:
    """Five workers that die once each are replaced at once. Killing every worker of a large host in turn stopped the
    service at the fifth."""
    yard = Yard(8).boot()
    for id in range(1, 9):
        yard.die(id)
        assert len(yard.alive) == 8
        yard.settle().pass_time(1.0)
    assert yard.exit is None


def test_a_replacement_that_cannot_run_is_retried_and_stops_no_other_worker() -> None:
    yard = Yard(2).boot()
    yard.die(2)
    yard.do(yard.fleet.on_failed(3, "the certificate is gone", True, yard.now))
    yard.die(3, 0)
    assert yard.alive == {1: 0} and yard.accepting == {1: [0, 1]} and yard.unready() == ""
    yard.pass_time(PAUSES_S[1] - 0.11)
    assert yard.alive == {1: 0}
    yard.pass_time(0.2)
    assert yard.unready() == "" and owners(yard.view) == {0: 1, 1: 4} and yard.accepting == {1: [0], 4: [1]}


def test_a_worker_that_has_lost_messages_is_replaced_despite_its_heartbeats() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.on_peer_stuck(3, 9, True, yard.now))
    assert yard.view.ids == {1, 2, 3}, "nobody has the number 9"
    yard.do(yard.fleet.on_peer_stuck(3, 1, True, yard.now))
    assert 1 not in yard.view.ids


# --- starved is not dead
# ------------------------------------------------------------------------------------------------


def test_a_worker_with_heartbeats_is_not_dead_because_a_peer_does_not_reach_it() -> None:
    """A worker with heartbeats is not dead because a peer does not reach it. A peer reported a starved worker after 3
    s; it was killed, and 843 more clients reconnected to the others."""
    yard = Yard().boot().pass_time(1.0)
    for _ in range(int(UNREACHABLE_S) - 1):
        yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))
        yard.pass_time(1.0)
    assert yard.killed == []
    yard.pass_time(2 * UNREACHABLE_S)  # it is reachable again
    yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))
    assert yard.killed == []
    for _ in range(int(UNREACHABLE_S) + 2):
        yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))
        yard.pass_time(1.0)
    assert yard.killed == [1], "one that nobody can reach is of no use, however it beats"


def test_a_worker_that_is_late_itself_does_not_judge() -> None:
    yard = Yard().boot().pass_time(1.0)
    yard.process_stats[3] = ProcessStats(5.0, wants_cpu=True)
    yard.silent.add(3)
    for _ in range(int(UNREACHABLE_S) + 5):
        yard.pass_time(1.0)
        yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))
    assert yard.killed == []


def test_a_starved_worker_whose_beats_come_late_and_with_gaps_is_not_called_unreachable() -> None:
    yard = Yard().boot().pass_time(1.0)
    yard.process_stats[1] = ProcessStats(5.0, wants_cpu=True)
    for _ in range(10):  # each time for half as long as the limit
        for _ in range(int(UNREACHABLE_S / 2)):
            yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))
            yard.pass_time(1.0)
        yard.silent.add(1)
        yard.pass_time(LATE_S + 0.5)
        yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))  # late by its heartbeats, which decide
        yard.silent.clear()
        yard.pass_time(0.5)
    assert yard.killed == []


def test_reports_on_a_worker_from_a_stop_of_the_supervisor_are_ignored() -> None:
    yard = Yard().boot().pass_time(1.0)
    yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))
    yard.now += 2 * UNREACHABLE_S
    for _ in range(int(2 * UNREACHABLE_S)):  # these are read before the heartbeats of the reported worker
        yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))
    yard.do(yard.fleet.tick(yard.now))
    for _ in range(2):
        yard.do(yard.fleet.on_peer_stuck(3, 1, False, yard.now))
    assert yard.killed == [] and yard.view.ids == {1, 2, 3}


def test_a_worker_that_gets_no_time_is_not_killed_for_its_silence() -> None:
    yard = Yard(2).boot().pass_time(1.0)
    yard.silent |= {1, 2}
    for step in range(1, 200):  # 5 % of a core for both
        yard.process_stats = {id: ProcessStats(3.0 + step * 0.0025, wants_cpu=True) for id in (1, 2)}
        yard.pass_time(0.1)
    assert yard.killed == []
    yard.silent.clear()
    yard.pass_time(1.0)
    assert yard.killed == [] and yard.unready() == ""


@pytest.mark.parametrize(
    ("a_tenth_s", "wants_cpu"),
    [(0.1, True), (0.0, False)],
    ids=["it runs without end", "it sleeps, or was stopped"],
)
def test_a_worker_that_has_had_its_time_or_does_not_want_any_is_hung(a_tenth_s: float, wants_cpu: bool) -> None:
    yard = Yard(2).boot().pass_time(1.0)
    yard.silent.add(1)
    for step in range(int(SILENT_S * 10) + 2):
        assert yard.killed == [] or step >= SILENT_S * 10
        yard.process_stats[1] = ProcessStats(3.0 + step * a_tenth_s, wants_cpu)
        yard.pass_time(0.1, settle=False)
    assert yard.killed == [1] and 1.0 < SILENT_CPU_S < SILENT_S - 1.0


def test_no_worker_is_starved_for_ever() -> None:
    yard = Yard(2).boot().pass_time(1.0)
    yard.silent |= {1, 2}
    yard.process_stats = {id: ProcessStats(3.0, wants_cpu=True) for id in (1, 2)}
    yard.pass_time(STARVED_LONGEST_S - 1.0)
    assert yard.killed == []
    yard.pass_time(1.5, settle=False)
    assert yard.killed == [1, 2]


def test_a_worker_that_makes_progress_at_its_start_is_given_longer() -> None:
    """A worker that makes progress during its start gets more time. With 7 % of a core no worker was ever ready within
    its 20 s."""
    yard = Yard(2)
    yard.slow |= {1, 2}
    yard.do(yard.fleet.begin(yard.now))
    for second in range(3 * int(READY_WITHIN_S)):
        yard.process_stats = {
            1: ProcessStats(0.01 * second, wants_cpu=False),
            2: ProcessStats(0.01 * second, wants_cpu=True),
        }
        yard.pass_time(1.0)
    assert yard.killed == []
    yard.process_stats[1] = ProcessStats(0.6, wants_cpu=False)  # it waits for an event that does not come
    yard.process_stats[2] = ProcessStats(START_CPU_S + 1.0, wants_cpu=True)  # it loops without progress
    yard.pass_time(READY_WITHIN_S + 1.5, settle=False)
    assert sorted(yard.killed) == [1, 2]


def test_a_worker_whose_heartbeats_are_late_for_most_of_30_s_is_replaced_one_at_a_time() -> None:
    """A worker whose heartbeats are late for most of 30 s is replaced, one at a time. With 0.3 s of work every 2.9 s it
    was never silent for 3 s, and all its clients waited for 2.6 s."""
    yard = Yard(5).boot()
    yard.silent |= {1, 2}
    for _ in range(12):
        yard.pass_time(2.8)
        for id in (1, 2):
            yard.fleet.on_beat(id, yard.now)
    assert yard.killed == [], "nobody is cut off"
    assert len(yard.fleet.members) == 5 and max(yard.alive) == 6, "one has got a successor"
    assert yard.accepting[6] and yard.unready() == "" and not yard.fleet.rolling


def test_a_machine_on_which_all_are_late_is_not_given_more_to_do() -> None:
    yard = Yard(2).boot()
    yard.silent |= {1, 2}
    for _ in range(3 * int(WINDOW_S / 2.8)):
        yard.pass_time(2.8)
        for id in (1, 2):
            yard.fleet.on_beat(id, yard.now)
    assert set(yard.alive) == {1, 2}


@pytest.mark.parametrize("call", ["on_ready", "on_lost", "on_drained"])
def test_messages_of_an_ended_worker_are_ignored(call: str) -> None:
    yard = Yard().boot()
    yard.die(2)
    assert getattr(yard.fleet, call)(2, yard.now) == []


# --- rolling
# ------------------------------------------------------------------------------------------------------------


def test_rolling_starts_all_successors_then_moves_owned_entities_then_accepting_then_drains_all() -> None:
    """All successors start first, then the owned entities move, then the accepting sockets, then all old workers drain.
    Clients of the first drained worker connected to one that was still to be replaced: 40 clients, 54 closes."""
    yard = Yard().boot()
    assert kinds(yard.do(yard.fleet.roll(yard.now))) == ["Spawn"] * 3
    assert kinds(yard.do(yard.fleet.on_ready(4, yard.now))) == [] == kinds(yard.do(yard.fleet.on_ready(6, yard.now)))
    assert yard.view.epoch == 1, "nothing has moved before all are ready"
    assert kinds(yard.do(yard.fleet.on_ready(5, yard.now))) == ["Workers"] * 4
    for new, slot in ((4, 0), (5, 1), (6, 2)):
        assert owners(yard.view)[slot] == new and yard.accepting[1] == [0], "slot by slot"
        assert yard.unready() == "", "the old ones still take connections"
        assert "Drain" not in kinds(yard.do(yard.fleet.on_serving(new, yard.view.epoch - 1, yard.now)))
        told = yard.do(yard.fleet.on_serving(new, yard.view.epoch, yard.now))
    assert kinds(told) == ["Accept"] * 4 + ["Drain"] * 3
    assert [(a.id, a.message.slots) for a in told[:4]] == [(6, [2]), (1, []), (2, []), (3, [])]
    assert all(action.message.hand_over for action in told[4:])
    yard.settle()
    assert owners(yard.view) == {0: 4, 1: 5, 2: 6} and not yard.fleet.rolling and set(yard.alive) == {4, 5, 6}
    assert yard.fleet.rolled
    assert yard.exit is None and yard.unready() == "" and yard.accepting == {4: [0], 5: [1], 6: [2]}


def test_with_little_memory_the_successors_of_a_batch_accept_for_all() -> None:
    """With little memory the successors of a batch accept all connections: a drained client reaches a new worker, and
    one of the newest, so that all get the same share."""
    yard = Yard(4).boot()
    yard.do(yard.fleet.roll(yard.now, batch=2))
    assert set(yard.alive) == {1, 2, 3, 4, 5, 6}
    yard.reluctant |= {1, 2, 3, 4}
    yard.settle()
    assert {id: slots for id, slots in yard.accepting.items() if slots} == {5: [0, 2], 6: [1, 3]}
    yard.reluctant -= {1, 2}
    yard.settle()
    assert {id: slots for id, slots in yard.accepting.items() if slots} == {7: [0, 2], 8: [1, 3]}
    yard.reluctant.clear()
    yard.settle()
    assert yard.accepting == {5: [0], 6: [1], 7: [2], 8: [3]} and yard.fleet.rolled


def test_a_second_rolling_reload_meanwhile_is_refused() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    with pytest.raises(ValueError, match="is in progress"):
        yard.fleet.roll(yard.now)
    yard.settle()
    assert yard.do(yard.fleet.roll(yard.now)) != []


def test_no_rolling_before_the_start_is_over() -> None:
    yard = Yard()
    yard.do(yard.fleet.begin(yard.now))
    with pytest.raises(ValueError, match="starting"):
        yard.fleet.roll(yard.now)


@pytest.mark.parametrize("ready_first", [False, True])
def test_a_successor_that_fails_leaves_the_old_one_in_place(ready_first: bool) -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    if ready_first:
        yard.do(yard.fleet.on_ready(4, yard.now))
    yard.do(yard.fleet.on_failed(4, "no certificate", True, yard.now))
    yard.die(4, 0)
    assert owners(yard.view) == {0: 1, 1: 2, 2: 3} and not yard.fleet.rolling and not yard.fleet.rolled
    assert yard.settle().pass_time(10.0).unready() == "" and set(yard.alive) == {1, 2, 3}


def test_a_successor_that_fails_when_others_have_taken_over_gives_all_back_to_the_old_ones() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    for id in (4, 5, 6):
        yard.do(yard.fleet.on_ready(id, yard.now))
    yard.do(yard.fleet.on_serving(4, yard.view.epoch, yard.now))
    assert owners(yard.view) == {0: 4, 1: 5, 2: 3}
    yard.die(6)
    assert owners(yard.view) == {0: 1, 1: 2, 2: 3} and not yard.fleet.rolling and not yard.fleet.rolled
    assert yard.settle().unready() == "" and set(yard.alive) == {1, 2, 3} and yard.accepting == {1: [0], 2: [1], 3: [2]}


def test_a_successor_that_dies_while_the_old_ones_drain_is_replaced_and_the_reload_goes_on() -> None:
    yard = Yard().boot()
    yard.reluctant |= {1, 2, 3}
    yard.do(yard.fleet.roll(yard.now))
    yard.settle()
    assert yard.fleet.members[1].leaving and yard.fleet.rolling
    yard.die(4)
    assert owners(yard.view) == {1: 5, 2: 6} and yard.fleet.rolling and yard.accepting[5] == [0, 1]
    yard.settle()
    assert owners(yard.view) == {0: 7, 1: 5, 2: 6} and yard.accepting[7] == [0]
    yard.reluctant.clear()
    yard.settle()
    assert owners(yard.view) == {0: 7, 1: 5, 2: 6} and set(yard.alive) == {5, 6, 7} and yard.fleet.rolled


def test_an_old_worker_that_dies_while_its_successor_starts_is_not_replaced_twice() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    assert "Spawn" not in kinds(yard.die(1))
    assert yard.unready() == "" and yard.accepting == {2: [0, 1], 3: [2]}
    yard.settle()
    assert owners(yard.view) == {0: 4, 1: 5, 2: 6}


def test_an_old_worker_that_does_not_drain_is_ended_all_the_same() -> None:
    yard = Yard().boot()
    yard.reluctant.add(1)
    yard.do(yard.fleet.roll(yard.now))
    yard.settle().pass_time(11.0 + DRAIN_MARGIN_S)
    yard.settle()
    assert not yard.fleet.rolling or 1 not in yard.view.ids
    yard.pass_time(STOP_WITHIN_S + 0.2)
    assert yard.killed == [1] and owners(yard.view) == {0: 4, 1: 5, 2: 6}


def test_a_slot_whose_worker_died_meanwhile_is_new_already() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    yard.settle()
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now, batch=1))
    yard.die(3)  # slot 2
    yard.settle()
    assert sorted(yard.alive) == [4, 5, 6], "slot 2 has been replaced once"


def test_a_rolling_reload_starts_a_worker_for_a_slot_that_has_none() -> None:
    yard = Yard(2).boot()
    for id in range(2, 6):
        yard.die(id)
        yard.pass_time(PAUSES_S[id - 1] if id < 5 else 0.0, settle=False)
    assert set(yard.alive) == {1}
    yard.do(yard.fleet.roll(yard.now))
    yard.settle()
    assert owners(yard.view) == {0: 6, 1: 7} and set(yard.alive) == {6, 7} and yard.fleet.rolled


# --- the end
# ------------------------------------------------------------------------------------------------------------


def test_a_drain_drains_all_workers_waits_for_all_and_stops_all() -> None:
    yard = Yard().boot()
    assert kinds(yard.do(yard.fleet.drain(yard.now, 10.0))) == ["StopListening"] + ["Drain"] * 3
    assert yard.unready() == "draining" and not yard.listening
    yard.do(yard.fleet.on_drained(1, yard.now))
    yard.do(yard.fleet.on_drained(2, yard.now))
    assert kinds(yard.do(yard.fleet.on_drained(3, yard.now))) == ["Stop"] * 3
    for id in (1, 2, 3):
        assert yard.exit is None
        yard.die(id, 0)
    assert yard.exit == Exit(0, "")


def test_a_second_signal_does_not_wait() -> None:
    yard = Yard().boot()
    yard.reluctant = {1, 2, 3}
    yard.do(yard.fleet.drain(yard.now, 10.0))
    assert kinds(yard.do(yard.fleet.drain(yard.now, 10.0))) == ["Stop"] * 3
    yard.pass_time(0.6)
    assert yard.killed == [1, 2, 3] and yard.exit == Exit(0, "")


def test_q6_during_the_delay_the_service_continues_but_is_not_ready() -> None:
    yard = Yard().boot()
    assert kinds(yard.do(yard.fleet.drain(yard.now, 10.0, delay_s=5.0))) == []
    assert yard.unready() == "draining"
    yard.pass_time(2.0)
    yard.die(2)
    assert yard.listening and yard.accepting == {1: [0, 1], 3: [2]}, "others accept in its place"
    yard.pass_time(2.9)
    assert yard.listening and yard.exit is None
    yard.pass_time(0.2)
    assert not yard.listening and yard.exit == Exit(0, "")


def test_q6_a_second_signal_during_the_delay_ends_at_once() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.drain(yard.now, 10.0, delay_s=5.0))
    assert kinds(yard.do(yard.fleet.drain(yard.now, 10.0, delay_s=5.0))) == ["Stop"] * 3
    yard.settle()
    assert yard.exit == Exit(0, "")


def test_a_worker_that_does_not_drain_or_stop_does_not_hold_up_the_end() -> None:
    yard = Yard().boot()
    yard.reluctant = {2}
    yard.do(yard.fleet.drain(yard.now, 1.0))
    yard.settle().pass_time(1.0 + DRAIN_MARGIN_S + STOP_WITHIN_S + 0.2)
    assert yard.killed == [2] and yard.exit == Exit(0, "")


def test_a_death_during_the_drain_is_not_replaced() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.drain(yard.now, 10.0))
    yard.die(2)
    assert set(yard.alive) == {1, 3}
    yard.settle()
    assert yard.exit == Exit(0, "")


def test_a_drain_before_the_start_is_over_stops_at_once() -> None:
    yard = Yard()
    yard.do(yard.fleet.begin(yard.now))
    yard.do(yard.fleet.drain(yard.now, 10.0))
    yard.settle().pass_time(0.2)
    assert yard.exit == Exit(0, "")


def test_a_drain_in_the_middle_of_a_rolling_reload_stops_all_workers() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    yard.do(yard.fleet.on_ready(4, yard.now))
    yard.do(yard.fleet.drain(yard.now, 10.0))
    yard.settle()
    assert yard.exit == Exit(0, "") and yard.alive == {}


# --- the end, whatever has happened
# --------------------------------------------------------------------------------------


def test_regression_a_worker_that_never_had_a_process_held_up_the_end_for_good() -> None:
    """A worker without a process does not delay the end. It was requested and withdrawn, and no message reported its
    end: the service was stopping for ever and ignored signals."""
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    yard.alive.pop(5)  # its request is lost
    yard.die(4)
    yard.pass_time(STOP_WITHIN_S + 1.0)
    assert 5 in yard.killed and 5 in yard.fleet.members
    yard.do(yard.fleet.drain(yard.now, 1.0))
    yard.pass_time(STOP_WITHIN_S + KILLED_WITHIN_S + 0.2)
    assert yard.exit == Exit(0, "")


def test_regression_a_second_signal_did_not_end_a_service_whose_worker_is_never_waited_for() -> None:
    yard = Yard().boot()
    yard.alive.pop(2)
    yard.do(yard.fleet.drain(yard.now, 60.0))
    yard.pass_time(1.0)
    assert yard.exit is None
    yard.do(yard.fleet.drain(yard.now, 60.0))
    yard.pass_time(HURRIED_STOP_WITHIN_S + KILLED_WITHIN_S + 0.2)
    assert yard.exit == Exit(0, "") and 2 in yard.killed


def test_regression_a_worker_that_can_never_run_and_does_not_end_held_up_the_end() -> None:
    yard = Yard()
    yard.reluctant.add(2)
    yard.do(yard.fleet.begin(yard.now))
    yard.do(yard.fleet.on_failed(2, "no certificate", True, yard.now))
    yard.settle().pass_time(STOP_WITHIN_S + KILLED_WITHIN_S + 0.2)
    assert yard.exit == Exit(2, "no certificate") and 2 in yard.killed


def test_regression_a_slot_without_a_worker_stayed_so_after_a_rolling_reload_that_failed() -> None:
    """A slot without a worker is filled again after a rolling reload that failed. Its successor was withdrawn, and the
    pause before its next try had been deleted."""
    yard = Yard().boot()
    yard.die(2)
    yard.die(4)  # a pause
    yard.do(yard.fleet.roll(yard.now))
    assert yard.alive == {1: 0, 3: 2, 5: 0, 6: 1, 7: 2}
    yard.die(5)
    yard.pass_time(STOP_WITHIN_S + PAUSES_S[-1] + 0.2)
    assert sorted(owners(yard.view)) == [0, 1, 2] and yard.fleet.missing(yard.now) == []


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.long if seed >= 30 else ()) for seed in range(150)]
)
def test_after_any_events_a_stop_completes_and_without_one_every_slot_gets_a_worker(seed: int) -> None:
    """Deaths, lost requests, silence, failures, rolling reloads and drains in any order: a stop always completes, and
    without one every slot gets a worker."""
    chance = random.Random(seed)
    yard = Yard(chance.randint(1, 4))
    yard.do(yard.fleet.begin(yard.now))
    for _ in range(chance.randint(1, 60)):
        if yard.exit is not None:
            return
        id = chance.choice(list(yard.fleet.members) or [0])
        what = chance.randrange(12)
        if what == 0:
            yard.die(id)
        elif what == 1:  # no process, and no report of its end
            yard.alive.pop(id, None)
        elif what == 2:
            yard.do(yard.fleet.on_failed(id, "it could not be started", False, yard.now))
            yard.die(id, 1)
        elif what == 3:
            yard.do(yard.fleet.on_lost(id, yard.now))
        elif what == 4:
            chance.choice([yard.reluctant, yard.silent, yard.slow]).add(id)
        elif what == 5 and not yard.fleet.no_roll():
            yard.do(yard.fleet.roll(yard.now, batch=chance.randint(1, 3), longest_s=1.0))
        elif what == 6:
            yard.do(yard.fleet.on_ready(id, yard.now))
        else:
            yard.pass_time(chance.choice([0.1, 0.5, 3.0]), settle=chance.random() < 0.7)
    for some in (yard.reluctant, yard.silent, yard.slow):
        some.clear()
    if yard.exit is None and chance.random() < 0.5:
        yard.settle().pass_time(2 * READY_WITHIN_S + WINDOW_S)
        assert yard.unready() == "" and yard.fleet.missing(yard.now) == []
    signals = chance.randint(1, 2)
    for _ in range(signals if yard.exit is None else 0):
        yard.do(yard.fleet.drain(yard.now, 1.0, chance.choice([0.0, 1.0])))
    within_s = 2.0 + DRAIN_MARGIN_S + STOP_WITHIN_S + KILLED_WITHIN_S if signals == 1 else 0.5 + KILLED_WITHIN_S
    end = yard.now + within_s + 0.3
    while yard.exit is None and yard.now < end:
        yard.pass_time(0.1, settle=chance.random() < 0.5)
    assert yard.exit is not None


def test_regression_every_worker_was_logged_as_reporting_one_that_was_stopped() -> None:
    yard = Yard().boot().pass_time(1.0)
    assert yard.fleet.is_new_report(1, 2, False, yard.now) and not yard.fleet.is_new_report(1, 9, True, yard.now)
    yard.silent.add(2)
    yard.pass_time(LATE_S + 0.2, settle=False)
    assert not yard.fleet.is_new_report(1, 2, False, yard.now), "its beats say that it is late"
    assert not yard.fleet.is_new_report(2, 1, False, yard.now), "nor does it judge"
    assert yard.fleet.is_new_report(1, 2, True, yard.now), "what was dropped is news"
