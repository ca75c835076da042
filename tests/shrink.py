"""Finds a short script that fails like a long one: delta debugging (Zeller, Hildebrandt: Simplifying and Isolating
Failure-Inducing Input, 2002) over the actions of tests/script.py, then over the numbers of workers and people, delays
and times."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.script import Action, Script

SHORTER_S = (0.0, 0.01, 0.1, 0.5, 1.0)  # tried as shorter waits
SALTS = (None, *range(1, 6))

Fails = Callable[[Script], bool]


def kind_of(complaint: str) -> str:
    """Return what is equal in two complaints of one kind: the text without names, rooms and numbers."""
    without = re.sub(r"\{.*\}|\[.*\]|\(.*?\)|'.*?'", "..", complaint)
    return re.sub(r"(lease_\w+|[a-z_]*\d+(\.\d+)?|True|False|None)", "#", without)


def shrink(script: Script, say: Callable[[str], None] = lambda line: None) -> tuple[Script, str] | None:
    """Return the shortest script found that fails in the same way, and its complaint; None when nothing is broken in
    `script`."""
    from tests.sim import complaint_of

    first = complaint_of(script)
    if first is None:
        return None
    kind, tries = kind_of(first), 0
    say(f"{len(script.actions)} actions: {first}")

    def fails(candidate: Script) -> bool:
        nonlocal tries
        tries += 1
        if tries % 50 == 0:
            say(f"{tries} tries, {len(candidate.actions)} actions")
        complaint = complaint_of(candidate)
        return complaint is not None and kind_of(complaint) == kind

    script = with_fewer_actions(script, fails)
    while True:
        smaller = next((each for each in simpler(script) if fails(each)), None)
        if smaller is None:
            break
        script = with_fewer_actions(smaller, fails) if len(smaller.actions) == len(script.actions) else smaller
    last = complaint_of(script)
    assert last is not None
    say(f"{len(script.actions)} actions after {tries} tries: {last}")
    return script, last


def with_fewer_actions(script: Script, fails: Fails) -> Script:
    """Remove every run of actions that can go, down to single ones: none of the remaining actions can be removed by
    itself."""
    size = max(1, len(script.actions) // 2)
    while True:
        at, shorter = 0, False
        while at < len(script.actions):
            candidate = script.with_actions(script.actions[:at] + script.actions[at + size :])
            if fails(candidate):
                script, shorter = candidate, True
            else:
                at += size
        if size == 1 and not shorter:
            return script
        size = max(1, size // 2)


def simpler(script: Script) -> Iterator[Script]:
    """Yield scripts that are a little simpler than this one, the largest steps first. Every step only reduces the
    script, so that repeating it ends."""
    if script.salt is not None:
        for salt in SALTS[: SALTS.index(script.salt)] if script.salt in SALTS else SALTS:
            yield replace(script, salt=salt)
    if script.workers > 2:
        yield replace(script, workers=script.workers - 1)
    people = (each[0][1:] for each in script.actions if each[0][0] == "p")
    needed = 1 + max((int(number) for number in people if number.isdigit()), default=0)  # "presence" is no person
    if script.people > needed:
        yield replace(script, people=needed)
    for at, action in enumerate(script.actions):
        for other in _shorter(action):
            yield script.with_actions([*script.actions[:at], other, *script.actions[at + 1 :]])
        if action[0] == "wait" and at + 1 < len(script.actions) and script.actions[at + 1][0] == "wait":
            both = ["wait", round(action[1] + script.actions[at + 1][1], 3)]
            yield script.with_actions([*script.actions[:at], both, *script.actions[at + 2 :]])


def _shorter(action: Action) -> Iterator[Action]:
    """Yield the action with a shorter or rounder time."""
    if action[0] in ("wait", "stop", "cut") or action[1:2] == ["lose"]:
        for seconds in SHORTER_S:
            if seconds < action[-1]:
                yield [*action[:-1], seconds]
