"""The origins of refused pages are logged, each once a minute, and a flood of invented ones is bounded."""

import logging

import pytest

from koko_presence.server.refused_origins import MAX_CHARACTERS, MAX_ORIGINS, RefusedOrigins


class FakeClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "koko_presence.origins")
    return caplog


def test_an_origin_is_logged_with_what_to_do_once_a_minute(clock: FakeClock, lines: pytest.LogCaptureFixture) -> None:
    refused = RefusedOrigins(clock)
    for _ in range(3):
        refused.note(["https://app.example"])
    refused.note(["null"])
    assert [line.getMessage() for line in lines.records] == [
        f"a page of the origin {origin} was refused: if it is yours, add it to server.origins and reload"
        for origin in ("https://app.example", "null")
    ]
    clock.now += 59.9
    refused.note(["https://app.example"])
    assert len(lines.records) == 2
    clock.now += 0.2
    refused.note(["https://app.example"])
    assert len(lines.records) == 3


def test_invented_origins_take_no_more_memory_and_lines_than_a_minute_has(
    clock: FakeClock, lines: pytest.LogCaptureFixture
) -> None:
    refused = RefusedOrigins(clock)
    for number in range(MAX_ORIGINS + 50):
        refused.note([f"https://{number}.example/" + "x" * 10_000])
    assert len(lines.records) == MAX_ORIGINS
    assert all(len(line.getMessage()) < MAX_CHARACTERS + 100 for line in lines.records)
    clock.now += 61
    refused.note(["https://app.example"])
    assert len(lines.records) == MAX_ORIGINS + 1
