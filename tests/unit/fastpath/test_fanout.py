"""Fan-out to the subscribers of a room: frames as in RFC 6455; every subscriber gets all events but its own; compact
cursors carry the same in less."""

import socket
import struct
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.fanout import CursorTemplate, RoomSubscription, StreamFrame
from koko_presence._fastpath.framing import frame_text, payload_of
from koko_presence._fastpath.outbox import Outbox, WriteBatch
from koko_presence.protocol.events import Cursors, CursorShown, Event, encode
from tests.unit.fastpath.reference import frames_in

NOW = "2025-01-15T10:30:00.123Z"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
def test_frames_have_the_length_of_rfc_6455(size: int) -> None:
    framed = frame_text(b"x" * size)
    assert framed[0] == 0x81 and framed.endswith(b"x" * size)
    head = framed[: len(framed) - size]
    assert len(head) == (2 if size < 126 else 4 if size < 65536 else 10)
    assert (head[1] if size < 126 else int.from_bytes(head[2:], "big")) == size
    assert payload_of(framed) == b"x" * size


class Wire:
    unsent_bytes = 0

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def send_frames(self, data: bytes) -> None:
        self.writes.append(data)


class Stage:
    """Subscribers a, b and c of one room; those in `compact` have requested compact cursors."""

    def __init__(self, compact: str = "") -> None:
        self.wires = {name: Wire() for name in "abc"}
        self.write_batch = WriteBatch(lambda callback: None)
        self.subscription = RoomSubscription("video_1")
        for name, wire in self.wires.items():
            box = Outbox(wire, 500, 1000, self.write_batch, lambda: None)
            box.compact = name in compact
            self.subscription.outboxes[name] = box

    def flush(self, items: list[StreamFrame]) -> dict[str, list[bytes]]:
        self.subscription.fan_out(items, NOW)
        self.write_batch.write()
        return {name: wire.writes for name, wire in self.wires.items()}


NAMES = st.sampled_from(["", "a", "b", "c", "elsewhere"])


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=5), NAMES, NAMES), max_size=12))
def test_every_subscriber_gets_all_but_its_own_events_in_order_and_in_one_write(
    items: list[tuple[bytes, str, str]],
) -> None:
    writes = Stage().flush([StreamFrame(frame, skip=skip, only=only) for frame, skip, only in items])
    for name in "abc":
        expected = b"".join(f for f, skip, only in items if skip != name and only in ("", name))
        assert writes[name] == ([expected] if expected else [])


def wrapped(stage: Stage, name: str) -> Outbox:
    """Make the outbox of a subscriber one that wraps messages: each twice, and in capitals."""
    box = stage.subscription.outboxes[name]
    stage.subscription.discard(name)
    box.use_envelopes(lambda message: [message.upper(), b"2" + message])
    stage.subscription.add(name, box)
    return box


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=200), NAMES, NAMES), max_size=6))
def test_an_outbox_that_wraps_messages_gets_each_of_them_in_order(items: list[tuple[bytes, str, str]]) -> None:
    stage = Stage()
    wrapped(stage, "b")
    writes = stage.flush([StreamFrame(frame_text(text), skip=skip, only=only) for text, skip, only in items])
    for name in "abc":
        own = [text for text, skip, only in items if skip != name and only in ("", name)]
        if name == "b":
            own = [each for text in own for each in (text.upper(), b"2" + text)]
        assert frames_in(b"".join(writes[name])) == own


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=6))
def test_joined_frames_are_one_write_and_are_wrapped_one_by_one(texts: list[bytes]) -> None:
    stage = Stage()
    boxes = {"a": stage.subscription.outboxes["a"], "b": wrapped(stage, "b")}
    frames = tuple(frame_text(text) for text in texts)
    for box in boxes.values():
        box.write_frames(frames, b"".join(frames))
    writes = stage.flush([])
    assert writes["a"] == [b"".join(frames)]
    assert frames_in(b"".join(writes["b"])) == [each for text in texts for each in (text.upper(), b"2" + text)]


