"""Further invariants of a story of tests/sim.py.

No client receives a snapshot that it did not request (up to a small bound), no old message has an effect, hidden data
stays hidden, each session has the rights of its newest token, a membership is held for the grace period and no longer,
webhook events add up, cursors arrive, and what users have set outlives its owner.

`Witness` only observes: its `on_*` methods record what clients send and receive, `check` inspects the owners after
every step, `check_calm` once all is quiet. `call_the_roll` is active: every client sends a cursor, and it checks which
clients receive it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from koko_presence.protocol.models import Privacy
from koko_presence.protocol.settings import NO_SETTINGS
from koko_presence.protocol.webhook_events import AnyWebhookEvent, RoomCreated, RoomEmptied, UserEntered, UserLeft
from koko_presence.users.user import MANUAL
from tests.script import ALL_RIGHTS, FIRST_ISSUED_S, ROOMS, name_of

if TYPE_CHECKING:
    from tests.crowd import Person
    from tests.sim import Story
    from tests.world import Client, World

MARGIN_S = 0.5  # tolerance: a grace period that was nearly over is not judged
BEHIND_S = 2.5  # the cut of a link, and the tolerance after a delay of the service
LATE_S = 1.0  # how late the end of a grace period may be noticed: links are cut for 0.5 s at most
PRIVACY = ("invisible", "shareCursor", "shareSelection")
BATCH_S = 1.0  # docs/webhooks.md: events of a worker's last second are lost when it crashes
# The bound of unrequested snapshots of one room on one connection in a story: so many in any case, and so many for each
# view of the workers since, whose owners and edges repeat what may have been lost; besides, those by which an invisible
# member learns that the room has begun or ended for others [K7].
MOST_UNASKED = 8
MOST_UNASKED_PER_VIEW = 2


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class PrivacyRequest:
    """A change of privacy that a person has requested."""

    person: Person
    client: Client | None
    id: str
    everywhere: bool  # for all tabs of the user
    overlaps: bool  # another tab's change for all tabs was unacknowledged: the owner may apply that one after this
    acknowledged: dict[str, bool] | None = None  # what the server has confirmed


@dataclass
class StatusRequest:
    """A status that a person has set."""

    person: Person
    client: Client | None
    id: str
    shows: tuple[str | None, str]  # the manual status and the message
    # The one before it was acknowledged earlier than this one was sent, or sent over the same connection: of two tabs'
    # statuses in one moment of the fake clock either may be the later one.
    follows: bool
    at: float  # s, by the fake clock
    acknowledged: bool = False


class Witness:
    """The observer of one story."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._joins: Counter[tuple[str, str]] = Counter()  # person and room: snapshots expected, less joined received
        self._leaves: Counter[tuple[str, str]] = Counter()  # person and room: all that other clients may see as a leave
        self._own_leaves: Counter[tuple[str, str]] = Counter()  # leaves sent, less left received
        self._seen_leaving: Counter[tuple[str, str, str]] = Counter()  # observer, person, room
        self._hiding: set[str] = set()  # users who have been invisible, or without presence
        # leaves to verify: the person, room, observer, session, text of the fault
        self._unexplained: list[tuple[Person, str, Person, str, str]] = []
        self._person_of: dict[str, Person] = {}  # by session
        self._came_at: dict[str, int] = {}  # by person: the number of the workers' view at its last connection
        self._order: dict[int, int] = {}  # connection -> its place among all connections of the story
        # worker, key, session -> the entity that held it, order
        self._newest: dict[tuple[int, str, str], tuple[Any, int]] = {}
        self._privacy_requests: dict[str, list[PrivacyRequest]] = {}  # user -> in the order of sending
        self._statuses: dict[str, StatusRequest] = {}  # user -> the one that was sent last

    # --- what clients send and receive ----------------------------------------------------------------------------

    def on_come(self, person: Person, connection: int) -> None:
        """Record a new connection of a person: joins pending on the last one are never answered."""
        self._order[connection] = len(self._order)
        self._came_at[person.name] = self._story.world.epoch
        for key in [key for key in self._joins if key[0] == person.name]:
            del self._joins[key]

    def on_go(self, person: Person, rooms: tuple[str, ...]) -> None:
        """Record that a person closes its tab, which is a leave of all rooms."""
        for room in rooms:
            self._leaves[person.name, room] += 1

    def on_presence(self, user: str) -> None:
        """Record that a user's presence is switched off or on, which appears as a leave or a join of all tabs."""
        self._hiding.add(user)

    def on_said(self, person: Person, message: dict[str, Any], rooms: tuple[str, ...]) -> None:
        """Record a message that a person sends."""
        if message["type"] == "auth" and "unseen" in message["id"]:
            self.on_presence(person.user)
        if message["type"] == "join":
            self._joins[person.name, message["roomId"]] += 1
        elif message["type"] == "leave":
            self._leaves[person.name, message["roomId"]] += 1
            self._own_leaves[person.name, message["roomId"]] += 1
        elif message["type"] == "status":
            last, data = self._statuses.get(person.user), message["data"]
            now = self._story.world.now
            is_later = last is None or last.client is person.client or (last.acknowledged and now > last.at)
            follows = is_later and (last is None or last.follows)
            shows = (data["status"] if data["status"] in MANUAL else None, data["statusMessage"])
            self._statuses[person.user] = StatusRequest(person, person.client, message["id"], shows, follows, now)
        elif message["type"] == "privacy" or str(message.get("id", "")).startswith("begin"):
            privacy = message["data"] if message["type"] == "privacy" else message.get("privacy", {})
            if privacy.get("invisible"):
                self._hiding.add(person.user)  # with scope "user" all tabs appear to leave [K2]
            everywhere = privacy.get("scope") == "user"
            requests = self._privacy_requests.setdefault(person.user, [])
            overlaps = any(w.everywhere and w.acknowledged is None and w.person is not person for w in requests)
            requests.append(PrivacyRequest(person, person.client, message["id"], everywhere, overlaps))

    def on_heard(self, person: Person, message: dict[str, Any]) -> None:
        """Record a message that a person receives. Errors: Broken."""
        kind, room = message["type"], message.get("roomId", "")
        if kind == "authenticated":
            self._person_of[message["sessionId"]] = person
            if message["id"].startswith("begin"):
                self._acknowledge(person, message["id"], person.privacy)
        elif kind == "ack" and "statusMessage" in message:
            status = self._statuses[person.user]
            if status.client is person.client and status.id == message["id"]:
                status.acknowledged = True
        elif kind == "ack" and "invisible" in message:
            self._acknowledge(person, message["id"], message)
        elif kind == "joined":
            self._joins[person.name, room] -= 1
            views = self._story.world.epoch - self._came_at.get(person.name, 0)
            if (unasked := -self._joins[person.name, room]) > MOST_UNASKED + MOST_UNASKED_PER_VIEW * views:
                raise Broken(f"{person.name} was shown {room} {unasked} times that it had not asked for")
        elif kind == "left":
            self._own_leaves[person.name, room] -= 1
            if self._own_leaves[person.name, room] < 0:  # one leave may be answered twice
                self._own_leaves[person.name, room] = 0
                self._unexplained.append((person, room, person, person.session, f"{person.name} was put out of {room}"))
        if kind in ("user_joined", "user_left") and person.user in self._hiding:
            self._joins[person.name, room] += 1  # the room may have begun or ended with it
        if kind == "user_left" and message["data"]["reason"] == "left":
            leaver = self._person_of.get(message["sessionId"])
            if leaver is not None and leaver.user not in self._hiding:
                key = (person.name, leaver.name, room)
                self._seen_leaving[key] += 1
                if self._seen_leaving[key] > self._leaves[leaver.name, room]:  # or seen twice
                    self._seen_leaving[key] = self._leaves[leaver.name, room]
                    problem = f"{person.name} saw {leaver.name} leave {room}, who has not"
                    self._unexplained.append((leaver, room, person, message["sessionId"], problem))

    def _acknowledge(self, person: Person, id: str, privacy: dict[str, Any]) -> None:
        for request in self._privacy_requests[person.user]:
            if request.person is person and request.client is person.client and request.id == id:
                request.acknowledged = {name: privacy[name] for name in PRIVACY if name in privacy}

    # --- the owners' state ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the owners after every step, when all received messages are recorded: no session returns to a
        connection older than its present one, and no client was seen to leave that did not. Errors: Broken."""
        unexplained, self._unexplained = self._unexplained, []
        for person, room, witness, session_id, problem in unexplained:
            # it has not received a refusal of its join and has not joined again at once
            if room in person.wants and session_id not in witness.seen.get(room, {}):
                raise Broken(problem)
        for node in self._story.world.nodes.values():
            for room in node.shard.rooms.values():
                for member in room.members.values():
                    self._check_order(node.number, f"r:{room.id}", room, member.session_id, member.connection)
            for user in node.shard.users.values():
                for session_id, session in user.sessions.items():
                    self._check_order(node.number, f"u:{user.id}", user, session_id, session.connection)

    def _check_order(self, worker: int, key: str, holder: Any, session_id: str, connection: int) -> None:
        order = self._order.get(connection, 0)
        known = self._newest.get((worker, key, session_id))
        if known is not None and known[0] is holder and order < known[1]:
            raise Broken(f"{session_id} went back to an old connection in {key} on worker {worker}")
        self._newest[worker, key, session_id] = holder, order

    # --- when it is quiet -----------------------------------------------------------------------------------------

    def check_calm(self) -> None:
        """Check that the privacy which a session got acknowledged still holds, unless a later change replaced it, and
        the last status of a user. Errors: Broken."""
        users = self._story.world.shard.users
        for status in () if self._story.two_were_down else self._statuses.values():
            person = status.person
            # with the same connection its session, and so the user, has been there since
            if status.acknowledged and status.follows and person.here and person.client is status.client:
                user = users[person.user]
                if (user.manual, user.status_message) != status.shows:
                    found = (user.manual, user.status_message)
                    raise Broken(f"{person.name} was told that its status is {status.shows}, but its owner has {found}")
        for person in self._story.people:
            if not person.here:
                continue
            flags = self._confirmed(person)
            session = users[person.user].sessions.get(person.session) if person.user in users else None
            if flags is None or session is None:
                continue
            found = {
                "invisible": session.invisible, "shareCursor": session.share_cursor,
                "shareSelection": session.share_selection,
            }  # fmt: skip
            if not flags.items() <= found.items():
                raise Broken(f"{person.name} was told {flags}, but its owner has {found}")

    def _confirmed(self, person: Person) -> dict[str, bool] | None:
        """Return the flags of the person's session by the last change whose order is certain; None without one."""
        flags: dict[str, bool] | None = None
        for request in self._privacy_requests.get(person.user, ()):
            if request.person is person:
                # an older unacknowledged change of its own must not be applied after this one [N-b]
                flags = None if request.overlaps else request.acknowledged
            elif request.everywhere:  # changes of other tabs are in no order with its own
                flags = None
        return flags


