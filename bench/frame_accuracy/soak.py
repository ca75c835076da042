"""A room under random use for minutes or hours: do its pages stay on the same frame?

python -m bench.frame_accuracy.soak --minutes 60 --seed 1

Five pages of a real Chromium and fifteen simulated players (the Python client) play, pause, seek, step, hide their
page, reload it, sleep, leave, return and lose the net at random, from a seed. Their tokens live a minute and are
renewed. A page is judged while it is in the room and visible, from 3 s after its return, and while its frames come on
time. Exit code 1 if two judged pages are more than 2 frames apart for longer than 1 s after a command has settled, on
an error event that the lost net does not explain, if a user is listed who is not there, or is not listed who is, or has
another identity after a short absence (roster.py), and if the heap of the page that is never reloaded grows.
"""

import argparse
import asyncio
import contextlib
import functools
import math
import random
import statistics
import sys
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Error as PageError

from koko_presence.client import PresenceClient, PresenceOffline, PresenceRefused
from tests.browser.cable import Cable

from .clips import ENCODINGS, Encoding
from .paused import set_medium
from .playing import with_missed
from .roster import Identity, Return, Roster
from .site import SDK, TOKEN_PATH
from .viewers import Film, Hall, Viewer, hall, token_of

ROOM = "video_soak"
FILM_S = 66.0
PAGES, PLAYERS, PLAYERS_PER_CABLE = 5, 15, 5
COMMAND_EVERY_S, TROUBLE_EVERY_S = 6.0, 12.0  # means, of all people together
HIDDEN_S, LOST_S, ASLEEP_S, LEFT_S = (1.0, 8.0), (0.3, 8.0), (2.0, 40.0), (0.5, 20.0)
TOKEN_S, GRACE_MS = 60, 5000.0
SETTLE_MS, RETURN_MS = 2000.0, 3000.0  # after a command; after a page's return
LATE_MS = 150.0  # frames that come later after each other are not on time
INSTANT_MS, LOOK_S, BEHIND_MS = 50.0, 2.0, 1500.0
MOST_APART, LONGEST_MS = 2, 1000.0
HEAP_GROWTH, HEAP_GROWTH_BYTES = 1.1, 500_000
EXPLAINED_S = 15.0  # after a loss of the net: errors of requests that waited for it


def wall_ms() -> float:
    return time.time() * 1000


@dataclass
class Soak:
    """What was seen. `judged_s` is the time in which at least two pages were judged."""

    seconds: float = 0.0
    judged_s: float = 0.0
    deeds: Counter[str] = field(default_factory=Counter)
    apart: Counter[int] = field(default_factory=Counter)
    violations: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    new_identities: int = 0
    renewals: int = 0
    heap: list[int] = field(default_factory=list)

    @property
    def heap_grows(self) -> bool:
        """Whether the last third of the samples is larger than the first third, by medians."""
        third = len(self.heap) // 3
        if third < 3:
            return False
        first, last = statistics.median(self.heap[:third]), statistics.median(self.heap[-third:])
        return last > first * HEAP_GROWTH and last > first + HEAP_GROWTH_BYTES

    @property
    def is_good(self) -> bool:
        return not (self.violations or self.errors or self.identities or self.heap_grows)


class Watched:
    """One page: what it displayed in the last seconds, and when it is judged."""

    def __init__(self, name: str, viewer: Viewer, cable: Cable) -> None:
        self.name, self.viewer, self.cable = name, viewer, cable
        self.busy = False  # hidden, loading or without the net
        self.judged: deque[tuple[float, bool]] = deque([(0.0, False)], maxlen=200)  # from which wall ms on, whether
        self.lost_until = 0.0
        self.is_asleep = False  # or loading: it answers nothing
        self.frames: deque[tuple[float, int]] = deque(maxlen=2000)
        self.states: deque[tuple[float, bool]] = deque([(0.0, True)], maxlen=500)  # from which wall ms on, paused
        self._last: tuple[float, int, int, int] | None = None

    def leave(self) -> None:
        self.busy = True
        self.judged.append((wall_ms(), False))

    def back(self) -> None:
        self.busy = False
        self.judged.append((wall_ms() + RETURN_MS, True))

    def take(self, record: dict[str, Any]) -> None:
        frames = [*([self._last] if self._last else []), *map(tuple, record["frames"])]
        self.frames.extend(with_missed(frames)[1 if self._last else 0 :])
        self._last = frames[-1] if frames else None
        for at, kind in record["states"]:
            if kind in ("play", "pause"):
                self.states.append((at, kind == "pause"))

    def forget(self) -> None:
        """The page was loaded anew: its counts begin again."""
        self._last = None

    def frame_at(self, at: float) -> int | None:
        """The displayed frame at a wall time; None if the page is not judged then or its frames are not on time."""
        if not self.judged[_index(self.judged, at)][1]:
            return None
        index = _index(self.frames, at)
        if index < 0:
            return None
        paused = self.states[_index(self.states, at)][1]
        after = self.frames[index + 1][0] if index + 1 < len(self.frames) else math.inf
        if not paused and min(after, at + BEHIND_MS) - self.frames[index][0] > LATE_MS:
            return None
        return self.frames[index][1]


