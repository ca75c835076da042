"""The clients of a simulation (tests/sim.py): tabs of users, and programs that call procedures over HTTP. Each keeps
what it wants and its view of the rooms, and checks what it receives."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.script import ALL_RIGHTS, FIRST_ISSUED_S, ROOMS, name_of
from tests.witness import MARGIN_S, Broken
from tests.world import Client, Node, Started

if TYPE_CHECKING:
    from tests.sim import Story


def token_for(user: str, rights: str, number: int = 0) -> str:
    """Return a token of tests/world.py with the scopes of `rights` in all rooms, issued `number` seconds after the
    first one."""
    name = f"{name_of(user, number)}@{FIRST_ISSUED_S + number}"
    return f"{user}:{name}:{json.dumps({'video_*': ALL_RIGHTS[rights]})}"


def merged(whole: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return a presence object with a patch applied."""
    return {key: value for key, value in (whole | patch).items() if value is not None}


class Person:
    """One tab of one user: the rooms it wants to be in, and its view of the rooms that it is in."""

    def __init__(self, story: Story, name: str, user: str) -> None:
        self.story, self.name, self.user = story, name, user
        self.wants: set[str] = set()
        self.refused: set[str] = set()  # rooms that have refused a join
        self.asked: Counter[str] = Counter()  # unanswered joins: after a refusal the next one may be accepted
        self.client: Client | None = None
        self.node: Node | None = None
        self.token: str | None = None
        self.session = ""
        self.lost_at: float | None = None  # since when it has not been authenticated
        self.dropped_at = 0.0  # when its last connection was lost
        # when the worker of its last connection noticed that this is lost, or closed it; None: not yet
        self.noticed_at: float | None = None
        self.seen: dict[str, dict[str, str]] = {}  # room -> session -> user
        self.names: dict[str, dict[str, str]] = {}  # room -> user -> name
        self.seq: dict[str, int] = {}
        self.controller: dict[str, str | None] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.read = 0
        self.rights = "all"  # of the token that is sent next
        self.granted = "all"  # of the last token that the server has accepted
        self.number = self.granted_number = 0  # of the same two tokens
        self.compact = int(name[1:]) % 2 == 1
        self.is_stream = int(name[1:]) % 3 == 1  # connected by an event stream
        self.numbers: dict[str, dict[int, str]] = {}  # room -> number in compact cursors -> session that has it now
        self.cursors: list[tuple[str, str, float]] = []  # room, session and timestamp of each cursor received
        self.words = 0
        self.privacy: dict[str, bool] = {}  # as it has to be in this tab; each `auth` repeats it
        self.privacy_ids: dict[str, str] = {}  # by switch: the id of the change that `privacy` has it from
        self.watches: list[str] = []  # rooms that it watches without joining them
        self.summaries: dict[str, tuple[int, list[str]]] = {}  # of these: number of users, and the first of them
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}  # room -> session -> presence object
        self.patches: dict[str, tuple[str, Any]] = {}  # id of an unanswered patch on this connection -> room, data
        self.patched: dict[str, str] = {}  # id of an answered one -> room
        self.came_at = 0.0  # when it last connected
        self.new_at = 0.0  # when it last returned after the grace period, or with a new session

    @property
    def here(self) -> bool:
        return self.client is not None and self.client.closed is None and self.node is not None and not self.node.dead

    @property
    def away_s(self) -> float:
        """For how many seconds it has been without an authenticated connection."""
        return 0.0 if self.lost_at is None else self.story.world.now - self.lost_at

    def come(self, slot: int | None = None) -> None:
        """Connect to the worker in that slot, or to another one if none runs there, resume the last session, and join
        the wanted rooms again."""
        story = self.story
        if self.here:
            return
        node = story.serving(slot, "come", self.name)
        if node is None:
            story.later(0.1, self.come)
            return
        self.node, self.noticed_at = node, None
        self.client = Client(story.world, self.node.hub)
        # Of two connections at the same moment of the fake clock the second one is the later one.
        self.came_at = max(story.world.now, self.came_at + 1e-6)
        self.client.session.opened_at += self.came_at - story.world.now
        if self.is_stream:
            self.client.session.become_stream()
        story.witness.on_come(self, self.client.session.connection)
        self.read = 0
        self.seen, self.seq, self.controller, self.numbers, self.settings = {}, {}, {}, {}, {}
        self.names = {}
        self.objects, self.patches = {}, {}
        more: dict[str, Any] = {} if self.token is None else {"resumeToken": self.token}
        if self.compact:
            more["caps"] = ["cursors"]
        if self.privacy:
            more["privacy"] = dict(self.privacy)
        self.say(type="auth", id=f"begin {self.rights} {self.number}", token=self.fresh_token, **more)
        for room in sorted(self.wants):
            self.say(type="join", roomId=room, roomType="video", presence={"from": self.name})
        self.summaries = {}
        if self.watches:
            self.say(type="watch", rooms=self.watches)

    def watch(self, rooms: list[str]) -> None:
        """Watch these rooms and no others, on this connection and the next ones."""
        self.watches = rooms
        if self.here:
            self.say(type="watch", rooms=rooms)

    def say(self, **message: Any) -> None:
        self.story.note(f"{self.name} > {message.get('type')} {message.get('roomId', '')}")
        client, node = self.client, self.node
        if client is not None and node is not None:
            self.story.witness.on_said(self, message, ROOMS)
            self.asked[message.get("roomId", "")] += message["type"] == "join"
            node.do(lambda: client.post(message))

    def patch(self, room: str, data: dict[str, Any] | None) -> None:
        """Change its presence object in a room."""
        if self.here:
            self.words += 1
            self.patches[f"patch {self.words}"] = (room, data)
            self.say(type="presence", id=f"patch {self.words}", roomId=room, data=data)

    def note_patched(self, ack: dict[str, Any]) -> None:
        """Check that the server has applied a patch to what this client knows as its object, and nothing but later ones
        of this client: a patch that is repeated after the loss of an owner is answered with the object as it is then.
        It may have been answered before; a snapshot between such patches has only some of them. Errors: Broken."""
        if ack["id"] in self.patched:
            self.objects.get(self.patched[ack["id"]], {})[self.session] = ack["presence"]
            return
        room, data = self.patches.pop(ack["id"], ("", None))
        self.patched[ack["id"]] = room
        mine = self.objects.get(room, {})
        if self.session in mine:
            expected = {} if data is None else merged(mine[self.session], data)
            possible = [expected]
            for later in [later for where, later in self.patches.values() if where == room]:
                possible.append({} if later is None else merged(possible[-1], later))
            if ack["presence"] not in possible:
                raise Broken(f"{self.name}: its object in {room} is {ack['presence']}, not {expected}")
            mine[self.session] = expected

    def set_status(self, status: str, text: str) -> None:
        """Set the status of its user, with a status message."""
        self.words += 1
        self.say(type="status", id=f"status {self.words}", data={"status": status, "statusMessage": text})

    def hide(self, what: str, value: bool, scope: str) -> None:
        """Switch `invisible` or `shareCursor`, for this tab or for all tabs of the user."""
        self.words += 1
        self.privacy[what], self.privacy_ids[what] = value, f"privacy {self.words}"
        for other in self.story.people if scope == "user" else ():
            if other is not self and other.user == self.user:
                other.privacy.pop(what, None)  # the other tab must not undo this when it connects again
        self.say(type="privacy", id=f"privacy {self.words}", data={what: value, "scope": scope})

    @property
    def fresh_token(self) -> str:
        return token_for(self.user, self.rights, self.number)

    def renew(self, rights: str | None = None, number: int | None = None) -> None:
        """Send a new token on the open connection, or keep it for the next one."""
        self.rights = rights or self.rights
        self.number = number or self.number
        if self.here:
            self.say(type="auth", id=f"renew {self.rights} {self.number}", token=self.fresh_token)

    def lose(self, back_s: float | None = None) -> None:
        """Lose the connection, and connect again after `back_s` seconds."""
        if not self.here:
            return
        client, node = self.client, self.node
        assert client is not None and node is not None

        def notice() -> None:
            client.session.on_close(1006, False)
            if self.client is client:
                self.noticed_at = self.story.world.now

        client.closed = 1006
        node.do(notice)
        self.note_lost(back_s)

    def note_lost(self, back_s: float | None = None, *, at: float | None = None) -> None:
        """Record that the connection was lost at `at`, by default now, and connect again in `back_s` seconds."""
        self.asked.clear()
        self.dropped_at = self.story.world.now if at is None else at
        if self.lost_at is None:  # otherwise it was not even authenticated in between
            self.lost_at = self.dropped_at
        back_s = 0.02 + 0.78 * self.story.chance("back", self.name) if back_s is None else back_s
        self.story.later(back_s, self.come)

    def go(self) -> None:
        """Close the tab for good."""
        self.wants.clear()
        self.token = None
        self.privacy = {}
        self.story.witness.on_go(self, ROOMS)
        if self.here:
            client, node = self.client, self.node
            assert client is not None and node is not None
            node.do(lambda: client.session.on_close(1000, True))
            client.closed = 1000
            self.client = None  # what arrives now is not read

    # --- what it receives

    def hear(self) -> None:
        if self.client is None:
            return
        got = self.client.got
        while self.read < len(got):
            message = got[self.read]
            self.read += 1
            self.story.note(
                f"{self.name} < {message['type']} {message.get('roomId', '')} {message.get('userId', '')} {message.get('seq', '')}"
            )
            self.story.witness.on_heard(self, message)
            self.understand(message)
        if self.client.closed is not None and self.client.closed not in (1000, 1006):
            code, closed_at, self.client = self.client.closed, self.client.closed_at, None
            self.story.note(f"{self.name} was closed with {code}")
            if code in (4429, 4401):
                self.token = None
            self.noticed_at = closed_at  # the grace period has begun then, not when an earlier connection was lost
            self.note_lost(at=closed_at)

    def report(self, room: str, buffering: bool) -> None:
        """Report a player that is where the room's playback is, and plays if that does."""
        there = self.story.world.shard.rooms.get(room)
        playback = None if there is None else there.playback
        data: dict[str, Any] = {"isPlaying": False, "currentTime": 0.0}
        if playback is not None and self.node is not None:
            now = self.story.world.now + self.story.world.clock_offset_s(self.story.world.owner_of(room).number)
            data = {"isPlaying": playback.is_playing, "currentTime": playback.position(now)}
        self.say(
            type="playback", roomId=room, data={"action": "report", "playbackRate": 1.0, "buffering": buffering, **data}
        )

    def understand(self, message: dict[str, Any]) -> None:
        kind, room = message["type"], message.get("roomId", "")
        if kind == "authenticated":
            what, self.granted, number = message["id"].split()
            self.granted_number = int(number)
            if what == "renew":
                return
            if not message["resumed"] or self.away_s > self.story.world.limits.grace_s - MARGIN_S:
                self.new_at = self.story.world.now
            if self.token is not None and not message["resumed"]:
                self.story.on_not_resumed(self)
            self.token, self.session = message["resumeToken"], message["sessionId"]
            self.lost_at = None if self.here else self.dropped_at  # lost again before this was read
            for room in message["rooms"]:  # left while it was not connected
                if room not in self.wants:
                    self.say(type="leave", roomId=room)
        elif kind == "joined":
            if room in self.refused and self.asked[room] > 0:
                self.refused.discard(room)
                self.wants.add(room)
            self.asked[room] = max(0, self.asked[room] - 1)
            self.seen[room] = {row["sessionId"]: row["userId"] for row in message["room"]["users"]}
            self.names[room] = {row["userId"]: row["name"] for row in message["room"]["users"]}
            self.numbers[room] = {row["index"]: row["sessionId"] for row in message["room"]["users"] if "index" in row}
            self.objects[room] = {row["sessionId"]: row.get("presence", {}) for row in message["room"]["users"]}
            self.seq[room] = message["seq"]
            self.controller[room] = message["room"].get("controller")
            self.settings[room] = message["room"].get("settings", {})
            self.story.note(f"{self.name} is {self.session} in {room} with {sorted(self.seen[room])}")
            if room not in self.wants:  # another join of it was refused, or it has left meanwhile
                self.say(type="leave", roomId=room)
        elif kind == "ack" and "presence" in message:
            self.note_patched(message)
        elif kind == "left":
            self.seen.pop(room, None)
        elif kind == "watching":
            self.summaries = {each: self.summaries[each] for each in message["rooms"] if each in self.summaries}
        elif kind == "room_summary":
            self.summaries[room] = (message["userCount"], [row["userId"] for row in message["users"]])
        elif kind == "error":
            # a refused change, as of a user whose presence is off, must not be made by the next `auth` after all
            for what in [what for what, id in self.privacy_ids.items() if id == message.get("id")]:
                del self.privacy_ids[what]
                self.privacy.pop(what, None)
            if message["code"] in ("ROOM_FULL", "TOO_MANY_ROOMS"):
                self.wants.discard(room)
                self.refused.add(room)
                self.asked[room] = max(0, self.asked[room] - 1)
        elif room in self.seen and "timestamp" in message:
            if "seq" in message:
                if message["seq"] <= self.seq[room]:
                    raise Broken(f"{self.name}: {kind} of {room} has seq {message['seq']} after {self.seq[room]}")
                self.seq[room] = message["seq"]
            if kind == "user_joined":
                self.seen[room][message["sessionId"]] = message["userId"]
                self.names[room][message["userId"]] = message["data"]["name"]
                self.objects[room][message["sessionId"]] = message["data"].get("presence", {})
                if "index" in message["data"]:
                    self.numbers[room][message["data"]["index"]] = message["sessionId"]
            elif kind == "user_left":
                self.seen[room].pop(message["sessionId"], None)
                gone = message["sessionId"]
                self.numbers[room] = {n: session for n, session in self.numbers[room].items() if session != gone}
                self.story.on_user_left(message, room)
            elif kind == "user_changed":
                self.names[room][message["userId"]] = message["data"]["name"]
            elif kind == "presence_changed":
                theirs = self.objects[room].get(message["sessionId"])
                if theirs is None:
                    raise Broken(f"{self.name} got a change of the object of {message['sessionId']}, not in {room}")
                self.objects[room][message["sessionId"]] = merged(theirs, message["data"])
            elif kind == "control_granted":
                self.controller[room] = message["data"]["toUserId"]
            elif kind == "control_released":
                self.controller[room] = None
            elif kind == "room_changed":
                changed = self.settings[room] | message["data"]
                self.settings[room] = {key: value for key, value in changed.items() if value is not None}
            elif kind == "cursors":
                self.see_compact(room, message["data"])
            elif kind == "cursor_moved" and "timestamp" in message["data"]:
                self.cursors.append((room, message["sessionId"], message["data"]["timestamp"]))

    def see_compact(self, room: str, rows: list[list[Any]]) -> None:
        """Check compact cursors: each number must belong to a session that is visible [B12]. Errors: Broken."""
        of = self.numbers[room]
        for row in rows:
            if row[0] not in of:
                raise Broken(f"{self.name} got a compact cursor of {row[0]} in {room}, which has {sorted(of)}")
            if len(row) > 1 and row[1] is not None:
                self.cursors.append((room, of[row[0]], row[1]))