class Receiver:
    """The application's back end as docs/webhooks.md describes it: it handles each event once, in the order of the
    timestamps, into a set of sessions for each room. `lost` holds the rooms that were created anew while they had
    members."""

    def __init__(self, told: list[AnyWebhookEvent]) -> None:
        self.inside: dict[str, set[str]] = {room: set() for room in ROOMS}
        self.lost: set[str] = set()
        self.entered: dict[tuple[str, str], str] = {}  # room and session -> timestamp
        self.left: dict[tuple[str, str], str] = {}
        events: dict[str, AnyWebhookEvent] = {}
        for event in told:
            events.setdefault(event.id, event)
        for event in sorted(events.values(), key=lambda event: event.timestamp):
            inside = self.inside[event.room_id]
            if isinstance(event, UserEntered):
                inside.add(event.session_id)
                self.entered[event.room_id, event.session_id] = event.timestamp
            elif isinstance(event, UserLeft):
                inside.discard(event.session_id)
                self.left[event.room_id, event.session_id] = event.timestamp
            elif isinstance(event, RoomCreated | RoomEmptied):
                if inside and isinstance(event, RoomCreated):
                    self.lost.add(event.room_id)
                inside.clear()


def check_room(room: Any) -> None:
    """Check a room at its owner, after every step. Errors: Broken."""
    if not room.shown and any(member.visible for member in room.members.values()):
        raise Broken(f"{room.id} has visible members and is not there for others")
    if not room.shown and (room.seq or room.playback is not None or room.targets.media or room.gone):
        raise Broken(f"{room.id} is not there for others, and keeps number {room.seq}, playback, media or who has left")
    ends_at = None if room.playback is None else room.playback.ends_at
    if room.context.deadlines.at(("end", room.id, "")) != ends_at:
        raise Broken(f"{room.id} reaches its end at {ends_at}, and has another deadline for it")
    if not room.shown and (room.wait is not None or room.settings != NO_SETTINGS):
        raise Broken(f"{room.id} is not there for others, and waits for viewers or has {room.settings}")
    ends_wait = ("wait", room.id, "")
    if room.wait is not None and (room.playback.is_playing or room.wait.viewers.keys() - room.members.keys()):
        raise Broken(f"{room.id} waits for {room.wait.viewers} and plays, or for sessions that are not in it")
    if (room.wait is not None) != (room.context.deadlines.at(ends_wait) is not None):
        raise Broken(f"{room.id} waits for {room.wait}, and has another deadline for it")
    if room.control.away_since and room.control.user_id is None:
        raise Broken(f"{room.id} has an absent holder of control and no holder")
    person = room.people.get(room.control.user_id)
    if bool(room.control.away_since) != (person is not None and person.is_away):
        raise Broken(f"{room.control.user_id} has control of {room.id}, away since {room.control.away_since}")
    holder = room.control.session_id
    if holder is not None and holder not in room.members:
        raise Broken(f"the controller of {room.id} is not in it")
    if holder is not None and not room.members[holder].may_hold:
        raise Broken(f"{holder} has control of {room.id} and may not have it")
    taken: dict[int, str] = {}
    for session_id, member in room.members.items():
        if (member.index is not None) != member.visible:
            raise Broken(f"{session_id} in {room.id} has number {member.index}, and visible is {member.visible}")
        if member.index in taken:
            raise Broken(f"{session_id} and {taken[member.index]} are both number {member.index} in {room.id}")
        if member.index is not None:
            taken[member.index] = session_id
        if member.cursor is not None and not (member.visible and member.share_cursor):
            raise Broken(f"the cursor of {session_id} in {room.id} is kept, which it hides")


