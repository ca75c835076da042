"""Rooms and answers: every call that is awaited, against a fake server on a real socket."""

import asyncio
import contextlib
import math

import pytest

from koko_presence.client import PresenceOffline, PresenceRefused, Privacy
from koko_presence.client.pending import MAX_HELD

from .fake_server import run, settle, stage, until

PLAYING = {"isPlaying": True, "currentTime": 5.0, "playbackRate": 1.0, "anchor": 1_736_937_000_000, "version": 3}


def test_join_gives_the_room_as_the_server_shows_it() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            joining = asyncio.ensure_future(client.join("video_1", "video", privacy=Privacy(share_cursor=False)))
            join = await peer.let_in("bob", playback=PLAYING, controller="bob")
            room = await joining
            assert (join["roomType"], join["privacy"]) == ("video", {"shareCursor": False})
            assert (room.color, room.seq, room.controller, room.type) == ("#3B82F6", 7, "bob", "video")
            assert list(room.people) == ["ann", "bob"] and [user.user_id for user in room.others] == ["bob"]
            assert room.playback is not None and room.playback.position(1_736_937_001_000) == 6.0
            assert await client.join("video_1") is room
            await client.close()

    run(test)


def test_media_are_set_and_followed_h17_h18() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            setting = asyncio.ensure_future(room.set_media("film_2", frame_rate=25, title="Cut 2", target="left"))
            asked = await peer.expect("media")
            assert asked["data"] == {
                "target": "left", "mediaId": "film_2", "frameRate": 25.0, "title": "Cut 2",
                "at": client.server_now_ms(), "maxAgeMs": 2000,
            }  # fmt: skip
            await peer.send(
                "media_changed", roomId="video_1", userId="ann", sessionId="s_ann", timestamp="2025-01-15T10:30:00Z",
                seq=8, data={"target": "left", "medium": {"mediaId": "film_2"}, "playback": PLAYING | {"frame": 4}},
            )  # fmt: skip
            await peer.send("ack", id=asked["id"], success=True)
            await setting
            assert room.media["left"].media_id == "film_2"
            setting = asyncio.ensure_future(room.set_media("film_2", max_age_ms=None))
            asked = await peer.expect("media")
            assert "maxAgeMs" not in asked["data"]
            await peer.send("ack", id=asked["id"], success=True)
            await setting
            assert room.playback is not None and (room.playback.version, room.playback.frame) == (3, 4)
            stepping = asyncio.ensure_future(room.sync_playback("step", frames=-2, media_id="film_2"))
            asked = await peer.expect("playback")
            assert (asked["data"]["frames"], asked["data"]["mediaId"]) == (-2, "film_2")
            await peer.send("ack", id=asked["id"], success=True)
            await stepping
            with pytest.raises(ValueError, match="frameRate"):
                await room.set_media("film_3", frame_rate=5000)
            await client.close()

    run(test)


def test_a_rejoin_says_what_is_known_of_the_playback_h24() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            joining = asyncio.ensure_future(client.join("video_1", "video"))
            media = {"main": {"mediaId": "film_1", "frameRate": "24000/1001"}}
            join = await peer.let_in(playback=PLAYING | {"duration": 60.0}, media=media)
            room = await joining
            assert "known" not in join
            assert room.rights is not None and room.rights.control and not room.rights.moderate
            heard_at_ms = client.server_now_ms()
            await peer.close(1012)
            again = await it.meet_after(0.5)
            await again.welcome()
            join = await again.expect("join")
            at = join["known"].pop("at")
            assert at == pytest.approx(heard_at_ms, abs=1.0)
            assert join["known"] == {
                "playback": PLAYING | {"duration": 60.0, "anchor": 1_736_937_000_000.0},
                "media": media,
            }
            await client.close()

    run(test)


def test_two_concurrent_joins_share_one_join() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            first, second = (asyncio.ensure_future(client.join("video_1", "video")) for _ in range(2))
            await settle()
            first.cancel()  # one caller may be cancelled without harm to the other
            await peer.let_in()
            assert (await second).joined and client.rooms["video_1"] is second.result()
            assert sum(message["type"] == "join" for message in peer.got) == 1
            await client.close()

    run(test)


