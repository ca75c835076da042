"""Decisions I, J, K: control, broadcasts, privacy."""

from typing import Any

import pytest

from koko_presence.access.policy import ClaimsAccess
from koko_presence.protocol.limits import RoomOptions
from tests.world import Client, World


def say(type_: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "roomId": "video_123", **more}


def to(user: str) -> dict[str, Any]:
    return {"data": {"toUserId": user}}


@pytest.fixture
def trio() -> tuple[Client, Client, Client]:
    world = World()
    people = world.person("ann"), world.person("bob"), world.person("carol")
    for person in people:
        person.take()
    return people


def controller(client: Client) -> str | None:
    late = client.world.client().auth("late").join()
    room = late.last("joined")["room"]
    late.send(say("leave"))
    for each in client.world.hub.sessions.values():
        assert each is not None
    return room.get("controller")


# --- I: control


def test_i1_the_first_request_is_granted_at_once(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.send(say("control_request", id=1))
    assert ann.last("ack") == {"type": "ack", "id": 1, "success": True, "granted": True, "controller": "ann"}
    data = bob.take("control_granted")[0]["data"]
    assert data["toUserId"] == "ann" and data["fromUserId"] is None and data["auto"] is True


WATCHER, PLAYER = ('ann:ann:{"*":["join"]}', 'ann:ann:{"*":["join","control"]}')


@pytest.mark.parametrize("granted", [False, True])
def test_i1_a_tab_without_the_scope_does_not_get_what_another_tab_may_have(granted: bool) -> None:
    """Control goes to a tab with the scope. The tab that was active last got it, and a tab without the scope could get
    it when both were active at the same moment."""
    world = World(access=ClaimsAccess())
    bob = world.person('bob:bob:{"*":["join","control"]}')
    player, watcher = world.person(PLAYER), world.person(WATCHER)
    if granted:
        bob.send(say("control_request"))
        world.sleep(1)
        watcher.send(type="heartbeat", status="active")
        bob.send(say("control_grant", **to("ann"), id=1))
        assert bob.last("ack")["success"]
    else:
        player.send(say("control_request"))
    assert bob.last("control_granted")["data"]["controllerSessionId"] == player.session_id


def test_i2_i3_the_controller_grants(trio: tuple[Client, ...]) -> None:
    ann, bob, carol = trio
    ann.send(say("control_request"))
    bob.send(say("control_grant", **to("carol"), id=1))
    assert bob.last("error")["code"] == "NOT_CONTROLLER"
    ann.send(say("control_grant", **to("bob")))
    event = carol.last("control_granted")
    assert event["userId"] == "ann"
    assert event["data"] == {
        "toUserId": "bob", "toUserName": "Bob", "fromUserId": "ann", "controllerSessionId": bob.session_id, "version": 2,
    }  # fmt: skip
    assert controller(ann) == "bob"


def test_i2_a_moderator_grants_and_takes() -> None:
    world = World()
    ann = world.person("ann")
    mod = world.person('mod:Mod:{"video_123":["moderate"]}')
    ann.send(say("control_request"))
    mod.send(say("control_grant", **to("mod")))
    assert ann.last("control_granted")["data"]["toUserId"] == "mod"
    mod.send(say("control_grant", **to("ann")))
    assert controller(ann) == "ann"


@pytest.mark.parametrize("target", ["nobody", "ghost", "lost"])
def test_i4_grant_to_a_user_who_cannot_have_it(trio: tuple[Client, ...], target: str) -> None:
    ann, *_ = trio
    ann.send(say("control_request"))
    ann.world.person("ghost", privacy={"invisible": True})
    ann.world.person("lost").hang_up(1006)
    ann.send(say("control_grant", **to(target), id=1))
    error = ann.last("error")
    assert error["code"] == "TARGET_NOT_IN_ROOM" and error["message"] == "That user is not in the room."


def test_i5_requests_are_pending_for_30_s_one_per_user(trio: tuple[Client, ...]) -> None:
    ann, bob, carol = trio
    ann.send(say("control_request"))
    bob.send(say("control_request", id=1))
    assert bob.last("ack")["granted"] is False and bob.last("ack")["controller"] == "ann"
    assert carol.take("control_requested")[0]["data"] == {"requesterName": "Bob"}  # [I8]
    bob.send(say("control_request"))
    assert carol.take("control_requested") == []
    late = ann.world.client().auth("late").join()
    (row,) = late.last("joined")["room"]["controlRequests"]
    assert row["userId"] == "bob" and row["requesterName"] == "Bob"
    ann.world.sleep(31)
    assert carol.last("control_denied")["data"] == {"toUserId": "bob", "reason": "expired"}
    assert not late.join().last("joined")["room"]["controlRequests"]


def test_i5_deny_cancel_release(trio: tuple[Client, ...]) -> None:
    ann, bob, carol = trio
    ann.send(say("control_request"))
    bob.send(say("control_request"))
    carol.send(say("control_deny", **to("bob")))
    assert carol.last("error")["code"] == "NOT_CONTROLLER"
    ann.send(say("control_deny", **to("bob"), id=1))
    assert bob.last("control_denied")["data"] == {"toUserId": "bob", "reason": "denied"} and ann.last("ack")["id"] == 1
    ann.send(say("control_deny", **to("bob")))
    assert ann.last("error")["code"] == "TARGET_NOT_IN_ROOM"
    carol.send(say("control_request"))
    carol.send(say("control_cancel"))
    assert ann.last("control_denied")["data"] == {"toUserId": "carol", "reason": "cancelled"}
    ann.send(say("control_grant", **to("ann")))
    assert ann.last("error")["code"] == "INVALID_DATA"
    bob.send(say("control_release"))
    assert bob.last("error")["code"] == "NOT_CONTROLLER"
    ann.send(say("control_release"))
    assert bob.last("control_released")["data"]["reason"] == "released" and controller(bob) is None


def test_i6_leaving_releases_at_once_and_playback_goes_on(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.send(say("control_request"))
    ann.send(say("playback", data={"action": "sync", "isPlaying": True, "currentTime": 1, "playbackRate": 1}))
    bob.take()
    ann.send(say("leave"))
    assert [e["type"] for e in bob.take()] == ["user_left", "control_released"]
    late = ann.world.client().auth("late").join()
    assert late.last("joined")["room"]["playback"]["isPlaying"]


def test_i6_a_drop_keeps_control_for_the_grace(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.send(say("control_request"))
    ann.hang_up(1006)
    assert controller(bob) == "ann"
    bob.take()
    again = ann.world.client().auth("ann", resumeToken=ann.resume_token).join()
    assert controller(bob) == "ann" and not bob.take("control_released")
    again.hang_up(1006)
    ann.world.sleep(5.1)
    assert [e["type"] for e in bob.take("user_left", "control_released")] == ["user_left", "control_released"]
    assert bob.last("control_released")["data"]["reason"] == "disconnected" and controller(bob) is None


@pytest.mark.parametrize("code", [1000, 1006])
def test_i6_another_tab_of_the_controller_keeps_control_silently(trio: tuple[Client, ...], code: int) -> None:
    ann, bob, _ = trio
    tab = ann.world.person("ann")
    ann.send(say("control_request"))
    ann.send(say("playback", data={"action": "play"}))
    bob.take()
    ann.hang_up(code)
    ann.world.sleep(6)
    assert not bob.take("control_released", "control_granted")
    tab.send(say("playback", data={"action": "pause"}))
    assert bob.take("playback_synced")


def test_i6_auto_grant_is_an_option_of_the_room() -> None:
    world = World(RoomOptions(auto_grant=True))
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(say("control_request"))
    bob.send(say("control_request"))
    ann.send(say("control_release"))
    granted = ann.last("control_granted")["data"]
    assert granted["toUserId"] == "bob" and granted["auto"] is True


def test_i7_an_idle_controller_keeps_control(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.send(say("control_request"))
    for _ in range(10):
        ann.world.sleep(30)
        for client in trio:
            client.send(type="heartbeat", status="idle")
    assert controller(bob) == "ann" and not bob.take("control_released")


def test_i9_requests_are_limited(trio: tuple[Client, ...]) -> None:
    ann, *_ = trio
    for _ in range(2):
        ann.send(say("control_request"))
    ann.send(say("control_request", id=3))
    error = ann.last("error")
    assert error["code"] == "RATE_LIMITED" and 4000 < error["retryAfterMs"] <= 5000


def test_i10_k3_the_invisible_do_not_control(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.send(say("control_request"))
    ann.send(type="privacy", data={"invisible": True})
    assert bob.last("control_released")["data"]["reason"] == "left" and controller(bob) is None
    for message in (
        say("control_request"), say("broadcast", data={}), say("playback", data={"action": "play"}),
        say("control_grant", **to("bob")),
    ):  # fmt: skip
        ann.send({**message, "id": 9})
        assert (ann.last("error")["code"], ann.last("error")["id"]) == ("INVISIBLE", 9)


def test_control_needs_the_scope() -> None:
    world = World(access=ClaimsAccess())
    ann = world.person('ann:Ann:{"video_*":["join"]}')
    bob = world.person('bob:Bob:{"video_*":["join","control"]}')
    for message in (say("control_request"), say("playback", data={"action": "play"}), say("broadcast", data={})):
        ann.send(message)
        assert ann.last("error")["code"] == "FORBIDDEN", message
    bob.send(say("control_request"))
    bob.send(say("control_grant", **to("ann")))
    assert bob.last("error")["code"] == "FORBIDDEN"


# --- J: broadcast


def test_j1_ten_a_second_with_a_burst_of_twenty(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    for number in range(25):
        ann.send(say("broadcast", data={"n": number}))
    got = [e["data"]["n"] for e in bob.take("broadcast")]
    assert got[:20] == list(range(20)) and 20 <= len(got) <= 22  # reactions are not coalesced
    error = ann.last("error")
    assert error["code"] == "RATE_LIMITED" and 0 < error["retryAfterMs"] <= 100


@pytest.mark.parametrize(
    "data",
    [b"[]", b"5", b'"x"', b"null", b"true", b'{"__proto__":{}}', b'{"a":{"constructor":1}}', b'{"a":1e999}', b'{"a":"\\ud800"}',
     b'{"a":' + b"[" * 9 + b"]" * 9 + b"}", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"],
)  # fmt: skip
def test_j1_data_is_a_safe_object(trio: tuple[Client, ...], data: bytes) -> None:
    ann, bob, _ = trio
    ann.send(b'{"type":"broadcast","roomId":"video_123","id":1,"data":' + data + b"}")
    (error,) = ann.take()
    assert error["code"] in ("INVALID_DATA", "INVALID_JSON", "TOO_LARGE") and bob.take() == []


def test_j1_data_type_is_the_apps_own(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    data = {"type": "reaction", "emoji": "👍", "timestamp": 15.5, "deep": [[[{"a": None}]]]}
    ann.send(say("broadcast", data=data))
    (event,) = bob.take()
    assert event["type"] == "broadcast" and event["data"] == data


def test_j2_a_broadcast_is_not_for_late_joiners(trio: tuple[Client, ...]) -> None:
    ann, *_ = trio
    ann.send(say("broadcast", data={"a": 1}))
    assert not ann.world.client().auth("late").join().of("broadcast")


def test_j3_targeted(trio: tuple[Client, ...]) -> None:
    ann, bob, carol = trio
    tab = ann.world.person("carol")
    ann.send(say("broadcast", data={"a": 1}, to=["carol", "nobody"], id=1))
    assert carol.take("broadcast") and tab.take("broadcast") and not bob.take("broadcast")
    assert ann.last("ack")["delivered"] == 2
    ann.send(say("broadcast", data={"a": 1}, to=["u"] * 21))
    assert ann.last("error")["code"] == "INVALID_MESSAGE"


def test_j2_a_slow_client_gets_a_targeted_broadcast_after_what_its_author_has_shown_before(
    trio: tuple[Client, ...],
) -> None:
    ann, bob, _ = trio
    bob.unsent_bytes = 66 * 1024
    ann.send(say("cursor", data={"timestamp": 1}))
    ann.world.sleep(0.5)
    bob.take()
    ann.send(say("cursor", data={"timestamp": 2}))
    ann.world.sleep(0.5)
    assert bob.take() == []
    ann.send(say("broadcast", data={"a": 1}, to=["bob"]))
    ann.world.sleep(0.5)
    assert [message["type"] for message in bob.take()] == ["cursor_moved", "broadcast"]


def test_m5_delivered_counts_sessions_but_not_the_invisible(trio: tuple[Client, ...]) -> None:
    ann, *_ = trio
    ghost = ann.world.person("ghost", privacy={"invisible": True})
    ann.send(say("broadcast", data={"a": 1}, id=1))
    assert ann.last("ack")["delivered"] == 2 and ghost.take("broadcast")


# --- K: privacy


def test_k1_disabled_users_are_never_listed_and_cannot_be_seen(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.world.verifier.presence = False
    hidden = ann.world.person("hidden")
    hidden.send(type="privacy", data={"invisible": False}, id=1)
    assert hidden.last("error")["code"] == "FORBIDDEN"
    hidden.send(say("cursor", data={"timestamp": 1}))
    hidden.send(say("typing", data={"isTyping": True}))
    assert ann.take() == []
    bob.send(say("get_active"))
    assert bob.last("active")["totalCount"] == 3 and len(bob.last("active")["users"]) == 3
    ann.send(say("cursor", data={"timestamp": 1}))
    assert hidden.take("cursor_moved")


@pytest.mark.parametrize("how", ["auth", "join", "join data"])
def test_k1_there_is_no_visible_instant_at_join(trio: tuple[Client, ...], how: str) -> None:
    ann, *_ = trio
    privacy = {"privacy": {"invisible": True}}
    ghost = ann.world.client().auth("ghost", **(privacy if how == "auth" else {}))
    ghost.join(**(privacy if how == "join" else {"data": privacy} if how == "join data" else {}))
    assert ghost.of("joined") and ann.take() == []


def test_k2_going_invisible_looks_exactly_like_leaving(trio: tuple[Client, ...]) -> None:
    ann, bob, carol = trio
    ann.send(type="privacy", data={"invisible": True})
    (vanished,) = bob.take()
    carol.send(say("leave"))
    (left,) = bob.take()
    for event in (vanished, left):
        event.pop("userId"), event.pop("sessionId"), event.pop("timestamp"), event.pop("seq")
    assert vanished == left
    ann.send(type="privacy", data={"invisible": False})
    (back,) = bob.take()
    assert back["type"] == "user_joined" and back["data"]["sessionCount"] == 1


def test_k3_cursor_selection_typing_are_dropped_silently(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.send(type="privacy", data={"invisible": True})
    bob.take(), ann.take()
    ann.send(say("cursor", data={"timestamp": 1}))
    ann.send(say("selection", data={"startTime": 1, "endTime": 2}))
    ann.send(say("typing", data={"isTyping": True}))
    ann.world.sleep(6)
    assert bob.take() == [] and ann.take() == []
    bob.send(say("cursor", data={"timestamp": 1}))
    assert ann.take("cursor_moved")


def test_k4_own_other_tabs_see_an_invisible_session(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    tab = ann.world.person("ann", privacy={"invisible": True})
    assert bob.take() == []
    (event,) = ann.take()
    assert event["type"] == "user_joined" and "seq" not in event and event["sessionId"] == tab.session_id
    ann.send(say("get_active"))
    assert tab.session_id in {user["sessionId"] for user in ann.last("active")["users"]}
    assert ann.last("active")["totalCount"] == 3
    tab.hang_up(1000)
    assert ann.take("user_left") and bob.take() == []


def test_k4_own_other_tabs_learn_what_an_invisible_session_shows_no_longer(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    tab = ann.world.person("ann")
    tab.send(say("cursor", data={"timestamp": 1}))
    tab.send(say("selection", data={"startTime": 1, "endTime": 2}))
    tab.send(say("typing", data={"isTyping": True}))
    ann.take(), bob.take()
    tab.send(type="privacy", data={"invisible": True, "shareSelection": False})
    events = [each for each in ann.take() if each["sessionId"] == tab.session_id]
    ended = [(each["type"], each["data"].get("hidden") or each["data"].get("cleared")) for each in events]
    assert ended == [("cursor_moved", True), ("selection_changed", True), ("typing_stopped", None)]
    assert not [each for each in events if "seq" in each]
    assert [each["type"] for each in bob.take()] == ["user_left"]
    tab.send(say("cursor", data={"timestamp": 2}))
    ann.world.sleep(10)
    assert ann.take() == []


def test_k5_share_cursor_off_hides_it_at_once(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.send(say("cursor", data={"timestamp": 1}))
    ann.send(say("selection", data={"startTime": 1, "endTime": 2}))
    bob.take()
    ann.send(type="privacy", data={"shareCursor": False, "shareSelection": False}, id=1)
    assert [e["data"].get("hidden") or e["data"].get("cleared") for e in bob.take()] == [True, True]
    assert ann.last("ack")["shareCursor"] is False
    ann.world.sleep(1)
    ann.send(say("cursor", data={"timestamp": 2}))
    ann.send(say("selection", data={"startTime": 1, "endTime": 2}))
    assert bob.take() == []
    bob.send(say("cursor", data={"timestamp": 2}))
    assert ann.take("cursor_moved")
    late = ann.world.client().auth("late").join()
    assert not {"cursor", "selection"} & set(late.last("joined")["room"]["users"][0])


def test_k6_scope_user_covers_all_tabs_and_one_visible_tab_is_enough(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    tab = ann.world.person("ann")
    bob.take()
    ann.send(type="privacy", data={"invisible": True})
    assert bob.take()[0]["data"]["sessionCount"] == 1
    bob.send(say("get_active"))
    assert bob.last("active")["totalCount"] == 3
    tab.send(type="privacy", data={"invisible": True, "scope": "user"})
    assert bob.take("user_left")[0]["data"]["sessionCount"] == 0
    tab.send(type="privacy", data={"invisible": False, "scope": "user"})
    assert [e["data"]["sessionCount"] for e in bob.take("user_joined")] == [1, 2]


def test_k6_privacy_survives_a_resume(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    ann.send(type="privacy", data={"invisible": True, "shareCursor": False})
    bob.take()
    ann.hang_up(1006)
    again = ann.world.client().auth("ann", resumeToken=ann.resume_token).join()
    again.send(say("cursor", data={"timestamp": 1}))
    ann.world.sleep(10)
    again.hang_up(1000)
    assert bob.take() == []


def test_k7_nothing_gives_an_invisible_user_away() -> None:
    """Counts, snapshot, getActive, control list, sync totals, colours, seq and indexes are as without the invisible
    user."""

    def what_bob_sees(with_ghost: bool) -> list[Any]:
        world = World()
        bob = world.person("bob")
        if with_ghost:
            ghost = world.client().auth("ghost", privacy={"invisible": True}).join()
            # the same preferred colour as the next visible user would reveal the most
            same = world.client().auth("dave", privacy={"invisible": True}).join()
            for client in (ghost, same):
                client.send(say("cursor", data={"timestamp": 1}))
                client.send(say("typing", data={"isTyping": True}))
                client.send(say("control_request"))
                client.send(
                    say("playback", data={"action": "report", "isPlaying": True, "currentTime": 3, "playbackRate": 1})
                )
            ghost.send(type="status", data={"status": "busy"})
        else:
            world.sleep(13 * 0.006)
        world.sleep(20)
        bob.send(type="heartbeat")
        dave = world.client().auth("dave").join()
        bob.send(say("playback", data={"action": "report", "isPlaying": False, "currentTime": 0, "playbackRate": 1}))
        bob.send(say("get_active"))
        dave.hang_up(1000)
        text = str([m for m in bob.got if m["type"] not in ("authenticated", "joined")])
        for number in range(1, 9):
            text = text.replace(f"session_{number}", "session")
        import re

        return [re.sub(r"2025-01-15T[0-9:.]+Z|serverTime': \d+", "time", text), dave.last("joined")["assignedColor"]]

    assert what_bob_sees(True) == what_bob_sees(False)


def test_k7_room_full_is_the_same_for_visible_and_invisible() -> None:
    texts = []
    for privacy in ({"invisible": True}, {}):
        world = World(max_users_per_room=1)
        world.person("someone", privacy=privacy)
        texts.append(world.client().auth("bob").join().last("error"))
    assert texts[0] == texts[1]


def test_regression_a_status_set_in_an_invisible_tab_is_shown_for_the_visible_one(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    tab = ann.world.person("ann", privacy={"invisible": True})
    tab.send(type="status", data={"status": "busy"})
    (event,) = bob.take("status_changed")
    assert event["sessionId"] == ann.session_id and event["data"]["status"] == "busy"


def test_regression_what_was_shown_while_hidden_is_not_in_later_snapshots(trio: tuple[Client, ...]) -> None:
    ann, *_ = trio
    for hide, back in (({"invisible": True}, {"invisible": False}), ({"shareCursor": False}, {"shareCursor": True})):
        ann.send(type="privacy", data=hide)
        ann.send(say("cursor", data={"timestamp": 1}))
        ann.world.sleep(0.1)
        ann.send(type="privacy", data=back)
        late = ann.world.client().auth("late").join()
        row = next(user for user in late.last("joined")["room"]["users"] if user["userId"] == "ann")
        assert "cursor" not in row
        late.hang_up(1000)


def test_regression_a_resume_does_not_bring_the_cursor_back_unseen(trio: tuple[Client, ...]) -> None:
    ann, *_ = trio
    ann.send(say("cursor", data={"timestamp": 1}))
    ann.hang_up(1006)
    again = ann.world.client().auth("ann", resumeToken=ann.resume_token).join()
    own = next(user for user in again.last("joined")["room"]["users"] if user["userId"] == "ann")
    assert own["cursor"] == {"timestamp": 1}  # a client's own cursor is returned [C5]
    late = ann.world.client().auth("late").join()
    assert "cursor" not in next(user for user in late.last("joined")["room"]["users"] if user["userId"] == "ann")
    again.send(say("cursor", data={"timestamp": 2}))
    assert late.last("cursor_moved")["data"]["timestamp"] == 2


def test_regression_a_lost_session_that_becomes_visible_is_shown_as_lost(trio: tuple[Client, ...]) -> None:
    ann, bob, _ = trio
    lost = ann.world.person("ann", privacy={"invisible": True})
    lost.hang_up(1006)
    ann.send(type="privacy", data={"invisible": False, "scope": "user"})
    events = [e for e in bob.take() if e["sessionId"] == lost.session_id]
    assert [e["type"] for e in events] == ["user_joined", "status_changed"] and events[1]["data"]["connected"] is False