def check_names(person: Person, room: Any) -> None:
    """Check, when it is quiet, which names a person sees in a room: those that the room has, and of the person's own
    user a name at least as new as that of the token which the server has accepted here. Errors: Broken."""
    for user, name in person.names[room.id].items():
        shown = room.people[user].profile.user_info if user in set(person.seen[room.id].values()) else None
        if shown is not None and name != shown.name:
            raise Broken(f"{person.name} sees {user} as {name!r} in {room.id}, not {shown.name!r}")
    own = room.people[person.user].profile.user_info
    number = int(own.issued_at_s) - FIRST_ISSUED_S
    if number < person.granted_number or own.name != name_of(person.user, number):
        raise Broken(f"{person.name} has token {person.granted_number}, but {own} is shown in {room.id}")


def check_grace(story: Story) -> None:
    """Check after every step that no membership is held for longer than the grace period, however often owners change.
    Errors: Broken."""
    world = story.world
    for person in story.people:
        if person.here or person.lost_at is None or person.token is None or person.noticed_at is None:
            continue
        since = story.running_at(person.noticed_at)  # the grace period is extended while the service is behind
        delays = [node.shard.context.delays for node in world.nodes.values()]
        ends_at = max(each.ends(since, world.limits.grace_s) for each in delays)
        # but by no more than the time in which workers stood still, links were cut and other workers were notified of
        # it
        stood_s = sum(ended - max(began, since) for began, ended in story.stops.values() if ended > since)
        ends_at = min(ends_at, since + world.limits.grace_s + stood_s + BEHIND_S)
        if world.now <= max(ends_at, story.troubled_at) + LATE_S:
            continue
        for node in world.nodes.values():
            for room in node.shard.rooms.values() if node.stopped is None else ():
                if person.session in room.members:
                    raise Broken(f"{person.name} is away for {person.away_s:.3f} s and still in {room.id}")


