"""Random actions in any order: a whole worker against a plain-dict model.

After every step: no ghost, no missing member, no cap exceeded, no invisible member visible to others, one controller at
most; and the state that each client builds from `joined` and the events after it equals a fresh snapshot.
"""

import os
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import UNSET

from koko_presence.protocol.events import encode
from koko_presence.protocol.models import PresenceUser
from koko_presence.rooms import snapshot_view
from tests.world import Client, World

USERS = ("ann", "bob", "carol", "dave")
ROOMS = ("video_1", "video_2", "lobby")
TYPES = {"video_1": "video", "video_2": "video", "lobby": "project"}
MAX_USERS, MAX_ROOMS, MAX_SESSIONS, GRACE_S = 3, 2, 2, 5.0

STATE = {"isPlaying": True, "currentTime": 1, "playbackRate": 1}

users, rooms = st.sampled_from(USERS), st.sampled_from(ROOMS)
which = st.integers(0, 30)


class Tab:
    """One session in the model, with the state that its client has built of its rooms."""

    def __init__(self, client: Client, user: str) -> None:
        self.client = client
        self.user = user
        self.id = client.session_id
        self.token = client.resume_token
        self.rooms: set[str] = set()
        self.objects: dict[str, dict[str, Any]] = {}  # room -> the own presence object
        self.invisible = False
        self.lost_at: float | None = None
        self.seen: dict[str, dict[str, dict[str, Any]]] = {}  # room -> session -> row
        self.seq: dict[str, int] = {}

    def read(self) -> None:
        """Apply all received messages, as a client does."""
        for message in self.client.take():
            room = message.get("roomId")
            kind = message["type"]
            if kind == "joined":
                self.seen[room] = {row["sessionId"]: shown(row) for row in message["room"]["users"]}
                self.seq[room] = message["seq"]
            elif kind == "left":
                self.seen.pop(room, None)
            elif "userId" in message and kind != "authenticated":
                assert room in self.seen, f"{kind} before joined"
                if "seq" in message:
                    assert message["seq"] > self.seq[room], "in order; gaps are what one did oneself [B9]"
                    self.seq[room] = message["seq"]
                self.note(self.seen[room], kind, message["sessionId"], message.get("data") or {})

    def note(self, rows: dict[str, dict[str, Any]], kind: str, session: str, data: dict[str, Any]) -> None:
        if kind == "user_joined":
            row = {"status": data["status"], "connected": True, "cursor": None, "selection": None, "typing": False}
            row["presence"] = data.get("presence", {})
            rows[session] = row | {"user": None, "color": data["color"]}
        elif kind == "user_left":
            del rows[session]
        elif kind == "cursor_moved":
            hidden = data.get("hidden", False)
            rows[session]["cursor"] = None if hidden else {k: v for k, v in data.items() if k != "color"}
        elif kind == "selection_changed":
            cleared = data.get("cleared", False)
            rows[session]["selection"] = None if cleared else {k: v for k, v in data.items() if k != "color"}
        elif kind in ("typing_started", "typing_stopped"):
            rows[session]["typing"] = kind == "typing_started"
        elif kind == "presence_changed":
            assert data, "an event without a change"
            rows[session]["presence"] = merged(rows[session]["presence"], data)
        elif kind == "status_changed":
            rows[session] |= {"connected": data["connected"]}


def merged(whole: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (whole | patch).items() if value is not None}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "connected": row["connected"],
        "cursor": row.get("cursor"),
        "selection": row.get("selection"),
        "typing": row["isTyping"],
        "presence": row.get("presence", {}),
        "color": row["color"],
    }


