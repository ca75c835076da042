"""Events folded into a room's state: the server's own events, from the real rooms on a fake clock."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koko_presence.client import Event, incoming, models
from koko_presence.client.state import RoomState
from tests.world import Client, World

ROOM = "video_123"
CURSOR = {"timestamp": 15.5, "x": 0.45, "y": 0.62}


class Watcher:
    """A client of the real server whose messages are folded as they arrive."""

    def __init__(self, world: World, user: str = "watcher") -> None:
        self.state = RoomState(ROOM)
        self._taken = 0
        self._client = world.client().auth(user).join(ROOM)

    def look(self) -> RoomState:
        """Return the state after all messages received by now."""
        raw = self._client.raw
        for data in raw[self._taken :]:
            message = incoming.read(data)
            if isinstance(message, models.Joined):
                self.state.replace(message)
            elif isinstance(message, (Event, incoming.OtherEvent)):
                self.state.fold(message)
        self._taken = len(raw)
        return self.state

    def beat(self) -> None:
        """Send a heartbeat, to stay connected however long the scene is."""
        self._client.send(type="heartbeat")

    def snapshot(self) -> RoomState:
        """Return the server's state of the room, from a second join [C3]."""
        fresh = RoomState(ROOM)
        self._client.join(ROOM)
        joined = incoming.read(self._client.raw[-1])
        assert isinstance(joined, models.Joined)
        fresh.replace(joined)
        return fresh


def comparable(state: RoomState) -> dict[str, Any]:
    """The part of a room's state that events carry. Activity times, players' own states and the client's own row are in
    snapshots only."""
    rows = {}
    for user in state.others:
        row = msgspec.to_builtins(user)
        for name in ("lastActiveAt", "playbackState", "viewerSync"):
            row.pop(name)
        for shown in ("cursor", "selection"):
            if row[shown] is not None:
                row[shown] = {k: v for k, v in row[shown].items() if k not in ("color", "hidden", "cleared")}
        rows[user.session_id] = row
    return {
        "rows": rows,
        "playback": msgspec.to_builtins(state.playback),
        "media": msgspec.to_builtins(state.media),
        "sync": state.sync_enabled,
        "settings": msgspec.to_builtins(state.settings),
        "controller": state.controller,
        "requests": msgspec.to_builtins(state.requests),
        "seq": state.seq,
    }


def scene() -> tuple[World, Watcher, Client]:
    world = World()
    watcher = Watcher(world)
    ann = world.person("ann", ROOM)
    return world, watcher, ann


def row(watcher: Watcher, client: Client) -> Any:
    return watcher.look().users[client.session_id]


def test_a_person_comes_and_goes() -> None:
    _, watcher, ann = scene()
    assert row(watcher, ann).name == "Ann" and list(watcher.state.people) == ["watcher", "ann"]
    ann.hang_up(1000)
    assert [user.user_id for user in watcher.look().users.values()] == ["watcher"]


def test_two_tabs_are_two_rows_of_one_person_c7() -> None:
    world, watcher, _ = scene()
    world.person("ann", ROOM)
    assert len(watcher.look().people["ann"]) == 2 and len(watcher.state.others) == 2


def test_cursor_and_selection_are_shown_and_taken_away() -> None:
    world, watcher, ann = scene()
    ann.send(type="cursor", roomId=ROOM, data=CURSOR)
    ann.send(type="selection", roomId=ROOM, data={"startTime": 1.0, "endTime": 2.0})
    user = row(watcher, ann)
    assert (user.cursor.timestamp, user.cursor.x, user.cursor.y) == (15.5, 0.45, 0.62)
    assert (user.selection.start_time, user.selection.end_time) == (1.0, 2.0)
    world.sleep(0.1)
    ann.send(type="cursor", roomId=ROOM, data=None)
    ann.send(type="selection", roomId=ROOM, data=None)
    assert row(watcher, ann).cursor is None and row(watcher, ann).selection is None


def test_cursor_and_selection_stay_in_the_film_that_is_replaced_h19() -> None:
    world, watcher, ann = scene()
    ann.send(type="media", roomId=ROOM, data={"mediaId": "film_1"})
    ann.send(type="cursor", roomId=ROOM, data=CURSOR)
    ann.send(type="selection", roomId=ROOM, data={"startTime": 1.0, "endTime": 2.0})
    before = watcher.look().users[ann.session_id].cursor
    assert before is not None and before.media_id is None
    ann.send(type="media", roomId=ROOM, data={"mediaId": "film_2"})
    user = row(watcher, ann)
    assert (user.cursor.media_id, user.selection.media_id, before.media_id) == ("film_1", "film_1", None)
    world.sleep(0.1)
    ann.send(type="cursor", roomId=ROOM, data=CURSOR)
    assert row(watcher, ann).cursor.media_id is None


