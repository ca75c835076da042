"""Simulation of workers, their links and many clients on a fake clock, with all kinds of faults.

The shards, placement, buses and edges are the real ones. Delays differ from link to link, links are cut and restored,
workers crash, stop for a while, are replaced and reloaded. Clients connect, send cursors and messages, become
invisible, get other rights, lose their connection and return or do not; HTTP sessions hold leases and call procedures
on any worker. The actions are a script (tests/script.py), made from a seed or read from a file; the same script gives
the same story to the last byte. The invariants of `Story.check` hold after every step, those of `Story.check_calm` once
the story is quiet again (tests/witness.py has more of both).

    python -m tests.sim 1 1000             seeds 1 to 1000; each that fails is printed
    python -m tests.sim --shrink 196       the shortest script that fails in the same way, as JSON
    python -m tests.sim --story FILE       one script, with all events
    --workers N --people N --steps N       go with seeds
    --clocks S                             the clocks of workers are up to S seconds apart (tests/clocks.py)
    --silent S                             with each crash the supervisor is stopped for S seconds
"""

import argparse
import gc
import hashlib
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from koko_presence.access.policy import ClaimsAccess, Grant, scopes_for
from koko_presence.auth.identity import Identity
from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.cluster.local_views import PATIENCE_S, OwnViews
from koko_presence.cluster.placement import View
from koko_presence.protocol.models import RoomType
from koko_presence.rooms import playback
from koko_presence.users.user import MIGRATION_S
from tests import witness
from tests.crowd import Machine, Person
from tests.script import MACHINES, ROOMS, Action, Script, load, write
from tests.witness import LATE_S, MARGIN_S, Broken, Witness, memory
from tests.world import Node, World

GRACE_S = 5.0
CAPS = {"max_users_per_room": 5, "max_rooms_per_user": 2, "max_sessions_per_user": 5}
TAKEN_OVER_S = 0.5  # within this time other workers own what a lost worker owned and hold its replicas
LINK_DELAYS_S = (0.0001, 0.0005, 0.002, 0.02)

NEWCOMER_S = 0.1  # instead of 5 s, so that the room waits for viewers in a script of seconds


class Complaints(logging.Handler):
    """Collect the errors that the code under test logs: each one is a failure."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


COMPLAINTS = Complaints()
logging.getLogger("koko_presence").addHandler(COMPLAINTS)


class SimAccess(ClaimsAccess):
    """Access by the token's claim, with the scope "unseen" for users whose presence is off in the room [Q11]."""

    def check(self, identity: Identity, room_id: str, room_type: RoomType | None, **more: str) -> Grant:
        grant = super().check(identity, room_id, room_type, **more)
        is_unseen = "unseen" in (scopes_for(identity, room_id) or ())
        return msgspec.structs.replace(grant, presence=not is_unseen)


