"""Connecting, authenticating, closing; against a fake server on a real socket."""

import asyncio
import logging

import pytest

from koko_presence.client import AuthRefused, PresenceClient, PresenceOffline, Privacy

from .fake_server import run, settle, stage


def test_the_first_message_is_auth_with_token_caps_and_privacy() -> None:
    async def test() -> None:
        async with stage() as it:
            client = it.client(caps=["cursors"], privacy=Privacy(invisible=True))
            connecting = asyncio.ensure_future(client.connect())
            peer = await it.meet()
            auth = await peer.welcome()
            await connecting
            assert (auth["token"], auth["caps"], auth["privacy"]) == ("a token", ["cursors"], {"invisible": True})
            assert "resumeToken" not in auth
            assert (client.status, client.user_id, client.session_id) == ("online", "ann", "s_ann")
            await client.close()

    run(test)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_token_may_come_from_a_function(kind: str) -> None:
    async def fetch() -> str:
        return "fetched"

    async def test() -> None:
        async with stage() as it:
            client = it.client(fetch if kind == "async" else lambda: "fetched")
            connecting = asyncio.ensure_future(client.connect())
            assert (await (await it.meet()).welcome())["token"] == "fetched"
            await connecting
            await client.close()

    run(test)


def test_a_refused_token_raises_the_servers_message_and_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with stage() as it:
            client = it.client()
            connecting = asyncio.ensure_future(client.connect())
            peer = await it.meet()
            auth = await peer.expect("auth")
            await peer.send("error", code="UNAUTHENTICATED", message="The token was refused: too old.", id=auth["id"])
            with pytest.raises(AuthRefused, match="too old"):
                await connecting
            await peer.over.wait()
            assert client.status == "closed"
            await it.meet_never()

    run(test)


def test_a_close_during_auth_is_reported_with_its_code() -> None:
    async def test() -> None:
        async with stage() as it:
            connecting = asyncio.ensure_future(it.client().connect())
            peer = await it.meet()
            await peer.close(1013)
            with pytest.raises(PresenceOffline, match="1013") as lost:
                await connecting
            assert lost.value.close_code == 1013

    run(test)


def test_an_unreachable_server_is_reported_with_the_address() -> None:
    async def test() -> None:
        async with stage() as it:
            client = it.client()
            it.stop()
            with pytest.raises(PresenceOffline, match=f"127.0.0.1:{it.port}"):
                await client.connect()
            assert client.status == "closed"

    run(test)


def test_a_server_that_never_answers_auth_is_given_up() -> None:
    async def test() -> None:
        async with stage() as it:
            connecting = asyncio.ensure_future(it.client(timeout_s=10.0).connect())
            peer = await it.meet()
            await peer.expect("auth")
            it.timers.advance(10.1)
            with pytest.raises(PresenceOffline, match="no answer within 10 s"):
                await connecting
            await peer.over.wait()

    run(test)


def test_what_the_token_function_raises_is_raised() -> None:
    def fetch() -> str:
        raise LookupError("no token today")

    async def test() -> None:
        async with stage() as it:
            with pytest.raises(LookupError, match="no token today"):
                await it.client(fetch).connect()

    run(test)


@pytest.mark.parametrize("url", ["http://127.0.0.1/presence", "127.0.0.1:8080", "ws:///presence", ""])
def test_an_address_that_is_no_websocket_is_refused(url: str) -> None:
    async def test() -> None:
        with pytest.raises(ValueError, match="wss://"):
            PresenceClient(url, "a token")

    run(test)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("ws://presence.example.org/presence", True),
        ("wss://presence.example.org/presence", False),
        ("ws://127.0.0.1/presence", False),
        ("ws://[::1]:8080/presence", False),
    ],
)
def test_a_token_in_the_clear_is_warned_about(url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        PresenceClient(url, "a token")

    run(test)
    assert ("unencrypted" in caplog.text) == warned


def test_a_client_connects_once() -> None:
    async def test() -> None:
        async with stage() as it:
            client, _ = await it.online()
            with pytest.raises(RuntimeError, match="another PresenceClient"):
                await client.connect()
            await client.close()

    run(test)


def test_calls_on_a_client_that_is_not_connected_raise() -> None:
    async def test() -> None:
        async with stage() as it:
            with pytest.raises(PresenceOffline, match="async with"):
                await it.client().join("video_1", "video")

    run(test)


def test_nothing_of_all_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with stage() as it:
            client, _, _ = await it.in_room()
            await client.close()

    with caplog.at_level(logging.DEBUG, "koko_presence"), caplog.at_level(logging.DEBUG, "picows"):
        run(test)
    assert [record for record in caplog.records if not record.name.startswith(("websockets", "asyncio"))] == []


def test_close_sends_1000_and_ends_rooms_and_open_calls_d2() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer, room = await it.in_room()
            stream, closed = room.events(), []
            room.on("closed", closed.append)
            call = asyncio.ensure_future(room.request_control())
            await peer.expect("control_request")
            await client.close()
            await peer.over.wait()
            assert peer.socket.close_code == 1000
            with pytest.raises(PresenceOffline, match="before the answer came"):
                await call
            assert [event async for event in stream] == [] and closed == [None]
            assert client.status == "closed" and await client.wait_closed() == 1000

    run(test)


def test_close_does_not_wait_for_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koko_presence.client.link.CLOSE_TIMEOUT_S", 0.05)

    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            await settle()
            peer.socket.transport.pause_reading()  # it never receives the close frame
            await client.close()
            assert client.status == "closed"
            peer.socket.transport.abort()

    run(test)


@pytest.mark.parametrize("after_bytes", [0, 1], ids=["at once", "after the request"])
def test_a_connection_that_ends_before_the_handshake_is_no_connection(after_bytes: int) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(after_bytes)
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = PresenceClient(f"ws://127.0.0.1:{port}/presence", "a token")
        with pytest.raises(PresenceOffline, match="before the handshake"):
            await client.connect()
        server.close()

    run(test)
