"""A slow client behind a proxy: the amount of data under way to it is measured by its pongs, since the server's socket
does not show it."""

import pytest

from koko_presence._fastpath.delivery_window import DeliveryWindow
from koko_presence._fastpath.fanout import RoomSubscription, StreamFrame
from koko_presence._fastpath.outbox import Outbox, WriteBatch

ROUND = 4096
PING = b"\x89\x00"


class Line:
    """A client that reads `bytes_per_s` behind unlimited buffers, and answers each ping when it has read it."""

    def __init__(self, bytes_per_s: float, trip_s: float = 0.02) -> None:
        self.now = 0.0
        self.window = DeliveryWindow(self.now)
        self.sent = self.held = self.pings = 0
        self.ages_s: list[float] = []
        self._bytes_per_s, self._trip_s = bytes_per_s, trip_s
        self._free_at = 0.0  # when everything under way has been read
        self._pong_at: float | None = None

    def write(self, size: int) -> None:
        """Send a frame that must not be dropped."""
        self._free_at = max(self._free_at, self.now) + size / self._bytes_per_s
        self.sent += size
        self.ages_s.append(self._free_at - self.now)
        if self.window.on_write(size, self.now):
            self.pings += 1
            self._pong_at = self._free_at + self._trip_s

    def play(self, seconds: float, hz: int = 100, size: int = 640) -> None:
        """Send `hz` cursors a second; while they are held, the next write after a pong is one round of the newest."""
        for _ in range(round(seconds * hz)):
            self.now += 1.0 / hz
            if self._pong_at is not None and self.now >= self._pong_at:
                self.window.on_pong(self.now)
                self._pong_at = None
                if self.held:
                    self.held = 0
                    self.write(ROUND)
                    continue
            if self.window.holds:
                self.held += 1
            else:
                self.write(size)


@pytest.mark.parametrize(("bytes_per_s", "oldest_s"), [(1000, 9.0), (8000, 1.2), (32_000, 0.4)])
def test_a_slow_connection_never_has_more_than_two_rounds_under_way(bytes_per_s: int, oldest_s: float) -> None:
    line = Line(bytes_per_s)
    line.play(60.0)
    assert max(line.ages_s) <= oldest_s
    assert line.sent >= 50.0 * bytes_per_s  # and the connection is not left idle


@pytest.mark.parametrize("trip_s", [0.0, 0.02, 0.6])
def test_a_fast_connection_gets_everything_and_costs_about_one_pong_a_second(trip_s: float) -> None:
    line = Line(1e7, trip_s)
    line.play(10.0)
    sent, pings = line.sent, line.pings
    line.play(60.0)
    assert line.sent - sent == 60 * 100 * 640
    assert line.pings - pings <= 61


def test_a_connection_that_gets_slow_or_fast_again_is_noticed() -> None:
    line = Line(1e7)
    line.play(10.0)
    line._bytes_per_s = 8000
    line.play(30.0)
    line.ages_s.clear()
    line.play(30.0)
    assert max(line.ages_s) <= 1.2
    line._bytes_per_s = 1e7
    line.play(5.0)
    sent = line.sent
    line.play(10.0)
    assert line.sent - sent == 10 * 100 * 640


def test_a_burst_that_passes_at_once_does_not_make_a_fast_connection() -> None:
    """A burst that passes at once does not count as a fast connection: shapers and buffers pass some kilobytes at
    once."""
    window = DeliveryWindow(0.0)
    assert window.on_write(100, 0.0)
    window.on_pong(0.01)
    for number in range(3):
        assert window.on_write(ROUND, 1.0 + number) and window.holds
        window.on_pong(1.01 + number)
    assert window.on_write(ROUND, 5.0) and window.holds


def test_pongs_for_which_nothing_was_sent_change_nothing() -> None:
    window = DeliveryWindow(0.0)
    for number in range(100):
        window.on_pong(float(number))
    assert window.on_write(100, 100.0) and window.holds  # the first ping measures the connection
    window.on_pong(100.1)
    assert not window.holds and not window.on_write(ROUND - 1, 101.0)
    assert window.on_write(1, 101.0) and window.holds


def test_no_keepalive_ping_is_sent_while_a_ping_is_under_way() -> None:
    window = DeliveryWindow(0.0)
    assert window.take_ping(0.0)
    assert not window.take_ping(1.0)
    window.on_pong(2.0)
    assert window.take_ping(3.0)


class Wire:
    unsent_bytes = 0

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def send_frames(self, data: bytes) -> None:
        self.writes.append(data)

    def send_ping(self, data: bytes) -> None:
        self.writes.append(PING)


class Stage:
    """One subscriber behind a proxy."""

    def __init__(self) -> None:
        self.now, self.slow = 0.0, 0
        self.wire, self.batch = Wire(), WriteBatch(lambda callback: None)
        self.outbox = Outbox(self.wire, 0, 1 << 20, self.batch, lambda: None)
        self.outbox.use_window(DeliveryWindow(self.now), lambda: self.now)
        self.room = RoomSubscription("video_1")
        self.room.outboxes["a"] = self.outbox

    def send(self, *items: StreamFrame) -> list[bytes]:
        self.room.fan_out(list(items), "2025-01-15T10:30:00.123Z")
        self.batch.write()
        written, self.wire.writes[:] = list(self.wire.writes), []
        return written

    def pong(self) -> list[bytes]:
        self.now += 1.0
        self.outbox.on_pong()
        return self.send()


def cursor(number: int, of: str = "b") -> StreamFrame:
    return StreamFrame(b"cursor %d of %s" % (number, of.encode()), skip=of, merge=f"c{of}")


def test_while_a_pong_is_awaited_only_the_newest_is_kept_and_events_pass() -> None:
    stage = Stage()
    assert stage.send(StreamFrame(b"x" * ROUND)) == [b"x" * ROUND, PING]
    assert stage.send(cursor(1), cursor(1, "c")) == []
    assert stage.send(cursor(2)) == []
    assert stage.send(StreamFrame(b"joined", skip="d")) == [b"joined"]
    assert stage.pong() == [b"cursor 1 of ccursor 2 of b"]


def test_an_event_takes_its_authors_cursor_along_though_it_was_held() -> None:
    stage = Stage()
    stage.send(StreamFrame(b"x" * ROUND))
    stage.send(cursor(1))
    assert stage.send(StreamFrame(b"left", skip="b")) == [b"cursor 1 of bleft"]
    assert stage.pong() == []


def test_neither_the_pong_nor_the_drained_socket_alone_releases_what_both_hold() -> None:
    stage = Stage()
    stage.send(StreamFrame(b"x" * ROUND))
    stage.wire.unsent_bytes = 10
    stage.outbox.on_full()
    stage.send(cursor(1))
    assert stage.pong() == []  # the socket is still full
    stage.wire.unsent_bytes = 0
    stage.outbox.on_drained()
    assert stage.send() == [b"cursor 1 of b"]
    stage.send(StreamFrame(b"x" * ROUND))
    stage.send(cursor(2))
    stage.outbox.on_drained()
    assert stage.send() == []  # the ping is still under way
    assert stage.pong() == [b"cursor 2 of b"]


def test_without_a_proxy_every_ping_is_sent_and_no_pong_changes_anything() -> None:
    wire = Wire()
    outbox = Outbox(wire, 0, 1 << 20, WriteBatch(lambda callback: None), lambda: None)
    outbox.ping()
    outbox.ping()
    outbox.on_pong()
    assert wire.writes == [PING, PING]
