"""Pauses, steps and seeks by three people: which frame does each page display 300 ms later?"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any

from .clips import Encoding
from .viewers import Film, Hall, Viewer, all_shown, wait_until

SETTLE_MS = 300.0
LATER_MS = 2000.0  # when a wrong page is looked at once more
LATE_MS = 50.0  # a page that looks later than that is busy
PEOPLE = ("ann", "ben", "eva")
ACTS = ("pause", "step", "seek")
STEPS = (1, 1, 1, 2, 5, 12, 25)
FILM_S, END_S = 66.0, 3.0
BOUNDARY_S = 0.0015  # a seek so near to the beginning of a frame may show the one or the other: WebM rounds to 1 ms
PAINT_EVERY = 20


@dataclass
class Paused:
    """The counts of one encoding. A round is wrong if a page displays another frame than the others, or than the
    command asked for. `rounds` and `wrong` by the kind of the command; `worst` is the greatest distance in frames,
    `lasting` the wrong rounds that were so after 2 s, `late` the rounds in which a page was too busy to look in time.
    `painted_otherwise`: screenshots that differ from what the canvas reads."""

    encoding: str
    knows_rate: bool = False
    rounds: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    wrong_pages: int = 0
    worst: int = 0
    lasting: int = 0
    late: int = 0
    painted: int = 0
    painted_otherwise: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def wrong_rounds(self) -> int:
        return sum(self.wrong.values())


def asked_for(act: str, before: int | None, details: dict[str, Any], rate: Fraction, last: int) -> int | None:
    """The frame that a command must lead to; None: any, if all pages display the same."""
    if act == "seek":
        to = Fraction(details["to"])
        if abs(to * rate - round(to * rate)) / rate < BOUNDARY_S:
            return None
        return min(floor(to * rate), last)
    if act == "step" and before is not None:
        return min(max(before + int(details["frames"]), 0), last)
    return None


async def set_medium(viewer: Viewer, encoding: Encoding, **more: Any) -> None:
    """Tell the room its film. Errors: RuntimeError if that is refused."""
    medium = {"mediaId": encoding.name, "frameRate": encoding.frame_rate, "duration": FILM_S, **more}
    answer = await viewer.call("setMedia", medium)
    if not answer["success"]:
        raise RuntimeError(f"setMedia was refused: {answer}")


def apart(frames: Sequence[int], expected: int | None) -> int:
    """The greatest distance between displayed frames, and from the expected one."""
    all_frames = [*frames, *([] if expected is None else [expected])]
    return max(all_frames) - min(all_frames)


async def perform(act: str, viewers: Sequence[Viewer], rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """One command of one of the viewers; returns its details, and when it was given. Errors: RuntimeError with what all
    pages show if a film does not follow the start before a pause."""
    actor = rng.choice(viewers)
    if act == "seek":
        details: dict[str, Any] = {"to": rng.uniform(0, FILM_S - END_S)}
    elif act == "step":
        details = {"frames": rng.choice(STEPS) * rng.choice((1, -1))}
    else:
        details = {}
        starter = rng.choice(viewers)
        await starter.act("play")
        try:
            await wait_until(actor, "!viewer.films[0].video.paused")
        except Exception as error:
            pages = {viewer.user: [await viewer.call("shown"), await viewer.call("takeEvents")] for viewer in viewers}
            raise RuntimeError(f"{starter.user} has started the film; that of {actor.user} stands: {pages}") from error
        await actor.page.wait_for_timeout(rng.uniform(250, 900))
    return {"by": actor.user, **details}, await actor.act(act, **details)


async def paused(
    hall: Hall,
    encoding: Encoding,
    count: int,
    rng: random.Random,
    acts: Sequence[str] = ACTS,
    *,
    knows_rate: bool = False,
) -> Paused:
    """`count` rounds of `acts` by random people in one room. `knows_rate`: the room has the film's exact frame rate."""
    result = Paused(encoding.name, knows_rate)
    room = f"video_{encoding.name}_{rng.randrange(10**9)}"
    viewers = [await hall.open(user, room, [Film(encoding, FILM_S)]) for user in PEOPLE]
    if knows_rate:
        await set_medium(viewers[0], encoding)
    last = round(FILM_S * encoding.rate) - 1
    before: int | None = None
    for number in range(count):
        shown = await viewers[0].call("shown")
        if number == 0 or shown["currentTime"] > FILM_S - END_S:
            acted = await viewers[0].act("seek", to=rng.uniform(1, FILM_S / 2))
            shown, *_ = await all_shown(viewers, acted["at"] + 2 * SETTLE_MS)
        before = shown["frame"]
        act = rng.choice(acts)
        details, acted = await perform(act, viewers, rng)
        pages = await all_shown(viewers, acted["at"] + SETTLE_MS)
        result.rounds[act] += 1
        result.late += any(page["at"] > acted["at"] + SETTLE_MS + LATE_MS for page in pages)
        expected = asked_for(act, before, details, encoding.rate, last)
        frames = [page["frame"] for page in pages]
        distance = apart(frames, expected)
        if distance or -1 in frames:
            later = await all_shown(viewers, acted["at"] + LATER_MS)
            result.wrong[act] += 1
            right = acted_frame(frames, expected)
            result.wrong_pages += sum(frame != right for frame in frames)
            result.worst = max(result.worst, distance)
            result.lasting += bool(apart([page["frame"] for page in later], expected))
            result.faults.append(
                {"round": number, "act": act, **details, "before": before, "acted": acted, "expected": expected}
                | {"pages": pages, "later": later}
            )
        if number % PAINT_EVERY == 0:
            painted = [await viewer.painted() for viewer in viewers]
            now = [(await viewer.call("shown"))["frame"] for viewer in viewers]
            result.painted += len(viewers)
            result.painted_otherwise += sum(a != b for a, b in zip(painted, now, strict=True))
    errors = [error for viewer in viewers for error in viewer.errors]
    if errors:
        result.faults.append({"errors": errors})
    for viewer in viewers:
        await viewer.close()
    return result


def acted_frame(frames: Sequence[int], expected: int | None) -> int:
    """The right frame: the expected one, else that of most pages."""
    return expected if expected is not None else Counter(frames).most_common(1)[0][0]
