"""Decisions C: rooms, their snapshot, caps and lifetime."""

from typing import Any

import pytest

from koko_presence.access.policy import NO, AllowAll, ClaimsAccess, Grant
from tests.world import Client, World


def test_c1_a_live_rooms_type_is_fixed() -> None:
    world = World()
    world.person("ann", "lobby", "project")
    bob = world.client().auth("bob").join("lobby", "comparison", id=1)
    error = bob.last("error")
    assert (error["code"], error["id"], error["roomId"]) == ("ROOM_TYPE_MISMATCH", 1, "lobby")
    assert not bob.of("joined")


@pytest.mark.parametrize("prefix", ["video", "project", "comment_thread", "comparison"])
def test_c1_a_known_prefix_implies_the_type(prefix: str) -> None:
    client = World().client().auth("ann")
    client.send(type="join", roomId=f"{prefix}_1")
    assert client.last("joined")["room"]["type"] == prefix
    wrong = "project" if prefix != "project" else "video"
    client.join(f"{prefix}_2", wrong)
    assert client.last("error")["code"] == "ROOM_TYPE_MISMATCH"


def test_c2_without_a_type_the_live_rooms_counts_or_it_is_an_error() -> None:
    world = World()
    client = world.client().auth("ann")
    client.send(type="join", roomId="lobby")
    assert client.last("error")["code"] == "INVALID_MESSAGE"
    world.person("bob", "lobby", "project")
    client.send(type="join", roomId="lobby")
    assert client.last("joined")["room"]["type"] == "project"


def test_c3_joining_twice_only_repeats_the_snapshot() -> None:
    world = World()
    bob = world.person("bob")
    ann = world.person("ann")
    bob.take()
    ann.join(id=2)
    first, second = ann.of("joined")
    assert second["id"] == 2 and second["assignedColor"] == first["assignedColor"]
    assert second["room"]["sessionCount"] == 2 and bob.take() == []


@pytest.mark.one_worker
def test_c4_join_is_answered_before_any_event_of_the_room() -> None:
    world = World()
    ann, bob = world.person("ann"), world.client().auth("bob")
    for number in range(10):
        ann.post(type="broadcast", roomId="video_123", data={"n": number})
        if number == 5:
            bob.post(type="join", roomId="video_123", roomType="video")
    world.settle()
    kinds = [message["type"] for message in bob.take()]
    assert kinds == ["authenticated", "joined"] + ["broadcast"] * 4


def test_c5_the_snapshot_has_everything_the_others_show() -> None:
    world = World()
    ann = world.person("ann")
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 1.5, "x": 0.5, "y": 0.25, "target": "left"})
    ann.send(type="selection", roomId="video_123", data={"startTime": 1, "endTime": 2})
    ann.send(type="typing", roomId="video_123", data={"isTyping": True, "context": "reply"})
    ann.send(type="status", data={"status": "reviewing", "statusMessage": "scene 4"})
    ann.send(
        type="playback",
        roomId="video_123",
        data={"action": "sync", "isPlaying": True, "currentTime": 5, "playbackRate": 2},
    )
    ann.send(
        type="playback",
        roomId="video_123",
        data={"action": "report", "isPlaying": True, "currentTime": 5, "playbackRate": 2},
    )
    room = world.client().auth("bob").join().last("joined")["room"]
    row = next(user for user in room["users"] if user["userId"] == "ann")
    assert row["cursor"] == {"timestamp": 1.5, "x": 0.5, "y": 0.25, "target": "left"}
    assert row["selection"] == {"startTime": 1, "endTime": 2}
    assert row["isTyping"] and row["typingContext"] == "reply"
    assert (row["status"], row["statusMessage"], row["activity"]) == ("reviewing", "scene 4", "active")
    assert row["isWatching"] and row["playbackState"] == {"isPlaying": True, "currentTime": 5, "playbackRate": 2}
    assert row["viewerSync"]["state"] == "synced" and row["connected"]
    assert room["playback"]["isPlaying"] and room["playback"]["version"] == 1


def test_c5_a_clients_own_cursor_is_returned_only_on_resume() -> None:
    world = World()
    ann = world.person("ann")
    world.person("bob")
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 1.5})
    ann.hang_up(1006)
    again = world.client().auth("ann", resumeToken=ann.resume_token).join()
    own = [user for user in again.last("joined")["room"]["users"] if user["userId"] == "ann"]
    assert own[0]["cursor"] == {"timestamp": 1.5}
    again.send(type="leave", roomId="video_123")
    fresh = world.client().auth("ann").join()
    assert "cursor" not in next(u for u in fresh.last("joined")["room"]["users"] if u["userId"] == "ann")