def test_an_outbox_that_wraps_messages_keeps_the_newest_values_while_it_is_slow() -> None:
    stage = Stage()
    box = wrapped(stage, "a")
    box.write(frame_text(b"an answer of a call"))
    box.send(b"hello")
    stage.wires["a"].unsent_bytes = 501
    stage.write_batch.write()
    for number in range(3):
        stage.flush([StreamFrame(frame_text(b"moved %d" % number), skip="c", merge="cc")])
    assert frames_in(b"".join(stage.wires["a"].writes)) == [b"an answer of a call", b"HELLO", b"2hello"]
    stage.wires["a"].writes.clear()
    stage.wires["a"].unsent_bytes = 0
    box.on_drained()
    stage.write_batch.write()
    assert frames_in(b"".join(stage.wires["a"].writes)) == [b"MOVED 2", b"2moved 2"]
    assert frames_in(b"".join(stage.wires["b"].writes)) == [b"moved 0", b"moved 1", b"moved 2"]
    stage.subscription.discard("a")
    stage.flush([StreamFrame(frame_text(b"later"))])
    assert len(stage.wires["a"].writes) == 1 and stage.subscription.wrapping is None


def changed(seq: int, session: str, **data: Any) -> StreamFrame:
    event = {"type": "presence_changed", "roomId": "r", "sessionId": session, "data": data, "seq": seq}
    return StreamFrame(frame_text(encode(event)), skip=session, merge=f"p{session}")


def test_p2_a_slow_outbox_merges_the_changes_of_a_presence_object_key_by_key() -> None:
    stage = Stage()
    box, wire = stage.subscription.outboxes["a"], stage.wires["a"]
    box.write(frame_text(b"hello"))
    wire.unsent_bytes = 501
    stage.write_batch.write()
    wire.writes.clear()
    before = counters.read().dropped["presence"]["slow_receiver"]
    for seq, session, data in (
        (1, "b", {"x": 1, "y": {"z": [1.0, None]}}), (2, "c", {"n": 1}), (3, "b", {"x": 2}), (4, "b", {"y": None}),
    ):  # fmt: skip
        stage.flush([changed(seq, session, **data)])
    assert wire.writes == [] and counters.read().dropped["presence"]["slow_receiver"] == before + 2
    stage.flush([StreamFrame(frame_text(b'{"type":"user_left"}'), skip="c")])  # after what its author has shown
    wire.unsent_bytes = 0
    box.on_drained()
    stage.write_batch.write()
    assert frames_in(b"".join(wire.writes)) == [
        payload_of(changed(2, "c", n=1).frame),
        b'{"type":"user_left"}',
        payload_of(changed(4, "b", x=2, y=None).frame),
    ]


def test_j2_merged_changes_with_ever_new_keys_are_written_so_that_they_count_for_the_hard_limit() -> None:
    stage = Stage()
    box, wire = stage.subscription.outboxes["a"], stage.wires["a"]
    box.write(frame_text(b"hello"))
    wire.unsent_bytes = 501
    stage.write_batch.write()
    wire.writes.clear()
    sent: list[bytes] = []
    gone: dict[str, Any] = {}
    before = counters.read().dropped["presence"]["slow_receiver"]
    for seq in range(40):
        keys = {f"{seq} {each}": 1 for each in range(40)}
        item, gone = changed(seq, "b", **gone, **keys), dict.fromkeys(keys)
        sent.append(item.frame)
        stage.flush([StreamFrame(frame_text(b"moved"), skip="b", merge="cb"), item])
        assert box.waiting_bytes() - wire.unsent_bytes < 4096 + 2 * len(item.frame), (
            "one object, and what is written now"
        )
    written = frames_in(b"".join(wire.writes))
    assert len(written) < 2 * len(sent), "still merged"
    wire.unsent_bytes = 0
    box.on_drained()
    stage.write_batch.write()
    whole: dict[str, Any] = {}
    sequence = []
    for frame in frames_in(b"".join(wire.writes)):
        if frame != b"moved":
            event = msgspec.json.decode(frame)
            sequence.append(event["seq"])
            whole |= event["data"]
    assert {key for key, value in whole.items() if value} == set(gone) and sequence == sorted(sequence)
    merged = counters.read().dropped["presence"]["slow_receiver"] - before
    assert merged + len(sequence) == len(sent) and 3 < len(sequence) < len(sent) / 2


