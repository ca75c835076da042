"""Supervision of one connection's transport: pings, and a socket that stays full [D4, N1]."""

from koko_presence.protocol.limits import Limits
from koko_presence.server.keepalive import LinkWatch

LIMITS = Limits(ping_interval_s=25.0, ping_timeout_s=10.0, send_stuck_s=10.0)


def test_an_unanswered_ping_ends_the_connection() -> None:
    watch = LinkWatch(LIMITS, 0.0)
    assert watch.take_ping(25.0)
    assert not watch.is_lost(34.9)
    assert watch.next_at(30.0) == 35.0
    assert watch.is_lost(35.0)


def test_regression_a_client_that_reads_steadily_is_alive_without_a_pong() -> None:
    """A client that reads steadily is alive without a pong. At 8 kB/s a ping waited behind 250 KB, and the connection
    was closed after 40 s."""
    watch = LinkWatch(LIMITS, 0.0)
    watch.on_full(0, 20.0)
    assert watch.take_ping(25.0)
    for second in range(26, 120):
        watch.note_taken((second - 20) * 300, float(second))
        assert not watch.is_stuck(float(second))
        assert not watch.is_lost(float(second))
        assert watch.next_at(float(second)) > second
    watch.on_drained(120.0)
    assert not watch.is_lost(129.9), "the pong is behind what has only just been taken"
    assert watch.is_lost(130.0)


def test_a_client_that_reads_nothing_is_stuck_and_lost() -> None:
    watch = LinkWatch(LIMITS, 0.0)
    watch.on_full(500, 20.0)
    watch.note_taken(500, 29.9)
    assert not watch.is_stuck(29.9)
    assert watch.is_stuck(30.0)
    assert watch.take_ping(25.0)
    assert watch.is_lost(35.0)