def test_a_refused_join_raises_with_all_fields_of_the_servers_error_l6() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            joining = asyncio.ensure_future(client.join("video_1", "video"))
            join = await peer.expect("join")
            await peer.send(
                "error", id=join["id"], code="RATE_LIMITED", message="Slow.", roomId="video_1", retryAfterMs=9
            )
            with pytest.raises(PresenceRefused, match=r"RATE_LIMITED: Slow\.") as refused:
                await joining
            assert (refused.value.code, refused.value.retry_after_ms) == ("RATE_LIMITED", 9)
            assert refused.value.room_id == "video_1" and client.rooms == {}
            await client.close()

    run(test)


def test_answers_find_their_requests_in_any_order_b8() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            control = asyncio.ensure_future(room.request_control())
            broadcast = asyncio.ensure_future(room.broadcast({"emoji": "👍"}, to=["bob"]))
            asked, sent = await peer.expect("control_request"), await peer.expect("broadcast")
            assert (sent["data"], sent["to"]) == ({"emoji": "👍"}, ["bob"])
            await peer.send("ack", id=sent["id"], success=True, delivered=4)
            await peer.send("ack", id=asked["id"], success=True, granted=True, controller="ann")
            assert (await broadcast, await control) == (4, True)
            await client.close()

    run(test)


@pytest.mark.parametrize(
    ("call", "type_", "data"),
    [
        (lambda room: room.grant_control("bob"), "control_grant", {"toUserId": "bob"}),
        (lambda room: room.deny_control("bob"), "control_deny", {"toUserId": "bob"}),
        (lambda room: room.release_control(), "control_release", None),
        (lambda room: room.cancel_request(), "control_cancel", None),
    ],
)
def test_control_messages_are_those_of_the_protocol_i5(call, type_: str, data: object) -> None:  # type: ignore[no-untyped-def]
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            calling = asyncio.ensure_future(call(room))
            message = await peer.expect(type_)
            await peer.send("ack", id=message["id"], success=True)
            await calling
            assert (message["roomId"], message.get("data")) == ("video_1", data)
            await client.close()

    run(test)


def test_playback_returns_the_new_state_and_sends_its_time_h4() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            calling = asyncio.ensure_future(room.sync_playback("seek", current_time=5.0, base_version=2))
            message = await peer.expect("playback")
            at = {"at": 1_736_937_000_000, "maxAgeMs": 2000}
            assert message["data"] == {"action": "seek", "currentTime": 5.0, "baseVersion": 2} | at
            await peer.send("ack", id=message["id"], success=True, **PLAYING)
            state = await calling
            assert state is room.playback and state is not None and (state.version, state.current_time) == (3, 5.0)
            await client.close()

    run(test)


def test_a_refused_playback_returns_the_rooms_state_h1() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            calling = asyncio.ensure_future(room.sync_playback("play"))
            message = await peer.expect("playback")
            await peer.send("error", id=message["id"], code="NOT_CONTROLLER", message="Ask first.", state=PLAYING)
            with pytest.raises(PresenceRefused) as refused:
                await calling
            assert refused.value.state == PLAYING and room.playback is not None and room.playback.version == 3
            await client.close()

    run(test)


def test_wrong_use_raises_before_anything_is_sent() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            with pytest.raises(ValueError, match="currentTime"):
                await room.sync_playback("seek")
            with pytest.raises(ValueError, match=r"room\.report"):
                await room.sync_playback("report", is_playing=True, current_time=1.0, playback_rate=1.0)
            with pytest.raises(ValueError, match="100 characters"):
                await client.set_status("busy", "👍" * 60)
            for wrong in (
                lambda: room.cursor(math.nan),
                lambda: room.cursor(x=0.5),
                lambda: room.selection(2.0, 1.0),
            ):
                with pytest.raises(ValueError):
                    wrong()
            await settle()
            assert [message["type"] for message in peer.got] == ["auth", "heartbeat", "join"]
            await client.close()

    run(test)