class Machine:
    """A program that is in rooms over HTTP: it holds leases, and each of its calls goes to another worker."""

    def __init__(self, story: Story, name: str, user: str) -> None:
        self.story, self.name, self.user = story, name, user
        self.http = story.world.http(token_for(user, "all"))
        self.wants: set[str] = set()
        self.held: dict[str, str] = {}  # room -> session
        self.calls: list[tuple[Started, Node, str, str]] = []

    def call(self, name: str, room: str, slot: int | None, **more: Any) -> None:
        story = self.story
        node = story.serving(slot, "call", self.name, room)
        if node is None:
            return
        story.note(f"{self.name} > {name} {room} at {node.number}")
        started = self.http.start(name, roomId=room, clientKey=self.name, hub=node.hub, **more)
        self.calls.append((started, node, name, room))

    def enter(self, room: str, slot: int | None) -> None:
        self.wants.add(room)
        self.call("join", room, slot, roomType="video")

    def leave(self, room: str, slot: int | None) -> None:
        self.wants.discard(room)
        self.call("leave", room, slot)

    def insist(self) -> None:
        """Repeat its joins and leaves, as a program does that has not received every answer."""
        for room in ROOMS:
            if room in self.wants:
                self.call("join", room, None, roomType="video")
            else:
                self.call("leave", room, None)

    def hear(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            started, node, name, room = call
            if started.fault is not None:
                raise Broken(f"{self.name}: {name} failed: {started.fault!r}")
            if not started.done and not node.dead:
                self.calls.append(call)
            elif started.done:
                self.story.note(f"{self.name} < {name} {room} {started.error or 'done'}")
                self.understand(started, name, room)

    def understand(self, started: Started, name: str, room: str) -> None:
        if name == "join" and started.error is None:
            self.held[room] = started.result["sessionId"]
        elif name == "join" and started.error is not None and started.error.code != "UNAVAILABLE":
            self.wants.discard(room)
            self.held.pop(room, None)
        elif name == "leave" and started.error is None:
            self.held.pop(room, None)