def _index(timeline: Sequence[tuple[float, Any]], at: float) -> int:
    """The last entry not after `at`; -1: there is none."""
    return bisect_right(timeline, at, key=lambda each: each[0]) - 1


class Judge:
    """Compares the pages at each 50 ms, some time behind the present, so that all records are there."""

    def __init__(self, result: Soak, pages: Sequence[Watched], begin: float) -> None:
        self.result, self.pages = result, pages
        self.commands: deque[tuple[float, str]] = deque(maxlen=100)  # wall ms, what
        self._at = begin
        self._apart_since: float | None = None

    def run(self, until: float) -> None:
        while self._at < until:
            self._compare(self._at)
            self._at += INSTANT_MS

    def _compare(self, at: float) -> None:
        index = _index(self.commands, at)
        if index >= 0 and at - self.commands[index][0] < SETTLE_MS:
            self._apart_since = None
            return
        shown = {page.name: page.frame_at(at) for page in self.pages}
        frames = [frame for frame in shown.values() if frame is not None]
        if len(frames) < 2:
            return
        self.result.judged_s += INSTANT_MS / 1000
        distance = max(frames) - min(frames)
        self.result.apart[min(distance, 99)] += 1
        if distance <= MOST_APART:
            self._apart_since = None
        elif self._apart_since is None:
            self._apart_since = at
        elif at - self._apart_since > LONGEST_MS:
            last = self.commands[index] if index >= 0 else None
            self.result.violations.append({"at": at, "frames": shown, "command": last})
            self._apart_since = at


async def simulated_player(number: int, url: str, soak: "Soaking", rng: random.Random) -> None:
    """A member that is always in step: it reports the room's position once a second."""
    name = f"player{number}"
    token = functools.partial(soak.token_of, name)
    async with AsyncExitStack() as stack:
        client = await _connected(url, token)
        stack.push_async_callback(client.close)
        client.on("error", lambda error: soak.client_error(number, error))
        room = await client.join(ROOM, "video")
        if number == 0:
            room.on("playback_synced", lambda event: soak.judge.commands.append((wall_ms(), event.data.action)))
        soak.rooms[number] = (client, room)
        soak.roster.note(name, Identity(room.session_id, room.color))
        while True:
            if room.playback is not None:
                position = room.playback.position(client.server_now_ms())
                room.report(room.playback.is_playing, position, room.playback.playback_rate)
            await asyncio.sleep(1.0 + rng.uniform(0, 0.05))


async def _connected(url: str, token: Callable[[], str]) -> PresenceClient:
    """A client that is connected: it comes while the net may be lost."""
    while True:
        client = PresenceClient(url, token, min_backoff_s=0.1, max_backoff_s=1.0)
        with contextlib.suppress(PresenceOffline):
            await client.connect()
            return client
        await asyncio.sleep(0.5)


