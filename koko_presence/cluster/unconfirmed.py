"""Tracks the sessions that were restored from a record only, because their edge had not reported its sessions when the
change of owners ended.

A record may be outdated: a session may have ended at an edge that stalled, which sent that to a previous owner. A
session that the edge does not report when it finally does is held for the grace period [N-b]. A session that has joined
or resumed since has another membership or connection, and is not affected.
"""

from koko_presence.owner.shard import Shard
from koko_presence.protocol.snapshots import Presence, SessionRecord

Doubt = tuple[int, int, int]  # epoch of the take-over, connection, membership version (0: a user's session)


class Unconfirmed:
    """The unconfirmed sessions and members that this worker owns, by edge. Written by `OwnershipTransfer`, through
    these methods."""

    __slots__ = ("_members", "_sessions")

    def __init__(self) -> None:
        self._members: dict[int, dict[tuple[str, str], Doubt]] = {}  # by room and session
        self._sessions: dict[int, dict[tuple[str, str], Doubt]] = {}  # by user and session

    def note_room(self, shard: Shard, room_id: str, presences: dict[int, Presence], announced: set[int]) -> None:
        """Record the members of a restored room whose edge is not among `announced`, and which no report in `presences`
        has."""
        room = shard.rooms.get(room_id)
        for member in room.members.values() if room is not None else ():
            named = member.edge in presences and member.session_id in presences[member.edge].sessions
            if member.connected and not member.leased and member.edge not in announced and not named:
                doubts = self._members.setdefault(member.edge, {})
                doubts[room_id, member.session_id] = (shard.setting.epoch, member.connection, member.stay)

    def note_user(self, shard: Shard, user_id: str, words: dict[int, list[SessionRecord]], announced: set[int]) -> None:
        """Record the sessions of a restored user whose edge is not among `announced`, and which no report in `words`
        has."""
        user = shard.users.get(user_id)
        for session_id, session in user.sessions.items() if user is not None else ():
            named = any(word.session_id == session_id for word in words.get(session.edge, ()))
            if session.connected and not session.leased and session.edge not in announced and not named:
                doubts = self._sessions.setdefault(session.edge, {})
                doubts[user_id, session_id] = (shard.setting.epoch, session.connection, 0)

    def hear_room(self, room_id: str, presence: Presence) -> None:
        """Confirm the members in an edge's late report of a room."""
        doubts = self._members.get(presence.edge, {})
        for session_id in presence.sessions:
            doubts.pop((room_id, session_id), None)

    def hear_user(self, user_id: str, edge: int, words: list[SessionRecord]) -> None:
        """Confirm the sessions in an edge's late report of a user."""
        doubts = self._sessions.get(edge, {})
        for word in words:
            doubts.pop((user_id, word.session_id), None)

    def settle(self, shard: Shard, edge: int, epoch: int, now: float) -> bool:
        """Hold all sessions of an edge that it has not reported: it has now sent all its reports for view `epoch`.
        Return whether there were any."""
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
        """Drop all entries of edges that are gone."""
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
