"""The supervisor's decisions on a fake clock: views, deaths, crash loops, rolling reloads, drains."""

from typing import Any

import pytest

from koko_presence.cluster.control import Drain, Stop, Workers
from koko_presence.cluster.crew import Exit, Kill, Phase, Spawn, Tell
from koko_presence.cluster.fleet import DEATHS, FRESH_S, READY_WITHIN_S, RETRY_S, SILENT_S, STOP_WITHIN_S, Fleet
from koko_presence.cluster.ring import View


class Yard:
    """A fleet whose workers do what they are told, except those that a test takes in hand."""

    def __init__(self, slots: int = 3) -> None:
        self.now = 1000.0
        self.fleet = Fleet(slots, "/run/k")
        self.alive: dict[int, int] = {}  # id to slot
        self.views: dict[int, list[View]] = {}
        self.told: list[tuple[int, Any]] = []
        self.killed: list[int] = []
        self.exit: Exit | None = None
        self.silent: set[int] = set()
        self.slow: set[int] = set()  # never ready
        self.reluctant: set[int] = set()  # never drained, deaf to Stop

    def do(self, actions: list[Any]) -> list[Any]:
        for action in actions:
            if isinstance(action, Spawn):
                self.alive[action.id] = action.slot
            elif isinstance(action, Kill):
                self.killed.append(action.id)
            elif isinstance(action, Exit):
                assert self.exit is None
                self.exit = action
            elif isinstance(action.message, Workers):
                self.views.setdefault(action.id, []).append(action.message.view)
            self.told.append((getattr(action, "id", 0), action))
        return actions

    def boot(self) -> "Yard":
        self.do(self.fleet.begin(self.now))
        return self.settle()

    def settle(self) -> "Yard":
        """Every worker answers until none has anything to say."""
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
                asked = [a.message for who, a in self.told if who == id and isinstance(a, Tell)]
                if any(isinstance(m, Drain) for m in asked) and not member.drained and id not in self.reluctant:
                    self.do(self.fleet.on_drained(id, self.now))
                if id in self.killed or (any(isinstance(m, Stop) for m in asked) and id not in self.reluctant):
                    self.die(id, status=0)
        return self

    def die(self, id: int, status: int = -9) -> list[Any]:
        self.alive.pop(id, None)
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
    return [type(a.message).__name__ if isinstance(a, Tell) else type(a).__name__ for a in actions]


# --- the start ----------------------------------------------------------------------------------------------------------


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


def test_a_worker_that_can_never_run_ends_the_service_at_the_start_with_its_line() -> None:
    yard = Yard()
    yard.do(yard.fleet.begin(yard.now))
    yard.do(yard.fleet.on_failed(2, "no certificate", True, yard.now))
    yard.settle()
    for id in list(yard.alive):
        yard.die(id, 0)
    assert yard.exit == Exit(2, "no certificate") and yard.fleet.phase is Phase.STOPPING


# --- deaths -------------------------------------------------------------------------------------------------------------


def test_the_others_know_of_a_death_before_anything_else_is_done() -> None:
    yard = Yard().boot()
    actions = yard.die(2)
    assert kinds(actions) == ["Workers", "Workers", "Spawn"]
    assert owners(yard.view) == {0: 1, 2: 3} and yard.unready() == "2 of 3 workers serve, missing: 1"
    yard.settle()
    assert owners(yard.view) == {0: 1, 1: 4, 2: 3} and yard.unready() == ""


def test_a_death_told_by_socket_and_kernel_is_one_death() -> None:
    yard = Yard().boot()
    first = yard.do(yard.fleet.on_lost(2, yard.now))
    assert kinds(first) == ["Workers", "Workers", "Kill", "Spawn"]
    assert kinds(yard.die(2)) == []


def test_a_silent_worker_is_killed_and_replaced_within_the_time() -> None:
    yard = Yard().boot().pass_time(1.0)
    yard.silent.add(1)
    yard.pass_time(FRESH_S + 0.1, settle=False)
    assert yard.killed == [] and yard.unready() == "no sign of life from worker 0" and not yard.fleet.fresh(yard.now)
    yard.pass_time(SILENT_S - FRESH_S + 0.1, settle=False)
    assert yard.killed == [1] and owners(yard.view) == {1: 2, 2: 3}
    assert yard.settle().unready() == "" and owners(yard.view)[0] == 4


def test_a_supervisor_that_was_held_up_itself_kills_nobody() -> None:
    yard = Yard().boot().pass_time(1.0)
    yard.now += 60.0  # SIGSTOP, or the machine
    yard.do(yard.fleet.tick(yard.now))
    yard.pass_time(5.0)
    assert yard.killed == []


def test_crash_loop_five_deaths_in_ten_seconds_stop_the_service() -> None:
    yard = Yard().boot()
    for death in range(DEATHS):
        assert yard.exit is None
        yard.die(max(yard.alive))
        if death < DEATHS - 1:
            yard.settle().pass_time(1.0)
    yard.settle()
    assert yard.exit is not None and yard.exit.code == 1 and "worker 2 died 5 times within 10 s" in yard.exit.line


def test_five_workers_of_many_that_die_once_each_are_no_crash_loop() -> None:
    """Whoever killed every worker of a big host in turn stopped the service with the fifth."""
    yard = Yard(8).boot()
    for id in range(1, 9):
        yard.die(id)
        yard.settle().pass_time(1.0)
    assert yard.exit is None and len(yard.alive) == 8


