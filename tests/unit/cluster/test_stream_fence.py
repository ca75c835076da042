"""What an edge leaves out of a room's stream while it waits for the snapshots of that room (cluster/stream_fence.py)."""

from types import SimpleNamespace
from typing import Any

from koko_presence._fastpath.fanout import RoomFlush, StreamFrame
from koko_presence._fastpath.framing import frame_text
from koko_presence.cluster.stream_fence import SNAPSHOT_WITHIN_S, StreamFence
from koko_presence.protocol.events import encode

ROOM = "video_1"
NOW = 100.0


class Edge:
    """An edge with the subscribers `ann` and `bob` of a room that another worker owns; both wait for a snapshot."""

    def __init__(self) -> None:
        self.subscribers: dict[str, Any] = {"ann": None, "bob": None}
        bus: Any = SimpleNamespace(
            me=1,
            peers={},
            shard=SimpleNamespace(rooms={}),
            edge=SimpleNamespace(subscriptions={ROOM: SimpleNamespace(subscribers=self.subscribers)}),
            transfer=SimpleNamespace(recovering=False, owners_of=lambda key: {2}),
        )
        self.fence = StreamFence(bus)
        self.fence.refresh(ROOM, 1, NOW)

    def passes_on(self, *items: StreamFrame) -> list[StreamFrame]:
        """Return which of the frames of one flush reach the subscribers."""
        flush = RoomFlush(ROOM, list(items), "2026-01-01T00:00:00.000Z")
        return self.fence.strip_unknown(flush, NOW + 0.1 * SNAPSHOT_WITHIN_S).items


def frame(type_: str, *, only: str = "", merge: str = "", attach: bool = False, detach: bool = False) -> StreamFrame:
    """A frame of the session `cat`; of a length that takes the longer frame header."""
    event = {"type": type_, "roomId": ROOM, "sessionId": "cat", "data": {"text": "x" * 200}}
    return StreamFrame(frame_text(encode(event)), only=only, merge=merge, attach=attach, detach=detach)


def snapshot(session_id: str) -> StreamFrame:
    return frame("joined", only=session_id, attach=True)


def test_presence_objects_and_cursors_wait_for_the_last_snapshot() -> None:
    edge = Edge()
    changed, cursor, status = frame("presence_changed", merge="pcat"), frame("cursor_moved", merge="ccat"), frame("x")
    ann, bob = snapshot("ann"), snapshot("bob")
    assert edge.passes_on(changed, cursor, status) == [status]
    assert edge.passes_on(changed, ann, changed) == [ann]
    assert edge.passes_on(changed, bob, changed) == [bob, changed]
    assert edge.passes_on(changed, cursor) == [changed, cursor]


def test_the_presence_object_of_an_invisible_session_waits_for_the_snapshot_too() -> None:
    edge = Edge()
    changed, status, told = (
        frame("presence_changed", only="ann"),
        frame("status_changed", only="ann"),
        frame("broadcast", only="ann"),
    )
    ann, bob = snapshot("ann"), snapshot("bob")
    assert edge.passes_on(changed, status, told) == [status, told]
    assert edge.passes_on(ann, bob, changed) == [ann, bob, changed]


def test_a_session_that_has_left_this_edge_is_not_waited_for() -> None:
    edge = Edge()
    ann, changed = snapshot("ann"), frame("presence_changed", merge="pcat")
    del edge.subscribers["bob"]
    assert edge.passes_on(changed, ann, changed) == [ann, changed]
    assert edge.passes_on(changed) == [changed]


def test_a_session_that_the_room_detaches_is_not_waited_for() -> None:
    edge = Edge()
    ann, gone, changed = (
        snapshot("ann"),
        frame("left", only="bob", detach=True),
        frame("presence_changed", merge="pcat"),
    )
    assert edge.passes_on(gone, changed, ann, changed) == [gone, ann, changed]
    assert edge.passes_on(changed) == [changed]
