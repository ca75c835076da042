"""Heartbeats, the clock, status, privacy and the token's end, on a fake clock."""

import asyncio

import pytest

from koko_presence.client import PresenceClient, PresenceRefused, Privacy

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


def test_a_failed_token_renewal_is_reported_and_has_no_other_effect(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online(lambda: "a token")
            await peer.send("auth_expiring", expiresAt="soon")
            auth = await peer.expect("auth")
            await peer.send("error", id=auth["id"], code="UNAUTHENTICATED", message="Still the old one.")
            await until(lambda: "Still the old one." in caplog.text)
            assert client.status == "online"
            await client.close()

    run(test)
