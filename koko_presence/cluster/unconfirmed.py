"""Tracks the sessions that were restored from a record only, because their edge had not reported its sessions when the
change of owners ended.

A record may be outdated: a session may have ended at an edge that stalled, which sent that to a previous owner. A
session that the edge does not report when it finally does is held for the grace period [N-b]. A session that has joined
or resumed since has another membership or connection, and is not affected.
"""

from koko_presence.owner.shard import Shard
from koko_presence.protocol.snapshots import Presence, SessionRecord

Entry = tuple[int, int, int]  # epoch of the take-over, connection, membership version (0: a user's session)


class Unconfirmed:
    """The unconfirmed sessions and members that this worker owns, by edge. Written by `OwnershipTransfer`, through
    these methods."""

    __slots__ = ("_members", "_sessions")

    def __init__(self) -> None:
        self._members: dict[int, dict[tuple[str, str], Entry]] = {}  # by room and session
        self._sessions: dict[int, dict[tuple[str, str], Entry]] = {}  # by user and session

    def note_room(self, shard: Shard, room_id: str, presences: dict[int, Presence], reporting_edges: set[int]) -> None:
        """Record the members of a restored room whose edge is not among `reporting_edges`, and which no report in
        `presences` has."""
        room = shard.rooms.get(room_id)
        for member in room.members.values() if room is not None else ():
            named = member.edge in presences and member.session_id in presences[member.edge].sessions
            if member.connected and not member.leased and member.edge not in reporting_edges and not named:
                unconfirmed = self._members.setdefault(member.edge, {})
                unconfirmed[room_id, member.session_id] = (shard.context.epoch, member.connection, member.membership_id)

    def note_user(
        self, shard: Shard, user_id: str, sessions_by_edge: dict[int, list[SessionRecord]], reporting_edges: set[int]
    ) -> None:
        """Record the sessions of a restored user whose edge is not among `reporting_edges`, and which no report in
        `sessions_by_edge` has."""
        user = shard.users.get(user_id)
        for session_id, session in user.sessions.items() if user is not None else ():
            named = any(record.session_id == session_id for record in sessions_by_edge.get(session.edge, ()))
            if session.connected and not session.leased and session.edge not in reporting_edges and not named:
                unconfirmed = self._sessions.setdefault(session.edge, {})
                unconfirmed[user_id, session_id] = (shard.context.epoch, session.connection, 0)

    def confirm_room(self, room_id: str, presence: Presence) -> None:
        """Confirm the members in an edge's late report of a room."""
        unconfirmed = self._members.get(presence.edge, {})
        for session_id in presence.sessions:
            unconfirmed.pop((room_id, session_id), None)

    def confirm_user(self, user_id: str, edge: int, records: list[SessionRecord]) -> None:
        """Confirm the sessions in an edge's late report of a user."""
        unconfirmed = self._sessions.get(edge, {})
        for record in records:
            unconfirmed.pop((user_id, record.session_id), None)

    def settle(self, shard: Shard, edge: int, epoch: int, now: float) -> bool:
        """Hold all sessions of an edge that it has not reported: it has now sent all its reports for view `epoch`.
        Return whether there were any."""
        gone = [key for unconfirmed in (self._sessions, self._members) for key in _take(unconfirmed, edge, epoch)]
        for (owner_id, session_id), (_, connection, membership_id) in gone:
            user, room = shard.users.get(owner_id), shard.rooms.get(owner_id)
            session = user.sessions.get(session_id) if user is not None and not membership_id else None
            member = room.members.get(session_id) if room is not None and membership_id else None
            if user is not None and session is not None and session.connected and session.connection == connection:
                user.suspend(session_id, now)
                shard.changed_user(user, now)
            if (
                room is not None
                and member is not None
                and member.connected
                and (member.connection, member.membership_id) == (connection, membership_id)
            ):
                room.suspend(member, now)
                shard.changed_room(room, now)
        return bool(gone)

    def forget(self, edges: list[int]) -> None:
        """Drop all entries of edges that are gone."""
        for edge in edges:
            self._members.pop(edge, None)
            self._sessions.pop(edge, None)


def _take(
    unconfirmed: dict[int, dict[tuple[str, str], Entry]], edge: int, epoch: int
) -> list[tuple[tuple[str, str], Entry]]:
    found = [(key, entry) for key, entry in unconfirmed.get(edge, {}).items() if entry[0] <= epoch]
    for key, _ in found:
        del unconfirmed[edge][key]
    return found
