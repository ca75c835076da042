"""How a shard lets go of rooms and users that are to be another's, and takes over those that are now its own.

What the new owner is told is gathered first, from the old owner, from whoever kept a record, and from the edges, who
alone know who is connected. Then it is put together, once: nobody hears of anything in between.
"""

from collections.abc import Collection, Iterable, Mapping, Set

from msgspec import structs

from koko_presence.protocol.edge_messages import SessionLost, SessionReplaced
from koko_presence.protocol.snapshots import MemberRecord, Presence, RoomRecord, SessionRecord, UserRecord
from koko_presence.rooms import webhook_recorder
from koko_presence.rooms.room import Room
from koko_presence.users.user import User

from . import reconcile
from .shard import Shard

ALL = 1 << 62  # above the number of any connection, and any version
TRUST_S = 1.0  # how much longer than the grace a resume token is believed after an owner was lost


class GatheredRoom:
    """What has been said of one room that is to be ours."""

    __slots__ = ("best", "presences", "rivals", "seqs")

    def __init__(self) -> None:
        self.best: RoomRecord | None = None
        self.rivals: list[RoomRecord] = []  # given up for `best`: of the same room, as another owner has made it
        self.presences: dict[int, Presence] = {}
        self.seqs: dict[int, int] = {}  # how far each worker has got

    def behind(self, flushed_seq: int) -> set[int]:
        """The workers that have not got as far in the room as others, who have heard `flushed_seq`."""
        return {worker for worker, seq in self.seqs.items() if seq < flushed_seq}

    def add_record(self, sender: int, record: RoomRecord) -> None:
        """The newest record is the truth about who was in the room."""
        self.seqs[sender] = max(record.seq, self.seqs.get(sender, 0))
        if self.best is None:
            self.best = record
            return
        other = record
        if record.revision > self.best.revision:
            self.best, other = record, self.best
        if other.head.created_at != self.best.head.created_at:
            self.rivals.append(other)


class GatheredUser:
    """What has been said of one user that is to be ours."""

    __slots__ = ("best", "newest", "words")

    def __init__(self) -> None:
        self.best: UserRecord | None = None
        self.words: dict[int, list[SessionRecord]] = {}
        self.newest: dict[int, int] = {}  # up to which connection each edge has spoken

    def add_record(self, record: UserRecord) -> None:
        if self.best is None or record.revision > self.best.revision:
            self.best = record

    def add_words(self, edge: int, words: list[SessionRecord], newest: int) -> None:
        """An edge's word, in place of an earlier one."""
        self.words[edge], self.newest[edge] = words, newest


def let_room_go(shard: Shard, room: Room) -> RoomRecord:
    """The room is not ours any more; what it still had to say must have been flushed."""
    reconcile.forget_deadlines(room)
    del shard.rooms[room.id]
    room.moved = True
    return reconcile.record_of(room)


def let_user_go(shard: Shard, user_id: str) -> UserRecord:
    """The user is not ours any more."""
    user = shard.users.pop(user_id)
    for session_id in user.sessions:
        shard.setting.deadlines.cancel(("session", user_id, session_id))
    user.revision = shard.setting.next_version(user.revision)
    return reconcile.user_record(user)


def take_room(
    shard: Shard,
    room_id: str,
    gathered: GatheredRoom,
    announced: Collection[int],
    edges: Collection[int],
    now: float,
) -> None:
    """Put a room together again. `announced` are the edges whose silence about a session means that it is not there.
    `edges` are all that are left. A room that is here already only learns what the edges say."""
    room, best = shard.rooms.get(room_id), gathered.best
    made = room is None
    if room is None:
        room = _restored(shard, room_id, gathered, now)
        if room is None:
            return
    elif best is not None:
        for record in (best, *gathered.rivals):
            if record.revision > room.restored_revision:  # of an owner that stood still
                _tell_of_rival(shard, room, record, now)
    lost: dict[int, set[str]] = {}
    silent = {edge: Presence(edge=edge, newest=ALL, sessions={}) for edge in (announced if made else ())}
    for edge, presence in sorted((silent | gathered.presences).items()):
        if made:  # and so nothing has happened in the room since
            presence.newest = ALL
        lost[edge] = set(reconcile.reconcile(room, presence, edges, now, late=not made))
    _lose(shard, lost)
    shard.changed_room(room, now)


def _restored(shard: Shard, room_id: str, gathered: GatheredRoom, now: float) -> Room | None:
    """The room as the newest record has it, without those whose stay has ended here since that was written. None when
    there is no record, or when all in it have left, with which the room has ended."""
    record = gathered.best
    members = () if record is None else record.members.values()
    ended = [member for member in members if member.stay <= shard.ended(room_id, member.session_id).stay]
    gone = {member.session_id for member in ended}
    if record is None or (gone and gone == record.members.keys()):
        _lose(shard, {edge: presence.sessions.keys() - gone for edge, presence in gathered.presences.items()})
        if record is not None:
            _tell_of_ended_room(shard, room_id, record, ended, now)
        return None
    left = {session_id: member for session_id, member in record.members.items() if session_id not in gone}
    seq = max(gathered.seqs.values())
    room = reconcile.restore_room(room_id, structs.replace(record, members=left), seq, shard.setting, now)
    shard.rooms[room_id] = room
    _tell_of_ended(shard, room, ended, now)
    for rival in gathered.rivals:
        _tell_of_rival(shard, room, rival, now)
    shard.tell_of_ended_rivals(room, now)
    return room