def test_typing_ends_by_itself_after_five_seconds_g1() -> None:
    world, watcher, ann = scene()
    ann.send(type="typing", roomId=ROOM, data={"isTyping": True, "context": "comment"})
    assert row(watcher, ann).is_typing and row(watcher, ann).typing_context == "comment"
    world.sleep(5.1)
    assert not row(watcher, ann).is_typing and row(watcher, ann).typing_context is None


def test_a_status_is_the_persons_and_connected_is_the_sessions_d10() -> None:
    world, watcher, ann = scene()
    other_tab = world.person("ann", ROOM)
    ann.send(type="status", data={"status": "busy", "statusMessage": "on a call"})
    assert [row(watcher, tab).status for tab in (ann, other_tab)] == ["busy", "busy"]
    ann.hang_up(1006)
    assert (row(watcher, ann).status, row(watcher, ann).connected) == ("away", False)
    assert (row(watcher, other_tab).status, row(watcher, other_tab).connected) == ("busy", True)


def test_a_new_name_is_that_of_all_sessions_and_of_a_waiting_request_a5() -> None:
    world = World()
    watcher = Watcher(world)
    ann, tab = world.person("ann:Ann", ROOM), world.person("ann:Ann", ROOM)
    world.person("bob", ROOM).send(type="control_request", roomId=ROOM)
    ann.send(type="control_request", roomId=ROOM)
    assert watcher.look().requests["ann"].requester_name == "Ann"
    tab.send({"type": "auth", "token": "ann:Anna"})
    state = watcher.look()
    assert [user.name for user in state.people["ann"]] == ["Anna", "Anna"]
    assert state.requests["ann"].requester_name == "Anna" == watcher.snapshot().requests["ann"].requester_name


def test_playback_follows_commands_and_an_older_version_changes_nothing_h16() -> None:
    _, watcher, ann = scene()
    sync = {"action": "sync", "isPlaying": True, "currentTime": 45.5, "playbackRate": 1.0}
    ann.send(type="playback", roomId=ROOM, data=sync)
    old = next(data for data in watcher._client.raw if b"playback_synced" in data)
    ann.send(type="playback", roomId=ROOM, data={"action": "pause", "currentTime": 50.0})
    playback = watcher.look().playback
    assert playback is not None and (playback.is_playing, playback.current_time, playback.version) == (False, 50.0, 2)
    watcher.state.fold(incoming.read(old))
    assert watcher.state.playback is playback


def test_control_is_requested_granted_and_released() -> None:
    world, watcher, ann = scene()
    bob = world.person("bob", ROOM)
    ann.send(type="control_request", roomId=ROOM)
    bob.send(type="control_request", roomId=ROOM)
    assert watcher.look().controller == "ann" and watcher.state.requests["bob"].requester_name == "Bob"
    ann.send(type="control_grant", roomId=ROOM, data={"toUserId": "bob"})
    assert (watcher.look().controller, watcher.state.requests) == ("bob", {})
    assert watcher.state.controller_session_id == bob.session_id
    bob.send(type="control_release", roomId=ROOM)
    assert watcher.look().controller is None


def test_a_denied_request_and_one_of_a_member_that_left_are_removed() -> None:
    world, watcher, ann = scene()
    bob, eve = world.person("bob", ROOM), world.person("eve", ROOM)
    for client in (ann, bob, eve):
        client.send(type="control_request", roomId=ROOM)
    ann.send(type="control_deny", roomId=ROOM, data={"toUserId": "bob"})
    eve.hang_up(1000)
    assert watcher.look().requests == {}


def test_settings_follow_the_back_end_and_null_is_the_default_q10() -> None:
    world, watcher, _ = scene()
    world.change_room(ROOM, title="Cut 3", maxUsers=5)
    assert (watcher.look().settings.title, watcher.state.settings.max_users) == ("Cut 3", 5)
    world.change_room(ROOM, title=None)
    assert watcher.look().settings == watcher.snapshot().settings == models.RoomSettings(max_users=5)


def test_before_a_delayed_start_the_position_stands_h10() -> None:
    world, watcher, ann = scene()
    ann.send(type="playback", roomId=ROOM, data={"action": "play", "currentTime": 10.0, "startDelayMs": 2000})
    playback = watcher.look().playback
    assert playback is not None
    now_ms = world.wall.ms(world.now)
    assert playback.position(now_ms) == playback.position(now_ms + 1900) == 10.0
    assert playback.position(now_ms + 3000) == pytest.approx(11.0, abs=0.01)


