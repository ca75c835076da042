"""Every field of every client message with every kind of wrong value: the sender gets the right error, and no other
client receives a message."""

from typing import Any

import msgspec
import pytest

from koko_presence.protocol.limits import Limits
from tests.examples import FULL
from tests.unit.test_protocol_schema import VALIDATORS
from tests.world import World

RIGHT = {type_: message for type_, message in FULL.items() if type_ not in ("auth", "set_status")}
WRONG: list[Any] = [None, True, 5, -5, 1e308, "", "x" * 9000, [], [1], {}, {"a": 1}, "NaN"]


def cases() -> list[Any]:
    """Return each message with each wrong value in each of its fields. The published schema says which are wrong."""
    found = []
    for type_, right in RIGHT.items():
        paths: list[tuple[str, ...]] = [(name,) for name in right if name != "type"]
        if type_ != "broadcast":
            paths += [("data", name) for name in right.get("data", {})]
        for path in paths:
            for value in WRONG:
                if not VALIDATORS["client"].is_valid(with_value(right, path, value)):
                    found.append(pytest.param(type_, path, value, id=f"{type_}.{'.'.join(path)}={str(value)[:12]}"))
    return found


def with_value(message: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a copy of `message` with another value at `path`."""
    copy: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(message))
    place = copy
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return copy


CASES = cases()


def test_there_are_five_hundred_kinds() -> None:
    assert len(CASES) >= 500


@pytest.fixture(scope="module")
def world() -> World:
    generous = dict.fromkeys(("max_errors", "max_protocol_errors"), 100_000)
    hz = {name: 100_000.0 for name in Limits.__struct_fields__ if name.endswith("_hz")}
    return World(**generous, **hz)


@pytest.mark.parametrize(("type_", "path", "value"), CASES)
def test_a_wrong_field_gets_its_error_and_no_other_client_gets_a_message(
    world: World, type_: str, path: tuple[str, ...], value: Any
) -> None:
    bob, ann = world.person("bob"), world.person("ann")
    bob.take()
    message = with_value({**RIGHT[type_], "id": 1}, path, value)
    ann.send(message)
    replies, heard = ann.take(), bob.take()
    for client in (ann, bob):
        client.hang_up(1000)
    assert [reply["type"] for reply in replies] == ["error"], replies
    error = replies[0]
    expected = {"INVALID_DATA"} if path[0] in ("data", "presence") else {"INVALID_MESSAGE"}
    if isinstance(value, str) and len(value) > 1000:
        expected.add("TOO_LARGE")
    assert error["code"] in expected, error
    assert error["message"] and (error.get("id") == 1 or path == ("id",))
    assert heard == []
