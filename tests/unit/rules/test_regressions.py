"""One regression test per fault that a review found."""

import logging
from typing import Any

import pytest

from koko_presence._fastpath.fanout import RoomFlush, StreamFrame
from koko_presence._fastpath.framing import frame_text
from koko_presence.access.policy import ClaimsAccess
from koko_presence.protocol.limits import Limits, RoomOptions
from koko_presence.rooms import playback_sync
from koko_presence.server.membership import Memberships
from koko_presence.server.session import Session
from tests.world import Client, World, begin_join


def say(type_: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "roomId": "video_123", **more}


def test_a_refused_second_join_does_not_make_a_ghost() -> None:
    world = World()
    ann = world.person("ann", "lobby")
    ann.join("lobby", "project")
    assert ann.last("error")["code"] == "ROOM_TYPE_MISMATCH"
    ann.hang_up(1000)
    world.sleep(100)
    assert not world.shard.rooms and not world.shard.users


def test_a_resume_with_a_lesser_token_leaves_what_it_no_longer_opens() -> None:
    world = World(access=ClaimsAccess())
    ann = world.person('ann:Ann:{"video_*":["join","broadcast"]}')
    bob = world.person('bob:Bob:{"video_*":["join"]}')
    ann.hang_up(1006)
    again = world.client().auth('ann:Ann:{"project_*":["join"]}', resumeToken=ann.resume_token)
    assert again.take("kicked")[0]["roomId"] == "video_123"
    assert bob.last("user_left")["data"]["reason"] == "kicked"
    again.send(say("broadcast", data={}))
    assert again.last("error")["code"] == "NOT_IN_ROOM"


@pytest.mark.parametrize("how", ["refresh", "resume"])
def test_presence_switched_off_in_a_new_token_takes_effect(pair: tuple[Client, Client], how: str) -> None:
    ann, bob = pair
    ann.world.verifier.presence = False
    if how == "refresh":
        ann.auth("ann")
    else:
        ann.hang_up(1006)
        ann.world.client().auth("ann", resumeToken=ann.resume_token)
    assert bob.take("user_left")
    bob.send(say("get_active"))
    assert bob.last("active")["totalCount"] == 1


def test_a_revoked_control_scope_ends_control() -> None:
    world = World(access=ClaimsAccess())
    ann = world.person('ann:Ann:{"video_*":["join","control"]}')
    bob = world.person('bob:Bob:{"video_*":["join","control"]}')
    ann.send(say("control_request"))
    ann.auth('ann:Ann:{"video_*":["join"]}')
    assert bob.last("control_released")["data"]["reason"] == "revoked"
    ann.send(say("playback", data={"action": "play"}))
    assert ann.last("error")["code"] == "FORBIDDEN"
    bob.send(say("playback", data={"action": "play"}))
    assert bob.last("playback_synced")["userId"] == "bob"


def test_a_join_again_without_the_control_scope_ends_control() -> None:
    """A repeated join with fewer rights, as over HTTP with another token, ends control. The session kept it."""
    world = World(access=ClaimsAccess())
    ann = world.person('ann:Ann:{"video_*":["join","control"]}')
    bob = world.person('bob:Bob:{"video_*":["join","control"]}')
    ann.send(say("control_request"))
    assert bob.last("control_granted")["userId"] == "ann"
    ann.session.identity.rooms["video_*"] = ["join"]  # as after a changed answer of an authoriser
    ann.join()
    assert bob.last("control_released")["data"]["reason"] == "revoked"


def test_auto_grant_skips_members_in_the_grace_period() -> None:
    world = World(RoomOptions(auto_grant=True))
    ann, bob, carol = world.person("ann"), world.person("bob"), world.person("carol")
    for client in (ann, bob, carol):
        client.send(say("control_request"))
    bob.hang_up(1006)
    ann.send(say("leave"))
    assert ann.last("left") and carol.last("control_granted")["data"]["toUserId"] == "carol"
    world.sleep(6)
    assert [e["userId"] for e in carol.of("user_left")] == ["ann", "bob"]


def test_auto_grant_without_a_candidate_is_no_error() -> None:
    world = World(RoomOptions(auto_grant=True))
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(say("control_request"))
    bob.send(say("control_request"))
    bob.hang_up(1006)
    ann.send(say("leave"))
    assert ann.last("left")
    world.sleep(40)
    assert not world.shard.rooms


def test_being_cut_off_among_held_messages_does_not_stop_the_clock() -> None:
    world = World(max_errors=3)
    other = world.person("other")
    ann = world.client().auth("ann")
    begin_join(ann.session, "video_123")
    for _ in range(5):
        ann.post(say("typing", data={"isTyping": True, "context": "x"}, padding="x" * 1500))
    for number in range(3):
        ann.post(say("cursor", data={"timestamp": number}))
    ann.session.memberships.on_attach("video_123")
    assert ann.closed == 4429
    world.sleep(130)
    assert other.closed == 4408, "the other session's time went on"


