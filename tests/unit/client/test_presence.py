"""The client against a fake server on a real socket: calls, answers, and what it sends by itself."""

import asyncio
import contextlib
import logging
import math

import pytest

from koko_presence.client import AuthRefused, PresenceClient, PresenceOffline, PresenceRefused, Privacy, Room
from koko_presence.client.requests import MAX_HELD

from .fake_server import Peer, Stage, run, settle, stage, until

PLAYING = {"isPlaying": True, "currentTime": 5.0, "playbackRate": 1.0, "anchor": 1_736_937_000_000, "version": 3}


# --- the start --------------------------------------------------


def test_the_first_message_is_auth_with_token_caps_and_privacy() -> None:
    async def test() -> None:
        async with stage() as it:
            client = it.client(caps=["cursors"], privacy=Privacy(invisible=True))
            connecting = asyncio.ensure_future(client.connect())
            peer = await it.meet()
            auth = await peer.welcome()
            await connecting
            assert (auth["token"], auth["caps"], auth["privacy"]) == ("a token", ["cursors"], {"invisible": True})
            assert "resumeToken" not in auth
            assert (client.status, client.user_id, client.session_id) == ("online", "ann", "s_ann")
            await client.close()

    run(test)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_token_may_come_from_a_function(kind: str) -> None:
    async def fetch() -> str:
        return "fetched"

    async def test() -> None:
        async with stage() as it:
            client = it.client(fetch if kind == "async" else lambda: "fetched")
            connecting = asyncio.ensure_future(client.connect())
            assert (await (await it.meet()).welcome())["token"] == "fetched"
            await connecting
            await client.close()

    run(test)


def test_a_refused_token_raises_the_servers_words_and_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with stage() as it:
            client = it.client()
            connecting = asyncio.ensure_future(client.connect())
            peer = await it.meet()
            auth = await peer.expect("auth")
            await peer.send("error", code="UNAUTHENTICATED", message="The token was refused: too old.", id=auth["id"])
            with pytest.raises(AuthRefused, match="too old"):
                await connecting
            await peer.over.wait()
            assert client.status == "closed"
            await it.meet_never()

    run(test)


def test_a_close_during_auth_is_told_with_its_code() -> None:
    async def test() -> None:
        async with stage() as it:
            connecting = asyncio.ensure_future(it.client().connect())
            peer = await it.meet()
            await peer.close(1013)
            with pytest.raises(PresenceOffline, match="1013") as lost:
                await connecting
            assert lost.value.close_code == 1013

    run(test)


def test_a_server_that_is_not_there_is_told_with_the_address() -> None:
    async def test() -> None:
        async with stage() as it:
            client = it.client()
            it.stop()
            with pytest.raises(PresenceOffline, match=f"127.0.0.1:{it.port}"):
                await client.connect()
            assert client.status == "closed"

    run(test)


def test_a_server_that_never_answers_auth_is_given_up() -> None:
    async def test() -> None:
        async with stage() as it:
            connecting = asyncio.ensure_future(it.client(timeout_s=10.0).connect())
            peer = await it.meet()
            await peer.expect("auth")
            it.timers.advance(10.1)
            with pytest.raises(PresenceOffline, match="no answer within 10 s"):
                await connecting
            await peer.over.wait()

    run(test)


def test_what_the_token_function_raises_is_raised() -> None:
    def fetch() -> str:
        raise LookupError("no token today")

    async def test() -> None:
        async with stage() as it:
            with pytest.raises(LookupError, match="no token today"):
                await it.client(fetch).connect()

    run(test)


