"""`koko-presence top`: the screen for two fixed readings, how it fits, and how it ends."""

import io
import re
import signal
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from koko_presence import cli
from koko_presence.admin import top
from koko_presence.admin.formatting import ASCII, amount, bar, long_time, seconds, size, spark
from koko_presence.admin.metrics import render
from koko_presence.admin.metrics_parser import Between, Reading, read
from koko_presence.admin.top import Unreachable, draw
from koko_presence.protocol.metric_types import Counters
from tests.unit.admin.test_metrics import counters, histogram

START_S = 1_736_937_000.5
DEAD = None


def reading(*workers: Counters | None, after_s: float = 0.0, restarts: int = 0) -> Reading:
    snapshots = [(str(i), None if each is None else msgspec.msgpack.encode(each)) for i, each in enumerate(workers)]
    return read(render(snapshots, restarts=restarts), at=100.0 + after_s, wall_s=START_S + 7260 + after_s)


BEFORE = reading(counters(), counters())
BUSY = counters(
    joins=14,
    received={"cursor": 2100, "invalid": 3, "heartbeat": 40},
    sent={"cursor_moved": 40_400, "error": 2},
    dropped={"cursor": {"superseded": 27, "slow_receiver": 1}},
    disconnects={"1000": 3, "4413": 2},
    fanout_bytes=2_010_000,
    broadcast=histogram(b0=103, b5=1, b16=1),
    cpu_s=2.75,
    forwards=2009,
    slow_receivers=3,
)
NOW = reading(BUSY, counters(cpu_s=1.45), after_s=2.0)


def screen(before: Reading = BEFORE, now: Reading = NOW, width: int = 100, height: int = 40, **more: Any) -> str:
    return draw(before, now, width, height, **more)


def row(text: str, name: str) -> str:
    (found,) = (line for line in text.split("\n") if line.startswith(name + " "))
    return found


# --- two readings ---------------------------------------------------------------------------------------------------


def test_rates_are_differences_over_time() -> None:
    step = Between(BEFORE, NOW)
    assert step.rate("joins_total") == 5.0
    assert step.rate("messages_received_total", type="cursor") == 1000.0
    assert list(step.rates("messages_received_total", "type").items()) == [("cursor", 1000.0), ("heartbeat", 20.0)]
    assert step.rate("messages_received_total") == 1020.0
    assert step.rate("nothing_total") == 0.0


def test_a_counter_that_began_anew_counts_as_none() -> None:
    assert Between(NOW, BEFORE).rate("joins_total") == 0.0


def test_quantiles_lie_straight_between_the_bounds_of_their_bucket() -> None:
    def between(**of: int) -> Between:
        return Between(reading(counters(join=histogram())), reading(counters(join=histogram(**of)), after_s=1.0))

    assert between(b1=100).quantile(0.5, "join_duration_seconds") == pytest.approx(0.000175)
    assert between(b0=90, b9=10).quantile(0.9, "join_duration_seconds") == pytest.approx(0.0001)
    assert between(b0=90, b9=10).quantile(0.95, "join_duration_seconds") == pytest.approx(0.075)
    assert between(b16=1).quantile(0.5, "join_duration_seconds") == float("inf")
    assert between().quantile(0.5, "join_duration_seconds") is None
    assert between().quantile(0.5, "no_such_seconds") is None


def test_labels_with_odd_characters_are_read_whole() -> None:
    text = 'koko_presence_x{a="1,2}",b="q\\"uo te"} 7\nkoko_presence_y 1e-05\n# HELP koko_presence_z z\n'
    found = read(text, at=0.0, wall_s=0.0)
    assert found.value("x", a="1,2}", b='q\\"uo te') == 7 and found.value("y") == 1e-05 and found.value("z") == 0


def test_a_text_of_another_program_is_refused() -> None:
    with pytest.raises(ValueError, match="no sample"):
        read("<html>koko_presence</html>\ngo_goroutines 12\n", at=0.0, wall_s=0.0)


