"""After a reconnect: what is joined, sent and requested again, and what is not. The fake server closes, the clock is
fake."""

import asyncio

import pytest

from koko_presence.client import PresenceOffline, PresenceRefused

from .fake_server import run, settle, stage, until


def test_rooms_are_joined_again_and_the_snapshot_replaces_all_that_was_known_c4() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room("bob", "eve")
            snapshots, stream = [], room.events()
            room.on("joined", snapshots.append)
            await peer.cut()
            await until(lambda: not room.joined)
            assert list(room.people) == ["ann", "bob", "eve"]  # the last known state stays readable
            peer = await it.meet_after(0.5)
            await peer.welcome(sessionId="s_new")
            join = await peer.let_in("eve", "zoe", controller="eve")
            await until(lambda: room.joined)
            assert (join["roomId"], join["roomType"]) == ("video_1", "video")
            assert list(room.people) == ["ann", "eve", "zoe"] and room.controller == "eve" and snapshots == [room]
            await peer.event("typing_started", "zoe", {})
            assert (await anext(stream)).type == "typing_started"  # streams continue
            await client.close()

    run(test)


def test_cursor_and_selection_are_shown_again_in_the_order_of_the_join() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            room.cursor(1.0, 0.1, 0.1)
            room.selection(1.0, 2.0)
            room.typing(True)
            await until(lambda: peer.got[-1]["type"] == "typing")
            await peer.cut()
            await until(lambda: not room.joined)
            peer = await it.meet_after(0.5)
            await peer.welcome(resumed=True)
            await peer.let_in()
            assert (await peer.expect("cursor"))["data"] == {"timestamp": 1, "x": 0.1, "y": 0.1}
            assert (await peer.expect("selection"))["data"] == {"startTime": 1, "endTime": 2}
            await settle()
            assert peer.unread == []  # typing had been sent, and may be over by now
            await client.close()

    run(test)


def test_what_is_shown_again_stays_in_the_film_in_which_it_was_made_h19() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            joining = asyncio.ensure_future(client.join("video_1", "video"))
            await peer.let_in(media={"main": {"mediaId": "film_1"}, "left": {"mediaId": "other"}})
            room = await joining
            room.cursor(1.0, target="left")
            room.selection(1.0, 2.0)
            await until(lambda: peer.got[-1]["type"] == "selection")
            playback = {"isPlaying": False, "currentTime": 0, "playbackRate": 1, "anchor": 5, "version": 1}
            changed = {"target": "main", "medium": {"mediaId": "film_2"}, "playback": playback}
            await peer.event("media_changed", "bob", changed)
            await until(lambda: room.media["main"].media_id == "film_2")
            await peer.cut()
            await until(lambda: not room.joined)
            peer = await it.meet_after(0.5)
            await peer.welcome()
            await peer.let_in(media={"main": {"mediaId": "film_2"}})
            assert (await peer.expect("cursor"))["data"] == {"timestamp": 1, "target": "left", "mediaId": "other"}
            assert (await peer.expect("selection"))["data"] == {"startTime": 1, "endTime": 2, "mediaId": "film_1"}
            await client.close()

    run(test)


def test_what_is_shown_while_offline_is_one_value_per_kind() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            room.cursor(1.0)
            room.selection(1.0, 2.0)
            await peer.cut()
            await until(lambda: not room.joined)
            for second in range(1000):
                room.cursor(float(second))
                room.report(True, float(second))
            room.hide_cursor()
            room.clear_selection()
            peer = await it.meet_after(0.5)
            await peer.welcome()
            await peer.let_in()
            assert (await peer.expect("cursor"))["data"] is None
            assert (await peer.expect("selection"))["data"] is None
            report = (await peer.expect("playback"))["data"]
            assert report["currentTime"] == pytest.approx(999.5, abs=0.1)  # half a second has passed since
            it.timers.advance(3.0)
            await settle()
            assert peer.unread == []
            await client.close()

    run(test)


def test_expired_typing_is_not_sent_after_five_seconds_g1() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room(max_backoff_s=8.0)
            await peer.close(1013)
            await until(lambda: not room.joined)
            room.typing(True, "comment")
            peer = await it.meet_after(6.0)
            await peer.welcome()
            await peer.let_in()
            room.typing(True, "reply")
            assert (await peer.expect("typing"))["data"]["context"] == "reply"
            await client.close()

    run(test)


