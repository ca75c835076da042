"""Stores the replicas that this worker holds of rooms and users of other owners, for their next owner [N-b]."""

from collections.abc import Callable

import msgspec

from koko_presence.protocol.snapshots import RoomDelta, RoomRecord, UserRecord

_delta_decoder = msgspec.msgpack.Decoder(RoomDelta)


class ReplicaStore:
    """The replicas by id. Written by `ClusterBus` from the owners' messages, and by `OwnershipTransfer`, which sweeps
    them after a change of owners."""

    __slots__ = ("rooms", "users")

    def __init__(self) -> None:
        self.rooms: dict[str, RoomRecord] = {}
        self.users: dict[str, UserRecord] = {}

    def store_room(self, room_id: str, delta_bytes: bytes) -> bool:
        """Apply an owner's delta. Return False when it is partial and there is no replica here to apply it to."""
        delta = _delta_decoder.decode(delta_bytes)
        record = self.rooms.get(room_id)
        if delta.deleted:
            if record is not None and delta.revision >= record.revision:
                del self.rooms[room_id]
        elif record is not None:
            record.apply(delta)
        elif delta.complete and delta.head is not None:
            record = RoomRecord(seq=delta.seq, revision=0, head=delta.head, members={})
            record.apply(delta)
            self.rooms[room_id] = record
        else:
            return False
        return True

    def store_whole_room(self, room_id: str, record: RoomRecord) -> None:
        """Store an owner's record of a whole room, unless a newer one is here."""
        known = self.rooms.get(room_id)
        if known is None or known.revision <= record.revision:
            self.rooms[room_id] = record

    def created_version(self, room_id: str) -> int:
        """Return the version with which the room of the replica was created; 0: unknown, or there is no replica."""
        record = self.rooms.get(room_id)
        return 0 if record is None else record.head.created_version

    def note_seq(self, room_id: str, seq: int) -> None:
        """Record the room's `seq`, which does not decrease."""
        record = self.rooms.get(room_id)
        if record is not None:
            record.seq = max(record.seq, seq)

    def store_user(self, record: UserRecord) -> None:
        """Store an owner's record, unless a newer one is here; a record without sessions deletes the replica."""
        known = self.users.get(record.user_id)
        if known is not None and known.revision > record.revision:
            return
        if record.sessions:
            self.users[record.user_id] = record
        else:
            self.users.pop(record.user_id, None)

    def sweep(self, wants_room: Callable[[str], bool], wants_user: Callable[[str], bool]) -> None:
        """Delete the replicas that other workers hold by the present view."""
        self.rooms = {room_id: record for room_id, record in self.rooms.items() if wants_room(room_id)}
        self.users = {user_id: record for user_id, record in self.users.items() if wants_user(user_id)}
