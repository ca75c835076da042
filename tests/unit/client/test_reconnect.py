"""Reconnecting: whether and when, by close code and token. The fake server closes, the clock is fake."""

import logging
from typing import Any

import pytest

from koko_presence.client import PresenceOffline
from koko_presence.protocol.errors import CLOSES, ReconnectPolicy

from .fake_server import Peer, run, settle, stage, until

STOP = sorted(code for code, close in CLOSES.items() if close.come_back is ReconnectPolicy.NO)
RESUME = [code for code in (1001, 1012, 4408, 4413) if CLOSES[code].come_back is ReconnectPolicy.RESUME]


# --- whether and when --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", STOP)
def test_some_codes_are_final_l7(code: int) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            told, closed = [], []
            client.on("status", told.append)
            room.on("closed", closed.append)
            await peer.close(code)
            assert await client.wait_closed() == code
            assert told == ["offline", "closed"] and client.close_code == code and len(closed) == 1
            await it.meet_never()
            with pytest.raises(PresenceOffline):
                await client.join("video_1", "video")

    run(test)


@pytest.mark.parametrize("code", RESUME)
def test_other_codes_bring_the_client_back_with_its_resume_token_l7(code: int) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            await peer.close(code)
            again = await it.meet_after(0.5)
            assert (await again.welcome(resumed=True))["resumeToken"] == "resume-1"
            await until(lambda: client.status == "online")
            await client.close()

    run(test)


def test_waits_grow_while_the_server_is_away_and_stop_growing_at_the_longest() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(min_backoff_s=1.0, max_backoff_s=8.0)
            await peer.cut()
            for wait_s in (0.5, 1.0, 2.0, 4.0, 4.0):  # half of 1, 2, 4, 8, 8
                peer = await it.meet_after(wait_s)
                await peer.close(1012)
            peer = await it.meet_after(4.0)
            await peer.welcome()
            await until(lambda: client.status == "online")
            await peer.close(1012)  # it was online for 0 s: the waits continue to grow
            peer = await it.meet_after(4.0)
            await peer.welcome()
            await until(lambda: client.status == "online")
            it.timers.advance(5.1)  # this one was stable
            await peer.close(1012)
            await (await it.meet_after(0.5)).welcome()
            await client.close()

    run(test)


def test_a_server_that_refuses_the_connection_is_tried_again() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            it.stop()
            await peer.cut()
            for wait_s in (0.5, 1.0, 2.0):
                await it.waits(wait_s)
                it.timers.advance(wait_s)
            await it.waits(4.0)
            assert client.status == "offline"
            await client.close()
            assert client.status == "closed"

    run(test)


def test_later_is_slow_and_the_servers_own_wait_is_kept_l3() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(max_backoff_s=8.0)
            await peer.close(1013)
            peer = await it.meet_after(6.0)  # three quarters of the longest
            await peer.welcome()
            await peer.send("server_notice", code="RATE_LIMITED", message=".", retryAfterMs=30_000)
            await settle()
            await peer.close(4429)
            await it.meet_after(31.0)  # and half of the second attempt's 2 s
            await client.close()

    run(test)


def test_a_dead_connection_is_noticed_within_ten_seconds_of_a_heartbeat() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            await peer.expect("heartbeat")
            it.timers.advance(9.9)
            await settle()
            assert client.status == "online"
            it.timers.advance(0.2)
            await peer.over.wait()
            await until(lambda: client.status == "offline")
            await (await it.meet_after(0.5)).welcome()
            await client.close()

    run(test)


def test_closing_while_offline_ends_the_attempts() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            await peer.cut()
            await until(lambda: client.status == "offline")
            await client.close()
            await it.meet_never()

    run(test)


# --- tokens ------------------------------------------------------------------------------------------------------


async def refuse(peer: Peer) -> str:
    auth = await peer.expect("auth")
    await peer.send("error", id=auth["id"], code="UNAUTHENTICATED", message="It has expired.")
    await peer.over.wait()
    return str(auth["token"])


def test_4401_fetches_a_new_token_a7() -> None:
    async def test() -> None:
        tokens = iter(["first", "second", "third"])
        async with stage() as it:
            client, peer = await it.online(lambda: next(tokens))
            await peer.close(4401)
            assert await refuse(await it.meet_after(0.5)) == "second"
            assert (await (await it.meet_after(1.0)).welcome())["token"] == "third"
            await until(lambda: client.status == "online")
            await client.close()

    run(test)


def test_three_refused_tokens_in_a_row_are_enough(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(lambda: "never good", min_backoff_s=1.0)
            await peer.close(4401)
            for wait_s in (0.5, 1.0, 2.0):
                await refuse(await it.meet_after(wait_s))
            assert await client.wait_closed() == 4401
            await it.meet_never()

    with caplog.at_level(logging.WARNING):
        run(test)
    assert caplog.text.count("It has expired.") == 3


def test_4401_is_final_for_a_token_that_is_a_string_l7() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online("a string")
            await peer.close(4401)
            assert await client.wait_closed() == 4401

    run(test)


def test_a_token_function_that_fails_once_is_called_again(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        answers: list[Any] = ["first", LookupError("no token today"), "second"]

        def fetch() -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        async with stage() as it:
            client, peer = await it.online(fetch)
            await peer.cut()
            await it.waits(0.5)
            it.timers.advance(0.6)
            await until(lambda: len(answers) == 1)
            await (await it.meet_after(1.0)).welcome()
            await client.close()

    run(test)
    assert "no token today" in caplog.text