def test_messages_to_an_outbox_that_wraps_are_counted_as_those_to_others() -> None:
    for wraps in (False, True):
        stage = Stage()
        if wraps:
            wrapped(stage, "b")
        before = counters.read().sent
        flush = [(b'{"type":"cursor_moved"}', "a", ""), (b'{"type":"left"}', "", "b"), (b'{"type":"kicked"}', "b", "")]
        stage.flush([StreamFrame(frame_text(text), skip=skip, only=only) for text, skip, only in flush])
        stage.flush([StreamFrame(frame_text(flush[0][0]), skip="b")])
        changed = {name: count - before.get(name, 0) for name, count in counters.read().sent.items()}
        assert {name: count for name, count in changed.items() if count} == {"cursor_moved": 4, "left": 1, "kicked": 2}


def test_j2_more_than_the_hard_limit_unsent_is_slow() -> None:
    wire, slow, write_batch = Wire(), [], WriteBatch(lambda callback: None)
    box = Outbox(wire, 500, 1000, write_batch, lambda: slow.append(True))
    wire.unsent_bytes = 1001
    box.write(b"x")
    box.flush()
    assert slow == [True] and wire.writes == []


def test_one_subscribers_failure_leaves_the_others_their_frames() -> None:
    stage = Stage()

    def explode(data: bytes) -> None:
        raise OSError("gone")

    stage.wires["a"].send_frames = explode  # type: ignore[method-assign]
    writes = stage.flush([StreamFrame(b"x")])
    assert writes["b"] == writes["c"] == [b"x"]


# --- encoding, against msgspec ------------------------------------------------------------------------------------

TEXT = st.text(max_size=40)
MEDIA = st.floats(0.0, 1e6).filter(lambda value: str(value)[0] != "-")
UNIT = st.floats(0.0, 1.0).filter(lambda value: str(value)[0] != "-")


@given(
    room=st.text(min_size=1, max_size=128), user=st.text(min_size=1, max_size=128), session=st.text("abc_123", max_size=40),
    timestamp=st.none() | MEDIA, point=st.none() | st.tuples(UNIT, UNIT), seq=st.integers(1, 2**63),
    index=st.none() | st.integers(0, 499),
)  # fmt: skip
def test_a_cursor_is_byte_for_byte_what_msgspec_encodes(
    room: str, user: str, session: str, timestamp: float | None, point: Any, seq: int, index: int | None
) -> None:
    x, y = point or (None, None)
    shown = CursorShown(
        color="#4ECDC4", **{k: v for k, v in (("timestamp", timestamp), ("x", x), ("y", y)) if v is not None}
    )
    expected = encode(
        Event(type="cursor_moved", room_id=room, user_id=user, session_id=session, data=shown, timestamp=NOW, seq=seq)
    )
    item = CursorTemplate(room, user, session, "#4ECDC4", index, "mark").make(timestamp, x, y, NOW, seq)
    assert item.frame == frame_text(expected)
    assert (item.skip, item.only, item.merge) == (session, "", "mark")
    if index is None:
        assert item.compact is None
    else:
        row = [index, timestamp] if point is None else [index, timestamp, x, y]
        assert item.compact == msgspec.json.encode(row)


def test_the_longest_ids_of_the_strangest_characters_fit() -> None:
    worst = "\x01" * 128
    item = CursorTemplate(worst, worst, worst, "#4ECDC4", 99, "m").make(999999.9999999999, 1 / 3, 2 / 3, NOW, 2**63)
    assert msgspec.json.decode(frames_in(item.frame)[0])["roomId"] == worst


# --- compact cursors ----------------------------------------------------------------------------------------------


def cursor(name: str, index: int, x: float) -> StreamFrame:
    return CursorTemplate("video_1", name, name, "#4ECDC4", index, f"c{name}").make(1.5, x, 0.5, NOW, 7)


