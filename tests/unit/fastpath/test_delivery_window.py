"""Tests of the bound on bytes in flight to a client behind a proxy, which follows the pongs of that client [N1]."""

import random

import pytest

from koko_presence._fastpath.delivery_window import DeliveryWindow
from koko_presence._fastpath.fanout import RoomSubscription, StreamFrame
from koko_presence._fastpath.outbox import Outbox, WriteBatch

LEAST = 4096
MOST = 64 * 1024


class Line:
    """A client that takes `bytes_per_s` behind unlimited buffers, and sends each pong `trip_s` after it has read the
    ping. It is sent `hz` writes a second of 640 bytes; those that are held are replaced by newer ones, of which at most
    `room_bytes` wait."""

    def __init__(self, bytes_per_s: float, trip_s: float = 0.02, room_bytes: int = LEAST) -> None:
        self.now = 0.0
        self.window = DeliveryWindow()
        self.bytes_per_s, self.trip_s, self.room_bytes = bytes_per_s, trip_s, room_bytes
        self.sent = self.waiting = self.held_writes = 0
        self.ages_s: list[float] = []
        self.in_flight: list[tuple[float, bytes]] = []  # when each pong arrives
        self.all_pings = 0
        self._free_at = 0.0  # when the client has read everything

    def write(self, size: int) -> None:
        self._free_at = max(self._free_at, self.now) + size / self.bytes_per_s
        self.sent += size
        self.ages_s.append(self._free_at - self.now + self.trip_s / 2)
        if self.window.on_write(size, self.now):
            self._ping()

    def _ping(self) -> None:
        self.all_pings += 1
        self.in_flight.append((max(self._free_at, self.now) + self.trip_s, self.window.payload()))

    def _release(self) -> None:
        size = min(self.waiting, max(self.window.window_bytes - self.window.in_flight_bytes, 0))
        if size:
            self.waiting -= size
            self.write(size)

    def play(self, seconds: float, hz: int = 100, size: int = 640, is_judged: bool = True) -> None:
        for _ in range(round(seconds * hz)):
            self.now += 1.0 / hz
            while self.in_flight and self.in_flight[0][0] <= self.now:
                if self.window.on_pong(self.in_flight.pop(0)[1], self.now, is_judged):
                    self._ping()
                self._release()
            if self.window.holds or self.waiting:
                self.held_writes += 1
                self.waiting = min(self.waiting + size, self.room_bytes)
            else:
                self.write(size)

    def measure(self, seconds: float) -> tuple[float, float, float]:
        """Age p50 and maximum in seconds, and the bytes sent per second."""
        self.ages_s.clear()
        sent = self.sent
        self.play(seconds)
        ages = sorted(self.ages_s)
        return ages[len(ages) // 2], ages[-1], (self.sent - sent) / seconds


@pytest.mark.parametrize("room_bytes", [LEAST, 36_000])
@pytest.mark.parametrize(
    ("bytes_per_s", "usual_s", "longest_s"),
    [(1000, 6.5, 10.0), (8000, 1.1, 2.2), (16_000, 0.6, 1.4), (32_000, 0.4, 0.9)],
)
def test_a_slow_line_gets_the_newest(bytes_per_s: int, usual_s: float, longest_s: float, room_bytes: int) -> None:
    """However large the room is: what has been deferred is written in portions."""
    line = Line(bytes_per_s, room_bytes=room_bytes)
    line.play(10.0)
    usual, longest, rate = line.measure(60.0)
    assert usual <= usual_s and longest <= longest_s
    assert rate >= 0.8 * bytes_per_s  # and the line is not left idle


@pytest.mark.parametrize("delay_s", [0.1, 0.5, 2.0, 5.0])
def test_a_first_pong_that_is_late_does_not_lift_the_bound(delay_s: float) -> None:
    """The page was loading on the same line. The bound was judged by the shortest trip: after a first pong of 0.4 s the
    median age at 8 kB/s was 5 s for as long as the connection lived."""
    line = Line(8000)
    line._free_at = delay_s
    line.play(10.0)
    usual, longest, _ = line.measure(60.0)
    assert usual <= 1.1 and longest <= 2.2


@pytest.mark.parametrize("trip_s", [0.0, 0.02, 0.15, 0.35])
def test_a_fast_line_gets_everything(trip_s: float) -> None:
    line = Line(1e7, trip_s)
    line.play(20.0)
    _, _, rate = line.measure(60.0)
    assert rate == pytest.approx(64_000, rel=0.02)


def test_a_fast_line_costs_about_two_pongs_a_second() -> None:
    line = Line(1e7)
    line.play(10.0)
    pings = line.all_pings
    line.play(60.0)
    assert line.all_pings - pings <= 2 * 60 + 2


@pytest.mark.parametrize("trip_s", [0.15, 0.35])
def test_a_longer_trip_than_ever_does_not_hold_cursors_for_good(trip_s: float) -> None:
    """A mobile line, or a video beside it. The shortest trip of all times held such a client to one update per trip."""
    line = Line(1e7)
    line.play(20.0)
    line.trip_s = 0.6
    line.play(2.0)
    line.trip_s = trip_s
    line.play(30.0)
    _, _, rate = line.measure(60.0)
    assert rate >= 0.95 * 64_000


def test_a_line_that_becomes_slow_is_noticed_and_one_that_becomes_fast_again_as_well() -> None:
    line = Line(1e7)
    line.play(10.0)
    line.bytes_per_s = 8000
    line.play(20.0)
    usual, longest, _ = line.measure(60.0)
    assert usual <= 1.1 and longest <= 2.2
    line.bytes_per_s = 1e7
    line.play(15.0)
    assert line.measure(30.0)[2] == pytest.approx(64_000, rel=0.02)


def test_pongs_without_a_ping_change_nothing() -> None:
    """They are permitted [RFC 6455 section 5.5.3], and some clients send one every 30 s. Each of them ended a round, so
    that the rounds in flight only grew."""
    line, chance = Line(8000), random.Random(1)
    for _ in range(600):
        line.play(0.1)
        assert not line.window.on_pong(b"", line.now, True)
        assert not line.window.on_pong(chance.randbytes(2) + b"x", line.now, True)
    usual, longest, _ = line.measure(60.0)
    assert usual <= 1.1 and longest <= 2.2 and len(line.in_flight) <= 1


def test_a_pong_that_is_lost_or_has_another_payload_delays_the_client_for_3_s_only() -> None:
    """One missing pong stopped all cursors until the sign of life, 20 s later; a client with other payloads got none."""
    stage = Stage()
    stage.send(BIG)
    stage.now = 2.9
    assert stage.send(cursor(1)) == []
    stage.outbox.on_pong(b"", stage.now, True)
    assert stage.send() == [] and not stage.outbox.is_backed_up()
    stage.now = 3.0
    assert stage.send(cursor(2)) == [b"ping \x00\x01"] and stage.outbox.is_backed_up()
    stage.now = 5.9
    assert stage.send(cursor(3)) == []
    stage.now = 6.0
    assert stage.send(cursor(4)) == [b"ping \x00\x01"]
    stage.outbox.on_pong(b"", stage.now, True)
    assert stage.send() == [b"cursor 4 of b"] and not stage.outbox.is_backed_up()


def test_a_server_that_was_late_itself_does_not_judge_the_line() -> None:
    line = Line(1e7, 2.0)
    line.play(30.0, is_judged=False)
    assert line.window.window_bytes == LEAST and line.window.delivery_s() <= 30.0
    line = Line(1e7)
    line.play(10.0)
    line.trip_s = 2.0
    line.play(10.0, is_judged=False)
    assert line.window.window_bytes == MOST


def test_a_sign_of_life_repeats_the_number_of_the_ping_in_flight() -> None:
    """A client may answer the last of several pings alone."""
    window = DeliveryWindow()
    assert window.on_write(LEAST, 0.0)
    number = window.payload()
    assert window.take_ping(1.0) == number
    assert not window.on_pong(number, 2.0, True)
    assert window.take_ping(3.0) != number


def test_how_long_the_bytes_in_flight_may_take() -> None:
    window = DeliveryWindow()
    assert window.delivery_s() == 0.0
    assert window.on_write(10_000, 0.0)
    assert window.delivery_s() == 10.0  # nothing is known of the line: 1 kB/s
    window.on_pong(window.payload(), 0.1, True)
    window.on_write(10_000, 1.0)
    assert window.delivery_s() == pytest.approx(0.1)


class Wire:
    unsent_bytes = 0

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def send_frames(self, data: bytes) -> None:
        self.writes.append(data)

    def send_ping(self, data: bytes) -> None:
        self.writes.append(b"ping " + data)


class Stage:
    """One receiver behind a proxy."""

    def __init__(self, *, appends_pings: bool = False) -> None:
        self.now = 0.0
        self.wire, self.batch = Wire(), WriteBatch(lambda callback: None)
        self.outbox = Outbox(self.wire, 0, 1 << 20, self.batch, lambda: None)
        self.window = DeliveryWindow()
        self.outbox.use_window(self.window, lambda: self.now, appends_pings=appends_pings)
        self.room = RoomSubscription("video_1")
        self.room.outboxes["a"] = self.outbox

    def send(self, *items: StreamFrame) -> list[bytes]:
        self.room.fan_out(list(items), "2025-01-15T10:30:00.123Z")
        self.batch.write()
        written, self.wire.writes[:] = list(self.wire.writes), []
        return written

    def pong(self) -> list[bytes]:
        self.now += 1.0
        self.outbox.on_pong(self.window.payload(), self.now, True)
        return self.send()


def cursor(number: int, of: str = "b", size: int = 0) -> StreamFrame:
    return StreamFrame(b"cursor %d of %s" % (number, of.encode()) + b"." * size, skip=of, merge=f"c{of}")


BIG = StreamFrame(b"x" * LEAST)


def test_while_the_window_is_full_only_the_newest_is_kept_and_events_pass() -> None:
    stage = Stage()
    assert stage.send(BIG) == [b"x" * LEAST, b"ping \x00\x01"]
    assert stage.send(cursor(1), cursor(1, "c")) == []
    assert stage.send(cursor(2)) == []
    assert stage.send(StreamFrame(b"joined", skip="d")) == [b"joined"]
    assert stage.pong() == [b"cursor 1 of ccursor 2 of b"]
    assert stage.send(cursor(3)) == [b"cursor 3 of b"]


def test_a_ping_is_part_of_the_write_where_the_wire_passes_bytes_on() -> None:
    assert Stage(appends_pings=True).send(BIG) == [b"x" * LEAST + b"\x89\x02\x00\x01"]


def test_what_was_deferred_is_written_in_portions_oldest_first() -> None:
    """A pong released everything at once: 36 kB in a room of 100, which a line of 2 kB/s took too long to carry."""
    stage = Stage()
    stage.send(BIG)
    names = [f"m{number}" for number in range(30)]
    stage.send(*(cursor(1, name, 1000) for name in names))
    portions = []
    while written := b"".join(each for each in stage.pong() if not each.startswith(b"ping")):
        portions.append(written)
        assert len(written) <= stage.window.window_bytes + 2000
    assert len(portions) >= 2 and b"".join(portions).count(b"cursor") == 30
    assert b"of m0." in portions[0] and b"of m29." in portions[-1]


def test_an_event_takes_its_authors_cursor_along_though_it_was_deferred() -> None:
    stage = Stage()
    stage.send(BIG)
    stage.send(cursor(1))
    assert stage.send(StreamFrame(b"left", skip="b")) == [b"cursor 1 of bleft"]
    assert stage.pong() == []


def test_neither_the_pong_nor_the_drained_socket_alone_releases_what_both_hold() -> None:
    stage = Stage()
    stage.send(BIG)
    stage.wire.unsent_bytes = 10
    stage.outbox.on_full()
    stage.send(cursor(1))
    assert stage.pong() == []  # the socket is full still
    stage.wire.unsent_bytes = 0
    stage.outbox.on_drained()
    assert stage.send() == [b"cursor 1 of b"]
    stage.send(StreamFrame(b"x" * MOST))
    stage.send(cursor(2))
    stage.outbox.on_drained()
    assert stage.send() == []  # the ping is in flight still
    assert b"cursor 2 of b" in stage.pong()


def test_without_a_window_a_ping_has_no_payload_and_a_pong_changes_nothing() -> None:
    wire = Wire()
    outbox = Outbox(wire, 0, 1 << 20, WriteBatch(lambda callback: None), lambda: None)
    assert outbox.take_ping() == b"" and outbox.delivery_s() == 0.0
    outbox.on_pong(b"", 1.0, True)
    assert wire.writes == []


def test_a_client_whose_pong_is_awaited_is_not_counted_as_backed_up() -> None:
    stage = Stage()
    stage.send(BIG)
    stage.send(cursor(1))
    assert stage.outbox.slow and not stage.outbox.is_backed_up()
