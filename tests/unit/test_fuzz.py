"""Mutated messages to a live room (20,000; `make test-long`: 100,000): the room stays alive, no error is logged, and
the other members receive valid events only."""

import json
import logging
import math
import random
from typing import Any

import msgspec
import pytest

from koko_presence.protocol import events
from tests.examples import FULL, ROOM
from tests.world import Client, World

HOSTILE = 6
REPORT = {"action": "report", "isPlaying": True, "currentTime": 45.5, "playbackRate": 1.0, "buffering": False}
SEEDS: list[dict[str, Any]] = [*FULL.values(), {"type": "playback", "roomId": ROOM, "data": REPORT}]
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1e308, -1e308, 5e-324, 2**53, 2**64, -(2**63), "", "x" * 300, "\x00", "‮", "𝄞" * 50,
    [], [[]], {}, {"__proto__": {}}, {"constructor": 1}, {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}, "NaN",
]  # fmt: skip
RAW = [
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"[" * 3000,
    b'{"a":' * 2000,
    b"9" * 5001,
    b'"\\ud800"',
    b"01",
    b"+1",
    b"''",
]


def mutate(chance: random.Random) -> bytes:
    """Return one message, damaged in one of many ways; always valid UTF-8, as the connection guarantees."""
    message = json.loads(json.dumps(chance.choice(SEEDS)))
    kind = chance.randrange(9)
    if kind == 0:
        place = message if chance.random() < 0.5 or "data" not in message else message["data"]
        place[chance.choice([*place, "id", "extra"])] = chance.choice(STRANGE)
    elif kind == 1:
        place = message if chance.random() < 0.3 or not message.get("data") else message["data"]
        del place[chance.choice(list(place))]
    elif kind == 2:
        message["data"] = chance.choice(STRANGE)
    elif kind == 3:
        other = chance.choice(SEEDS)
        message |= {"data": other.get("data", 1), "roomId": chance.choice(["video_123", "video_9", "", "x" * 200])}
    data = json.dumps(message, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if kind == 4:
        at = chance.randrange(len(data))
        data = data[:at] + bytes([chance.randrange(128)]) + data[at + 1 :]
    elif kind == 5:
        data = data[: chance.randrange(len(data))]
    elif kind == 6:
        at = data.find(b":", chance.randrange(len(data)))
        data = data[: at + 1] + chance.choice(RAW) + data[at + 1 :]
    elif kind == 7:
        field = chance.choice([b'"type":"leave",', b'"roomId":5,', b'"data":null,', b'"id":[],', b'"__proto__":{},'])
        data = data[:1] + field + data[1:]
    return data.decode("utf-8", "ignore").encode()


def finite(text: str) -> float:
    value = float(text)
    assert math.isfinite(value), f"{text} is infinity to whoever parses it"
    return value


def check_event(raw: bytes) -> str:
    """Decode a message as a strict client does: UTF-8, known type, known shape, finite numbers. Return its type."""
    text = raw.decode()  # strict: the encoded half of a surrogate pair is no UTF-8
    message = json.loads(text, parse_float=finite, parse_constant=finite)
    json.dumps(message, ensure_ascii=False).encode()  # nor may an escaped half be hidden in a text
    type_ = str(message["type"])
    if type_ == "broadcast":
        assert isinstance(message["data"], dict)
    elif type_ in events.EVENTS:
        msgspec.convert(message["data"], events.EVENTS[type_])
    if type_ in events.EVENTS:
        event = msgspec.convert(message, events.Event)
        assert event.room_id == ROOM and event.user_id and event.session_id
    else:
        msgspec.convert(message, events.SERVER_MESSAGES[type_])
    return type_


@pytest.mark.deep
@pytest.mark.parametrize("messages", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_mutated_messages_harm_no_client(messages: int, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(20250115)
    world = World()
    innocent = [world.person(name) for name in ("ann", "bob")]
    hostile: list[Client] = []
    cut = 0
    seen: dict[str, int] = {}
    with caplog.at_level(logging.WARNING):
        for number in range(messages):
            if len(hostile) < HOSTILE:
                hostile.append(world.person(f"eve{chance.randrange(4)}"))
            enemy = chance.choice(hostile)
            enemy.post(mutate(chance))
            if number % 20 == 0:
                world.sleep(chance.random() * 0.2)
            if number % 500 == 0:
                for client in innocent:
                    client.post(type="heartbeat", status="active")
                    client.post(type="cursor", roomId="video_123", data={"timestamp": number, "x": 0.5, "y": 0.5})
                for client in innocent:
                    for raw in client.raw:
                        type_ = check_event(raw)
                        seen[type_] = seen.get(type_, 0) + 1
                    client.raw.clear()
            cut += sum(1 for client in hostile if client.closed is not None)
            hostile = [client for client in hostile if client.closed is None]
    assert [record.getMessage() for record in caplog.records] == []
    assert all(client.closed is None for client in innocent)
    assert cut > 100, "the hostile are cut off again and again"
    assert {"cursor_moved", "typing_started", "broadcast", "user_joined", "user_left", "status_changed"} <= set(seen)
    assert set(seen) & {"error", "server_notice"} <= {"server_notice"}, "errors go to who made them"
    world.sleep(200)
    assert not world.shard.rooms["video_123"].people.keys() - {"ann", "bob"} if world.shard.rooms else True


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"ack","x":1e999}',
        b'{"type":"ack","x":"\xed\xa0\x80"}',
        b'{"type":"ack","x":"\\ud800"}',
        b'{"type":"ack","x":NaN}',
    ],
)
def test_the_checker_itself_refuses_what_no_client_could_read(raw: bytes) -> None:
    with pytest.raises((AssertionError, UnicodeError)):
        check_event(raw)