class Soaking:
    """One run: the users, and what they do."""

    def __init__(
        self,
        place: Hall,
        encoding: Encoding,
        rng: random.Random,
        say: Callable[[str], None],
        token_of: Callable[[str], str],
    ) -> None:
        self.place, self.encoding, self.rng, self.say, self.token_of = place, encoding, rng, say, token_of
        self.result = Soak()
        self.roster = Roster(GRACE_MS)
        self.pages: list[Watched] = []
        self.judge = Judge(self.result, self.pages, wall_ms())
        self.rooms: dict[int, tuple[PresenceClient, Any]] = {}
        self.cables: list[Cable] = []
        self.lost_until = 0.0  # of the simulated players
        self._lost_at: dict[str, float] = {}  # by player: when its connection was last seen lost
        self._players: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what is wrong -----------------------------------------------------------------------------------------------

    def client_error(self, number: int, error: Exception) -> None:
        if wall_ms() > self.lost_until:
            self.result.errors.append(f"player{number}: {error!r}")

    def page_errors(self, page: Watched, events: Sequence[dict[str, Any]]) -> None:
        for event in events:
            is_explained = event["at"] < page.lost_until and event.get("code") in ("OFFLINE", "UNREACHABLE")
            if event["type"] == "error" and not is_explained:
                self.result.errors.append(f"{page.name}: {event['code']}: {event['message']}")
            elif event["type"] == "follow":
                self.result.errors.append(f"{page.name}: follow, {event['reason']}")
        for text in page.viewer.errors:
            if wall_ms() > page.lost_until:
                self.result.errors.append(f"{page.name}: console: {text}")
        page.viewer.errors.clear()

    # --- the people --------------------------------------------------------------------------------------------------

    async def start(self, stack: AsyncExitStack) -> None:
        films = [Film(self.encoding, FILM_S)]
        for _ in range(PLAYERS // PLAYERS_PER_CABLE + PAGES):
            self.cables.append(stack.enter_context(closing(Cable(self.place.port))))
        stack.push_async_callback(self._end_players)
        for number in range(PLAYERS):
            self._start_player(number)
        for number, cable in enumerate(self.cables[-PAGES:]):
            user = f"page{number}"
            url, token = f"ws://127.0.0.1:{cable.port}/presence", f"{TOKEN_PATH}?{user}"
            viewer = await self.place.open(user, ROOM, films, url=url, token=token)
            await viewer.call("takeRecord")
            page = Watched(f"page{number}", viewer, cable)
            self.pages.append(page)
            page.back()
        await set_medium(self.pages[0].viewer, self.encoding)  # steps need the frame rate

    def _start_player(self, number: int) -> None:
        cable = self.cables[number // PLAYERS_PER_CABLE]
        # the first keeps its connection
        url = f"ws://127.0.0.1:{cable.port}/presence" if number else self.place.url
        player = simulated_player(number, url, self, random.Random(self.rng.random()))
        self._players[number] = asyncio.create_task(player)

    async def _end_players(self) -> None:
        for player in self._players.values():
            await _end(player)

    async def command(self) -> None:
        """One command of one of the people, as a person gives it: on the player, or with a button of the page."""
        by_page = self.rng.random() < 0.5
        page = self.rng.choice(self.pages)
        at = (await self.position()) or 0.0
        kind = self.rng.choice(("play", "play", "pause", "seek", "step"))
        if at > FILM_S - 8:
            kind = "seek"
        to = self.rng.uniform(0.5, FILM_S - 15)
        self.result.deeds[kind] += 1
        if by_page and not page.busy:
            await page.viewer.act(kind, to=to, frames=self.rng.choice((1, -1, 5)))
            return
        number = self.rng.randrange(PLAYERS)
        _, room = self.rooms.get(number, (None, None))
        if room is None or wall_ms() < self.lost_until:
            return
        with contextlib.suppress(PresenceOffline):
            try:
                await room.sync_playback(
                    "pause" if kind == "step" else kind, current_time=to if kind == "seek" else None
                )
            except PresenceRefused as refused:
                self.client_error(number, refused)

    async def position(self) -> float | None:
        if 0 not in self.rooms:
            return None
        client, room = self.rooms[0]
        if room.playback is None:
            return None
        return float(room.playback.position(client.server_now_ms()))

    async def trouble(self) -> None:
        """One page or some players hide, reload, sleep, leave or lose the net, and return."""
        kind = self.rng.choice(("hide", "reload", "sleep", "leave", "lose", "lose players", "player leaves"))
        self.result.deeds[kind] += 1
        if kind == "lose players":
            seconds = self.rng.uniform(*LOST_S)
            self.lost_until = wall_ms() + (seconds + EXPLAINED_S) * 1000
            await _unplugged(self.rng.choice(self.cables[:-PAGES]), seconds)
            return
        if kind == "player leaves":
            await self._replace_player(self.rng.randrange(1, PLAYERS))
            return
        # the first is never reloaded
        page = self.rng.choice(self.pages[1:] if kind in ("reload", "leave") else self.pages)
        if page.busy:
            return
        page.leave()
        if kind == "hide":
            await page.viewer.call("hide", True)
            await asyncio.sleep(self.rng.uniform(*HIDDEN_S))
            await page.viewer.call("hide", False)
        elif kind == "lose":
            seconds = self.rng.uniform(*LOST_S)
            page.lost_until = wall_ms() + (seconds + EXPLAINED_S) * 1000
            await _unplugged(page.cable, seconds)
            await page.viewer.page.wait_for_function("viewer.room.status === 'live'", timeout=60_000)
        elif kind == "sleep":
            page.is_asleep = True
            await page.viewer.devtools("Page.setWebLifecycleState", state="frozen")
            await asyncio.sleep(self.rng.uniform(*ASLEEP_S))
            await page.viewer.devtools("Page.setWebLifecycleState", state="active")
            page.lost_until = wall_ms() + EXPLAINED_S * 1000
            await page.viewer.page.wait_for_function("viewer.room.status === 'live'", timeout=60_000)
            page.is_asleep = False
        else:
            page.is_asleep = True
            if kind == "leave":
                await page.viewer.page.goto("about:blank")
                self.roster.leave(page.name)
                await asyncio.sleep(self.rng.uniform(*LEFT_S))
            else:
                self.roster.leave(page.name)
            page.viewer.errors.clear()
            url, token = f"ws://127.0.0.1:{page.cable.port}/presence", f"{TOKEN_PATH}?{page.name}"
            await self.place.load(page.viewer, ROOM, [Film(self.encoding, FILM_S)], url=url, token=token)
            page.forget()
            page.is_asleep = False
        page.back()

    async def _replace_player(self, number: int) -> None:
        if number not in self.rooms:
            return
        del self.rooms[number]
        self.roster.leave(f"player{number}")
        await _end(self._players[number])
        await asyncio.sleep(self.rng.uniform(*LEFT_S))
        self._start_player(number)

    async def look(self) -> None:
        """Collect the records of all pages and judge what is complete."""
        present, silent = self._note_players()
        for page in self.pages:
            if page.is_asleep:
                silent.append(page.name)
                continue
            try:
                (record,) = await page.viewer.call("takeRecord")
                page.take(record)
                self.page_errors(page, await page.viewer.call("takeEvents"))
                said = await page.viewer.call("takeIdentity")
            except PageError:  # it is being loaded
                silent.append(page.name)
                continue
            if said["isLive"]:
                returns = [Return(each["resumed"], each["awayMs"]) for each in said["returns"]]
                self.roster.note(page.name, Identity(said["sessionId"], said["color"]), returns)
                present.append(page.name)
        known = len(self.result.violations)
        self.judge.run(wall_ms() - BEHIND_MS - LOOK_S * 1000)
        if len(self.result.violations) > known:
            await self._say_states()
        if 0 in self.rooms:
            _, room = self.rooms[0]
            self.roster.judge(
                present, silent, {each.session_id: each.user_id for each in room.users.values()}, wall_ms()
            )
        for violation in self.roster.violations[len(self.result.identities) :]:
            self.say(violation)
        self.result.identities = [*self.roster.violations]
        self.result.new_identities = self.roster.new_identities

    async def _say_states(self) -> None:
        """Say what the pages are doing now, which tells most of the cause when they are apart."""
        for page in self.pages:
            if not page.is_asleep:
                with contextlib.suppress(PageError):
                    self.say(f"{page.name}: {await page.viewer.call('shown')}")

    def _note_players(self) -> tuple[list[str], list[str]]:
        """Note who the players are; returns those that are in the room, and those that cannot say."""
        present, silent = [], []
        for number in range(PLAYERS):
            name = f"player{number}"
            client, room = self.rooms.get(number, (None, None))
            if client is None or room is None:
                continue  # it has left, or has not joined yet
            if client.status != "online" or client.session_id != room.session_id:  # lost, or not in the room again yet
                self._lost_at.setdefault(name, wall_ms())
                silent.append(name)
                continue
            lost_at = self._lost_at.pop(name, None)
            # the loss was seen at most a look later than it was
            away_ms = 0.0 if lost_at is None else wall_ms() - lost_at + LOOK_S * 1000
            is_same = self.roster.session_of(name) == room.session_id
            self.roster.note(
                name, Identity(room.session_id, room.color), [] if lost_at is None else [Return(is_same, away_ms)]
            )
            present.append(name)
        return present, silent

    async def measure_heap(self) -> None:
        viewer = self.pages[0].viewer
        await viewer.devtools("HeapProfiler.collectGarbage")
        self.result.heap.append((await viewer.devtools("Runtime.getHeapUsage"))["usedSize"])

    async def run(self, seconds: float) -> Soak:
        begin = time.monotonic()
        next_command = next_trouble = next_look = begin
        next_heap = begin + min(60.0, seconds / 4)  # the first samples would hold what is loaded once
        heap_every_s = max(5.0, min(60.0, seconds / 20))
        while (now := time.monotonic()) < begin + seconds:
            if now >= next_command:
                next_command = now + self.rng.expovariate(1 / COMMAND_EVERY_S)
                self._do(self.command())
            if now >= next_trouble:
                next_trouble = now + self.rng.expovariate(1 / TROUBLE_EVERY_S)
                self._do(self.trouble())
            if now >= next_look:
                next_look = now + LOOK_S
                await self.look()
            if now >= next_heap:
                next_heap = now + heap_every_s
                await self.measure_heap()
                self.say(self.progress(now - begin))
            await asyncio.sleep(0.05)
        await asyncio.gather(*self._tasks)
        await asyncio.sleep(LOOK_S)
        await self.look()
        self.result.seconds = seconds
        return self.result

    def progress(self, seconds: float) -> str:
        result = self.result
        return (
            f"{seconds:6.0f} s  judged {result.judged_s:5.0f} s  apart {dict(sorted(result.apart.items()))}"
            f"  violations {len(result.violations)}  identities {len(result.identities)}  errors {len(result.errors)}"
            f"  heap {result.heap[-1] / 1e6:.2f} MB"
        )

    def _do(self, deed: Any) -> None:
        task = asyncio.create_task(deed)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.result.errors.append(f"in the soak itself: {error!r}")


async def _unplugged(cable: Cable, seconds: float) -> None:
    cable.unplug()
    await asyncio.sleep(seconds)
    cable.plug()


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def soak(minutes: float, seed: int, encoding: Encoding, say: Callable[[str], None], sdk: Path = SDK) -> Soak:
    async with AsyncExitStack() as stack:
        issued: Counter[str] = Counter()

        def issue(user: str) -> str:
            issued[user] += 1
            return token_of(user, TOKEN_S)

        place = await stack.enter_async_context(hall(sdk, token_of=issue, limits_grace_s=GRACE_MS / 1000))
        soaking = Soaking(place, encoding, random.Random(seed), say, issue)
        await soaking.start(stack)
        result = await soaking.run(minutes * 60)
        result.renewals = issued.total()
        for page in soaking.pages:
            await page.viewer.close()
        return result


def report(result: Soak) -> str:
    instants = max(sum(result.apart.values()), 1)
    shares = ", ".join(f"{frames}: {count / instants:.2%}" for frames, count in sorted(result.apart.items()))
    heap = f"{result.heap[0] / 1e6:.2f} to {result.heap[-1] / 1e6:.2f} MB" if result.heap else "not measured"
    lines = [
        f"{result.seconds:.0f} s, judged {result.judged_s:.0f} s; frames apart: {shares}",
        f"deeds: {dict(result.deeds)}",
        f"heap of the page that was never reloaded: {heap}{', GROWS' if result.heap_grows else ''}",
        f"tokens issued, each for {TOKEN_S} s: {result.renewals}",
        f"new identities after long absences: {result.new_identities}; others, ghosts and missing users: "
        f"{len(result.identities)}",
        *(f"  {each}" for each in result.identities[:20]),
        f"violations: {len(result.violations)}",
        *(f"  {each}" for each in result.violations[:20]),
        f"unexplained errors: {len(result.errors)}",
        *(f"  {each}" for each in result.errors[:20]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--encoding", choices=list(ENCODINGS), default="h264-25")
    parser.add_argument("--sdk", type=Path, default=SDK, help="folder of another SDK, such as an older one")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    result = asyncio.run(soak(options.minutes, options.seed, ENCODINGS[options.encoding], say, options.sdk))
    print(report(result))
    raise SystemExit(0 if result.is_good else 1)


if __name__ == "__main__":
    main()
