"""Cursors, selections, typing and reports: which values are sent when, on a fake clock."""

import pytest

from .fake_server import Peer, Stage, run, settle, stage, until


async def shown(it: Stage, peer: Peer, seconds: float = 1.0) -> list[dict[str, object]]:
    """Return the messages that arrive within `seconds` of fake time, without heartbeats."""
    for _ in range(round(seconds / 0.05)):
        it.timers.advance(0.05)
    await settle()
    new, peer.unread[:] = [each for each in peer.unread if each["type"] != "heartbeat"], []
    return new


def test_a_flood_of_cursors_becomes_the_first_and_the_last_e1() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            for second in range(1000):
                room.cursor(float(second), 0.5, 0.5)
            messages = await shown(it, peer)
            assert [message["data"]["timestamp"] for message in messages] == [0, 999]  # type: ignore[index]
            await client.close()

    run(test)


def test_the_rooms_advised_interval_is_kept_also_when_it_changes_l2() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            await peer.send("server_notice", code="SLOW_DOWN", message=".", roomId="video_1", sendIntervalMs=500)
            await until(lambda: room.send_interval_ms == 500)
            count = 0
            for step in range(40):  # two seconds
                room.cursor(float(step))
                count += len(await shown(it, peer, 0.05))
            assert count == 4
            await client.close()

    run(test)


def test_cursors_are_clamped_and_hidden_e3_e5() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            room.cursor(-1.0, 1.5, -0.5, target="left")
            [first] = await shown(it, peer)
            assert first["data"] == {"timestamp": 0, "x": 1, "y": 0, "target": "left"}
            room.hide_cursor()
            room.selection(1.0, 2.0)
            hidden, selected = await shown(it, peer)
            assert hidden["data"] is None and selected["data"] == {"startTime": 1, "endTime": 2}
            room.clear_selection()
            [cleared] = await shown(it, peer)
            assert (cleared["type"], cleared["data"]) == ("selection", None)
            await client.close()

    run(test)


def test_typing_is_sent_twice_a_second_at_most_and_a_stop_is_not_lost_g3() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            for _ in range(20):
                room.typing(True, "comment")
            room.typing(False)
            assert [message["data"] for message in await shown(it, peer)] == [
                {"isTyping": True, "context": "comment"},
                {"isTyping": False},
            ]
            await client.close()

    run(test)


def test_reports_go_out_once_a_second_and_sooner_on_a_change_h6() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            room.report(True, 10.0)
            [first] = await shown(it, peer, 0.1)
            assert first["data"] == {
                "action": "report", "isPlaying": True, "currentTime": 10, "playbackRate": 1,
                "at": first["data"]["at"], "maxAgeMs": 2000,  # type: ignore[index]
            }  # fmt: skip
            room.report(True, 10.1)
            assert await shown(it, peer, 0.8) == []
            [steady] = await shown(it, peer, 0.2)
            assert steady["data"]["currentTime"] == pytest.approx(11.0)  # type: ignore[index]
            assert steady["data"]["at"] - first["data"]["at"] == pytest.approx(1000.0)  # type: ignore[index]
            room.report(False, 11.0)
            [change] = await shown(it, peer, 0.25)
            assert change["data"]["isPlaying"] is False  # type: ignore[index]
            await client.close()

    run(test)


def test_while_the_socket_is_full_only_the_newest_value_waits() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            client._line.on_unwritable()
            for second in range(10):
                room.cursor(float(second))
            assert await shown(it, peer) == []
            client._line.on_writable()
            assert [message["data"]["timestamp"] for message in await shown(it, peer)] == [9]  # type: ignore[index]
            await client.close()

    run(test)
