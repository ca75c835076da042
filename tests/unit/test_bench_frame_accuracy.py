"""The judgements of bench.frame_accuracy: what is a wrong frame, how far apart are pages, what is a violation."""

from collections import Counter
from fractions import Fraction
from itertools import product
from typing import Any

import pytest

from bench.frame_accuracy import clips, soak
from bench.frame_accuracy.paused import apart, asked_for
from bench.frame_accuracy.playing import Playing, compare, frame_at, near_after_s, percentile, with_missed
from bench.frame_accuracy.roster import Identity, Return, Roster


def number_on(picture: bytes) -> int:
    """As numbers.js reads it, from the middle of each block."""
    rows = []
    for top in (clips.ROW_PX // 2, clips.ROW_PX + clips.ROW_PX // 2):
        pixels = [picture[top * clips.WIDTH + clips.BLOCK_PX * block + 10] > 127 for block in range(clips.BITS)]
        rows.append(int("".join("01"[pixel] for pixel in pixels), 2))
    bits, inverted = rows
    assert bits ^ inverted == 0xFFFF
    assert bits & 15 == clips.check_sum(bits >> 4)
    return bits >> 4


@pytest.mark.parametrize("number", [0, 1, 15, 16, 255, 2730, 4095])
def test_a_picture_carries_its_number(number: int) -> None:
    picture = clips.picture(number)
    assert len(picture) == clips.WIDTH * clips.HEIGHT
    assert number_on(picture) == number


def test_two_pictures_laid_over_each_other_are_no_number() -> None:
    mixed = bytes(max(a, b) for a, b in zip(clips.picture(100), clips.picture(101), strict=True))
    with pytest.raises(AssertionError):
        number_on(mixed)


def test_a_film_with_more_frames_than_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="12 bits"):
        clips.clip(clips.ENCODINGS["h264-59.94"], 70)


@pytest.mark.parametrize(
    ("act", "details", "frame"),
    [
        ("seek", {"to": 1.02}, 25),
        ("seek", {"to": 1.0599}, 26),
        ("seek", {"to": 1.0395}, None),  # within the rounding of WebM's times
        ("seek", {"to": 500.02}, 1649),
        ("step", {"frames": 2}, 12),
        ("step", {"frames": -20}, 0),
        ("pause", {}, None),
    ],
)
def test_what_a_command_asks_for(act: str, details: dict[str, Any], frame: int | None) -> None:
    assert asked_for(act, 10, details, Fraction(25), 1649) == frame


def test_pages_are_wrong_when_they_differ_or_all_miss_the_command() -> None:
    assert apart([5, 5, 5], None) == 0
    assert apart([5, 7, 5], None) == 2
    assert apart([5, 5, 5], 6) == 1


def test_frames_without_a_callback_are_interpolated() -> None:
    record = [(0.0, 10, 10, 1), (40.0, 11, 11, 2), (160.0, 14, 14, 5)]
    shown = with_missed(record)
    assert shown == [(0.0, 10), (40.0, 11), (80.0, 12), (120.0, 13), (160.0, 14)]
    assert [frame_at(shown, at) for at in (-1.0, 0.0, 79.0, 80.0, 500.0)] == [None, 10, 11, 12, 14]


def test_pages_are_compared_at_the_same_instants() -> None:
    one = [(40.0 * step, step, step, step) for step in range(101)]
    other = [(at - 10.0, *rest) for at, *rest in one]  # 10 ms ahead: another frame for a quarter of the time
    result = Playing("", commands=[0.0])
    compare(result, [one, other], 0.0, 4000.0)  # type: ignore[list-item]
    assert Counter(result.whole) == {0: 600, 1: 200}
    assert percentile(result.whole, 0.5) == 0 and percentile(result.whole, 0.95) == 1
    assert len(result.settled) == 200, "the last second of four"
    assert result.near_after_s == [0.0]
    assert result.unlike == 0 and result.missed == [0.0, 0.0]


def test_when_the_pages_come_near_each_other() -> None:
    trace = [(5.0 * step, [0, 0 if step >= 300 else 4]) for step in range(1000)]
    assert near_after_s(trace, 0.0) == pytest.approx(1.5, abs=0.06)
    assert near_after_s(trace[:300], 0.0) == float("inf")


def watched(name: str, frames: list[tuple[float, int]], *, judged: bool = True) -> Any:
    page = soak.Watched(name, viewer=None, cable=None)  # type: ignore[arg-type]
    page.frames.extend(frames)
    page.states.append((1.0, False))
    page.judged.append((1.0, judged))
    return page


