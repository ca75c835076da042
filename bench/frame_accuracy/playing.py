"""A film that three people play: how many frames apart are their pages at one instant?"""

import asyncio
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .clips import Encoding
from .viewers import Film, Hall

PEOPLE = ("ann", "ben", "eva")
FILM_S = 66.0
START_MS, SEEK_MS = (0.0, 200.0, 400.0), (200.0, 400.0, 0.0)  # of the three pages
THROTTLED = 1  # the page whose CPU is throttled
INSTANT_MS = 5.0
SETTLE_MS = 3000.0  # of the second row of figures: the instants that are longer after each command
LEGS = 3  # the time is divided by seeks

Shown = tuple[float, int]  # from which wall ms on which frame is displayed
Record = Sequence[tuple[float, int, int, int]]  # page.js: wall ms, frame by media time, by picture, count


@dataclass
class Playing:
    """Frames apart of one encoding: the greatest minus the least number that the pages display at one instant, at
    each 5 ms. `settled` is without the 3 s after each command. `missed` is the share of the displayed frames that
    a page was not called back for, for each page; their times are interpolated. `unlike` counts the callbacks whose
    picture is neither the reported frame nor a later one that came meanwhile. `near_after_s`: how long after each
    command the pages begin to be at most one frame apart for a second."""

    encoding: str
    whole: list[int] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    missed: list[float] = field(default_factory=list)
    unlike: int = 0
    commands: list[float] = field(default_factory=list)
    near_after_s: list[float] = field(default_factory=list)
    trace: list[tuple[float, list[int]]] = field(default_factory=list)


def percentile(values: Sequence[int], share: float) -> int:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0


def with_missed(record: Record) -> list[Shown]:
    """The displayed frames, with those that came between two callbacks, at even distances."""
    shown: list[Shown] = [(record[0][0], record[0][1])] if record else []
    for (from_at, from_frame, _, from_count), (at, frame, _, count) in pairwise(record):
        steps = count - from_count
        for step in range(1, steps):
            part = step / steps
            shown.append((from_at + (at - from_at) * part, round(from_frame + (frame - from_frame) * part)))
        shown.append((at, frame))
    return shown


def near_after_s(trace: Sequence[tuple[float, list[int]]], command: float) -> float:
    """How long after `command` (ms in the trace) the frames begin to be within one of each other at 95 of 100 instants
    of a second; infinite if they never are."""
    near = [(at, max(frames) - min(frames) <= 1) for at, frames in trace if at >= command]
    count = round(1000 / INSTANT_MS)
    good = sum(is_near for _, is_near in near[:count])
    for index in range(len(near) - count):
        if good >= 0.95 * count:
            return (near[index][0] - command) / 1000
        good += near[index + count][1] - near[index][1]
    return math.inf


def frame_at(shown: Sequence[Shown], at: float) -> int | None:
    index = bisect_right(shown, at, key=lambda each: each[0])
    return shown[index - 1][1] if index else None


def compare(result: Playing, records: Sequence[Record], begin: float, end: float) -> None:
    """Fill in the frames apart at all instants from `begin` to `end`, wall ms."""
    timelines = [with_missed(record) for record in records]
    for record in records:
        displayed = record[-1][3] - record[0][3] + 1 if record else 1
        result.missed.append(1 - len(record) / displayed)
        result.unlike += sum(not 0 <= picture - frame <= 2 for _, frame, picture, _ in record)
    at = begin
    while at < end:
        frames = [frame_at(timeline, at) for timeline in timelines]
        known = [frame for frame in frames if frame is not None]
        if len(known) == len(frames):
            distance = max(known) - min(known)
            result.whole.append(distance)
            result.trace.append((at - begin, known))
            if not any(0 <= at - command < SETTLE_MS for command in result.commands):
                result.settled.append(distance)
        at += INSTANT_MS
    result.near_after_s = [near_after_s(result.trace, command - begin) for command in result.commands]


async def playing(
    hall: Hall,
    encoding: Encoding,
    seconds: float,
    rng: random.Random,
    *,
    throttle: float = 4.0,
    start_ms: Sequence[float] = START_MS,
    seek_ms: Sequence[float] = SEEK_MS,
) -> Playing:
    """Play for `seconds`, with a seek by one of the people at each third."""
    result = Playing(encoding.name)
    room = f"video_{encoding.name}_{rng.randrange(10**9)}"
    viewers = [
        await hall.open(user, room, [Film(encoding, FILM_S, start, seek)])
        for user, start, seek in zip(PEOPLE, start_ms, seek_ms, strict=True)
    ]
    await viewers[THROTTLED].throttle(throttle)
    leg_s = seconds / LEGS
    await viewers[0].act("seek", to=rng.uniform(0.5, FILM_S - leg_s - 2))
    await asyncio.sleep(2.0)
    for viewer in viewers:
        await viewer.call("takeRecord")
    acted = await viewers[0].act("play")
    begin = acted["at"]
    result.commands.append(begin)
    for leg in range(LEGS):
        if leg:
            acted = await rng.choice(viewers).act("seek", to=rng.uniform(0.5, FILM_S - leg_s - 2))
            result.commands.append(acted["at"])
        until = begin + (leg + 1) * leg_s * 1000
        await asyncio.sleep(max(0.0, until - await viewers[0].call("now")) / 1000)
    end = await viewers[0].call("now")
    records = [(await viewer.call("takeRecord"))[0]["frames"] for viewer in viewers]
    await viewers[THROTTLED].throttle(1)
    compare(result, records, begin, end)
    for viewer in viewers:
        await viewer.close()
    return result
