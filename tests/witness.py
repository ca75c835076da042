"""What must hold in a story of tests/sim.py besides who is where: nothing is told that nobody asked for, nothing old has
an effect, and what people have set outlives the owner that kept it.

A witness only watches: `on_*` hear of what people say and hear, `check` looks at the owners after every step.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from koko_presence.messages import Privacy

if TYPE_CHECKING:
    from tests.sim import Person, Story
    from tests.world import World

MOST_UNASKED = 8  # snapshots of one room that one connection may get unasked, whatever goes wrong in a story


class Broken(AssertionError):
    """An invariant does not hold."""


class Witness:
    """The witness of one story."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._joins: Counter[tuple[str, str]] = Counter()  # person and room: joins said, less joined heard
        self._leaves: Counter[tuple[str, str]] = Counter()  # person and room: whatever others may take for a leave
        self._own_leaves: Counter[tuple[str, str]] = Counter()  # leaves said, less left heard
        self._seen_leaving: Counter[tuple[str, str, str]] = Counter()  # who saw it, person, room
        self._hiding: set[str] = set()  # users who have been invisible
        self._doubts: list[tuple[Person, str, Person, str, str]] = []  # who is said to have left what, by whom
        self._person_of: dict[str, Person] = {}  # by session
        self._order: dict[int, int] = {}  # connection -> how many its person had before
        self._newest: dict[tuple[int, str, str], tuple[Any, int]] = {}  # worker, key, session -> its holder, order

    # --- what people say and hear ---------------------------------------------------------------------------------

    def on_come(self, person: Person, connection: int) -> None:
        """A person has a new connection: what was not answered on the last one never is."""
        self._order[connection] = len(self._order)
        for key in [key for key in self._joins if key[0] == person.name]:
            del self._joins[key]

    def on_go(self, person: Person, rooms: tuple[str, ...]) -> None:
        """A person closes its tab: that is a leave of all rooms."""
        for room in rooms:
            self._leaves[person.name, room] += 1

    def on_said(self, person: Person, message: dict[str, Any], rooms: tuple[str, ...]) -> None:
        """A person says something."""
        if message["type"] == "join":
            self._joins[person.name, message["roomId"]] += 1
        elif message["type"] == "leave":
            self._leaves[person.name, message["roomId"]] += 1
            self._own_leaves[person.name, message["roomId"]] += 1
        elif message["type"] == "privacy" and message["data"].get("invisible"):
            self._hiding.add(person.user)  # with scope "user" all tabs look as if they left [K2]

    def on_heard(self, person: Person, message: dict[str, Any]) -> None:
        """A person hears something. Errors: Broken."""
        kind, room = message["type"], message.get("roomId", "")
        if kind == "authenticated":
            self._person_of[message["sessionId"]] = person
        elif kind == "joined":
            self._joins[person.name, room] -= 1
            if -self._joins[person.name, room] > MOST_UNASKED:
                raise Broken(f"{person.name} was shown {room} {MOST_UNASKED + 1} times that it had not asked for")
        elif kind == "left":
            self._own_leaves[person.name, room] -= 1
            if self._own_leaves[person.name, room] < 0:  # one leave may be answered twice
                self._own_leaves[person.name, room] = 0
                self._doubts.append((person, room, person, person.session, f"{person.name} was put out of {room}"))
        elif kind == "user_left" and message["data"]["reason"] == "left":
            leaver = self._person_of.get(message["sessionId"])
            if leaver is not None and leaver.user not in self._hiding:
                key = (person.name, leaver.name, room)
                self._seen_leaving[key] += 1
                if self._seen_leaving[key] > self._leaves[leaver.name, room]:  # or seen twice
                    self._seen_leaving[key] = self._leaves[leaver.name, room]
                    doubt = f"{person.name} saw {leaver.name} leave {room}, who has not"
                    self._doubts.append((leaver, room, person, message["sessionId"], doubt))

    # --- what owners know -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everybody has heard all there is. No session goes back to a connection before its present one. Errors: Broken."""
        doubts, self._doubts = self._doubts, []
        for person, room, witness, session_id, doubt in doubts:
            # it has not been told that it is not let in, and has not come back at once
            if room in person.wants and session_id not in witness.seen.get(room, {}):
                raise Broken(doubt)
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


def memory(world: World) -> dict[str, Any]:
    """What has to outlive any one worker: what users have set and hide, which rooms their sessions are in, who is what
    in the rooms, who has control."""
    found: dict[str, Any] = {}
    for user in world.shard.users.values():
        found[f"user {user.id}"] = (user.manual, user.status_message, _hidden(user.wishes))
        for session_id, session in user.sessions.items():
            found[f"session {session_id}"] = (session.disabled, *_hidden(session.privacy()), sorted(session.rooms))
    for room in world.shard.rooms.values():
        playback = room.playback
        found[f"room {room.id}"] = (room.type, room.created_at, room.sync_enabled, room.control.user_id)
        found[f"playback of {room.id}"] = playback and (
            playback.is_playing, playback.playback_rate, round(playback.position(world.now) - _run(playback, world), 3)
        )  # fmt: skip
        for member in room.members.values():
            found[f"{member.session_id} in {room.id}"] = (
                member.color, member.index, member.joined_at, member.invisible, member.disabled, member.share_cursor,
                member.share_selection, member.name, member.can_control, member.moderator, member.person.profile.status,
                member.person.profile.status_message,
            )  # fmt: skip
    return found


def _run(playback: Any, world: World) -> float:
    """How far a video has run since the beginning of time: with that taken off, it stands still."""
    return world.now * playback.playback_rate if playback.is_playing else 0.0


def _hidden(privacy: Privacy) -> tuple[Any, ...]:
    return tuple(
        value if isinstance(value, bool) else None
        for value in (privacy.invisible, privacy.share_cursor, privacy.share_selection)
    )