class Presence(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.world = World(
            max_users_per_room=MAX_USERS, max_rooms_per_user=MAX_ROOMS, max_sessions_per_user=MAX_SESSIONS,
            join_hz=10_000, status_hz=10_000, control_hz=10_000, broadcast_hz=10_000, room_linger_s=30,
        )  # fmt: skip
        self.tabs: list[Tab] = []
        self.hidden: set[str] = set()  # users who are invisible in all tabs, later ones included
        self.observer = self.world.client().auth("observer")

    # --- the model's own arithmetic

    def of_user(self, user: str) -> list[Tab]:
        return [tab for tab in self.tabs if tab.user == user]

    def members(self, room: str) -> list[Tab]:
        return [tab for tab in self.tabs if room in tab.rooms]

    def open_tabs(self) -> list[Tab]:
        return [tab for tab in self.tabs if tab.lost_at is None]

    def pick(self, number: int, among: list[Tab]) -> Tab:
        return among[number % len(among)]

    def expire(self) -> None:
        for tab in list(self.tabs):
            if tab.lost_at is not None and self.world.now >= tab.lost_at + GRACE_S - 1e-9:
                self.tabs.remove(tab)

    # --- actions

    @rule(user=users, invisible=st.booleans())
    def open_a_tab(self, user: str, invisible: bool) -> None:
        mine = self.of_user(user)
        if not mine:
            self.hidden.discard(user)
        client = self.world.client().auth(user, **({"privacy": {"invisible": True}} if invisible else {}))
        self.expire()
        if len(self.of_user(user)) >= MAX_SESSIONS:
            lost = [tab for tab in mine if tab.lost_at is not None and tab in self.tabs]
            if not lost:
                assert client.closed == 4429 and client.last("error")["code"] == "TOO_MANY_SESSIONS"
                return
            self.tabs.remove(lost[0])
        tab = Tab(client, user)
        tab.invisible = invisible or user in self.hidden
        self.tabs.append(tab)

    @precondition(lambda self: self.open_tabs())
    @rule(number=which, room=rooms)
    def join(self, number: int, room: str) -> None:
        tab = self.pick(number, self.open_tabs())
        tab.read()
        before = len(tab.client.of("joined"))
        tab.client.join(room, TYPES[room])
        self.expire()
        theirs = {each for other in self.of_user(tab.user) for each in other.rooms}
        here = {member.user for member in self.members(room)}
        if room not in theirs and len(theirs) >= MAX_ROOMS:
            expected = "TOO_MANY_ROOMS"
        elif tab.user not in here and len(here) >= MAX_USERS:
            expected = "ROOM_FULL"
        else:
            tab.rooms.add(room)
            assert len(tab.client.of("joined")) == before + 1
            return
        assert tab.client.last("error")["code"] == expected

    @precondition(lambda self: self.open_tabs())
    @rule(number=which, room=rooms)
    def leave(self, number: int, room: str) -> None:
        tab = self.pick(number, self.open_tabs())
        tab.client.send(type="leave", roomId=room)
        tab.rooms.discard(room)
        tab.objects.pop(room, None)

    @precondition(lambda self: self.open_tabs())
    @rule(number=which, code=st.sampled_from([1000, 1005, 1001, 1006]))
    def hang_up(self, number: int, code: int) -> None:
        tab = self.pick(number, self.open_tabs())
        tab.read()
        lost_at = self.world.now
        tab.client.hang_up(code)
        if code in (1000, 1005):
            self.tabs.remove(tab)
        else:
            tab.lost_at = lost_at

    @precondition(lambda self: any(tab.lost_at is not None for tab in self.tabs))
    @rule(number=which, rejoin=st.booleans())
    def resume(self, number: int, rejoin: bool) -> None:
        tab = self.pick(number, [tab for tab in self.tabs if tab.lost_at is not None])
        tab.client = self.world.client().auth(tab.user, resumeToken=tab.token)
        assert tab.client.last("authenticated")["resumed"] is True
        tab.lost_at = None
        tab.seen.clear()
        if rejoin:
            for room in sorted(tab.rooms):
                tab.client.join(room, TYPES[room])

    @precondition(lambda self: self.open_tabs())
    @rule(number=which)
    def resume_while_alive(self, number: int) -> None:
        tab = self.pick(number, self.open_tabs())
        tab.read()
        old = tab.client
        tab.client = self.world.client().auth(tab.user, resumeToken=tab.token)
        assert old.closed == 4409 and tab.client.session_id == tab.id
        old.session.on_close(1006, False)
        tab.seen.clear()

    @precondition(lambda self: self.open_tabs())
    @rule(number=which, invisible=st.booleans(), for_all=st.booleans())
    def go_invisible_or_back(self, number: int, invisible: bool, for_all: bool) -> None:
        tab = self.pick(number, self.open_tabs())
        scope = "user" if for_all else "session"
        tab.client.send(type="privacy", data={"invisible": invisible, "scope": scope})
        if for_all:
            (self.hidden.add if invisible else self.hidden.discard)(tab.user)
        for each in self.of_user(tab.user) if for_all else [tab]:
            each.invisible = invisible

    @precondition(lambda self: self.open_tabs())
    @rule(number=which, room=rooms, share=st.booleans())
    def share_cursor(self, number: int, room: str, share: bool) -> None:
        self.pick(number, self.open_tabs()).client.send(type="privacy", data={"shareCursor": share})

    @precondition(lambda self: self.open_tabs())
    @rule(number=which, room=rooms, timestamp=st.one_of(st.none(), st.integers(0, 100)))
    def point(self, number: int, room: str, timestamp: int | None) -> None:
        data = None if timestamp is None else {"timestamp": timestamp}
        self.pick(number, self.open_tabs()).client.send({"type": "cursor", "roomId": room, "data": data})

    @precondition(lambda self: self.open_tabs())
    @rule(number=which, room=rooms, clear=st.booleans())
    def select(self, number: int, room: str, clear: bool) -> None:
        data = None if clear else {"startTime": 1, "endTime": 2}
        self.pick(number, self.open_tabs()).client.send({"type": "selection", "roomId": room, "data": data})

    @precondition(lambda self: self.open_tabs())
    @rule(
        number=which,
        room=rooms,
        data=st.none() | st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 2), max_size=2),
        times=st.integers(1, 4),
    )
    def set_presence(self, number: int, room: str, data: dict[str, Any] | None, times: int) -> None:
        tab = self.pick(number, self.open_tabs())
        for turn in range(times):
            patch = data if data is None else data | {"turn": turn}
            tab.client.post({"type": "presence", "roomId": room, "data": patch})
            if room in tab.rooms:
                tab.objects[room] = {} if patch is None else merged(tab.objects.get(room, {}), patch)

    @precondition(lambda self: self.open_tabs())
    @rule(number=which, room=rooms, on=st.booleans())
    def type_something(self, number: int, room: str, on: bool) -> None:
        self.pick(number, self.open_tabs()).client.send(type="typing", roomId=room, data={"isTyping": on})

    @precondition(lambda self: self.open_tabs())
    @rule(
        number=which,
        room=rooms,
        message=st.sampled_from(
            [
                {"type": "control_request"}, {"type": "control_release"}, {"type": "control_cancel"},
                {"type": "control_grant", "data": {"toUserId": "ann"}},
                {"type": "control_deny", "data": {"toUserId": "bob"}},
                {"type": "playback", "data": {"action": "play"}}, {"type": "playback", "data": {"action": "pause"}},
                {"type": "playback", "data": {"action": "report", **STATE}},
                {"type": "broadcast", "data": {"a": 1}}, {"type": "status", "data": {"status": "busy"}},
            ]
        ),
    )  # fmt: skip
    def do(self, number: int, room: str, message: dict[str, Any]) -> None:
        self.pick(number, self.open_tabs()).client.send({"roomId": room, **message})

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 4.9, 5.1, 29.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.sleep(seconds)
        for tab in self.open_tabs():
            tab.client.post(type="heartbeat", status="active")
        self.observer.post(type="heartbeat")
        self.world.settle()
        self.expire()

    @rule()
    def everybody_falls_silent(self) -> None:
        self.world.sleep(60)
        self.observer.send(type="heartbeat")
        self.world.sleep(40)
        for tab in self.tabs:
            assert tab.lost_at is not None or tab.client.closed == 4408
        self.tabs.clear()
        self.observer.send(type="heartbeat")

    # --- invariants

    @invariant()
    def listed_are_exactly_the_visible_members(self) -> None:
        self.world.sleep(0.06)  # all values that waited for their budget have arrived
        self.expire()
        for room in ROOMS:
            self.observer.send(type="get_active", roomId=room)
            answer = self.observer.last("active")
            visible = [tab for tab in self.members(room) if not tab.invisible]
            assert {row["sessionId"] for row in answer["users"]} == {tab.id for tab in visible}
            assert answer["sessionCount"] == len(visible) == len(answer["users"])
            assert answer["totalCount"] == len({tab.user for tab in visible})
            connected = {row["sessionId"] for row in answer["users"] if row["connected"]}
            assert connected == {tab.id for tab in visible if tab.lost_at is None}
            colors = [row["color"] for row in answer["users"]]
            assert len(set(colors)) == len(colors)

    @invariant()
    def caps_hold_and_nothing_is_left_over(self) -> None:
        shard = self.world.shard
        for room in shard.rooms.values():
            for tab in self.members(room.id):
                presence = room.members[tab.id].presence
                found = {} if presence is None else {k: msgspec.json.decode(v) for k, v in presence.merged().items()}
                assert found == tab.objects.get(room.id, {})
            assert len(room.people) <= MAX_USERS
            assert set(room.members) == {tab.id for tab in self.members(room.id)}
            holder = room.control.user_id
            if holder is not None:
                session = room.members[str(room.control.session_id)]
                assert session.user_id == holder and session.visible
        assert {name for room in ROOMS if self.members(room) for name in [room]} <= set(shard.rooms)
        for user in shard.users.values():
            assert len(user.sessions) <= MAX_SESSIONS
            assert len({room for session in user.sessions.values() for room in session.rooms}) <= MAX_ROOMS
        assert set(shard.users) - {"observer"} == {tab.user for tab in self.tabs}
        assert set(self.world.hub.sessions) == {tab.id for tab in self.open_tabs()} | {self.observer.session_id}

    @invariant()
    def every_client_has_the_truth(self) -> None:
        for tab in self.open_tabs():
            tab.read()
            for room_id, seen in tab.seen.items():
                room = self.world.shard.rooms[room_id]
                rows = snapshot_view.rows(room, room.people[tab.user], tab.id)
                truth = {row.session_id: row for row in msgspec.json.decode(rows, type=list[PresenceUser])}
                for member in room.members.values():  # rows are cached; the cache must not be stale
                    fresh = encode(member.row(room.id, room.type, room.wall, full=True, own=False))
                    assert member.encoded_row(room.id, room.type, room.wall) == fresh
                assert set(seen) == set(truth)
                for session, row in seen.items():
                    if session == tab.id:
                        continue  # a client's own values are not sent to it
                    assert row["connected"] == truth[session].connected
                    assert row["typing"] == truth[session].is_typing
                    assert row["color"] == truth[session].color
                    assert row["presence"] == (truth[session].presence or {})
                    assert (row["cursor"] is not None) == (truth[session].cursor is not UNSET)
                    assert (row["selection"] is not None) == (truth[session].selection is not UNSET)


class MorePresence(Presence):
    """The same for longer."""


def examples(count: int) -> settings:
    thorough = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
    return settings(
        max_examples=2000 if thorough else count,
        stateful_step_count=60 if thorough else 40,
        deadline=None,
        derandomize=not thorough,
        suppress_health_check=list(HealthCheck),
    )


TestPresence = pytest.mark.deep(Presence.TestCase)
TestPresence.settings = examples(30)
TestMorePresence = pytest.mark.long(MorePresence.TestCase)
TestMorePresence.settings = examples(200)
