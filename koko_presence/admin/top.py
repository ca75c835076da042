"""Implements `koko-presence top`: shows /metrics as a terminal screen that is redrawn once a second.

`draw` makes a screen from readings, without I/O. `run` fetches the metrics, draws, and restores the terminal at the
end.
"""

import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from http.client import HTTPException
from itertools import pairwise
from typing import Any, TextIO

from .formatting import ASCII, UNICODE, amount, bar, long_time, seconds, size, spark
from .health_check import no_server_hint
from .metrics_parser import Between, Reading, read

ANSWER_WITHIN_S = 2.0
TRAIL = 60  # readings that a sparkline covers
WIDEST = 120
LONGEST_BYTES = 4 << 20

Part = tuple[str, str]  # a text and its style
Line = list[Part]

_STYLES = {"bold": "1", "dim": "2", "good": "32", "warm": "33", "bad": "1;31", "spark": "36"}
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


# --- the screen ---------------------------------------------------------------------------------------------------


def draw(
    before: Reading,
    now: Reading,
    width: int,
    height: int,
    *,
    trail: Sequence[Reading] = (),
    colour: bool = False,
    marks: str = UNICODE,
    problem: str = "",
) -> str:
    """Return the screen, of at most `height` lines and `width` characters. `trail` are the readings for the sparklines;
    `problem` is shown below the header."""
    width = min(width, WIDEST)
    step = Between(before, now)
    steps = [Between(a, b) for a, b in pairwise(trail)] or [step]
    across = min(30, max(0, width - 30) // 3) if trail else 0

    def history(of: Callable[[Between], float | None]) -> Part:
        return f"  {spark([of(each) for each in steps], across, marks)}  " if across else "  ", "spark"

    lines = [*_header(now, problem), [], *_people(step, history), [], *_traffic(step, history), []]
    lines += _workers(step, height - len(lines), 10 if width >= 70 else 4, marks)
    return "\n".join(_fitted(line, width, colour, marks) for line in lines[:height])


def _header(now: Reading, problem: str) -> list[Line]:
    builds = sorted(set(now.by("build_info", "version")))
    up = now.by("worker_up", "worker")
    alive = sum(1 for value in up.values() if value)
    started = [value for value in now.by("worker_start_time_seconds", "worker").values() if value]
    ready, style = (
        (f"all {alive} workers up", "good") if alive == len(up) else (f"{alive} of {len(up)} workers up", "bad")
    )
    if up and alive == len(up) == 1:
        ready = "up"
    if now.value("recovering"):
        ready, style = f"{ready}, rooms recovering", "warm"
    line: Line = [(f"koko-presence {'/'.join(builds) or '?'}", "bold"), ("   ", ""), (ready, style)]
    if started:
        line.append((f"   since {long_time(now.wall_s - min(started))}", ""))
    restarts = now.value("worker_restarts_total")
    if restarts:
        line.append((f"   {amount(restarts)} replaced", "warm"))
    line.append((time.strftime("   %H:%M:%S", time.localtime(now.wall_s)), "dim"))
    return [line, *([[(problem, "bad")]] if problem else [])]


def _people(step: Between, history: Callable[[Callable[[Between], float | None]], Part]) -> list[Line]:
    now = step.now
    rooms = now.by("rooms", "type")
    kinds = " · ".join(f"{kind} {amount(count)}" for kind, count in sorted(rooms.items(), key=lambda x: -x[1]) if count)
    rejected = step.rate("connections_refused_total")
    accepted = step.rate("connections_accepted_total")
    return [
        [
            *_named("connections", amount(now.value("connections"))),
            history(lambda each: each.now.value("connections")),
            (f"{amount(accepted)}/s new", ""),
            (f" · {amount(rejected)}/s refused", "warm" if rejected else "dim"),
        ],
        [
            *_named("sessions", amount(now.value("sessions"))),
            history(lambda each: each.now.value("sessions")),
            (f"{amount(now.value('users'))} users", ""),
        ],
        [
            *_named("rooms", amount(sum(rooms.values()))),
            history(lambda each: each.now.total("rooms")),
            (f"largest {amount(now.value('room_members_max'))}", ""),
            (f" · {kinds}" if kinds else "", "dim"),
        ],
        [
            *_named("joins/s", amount(step.rate("joins_total"))),
            history(lambda each: each.rate("joins_total")),
            _timed("p99 ", step.quantile(0.99, "join_duration_seconds"), 0.1, 1.0),
        ],
    ]


def _traffic(step: Between, history: Callable[[Callable[[Between], float | None]], Part]) -> list[Line]:
    now = step.now
    waiting, slow = now.value("send_queue_bytes"), now.value("slow_receivers")
    dropped = {
        f"{kind} {reason}": rate
        for kind in step.rates("messages_dropped_total", "type")
        for reason in step.rates("messages_dropped_total", "reason")
        if (rate := step.rate("messages_dropped_total", type=kind, reason=reason))
    }
    p50, p99 = (step.quantile(share, "broadcast_duration_seconds") for share in (0.5, 0.99))
    return [
        [
            *_named("in/s", amount(step.rate("messages_received_total"))),
            history(lambda each: each.rate("messages_received_total")),
            (_kinds(step.rates("messages_received_total", "type")), "dim"),
        ],
        [
            *_named("out/s", amount(step.rate("messages_sent_total"))),
            history(lambda each: each.rate("messages_sent_total")),
            (_kinds(step.rates("messages_sent_total", "type")), "dim"),
        ],
        [
            *_named("dropped/s", amount(sum(dropped.values()))),
            history(lambda each: each.rate("messages_dropped_total")),
            (_kinds(dropped), "dim"),
        ],
        [
            *_named("fan-out/s", size(step.rate("fanout_bytes_total"))),
            history(lambda each: each.rate("fanout_bytes_total")),
            (f"{size(waiting)} waiting", ""),
            (f" · {amount(slow)} slow", "warm" if slow else "dim"),
        ],
        [
            *_named("broadcast", seconds(p99), _heat(p99, 0.025, 0.1)),
            history(lambda each: each.quantile(0.99, "broadcast_duration_seconds")),
            (f"p99 · p50 {seconds(p50)} · {amount(step.rate('flushes_total'))} flushes/s", ""),
        ],
        [
            *_named("ended/s", amount(step.rate("disconnects_total"))),
            history(lambda each: each.rate("disconnects_total")),
            (_kinds(step.rates("disconnects_total", "code")), "dim"),
        ],
    ]


def _workers(step: Between, room: int, cells: int, marks: str) -> list[Line]:
    """Return one row per worker, at most `room` lines in all."""
    up = step.now.by("worker_up", "worker")
    names = sorted(up, key=lambda name: (len(name), name))
    shown = names if len(names) < room else names[: max(0, room - 2)]
    head = f"{'worker':<8}{'cpu':<{cells + 7}}{'memory':>9}{'lag p99':>10}{'longest':>10}{'forwards/s':>12}"
    rows: list[Line] = [[(head, "dim")]]
    for name in shown:
        if not up[name]:
            rows.append([(f"{name:<8}", "bold"), ("does not answer", "bad")])
            continue
        cpu = step.rate("cpu_seconds_total", worker=name)
        lag = step.quantile(0.99, "loop_lag_seconds", worker=name)
        longest = step.now.value("loop_lag_max_seconds", worker=name)
        lag = None if lag is None else min(lag, longest)  # the interpolated value may exceed the maximum
        rows.append(
            [
                (f"{name:<8}", "bold"),
                (bar(cpu, cells, marks), _heat(cpu, 0.75, 0.9)),
                (f" {cpu:4.0%} ", ""),
                (f"{size(step.now.value('resident_memory_bytes', worker=name)):>10}", ""),
                (f"{seconds(lag):>10}", _heat(lag, 0.05, 0.25)),
                (f"{seconds(longest):>10}", _heat(longest, 0.1, 0.5)),
                (f"{amount(step.rate('shard_forwards_total', worker=name)):>12}", ""),
            ]
        )
    if len(shown) < len(names):
        rows.append([(f"and {len(names) - len(shown)} more", "dim")])
    return rows


def _named(name: str, value: str, style: str = "bold") -> Line:
    return [(f"{name:<12}", ""), (f"{value:>9}", style or "bold")]


def _timed(name: str, value: float | None, warm: float, bad: float) -> Part:
    return f"{name}{seconds(value)}", _heat(value, warm, bad)


def _heat(value: float | None, warm: float, bad: float) -> str:
    if value is None or value < warm:
        return "good" if value is not None else ""
    return "bad" if value >= bad else "warm"


def _kinds(rates: dict[str, float]) -> str:
    ranked = sorted(rates.items(), key=lambda item: -item[1])
    return " · ".join(f"{kind} {amount(rate)}" for kind, rate in ranked)


def _fitted(line: Line, width: int, colour: bool, marks: str) -> str:
    shown, left = [], width
    for text, style in line:
        if len(text) > left:
            text = text[: left - 1] + ("…" if marks is UNICODE else "~") if left else ""
        left -= len(text)
        if marks is ASCII:
            text = text.replace("·", "|")
        shown.append(f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and style and text.strip() else text)
    return "".join(shown).rstrip(" ")


# --- the loop -----------------------------------------------------------------------------------------------------


class Unreachable(Exception):
    """The metrics cannot be read; the text names the cause and the remedy."""


def fetch(url: str) -> Reading:
    """Fetch one reading. Errors: `Unreachable`."""
    # proxies from the environment are not used
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_WITHIN_S) as answer:
            text = answer.read(LONGEST_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        raise Unreachable(f"{url} answers {error.code}: is this the operator port (operator.port)?") from None
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        hint = no_server_hint(error) or ". Does the server run, and is operator.host:operator.port there?"
        raise Unreachable(f"{url}: {reason}{hint}") from None
    try:
        return read(text, at=time.monotonic(), wall_s=time.time())
    except ValueError:
        raise Unreachable(f"{url} answers, but not with our metrics: is this the operator port?") from None


def run(url: str, interval_s: float = 1.0, once: bool = False, out: TextIO | None = None) -> int:
    """Show the server at `url` every `interval_s` seconds until Ctrl-C. With `once`, or when `out` is not a terminal,
    print one plain screen from two readings. Returns the exit code: 1 when the first readings fail."""
    out = out or sys.stdout
    marks = UNICODE if (out.encoding or "").lower().replace("-", "") == "utf8" else ASCII
    width = shutil.get_terminal_size().columns
    try:
        before = fetch(url)
        if once or not out.isatty():
            time.sleep(interval_s)
            out.write(draw(before, fetch(url), width, 1000, marks=marks) + "\n")
            return 0
    except Unreachable as error:
        print(f"koko-presence: top: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return _live(url, interval_s, out, marks, before)


def _live(url: str, interval_s: float, out: TextIO, marks: str, first: Reading) -> int:
    trail = deque([first], TRAIL + 1)
    problem = ""
    previous: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)  # restores the terminal as well
    out.write(_ENTER)
    try:
        while True:
            width, height = shutil.get_terminal_size()
            before = trail[-2] if len(trail) > 1 else first
            screen = draw(
                before, trail[-1], width, height, trail=list(trail), colour=True, marks=marks, problem=problem
            )
            out.write(
                "\x1b[H" + "\n".join(line + "\x1b[K" for line in screen.split("\n")).replace("\n", "\r\n") + "\x1b[J"
            )
            out.flush()
            time.sleep(interval_s)
            try:
                trail.append(fetch(url))
                problem = ""
            except Unreachable as error:
                problem = str(error)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        out.write(_LEAVE)
        out.flush()
