"""Workers whose monotonic clocks differ, as those of several hosts do.

The order of messages must not depend on clocks. Times do: the end of a lease or grace period, the start of a playback.
All workers of a host read one monotonic clock; between hosts times have to be translated. `translated` does that here,
for exactly the fields below. Any other value that is compared with a clock breaks stories (`python -m tests.sim
--clocks 500`).
"""

from typing import Any

import msgspec
from msgspec import Struct

from koko_presence._fastpath.wire import pack_flush, unpack_flush
from koko_presence.cluster import wire_messages
from koko_presence.protocol import commands, edge_messages, snapshots

# Every monotonic time in seconds that is sent between workers; 0.0 stands for none.
TIMES: dict[type, tuple[str, ...]] = {
    commands.OpenSession: ("accepted_at",),
    commands.SessionInfo: ("lease_until",),
    commands.SuspendMember: ("grace_until", "away_at"),
    commands.RenewLease: ("lease_until",),
    commands.ConfirmMember: ("grace_until",),
    commands.Profile: ("status_at",),
    commands.ReportActivity: ("at",),
    commands.ChangeStatus: ("at",),
    edge_messages.SessionActed: ("idle_at",),
    wire_messages.Delay: ("since", "until"),
    snapshots.MemberRecord: ("lease_until", "grace_until", "joined_at", "last_active_at"),
    snapshots.PrivateRoomRecord: ("since",),
    snapshots.PlaybackRecord: ("anchor", "acted_at"),
    snapshots.RoomHead: ("created_at", "holder_away_since"),
    snapshots.WaitRecord: ("began", "until"),
    snapshots.MembershipEnd: ("notified_at", "noted_at", "created_at"),
    snapshots.UserRecord: ("idle_at", "status_at"),
    snapshots.SessionRecord: ("accepted_at", "lease_until", "grace_until", "activity_at"),
}
# Those in the tuples of these lists, by position.
TUPLES: dict[tuple[type, str], tuple[int, ...]] = {
    (snapshots.RoomHead, "requests"): (2, 3),
}

_delta = msgspec.msgpack.Decoder(snapshots.RoomDelta)
_COMMANDS = (wire_messages.COMMAND, wire_messages.RELIABLE_COMMAND)
_RECORDS = (
    wire_messages.EDGE_MESSAGE,
    wire_messages.ROOM,
    wire_messages.ROOM_REPLICA,
    wire_messages.USER,
    wire_messages.USER_REPLICA,
    wire_messages.SESSIONS,
    wire_messages.DELAY,
    wire_messages.MEMBERSHIP_ENDS,
)


def translated(kind: int, body: bytes, by_s: float) -> bytes:
    """Return a message between workers as its receiver has to read it, whose clock is `by_s` seconds ahead of the
    sender's."""
    if not by_s:
        return body
    if kind in _COMMANDS:
        return wire_messages.encode_command(_shift(wire_messages.decode_command(body), by_s))
    if kind in _RECORDS:
        return wire_messages.encode(_shift(wire_messages.decode(kind, body), by_s))
    if kind == wire_messages.FLUSH:
        flush, epoch, before, seq, delta = unpack_flush(body)
        if delta:
            delta = wire_messages.encode(_shift(_delta.decode(delta), by_s))
            return pack_flush(flush, epoch, before, seq, delta)
    return body


def _shift(value: Any, by_s: float) -> Any:
    if isinstance(value, Struct):
        kind = type(value)
        changes = {
            name: _shift_field(kind, name, getattr(value, name), by_s)
            for name in kind.__struct_fields__
            if getattr(value, name) is not None
        }
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, list):
        return [_shift(each, by_s) for each in value]
    if isinstance(value, dict):
        return {key: _shift(each, by_s) for key, each in value.items()}
    return value


def _shift_field(kind: type, name: str, value: Any, by_s: float) -> Any:
    if name in TIMES.get(kind, ()):
        return value + by_s if value else value
    if (kind, name) in TUPLES:
        at = TUPLES[kind, name]
        return [tuple(each + by_s if n in at else each for n, each in enumerate(row)) for row in value]
    return _shift(value, by_s)
