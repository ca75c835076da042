"""Who was taken over by a record alone, because their edge had not announced when the others went on without it.

A record may be older than the truth: somebody may have hung up at an edge that was held up, and told an owner that is
none any more. Whoever the edge does not name when it announces at last is held for the grace [N-b]; whoever has joined
or come back since has another stay or connection, and is not meant.
"""

from koko_presence.owner.shard import Shard
from koko_presence.protocol.snapshots import Presence, SessionRecord

Doubt = tuple[int, int, int]  # the view it is from, connection, stay


class Unconfirmed:
    """Of what this worker owns, by edge."""

    __slots__ = ("_members", "_sessions")

    def __init__(self) -> None:
        self._members: dict[int, dict[tuple[str, str], Doubt]] = {}  # room and session
        self._sessions: dict[int, dict[tuple[str, str], Doubt]] = {}  # user and session

    def note_room(self, shard: Shard, room_id: str, presences: dict[int, Presence], announced: set[int]) -> None:
        """A room has been put together; these are the edges that have announced, and what some have said of it."""
        room = shard.rooms.get(room_id)
        for member in room.members.values() if room is not None else ():
            named = member.edge in presences and member.session_id in presences[member.edge].sessions
            if member.connected and not member.leased and member.edge not in announced and not named:
                doubts = self._members.setdefault(member.edge, {})
                doubts[room_id, member.session_id] = (shard.setting.epoch, member.connection, member.stay)

    def note_user(self, shard: Shard, user_id: str, words: dict[int, list[SessionRecord]], announced: set[int]) -> None:
        """A user has been put together."""
        user = shard.users.get(user_id)
        for session_id, session in user.sessions.items() if user is not None else ():
            named = any(word.session_id == session_id for word in words.get(session.edge, ()))
            if session.connected and not session.leased and session.edge not in announced and not named:
                doubts = self._sessions.setdefault(session.edge, {})
                doubts[user_id, session_id] = (shard.setting.epoch, session.connection, 0)

    def hear_room(self, room_id: str, presence: Presence) -> None:
        """An edge speaks late of a room."""
        doubts = self._members.get(presence.edge, {})
        for session_id in presence.sessions:
            doubts.pop((room_id, session_id), None)

    def hear_user(self, user_id: str, edge: int, words: list[SessionRecord]) -> None:
        """An edge speaks late of a user."""
        doubts = self._sessions.get(edge, {})
        for word in words:
            doubts.pop((user_id, word.session_id), None)

    def settle(self, shard: Shard, edge: int, epoch: int, now: float) -> bool:
        """An edge has announced for view `epoch`: whoever it has not named is not there. True when that has changed
        anything."""
        gone = [key for doubts in (self._sessions, self._members) for key in _take(doubts, edge, epoch)]
        for (owner_id, session_id), (_, connection, stay) in gone:
            user, room = shard.users.get(owner_id), shard.rooms.get(owner_id)
            session = user.sessions.get(session_id) if user is not None and not stay else None
            member = room.members.get(session_id) if room is not None and stay else None
            if user is not None and session is not None and session.connected and session.connection == connection:
                user.hold(session_id, now)
                shard.changed_user(user, now)
            if (
                room is not None
                and member is not None
                and member.connected
                and (member.connection, member.stay) == (connection, stay)
            ):
                room.drop(member, now)
                shard.changed_room(room, now)
        return bool(gone)

    def forget(self, edges: list[int]) -> None:
        """These are gone, and with them all who were there."""
        for edge in edges:
            self._members.pop(edge, None)
            self._sessions.pop(edge, None)


def _take(
    doubts: dict[int, dict[tuple[str, str], Doubt]], edge: int, epoch: int
) -> list[tuple[tuple[str, str], Doubt]]:
    found = [(key, doubt) for key, doubt in doubts.get(edge, {}).items() if doubt[0] <= epoch]
    for key, _ in found:
        del doubts[edge][key]
    return found