def test_leave_and_join_of_a_busy_room_within_a_window_stay_in_order() -> None:
    world = World(join_hz=1000, cursor_hz=10_000, connection_hz=10_000)
    ann = world.person("ann")
    for number in range(60):
        ann.post(say("cursor", data={"timestamp": number}))
        world.sleep(0.0005)
    ann.take()
    ann.post(say("leave"))
    ann.post(say("join", roomType="video"))
    world.sleep(0.05)
    assert [m["type"] for m in ann.take("left", "joined")] == ["left", "joined"]
    ann.send(say("typing", data={"isTyping": True}))
    assert not ann.take("error")


def test_joining_again_after_a_resume_does_not_make_an_idle_person_active(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="heartbeat", status="idle")
    ann.hang_up(1006)
    bob.take()
    ann.world.client().auth("ann", resumeToken=ann.resume_token).join()
    assert [e["data"]["status"] for e in bob.take("status_changed")] == ["idle"]


def test_acks_reach_a_resumed_session_that_has_not_joined_again(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.hang_up(1006)
    again = ann.world.client().auth("ann", resumeToken=ann.resume_token)
    again.send(say("broadcast", data={"a": 1}, id=5))
    assert again.last("ack") == {"type": "ack", "id": 5, "success": True, "delivered": 1} and bob.take("broadcast")


def test_invisible_for_all_tabs_holds_for_the_tabs_to_come(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="privacy", data={"invisible": True, "scope": "user"})
    bob.take()
    ann.world.person("ann")
    assert bob.take() == []


def test_leaving_and_joining_does_not_refill_a_budget(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    bob.take()
    for _ in range(4):
        for _ in range(20):
            ann.send(say("broadcast", data={}))
        ann.send(say("leave"))
        ann.join()
    assert len(bob.take("broadcast")) <= 30


def test_refused_refreshes_are_counted_and_limited(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    for _ in range(60):
        ann.send(type="auth", token="bad")
    assert ann.closed == 4429
    assert [e["code"] for e in ann.of("error")].count("UNAUTHENTICATED") <= 6


def test_a_client_clock_ahead_does_not_hold_up_the_others(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    at = ann.world.wall.ms(ann.world.now) + 1990
    ann.send(say("playback", data={"action": "play", "currentTime": 5, "at": at}))
    bob.send(say("playback", data={"action": "pause"}))
    assert bob.last("playback_synced")["data"]["serverTime"] <= ann.world.wall.ms(ann.world.now)


def test_switching_sync_off_is_not_a_first_sync() -> None:
    world = World()
    mod = world.person('mod:Mod:{"video_123":["moderate"]}')
    mod.send(say("playback", data={"action": "disable"}))
    assert "playback" not in world.client().auth("late").join().last("joined")["room"]


def test_a_snapshot_under_way_to_the_replaced_socket_is_not_the_new_ones(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    world = ann.world
    ann.post(say("join", roomType="video"))
    again = world.client()
    again.post(type="auth", token="ann", resumeToken=ann.resume_token)
    world.settle()
    assert not again.of("joined")
    bob.send(say("broadcast", data={}))
    assert not again.of("broadcast")
    again.join()
    assert again.of("joined")


def test_a_selection_that_waited_is_kept_when_the_connection_is_lost(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    tab = ann.world.person("ann")
    for end in range(1, 6):
        tab.post(say("selection", data={"startTime": 0, "endTime": end}))
        ann.post(say("selection", data={"startTime": 0, "endTime": 10 + end}))
    ann.hang_up(1006)
    ends = [e["data"]["endTime"] for e in bob.take("selection_changed") if e["sessionId"] == ann.session_id]
    assert ends and ends == sorted(ends)


def test_the_expiry_of_a_request_is_sent_though_the_first_tab_is_invisible(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(say("control_request"))
    tab = ann.world.person("bob")
    tab.send(say("control_request"))
    bob.send(type="privacy", data={"invisible": True})
    ann.world.sleep(31)
    assert ann.last("control_denied")["data"] == {"toUserId": "bob", "reason": "expired"}


def test_a_fault_in_one_command_is_logged_and_hurts_no_other(
    pair: tuple[Client, Client], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = pair
    monkeypatch.setattr(playback_sync, "_check_visible", None)  # which the handler calls
    with caplog.at_level(logging.ERROR):
        ann.send(say("control_cancel"))
    assert "command failed: RoomAction" in caplog.text
    bob.send(type="heartbeat")
    assert bob.take("pong")
    ann.hang_up(1000)
    assert bob.take("user_left")


def test_a_session_held_over_http_that_joins_again_does_not_withdraw_a_request_for_control() -> None:
    """A repeated join of a session held over HTTP withdraws no request for control. It cannot have control itself, and
    it withdrew the request of another session of its user."""
    world = World()
    bob, ann = world.person("bob"), world.person("ann")
    bob.send(say("control_request"))
    held = world.http("ann")
    held.call("join", {"roomId": "video_123", "roomType": "video"})
    ann.send(say("control_request"))
    ann.take()
    held.call("join", {"roomId": "video_123", "roomType": "video"})
    assert not ann.take("control_denied")
    bob.send(say("control_grant", data={"toUserId": "ann"}))
    assert ann.take("control_granted")


def test_a_moderator_without_the_control_scope_may_take_control() -> None:
    world = World(access=ClaimsAccess())
    ann = world.person('ann:Ann:{"video_*":["join","control"]}')
    mod = world.person('mod:Mod:{"video_*":["join","moderate"]}')
    ann.send(say("control_request"))
    mod.send(say("control_grant", data={"toUserId": "mod"}))
    assert ann.last("control_granted")["data"]["toUserId"] == "mod"
    mod.send(say("playback", data={"action": "play"}))
    assert ann.last("playback_synced")["userId"] == "mod"


def test_a_refused_client_does_not_get_the_rooms_type() -> None:
    eve = World(access=ClaimsAccess()).client().auth("eve").join("video_1", "project")
    assert eve.last("error")["code"] == "FORBIDDEN"


def test_a_slow_receiver_in_two_rooms_loses_the_hidden_cursor_of_neither() -> None:
    world = World()
    ann, bob = (world.client().auth(user).join("lobby", "project").join("hall", "project") for user in ("ann", "bob"))

    def show(room: str, **data: float) -> None:
        ann.send({"type": "cursor", "roomId": room, "data": data or None})
        world.sleep(0.1)

    show("lobby", x=0.1, y=0.1)
    bob.unsent_bytes = 66 * 1024
    show("lobby", x=0.2, y=0.2)  # the flush that finds bob slow
    bob.take()
    show("lobby")
    show("hall", x=0.9, y=0.9)
    bob.unsent_bytes = 0
    bob.session.on_writable()
    world.settle()
    told = [(event["roomId"], event["data"].get("hidden", False)) for event in bob.take("cursor_moved")]
    assert told == [("lobby", True), ("hall", False)]


@pytest.mark.one_worker
def test_short_of_memory_subscribers_with_much_unsent_data_are_closed_and_briefly_full_ones_are_not(
    pair: tuple[Client, Client],
) -> None:
    ann, bob = pair
    bob.unsent_bytes = 2000
    ann.send(say("cursor", data={"timestamp": 1}))
    ann.world.sleep(0.1)
    assert bob.session.outbox.slow and ann.world.hub.shed_slow() == 0
    bob.unsent_bytes = 66 * 1024
    assert ann.world.hub.shed_slow() == 1 and bob.closed == 4413


def test_a_slow_subscriber_gets_no_cursor_of_a_member_that_became_invisible(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    bob.unsent_bytes = 66 * 1024
    for number in range(3):
        ann.send(say("cursor", data={"timestamp": number}))
        ann.world.sleep(0.1)
    bob.take()
    ann.send(type="privacy", data={"invisible": True})
    bob.unsent_bytes = 0
    bob.session.on_writable()
    ann.world.settle()
    assert [event["type"] for event in bob.take()] == ["cursor_moved", "user_left"]


@pytest.mark.one_worker
def test_new_limits_hold_alike_on_both_ways_of_a_cursor(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.world.hub.limits = Limits(max_presence_bytes=256)
    for x in (b"0.5", b"5e-1"):  # the compiled path declines exponents
        text = b'{"type":"cursor","roomId":"video_123","data":{"timestamp":1,"x":%b,"y":0.5}}' % x
        ann.send(text + b" " * 300)
        ann.world.sleep(0.1)
    assert len(bob.take("cursor_moved")) == 2 and not ann.of("error"), "a session keeps the limits it began with"
    cat = ann.world.person("cat")
    for x in (b"0.5", b"5e-1"):
        cat.send(b'{"type":"cursor","roomId":"video_123","data":{"timestamp":1,"x":%b,"y":0.5}}' % x + b" " * 300)
    assert [error["code"] for error in cat.of("error")] == ["TOO_LARGE", "TOO_LARGE"]
    assert not bob.take("cursor_moved")


def test_an_expelled_session_gets_no_held_value() -> None:
    world = World(access=ClaimsAccess())
    ann = world.person('ann:Ann:{"video_*":["join"]}')
    bob = world.person('bob:Bob:{"video_*":["join"]}')
    bob.unsent_bytes = 66 * 1024
    for number in range(3):
        ann.send(say("cursor", data={"timestamp": number}))
        world.sleep(0.1)
    bob.take()
    ann.post(say("cursor", data={"timestamp": 9}))  # in the same flush as the end of its membership
    bob.post({"type": "auth", "token": 'bob:Bob:{"other":["join"]}'})  # a token that does not open the room any more
    bob.unsent_bytes = 0
    world.settle()
    bob.session.on_writable()
    world.settle()
    types = [message["type"] for message in bob.take()]
    assert "kicked" in types and "cursor_moved" not in types[types.index("kicked") :]


def test_a_held_message_that_cannot_be_decoded_is_answered_and_the_flush_goes_on() -> None:
    """A message behind a change of privacy that could not be decoded any more, because it was nested almost as deep as
    Python's stack allows, raised out of the delivery of the flush: the rest of the flush was lost for all members at the
    edge, and the message stayed first for ever."""
    world = World(workers=2)
    edge, owner = world.nodes.values()
    for number in range(64):
        room = f"video_{number}"
        bob = Client(world, edge.hub).auth(f"bob{number}").join(room)
        world.sleep(0.5)
        if room in owner.shard.rooms:
            break
    cat = Client(world, owner.hub).auth("cat").join(room)
    ann = Client(world, edge.hub).auth("ann")
    world.sleep(0.5)
    bob.take()
    ann.take()
    ann.post({"type": "join", "roomId": room, "roomType": "video", "id": 1})
    ann.post({"type": "privacy", "data": {"shareCursor": False}, "id": 2})
    held = ann.session.memberships.behind_joins
    assert held is not None and held.add(b'{"type":"heartbeat","junk":[')
    ann.post({"type": "heartbeat", "id": 3})
    receive = owner.bus.on_peer_messages  # type: ignore[union-attr]

    def receive_and_broadcast(sender: int, found: list[tuple[int, bytes]]) -> None:
        """The room is sent a broadcast in the flush of the join."""
        receive(sender, found)
        if ann.session.session_id in owner.shard.rooms[room].members and not cat.closed:
            cat.post({"type": "broadcast", "roomId": room, "data": {"n": 1}})
            owner.bus.on_peer_messages = receive  # type: ignore[union-attr, method-assign]

    owner.bus.on_peer_messages = receive_and_broadcast  # type: ignore[union-attr, method-assign]
    world.sleep(1.0)
    assert [message["type"] for message in ann.take()] == ["joined", "ack", "error", "pong", "broadcast"]
    assert ann.of("error")[0]["code"] == "INVALID_JSON" and ann.session.memberships.behind_joins is None
    assert [message["type"] for message in bob.take()] == ["user_joined", "broadcast"]


@pytest.mark.parametrize("event", ["on_attach", "on_detach", "on_refusal"])
def test_a_fault_of_one_subscriber_does_not_end_the_delivery(
    event: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of one session in the delivery of a flush took the rest of the flush from all members; it ends the
    session's connection, as a fault in a message of the client does."""
    world = World(workers=1)
    ann, bob = world.person("ann"), world.person("bob")
    hub, session = world.hub, bob.session
    other = frame_text(b'{"type":"other"}')
    change = StreamFrame(
        other,
        only=session.session_id,
        attach=event == "on_attach",
        detach=event == "on_detach",
        refusal=event == "on_refusal",
    )

    def broken(self: Session, *_: Any) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(Session, event, broken)
        hub.on_flush(RoomFlush("video_123", [change, StreamFrame(other)], ""), world.now)
    world.settle()
    assert bob.closed == 1011 and ann.closed is None and ann.take("other")
    assert "session failed, connection closed with 1011" in caplog.text and "a fault" in caplog.text
    bob.hang_up(1011)
    assert world.client().auth("bob", resumeToken=bob.resume_token).last("authenticated")["resumed"]


@pytest.mark.parametrize("event", ["on_tick", "retry_pending"])
def test_a_fault_of_one_session_does_not_stop_the_others(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of one session in the loops over all of them left the later ones without their tick, or without
    their repeated requests."""
    world = World(workers=1)
    ann, bob, cat = (world.client().auth(name) for name in ("ann", "bob", "cat"))
    hub: Any = world.hub
    of, called = (Session if event == "on_tick" else Memberships), []
    work = getattr(of, event)

    def broken(self: Any, now: float) -> None:
        called.append(self)
        if self in (bob.session, bob.session.memberships):
            raise RuntimeError("a fault")
        work(self, now)

    monkeypatch.setattr(of, event, broken)
    if event == "on_tick":
        for client in (ann, bob, cat):
            hub.wake(client.session.connection, world.now)
        hub._tick()
    else:
        hub.retry_pending(world.now)
    assert len(called) == 3 and (ann.closed, bob.closed, cat.closed) == (None, 1011, None)