def judge(*pages: Any, commands: list[float]) -> soak.Soak:
    result = soak.Soak()
    made = soak.Judge(result, pages, begin=1000.0)
    made.commands.extend((at, "seek") for at in commands)
    made.run(8000.0)
    return result


STEADY = [(40.0 * step, step) for step in range(300)]
AHEAD = [(at, frame + 3) for at, frame in STEADY]


def test_the_soak_finds_pages_that_stay_apart() -> None:
    found = judge(watched("a", STEADY), watched("b", AHEAD), commands=[1000.0])
    assert found.violations and not found.is_good
    assert found.violations[0]["at"] == pytest.approx(1000 + soak.SETTLE_MS + soak.LONGEST_MS, abs=100)
    assert found.apart.keys() == {3}


@pytest.mark.parametrize(("first", "second"), list(product((STEADY, AHEAD), repeat=2)))
def test_the_soak_does_not_judge_absent_and_late_pages(first: Any, second: Any) -> None:
    assert judge(watched("a", first), watched("b", second, judged=False), commands=[]).is_good
    late = [(at, frame) for at, frame in second if at % 400 == 0]
    assert judge(watched("a", first), watched("b", late), commands=[]).judged_s == pytest.approx(0, abs=1.5)


def test_the_soak_does_not_judge_before_a_command_has_settled() -> None:
    busy = [1000.0 + 1500.0 * step for step in range(5)]
    assert judge(watched("a", STEADY), watched("b", AHEAD), commands=busy).judged_s == 0


def test_a_page_that_has_paused_alone_is_judged() -> None:
    alone = watched("b", [each for each in STEADY if each[0] < 2000])
    alone.states.append((2000.0, True))
    assert judge(watched("a", STEADY), alone, commands=[]).violations


def test_a_heap_that_grows() -> None:
    assert soak.Soak(heap=[10_000_000 + 200_000 * step for step in range(30)]).heap_grows
    assert not soak.Soak(heap=[10_000_000 + 20_000 * (step % 5) for step in range(30)]).heap_grows


ANN, OTHER = Identity("s1", "#111"), Identity("s2", "#111")


def roster(*steps: Any) -> Roster:
    """A roster with grace of 5 s in which ann is `ANN`, after calls of its methods."""
    made = Roster(5000.0)
    made.note("ann", ANN)
    for name, *arguments in steps:
        getattr(made, name)(*arguments)
    return made


def listed_for(seconds: float, present: list[str], silent: list[str], *sessions: str) -> list[Any]:
    return [("judge", present, silent, dict.fromkeys(sessions, "ann"), 1000.0 * at) for at in (0, seconds)]


@pytest.mark.parametrize(
    "steps",
    [
        listed_for(60, ["ann"], [], "s1"),
        listed_for(60, [], ["ann"], "s1"),  # asleep
        listed_for(60, [], ["ann"]),
        listed_for(7.9, [], [], "s1"),  # lost, within the grace period
        [("leave", "ann"), *listed_for(2.9, [], [], "s1")],
        listed_for(2.9, ["ann"], []),
        [("note", "ann", ANN, [Return(True, 4000.0)])],
        [("note", "ann", OTHER, [Return(False, 9000.0)]), *listed_for(7.9, ["ann"], [], "s1", "s2")],
        [("leave", "ann"), ("note", "ann", OTHER)],
    ],
)
def test_a_roster_that_is_as_it_should_be(steps: list[Any]) -> None:
    assert roster(*steps).violations == []


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (listed_for(8.1, [], [], "s1"), "ghost"),
        ([("leave", "ann"), *listed_for(3.1, [], [], "s1")], "ghost"),
        ([("note", "ann", OTHER, [Return(False, 9000.0)]), *listed_for(8.1, ["ann"], [], "s1", "s2")], "ghost"),
        (listed_for(3.1, ["ann"], []), "not listed"),
        ([("note", "ann", OTHER)], "was"),
        ([("note", "ann", OTHER, [Return(False, 1000.0)])], "was"),
        ([("note", "ann", OTHER, [Return(True, 9000.0)])], "was"),
        ([("note", "ann", ANN, [Return(False, 1000.0)])], "as before"),
        ([("note", "ann", Identity("s1", "#222"))], "changed"),
    ],
)
def test_a_roster_with_a_ghost_a_missing_user_or_another_identity(steps: list[Any], text: str) -> None:
    (violation,) = roster(*steps).violations
    assert text in violation
