"""What reaches callbacks, streams and the raw hook, against a fake server on a real socket."""

import contextlib

import pytest

from koko_presence.client import Room

from .fake_server import run, stage, until


def test_events_reach_callbacks_streams_and_the_state() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room("bob")
            seen = []
            stream = room.events()
            undo = room.on("cursor_moved", lambda event: seen.append((event.user_id, event.data.x)))
            await peer.event("cursor_moved", "bob", {"x": 0.5, "y": 0.5, "color": "#fff"}, seq=8)
            assert (await anext(stream)).type == "cursor_moved"
            undo()
            await peer.event("cursor_moved", "bob", {"x": 0.6, "y": 0.5, "color": "#fff"}, seq=9)
            await anext(stream)
            cursor = room.users["s_bob"].cursor
            assert seen == [("bob", 0.5)] and cursor is not None and cursor.x == 0.6 and room.seq == 9
            await client.close()

    run(test)


def test_a_message_in_pieces_is_put_together() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room("bob")
            stream = room.events()
            await peer.socket.send(
                ['{"type":"broadcast","roomId":"video_1","userId":"bob",', '"sessionId":"s","timestamp":"t","data":1}']
            )
            assert (await anext(stream)).data == 1
            await client.close()

    run(test)


def test_a_raw_hook_sees_bytes_first_and_may_keep_them() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room("bob")
            raw: list[bytes] = []

            def hook(data: bytes) -> bool:
                raw.append(data)
                return b"cursor_moved" in data

            undo = client.on_raw(hook)
            stream = room.events()
            await peer.event("cursor_moved", "bob", {"x": 0.5, "y": 0.5, "color": "#fff"})
            await peer.event("typing_started", "bob", {})
            assert (await anext(stream)).type == "typing_started"
            undo()
            await peer.event("typing_stopped", "bob", {})
            await anext(stream)
            assert len(raw) == 2 and room.users["s_bob"].cursor is None
            await client.close()

    run(test)


def test_an_error_without_a_pending_call_reaches_listeners_or_else_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            for _ in range(2):
                await peer.send("error", code="INVALID_DATA", message="100 % wrong", roomId="video_1")
            await until(lambda: bool(caplog.records))
            assert caplog.text.count("100 % wrong") == 1
            in_room, everywhere = [], []
            room.on("error", in_room.append)
            client.on("error", everywhere.append)
            await peer.send("error", code="TOO_LARGE", message="too large", roomId="video_1")
            await until(lambda: bool(everywhere))
            assert in_room == everywhere and in_room[0].code == "TOO_LARGE" and "too large" not in caplog.text
            await client.close()

    run(test)


def test_messages_of_a_newer_server_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room("bob")
            stream = room.events()
            await peer.send("from_the_future", year=2036)
            await peer.event("applauded", "bob", {"loud": True})
            event = await anext(stream)
            assert (event.type, event.data) == ("applauded", {"loud": True})
            assert "from_the_future" in caplog.text and client.status == "online"
            await client.close()

    run(test)


def test_a_room_is_collected_with_its_streams() -> None:
    async def test() -> None:
        async with stage() as it:
            client, _, room = await it.in_room()
            stream = room.events()
            assert len(room._streams) == 1
            del stream
            assert len(room._streams) == 0 and isinstance(room, Room)
            await client.close()

    run(test)


def test_a_message_in_endless_pieces_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koko_presence.client.link.MAX_FRAME_BYTES", 1000)

    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            with contextlib.suppress(Exception):  # how the server notices does not matter here
                await peer.socket.send(["x" * 400] * 10)
            await until(lambda: client.status == "offline")
            await client.close()

    run(test)