def test_deaths_that_are_far_apart_are_no_crash_loop() -> None:
    yard = Yard().boot()
    for _ in range(20):
        yard.die(max(yard.alive))
        yard.settle().pass_time(2.6)
    assert yard.exit is None and yard.unready() == ""


def test_a_replacement_that_cannot_run_is_tried_again_and_stops_nobody_else() -> None:
    yard = Yard(2).boot()
    yard.die(2)
    yard.do(yard.fleet.on_failed(3, "the certificate is gone", True, yard.now))
    yard.die(3, 0)
    assert yard.alive == {1: 0}
    yard.pass_time(RETRY_S - 0.2)
    assert yard.alive == {1: 0}
    yard.pass_time(0.3)
    assert yard.unready() == "" and owners(yard.view) == {0: 1, 1: 4}


def test_a_worker_that_does_not_read_is_replaced_whatever_its_beats_say() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.on_peer_stuck(3, 9, yard.now))
    assert yard.view.ids == {1, 2, 3}, "nobody has the number 9"
    yard.do(yard.fleet.on_peer_stuck(3, 1, yard.now))
    assert 1 not in yard.view.ids


@pytest.mark.parametrize("call", ["on_ready", "on_lost", "on_drained"])
def test_words_of_a_worker_that_is_gone_are_nothing(call: str) -> None:
    yard = Yard().boot()
    yard.die(2)
    assert getattr(yard.fleet, call)(2, yard.now) == []


# --- rolling ------------------------------------------------------------------------------------------------------------


def test_rolling_replaces_slot_by_slot_and_the_successor_serves_before_the_old_one_drains() -> None:
    yard = Yard().boot()
    assert kinds(yard.do(yard.fleet.roll(yard.now))) == ["Spawn"]
    ready = yard.do(yard.fleet.on_ready(4, yard.now))
    assert kinds(ready) == ["Workers"] * 4
    assert owners(yard.view) == {0: 4, 1: 2, 2: 3} and yard.view.ids == {1, 2, 3, 4}
    assert yard.unready() == "", "the old one still takes connections"
    assert yard.do(yard.fleet.on_serving(4, yard.view.epoch - 1, yard.now)) == []
    (drain,) = yard.do(yard.fleet.on_serving(4, yard.view.epoch, yard.now))
    assert drain.id == 1 and isinstance(drain.message, Drain)
    drained = yard.do(yard.fleet.on_drained(1, yard.now))
    assert kinds(drained) == ["Workers"] * 3 + ["Stop", "Spawn"] and yard.view.ids == {2, 3, 4}
    yard.settle()
    assert owners(yard.view) == {0: 4, 1: 5, 2: 6} and not yard.fleet.rolling and set(yard.alive) == {4, 5, 6}
    assert yard.fleet.rolled
    assert yard.exit is None and yard.unready() == ""


def test_a_second_rolling_reload_meanwhile_is_refused() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    with pytest.raises(ValueError, match="under way already"):
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
    assert yard.settle().pass_time(2 * RETRY_S).unready() == "" and set(yard.alive) == {1, 2, 3}


def test_a_successor_that_dies_while_the_old_one_drains_is_replaced() -> None:
    yard = Yard().boot()
    yard.reluctant.add(1)
    yard.do(yard.fleet.roll(yard.now))
    yard.settle()
    assert yard.fleet.members[1].leaving and yard.fleet.rolling
    yard.die(4)
    assert owners(yard.view) == {1: 2, 2: 3} and not yard.fleet.rolling
    yard.reluctant.clear()
    yard.settle()
    assert owners(yard.view) == {0: 5, 1: 2, 2: 3} and set(yard.alive) == {2, 3, 5}


def test_an_old_worker_that_dies_while_its_successor_starts_is_not_replaced_twice() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    assert "Spawn" not in kinds(yard.die(1))
    yard.settle()
    assert owners(yard.view) == {0: 4, 1: 5, 2: 6}


def test_an_old_worker_that_does_not_drain_is_ended_all_the_same() -> None:
    yard = Yard().boot()
    yard.reluctant.add(1)
    yard.do(yard.fleet.roll(yard.now))
    yard.settle().pass_time(14.0)
    yard.settle()
    assert not yard.fleet.rolling or 1 not in yard.view.ids
    yard.pass_time(STOP_WITHIN_S + 0.2)
    assert yard.killed == [1] and owners(yard.view) == {0: 4, 1: 5, 2: 6}


def test_a_slot_whose_worker_died_meanwhile_is_new_already() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    yard.die(3)  # slot 2
    yard.settle()
    assert sorted(yard.alive) == [4, 5, 6], "slot 2 has been replaced once"


# --- the end ------------------------------------------------------------------------------------------------------------


def test_a_drain_asks_all_waits_for_all_and_stops_all() -> None:
    yard = Yard().boot()
    assert kinds(yard.do(yard.fleet.drain(yard.now, 10.0))) == ["Drain"] * 3
    assert yard.unready() == "draining"
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


def test_a_worker_that_does_not_drain_or_stop_does_not_hold_up_the_end() -> None:
    yard = Yard().boot()
    yard.reluctant = {2}
    yard.do(yard.fleet.drain(yard.now, 1.0))
    yard.settle().pass_time(4.0 + STOP_WITHIN_S + 0.2)
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


def test_a_drain_in_the_middle_of_a_rolling_reload_ends_everybody() -> None:
    yard = Yard().boot()
    yard.do(yard.fleet.roll(yard.now))
    yard.do(yard.fleet.on_ready(4, yard.now))
    yard.do(yard.fleet.drain(yard.now, 10.0))
    yard.settle()
    assert yard.exit == Exit(0, "") and yard.alive == {}