def test_b12_one_cursors_message_per_flush_without_the_clients_own() -> None:
    writes = Stage(compact="ab").flush([cursor("a", 0, 0.1), cursor("b", 1, 0.2), cursor("d", 2, 0.3)])

    def cursors(*rows: list[Any]) -> list[list[bytes]]:
        return [[encode(Cursors(room_id="video_1", timestamp=NOW, data=list(rows)))]]

    assert [frames_in(write) for write in writes["a"]] == cursors([1, 1.5, 0.2, 0.5], [2, 1.5, 0.3, 0.5])
    assert [frames_in(write) for write in writes["b"]] == cursors([0, 1.5, 0.1, 0.5], [2, 1.5, 0.3, 0.5])
    assert len(frames_in(writes["c"][0])) == 3, "a plain client in the same room is untouched"


@given(st.lists(st.tuples(st.booleans(), NAMES, NAMES), max_size=10))
def test_compact_clients_receive_the_same_in_the_same_order(plan: list[tuple[bool, str, str]]) -> None:
    """`plan`: whether it is a cursor (else a typing event), its author, its only subscriber."""
    items, said = [], []
    for number, (is_cursor, skip, only) in enumerate(plan):
        if is_cursor:
            items.append(StreamFrame(frame_text(b'{"n":%d}' % number), skip=skip, merge="m", compact=b"[%d]" % number))
        else:
            items.append(StreamFrame(frame_text(b'{"n":%d}' % number), skip=skip, only=only))
        said.append((number, is_cursor, skip, "" if is_cursor else only))
    writes = Stage(compact="abc").flush(items)
    for name in "abc":
        heard = []
        frames = [msgspec.json.decode(frame) for write in writes[name] for frame in frames_in(write)]
        for frame in frames:
            heard += [row[0] for row in frame["data"]] if "data" in frame else [frame["n"]]
        assert heard == [number for number, _, skip, only in said if skip != name and only in ("", name)]
        assert all(not ("data" in one and "data" in two) for one, two in pairwise(frames))


def test_regression_nothing_newer_passes_a_cursor_that_is_held_back() -> None:
    """No newer cursor is sent before one that is held back. Below the soft limit again, but not drained, the newest
    cursor was sent at once, and the one before it after it."""
    stage = Stage()
    wire = stage.wires["a"]
    wire.unsent_bytes = 600
    stage.flush([cursor("b", 1, 0.1)])  # from now on it counts as slow
    stage.flush([cursor("b", 1, 0.2)])
    wire.unsent_bytes = 100
    stage.subscription.outboxes["a"].write(b"an answer")
    stage.write_batch.write()
    wire.writes.clear()
    stage.flush([cursor("b", 1, 0.3)])
    assert wire.writes == []
    wire.unsent_bytes = 0
    stage.subscription.outboxes["a"].on_drained()
    stage.write_batch.write()
    (write,) = wire.writes
    assert b"0.3" in write and b"0.2" not in write


def test_n1_a_slow_compact_client_gets_the_newest_cursor_of_each_when_it_reads_again() -> None:
    stage = Stage(compact="a")
    wire = stage.wires["a"]
    wire.unsent_bytes = 600
    stage.flush([cursor("b", 1, 0.1)])  # from now on it counts as slow
    wire.writes.clear()
    for x in (0.2, 0.3, 0.4):
        stage.flush([cursor("b", 1, x), cursor("d", 2, x)])
    assert wire.writes == []
    wire.unsent_bytes = 0
    stage.subscription.outboxes["a"].on_drained()
    stage.write_batch.write()
    rows = [msgspec.json.decode(frame)["data"] for write in wire.writes for frame in frames_in(write)]
    assert rows == [[[1, 1.5, 0.4, 0.5]], [[2, 1.5, 0.4, 0.5]]]


def test_the_round_trip_of_a_connection_is_the_kernels_h10() -> None:
    box = Outbox(Wire(), 500, 1000, WriteBatch(lambda callback: None), lambda: None)
    assert box.round_trip_s() == 0.0, "it has no descriptor"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            box.use_socket(server.fileno(), None)
            (measured_us,) = struct.unpack_from("I", server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 68)
            assert box.round_trip_s() == measured_us / 1e6 > 0.0
            box.release_socket()
    assert box.round_trip_s() == 0.0