def test_c6_the_cap_counts_users_not_sessions() -> None:
    world = World(join_hz=1000)
    for user in range(100):
        for _ in range(2):
            world.client().auth(f"user{user}").join()
    room = world.shard.rooms["video_123"]
    assert len(room.members) == 200 and len(room.people) == 100
    late = world.client().auth("late").join(id=1)
    error = late.last("error")
    assert error["code"] == "ROOM_FULL" and error["id"] == 1
    assert not any(character.isdigit() for character in error["message"])  # [C8]
    assert len(room.people) == 100


def test_c7_rows_are_sessions_counts_are_users() -> None:
    world = World()
    world.person("ann"), world.person("ann"), world.person("bob")
    room = world.client().auth("carol").join().last("joined")["room"]
    assert len(room["users"]) == 4 and room["userCount"] == 3 and room["sessionCount"] == 4
    assert len({user["sessionId"] for user in room["users"]}) == 4


def test_c8_the_invisible_take_a_place_but_are_in_no_number() -> None:
    world = World(max_users_per_room=2)
    world.person("ghost", privacy={"invisible": True})
    ann = world.client().auth("ann").join()
    assert ann.last("joined")["room"]["userCount"] == 1
    assert world.client().auth("bob").join().last("error")["code"] == "ROOM_FULL"


@pytest.mark.one_worker
def test_c9_a_user_in_a_full_room_may_open_another_tab_and_the_grace_period_holds_a_place() -> None:
    world = World(max_users_per_room=1)
    ann = world.person("ann")
    assert world.client().auth("ann").join().of("joined")
    ann.hang_up(1006)
    other = next(iter(world.hub.sessions.values()))
    other.on_close(1000, True)
    world.settle()
    assert world.client().auth("bob").join().last("error")["code"] == "ROOM_FULL"
    world.sleep(6)
    assert world.client().auth("bob").join().of("joined")


def test_c10_ten_distinct_rooms_over_all_sessions() -> None:
    world = World()
    one, two = world.client().auth("ann"), world.client().auth("ann")
    for number in range(5):
        assert one.join(f"video_{number}").last("joined")
        assert two.join(f"video_{number + 5}").last("joined")
    two.join("video_10", id=3)
    assert two.last("error") | {"message": ""} == {
        "type": "error", "code": "TOO_MANY_ROOMS", "message": "", "id": 3, "roomId": "video_10",
    }  # fmt: skip
    assert two.join("video_0").last("joined")["roomId"] == "video_0"
    one.send(type="leave", roomId="video_1")
    assert two.join("video_10").last("joined")["roomId"] == "video_10"


def test_c11_a_sixth_session_is_refused() -> None:
    world = World()
    for _ in range(5):
        world.client().auth("ann")
    sixth = world.client().auth("ann", id=6)
    assert sixth.last("error")["code"] == "TOO_MANY_SESSIONS" and sixth.last("error")["id"] == 6
    assert sixth.closed == 4429


def test_c11_a_session_in_its_grace_makes_place_first() -> None:
    world = World()
    tabs = [world.person("ann") for _ in range(5)]
    bob = world.person("bob")
    tabs[2].hang_up(1006)
    bob.take()
    assert world.client().auth("ann").of("authenticated")
    (left,) = bob.take("user_left")
    assert left["sessionId"] == tabs[2].session_id and left["data"]["sessionCount"] == 4
    assert world.client().auth("ann", resumeToken=tabs[2].resume_token).last("error")["code"] == "TOO_MANY_SESSIONS"


def test_c11_evict_oldest_is_an_option() -> None:
    world = World(evict_oldest=True)
    tabs = [world.person("ann") for _ in range(5)]
    assert world.client().auth("ann").of("authenticated")
    assert [tab.closed for tab in tabs] == [4429, None, None, None, None]


def test_c12_the_last_leave_frees_the_room_at_once() -> None:
    world = World()
    ann = world.person("ann")
    ann.send(type="leave", roomId="video_123")
    assert not world.shard.rooms


def test_c12_a_lone_viewers_reload_keeps_the_room_for_30_s_after_the_grace() -> None:
    world = World()
    ann = world.person("ann")
    created = ann.last("joined")["room"]["createdAt"]
    ann.send(type="playback", roomId="video_123", data={"action": "seek", "currentTime": 33.0})
    ann.hang_up(1001)
    world.sleep(20)
    again = world.client().auth("ann").join()
    room = again.last("joined")["room"]
    assert room["createdAt"] == created and room["playback"]["currentTime"] == 33.0
    again.hang_up(1001)
    world.sleep(5 + 29)
    assert world.shard.rooms
    world.sleep(2)
    assert not world.shard.rooms and not world.shard.users


def test_c13_get_active_of_an_unknown_room_is_empty() -> None:
    client = World().client().auth("ann")
    client.send(type="get_active", roomId="nowhere", roomType="video", id=1)
    assert client.last("active") == {
        "type": "active", "id": 1, "roomId": "nowhere", "users": [], "totalCount": 0, "sessionCount": 0,
    }  # fmt: skip


