"""The actions of one run of the simulation (tests/sim.py) as data: a list of actions, each with all its arguments.

An action is a list: `["p1", "join", "video_1", 2]`. No action depends on what happened before: workers are named by
their slots, and an action that is not possible at its time does nothing. So any action can be removed from a script,
which tests/shrink.py uses to make a short script of a long one, and a stored script keeps its meaning when `write`
changes later.

| action | |
|---|---|
| `[person, "join", room, slot]` | connects to that slot first when it has no connection |
| `[person, "leave" or "control_request" or "control_release", room]` | |
| `[person, "cursor", room, timestamp]`, `[person, "typing", room, on]`, `[person, "play", room, position]` | |
| `[person, "media", room, target, number]` | the medium of a target |
| `[person, "report", room, buffering]`, `[person, "play", room, position, delay_ms]` | |
| `[person, "status", status, message]`, `[person, "privacy", field, value, scope]` | |
| `[person, "rights", name]` | a new token on the open connection; names of `RIGHTS` |
| `[person, "rename", n]` | a new token on the open connection, issued n s after the first one, with another name |
| `[person, "lose", back_s]`, `[person, "go"]` | the connection is lost and restored, or the tab is closed |
| `[machine, "enter" or "leave" or "heartbeat" or "getActive", room, slot]` | procedures over HTTP, at that slot |
| `[person, "watch", rooms]` | watches these rooms without joining them |
| `[machine, "updateCursor", room, slot, timestamp]`, `[machine, "setPresence", room, slot, data]` | |
| `[person, "presence", room, data]` | a patch of the presence object |
| `["crash", slot]`, `["stop", slot, seconds]`, `["roll", slot]`, `["cut", slot, slot, seconds]` | workers, links |
| `["wait", seconds]` | |
| `["settings", room, change]` | the back end changes settings of the room; null takes a key back to its default |
| `["presence", user, on]` | the back end switches a user's presence on or off |
| `["calm"]` | everything is restored, every client connects again; then the invariants of a quiet story are checked |
| `["lose_owner", n]` | the n-th of the workers that own users dies; no state that users have set is lost |

Choices that are no actions, such as the delay of a link during 5 ms or the worker to which a client returns, are a pure
function of the script's `salt`, of names and of the time (`Script.chance`), and do not shift when an action is removed.
"""

import hashlib
import json
import random
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

ROOMS = ("video_1", "video_2", "video_3")
RIGHTS = {"all": ["join", "control", "broadcast"], "watch": ["join"], "talk": ["join", "broadcast"]}
# further rights: with the scope "unseen" the access check of tests/sim.py switches presence off
ALL_RIGHTS = RIGHTS | {"unseen": ["join", "control", "broadcast", "unseen"]}
MACHINES = ("m0", "m1")
FIRST_ISSUED_S = 1000  # the unix second at which the first tokens were issued
WORKERS = range(2, 9)  # the numbers of workers that scripts have

Action = list[Any]


def name_of(user: str, number: int) -> str:
    """Return the name of a user in tokens that are issued `number` seconds after the first one."""
    return f"{user.title()} {number}" if number else user.title()