class Story:
    """Execution of one script. `script` may be a seed, which stands for the script that is made from it."""

    def __init__(self, script: Script | int, workers: int | None = None, people: int = 8, steps: int = 45) -> None:
        self.script = write(script, workers, people, steps) if isinstance(script, int) else script
        script = self.script
        access = SimAccess()
        self.world = World(
            workers=script.workers,
            access=access,
            telling=True,
            clock_offset_s=script.clock_offset_s,
            grace_s=GRACE_S,
            **CAPS,
        )  # type: ignore[arg-type]
        self.world.link_delay_s = self.link_delay_s
        self.lines: list[str] = []
        self.next_id = script.workers + 1
        self.people = [Person(self, f"p{n}", f"user{n * 2 // 3}") for n in range(script.people)]
        self.machines = [Machine(self, name, f"user{n}") for n, name in enumerate(MACHINES)]
        self.actors: dict[str, Person | Machine] = {each.name: each for each in (*self.people, *self.machines)}
        self.views: dict[int, float] = {}
        self.rolling = False
        self.troubled_at = 0.0  # when owners last changed, or a worker resumed after a stop
        self.down_at = -1.0  # when a worker last crashed or stopped
        self.deaths: list[tuple[float, float]] = []  # of each dead worker: the time of its last answer, and of its end
        self.stops: dict[int, tuple[float, float]] = {}  # of each worker the last stop: begin and end
        self.two_were_down = False  # more than one worker at once
        self.two_died = False  # the second before the take-over from the first was complete
        self.silent_until = -inf  # until then the supervisor is stopped
        self.unpublished = 0  # views that the stopped supervisor did not publish
        self.own_views = {number: OwnViews() for number in self.world.nodes}
        for number, node in self.world.nodes.items():
            assert isinstance(node.bus, ClusterBus)
            self.own_views[number].on_view(node.bus.transfer.target)
        self.witness = Witness(self)

    # --- the log of the story

    def note(self, line: str) -> None:
        self.lines.append(f"{self.world.now:.6f} {line}")

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    def later(self, delay: float, callback: Any) -> None:
        self.world.timers.call_later(delay, callback)

    def note_down(self, node: Node) -> None:
        """Record that a worker crashed or stopped, and whether another one was down at the same time."""
        world = self.world
        others = any(each is not node and each.stopped is not None for each in world.nodes.values())
        taken_over_s = TAKEN_OVER_S + (PATIENCE_S if self.script.silent_s else 0.0)
        self.two_were_down = self.two_were_down or others or world.now < self.down_at + taken_over_s
        self.down_at = world.now

    def running_at(self, at: float) -> float:
        """Return the first moment from `at` on at which all workers concerned with an event at `at` ran."""
        for began, ended in sorted(self.stops.values()):
            if began <= at + LATE_S and at < ended:
                at = ended
        return at

    # --- chance

    def chance(self, *key: object) -> float:
        """Return a number in [0, 1) for a choice that is no action: the same for the same key in the same
        millisecond."""
        return self.script.chance(*key, int(self.world.now * 1000))

    def link_delay_s(self, sender: int, receiver: int) -> float:
        """Return the delay of a link during the current 5 ms, by the slots of its workers."""
        slots = self.world.slots
        chance = self.script.chance("link", slots[sender], slots[receiver], int(self.world.now * 200))
        which = len(LINK_DELAYS_S) * chance
        return LINK_DELAYS_S[int(which)] * (which % 1.0)

    def in_slot(self, slot: int) -> Node | None:
        """Return the worker in a slot; while it is leaving, its successor."""
        found = [node for number, node in self.world.nodes.items() if self.world.slots[number] == slot]
        return found[-1] if found else None

    def serving(self, slot: int | None, *key: object) -> Node | None:
        """Return the worker in the slot if it accepts connections. Without a worker there, return another that accepts,
        chosen by `key`, or None."""
        running = [node for node in self.world.nodes.values() if node.stopped is None and node.served]
        here = [node for node in running if slot is not None and self.world.slots[node.number] == slot]
        if here or not running:
            return here[-1] if here else None
        return running[int(len(running) * self.chance(*key))]

    # --- the supervisor

    def publish(self, leaving: frozenset[int] = frozenset()) -> None:
        """Publish a new view. Each worker receives it after a delay of its own, but never out of order."""
        world = self.world
        self.troubled_at = world.now
        if world.now < self.silent_until:
            if not self.unpublished:
                self.later(self.silent_until - world.now, self.catch_up)
            self.unpublished += 1
            return
        view = world.next_view(leaving)
        for node in list(world.nodes.values()):
            delay_s = 0.0002 + 0.0048 * self.chance("view", world.slots[node.number])
            at = max(self.views.get(node.number, 0.0), world.now + delay_s)
            self.views[node.number] = at
            self.later(at - world.now, lambda node=node: node.do(lambda: self.hear(node, view), first=True))

    def hear(self, node: Node, view: View) -> None:
        """Apply a view of the supervisor in a worker."""
        self.go_by(node, self.own_views.setdefault(node.number, OwnViews()).on_view(view))

    def go_by(self, node: Node, view: View | None) -> None:
        bus = node.bus
        assert isinstance(bus, ClusterBus)
        if view is not None:
            bus.on_view(view, node.clock())

    def catch_up(self) -> None:
        """Resume the supervisor: it publishes one view for each death that it finds."""
        self.note("the supervisor goes on")
        self.world.epoch += self.unpublished - 1
        self.unpublished = 0
        self.publish(self.leaving())

    def when_it_runs(self, callback: Callable[[], object]) -> bool:
        """Whether the supervisor is stopped; `callback` then runs when it resumes."""
        if self.world.now < self.silent_until:
            self.later(self.silent_until - self.world.now + 0.001, callback)
            return True
        return False

    def tell_death(self, dead: Node) -> None:
        """Notify all other workers that a worker's process has ended, as the kernel does."""
        for node in self.world.nodes.values():
            views = self.own_views.get(node.number)
            delay_s = 0.001 * self.chance("death", self.world.slots[node.number])
            if views is not None:
                self.later(delay_s, lambda node=node: node.do(lambda: self.hear_death(node, dead)))

    def hear_death(self, node: Node, dead: Node) -> None:
        self.own_views[node.number].on_death(dead.number, self.world.now)
        self.later(PATIENCE_S + 0.001, lambda: node.do(lambda: self.take_over(node)))

    def take_over(self, node: Node) -> None:
        view = self.own_views[node.number].take_over(self.world.now)
        if view is not None:
            self.troubled_at = self.world.now
            self.note(f"worker {node.number} goes on without the dead in view {view.epoch}")
            self.go_by(node, view)

    def crash(self, node: Node) -> None:
        """End a worker as kill -9 does; the supervisor notices it and starts a replacement in its slot."""
        world = self.world
        if node.dead or not any(
            other is not node and other.number not in self.leaving() for other in world.nodes.values()
        ):
            if node.stopped is not None and not node.dead:
                self.later(0.2, lambda: self.crash(node))
            return  # the death of the last owner loses all state: not part of this simulation
        self.note(f"worker {node.number} dies")
        taken_over_s = TAKEN_OVER_S + (PATIENCE_S if self.script.silent_s else 0.0)
        # a stopped worker has sent no answer since its stop
        down_at = world.unix_s - (0.0 if node.stopped is None else world.now - self.stops[node.number][0])
        self.two_died = self.two_died or any(down_at < gone_at + taken_over_s for _, gone_at in self.deaths)
        self.deaths.append((down_at, world.unix_s))
        if node.stopped is None:
            self.note_down(node)
        else:
            self.stops[node.number] = (self.stops[node.number][0], world.now)
        node.dead = True
        del world.nodes[node.number]
        for person in self.people:
            if person.node is node and person.client is not None:
                person.client.closed = person.client.closed or 1006
                person.note_lost()
            if person.node is node and person.noticed_at is None:
                person.noticed_at = world.now
        if self.script.silent_s:
            self.tell_death(node)
        self.publish(self.leaving())
        slot = world.slots[node.number]
        self.later(0.05 + 0.25 * self.chance("start", slot), lambda: self.start(slot))

    def start(self, slot: int) -> Node | None:
        if self.when_it_runs(lambda: self.start(slot)):
            return None
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

    def roll(self, slot: int) -> None:
        """Replace one worker: start its successor, then drain its connections, then stop it."""
        candidates = [n for n in self.world.nodes.values() if n.stopped is None and n.served]
        old = self.in_slot(slot)
        if self.rolling or len(candidates) < 2 or old not in candidates or self.world.now < self.silent_until:
            return
        self.rolling = True
        self.note(f"worker {old.number} is rolled")
        old.leaves = True  # type: ignore[attr-defined]
        successor = self._start(self.world.slots[old.number], self.leaving())

        def drain() -> None:
            if self.when_it_runs(drain):
                return
            if old.dead or not successor.served:
                if not old.dead and not successor.dead:
                    self.later(0.05, drain)
                else:  # a rolling reload that fails leaves the old worker in place
                    self.rolling = old.leaves = False  # type: ignore[attr-defined]
                    self.publish(self.leaving())
                return
            for session in list(old.hub.connections.values()):
                old.do(lambda session=session: session.finish(1012, migrates=True))
            # Worker.drain waits for the clients to return, unless its time runs out
            wait_s = MIGRATION_S if self.chance("patient", slot) < 0.5 else 0.0
            self.later(0.2, lambda: end(self.world.now + wait_s))

        def end(patience: float) -> None:
            if self.when_it_runs(lambda: end(patience)):
                return
            if old.hub.migrating and not old.dead and self.world.now < patience:
                self.later(0.02, lambda: end(patience))
                return
            self.rolling = False
            if not old.dead:
                old.dead = True
                del self.world.nodes[old.number]
                for person in self.people:
                    if person.node is old and person.client is not None and person.client.closed is None:
                        person.client.closed = 1006
                        person.noticed_at = self.world.now
                        person.note_lost()
                self.publish(self.leaving())

        self.later(0.1, drain)

    # --- actions

    def do(self, action: Action) -> None:
        """Execute one action of the script; an action that is not possible now does nothing."""
        if isinstance(actor := self.actors.get(action[0]), Person):
            self.do_person(actor, *action[1:])
        elif actor is not None:
            self.do_machine(actor, *action[1:])
        else:
            getattr(self, f"do_{action[0]}")(*action[1:])

    def do_person(self, person: Person, verb: str, *args: Any) -> None:
        if verb == "join":
            room, slot = args
            if not person.here:
                person.come(slot)
            person.wants.add(room)
            person.say(type="join", roomId=room, roomType="video", presence={"from": person.name})
        elif verb == "leave":
            person.wants.discard(args[0])
            person.refused.discard(args[0])
            person.say(type="leave", roomId=args[0])
        elif verb == "cursor":
            person.say(type="cursor", roomId=args[0], data={"timestamp": args[1]})
        elif verb == "typing":
            person.say(type="typing", roomId=args[0], data={"isTyping": args[1]})
        elif verb == "play":
            more = {"startDelayMs": args[2]} if len(args) > 2 else {}
            person.say(type="playback", roomId=args[0], data={"action": "play", "currentTime": args[1], **more})
        elif verb == "report":
            person.report(*args)
        elif verb == "media":
            medium = {"mediaId": f"film_{args[2]}", "duration": 500, "frameRate": "24000/1001"}
            person.say(type="media", roomId=args[0], data={"target": args[1], **medium})
        elif verb == "presence":
            person.patch(*args)
        elif verb == "status":
            person.set_status(*args)
        elif verb == "privacy":
            person.hide(*args)
        elif verb in ("control_request", "control_release"):
            person.say(type=verb, roomId=args[0])
        elif verb == "rights":
            person.renew(args[0])
        elif verb == "watch":
            person.watch(args[0])
        elif verb == "rename":
            person.renew(number=args[0])
        elif verb == "lose":
            person.lose(args[0])
        elif verb == "go":
            person.go()
        else:
            raise ValueError(f"there is no action {verb!r} of a person")

    def do_machine(self, machine: Machine, verb: str, room: str, slot: int, *args: Any) -> None:
        if verb == "enter":
            machine.enter(room, slot)
        elif verb == "leave":
            machine.leave(room, slot)
        elif verb == "updateCursor":
            machine.call(verb, room, slot, timestamp=args[0])
        elif verb == "setPresence":
            machine.call(verb, room, slot, data=args[0])
        else:
            machine.call(verb, room, slot)

    def do_wait(self, seconds: float) -> None:
        self.world.sleep(seconds)
        self.check()

    def do_settings(self, room: str, change: dict[str, Any]) -> None:
        self.note(f"settings of {room}: {change}: {type(self.world.change_room(room, **change)).__name__}")

    def do_presence(self, user: str, on: bool) -> None:
        self.note(f"presence of {user} is {'on' if on else 'off'}")
        self.witness.on_presence(user)
        self.world.switch_presence(user, on=on)

    def do_crash(self, slot: int) -> None:
        node = self.in_slot(slot)
        if node is not None and len(self.world.nodes.keys() - self.leaving()) > 1:
            if self.script.silent_s and self.world.now >= self.silent_until:
                self.silent_until = self.world.now + self.script.silent_s
                self.note("the supervisor stops")
            self.crash(node)

    def do_stop(self, slot: int, seconds: float) -> None:
        """Stop a worker for a while; after 3 s without its heartbeats the supervisor kills it."""
        node = self.in_slot(slot)
        running = [node for node in self.world.nodes.values() if node.stopped is None]
        if node not in running or len(running) < 2:
            return
        self.note_down(node)
        node.stopped = []
        self.stops[node.number] = (self.world.now, inf)
        self.note(f"worker {node.number} stops for {seconds} s")
        if seconds > 3.0:
            self.later(3.0, lambda: self.kill(node))
        else:
            self.later(seconds, lambda: self.go_on(node))

    def kill(self, node: Node) -> None:
        """Kill a stopped worker, as soon as the supervisor itself runs."""
        if not self.when_it_runs(lambda: self.kill(node)):
            self.crash(node)

    def go_on(self, node: Node) -> None:
        self.troubled_at = self.world.now
        self.stops[node.number] = (self.stops[node.number][0], self.world.now)
        node.go_on()

    def do_roll(self, slot: int) -> None:
        self.roll(slot)

    def do_cut(self, slot: int, other: int, seconds: float) -> None:
        """Cut one direction between two workers for a while."""
        node, peer = self.in_slot(slot), self.in_slot(other)
        if node is None or peer is None or peer.number not in node.links:
            return
        link = node.links[peer.number]
        link.cut = True
        self.note(f"the link from worker {node.number} to {peer.number} is cut")
        self.later(seconds, link.mend)

    def do_calm(self) -> None:
        """Restore everything and connect every client again; then check the invariants of a quiet story."""
        for turn in range(20):
            if turn in (11, 15):
                for machine in self.machines:
                    machine.insist()
            self.world.sleep(0.5)
            self.check()
        for person in self.people:
            if not person.here and person.token is not None:
                person.come()
        for _ in range(6):
            self.world.sleep(1.0)
            self.check()
        self.check_calm()
        witness.call_the_roll(self)

    def do_lose_owner(self, n: int) -> None:
        """End the n-th of the workers that own users, if there is one, while all is quiet, and check that no state that
        users have set is lost with it."""
        before = memory(self.world)
        owners = [node for node in self.world.nodes.values() if node.shard.users]
        if not owners or not all(person.here for person in self.people if person.token is not None):
            return
        self.crash(owners[n % len(owners)])
        for _ in range(6):
            self.world.sleep(0.5)
            self.check()
        self.check_calm()
        after = memory(self.world)
        for what in sorted(before.keys() | after.keys()):
            if before.get(what) != after.get(what):
                raise Broken(f"with a worker went {what}: {before.get(what)} is {after.get(what)} now")

    # --- invariants

    def on_user_left(self, message: dict[str, Any], room: str) -> None:
        """Check that a user_left follows a leave or an absence of the whole grace period. Errors: Broken."""
        for person in self.people:
            if person.session != message["sessionId"] or room not in person.wants or person.token is None:
                continue
            away_s = person.away_s
            if person.here and room not in person.seen:
                continue  # a join was refused or is pending, and the membership is an earlier one
            if person.new_at > self.world.now - LATE_S:
                continue  # it was away for the whole grace period and has returned with a new session
            if self.is_full(person.user):
                continue  # a new session may replace one in its grace period [C11]
            if away_s < GRACE_S - MARGIN_S and message["data"]["reason"] != "left":
                raise Broken(f"user_left of {person.name} in {room} ({message['data']}), who was away {away_s:.3f} s")

    def on_not_resumed(self, person: Person) -> None:
        away_s = person.away_s
        if away_s < GRACE_S - MARGIN_S and not self.is_full(person.user):
            raise Broken(f"{person.name} came back after {away_s:.3f} s and was not resumed")

    def is_full(self, user: str) -> bool:
        """Whether the user has as many sessions as the limit allows."""
        users = [node.shard.users[user] for node in self.world.nodes.values() if user in node.shard.users]
        return any(len(each.sessions) >= CAPS["max_sessions_per_user"] for each in users)

    def check(self) -> None:
        """Check the invariants that hold after every step. Errors: Broken."""
        if COMPLAINTS.found:
            found, COMPLAINTS.found = COMPLAINTS.found, []
            raise Broken("\n".join(found))
        for person in self.people:
            person.hear()
        for machine in self.machines:
            machine.hear()
        self.witness.check()
        witness.check_grace(self)
        owners: dict[str, int] = {}
        for node in self.world.nodes.values():
            if node.stopped is not None:
                continue
            bus = node.bus
            assert isinstance(bus, ClusterBus)
            # while it recovers, it may have to release rooms
            for room in node.shard.rooms.values() if not bus.transfer.recovering else ():
                if room.id in owners:
                    raise Broken(f"{room.id} is on workers {owners[room.id]} and {node.number}")
                owners[room.id] = node.number
                if len(room.people) > CAPS["max_users_per_room"]:
                    raise Broken(f"{len(room.people)} people in {room.id}")
                witness.check_room(room)
            for user in node.shard.users.values():
                if len(user.sessions) > CAPS["max_sessions_per_user"]:
                    raise Broken(f"{user.id} has {len(user.sessions)} sessions")

    def check_calm(self) -> None:
        """Check the invariants that hold once no fault has happened for longer than the grace period. Errors:
        Broken."""
        truth: dict[str, set[str]] = {room: set() for room in ROOMS}
        for person in self.people:
            if person.here:
                for room in person.wants & set(person.seen):
                    truth[room].add(person.session)
                if missing := person.wants - set(person.seen):
                    raise Broken(f"{person.name} wants {missing} and is not in")
                if self.world.shard.users[person.user].sessions[person.session].stream != person.is_stream:
                    raise Broken(f"the owner of {person.user} does not know how {person.name} is connected")
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
                shown, true = member.person.profile, self.world.shard.users[member.user_id].profile
                if (shown.shows, shown.user_info) != (true.shows, true.user_info):
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
                witness.check_names(person, rooms[room_id])
                member = rooms[room_id].members[person.session]
                settings = msgspec.to_builtins(rooms[room_id].settings_for(member.person))
                if person.settings[room_id] != settings:
                    raise Broken(
                        f"{person.name} has the settings {person.settings[room_id]} of {room_id}, not {settings}"
                    )
                if person.controller[room_id] != rooms[room_id].control.user_id:
                    controller = rooms[room_id].control.user_id
                    raise Broken(f"{person.name} sees {person.controller[room_id]} control {room_id}, not {controller}")
        witness.check_calm(self)
        self.witness.check_calm()
        sessions = {sid for user in self.world.shard.users.values() for sid in user.sessions}
        connected = {person.session for person in self.people if person.here} | leases
        if sessions != connected:
            raise Broken(f"the owners know {sorted(sessions)}, but there are {sorted(connected)}")

    def run(self) -> str:
        """Execute the whole script and return the digest of the story. Errors: Broken, with the last lines of the
        log."""
        COMPLAINTS.found.clear()
        try:
            with mock.patch.object(playback, "NEWCOMER_S", NEWCOMER_S):
                for action in self.script.actions:
                    self.do(action)
        except Exception as broken:
            tail = "\n".join(self.lines[-60:])
            raise Broken(f"{self.script}: {broken}\n{tail}") from broken
        return self.digest


