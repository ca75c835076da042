"""What an edge leaves out of a room's stream while it waits for the snapshots of that room, and what waits while owners
change (cluster/stream_fence.py)."""

from types import SimpleNamespace
from typing import Any

from koko_presence._fastpath.fanout import RoomFlush, StreamFrame
from koko_presence._fastpath.framing import frame_text
from koko_presence.cluster import wire_messages
from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.cluster.stream_fence import SNAPSHOT_WITHIN_S, StreamFence
from koko_presence.protocol.edge_messages import Left
from koko_presence.protocol.events import encode
from tests.world import World

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


class ChangingEdge:
    """An edge whose owners change; worker 2 is to own all rooms. `got` is what is passed on, in order: the body of a
    flush, and the session of an answer to a leave."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.transfer = SimpleNamespace(
            recovering=True,
            settled_epoch=1,
            owners_of=lambda key: {2},
            has_reported=lambda key: False,
        )
        edge = SimpleNamespace(subscriptions={}, on_edge_message=self.on_edge_message, on_flushed=lambda now: None)
        bus: Any = SimpleNamespace(
            me=1,
            peers={2: None},
            shard=SimpleNamespace(rooms={}),
            edge=edge,
            transfer=self.transfer,
            on_peer_messages=self.on_peer_messages,
        )
        self.bus = bus
        self.fence = StreamFence(bus)

    def on_peer_messages(self, sender: int, found: list[tuple[int, bytes]]) -> None:
        """As a bus does: drop what a worker outside of the view has sent, and ask the fence."""
        if sender in self.bus.peers:
            for kind, body in found:
                assert kind == wire_messages.FLUSH
                self.receive_flush(body, epoch=2)

    def receive_flush(self, body: bytes, epoch: int) -> None:
        if self.fence.admit(2, ROOM, epoch, body):
            self.got.append(body.decode())

    def receive_left(self, session_id: str, room_id: str = ROOM) -> None:
        answer = Left(session_id=session_id, room_id=room_id, payload=b"{}")
        if not self.fence.defer(answer):
            self.on_edge_message(answer, NOW)

    def on_edge_message(self, message: Any, now: float) -> None:
        if message.session_id == "broken":
            raise ValueError("for the test")
        self.got.append(message.session_id)

    def settle(self, epoch: int = 2) -> None:
        self.transfer.recovering, self.transfer.settled_epoch = False, epoch
        self.fence.settle(set(), NOW)


def test_an_answer_to_a_leave_waits_behind_the_flushes_of_its_room_only() -> None:
    edge = ChangingEdge()
    edge.receive_left("ann")
    edge.receive_flush(b"first", epoch=2)
    edge.receive_left("bob")
    edge.receive_left("cat", "video_2")
    edge.receive_flush(b"second", epoch=2)
    assert edge.got == ["ann", "cat"]
    edge.settle()
    assert edge.got == ["ann", "cat", "first", "bob", "second"]
    edge.receive_left("dan")
    assert edge.got[-1] == "dan"


def test_an_answer_that_waited_arrives_although_its_sender_has_left_the_view() -> None:
    edge = ChangingEdge()
    edge.receive_flush(b"first", epoch=2)
    edge.receive_left("ann")
    edge.bus.peers.clear()
    edge.settle()
    assert edge.got == ["ann"]


def test_an_answer_waits_on_when_the_flush_ahead_of_it_does() -> None:
    edge = ChangingEdge()
    edge.receive_flush(b"first", epoch=2)
    edge.receive_left("ann")
    edge.settle(epoch=1)
    assert edge.got == []
    edge.settle()
    assert edge.got == ["first", "ann"]


def test_an_answer_that_fails_does_not_lose_those_behind_it() -> None:
    edge = ChangingEdge()
    edge.receive_flush(b"first", epoch=2)
    edge.receive_left("broken")
    edge.receive_left("ann")
    edge.receive_flush(b"second", epoch=2)
    edge.settle()
    assert edge.got == ["first", "ann", "second"]


def test_a_room_is_refreshed_once_after_a_change_of_owners() -> None:
    """A room that waited for snapshots, and whose previous owner was lost, gets one request for new ones; a room for
    which only one of the two holds gets one, too."""
    edge = ChangingEdge()
    requests: list[str] = []
    edge.bus.edge.subscriptions = {
        room_id: SimpleNamespace(subscribers={"ann": None}) for room_id in (ROOM, "video_2", "video_3")
    }
    edge.bus.peers[2] = SimpleNamespace(
        outgoing=SimpleNamespace(
            put=lambda kind, body: requests.append(wire_messages.decode(wire_messages.REFRESH, body).room_id)
        )
    )
    edge.fence.refresh(ROOM, 1, NOW)
    edge.fence.refresh("video_2", 1, NOW)
    assert not requests
    edge.transfer.recovering = False
    edge.fence.settle({ROOM, "video_3", "video_4"}, NOW)
    assert sorted(requests) == [ROOM, "video_2", "video_3"]


def test_a_worker_passes_on_the_answer_of_an_owner_that_was_lost_while_it_waited() -> None:
    """The answer to a leave waits for the end of a change of owners. Its sender leaves the view before that. The answer
    was dropped like all messages of unknown workers."""
    world = World(workers=3)
    ann = world.person("ann")
    bus = ann.session.hub.bus
    assert isinstance(bus, ClusterBus)
    sender = next(iter(bus.peers))
    bus.fence._deferred_rooms.add("video_123")  # as with a flush by a view that has not arrived here
    payload = encode({"type": "left", "roomId": "video_123"})
    answer = Left(session_id=ann.session_id, room_id="video_123", payload=payload)
    ann.take()
    bus.on_peer_messages(sender, [(wire_messages.EDGE_MESSAGE, wire_messages.encode(answer))])
    assert not ann.take("left")
    world.kill(world.nodes[sender])
    world.sleep(1.0)
    assert len(ann.take("left")) == 1
