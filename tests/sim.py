"""Workers, their links and a crowd of people on a fake clock, with everything going wrong that can, from one seed.

The shards, rings, buses and edges are the real ones. Delays differ from link to link, links are cut and mended, workers
crash, stop for a while, are replaced and rolled; people come, point, talk, lose their connection and come back;
machines hold leases and call procedures on any worker. After every step the invariants of `Story.check` hold, and once it is quiet again those of `Story.check_calm`. The same seed
gives the same story to the last byte.

    python -m tests.sim 1 1000        seeds 1 to 1000; the first that fails is told with its story
"""

import hashlib
import logging
import random
import sys
import time
from collections import Counter
from typing import Any

from koko_presence.cluster.cluster_bus import ClusterBus
from tests.witness import Broken, Witness, memory
from tests.world import Client, Node, Started, World

ROOMS = ("video_1", "video_2", "video_3")
GRACE_S = 5.0
MARGIN_S = 0.5  # nobody is blamed for a grace that was nearly over
CAPS = {"max_users_per_room": 5, "max_rooms_per_user": 2, "max_sessions_per_user": 5}


class Complaints(logging.Handler):
    """What the code under test logs as an error is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


COMPLAINTS = Complaints()
logging.getLogger("koko_presence").addHandler(COMPLAINTS)


class Person:
    """One tab of one user: what it wants, and what it believes of the rooms that it is in."""

    def __init__(self, story: "Story", name: str, user: str) -> None:
        self.story, self.name, self.user = story, name, user
        self.wants: set[str] = set()
        self.refused: set[str] = set()  # rooms that have refused a join
        self.asked: Counter[str] = (
            Counter()
        )  # joins that have not been answered: after a refusal the next may be let in
        self.client: Client | None = None
        self.node: Node | None = None
        self.token: str | None = None
        self.session = ""
        self.lost_at: float | None = None
        self.seen: dict[str, dict[str, str]] = {}  # room -> session -> user
        self.seq: dict[str, int] = {}
        self.controller: dict[str, str | None] = {}
        self.read = 0

    @property
    def here(self) -> bool:
        return self.client is not None and self.client.closed is None and self.node is not None and not self.node.dead

    def come(self) -> None:
        """Connect to some worker, with the token of the session before, and go into the rooms again."""
        story = self.story
        running = [node for node in story.world.nodes.values() if node.stopped is None and node.served]
        if self.here:
            return
        if not running:
            story.later(0.1, self.come)
            return
        self.node = story.random.choice(running)
        self.client = Client(story.world, self.node.hub)
        story.witness.on_come(self, self.client.session.connection)
        self.read = 0
        self.seen, self.seq, self.controller = {}, {}, {}
        more = {} if self.token is None else {"resumeToken": self.token}
        self.say(type="auth", token=self.user, **more)
        for room in sorted(self.wants):
            self.say(type="join", roomId=room, roomType="video")

    def say(self, **message: Any) -> None:
        self.story.note(f"{self.name} > {message.get('type')} {message.get('roomId', '')}")
        client, node = self.client, self.node
        if client is not None and node is not None:
            self.story.witness.on_said(self, message, ROOMS)
            self.asked[message.get("roomId", "")] += message["type"] == "join"
            node.do(lambda: client.post(message))

    def lose(self) -> None:
        """The connection breaks; it comes back after a while."""
        if self.here:
            client, node = self.client, self.node
            assert client is not None and node is not None
            node.do(lambda: client.session.on_close(1006, False))
            client.closed = 1006
        self.note_lost()

    def note_lost(self) -> None:
        self.asked.clear()
        self.lost_at = self.story.world.now
        self.story.later(self.story.random.uniform(0.02, 0.8), self.come)

    def go(self) -> None:
        """Close the tab for good."""
        self.wants.clear()
        self.token = None
        self.story.witness.on_go(self, ROOMS)
        if self.here:
            client, node = self.client, self.node
            assert client is not None and node is not None
            node.do(lambda: client.session.on_close(1000, True))
            client.closed = 1000
            self.client = None  # nobody reads what comes now

    # --- what it hears

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
            code, self.client = self.client.closed, None
            self.story.note(f"{self.name} was closed with {code}")
            if code in (4429, 4401):
                self.token = None
            self.note_lost()

    def understand(self, message: dict[str, Any]) -> None:
        kind, room = message["type"], message.get("roomId", "")
        if kind == "authenticated":
            if self.token is not None and not message["resumed"]:
                self.story.on_not_resumed(self)
            self.token, self.session = message["resumeToken"], message["sessionId"]
            if self.here:  # and not lost again before this was read
                self.lost_at = None
            for room in message["rooms"]:  # left while nobody could hear it
                if room not in self.wants:
                    self.say(type="leave", roomId=room)
        elif kind == "joined":
            if room in self.refused and self.asked[room] > 0:
                self.refused.discard(room)
                self.wants.add(room)
            self.asked[room] = max(0, self.asked[room] - 1)
            self.seen[room] = {row["sessionId"]: row["userId"] for row in message["room"]["users"]}
            self.seq[room] = message["seq"]
            self.controller[room] = message["room"].get("controller")
            self.story.note(f"{self.name} is {self.session} in {room} with {sorted(self.seen[room])}")
            if room not in self.wants:  # another join of it was refused, or it has left meanwhile
                self.say(type="leave", roomId=room)
        elif kind == "left":
            self.seen.pop(room, None)
        elif kind == "error":
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
            elif kind == "user_left":
                self.seen[room].pop(message["sessionId"], None)
                self.story.on_user_left(message, room)
            elif kind == "control_granted":
                self.controller[room] = message["data"]["toUserId"]
            elif kind == "control_released":
                self.controller[room] = None


class Machine:
    """A program that is in rooms by HTTP: it holds leases, and each of its calls lands on another worker."""

    def __init__(self, story: "Story", name: str, user: str) -> None:
        self.story, self.name, self.user = story, name, user
        self.http = story.world.http(user)
        self.wants: set[str] = set()
        self.held: dict[str, str] = {}  # room -> session
        self.calls: list[tuple[Started, Node, str, str]] = []

    def call(self, name: str, room: str, **more: Any) -> None:
        story = self.story
        running = [node for node in story.world.nodes.values() if node.stopped is None and node.served]
        if not running:
            return
        node = story.random.choice(running)
        story.note(f"{self.name} > {name} {room} at {node.number}")
        started = self.http.start(name, roomId=room, clientKey=self.name, hub=node.hub, **more)
        self.calls.append((started, node, name, room))

    def enter(self, room: str) -> None:
        self.wants.add(room)
        self.call("join", room, roomType="video")

    def leave(self, room: str) -> None:
        self.wants.discard(room)
        self.call("leave", room)

    def insist(self) -> None:
        """Say again what it wants, as a program does that has not heard of everything."""
        for room in ROOMS:
            if room in self.wants:
                self.call("join", room, roomType="video")
            else:
                self.call("leave", room)

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


class Story:
    """One seed."""

    def __init__(self, seed: int, workers: int | None = None, people: int = 8) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        workers = workers or 2 + seed % 4
        self.world = World(workers=workers, grace_s=GRACE_S, **CAPS)  # type: ignore[arg-type]
        self.world.link_delay_s = lambda: self.random.choice((0.0001, 0.0005, 0.002, 0.02)) * self.random.random()
        self.lines: list[str] = []
        self.next_id = workers + 1
        self.people = [Person(self, f"p{n}", f"user{n * 2 // 3}") for n in range(people)]
        self.machines = [Machine(self, "m0", "user0"), Machine(self, "m1", "user1")]
        self.views: dict[int, float] = {}
        self.rolling = False
        self.witness = Witness(self)

    # --- telling

    def note(self, line: str) -> None:
        self.lines.append(f"{self.world.now:.6f} {line}")

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    def later(self, delay: float, callback: Any) -> None:
        self.world.timers.call_later(delay, callback)

    # --- the supervisor

    def publish(self, leaving: frozenset[int] = frozenset()) -> None:
        """A new view; every worker hears of it at its own time, but never in another order."""
        world = self.world
        view = world.next_view(leaving)
        for node in list(world.nodes.values()):
            at = max(self.views.get(node.number, 0.0), world.now + self.random.uniform(0.0002, 0.005))
            self.views[node.number] = at
            bus = node.bus
            assert isinstance(bus, ClusterBus)
            self.later(
                at - world.now, lambda node=node, bus=bus: node.do(lambda: bus.on_view(view, world.now), first=True)
            )

    def crash(self, node: Node) -> None:
        """kill -9: the supervisor sees it and starts another in its slot."""
        world = self.world
        if node.dead or not any(
            other is not node and other.number not in self.leaving() for other in world.nodes.values()
        ):
            if node.stopped is not None and not node.dead:
                self.later(0.2, lambda: self.crash(node))
            return  # the last owner takes everything with it: that is another story
        self.note(f"worker {node.number} dies")
        node.dead = True
        del world.nodes[node.number]
        for person in self.people:
            if person.node is node and person.client is not None:
                person.client.closed = person.client.closed or 1006
                person.note_lost()
        self.publish(self.leaving())
        slot = world.slots[node.number]
        self.later(self.random.uniform(0.05, 0.3), lambda: self.start(slot))

    def start(self, slot: int) -> Node | None:
        if any(self.world.slots[number] == slot for number in self.world.nodes.keys() - self.leaving()):
            return None
        return self._start(slot, self.leaving())

    def leaving(self) -> frozenset[int]:
        return frozenset(number for number, node in self.world.nodes.items() if getattr(node, "leaves", False))

    def _start(self, slot: int, leaving: frozenset[int]) -> Node:
        number, self.next_id = self.next_id, self.next_id + 1
        self.note(f"worker {number} starts in slot {slot}")
        node = self.world.add(number, slot)
        self.publish(leaving)
        return node

    def roll(self) -> None:
        """Replace one worker: its successor first, then it sends its people away, then it goes."""
        candidates = [n for n in self.world.nodes.values() if n.stopped is None and n.served]
        if self.rolling or len(candidates) < 2:
            return
        self.rolling = True
        old = self.random.choice(candidates)
        self.note(f"worker {old.number} is rolled")
        old.leaves = True  # type: ignore[attr-defined]
        successor = self._start(self.world.slots[old.number], self.leaving())

        def drain() -> None:
            if old.dead or not successor.served:
                if not old.dead and not successor.dead:
                    self.later(0.05, drain)
                else:  # a rolling that fails leaves the old one in place
                    self.rolling = old.leaves = False  # type: ignore[attr-defined]
                    self.publish(self.leaving())
                return
            for session in list(old.hub.connections.values()):
                old.do(lambda session=session: session.finish(1012))
            self.later(0.2, end)

        def end() -> None:
            self.rolling = False
            if not old.dead:
                old.dead = True
                del self.world.nodes[old.number]
                for person in self.people:
                    if person.node is old and person.client is not None and person.client.closed is None:
                        person.client.closed = 1006
                        person.note_lost()
                self.publish(self.leaving())

        self.later(0.1, drain)

    # --- what may happen

    def step(self) -> None:
        room = self.random.choice(ROOMS)
        if self.random.random() < 0.15:
            self.step_of(self.random.choice(self.machines), room)
            return
        chance, person = self.random.random(), self.random.choice(self.people)
        if chance < 0.22:
            if not person.here:
                person.come()
            person.wants.add(room)
            person.say(type="join", roomId=room, roomType="video")
        elif chance < 0.28:
            person.wants.discard(room)
            person.refused.discard(room)
            person.say(type="leave", roomId=room)
        elif chance < 0.42:
            person.say(type="cursor", roomId=room, data={"timestamp": self.random.randrange(100)})
        elif chance < 0.50:
            person.say(type="typing", roomId=room, data={"isTyping": self.random.random() < 0.6})
        elif chance < 0.53:
            status, message = self.random.choice(("busy", "active", "away")), self.random.choice(("", "back soon"))
            person.say(type="status", data={"status": status, "statusMessage": message})
        elif chance < 0.55:
            what, scope = self.random.choice(("invisible", "shareCursor")), self.random.choice(("session", "user"))
            person.say(type="privacy", data={what: self.random.random() < 0.5, "scope": scope})
        elif chance < 0.65:
            kind = self.random.choice(("control_request", "control_release"))
            person.say(type=kind, roomId=room)
        elif chance < 0.72:
            person.say(type="playback", roomId=room, data={"action": "play", "currentTime": self.random.randrange(99)})
        elif chance < 0.78:
            person.lose()
        elif chance < 0.81:
            person.go()
        elif chance < 0.86:
            owners = [node for node in self.world.nodes.values() if node.number not in self.leaving()]
            if len(owners) > 1:
                self.crash(self.random.choice(owners))
        elif chance < 0.90:
            self.stop()
        elif chance < 0.93:
            self.roll()
        elif chance < 0.97:
            self.cut()

    def step_of(self, machine: Machine, room: str) -> None:
        chance = self.random.random()
        if chance < 0.5:
            machine.enter(room)
        elif chance < 0.65:
            machine.leave(room)
        elif chance < 0.75:
            machine.call("heartbeat", room)
        elif chance < 0.85:
            machine.call("getActive", room)
        else:
            machine.call("updateCursor", room, timestamp=self.random.randrange(100))

    def stop(self) -> None:
        running = [node for node in self.world.nodes.values() if node.stopped is None]
        if len(running) < 2:
            return
        node = self.random.choice(running)
        node.stopped = []
        length = self.random.choice((0.05, 0.2, 0.6, 3.5))
        self.note(f"worker {node.number} stops for {length} s")
        if length > 3.0:  # found by its missed beats, and killed
            self.later(3.0, lambda: self.crash(node))
        else:
            self.later(length, node.go_on)

    def cut(self) -> None:
        node = self.random.choice(list(self.world.nodes.values()))
        if node.links:
            link = node.links[self.random.choice(sorted(node.links))]
            link.cut = True
            self.note(f"a link of worker {node.number} is cut")
            self.later(self.random.choice((0.01, 0.1, 0.5)), link.mend)

    # --- what must hold

    def on_user_left(self, message: dict[str, Any], room: str) -> None:
        """A user_left is for somebody who left, or was away for the whole grace."""
        for person in self.people:
            if person.session != message["sessionId"] or room not in person.wants or person.token is None:
                continue
            away_s = 0.0 if person.lost_at is None else self.world.now - person.lost_at
            if person.here and room not in person.seen:
                continue  # a join was refused, or is under way, and its place was from before
            if self.is_full(person.user):
                continue  # a new session may take the place of one in its grace [C11]
            if away_s < GRACE_S - MARGIN_S and message["data"]["reason"] != "left":
                raise Broken(f"user_left of {person.name} in {room} ({message['data']}), who was away {away_s:.3f} s")

    def on_not_resumed(self, person: Person) -> None:
        away_s = 0.0 if person.lost_at is None else self.world.now - person.lost_at
        if away_s < GRACE_S - MARGIN_S and not self.is_full(person.user):
            raise Broken(f"{person.name} came back after {away_s:.3f} s and was not resumed")

    def is_full(self, user: str) -> bool:
        """Has the user as many sessions as one may have?"""
        users = [node.shard.users[user] for node in self.world.nodes.values() if user in node.shard.users]
        return any(len(each.sessions) >= CAPS["max_sessions_per_user"] for each in users)

    def check(self) -> None:
        """After every step."""
        if COMPLAINTS.found:
            found, COMPLAINTS.found = COMPLAINTS.found, []
            raise Broken("\n".join(found))
        for person in self.people:
            person.hear()
        for machine in self.machines:
            machine.hear()
        self.witness.check()
        owners: dict[str, int] = {}
        for node in self.world.nodes.values():
            if node.stopped is not None:
                continue
            bus = node.bus
            assert isinstance(bus, ClusterBus)
            for room in node.shard.rooms.values() if not bus.handover.recovering else ():  # it may have to let go
                if room.id in owners:
                    raise Broken(f"{room.id} is on workers {owners[room.id]} and {node.number}")
                owners[room.id] = node.number
                if len(room.people) > CAPS["max_users_per_room"]:
                    raise Broken(f"{len(room.people)} people in {room.id}")
                if room.control.session_id is not None and room.control.session_id not in room.members:
                    raise Broken(f"the controller of {room.id} is not in it")
            for user in node.shard.users.values():
                if len(user.sessions) > CAPS["max_sessions_per_user"]:
                    raise Broken(f"{user.id} has {len(user.sessions)} sessions")

    def check_calm(self) -> None:
        """When nothing has gone wrong for longer than the grace."""
        truth: dict[str, set[str]] = {room: set() for room in ROOMS}
        for person in self.people:
            if person.here:
                for room in person.wants & set(person.seen):
                    truth[room].add(person.session)
                if missing := person.wants - set(person.seen):
                    raise Broken(f"{person.name} wants {missing} and is not in")
        leases: set[str] = set()
        for machine in self.machines:
            if machine.calls:
                raise Broken(f"nobody answers {machine.name}: {[call[2:] for call in machine.calls]}")
            if machine.wants != set(machine.held):
                raise Broken(f"{machine.name} wants {machine.wants} and holds {machine.held}")
            for room, session in machine.held.items():
                truth[room].add(session)
                leases.add(session)
        rooms = self.world.shard.rooms
        for room_id in ROOMS:
            members = set(rooms[room_id].members) if room_id in rooms else set()
            if members != truth[room_id]:
                raise Broken(f"{room_id} has {sorted(members)}, but there are {sorted(truth[room_id])}")
            for member in rooms[room_id].members.values() if room_id in rooms else ():
                shown, true = member.person.profile.shows, self.world.shard.users[member.user_id].profile.shows
                if shown != true:
                    raise Broken(f"{room_id} shows {member.user_id} as {shown}, not {true}")
            for person in self.people:
                if not person.here or room_id not in person.seen:
                    continue
                visible = {
                    session_id
                    for session_id, member in rooms[room_id].members.items()
                    if member.visible or member.user_id == person.user
                }
                if set(person.seen[room_id]) != visible:
                    raise Broken(
                        f"{person.name} sees {sorted(person.seen[room_id])} in {room_id}, not {sorted(visible)}"
                    )
                if person.controller[room_id] != rooms[room_id].control.user_id:
                    controller = rooms[room_id].control.user_id
                    raise Broken(f"{person.name} sees {person.controller[room_id]} control {room_id}, not {controller}")
        sessions = {sid for user in self.world.shard.users.values() for sid in user.sessions}
        connected = {person.session for person in self.people if person.here} | leases
        if sessions != connected:
            raise Broken(f"the owners know {sorted(sessions)}, but there are {sorted(connected)}")

    def lose_an_owner(self) -> None:
        """All is quiet, and a worker dies that owns a user, if there is one: nothing that people have set goes with
        it."""
        before = memory(self.world)
        owners = [node for node in self.world.nodes.values() if node.shard.users]
        if not owners:
            return
        self.crash(self.random.choice(owners))
        for _ in range(12):
            self.world.sleep(0.25)
            self.check()
        self.check_calm()
        after = memory(self.world)
        for what in sorted(before.keys() | after.keys()):
            if before.get(what) != after.get(what):
                raise Broken(f"with a worker went {what}: {before.get(what)} is {after.get(what)} now")

    def run(self, steps: int = 60) -> str:
        """The whole story; its digest. Errors: Broken, with the seed and the last of what happened."""
        COMPLAINTS.found.clear()
        try:
            for person in self.people[:5]:
                person.wants = {self.random.choice(ROOMS)}
                person.come()
            for _ in range(steps):
                self.step()
                self.world.sleep(self.random.choice((0.0, 0.001, 0.01, 0.05, 0.3)))
                self.check()
            for _ in range(20):  # everything is mended, everybody comes back
                self.world.sleep(0.25)
                self.check()
            for person in self.people:
                if not person.here and person.token is not None:
                    person.come()
            for turn in range(14):
                if turn in (1, 5):
                    for machine in self.machines:
                        machine.insist()
                self.world.sleep(0.5)
                self.check()
            self.check_calm()
            self.lose_an_owner()
        except Exception as broken:
            tail = "\n".join(self.lines[-60:])
            raise Broken(f"seed {self.seed}: {broken}\n{tail}") from broken
        return self.digest


def main(first: int, last: int) -> None:
    began = time.monotonic()
    for seed in range(first, last + 1):
        Story(seed).run()
    print(f"{last - first + 1} seeds in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2] if len(sys.argv) > 2 else sys.argv[1]))
