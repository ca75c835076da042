"""The same messages, cut into TCP segments of different sizes. The prefilter takes plain cursors out of the byte stream
early; no message is lost or handled twice."""

import asyncio
import json
import socket
from typing import Any

import pytest

from tests.integration.conftest import Run
from tests.live import live
from tests.raw_ws import CONTINUATION, PING, TEXT, frame, handshake


def say(type_: str, **more: Any) -> bytes:
    return json.dumps({"type": type_, "roomId": "room_1", **more}).encode()


def cursor(x: float) -> bytes:
    return frame(TEXT, say("cursor", data={"x": x, "y": 0.5}))


TALK = b"".join(
    [
        cursor(0.125),
        frame(PING, b"are you there"),
        cursor(0.25),
        frame(TEXT, say("typing", data={"isTyping": True, "context": "é" * 30})),
        frame(TEXT, say("cursor", data={"x": 0.375, "y": 0.5})[:20], fin=False),
        frame(PING, b"between"),
        frame(CONTINUATION, say("cursor", data={"x": 0.375, "y": 0.5})[20:]),
        cursor(0.5),
        frame(TEXT, say("broadcast", data={"x": "y" * 3000})),
        cursor(0.625),
        frame(TEXT, say("get_active", id=7)),
        cursor(0.75),
    ]
)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 11, 64, 100, 997, 4096, 100_000])
def test_every_cut_of_the_stream_has_the_same_result(run: Run, step: int) -> None:
    async def test() -> None:
        async with live(cursor_hz=100_000) as server:
            bob_reader, bob = await asyncio.open_connection("127.0.0.1", server.worker.port)
            bob.write(handshake() + frame(TEXT, say("auth", token=server.token("bob"))))
            bob.write(frame(TEXT, say("join", roomType="project")))
            got = b""
            while b'"joined"' not in got:
                got += await bob_reader.read(65536)
            reader, ann = await asyncio.open_connection("127.0.0.1", server.worker.port)
            ann.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # the first frames follow the request directly, in one segment if `step` is large
            data = handshake() + frame(TEXT, say("auth", token=server.token("ann")))
            data += frame(TEXT, say("join", roomType="project")) + TALK
            for at in range(0, len(data), step):
                ann.write(data[at : at + step])
                if at % (step * 50) == 0:
                    await asyncio.sleep(0)
            heard = b""
            while b'"type":"active"' not in heard:
                heard += await reader.read(65536)
            # one pong, with the last payload, answers all pings that were read together [RFC 6455 section 5.5.3]
            assert heard.count(b"\x8a\x0dare you there") <= heard.count(b"\x8a\x07between") == 1
            assert b'"error"' not in heard
            while b'"x":0.75' not in got:
                got += await bob_reader.read(65536)
            places = [got.find(b'"x":%s,' % str(x).encode()) for x in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)]
            # cursors above the rate limit are merged, and so are all cursors before the answer to the join
            shown = [place for place in places if place >= 0]
            assert shown == sorted(shown) and got.count(b"cursor_moved") == len(shown) >= 1
            assert got.count(b"typing_started") == got.count(b'"type":"broadcast"') == 1
            for writer in (ann, bob):
                writer.close()
                await writer.wait_closed()

    run(test())