@dataclass(frozen=True)
class Script:
    """One run. `salt` None: every chance is 0.5, so every link has the same delay. The clocks of workers are up to
    `clocks_s` seconds apart. With each crash the supervisor is stopped for `silent_s` seconds."""

    workers: int
    people: int
    salt: int | None
    actions: list[Action] = field(repr=False)
    clocks_s: float = 0.0
    silent_s: float = 0.0

    def chance(self, *key: object) -> float:
        """Return a number in [0, 1) that depends on `salt` and `key` only. Scripts on disk rely on it: it must not be
        changed."""
        if self.salt is None:
            return 0.5
        text = f"{self.salt} {key}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") / 2**32

    def clock_offset_s(self, slot: int) -> float:
        """By how many seconds the clocks of the workers in a slot are ahead of the slowest possible one."""
        return self.clocks_s * (slot % 3 / 2 if self.salt is None else self.chance("clock", slot))

    def with_actions(self, actions: list[Action]) -> "Script":
        return replace(self, actions=actions)

    def dump(self, **more: Any) -> str:
        """Return the script as JSON, one action per line; the fields of `more` precede the actions."""
        head = {**more, **{name: value for name, value in asdict(self).items() if name != "actions"}}
        lines = ",\n".join(f"    {json.dumps(action)}" for action in self.actions)
        rest = "".join(f"  {json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items())
        return f'{{\n{rest}  "actions": [\n{lines}\n  ]\n}}\n'


def load(path: Path) -> tuple[Script, dict[str, Any]]:
    """Return a script that `dump` has written, and the further fields written with it."""
    found = json.loads(path.read_text())
    names = ("workers", "people", "salt", "actions", "clocks_s", "silent_s")
    return Script(**{name: found.pop(name) for name in names if name in found}), found


def write(seed: int, workers: int | None = None, people: int = 8, steps: int = 45) -> Script:
    """Return the script of a seed: `steps` random actions, then calm, then the loss of an owner."""
    chances = random.Random(seed)
    workers = workers or WORKERS[seed % len(WORKERS)]
    generator = _Generator(chances, workers, [f"p{n}" for n in range(people)])
    extra = _Extra(random.Random(f"{seed} extra"), [f"p{n}" for n in range(people)])
    watches = random.Random(f"{seed} watch")
    objects = _Objects(random.Random(f"{seed} presence"), workers, [f"p{n}" for n in range(people)])
    actions: list[Action] = [
        [f"p{n}", "join", chances.choice(ROOMS), chances.randrange(workers)] for n in range(min(5, people))
    ]
    for _ in range(steps):
        actions += [
            generator.next(),
            *extra.next(),
            *_watch(watches, people),
            *objects.next(),
            ["wait", chances.choice((0.0, 0.001, 0.01, 0.05, 0.3))],
        ]
    actions += [["calm"], ["lose_owner", chances.randrange(100)]]
    return Script(workers=workers, people=people, salt=seed, actions=actions)


def _watch(chances: random.Random, people: int) -> list[Action]:
    """Draw now and then a list of rooms to watch, with chances of its own as `_Extra`."""
    if chances.random() >= 0.12:
        return []
    return [[f"p{chances.randrange(people)}", "watch", chances.sample(ROOMS, chances.randrange(len(ROOMS) + 1))]]


class _Extra:
    """Draws now and then an action about what a room does by itself. Its chances are its own, so that the other actions
    of a seed do not depend on it."""

    def __init__(self, chances: random.Random, people: list[str]) -> None:
        self._chances, self._people = chances, people
        self._renamed = 0

    def next(self) -> list[Action]:
        chances = self._chances
        room, chance = chances.choice(ROOMS), chances.random()
        person, other = chances.sample(self._people, 2)
        if chance < 0.03:
            return [["settings", room, {"title": chances.choice((None, "Cut 3", "Cut 4"))}]]
        if chance < 0.06:  # the room waits for a viewer
            seconds, moment = chances.choice((None, 0.5, 2.0)), ["wait", 0.1]
            # some of them are in the room, and some may command playback
            some = chances.sample(self._people, min(4, len(self._people)))
            plays, steady, stuck = (
                [[each, *what] for each in some]
                for what in (("play", room, 10), ("report", room, False), ("report", room, True))
            )
            settled = [*steady, ["wait", 0.15], *steady, moment]  # no newcomers any more
            return [["settings", room, {"waitForViewers": seconds}], *plays, moment, *settled, *stuck]
        if chance < 0.09:
            return [[person, "report", room, chances.random() < 0.5]]
        if chance < 0.12:  # the holder of control is away
            requests: list[Action] = [[each, "control_request", room] for each in (person, other)]
            seconds = chances.choice((None, 0.5, 4.0))
            return [["settings", room, {"autoGrantAway": seconds}], *requests, [person, "status", "away", ""]]
        if chance < 0.14:
            return [[person, "play", room, chances.randrange(99), chances.choice((300, 1500))]]
        if chance < 0.16:
            return [[person, "status", "idle", ""]]
        if chance < 0.19:
            self._renamed += 1
            return [[person, "rename", self._renamed]]
        if chance < 0.22:
            return [["presence", f"user{chances.randrange(6)}", chances.random() < 0.4]]
        if chance < 0.24:
            return [[person, "rights", chances.choice(("unseen", "all"))]]
        return []


class _Objects:
    """Draws now and then patches of presence objects, often several at once. Its chances are its own."""

    def __init__(self, chances: random.Random, workers: int, people: list[str]) -> None:
        self._chances, self._workers, self._people = chances, workers, people

    def next(self) -> list[Action]:
        chances = self._chances
        chance, room = chances.random(), chances.choice(ROOMS)
        if chance < 0.04:
            slot = chances.randrange(self._workers)
            return [[chances.choice(MACHINES), "setPresence", room, slot, self._patch()]]
        if chance < 0.34:
            person = chances.choice(self._people)
            return [[person, "presence", room, self._patch()] for _ in range(chances.choice((1, 1, 1, 2, 5)))]
        return []

    def _patch(self) -> dict[str, int | None] | None:
        chances = self._chances
        if chances.random() < 0.06:
            return None
        keys = chances.sample("abcd", chances.choice((1, 1, 2)))
        return {key: chances.choice((None, *range(9))) for key in keys}


class _Generator:
    """Draws the next action."""

    def __init__(self, chances: random.Random, workers: int, people: list[str]) -> None:
        self._chances, self._workers, self._people = chances, workers, people

    def next(self) -> Action:
        chances = self._chances
        room, slot = chances.choice(ROOMS), chances.randrange(self._workers)
        if chances.random() < 0.15:
            return self._of_machine(chances.choice(MACHINES), room, slot)
        chance = chances.random()
        return self._of_workers(chance - 0.83, slot) if chance >= 0.83 else self._of_person(chance, room, slot)

    def _of_person(self, chance: float, room: str, slot: int) -> Action:
        chances, person = self._chances, self._chances.choice(self._people)
        if chance < 0.22:
            return [person, "join", room, slot]
        if chance < 0.28:
            return [person, "leave", room]
        if chance < 0.40:
            return [person, "cursor", room, chances.randrange(100)]
        if chance < 0.48:
            return [person, "typing", room, chances.random() < 0.6]
        if chance < 0.51:
            return [person, "status", chances.choice(("busy", "active", "away")), chances.choice(("", "back soon"))]
        if chance < 0.55:
            what, value = chances.choice(("invisible", "shareCursor")), chances.random() < 0.5
            return [person, "privacy", what, value, chances.choice(("session", "user"))]
        if chance < 0.57:
            return [person, "rights", chances.choice(sorted(RIGHTS))]
        if chance < 0.67:
            return [person, chances.choice(("control_request", "control_release")), room]
        if chance < 0.71:
            return [person, "play", room, chances.randrange(99)]
        if chance < 0.73:
            return [person, "media", room, chances.choice(("main", "left")), chances.randrange(3)]
        if chance < 0.80:  # one in seven is away for longer than the grace period
            away = (5.6, 11.0) if chances.random() < 1 / 7 else (0.02, 0.8)
            return [person, "lose", round(chances.uniform(*away), 3)]
        return [person, "go"]

    def _of_workers(self, chance: float, slot: int) -> Action:
        chances = self._chances
        if chance < 0.05:
            return ["crash", slot]
        if chance < 0.09:
            return ["stop", slot, chances.choice((0.05, 0.2, 0.6, 3.5))]
        if chance < 0.12:
            return ["roll", slot]
        return ["cut", slot, chances.randrange(self._workers), chances.choice((0.01, 0.1, 0.5))]

    def _of_machine(self, machine: str, room: str, slot: int) -> Action:
        chance = self._chances.random()
        if chance < 0.5:
            return [machine, "enter", room, slot]
        if chance < 0.65:
            return [machine, "leave", room, slot]
        if chance < 0.75:
            return [machine, "heartbeat", room, slot]
        if chance < 0.85:
            return [machine, "getActive", room, slot]
        return [machine, "updateCursor", room, slot, self._chances.randrange(100)]