def test_a_call_made_while_offline_is_sent_once_the_room_is_there_again() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            await peer.cut()
            await until(lambda: not room.joined)
            calling = asyncio.ensure_future(room.broadcast({"n": 1}))
            peer = await it.meet_after(0.5)
            await peer.welcome()
            await peer.let_in()
            message = await peer.expect("broadcast")
            await peer.send("ack", id=message["id"], success=True, delivered=0)
            assert await calling == 0
            await client.close()

    run(test)


def test_a_call_whose_answer_was_lost_fails_and_is_not_repeated_j2() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            calling = asyncio.ensure_future(room.broadcast({"n": 1}))
            await peer.expect("broadcast")
            await peer.cut()
            with pytest.raises(PresenceOffline, match="before the answer came"):
                await calling
            peer = await it.meet_after(0.5)
            await peer.welcome()
            await peer.let_in()
            await settle()
            assert not any(message["type"] == "broadcast" for message in peer.got)
            await client.close()

    run(test)


def test_a_join_whose_answer_was_lost_is_repeated() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            joining = asyncio.ensure_future(client.join("video_1", "video"))
            await peer.expect("join")
            await peer.cut()
            await until(lambda: client.status == "offline")
            peer = await it.meet_after(0.5)
            await peer.welcome()
            await peer.let_in("bob")
            assert list((await joining).people) == ["ann", "bob"]
            assert sum(message["type"] == "join" for message in peer.got) == 1
            await client.close()

    run(test)


def test_a_room_left_while_offline_is_left_on_the_resumed_session() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            await peer.cut()
            await until(lambda: not room.joined)
            await room.leave()
            peer = await it.meet_after(0.5)
            await peer.welcome(resumed=True, rooms=["video_1"])
            assert (await peer.expect("leave"))["roomId"] == "video_1"
            assert client.rooms == {}
            await client.close()

    run(test)


def test_a_room_that_refuses_the_rejoin_ends_with_the_reason() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            closed = []
            room.on("closed", closed.append)
            await peer.cut()
            peer = await it.meet_after(0.5)
            await peer.welcome()
            join = await peer.expect("join")
            await peer.send("error", id=join["id"], code="ROOM_FULL", message="Full.", roomId="video_1")
            await until(lambda: bool(closed))
            assert isinstance(closed[0], PresenceRefused) and closed[0].code == "ROOM_FULL" and client.rooms == {}
            await client.close()

    run(test)


@pytest.mark.parametrize("code", ["RATE_LIMITED", "FORBIDDEN"])
def test_a_rejoin_is_tried_again_when_the_server_says_so(code: str) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            await peer.cut()
            peer = await it.meet_after(0.5)
            await peer.welcome()
            join = await peer.expect("join")
            await peer.send("error", id=join["id"], code=code, message="Slow.", retryAfterMs=2000)
            await it.waits(3.0)  # 2 s and half of it again
            it.timers.advance(2.9)
            await settle()
            assert not any(message["type"] == "join" for message in peer.unread)
            it.timers.advance(0.2)
            await peer.let_in()
            await until(lambda: room.joined)
            await client.close()

    run(test)


@pytest.mark.parametrize("resumed", [True, False])
def test_the_status_is_set_again_only_when_the_session_is_a_new_one_d14(resumed: bool) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            setting = asyncio.ensure_future(client.set_status("busy"))
            message = await peer.expect("status")
            await peer.send("ack", id=message["id"], success=True)
            await setting
            await peer.cut()
            peer = await it.meet_after(0.5)
            await peer.welcome(resumed=resumed)
            await until(lambda: client.status == "online")
            await settle()
            said = [message["data"] for message in peer.unread if message["type"] == "status"]
            assert said == ([] if resumed else [{"status": "busy"}])
            await client.close()

    run(test)


def test_privacy_travels_with_auth_so_that_there_is_no_visible_instant_k1() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            for change in ({"invisible": True}, {"share_cursor": False}):
                hiding = asyncio.ensure_future(client.set_privacy(**change))
                message = await peer.expect("privacy")
                await peer.send("ack", id=message["id"], success=True)
                await hiding
            await peer.cut()
            peer = await it.meet_after(0.5)
            assert (await peer.welcome())["privacy"] == {"invisible": True, "shareCursor": False}
            await client.close()

    run(test)


def test_an_event_before_the_new_snapshot_is_not_folded_into_the_old_one() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room("bob")
            await peer.cut()
            peer = await it.meet_after(0.5)
            await peer.welcome()
            await peer.expect("join")
            await peer.event("user_left", "bob", {"reason": "left", "sessionCount": 0})
            await settle()
            assert "bob" in room.people and not room.joined
            await client.close()

    run(test)
