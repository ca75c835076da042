"""Cases as files: one message in, and exactly the listed messages out for every member of the room.

`people` are members of room video_123 when a case begins; the messages of `before` are sent first and their effects not
compared. What the sender "back end" sends are settings of the room, by the server API. `get` lists every message that each person then receives, in order, with every field: none may be added or
missing; key order does not matter. "*" stands for a value that no example can fix: a time, an id, a colour.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from koko_presence.protocol.events import EVENTS
from koko_presence.protocol.messages import MESSAGES, ROOM_MESSAGES
from tests.world import Client, World

CLOCK, BACK_END = "clock", "back end"
FILES = sorted((Path(__file__).parent.parent / "cases").glob("*.json"))
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['name']}")
    for file in FILES
    for case in msgspec.json.decode(file.read_bytes())
]


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any]) -> None:
    world = World()
    people = {name: world.person(name) for name in case["people"]}
    for name, _ in case["send"]:
        if name not in people and name != BACK_END:
            people[name] = world.client()
    for name, message in case["before"]:
        send(world, people, name, message)
        world.sleep(0.1)
    for person in people.values():
        person.take()
    for name, message in case["send"]:
        send(world, people, name, message)
    for name, expected in case["get"].items():
        received = people[name].take()
        assert len(received) == len(expected), (name, received)
        for message, pattern in zip(received, expected, strict=True):
            assert matches(message, pattern), f"{name} got {message}, not {pattern}"


def send(world: World, people: dict[str, Client], name: str, message: Any) -> None:
    """Send a message of one of `people`, or a change of the room's settings by the back end; for `CLOCK` let seconds
    pass."""
    if name == BACK_END:
        world.change_room(**message)
    elif name == CLOCK:
        world.sleep(message)
    else:
        people[name].send(message)


def matches(value: Any, pattern: Any) -> bool:
    """Whether the value equals the pattern, types included, except where the pattern holds "*"."""
    if pattern == "*":
        return True
    if isinstance(pattern, dict):
        return (
            isinstance(value, dict)
            and set(value) == set(pattern)
            and all(matches(value[key], pattern[key]) for key in pattern)
        )
    if isinstance(pattern, list):
        return (
            isinstance(value, list)
            and len(value) == len(pattern)
            and all(matches(*pair) for pair in zip(value, pattern, strict=True))
        )
    return type(value) is type(pattern) and value == pattern


def events_of(case: dict[str, Any]) -> set[str]:
    """Return the types of the events in a case."""
    received = (message for each in case["get"].values() for message in each)
    return {message["type"] for message in received if message != "*" and message["type"] in EVENTS}


SENT = [
    (message["type"], case.values[0]) for case in CASES for name, message in case.values[0]["send"] if name != BACK_END
]
# causes without a case, with the tests that show them
ELSEWHERE = {("control_release", "control_granted")}  # only with rooms.auto_grant: rules/test_ijk.py, I6


@pytest.mark.parametrize("type_", sorted(set(MESSAGES) - {"set_status"}))
def test_every_message_of_clients_has_a_case(type_: str) -> None:
    assert type_ in {sent for sent, _ in SENT}, f"no case in tests/cases sends {type_!r}"


@pytest.mark.parametrize(
    ("type_", "event"),
    [(type_, data.event) for type_, message in ROOM_MESSAGES.items() for data in message.causes],
)
def test_every_event_that_a_message_to_a_room_causes_has_a_case(type_: str, event: str) -> None:
    shown = any(sent == type_ and event in events_of(case) for sent, case in SENT)
    assert shown or (type_, event) in ELSEWHERE, f"no case in tests/cases sends {type_!r} and gets {event!r}"


@pytest.mark.parametrize("type_", MESSAGES)
def test_a_message_causes_the_declared_events_only(type_: str) -> None:
    declared = {data.event for data in MESSAGES[type_].causes}
    for sent, case in SENT:
        if sent == type_ and len(case["send"]) == 1:
            assert events_of(case) <= declared, f"{case['name']}: {MESSAGES[type_].__name__} does not declare it"


@pytest.mark.parametrize("event", [event for event, data in EVENTS.items() if data.by_system])
def test_every_event_that_no_message_causes_has_a_case(event: str) -> None:
    assert any(event in events_of(case.values[0]) for case in CASES), f"no case in tests/cases gets {event!r}"


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_caused_by_a_message(event: str) -> None:
    causes = {data.event for message in MESSAGES.values() for data in message.causes}
    assert (event in causes) is not EVENTS[event].by_system, (
        f"no message of protocol/messages.py names {EVENTS[event].__name__} among its causes"
    )


def test_the_comparison_can_fail() -> None:
    assert not matches({"a": 1}, {"a": 2})
    assert not matches({"a": 1, "b": 2}, {"a": 1})
    assert not matches({"a": 1}, {"a": True})
    assert not matches([1], [1, 2])
    assert matches({"a": [1, "x"]}, {"a": ["*", "x"]})
