"""Coming back: when, how, and what is there again afterwards. The fake server closes, the clock is fake."""

import asyncio
import logging
from typing import Any

import pytest

from koko_presence.client import PresenceOffline, PresenceRefused
from koko_presence.errors import CLOSES, ComeBack

from .fake_server import Peer, run, settle, stage, until

STOP = sorted(code for code, close in CLOSES.items() if close.come_back is ComeBack.NO)
RESUME = [code for code in (1001, 1012, 4408, 4413) if CLOSES[code].come_back is ComeBack.RESUME]


# --- whether and when --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", STOP)
def test_some_codes_are_final_l7(code: int) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            told, closed = [], []
            client.on("status", told.append)
            room.on("closed", closed.append)
            await peer.close(code)
            assert await client.wait_closed() == code
            assert told == ["offline", "closed"] and client.close_code == code and len(closed) == 1
            await it.meet_never()
            with pytest.raises(PresenceOffline):
                await client.join("video_1", "video")

    run(test)


@pytest.mark.parametrize("code", RESUME)
def test_other_codes_bring_the_client_back_with_its_resume_token_l7(code: int) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            await peer.close(code)
            again = await it.meet_after(0.5)
            assert (await again.welcome(resumed=True))["resumeToken"] == "resume-1"
            await until(lambda: client.status == "online")
            await client.close()

    run(test)


def test_waits_grow_while_the_server_is_away_and_stop_growing_at_the_longest() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(min_backoff_s=1.0, max_backoff_s=8.0)
            await peer.cut()
            for wait_s in (0.5, 1.0, 2.0, 4.0, 4.0):  # half of 1, 2, 4, 8, 8
                peer = await it.meet_after(wait_s)
                await peer.close(1012)
            peer = await it.meet_after(4.0)
            await peer.welcome()
            await until(lambda: client.status == "online")
            await peer.close(1012)  # online for no time at all: the waits go on as they were
            peer = await it.meet_after(4.0)
            await peer.welcome()
            await until(lambda: client.status == "online")
            it.timers.advance(5.1)  # this one has held
            await peer.close(1012)
            await (await it.meet_after(0.5)).welcome()
            await client.close()

    run(test)


def test_a_server_that_refuses_the_connection_is_tried_again() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            it.stop()
            await peer.cut()
            for wait_s in (0.5, 1.0, 2.0):
                await it.waits(wait_s)
                it.timers.advance(wait_s)
            await it.waits(4.0)
            assert client.status == "offline"
            await client.close()
            assert client.status == "closed"

    run(test)


def test_later_is_slow_and_the_servers_own_wait_is_kept_l3() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(max_backoff_s=8.0)
            await peer.close(1013)
            peer = await it.meet_after(6.0)  # three quarters of the longest
            await peer.welcome()
            await peer.send("server_notice", code="RATE_LIMITED", message=".", retryAfterMs=30_000)
            await settle()
            await peer.close(4429)
            await it.meet_after(31.0)  # and half of the second attempt's 2 s
            await client.close()

    run(test)


def test_a_dead_connection_is_noticed_within_ten_seconds_of_a_heartbeat() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            await peer.expect("heartbeat")
            it.timers.advance(9.9)
            await settle()
            assert client.status == "online"
            it.timers.advance(0.2)
            await peer.over.wait()
            await until(lambda: client.status == "offline")
            await (await it.meet_after(0.5)).welcome()
            await client.close()

    run(test)


def test_closing_while_offline_ends_the_attempts() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            await peer.cut()
            await until(lambda: client.status == "offline")
            await client.close()
            await it.meet_never()

    run(test)


# --- tokens ------------------------------------------------------------------------------------------------------


async def refuse(peer: Peer) -> str:
    auth = await peer.expect("auth")
    await peer.send("error", id=auth["id"], code="UNAUTHENTICATED", message="It has expired.")
    await peer.over.wait()
    return str(auth["token"])


def test_4401_fetches_a_new_token_a7() -> None:
    async def test() -> None:
        tokens = iter(["first", "second", "third"])
        async with stage() as it:
            client, peer = await it.online(lambda: next(tokens))
            await peer.close(4401)
            assert await refuse(await it.meet_after(0.5)) == "second"
            assert (await (await it.meet_after(1.0)).welcome())["token"] == "third"
            await until(lambda: client.status == "online")
            await client.close()

    run(test)


def test_three_refused_tokens_in_a_row_are_enough(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(lambda: "never good", min_backoff_s=1.0)
            await peer.close(4401)
            for wait_s in (0.5, 1.0, 2.0):
                await refuse(await it.meet_after(wait_s))
            assert await client.wait_closed() == 4401
            await it.meet_never()

    with caplog.at_level(logging.WARNING):
        run(test)
    assert caplog.text.count("It has expired.") == 3


def test_4401_is_final_for_a_token_that_is_a_string_l7() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online("a string")
            await peer.close(4401)
            assert await client.wait_closed() == 4401

    run(test)


def test_a_token_function_that_fails_once_is_called_again(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        answers: list[Any] = ["first", LookupError("no token today"), "second"]

        def fetch() -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        async with stage() as it:
            client, peer = await it.online(fetch)
            await peer.cut()
            await it.waits(0.5)
            it.timers.advance(0.6)
            await until(lambda: len(answers) == 1)
            await (await it.meet_after(1.0)).welcome()
            await client.close()

    run(test)
    assert "no token today" in caplog.text


# --- what is there again -------------------------------------------------------------------------------------------


def test_rooms_are_joined_again_and_the_snapshot_replaces_all_that_was_known_c4() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room("bob", "eve")
            snapshots, stream = [], room.events()
            room.on("joined", snapshots.append)
            await peer.cut()
            await until(lambda: not room.joined)
            assert list(room.people) == ["ann", "bob", "eve"]  # the last that was known stays readable
            peer = await it.meet_after(0.5)
            await peer.welcome(sessionId="s_new")
            join = await peer.let_in("eve", "zoe", controller="eve")
            await until(lambda: room.joined)
            assert (join["roomId"], join["roomType"]) == ("video_1", "video")
            assert list(room.people) == ["ann", "eve", "zoe"] and room.controller == "eve" and snapshots == [room]
            await peer.event("typing_started", "zoe", {})
            assert (await anext(stream)).type == "typing_started"  # streams live on
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
            assert peer.unread == []  # typing had been said, and may be over by now
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


def test_typing_that_nobody_remembers_is_not_said_after_five_seconds_g1() -> None:
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


def test_a_room_that_does_not_let_one_in_again_ends_with_the_reason() -> None:
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


def test_a_rejoin_that_was_too_fast_is_tried_again_when_the_server_said() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            await peer.cut()
            peer = await it.meet_after(0.5)
            await peer.welcome()
            join = await peer.expect("join")
            await peer.send("error", id=join["id"], code="RATE_LIMITED", message="Slow.", retryAfterMs=2000)
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