def _is_lost(timestamp: str, deaths: list[tuple[float, float]]) -> bool:
    """Whether an event happened in the last second of a worker, which may have died before it sent the event."""
    told_at = datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0
    return any(told_at <= down_at + 0.001 < told_at + BATCH_S for down_at, _ in deaths)


def check_calm(story: Story) -> None:
    """Check, when it is quiet, that privacy, rights and numbers agree wherever they are stored, and that webhook events
    add up. Errors: Broken."""
    shard = story.world.shard
    rooms, users = shard.rooms, shard.users
    for room in rooms.values():
        for session_id, member in room.members.items():
            session = users[member.user_id].sessions.get(session_id)
            if session is None:
                continue  # another invariant covers it
            shown = (member.invisible, member.session_disabled, member.share_cursor, member.share_selection)
            is_off = member.session_disabled or member.room_disabled or member.user_id in story.world.presence_off
            if member.disabled != is_off:
                raise Broken(f"the presence of {session_id} in {room.id} is off: {member.disabled}, not {is_off}")
            true = (session.invisible, session.disabled, session.share_cursor, session.share_selection)
            if shown != true:
                raise Broken(f"{room.id} has {shown} for the privacy of {session_id}, not {true}")
    for person in story.people:
        if not person.here:
            continue
        for room_id in person.seen:
            member = rooms[room_id].members[person.session]
            check_objects(person, rooms[room_id])
            scopes = ALL_RIGHTS[person.granted]
            if member.room_disabled != ("unseen" in scopes):
                raise Broken(
                    f"{person.name} has {person.granted!r}, and is disabled in {room_id}: {member.room_disabled}"
                )
            if (member.can_control, member.can_broadcast) != ("control" in scopes, "broadcast" in scopes):
                found = f"control {member.can_control}, broadcast {member.can_broadcast}"
                raise Broken(f"{person.name} has the rights of {person.granted!r}, but {found} in {room_id}")
            others = [each for each in rooms[room_id].members.values() if each is not member]
            numbers = {each.index: each.session_id for each in others if each.visible}
            known = {n: session for n, session in person.numbers[room_id].items() if n in numbers}
            if known != numbers:
                raise Broken(f"{person.name} knows {known} as numbers in {room_id}, not {numbers}")
    check_summaries(story)
    assert story.world.webhook_events is not None
    receiver = Receiver(story.world.webhook_events)
    inside = receiver.inside
    for room_id in ROOMS:
        members = set(rooms[room_id].members) if room_id in rooms else set()
        if story.two_died and (room_id not in rooms or room_id in receiver.lost):
            continue  # docs/webhooks.md: then a room may be lost without an event, and even be found again
        for session_id in inside[room_id] - members:
            if _is_lost(receiver.entered[room_id, session_id], story.deaths):
                inside[room_id].discard(session_id)
        # a leave that was lost with its worker: the next owner still has the member
        for session_id in members - inside[room_id]:
            if _is_lost(receiver.left.get((room_id, session_id), ""), story.deaths):
                inside[room_id].add(session_id)
        if inside[room_id] != members:
            raise Broken(f"by webhooks {sorted(inside[room_id])} are in {room_id}, not {sorted(members)}")


