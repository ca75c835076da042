"""Do people who watch together see the same frame? Three pages of a real browser, a real server, and films whose
frames carry their numbers.

python -m bench.frame_accuracy                                       all encodings: about an hour
python -m bench.frame_accuracy --encodings h264-25,vp9-59.94 --rounds 50 --seconds 20
python -m bench.frame_accuracy --only paused --browser firefox-esr --json build/frames.json

paused: 200 pauses, steps and seeks by three people; 300 ms after each the displayed frame of each page is read off a
canvas. Wrong is one that differs from the others, or from what the command asked for. Half of them in a room that does
not know the frame rate, half in one that does (`media`). playing: one minute with two
seeks; the pages need up to 400 ms more to start and to seek than each other, and one page's CPU is throttled 4 x; their
displayed frames are compared each 5 ms, all of them and those 3 s and more after each command. comparison: two films of
25 and 29.97 frames a second with an offset of 2.4 s. Exit code 1 if a bar is missed: a wrong frame; after 3 s, p95 of
more than 1 frame or p99 of more than 2; in a comparison, a paused film more than 1 frame off, or p99 of more than 1.
"""

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..figures import table
from .clips import ENCODINGS, clip
from .comparison import Comparison, comparison
from .comparison import row as comparison_row
from .paused import ACTS, FILM_S, Paused, paused
from .playing import Playing, percentile, playing
from .site import SDK
from .viewers import hall

BAR_P95, BAR_P99 = 1, 2
PARTS = ("paused", "playing", "comparison")
PAUSED_HEAD = (
    "encoding", "rate unknown: pauses wrong", "steps", "seeks", "rate known: pauses wrong", "steps", "seeks",
    "still after 2 s", "worst, frames", "late looks",
)  # fmt: skip
PLAYING_HEAD = (
    "encoding", "p50", "p95", "p99", "after 3 s: p95", "p99", "max", "within a frame after, s", "callbacks missed",
)  # fmt: skip
COMPARISON_HEAD = ("paused, more than a frame off", "worst", "playing p50", "p95", "p99", "max")


@dataclass
class Results:
    """Per encoding: paused in a room that does not know the frame rate and in one that does, and playing."""

    version: str
    paused: list[tuple[Paused, Paused]] = field(default_factory=list)
    playing: list[Playing] = field(default_factory=list)
    comparison: Comparison | None = None

    @property
    def is_good(self) -> bool:
        return (
            not any(each.wrong_rounds for pair in self.paused for each in pair)
            and all(percentile(each.settled, 0.95) <= BAR_P95 for each in self.playing)
            and all(percentile(each.settled, 0.99) <= BAR_P99 for each in self.playing)
            and (self.comparison is None or self.comparison.is_good)
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "browser": self.version,
            "paused": [vars(each) for pair in self.paused for each in pair],
            "playing": [*map(vars, self.playing)],
            "comparison": None if self.comparison is None else vars(self.comparison),
        }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def paused_row(pair: tuple[Paused, Paused]) -> list[str]:
    counts = [f"{each.wrong[act]} of {each.rounds[act]}" if each.rounds[act] else "" for each in pair for act in ACTS]
    sums = [sum(each.lasting for each in pair), max(each.worst for each in pair), sum(each.late for each in pair)]
    return [pair[0].encoding, *counts, *map(str, sums)]


def playing_row(result: Playing) -> list[str]:
    figures = [percentile(result.whole, share) for share in (0.5, 0.95, 0.99)]
    settled = [percentile(result.settled, share) for share in (0.95, 0.99, 1.0)]
    near = ", ".join(f"{seconds:.1f}" for seconds in result.near_after_s)
    missed = ", ".join(f"{share:.0%}" for share in result.missed)
    return [result.encoding, *map(str, figures + settled), near, missed]


def progress(part: str, head: Sequence[str], row: Sequence[str]) -> str:
    return f"{part}: " + "  ".join(f"{name} {value}" for name, value in zip(head, row, strict=True))


async def measure(options: argparse.Namespace) -> Results:
    for name in options.encodings:
        say(f"film {name}: {clip(ENCODINGS[name], FILM_S).stat().st_size:,} bytes")
    async with hall(options.sdk, options.browser) as place:
        results = Results(place.version)
        for name in options.encodings:
            encoding, rng = ENCODINGS[name], random.Random(options.seed)
            if "paused" in options.only:
                unknown = await paused(place, encoding, options.rounds // 2, rng, options.acts)
                known = await paused(place, encoding, options.rounds // 2, rng, options.acts, knows_rate=True)
                results.paused.append((unknown, known))
                say(progress("paused", PAUSED_HEAD, paused_row(results.paused[-1])))
            if "playing" in options.only:
                results.playing.append(await playing(place, encoding, options.seconds, rng))
                say(progress("playing", PLAYING_HEAD, playing_row(results.playing[-1])))
        if "comparison" in options.only:
            rng = random.Random(options.seed)
            results.comparison = await comparison(place, options.rounds // 2, options.seconds, rng)
        return results


def report(results: Results) -> None:
    """Print the tables."""
    if results.paused:
        print("\n".join(table(PAUSED_HEAD, [*map(paused_row, results.paused)])))
        all_paused = [each for pair in results.paused for each in pair]
        painted, otherwise = (
            sum(each.painted for each in all_paused),
            sum(each.painted_otherwise for each in all_paused),
        )
        print(f"\n{painted} screenshots, {otherwise} of them with another frame than the canvas read.\n")
    if results.playing:
        print("\n".join(table(PLAYING_HEAD, [*map(playing_row, results.playing)])))
        print(f"\n{sum(each.unlike for each in results.playing)} pictures that were not the reported frame.\n")
    if results.comparison is not None:
        print("\n".join(table(COMPARISON_HEAD, [comparison_row(results.comparison)])))
    print(f"\n{results.version}")


def listed(choices: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(choices)}")
        return names

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encodings", type=listed(list(ENCODINGS)), default=list(ENCODINGS), help="comma-separated")
    parser.add_argument("--only", type=listed(PARTS), default=list(PARTS), help="of paused, playing, comparison")
    parser.add_argument("--rounds", type=int, default=200, help="pauses, steps and seeks per encoding")
    parser.add_argument("--acts", type=listed(ACTS), default=list(ACTS), help="comma-separated")
    parser.add_argument("--seconds", type=float, default=60.0, help="of playing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sdk", type=Path, default=SDK, help="folder of another SDK, such as an older one")
    parser.add_argument("--browser", help="its program: chromium, firefox-esr")
    parser.add_argument("--json", type=Path, help="write all results, with each wrong round, into this file")
    options = parser.parse_args()
    results = asyncio.run(measure(options))
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, **results.as_json()}))
    report(results)
    raise SystemExit(0 if results.is_good else 1)


if __name__ == "__main__":
    main()
