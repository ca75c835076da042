"""Heartbeats, the clock, status, privacy and the token's end, on a fake clock."""

import asyncio
from typing import Any

import pytest

from koko_presence.client import NoToken, PresenceClient, PresenceRefused, Privacy

from .fake_server import run, settle, stage, until


def test_heartbeats_are_automatic_and_carry_the_activity_d3() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(activity="idle")
            first = await peer.expect("heartbeat")
            assert (first["status"], first["clientTime"]) == ("idle", pytest.approx(it.timers.now * 1000.0))
            await peer.send("pong", timestamp="t", serverTime=1_736_937_000_000, echo=first["clientTime"])
            await settle()
            it.timers.advance(29.9)
            await settle()
            assert peer.unread == []
            it.timers.advance(0.2)  # the random number is one half: exactly 30 s
            await peer.expect("heartbeat")
            client.heartbeat("active")  # less than 5 s after the last: kept for the next one
            it.timers.advance(6.0)
            client.heartbeat()
            assert (await peer.expect("heartbeat"))["status"] == "active"
            await client.close()

    run(test)


@pytest.mark.parametrize(("chance", "beat_s"), [(0.0, 27.0), (1.0, 33.0)])
def test_heartbeats_are_spread_by_ten_percent_d3(chance: float, beat_s: float) -> None:
    async def test() -> None:
        async with stage() as it:
            client = PresenceClient(
                it.url, "t", clock=it.timers.clock, timers=it.timers, random=lambda: chance, privacy=Privacy()
            )
            connecting = asyncio.ensure_future(client.connect())
            await (await it.meet()).welcome()
            await connecting
            assert beat_s in it.timers.delays
            await client.close()

    run(test)


def test_the_servers_clock_is_computed_from_pongs_d7() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            beat = await peer.expect("heartbeat")
            await peer.send("pong", timestamp="t", serverTime=1_800_000_000_000, echo=beat["clientTime"] + 1e6)
            await peer.send("pong", timestamp="t", serverTime=1_736_937_000_000, echo=beat["clientTime"])
            await settle()
            it.timers.advance(1.5)
            assert client.server_now_ms() == pytest.approx(1_736_937_001_500)
            await client.close()

    run(test)


def test_a_status_and_privacy_are_acknowledged() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            setting = asyncio.ensure_future(client.set_status("busy", "on a call"))
            message = await peer.expect("status")
            assert message["data"] == {"status": "busy", "statusMessage": "on a call"}
            await peer.send("ack", id=message["id"], success=True)
            await setting
            hiding = asyncio.ensure_future(client.set_privacy(invisible=True, for_all_sessions=True))
            message = await peer.expect("privacy")
            assert message["data"] == {"invisible": True, "scope": "user"}
            await peer.send("error", id=message["id"], code="RATE_LIMITED", message="Slow.")
            with pytest.raises(PresenceRefused):
                await hiding
            await client.close()

    run(test)


def test_a_fresh_token_is_sent_before_the_old_one_ends_a7() -> None:
    async def test() -> None:
        tokens = iter(["first", "second", "third"])
        async with stage() as it:
            client, peer = await it.online(lambda: next(tokens))
            await peer.send("auth_expiring", expiresAt="2025-01-15T10:31:00.000Z")
            await peer.send("auth_expiring", expiresAt="2025-01-15T10:31:00.000Z")
            auth = await peer.welcome(resumeToken="resume-2")
            assert auth["token"] == "second"
            await settle()
            assert peer.unread == [] and client.status == "online"
            await peer.cut()
            again = await it.meet_after(0.5)
            assert (await again.welcome())["resumeToken"] == "resume-2"
            await until(lambda: client.status == "online")
            await client.close()

    run(test)


def test_a_token_string_cannot_be_renewed_and_a_warning_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online("a string")
            await peer.send("auth_expiring", expiresAt="soon")
            await until(lambda: "token function" in caplog.text)
            await client.close()

    run(test)


def test_a_renewal_that_fails_or_is_limited_is_repeated_with_growing_pauses_a7(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        calls = 0

        def token() -> Any:
            nonlocal calls
            calls += 1
            if calls in (2, 3):
                raise OSError("the back end sleeps")
            return f"token {calls}" if calls != 5 else 5

        async with stage() as it:
            client, peer = await it.online(token, timeout_s=20.0)

            async def advance(wait_s: float) -> None:
                await it.waits(wait_s)
                it.timers.advance(wait_s)

            async def refuse(auth: dict[str, Any], **more: Any) -> None:
                await peer.send("error", id=auth["id"], message="No.", **more)

            await peer.send("auth_expiring", expiresAt="soon")
            await advance(1.0)
            await advance(2.0)
            auth = await peer.expect("auth")
            assert auth["token"] == "token 4" and caplog.text.count("the back end sleeps") == 2
            await refuse(auth, code="RATE_LIMITED", retryAfterMs=6000)
            await advance(6.0)  # instead of 4: no token, but a number
            await advance(8.0)
            assert "returned int, not a text" in caplog.text
            await refuse(await peer.expect("auth"), code="UNAUTHENTICATED")
            await advance(10.0)
            assert (await peer.welcome(resumeToken="resume-2"))["token"] == "token 7"
            await settle()
            assert client.status == "online" and calls == 7 and len(it.peers) == 1
            await client.close()

    run(test)


def test_a_warning_that_comes_with_the_answer_to_a_renewal_is_not_lost_a7() -> None:
    """A token from a cache ends soon, too."""

    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(lambda: "cached")
            await peer.send("auth_expiring", expiresAt="soon")
            await peer.welcome()
            await peer.send("auth_expiring", expiresAt="soon")
            await it.waits(5.0)
            assert peer.unread == []
            it.timers.advance(5.0)
            await peer.welcome()
            await client.close()

    run(test)


def test_a_lost_connection_ends_the_renewal_and_the_next_one_has_its_own_a7() -> None:
    async def test() -> None:
        tokens = iter(["first", None, "second", "third"])

        def token() -> str:
            found = next(tokens)
            if found is None:
                raise OSError("the back end sleeps")
            return found

        async with stage() as it:
            client, peer = await it.online(token)
            await peer.send("auth_expiring", expiresAt="soon")
            await it.waits(1.0)
            await peer.close(4401)
            again = await it.meet_after(0.5)
            auth = await again.welcome(resumed=True)
            assert (auth["token"], auth["resumeToken"]) == ("second", "resume-1")
            await until(lambda: client.status == "online")
            it.timers.advance(3.0)  # the pause of the first renewal is over: nothing comes of it
            await settle()
            assert [message["type"] for message in again.got] == ["auth", "heartbeat"]
            await again.send("auth_expiring", expiresAt="soon")
            assert (await again.welcome())["token"] == "third"
            await client.close()

    run(test)


def test_none_for_a_token_means_stop() -> None:
    async def test() -> None:
        signed_in = False
        async with stage() as it:

            def token() -> str | None:
                return "a token" if signed_in else None

            with pytest.raises(NoToken, match="returned None"):
                await it.client(token).connect()
            await it.meet_never()

            signed_in = True
            client, peer = await it.online(token)
            signed_in = False
            await peer.send("auth_expiring", expiresAt="soon")
            assert await client.wait_closed() == 1000 and client.status == "closed"

            signed_in = True
            client, peer = await it.online(token)
            signed_in = False
            await peer.cut()
            await it.waits(0.5)
            it.timers.advance(0.5)
            assert await client.wait_closed() == 1000 and client.status == "closed"
            await it.meet_never()

    run(test)
