"""Broken frames, invalid UTF-8 and mutated messages sent to the real server; other members receive only valid
messages."""

import asyncio
import json
import logging
import random

import pytest

from tests.integration.conftest import Run
from tests.integration.test_scenarios import ROOM, person
from tests.live import Live, live
from tests.raw_ws import BINARY, CONTINUATION, PING, TEXT, RawSocket, frame
from tests.unit.test_fuzz import check_event, mutate
from tests.waiting import PATIENCE_S

MESSAGES = 5_000


def attack(server: Live, seed: int) -> int:
    """One hostile user, who reconnects after every close. Returns the number of closes."""
    chance = random.Random(seed)
    port = server.worker.port
    token = server.token(f"eve{seed}")
    sent = ends = 0
    while sent < MESSAGES // 4:
        try:
            with RawSocket(port) as ws:
                ws.upgrade()
                ws.send(frame(TEXT, json.dumps({"type": "auth", "token": token}).encode()))
                ws.send(frame(TEXT, json.dumps({"type": "join", "roomId": ROOM, "roomType": "video"}).encode()))
                for _ in range(100):
                    data = mutate(chance)
                    kind = chance.randrange(12)
                    if kind == 0:
                        data = data.replace(b"a", bytes([chance.randrange(128, 256)]), 1)
                    elif kind == 1:
                        ws.send(bytes(chance.randrange(256) for _ in range(20)))
                    opcode = chance.choice([TEXT] * 20 + [BINARY, CONTINUATION, PING])
                    ws.send(frame(opcode, data[:120] if opcode == PING else data, fin=chance.random() > 0.05))
                    sent += 1
        except OSError:
            pass
        except EOFError:
            pass
        ends += 1
    return ends


def test_hostile_bytes_on_the_wire_affect_no_other_member(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with live(join_hz=1000) as server, person(server, "ann") as ann, person(server, "bob") as bob:
            attacks = asyncio.gather(*(asyncio.to_thread(attack, server, seed) for seed in range(4)))
            watching = asyncio.ensure_future(watch(bob.ws))
            number = 0
            while not attacks.done():
                number += 1
                await ann.send(type="cursor", roomId=ROOM, data={"timestamp": number})
                await asyncio.sleep(0.05)
            assert sum(attacks.result()) > 20
            await ann.send(type="broadcast", roomId=ROOM, data={"all": "over"})
            seen = await asyncio.wait_for(watching, PATIENCE_S)
            assert {"cursor_moved", "broadcast", "user_joined"} <= seen

    with caplog.at_level(logging.WARNING, logger="koko_presence"):
        run(test())
    assert [record.getMessage() for record in caplog.records if record.name.startswith("koko_presence")] == []


async def watch(ws: object) -> set[str]:
    """Check every message that a well-behaved member receives, up to the last one. Returns their types."""
    seen = set()
    async for text in ws:  # type: ignore[attr-defined]
        seen.add(check_event(text.encode()))
        if '"all":' in text:
            break
    return seen


def test_regression_pings_of_a_client_that_never_reads_are_not_answered_for_ever(run: Run) -> None:
    """The pongs that the client did not read were kept in memory: one unauthenticated socket used half a gigabyte in 6
    s."""

    async def test() -> None:
        async with live() as server:

            def attack() -> bool:
                with RawSocket(server.worker.port) as ws:
                    ws.upgrade()
                    pings = frame(PING, b"x" * 125) * 500
                    try:
                        for _ in range(2000):
                            ws.send(pings)
                    except ConnectionError:  # a reset, not a time-out
                        return True
                return False

            assert await asyncio.to_thread(attack), "it was never cut off"

    run(test())