@pytest.mark.parametrize("url", ["http://127.0.0.1/presence", "127.0.0.1:8080", "ws:///presence", ""])
def test_an_address_that_is_no_websocket_is_refused(url: str) -> None:
    async def test() -> None:
        with pytest.raises(ValueError, match="wss://"):
            PresenceClient(url, "a token")

    run(test)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("ws://presence.example.org/presence", True),
        ("wss://presence.example.org/presence", False),
        ("ws://127.0.0.1/presence", False),
        ("ws://[::1]:8080/presence", False),
    ],
)
def test_a_token_in_the_clear_is_warned_about(url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        PresenceClient(url, "a token")

    run(test)
    assert ("unencrypted" in caplog.text) == warned


def test_a_client_connects_once() -> None:
    async def test() -> None:
        async with stage() as it:
            client, _ = await it.online()
            with pytest.raises(RuntimeError, match="another PresenceClient"):
                await client.connect()
            await client.close()

    run(test)


def test_calls_on_a_client_that_is_not_connected_say_so() -> None:
    async def test() -> None:
        async with stage() as it:
            with pytest.raises(PresenceOffline, match="async with"):
                await it.client().join("video_1", "video")

    run(test)


def test_nothing_of_all_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with stage() as it:
            client, _, _ = await it.in_room()
            await client.close()

    with caplog.at_level(logging.DEBUG, "koko_presence"), caplog.at_level(logging.DEBUG, "picows"):
        run(test)
    assert [record for record in caplog.records if not record.name.startswith(("websockets", "asyncio"))] == []


def test_close_says_1000_ends_rooms_and_open_calls_d2() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            stream, closed = room.events(), []
            room.on("closed", closed.append)
            call = asyncio.ensure_future(room.request_control())
            await peer.expect("control_request")
            await client.close()
            await peer.over.wait()
            assert peer.socket.close_code == 1000
            with pytest.raises(PresenceOffline, match="before the answer came"):
                await call
            assert [event async for event in stream] == [] and closed == [None]
            assert client.status == "closed" and await client.wait_closed() == 1000

    run(test)


# --- rooms and answers --------------------------------------------------


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


def test_two_who_join_at_once_share_one_join() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            first, second = (asyncio.ensure_future(client.join("video_1", "video")) for _ in range(2))
            await settle()
            first.cancel()  # and one may give up without harm to the other
            await peer.let_in()
            assert (await second).joined and client.rooms["video_1"] is second.result()
            assert sum(message["type"] == "join" for message in peer.got) == 1
            await client.close()

    run(test)


def test_a_refused_join_raises_with_all_that_the_server_said_l6() -> None:
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


def test_answers_find_their_questions_in_any_order_b8() -> None:
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
def test_control_is_said_as_the_protocol_says_it_i5(call, type_: str, data: object) -> None:  # type: ignore[no-untyped-def]
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


def test_playback_returns_the_new_state_and_says_when_it_acted_h4() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            calling = asyncio.ensure_future(room.sync_playback("seek", current_time=5.0, base_version=2))
            message = await peer.expect("playback")
            assert message["data"] == {"action": "seek", "currentTime": 5.0, "baseVersion": 2, "at": 1_736_937_000_000}
            await peer.send("ack", id=message["id"], success=True, **PLAYING)
            state = await calling
            assert state is room.playback and state is not None and (state.version, state.current_time) == (3, 5.0)
            await client.close()

    run(test)


def test_who_may_not_play_learns_where_the_room_is_h1() -> None:
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


def test_wrong_use_is_told_before_anything_is_sent() -> None:
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


def test_get_active_asks_without_joining_c14() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            asking = asyncio.ensure_future(client.get_active("video_2", "video"))
            message = await peer.expect("get_active")
            await peer.send("active", id=message["id"], roomId="video_2", users=[], totalCount=0, sessionCount=0)
            assert (await asking).total_count == 0 and client.rooms == {}
            await client.close()

    run(test)


def test_leave_ends_the_room_and_later_calls_say_so() -> None:
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


# --- what is heard --------------------------------------------------


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


def test_an_error_that_nobody_awaits_reaches_listeners_or_else_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
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


# --- what is shown --------------------------------------------------


async def shown(it: Stage, peer: Peer, seconds: float = 1.0) -> list[dict[str, object]]:
    """What arrives within some fake seconds, without heartbeats."""
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


def test_typing_is_said_twice_a_second_at_most_and_a_stop_is_not_lost_g3() -> None:
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
                "at": first["data"]["at"],  # type: ignore[index]
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


# --- the session --------------------------------------------------


def test_heartbeats_come_by_themselves_and_tell_the_activity_d3() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(activity="idle")
            first = await peer.expect("heartbeat")
            assert (first["status"], first["clientTime"]) == ("idle", pytest.approx(it.timers.now * 1000.0))
            await peer.send("pong", timestamp="t", serverTime=1_736_937_000_000, echo=first["clientTime"])
            await settle()
            it.timers.advance(29.9)
            await settle()
            assert peer.unread == []
            it.timers.advance(0.2)  # the chance is one half: exactly 30 s
            await peer.expect("heartbeat")
            client.heartbeat("active")  # sooner than 5 s: remembered for the next one
            it.timers.advance(6.0)
            client.heartbeat()
            assert (await peer.expect("heartbeat"))["status"] == "active"
            await client.close()

    run(test)


@pytest.mark.parametrize(("chance", "beat_s"), [(0.0, 27.0), (1.0, 33.0)])
def test_heartbeats_are_spread_by_ten_percent_d3(chance: float, beat_s: float) -> None:
    async def test() -> None:
        async with stage() as it:
            client = PresenceClient(
                it.url, "t", clock=it.timers.clock, timers=it.timers, random=lambda: chance, privacy=Privacy()
            )
            connecting = asyncio.ensure_future(client.connect())
            await (await it.meet()).welcome()
            await connecting
            assert beat_s in it.timers.delays
            await client.close()

    run(test)


def test_the_servers_clock_is_known_from_pongs_d7() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            beat = await peer.expect("heartbeat")
            await peer.send("pong", timestamp="t", serverTime=1_800_000_000_000, echo=beat["clientTime"] + 1e6)
            await peer.send("pong", timestamp="t", serverTime=1_736_937_000_000, echo=beat["clientTime"])
            await settle()
            it.timers.advance(1.5)
            assert client.server_now_ms() == pytest.approx(1_736_937_001_500)
            await client.close()

    run(test)


def test_a_status_and_privacy_are_acknowledged() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            setting = asyncio.ensure_future(client.set_status("busy", "on a call"))
            message = await peer.expect("status")
            assert message["data"] == {"status": "busy", "statusMessage": "on a call"}
            await peer.send("ack", id=message["id"], success=True)
            await setting
            hiding = asyncio.ensure_future(client.set_privacy(invisible=True, for_all_sessions=True))
            message = await peer.expect("privacy")
            assert message["data"] == {"invisible": True, "scope": "user"}
            await peer.send("error", id=message["id"], code="RATE_LIMITED", message="Slow.")
            with pytest.raises(PresenceRefused):
                await hiding
            await client.close()

    run(test)


def test_a_fresh_token_is_sent_before_the_old_one_ends_a7() -> None:
    async def test() -> None:
        tokens = iter(["first", "second", "third"])
        async with stage() as it:
            client, peer = await it.online(lambda: next(tokens))
            await peer.send("auth_expiring", expiresAt="2025-01-15T10:31:00.000Z")
            await peer.send("auth_expiring", expiresAt="2025-01-15T10:31:00.000Z")
            auth = await peer.welcome(resumeToken="resume-2")
            assert auth["token"] == "second"
            await settle()
            assert peer.unread == [] and client.status == "online"
            await peer.cut()
            again = await it.meet_after(0.5)
            assert (await again.welcome())["resumeToken"] == "resume-2"
            await until(lambda: client.status == "online")
            await client.close()

    run(test)


def test_a_token_string_cannot_be_renewed_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online("a string")
            await peer.send("auth_expiring", expiresAt="soon")
            await until(lambda: "token function" in caplog.text)
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
