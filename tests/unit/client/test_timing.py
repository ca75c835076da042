"""Pacing, waits and the server's clock, on a fake clock."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence.client.timing import Backoff, Pacer, ServerClock, Slot, come_back
from koko_presence.protocol.errors import CLOSES, ReconnectPolicy
from tests.world import FakeTimers


class Track:
    """A pacer and the values it has sent, each with its time."""

    def __init__(self, gap_s: float = 0.05) -> None:
        self.timers = FakeTimers()
        self.sent: list[tuple[float, object]] = []
        self.pacer = Pacer(self.timers.clock, self.timers, self.note, gap_s)

    def note(self, message: object) -> None:
        self.sent.append((round(self.timers.now - 1000.0, 6), message))

    def offer(self, slot: Slot, value: object) -> None:
        slot.render = constant(value)
        slot.pacer.offer(slot)


def constant(value: object) -> Callable[[float], object]:
    return lambda now: value


def test_the_first_value_is_sent_at_once_and_the_last_one_after_the_interval() -> None:
    track = Track()
    slot = Slot(track.pacer, 0.05)
    for value in range(10):
        track.offer(slot, value)
    track.timers.advance(1.0)
    assert track.sent == [(0.0, 0), (0.05, 9)]


def test_rooms_share_the_sessions_budget_in_turn_e2() -> None:
    track = Track(gap_s=0.05)
    slots = [Slot(track.pacer, 0.05) for _ in range(3)]
    for _ in range(2):
        for number, slot in enumerate(slots):
            track.offer(slot, number)
    track.timers.advance(1.0)
    assert track.sent == [(0.0, 0), (0.05, 1), (0.1, 2), (0.15, 0)]


def test_a_longer_interval_of_one_room_does_not_slow_another() -> None:
    track = Track(gap_s=0.05)
    slow, quick = Slot(track.pacer, 1.0), Slot(track.pacer, 0.05)
    for value in ("slow", "slow again"):
        track.offer(slow, value)
    track.timers.advance(0.1)
    track.offer(quick, "quick")
    track.timers.advance(2.0)
    assert track.sent == [(0.0, "slow"), (0.1, "quick"), (1.0, "slow again")]


def test_a_full_socket_holds_values_back_and_the_newest_follows() -> None:
    track = Track()
    slot = Slot(track.pacer, 0.05)
    track.pacer.hold()
    track.offer(slot, "old")
    track.offer(slot, "new")
    track.timers.advance(1.0)
    assert track.sent == []
    track.pacer.go_on()
    assert track.sent == [(1.0, "new")]


def test_a_lost_connection_drops_the_pacing_but_not_unsent_values() -> None:
    track = Track()
    slot = Slot(track.pacer, 0.05)
    track.offer(slot, 1)
    track.offer(slot, 2)
    track.pacer.clear()
    track.timers.advance(1.0)
    assert track.sent == [(0.0, 1)] and slot.unsent


def test_a_stale_value_takes_no_slot() -> None:
    track = Track()
    stale, fresh = Slot(track.pacer, 0.05), Slot(track.pacer, 0.05)
    track.offer(stale, None)
    track.offer(fresh, "fresh")
    assert track.sent == [(0.0, "fresh")] and not stale.unsent


@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.integers(0, 2)), max_size=60))
def test_no_interval_is_ever_undercut_and_the_last_value_always_arrives_e1(steps: list[tuple[float, int]]) -> None:
    track = Track(gap_s=0.05)
    slots = [Slot(track.pacer, interval_s) for interval_s in (0.05, 0.1, 0.7)]
    last: dict[int, object] = {}
    for count, (wait_s, which) in enumerate(steps):
        track.timers.advance(wait_s)
        last[which] = (which, count)
        track.offer(slots[which], last[which])
    track.timers.advance(10.0)
    times = [at for at, _ in track.sent]
    assert all(later - earlier > 0.05 - 1e-5 for earlier, later in pairwise(times))
    for which, slot in enumerate(slots):
        own = [(at, value) for at, value in track.sent if value[0] == which]  # type: ignore[index]
        assert all(b[0] - a[0] > slot.interval_s - 1e-5 for a, b in pairwise(own))
        assert (own[-1][1] if own else None) == last.get(which)


def test_waits_grow_with_full_jitter_up_to_the_longest() -> None:
    backoff = Backoff(0.25, 20.0, lambda: 1.0)
    assert [backoff.next_s(ReconnectPolicy.RESUME) for _ in range(9)] == [
        0.25,
        0.5,
        1.0,
        2.0,
        4.0,
        8.0,
        16.0,
        20.0,
        20.0,
    ]
    assert Backoff(0.25, 20.0, lambda: 0.0).next_s(ReconnectPolicy.RESUME) == 0.0


def test_a_thousand_attempts_later_the_wait_is_still_a_number() -> None:
    backoff = Backoff(0.25, 20.0, lambda: 1.0)
    assert {backoff.next_s(ReconnectPolicy.RESUME) for _ in range(2000)} == {0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0}


def test_later_means_slowly_or_at_the_servers_time() -> None:
    assert Backoff(0.25, 20.0, lambda: 0.0).next_s(ReconnectPolicy.LATER) == 10.0
    assert Backoff(0.25, 20.0, lambda: 1.0).next_s(ReconnectPolicy.LATER) == 20.0
    assert Backoff(0.25, 20.0, lambda: 1.0).next_s(ReconnectPolicy.LATER, 30.0) == 30.25


def test_a_connection_that_held_starts_the_waits_anew() -> None:
    backoff = Backoff(0.25, 20.0, lambda: 1.0)
    for _ in range(5):
        backoff.next_s(ReconnectPolicy.RESUME)
    backoff.reset()
    assert backoff.next_s(ReconnectPolicy.RESUME) == 0.25


@pytest.mark.parametrize("code", sorted(CLOSES))
def test_close_codes_have_the_meaning_of_the_table_l7(code: int) -> None:
    assert come_back(code) is CLOSES[code].come_back


@pytest.mark.parametrize("code", [1005, 1015, 4000, 4999])
def test_a_code_outside_the_table_is_a_lost_connection(code: int) -> None:
    assert come_back(code) is ReconnectPolicy.RESUME


def test_the_sample_with_the_shortest_round_trip_sets_the_servers_time_d7() -> None:
    clock = ServerClock()
    clock.note(10.0, 12.0, 1_000_000.0)  # a round trip of 2 s: the server's second 1000 is 11 +- 1 here
    assert clock.now_ms(11.0) == 1_000_000.0
    clock.note(20.0, 20.01, 1_009_500.0)
    assert clock.now_ms(20.005) == 1_009_500.0
    clock.note(30.0, 31.0, 1_021_000.0)  # a worse one changes nothing
    assert clock.now_ms(20.005) == 1_009_500.0


def test_old_samples_are_dropped_so_that_a_drifting_clock_is_followed() -> None:
    clock = ServerClock()
    clock.note(0.0, 0.0, 0.0)
    for second in range(1, ServerClock.SAMPLES + 1):
        clock.note(second, second + 0.1, second * 1000.0 + 550.0)
    assert clock.now_ms(100.0) == pytest.approx(100_500.0)


def test_without_a_sample_there_is_no_time() -> None:
    assert not ServerClock().known
    with pytest.raises(LookupError):
        ServerClock().now_ms(1.0)