def check_summaries(story: Story) -> None:
    """Check, when it is quiet, that each client has the summary of every room that it watches, and of no other; and
    that no owner sends summaries to an edge which does not watch. Errors: Broken."""
    world = story.world
    rooms = world.shard.rooms
    for person in story.people:
        if not person.here:
            continue
        true: dict[str, tuple[int, list[str]]] = {}
        for room_id in person.watches:
            members = rooms[room_id].members.values() if room_id in rooms else ()
            users = list(dict.fromkeys(member.user_id for member in members if member.visible))
            true[room_id] = (len(users), users[:3])
        if person.summaries != true:
            raise Broken(f"{person.name} watches {person.watches} and has {person.summaries}, not {true}")
    for node in world.nodes.values():
        for room_id in ROOMS:
            watching = {number for number, edge in world.nodes.items() if room_id in edge.hub.watched_rooms}
            known = node.shard.watchers.edges_of(room_id)
            if known and known != watching:
                raise Broken(f"{room_id} is watched at {sorted(watching)}, and its owner knows {sorted(known)}")


def check_objects(person: Person, room: Any) -> None:
    """Check, when it is quiet, that a person knows the presence object of each member that it sees, and that nothing of
    a visible member's waits any more. Errors: Broken."""
    for session_id, member in room.members.items():
        if not (member.visible or member.user_id == person.user):
            continue
        presence = member.presence
        true = {} if presence is None else {key: json.loads(value) for key, value in presence.merged().items()}
        if member.visible and presence is not None and (presence.waiting or presence.hidden):
            raise Broken(f"of the object of {session_id} in {room.id} {presence.waiting}, {presence.hidden} wait")
        if presence is not None:
            below = {**presence.shown, **presence.waiting}
            idle = [key for key, value in presence.hidden.items() if below.get(key) == value]
            if idle:
                raise Broken(f"the object of {session_id} in {room.id} keeps {idle}, which change nothing")
        known = person.objects[room.id].get(session_id)
        if known != true:
            raise Broken(f"{person.name} knows {known} as the object of {session_id} in {room.id}, not {true}")