# --- numbers for readers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (amount(0.0), "0"), (amount(0.25), "0.2"), (amount(8.0), "8"), (amount(12.4), "12"), (amount(12_345.6), "12,346"),
        (amount(123_456), "123 k"), (amount(999_700), "1.0 M"), (amount(3.2e7), "32.0 M"),
        (size(0), "0 B"), (size(999), "999 B"), (size(1500), "1.5 kB"), (size(123_456), "123 kB"), (size(2.5e9), "2.5 GB"),
        (seconds(None), "-"), (seconds(float("inf")), "> 10 s"), (seconds(0.00012), "0.1 ms"), (seconds(0.0123), "12 ms"),
        (seconds(0.9994), "999 ms"), (seconds(2.5), "2.5 s"),
        (long_time(5), "5 s"), (long_time(125), "2 min"), (long_time(7260), "2 h 1 min"), (long_time(200_000), "2 d 7 h"),
        (bar(0.5, 4), "██░░"), (bar(7.0, 4), "████"), (bar(-1.0, 2), "░░"), (bar(0.5, 2, ASCII), "# "),
        (spark([0.0, 1.0, 2.0], 3), "▁▄█"), (spark([1.0], 3), "  █"), (spark([], 3), "   "),
        (spark([None, float("inf"), 1.0], 3), " ██"), (spark([0.0, 0.0], 2), "▁▁"), (spark([1.0, 2.0], 0), ""),
        (spark([9.0, 1.0, 1.0], 2), "██"),
    ],
)  # fmt: skip
def test_numbers_are_short_and_have_a_unit(shown: str, wanted: str) -> None:
    assert shown == wanted


# --- the screen -----------------------------------------------------------------------------------------------------


def test_the_screen_shows_the_rates() -> None:
    text = screen()
    assert text.startswith("koko-presence 1.0   all 2 workers up   since 2 h 1 min")
    assert row(text, "connections").split()[:2] == ["connections", "6"]
    assert row(text, "rooms").endswith("largest 2 · video 2")
    assert row(text, "joins/s").split()[1] == "5"
    assert row(text, "in/s").endswith("cursor 1,000 · heartbeat 20")
    assert row(text, "out/s").endswith("cursor_moved 20,000")
    assert row(text, "dropped/s").endswith("cursor superseded 10")
    assert row(text, "fan-out/s").split()[1:3] == ["1.0", "MB"] and "4 slow" in row(text, "fan-out/s")
    assert row(text, "broadcast").split()[1:3] == ["0.1", "ms"]
    assert row(text, "ended/s").endswith("1000 1")
    assert re.search(r"^0 +████████░░ +75% +60\.0 MB .* 1,000$", text, re.MULTILINE)
    assert re.search(r"^1 +█░░░░░░░░░ +10% ", text, re.MULTILINE)


def test_a_worker_that_does_not_answer_is_seen_in_the_header_and_in_its_row() -> None:
    text = screen(now=reading(BUSY, DEAD, after_s=2.0, restarts=2))
    assert "1 of 2 workers up" in text and "2 replaced" in text
    assert row(text, "1").endswith("does not answer")
    assert "0 of 2 workers up" in screen(now=reading(DEAD, DEAD, after_s=2.0)), "and nothing fails"


def test_one_worker_is_not_counted() -> None:
    assert screen(reading(counters()), reading(counters(recovering=True), after_s=1.0)).startswith(
        "koko-presence 1.0   up, rooms recovering   since"
    )


@pytest.mark.parametrize("width", [1, 2, 9, 10, 25, 40, 60, 79, 80, 81, 120, 300])
@pytest.mark.parametrize("height", [1, 5, 16, 24, 50])
def test_the_screen_fits(width: int, height: int) -> None:
    workers = [counters() for _ in range(9)]
    before, now = reading(*workers), reading(*workers[:-1], DEAD, after_s=1.0)
    for colour in (False, True):
        text = screen(before, now, width, height, trail=[before, now] * 10, colour=colour, problem="x" * 200)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n")
        assert len(lines) <= height and max(map(len, lines)) <= width
        assert ("\x1b" in text) is colour


