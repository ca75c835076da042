"""The records that this worker keeps of rooms and users that others own, for their next owner [N-b]."""

from collections.abc import Callable

import msgspec

from koko_presence.protocol.snapshots import RoomMemo, RoomRecord, UserRecord

_memo_decoder = msgspec.msgpack.Decoder(RoomMemo)


class ReplicaStore:
    """Written by the owners' letters alone; swept after a change of owners."""

    __slots__ = ("rooms", "users")

    def __init__(self) -> None:
        self.rooms: dict[str, RoomRecord] = {}
        self.users: dict[str, UserRecord] = {}

    def keep_room(self, room_id: str, memo_bytes: bytes) -> bool:
        """Take over an owner's memo; False when it says only what has changed, in something that is not here."""
        memo = _memo_decoder.decode(memo_bytes)
        record = self.rooms.get(room_id)
        if memo.over:
            if record is not None and memo.revision >= record.revision:
                del self.rooms[room_id]
        elif record is not None:
            record.apply(memo)
        elif memo.whole and memo.head is not None:
            record = RoomRecord(seq=memo.seq, revision=0, head=memo.head, members={})
            record.apply(memo)
            self.rooms[room_id] = record
        else:
            return False
        return True

    def note_seq(self, room_id: str, seq: int) -> None:
        """How far the room is."""
        record = self.rooms.get(room_id)
        if record is not None:
            record.seq = max(record.seq, seq)

    def keep_user(self, record: UserRecord) -> None:
        """Take over an owner's record; one without sessions ends it."""
        kept = self.users.get(record.user_id)
        if kept is not None and kept.revision > record.revision:
            return
        if record.sessions:
            self.users[record.user_id] = record
        else:
            self.users.pop(record.user_id, None)

    def sweep(self, wants_room: Callable[[str], bool], wants_user: Callable[[str], bool]) -> None:
        """Throw away what is another's to keep now."""
        self.rooms = {room_id: record for room_id, record in self.rooms.items() if wants_room(room_id)}
        self.users = {user_id: record for user_id, record in self.users.items() if wants_user(user_id)}