def test_no_answer_in_time_is_offline_and_a_late_one_is_ignored() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room(timeout_s=3.0)
            calling = asyncio.ensure_future(room.request_control())
            message = await peer.expect("control_request")
            it.timers.advance(3.1)
            with pytest.raises(PresenceOffline, match="no answer within 3 s"):
                await calling
            await peer.send("ack", id=message["id"], success=True, granted=True)
            await settle()
            assert client.status == "online"
            await client.close()

    run(test)


def test_get_active_queries_without_joining_c14() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            asking = asyncio.ensure_future(client.get_active("video_2", "video"))
            message = await peer.expect("get_active")
            await peer.send("active", id=message["id"], roomId="video_2", users=[], totalCount=0, sessionCount=0)
            assert (await asking).total_count == 0 and client.rooms == {}
            await client.close()

    run(test)


def test_leave_ends_the_room_and_later_calls_raise() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            stream = room.events()
            leaving = asyncio.ensure_future(room.leave())
            message = await peer.expect("leave")
            await peer.send("left", id=message["id"], roomId="video_1")
            await leaving
            assert client.rooms == {} and [event async for event in stream] == []
            with pytest.raises(PresenceRefused, match="Join it again"):
                await room.broadcast({})
            await client.close()

    run(test)


def test_a_late_left_does_not_end_the_next_visit() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            leaving = asyncio.ensure_future(room.leave())
            leave = await peer.expect("leave")
            joining = asyncio.ensure_future(client.join("video_1", "video"))
            await until(lambda: any(message["type"] == "join" for message in peer.unread))
            await peer.send("left", id=leave["id"], roomId="video_1")
            await leaving
            await peer.let_in()
            assert (await joining).ended is None and client.rooms["video_1"].joined
            await client.close()

    run(test)


def test_a_kicked_room_ends_with_the_reason() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            why, told = [], []
            room.on("closed", why.append)
            client.on("kicked", told.append)
            await peer.send("kicked", roomId="video_1", reason="You were loud.")
            await until(lambda: bool(told))
            assert isinstance(why[0], PresenceRefused) and "You were loud." in str(why[0])
            assert room.ended is why[0] and client.rooms == {}
            await client.close()

    run(test)


def test_calls_that_wait_for_a_connection_are_bounded() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            await peer.cut()
            await until(lambda: not room.joined)
            waiting = [asyncio.ensure_future(room.broadcast({"n": n})) for n in range(MAX_HELD)]
            await settle()
            with pytest.raises(PresenceOffline, match="wait for the connection already"):
                await room.broadcast({})
            for each in waiting:
                each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*waiting)
            await settle()
            late = asyncio.ensure_future(room.broadcast({}))
            await settle()
            assert not late.done()  # there is room again
            late.cancel()
            await client.close()

    run(test)


def test_a_room_that_was_given_up_is_left_when_the_late_answer_comes() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(timeout_s=3.0)
            joining = asyncio.ensure_future(client.join("video_1", "video"))
            await until(lambda: any(message["type"] == "join" for message in peer.unread))
            it.timers.advance(3.1)
            with pytest.raises(PresenceOffline, match="no answer"):
                await joining
            await peer.let_in()
            assert (await peer.expect("leave"))["roomId"] == "video_1" and client.rooms == {}
            await client.close()

    run(test)


def test_a_room_that_the_server_ends_by_itself_is_over() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            await peer.send("left", roomId="video_1")
            await until(lambda: room.ended is not None)
            assert [event async for event in room.events()] == []
            await client.close()

    run(test)


@pytest.mark.parametrize("code", ["NOT_IN_ROOM", "INTERNAL"])
def test_leave_succeeds_where_there_is_nothing_to_leave(code: str) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            leaving = asyncio.ensure_future(room.leave())
            message = await peer.expect("leave")
            await peer.send("error", id=message["id"], code=code, message="?")
            if code == "NOT_IN_ROOM":
                await leaving
            else:
                with pytest.raises(PresenceRefused, match=code):
                    await leaving
            await client.close()

    run(test)


def test_leave_does_not_fail_when_the_connection_does() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            leaving = asyncio.ensure_future(room.leave())
            await peer.expect("leave")
            await peer.cut()
            await leaving
            assert client.rooms == {}
            await client.close()

    run(test)