def test_workers_for_whom_there_is_no_room_are_counted() -> None:
    workers = [counters() for _ in range(12)]
    lines = screen(reading(*workers), reading(*workers, after_s=1.0), 80, 24).split("\n")
    assert len(lines) == 24 and lines[-2].startswith("7 ") and lines[-1] == "and 4 more"


def test_at_80_by_24_four_workers_are_there_whole() -> None:
    workers = [counters() for _ in range(4)]
    before, now = reading(*workers), reading(*workers, after_s=1.0)
    lines = screen(before, now, 80, 24, trail=[before, now]).split("\n")
    assert len(lines) == 19 and lines[-1].startswith("3 ") and lines[0].startswith("koko-presence")
    assert not any(line.endswith("…") for line in lines if line[:1] in "0123w")


def test_the_last_minute_is_a_line_of_bars() -> None:
    trail = [reading(counters(joins=n * n), after_s=float(n)) for n in range(9)]
    text = screen(trail[-2], trail[-1], trail=trail)
    assert " ▁▂▃▄▅▆▇█ " in row(text, "joins/s")
    assert "▁" not in screen(), "a single step has no past"


def test_a_terminal_without_unicode_gets_none() -> None:
    assert screen(width=60, trail=[BEFORE, NOW, NOW], marks=ASCII, colour=True).isascii()


def test_what_is_bad_is_red() -> None:
    text = screen(now=reading(DEAD, counters(lag=histogram(b1=10, b12=90), lag_max_s=0.9), after_s=1.0), colour=True)
    assert "\x1b[1;31mdoes not answer" in text
    assert re.search(r"\x1b\[1;31m +\d+ ms", text)


# --- the loop -------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def answers(*given: Reading | Exception | type[BaseException]) -> Callable[[str], Reading]:
    """A replacement for `fetch`: returns or raises each of `given`, then raises KeyboardInterrupt."""
    left = list(given)

    def fetch(url: str) -> Reading:
        if not left:
            raise KeyboardInterrupt
        answer = left.pop(0)
        if isinstance(answer, Reading):
            return answer
        raise answer

    return fetch


def test_once_is_one_plain_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "fetch", answers(BEFORE, NOW))
    out = Terminal()
    assert top.run("http://x/metrics", 0.0, True, out) == 0
    assert "cursor 1,000" in out.getvalue() and "\x1b" not in out.getvalue() and out.getvalue().endswith("\n")


def test_what_is_no_terminal_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "fetch", answers(BEFORE, NOW))
    out = io.StringIO()
    assert top.run("http://x/metrics", 0.0, False, out) == 0
    assert "cursor 1,000" in out.getvalue() and out.getvalue().isascii(), "nobody has said that it can show more"


def test_the_terminal_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "fetch", answers(BEFORE, NOW, Unreachable("it is gone"), NOW))
    before = signal.getsignal(signal.SIGTERM)
    out = Terminal()
    assert top.run("http://x/metrics", 0.0, False, out) == 0
    text = out.getvalue()
    assert text.startswith("\x1b[?1049h\x1b[?25l") and text.endswith("\x1b[?25h\x1b[?1049l")
    assert text.count("\x1b[H") == 4 and text.count("it is gone") == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_terminal_is_given_back_after_a_fault_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "fetch", answers(BEFORE, ZeroDivisionError))
    out = Terminal()
    with pytest.raises(ZeroDivisionError):
        top.run("http://x/metrics", 0.0, False, out)
    assert out.getvalue().endswith("\x1b[?1049l")


def test_an_unreachable_server_is_one_line_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--once", "--url", "http://127.0.0.1:9/metrics"]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert "http://127.0.0.1:9/metrics" in told.err and "operator.port" in told.err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(("--url", "ftp://x"), "http://HOST:PORT/metrics"), (("--interval", "0"), "0.1 to 60"), (("--interval", "nan"), "0.1")],
)  # fmt: skip
def test_wrong_use_is_exit_2(arguments: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", *arguments]) == 2
    assert hint in capsys.readouterr().err