def call_the_roll(story: Story) -> None:
    """Check, when it is quiet, that cursors arrive: one tab of each user at a time sends one, and exactly the other
    members that may see it receive it. Errors: Broken."""
    world, number = story.world, 1000
    tabs: dict[str, list[Person]] = {}
    for person in story.people:
        if person.here:
            tabs.setdefault(person.user, []).append(person)
    for turn in range(max(map(len, tabs.values()), default=0)):
        pointing = [each[turn] for each in tabs.values() if turn < len(each)]
        expected: dict[str, set[tuple[str, str, float]]] = {person.name: set() for person in story.people}
        for person in story.people:
            person.cursors.clear()
        for person in pointing:
            for room_id in sorted(person.seen):
                number += 1
                person.say(type="cursor", roomId=room_id, data={"timestamp": number})
                member = world.shard.rooms[room_id].members[person.session]
                if member.visible and member.share_cursor:
                    for other in story.people:
                        if other is not person and other.here and room_id in other.seen:
                            expected[other.name].add((room_id, person.session, float(number)))
        world.sleep(0.2)
        story.check()
        for person in story.people:
            seen = set(person.cursors)
            if person.here and seen != expected[person.name]:
                lost, leaked = sorted(expected[person.name] - seen), sorted(seen - expected[person.name])
                raise Broken(f"{person.name} did not see cursors {lost}, and saw {leaked} that were not to be seen")


def memory(world: World) -> dict[str, Any]:
    """Return the state that has to outlive any one worker: what users have set and hide, which rooms their sessions are
    in, the members' data, the controllers and settings, playback."""
    found: dict[str, Any] = {}
    for user in world.shard.users.values():
        found[f"user {user.id}"] = (user.manual, user.status_message, user.user_info, _hidden(user.privacy_defaults))
        for session_id, session in user.sessions.items():
            found[f"session {session_id}"] = (session.disabled, *_hidden(session.privacy()), sorted(session.rooms))
    rooms = [(world.clock_offset_s(n), room) for n, node in world.nodes.items() for room in node.shard.rooms.values()]
    for ahead_s, room in rooms:
        playback = room.playback
        # with `autoGrantAway` control may pass on meanwhile: its holder is away while the connection is lost [I7]
        controller = None if room.auto_grant_away_s else room.control.user_id
        found[f"room {room.id}"] = (
            room.type, round(room.created_at - ahead_s, 3), room.sync_enabled, controller, room.settings,
        )  # fmt: skip
        found[f"playback of {room.id}"] = playback and (
            playback.is_playing, playback.playback_rate,
            round(playback.position(world.now + ahead_s) - _run(playback, world), 3),
        )  # fmt: skip
        found[f"media of {room.id}"] = (
            dict(room.targets.media),
            dict(room.targets.durations),
            room.targets.from_back_end,
            list(room.targets.removed),
        )
        for member in room.members.values():
            found[f"{member.session_id} in {room.id}"] = (
                member.color, member.index, round(member.joined_at - ahead_s, 3), member.invisible, member.disabled, member.share_cursor,
                member.share_selection, member.name, member.can_control, member.can_broadcast, member.moderator, member.person.profile.status,
                member.person.profile.status_message, None if member.presence is None else member.presence.merged(),
            )  # fmt: skip
    return found


def _run(playback: Any, world: World) -> float:
    """How far a video has run since time 0: with that subtracted, its position is constant."""
    return world.now * playback.playback_rate if playback.is_playing else 0.0


def _hidden(privacy: Privacy) -> tuple[Any, ...]:
    return tuple(
        value if isinstance(value, bool) else None
        for value in (privacy.invisible, privacy.share_cursor, privacy.share_selection)
    )
