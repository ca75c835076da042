"""Callbacks and streams."""

import asyncio
import logging

import pytest

from koko_presence.client.listeners import EventStream, Listeners


def test_callbacks_get_their_event_type_and_the_star_gets_all() -> None:
    listeners, heard = Listeners(), []
    listeners.add("a", lambda value: heard.append(("a", value)))
    listeners.add("*", lambda value: heard.append(("*", value)))
    assert listeners.emit("a", 1) and listeners.emit("b", 2)
    assert heard == [("a", 1), ("*", 1), ("*", 2)]


def test_undo_takes_one_callback_away_and_may_be_called_twice() -> None:
    listeners, heard = Listeners(), []
    undo = listeners.add("a", heard.append)
    listeners.add("a", lambda value: heard.append(-value))
    undo()
    undo()
    listeners.emit("a", 1)
    assert heard == [-1]


def test_a_callback_may_undo_itself_while_it_is_called() -> None:
    listeners, heard = Listeners(), []

    def once(value: int) -> None:
        heard.append(value)
        undo()

    undo = listeners.add("a", once)
    listeners.emit("a", 1)
    assert listeners.emit("a", 2) is False and heard == [1]


def test_a_failing_callback_is_logged_and_the_next_one_is_called(caplog: pytest.LogCaptureFixture) -> None:
    listeners, heard = Listeners(), []
    listeners.add("a", lambda value: 1 / 0)
    listeners.add("a", heard.append)
    with caplog.at_level(logging.ERROR):
        listeners.emit("a", 1)
    assert heard == [1] and "ZeroDivisionError" in caplog.text


def test_a_coroutine_function_is_refused_with_the_way_out() -> None:
    async def callback(value: object) -> None: ...

    with pytest.raises(TypeError, match="async for"):
        Listeners().add("a", callback)


def test_a_stream_gives_what_comes_and_ends() -> None:
    async def read() -> list[int]:
        stream = EventStream(10)
        stream.put(1)
        loop = asyncio.get_running_loop()
        loop.call_soon(stream.put, 2)
        loop.call_later(0.001, stream.put, 3)
        loop.call_later(0.002, stream.end)
        return [event async for event in stream]

    assert asyncio.run(read()) == [1, 2, 3]


def test_a_slow_reader_loses_the_oldest_and_knows_how_many(caplog: pytest.LogCaptureFixture) -> None:
    async def read() -> tuple[list[int], int]:
        stream = EventStream(3)
        for number in range(10):
            stream.put(number)
        stream.end()
        return [event async for event in stream], stream.dropped

    assert asyncio.run(read()) == ([7, 8, 9], 7)
    assert len(caplog.records) == 1