def _tell_of_rival(shard: Shard, room: Room, record: RoomRecord, now: float) -> None:
    """Two owners have made this room, and the other's is given up: tell the application's back end that those who were
    only in that one are gone. If it was made later, its room_created has cleared what was told of this one: tell once
    more who is in."""
    _tell_of_ended(shard, room, (each for key, each in record.members.items() if key not in room.members), now)
    created_at = record.head.created_at
    if created_at > room.created_at:
        webhook_recorder.entered_before_creation(room, created_at, created_at, now)


def _tell_of_ended(shard: Shard, room: Room, ended: Iterable[MemberRecord], now: float) -> None:
    """Tell the application's back end that these are gone, if their entry was told after the end of their last stay: by
    an owner that stood still, and did then what had been sent to it before."""
    for member in ended:
        if member.joined_at > shard.ended(room.id, member.session_id).told_at:
            webhook_recorder.left_with_its_owner(room, member, now)


def _tell_of_ended_room(
    shard: Shard, room_id: str, record: RoomRecord, ended: Collection[MemberRecord], now: float
) -> None:
    """All in the record have left here since, and the room has ended with that. It may have been told to have begun
    once more."""
    if shard.setting.happenings is None:
        return
    empty = structs.replace(record, members={}, head=structs.replace(record.head, controller=None, requests=[]))
    room = reconcile.restore_room(room_id, empty, record.seq, shard.setting, now)
    reconcile.forget_deadlines(room)
    _tell_of_ended(shard, room, ended, now)
    if record.head.created_at > max(shard.ended(room_id, member.session_id).told_at for member in ended):
        webhook_recorder.emptied(room, now)


def _lose(shard: Shard, sessions: Mapping[int, Set[str]]) -> None:
    for edge, lost in sorted(sessions.items()):
        for session_id in sorted(lost):
            shard.setting.effects.append((edge, SessionLost(session_id=session_id)))


def take_user(
    shard: Shard,
    user_id: str,
    gathered: GatheredUser,
    announced: Collection[int],
    edges: Collection[int],
    *,
    late: bool,
    now: float,
) -> None:
    """Put a user together again. `announced` are the edges whose silence about a session means that it is not there;
    `edges` are all that are left. `late`: rooms have been told already that nothing is known of the user."""
    late = late or user_id in shard.denied
    user = shard.users.get(user_id)
    made = user is None
    if user is None:
        user = shard.users[user_id] = reconcile.restore_user(user_id, gathered.best, shard.setting, now)
    stale: list[SessionRecord] = []
    changed = False
    if not made and gathered.best is not None:  # may know of a later connection, but not of sessions that have ended
        changed = reconcile.take_late_record(user, gathered.best)
        reconcile.take_late_privacy(user, gathered.best)
        stale = [
            word
            for word in gathered.best.sessions
            if word.connected and not word.lease_until and word.opening > _opening(user, word.session_id)
        ]
    for words in (stale, *(words for _, words in sorted(gathered.words.items()))):
        for word in words:
            loser = reconcile.meet(user, word, tell=late)
            if loser is not None:
                news = SessionReplaced(session_id=loser.session_id, connection=loser.connection)
                shard.setting.effects.append((loser.edge, news))
    if made:
        for words in gathered.words.values():
            for word in words:
                reconcile.leave_left_rooms(user, word)
    named = {edge: {word.session_id for word in words} for edge, words in gathered.words.items()}
    if made:
        for edge in announced:
            named.setdefault(edge, set())
    reconcile.hold_absent(user, edges, named, now, {} if made else gathered.newest)
    if changed or (made and late):  # and what they show of the user may be wrong
        user.spread_profile(min(user.sessions, default=""), changed=True, interacted=False)
    shard.changed_user(user, now)


def _opening(user: User, session_id: str) -> int:
    session = user.sessions.get(session_id)
    return ALL if session is None else session.opening


def part_with(shard: Shard, edges: Collection[int], lost_some: bool, now: float) -> None:
    """These are the edges that are left: hold the places of everybody who was at another."""
    shard.denied.clear()
    for room in list(shard.rooms.values()):
        if reconcile.drop_absent(room, edges, now):
            shard.changed_room(room, now)
    for user in list(shard.users.values()):
        sessions = user.sessions.values()
        if any(each.connected and not each.leased and each.edge not in edges for each in sessions):
            reconcile.hold_absent(user, edges, {}, now)
            shard.changed_user(user, now)
    if lost_some:
        shard.trust_for(shard.setting.limits.grace_s + TRUST_S, now)
