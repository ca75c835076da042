"""HTTP answers are given up when the client has accepted no byte for a while, and not before."""

import asyncio
import heapq
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from koko_presence.server import acceptor
from koko_presence.server.acceptor import ProtocolSniffer
from koko_presence.server.origins import NONE_LISTED
from tests.raw_ws import handshake

STUCK_S = 10.0


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call, self.is_over = at, call, False

    def __lt__(self, other: "Timer") -> bool:
        return self.at < other.at

    def cancel(self) -> None:
        self.is_over = True


class Loop:
    """An event loop's clock and timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Any, *args: Any) -> Timer:
        timer = Timer(self.now + delay_s, lambda: call(*args))
        heapq.heappush(self._timers, timer)
        return timer

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and self._timers[0].at <= until:
            timer = heapq.heappop(self._timers)
            self.now = timer.at
            if not timer.is_over:
                timer.call()
        self.now = until


class Stage:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop, self.taken, self.aborted = Loop(), 1000, False
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self.loop)
        monkeypatch.setattr(acceptor, "taken_bytes", lambda transport: self.taken)
        self.sniffer = ProtocolSniffer(SimpleNamespace(send_stuck_s=STUCK_S))  # type: ignore[arg-type]
        self.sniffer._transport = SimpleNamespace(abort=self._abort)

    def _abort(self) -> None:
        self.aborted = True


def test_an_answer_of_which_nothing_is_taken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.sniffer.pause_writing()
    stage.loop.advance(STUCK_S - 0.1)
    assert not stage.aborted
    stage.loop.advance(STUCK_S / acceptor.LOOKS_AT_STUCK)
    assert stage.aborted


def test_a_client_that_reads_a_byte_now_and_then_is_served_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.sniffer.pause_writing()
    for _ in range(50):
        stage.loop.advance(STUCK_S * 0.7)
        stage.taken += 1
    assert not stage.aborted
    stage.loop.advance(1.5 * STUCK_S)
    assert stage.aborted


def test_while_nothing_waits_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.sniffer.pause_writing()
    stage.sniffer.resume_writing()
    stage.loop.advance(5 * STUCK_S)
    assert not stage.aborted
    stage.sniffer.pause_writing()
    stage.loop.advance(1.5 * STUCK_S)
    assert stage.aborted


def test_a_websocket_on_a_kept_connection_is_not_watched_as_an_answer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A WebSocket after requests on a connection is not supervised as an HTTP answer: its bytes wait on the transport
    too, and the sniffer is not notified when they are sent."""
    stage = Stage(monkeypatch)
    begun: list[Any] = []
    stage.sniffer._acceptor = SimpleNamespace(  # type: ignore[assignment]
        send_stuck_s=STUCK_S,
        ws_paths=None,
        origins=NONE_LISTED,
        cookie="",
        refuses_new_clients=False,
        begin=lambda *args: begun.append(args),
    )
    stage.sniffer._transport = SimpleNamespace(
        abort=stage._abort, write=lambda data: stage.sniffer.pause_writing(), is_closing=lambda: False
    )
    stage.sniffer.data_received(handshake())
    assert len(begun) == 1
    stage.loop.advance(5 * STUCK_S)
    assert not stage.aborted


def test_without_a_report_of_sent_bytes_no_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert acceptor.taken_bytes(SimpleNamespace(get_extra_info=lambda name: one)) is None
    stage = Stage(monkeypatch)
    stage.taken = None  # type: ignore[assignment]
    stage.sniffer.pause_writing()
    stage.loop.advance(3 * STUCK_S)
    assert not stage.aborted