def complaint_of(script: Script) -> str | None:
    """Return what is broken in a script as one line, or None."""
    try:
        Story(script).run()
    except Broken as broken:
        return str(broken.__cause__).split("\n")[0]
    return None


def main() -> int:
    """Run the command line of the module's docstring; return 1 when something is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("first", type=int, nargs="?")
    parser.add_argument("last", type=int, nargs="?")
    parser.add_argument("--workers", type=int, help="2 to 8 by the seed when left out")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--clocks", type=float, default=0.0, metavar="S")
    parser.add_argument("--silent", type=float, default=0.0, metavar="S")
    parser.add_argument(
        "--shrink", type=int, metavar="SEED", help="print the shortest script that fails like this seed"
    )
    parser.add_argument("--story", type=Path, metavar="FILE", help="play a script that was printed, and tell all")
    options = parser.parse_args()

    def written(seed: int) -> Script:
        script = write(seed, options.workers, options.people, options.steps)
        return replace(script, clocks_s=options.clocks, silent_s=options.silent)

    if options.story is not None:
        return tell(load(options.story)[0])
    if options.shrink is not None:
        from tests.shrink import shrink

        script = written(options.shrink)
        found = shrink(script, say=lambda line: print(line, file=sys.stderr, flush=True))
        if found is None:
            print("nothing is broken in that story", file=sys.stderr)
            return 0
        print(found[0].dump(fails=found[1], seed=options.shrink), end="")
        return 1
    if options.first is None:
        parser.error("which seeds?")
    return play(range(options.first, (options.last or options.first) + 1), written)


def tell(script: Script) -> int:
    """Execute one script and print its whole log."""
    story, broken = Story(script), ""
    try:
        story.run()
    except Broken as error:
        broken = str(error.__cause__)
    print("\n".join([*story.lines, broken or "nothing is broken"]))
    return 1 if broken else 0


def play(seeds: range, script_of: Callable[[int], Script]) -> int:
    """Execute many seeds: print a line for each that fails, and the progress every 5 s."""
    began = told_at = time.monotonic()
    failed = 0
    gc.disable()  # a world is one large reference cycle: searching for cycles takes a fifth of the time
    for done, seed in enumerate(seeds, 1):
        if done % 50 == 0:
            gc.collect()
        script = script_of(seed)
        if (complaint := complaint_of(script)) is not None:
            failed += 1
            print(f"seed {seed} ({script.workers} workers): {complaint}", flush=True)
        if time.monotonic() > told_at + 5.0:
            told_at = time.monotonic()
            left_s = (told_at - began) / done * (len(seeds) - done)
            print(f"{done} of {len(seeds)} seeds, {failed} broken, {left_s:.0f} s left", file=sys.stderr, flush=True)
    gc.enable()
    print(
        f"{len(seeds)} seeds in {time.monotonic() - began:.1f} s, {time.process_time():.1f} s of CPU, {failed} broken"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