@pytest.fixture
def shown() -> Client:
    world = World()
    ann = world.person("ann")
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 1.5})
    ann.send(type="selection", roomId="video_123", data={"startTime": 1, "endTime": 2})
    ann.send(type="typing", roomId="video_123", data={"isTyping": True, "context": "private"})
    ann.send(
        type="playback",
        roomId="video_123",
        data={"action": "report", "isPlaying": True, "currentTime": 5, "playbackRate": 1},
    )
    return ann


def test_c14_non_members_see_less(shown: Client) -> None:
    outsider = shown.world.client().auth("bob")
    outsider.send(type="get_active", roomId="video_123")
    (row,) = outsider.last("active")["users"]
    assert row["name"] == "Ann" and not {"cursor", "selection", "typingContext", "playbackState"} & set(row)
    member = shown.world.client().auth("bob").join()
    member.send(type="get_active", roomId="video_123")
    row = member.last("active")["users"][0]
    assert {"cursor", "selection", "typingContext", "playbackState"} <= set(row)


def test_c14_get_active_needs_access() -> None:
    world = World(access=ClaimsAccess())
    outsider = world.client().auth('bob:Bob:{"video_1":["join"]}')
    outsider.send(type="get_active", roomId="video_2", id=1)
    assert outsider.last("error")["code"] == "FORBIDDEN" and outsider.last("error")["id"] == 1
    outsider.send(type="get_active", roomId="video_1")
    assert outsider.last("active")["totalCount"] == 0


def test_c15_optional_fields_are_absent_not_null(shown: Client) -> None:
    bob = shown.world.client().auth("bob").join()
    bob.send(type="get_active", roomId="video_123")
    for row in bob.last("active")["users"]:
        assert None not in row.values()
        assert {"userId", "sessionId", "roomId", "roomType", "lastActiveAt", "status", "isTyping", "isWatching"} <= set(
            row
        )


@pytest.mark.parametrize(
    ("type_", "enabled"), [("video", True), ("comparison", True), ("project", False), ("comment_thread", False)]
)
def test_c16_sync_is_on_where_there_is_a_video(type_: str, enabled: bool) -> None:
    assert World().client().auth("ann").join("room", type_).last("joined")["room"]["syncEnabled"] is enabled


def test_c16_a_controller_or_moderator_switches_sync() -> None:
    world = World(access=AllowAll())
    ann = world.person("ann")
    mod = world.person('mod:Mod:{"video_123":["join","moderate"]}')
    bob = world.person("bob")
    off = {"type": "playback", "roomId": "video_123", "data": {"action": "disable"}}
    bob.send(off)
    assert bob.last("error")["code"] == "NOT_CONTROLLER"
    mod.send(off)
    assert bob.last("playback_synced")["data"]["syncEnabled"] is False
    ann.send(type="playback", roomId="video_123", data={"action": "play"})
    assert ann.last("error")["code"] == "SYNC_DISABLED"
    ann.send(type="control_request", roomId="video_123")
    ann.send(type="playback", roomId="video_123", data={"action": "enable"})
    assert bob.last("playback_synced")["data"]["syncEnabled"] is True


@pytest.mark.parametrize("room", ["", "x" * 129, "a\nb", "a\x00", "\x7f", 5, None])
def test_c17_room_ids_are_1_to_128_printable_characters(room: object) -> None:
    client = World().client().auth("ann")
    client.send({"type": "join", "roomId": room, "roomType": "video"})
    assert client.last("error")["code"] == "INVALID_MESSAGE" and not client.of("joined")


def test_c17_128_characters_are_fine() -> None:
    assert World().client().auth("ann").join("é" * 128).of("joined")


def test_c1_access_to_a_project_does_not_show_a_video_of_the_same_id() -> None:
    class ByType:
        def check(self, identity: Any, room_id: str, room_type: Any, **more: Any) -> Grant:
            return Grant(allow=True) if identity.user_id == "ann" or room_type == "project" else NO

    world = World(access=ByType())
    world.person("ann", "42", "video")
    eve, http = world.client().auth("eve"), world.http("eve")
    eve.take()
    eve.send(type="get_active", roomId="42", roomType="project", id=7)
    (error,) = eve.take()
    assert (error["code"], error["id"]) == ("ROOM_TYPE_MISMATCH", 7) and "ann" not in str(error)
    assert http.refused("getActive", roomId="42", roomType="project").code == "ROOM_TYPE_MISMATCH"
    assert http.refused("getActive", roomId="42", roomType="video").code == "FORBIDDEN"
    assert world.http("ann").call("getActive", roomId="42")["totalCount"] == 1
    assert http.call("getActive", roomId="43", roomType="project")["totalCount"] == 0  # [C13]