def test_viewers_in_sync_are_counted_h7() -> None:
    _, watcher, ann = scene()
    state = {"isPlaying": True, "currentTime": 45.5, "playbackRate": 1.0}
    ann.send(type="playback", roomId=ROOM, data={"action": "sync", **state})
    ann.send(type="playback", roomId=ROOM, data={"action": "report", **state})
    assert row(watcher, ann).viewer_sync.state == "synced" and watcher.state.synced == (1, 2)


@pytest.mark.parametrize("type_", ["user_left", "cursor_moved", "selection_changed", "typing_started", "viewer_sync"])
def test_an_event_of_an_unknown_session_changes_nothing(type_: str) -> None:
    _, watcher, _ = scene()
    before = comparable(watcher.look())
    data = {
        "state": "synced",
        "driftMs": 0,
        "synced": 1,
        "total": 2,
        "startTime": 1.0,
        "sessionCount": 1,
        "color": "#10B981",
        "reason": "left",
    }
    stranger = {"roomId": ROOM, "userId": "ghost", "sessionId": "s", "timestamp": "t", "data": data}
    event = incoming.read(msgspec.json.encode({"type": type_, **stranger}))
    assert isinstance(event, Event)
    watcher.state.fold(event)
    assert comparable(watcher.state) == before


USERS = st.sampled_from(["ann", "bob", "eve"])
DEEDS: dict[str, Any] = {
    "cursor": {"type": "cursor", "data": CURSOR},
    "hide": {"type": "cursor", "data": None},
    "select": {"type": "selection", "data": {"startTime": 1.0, "endTime": 2.0}},
    "clear": {"type": "selection", "data": None},
    "type": {"type": "typing", "data": {"isTyping": True, "context": "reply"}},
    "stop": {"type": "typing", "data": {"isTyping": False}},
    "busy": {"type": "status", "data": {"status": "busy", "statusMessage": "on a call"}},
    "free": {"type": "status", "data": {"status": "active", "statusMessage": ""}},
    "vanish": {"type": "privacy", "data": {"invisible": True}},
    "appear": {"type": "privacy", "data": {"invisible": False}},
    "shy": {"type": "privacy", "data": {"shareCursor": False, "shareSelection": False}},
    "open": {"type": "privacy", "data": {"shareCursor": True, "shareSelection": True}},
    "sync": {
        "type": "playback",
        "data": {"action": "sync", "isPlaying": True, "currentTime": 5.0, "playbackRate": 1.0},
    },
    "pause": {"type": "playback", "data": {"action": "pause"}},
    "ask": {"type": "control_request"},
    "release": {"type": "control_release"},
    "cancel": {"type": "control_cancel"},
    "first film": {"type": "media", "data": {"mediaId": "film_1"}},
    "second film": {"type": "media", "data": {"mediaId": "film_2"}},
    "no film": {"type": "media", "data": {"mediaId": None}},
    "left film": {"type": "media", "data": {"mediaId": "film_1", "target": "left"}},
    "no left film": {"type": "media", "data": {"mediaId": None, "target": "left"}},
    "select left": {"type": "selection", "data": {"startTime": 3.0, "endTime": 4.0, "target": "left"}},
    "cursor in a film": {"type": "cursor", "data": {**CURSOR, "mediaId": "film_2"}},
    "grant": {"type": "control_grant", "data": {"toUserId": "bob"}},
}
STEPS = st.tuples(
    USERS, st.sampled_from([*DEEDS, "enter", "leave", "drop", "resume"]), st.sampled_from([0.0, 0.6, 3.0, 6.0])
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_snapshot_and_events_after_it_are_the_next_snapshot_b11(steps: list[tuple[str, str, float]]) -> None:
    world = World()
    watcher = Watcher(world)
    tabs: dict[str, list[Client]] = {"ann": [], "bob": [], "eve": []}
    for user, deed, wait_s in steps:
        tabs[user] = [tab for tab in tabs[user] if tab.closed is None]
        if deed == "enter" or not tabs[user]:
            if len(tabs[user]) < 3:
                tabs[user].append(world.person(user, ROOM))
        elif deed == "resume":
            tab = tabs[user].pop(0)
            tab.hang_up(1006)
            world.sleep(wait_s)  # within the grace period or after it
            tabs[user].append(world.person(user, ROOM, resumeToken=tab.resume_token))
        elif deed in ("leave", "drop"):
            tabs[user][0].hang_up(1000 if deed == "leave" else 1006)
        else:
            message = DEEDS[deed]
            tabs[user][0].send({**message, **({} if message["type"] in ("status", "privacy") else {"roomId": ROOM})})
        world.sleep(wait_s)
        watcher.beat()
    world.sleep(1.0)
    folded = comparable(watcher.look())
    assert folded == comparable(watcher.snapshot())
