"""The Python client against the real server, and the snippets of its documentation."""

import ast
import asyncio
import inspect
import re
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from koko_presence.auth.hmac_jwt import Identity, VerifierUnavailable
from koko_presence.auth.identity import MayQuery, unlimited
from koko_presence.client import AuthRefused, PresenceClient, PresenceRefused, Privacy, Room
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.waiting import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "python-client.md"


async def enter(server: Live, user: str, **options: Any) -> tuple[PresenceClient, Room]:
    client = PresenceClient(server.url, server.token(user, user.title()), **options)
    await client.connect()
    return client, await client.join("video_123", "video")


def shown(room: Room, user: str) -> Any:
    """The row of a user who has one session in the room."""
    [row] = room.people[user]
    return row


def test_two_users_receive_each_others_join_cursor_typing_and_leave(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            ann, room_a = await enter(server, "ann")
            bob, room_b = await enter(server, "bob")
            await until(lambda: "bob" in room_a.people)
            room_a.cursor(15.5, 0.45, 0.62)
            room_a.selection(10.0, 25.5)
            room_a.typing(True, "comment")
            await until(lambda: shown(room_b, "ann").is_typing)
            row = shown(room_b, "ann")
            assert (row.name, row.color, row.typing_context) == ("Ann", room_a.color, "comment")
            assert (row.cursor.x, row.selection.end_time) == (0.45, 25.5)
            room_a.hide_cursor()
            room_a.typing(False)
            await until(lambda: shown(room_b, "ann").cursor is None and not shown(room_b, "ann").is_typing)
            left: list[Any] = []
            room_b.on("user_left", left.append)
            await ann.close()
            await until(lambda: bool(left))
            assert (left[0].data.reason, left[0].data.session_count) == ("left", 0) and list(room_b.people) == ["bob"]
            await bob.close()

    run(test())


def test_of_a_thousand_cursors_the_last_arrives_and_none_is_refused(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            ann, room_a = await enter(server, "ann")
            bob, room_b = await enter(server, "bob")
            moves, errors = [], []
            room_b.on("cursor_moved", moves.append)
            ann.on("error", errors.append)
            for second in range(1000):
                room_a.cursor(float(second))
            await until(lambda: bool(moves) and moves[-1].data.timestamp == 999.0)
            assert len(moves) == 2 and errors == []
            await ann.close()
            await bob.close()

    run(test())


def test_both_clients_compute_the_same_playback_position(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            ann, room_a = await enter(server, "ann")
            bob, room_b = await enter(server, "bob")
            state = await room_a.sync_playback("sync", is_playing=True, current_time=45.5, playback_rate=1.0)
            await until(lambda: room_b.playback is not None)
            assert state is not None and room_b.playback is not None
            # The error of a clock offset is at most half of its shortest round trip. The second reading was made
            # between the two others, so its value lies between theirs.
            ways_s = sum(min(each.server_clock._samples)[0] for each in (ann, bob)) + 0.02
            before = state.position(ann.server_now_ms())
            between = room_b.playback.position(bob.server_now_ms())
            assert before - ways_s <= between <= state.position(ann.server_now_ms()) + ways_s
            before_s, now_s, after_s = time.time(), ann.server_now_ms() / 1000.0, time.time()
            assert before_s - ways_s <= now_s <= after_s + ways_s
            room_b.report(True, room_b.playback.position(bob.server_now_ms()))
            await until(lambda: room_a.synced is not None)
            assert shown(room_a, "bob").viewer_sync.state == "synced"
            await ann.close()
            await bob.close()

    run(test())


def test_control_is_requested_and_granted(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            ann, room_a = await enter(server, "ann")
            bob, room_b = await enter(server, "bob")
            assert await room_a.request_control() is True
            assert await room_b.request_control() is False
            await until(lambda: "bob" in room_a.requests)
            with pytest.raises(PresenceRefused) as refused:
                await room_b.sync_playback("play")
            assert refused.value.code == "NOT_CONTROLLER"
            await room_a.grant_control("bob")
            await room_b.sync_playback("play")
            assert room_a.controller == room_b.controller == "bob" and room_a.requests == {}
            assert await room_a.broadcast({"type": "reaction", "emoji": "👍"}, to=["bob"]) == 1
            await ann.close()
            await bob.close()

    run(test())


def test_a_cut_connection_resumes_and_no_member_sees_a_leave_d2(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            ann, room_a = await enter(server, "ann", min_backoff_s=0.02)
            bob, room_b = await enter(server, "bob", min_backoff_s=0.02)
            events: list[str] = []
            room_b.on("*", lambda event: events.append(getattr(event, "type", "")))
            room_a.cursor(15.5, 0.45, 0.62)
            await until(lambda: shown(room_b, "ann").cursor is not None)
            session_id, statuses = ann.session_id, list[str]()
            ann.on("status", statuses.append)  # it may be offline for a moment only
            for session in list(server.worker.hub.connections.values()):
                if session.user_id == "ann":
                    session.link.abort()
            await until(lambda: "offline" in statuses)
            room_a.cursor(16.0, 0.5, 0.5)
            await until(lambda: room_a.joined and shown(room_b, "ann").connected)
            await until(lambda: shown(room_b, "ann").cursor is not None)
            assert ann.session_id == session_id and shown(room_b, "ann").cursor.timestamp == 16.0
            assert "user_left" not in events and "user_joined" not in events
            assert await room_a.broadcast({}) == 1
            await ann.close()
            await bob.close()

    run(test())


def test_clients_survive_a_restart_of_the_server(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            port = server.worker.port
            ann, room_a = await enter(server, "ann", min_backoff_s=0.02)
            bob, room_b = await enter(server, "bob", min_backoff_s=0.02)
            await ann.set_status("busy", "on a call")
            room_a.cursor(15.5, 0.45, 0.62)
            await server.worker.drain(0.05)
            await until(lambda: ann.status == bob.status == "offline")
        async with live(port=port):
            await until(lambda: room_a.joined and room_b.joined)
            await until(lambda: "ann" in room_b.people and shown(room_b, "ann").status == "busy")
            await until(lambda: shown(room_b, "ann").cursor is not None)
            assert shown(room_b, "ann").status_message == "on a call"
            await ann.close()
            await bob.close()

    run(test())


def test_a_token_is_renewed_before_it_ends_a7(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            lives = iter([30, 3600])  # below 60 s the server asks for a new token at once
            fetched: list[str] = []

            def fetch() -> str:
                fetched.append(server.token("ann", ttl_s=next(lives)))
                return fetched[-1]

            async with PresenceClient(server.url, fetch) as ann:
                room = await ann.join("video_123", "video")
                [session] = server.worker.hub.connections.values()
                await until(lambda: session.identity.expires_at_s > time.time() + 1800)
                assert len(fetched) == 2 and room.joined and ann.status == "online"

    run(test())


def test_a_refused_client_gets_the_reason(run: Run) -> None:
    async def test() -> None:
        async with live(access="claims", max_sessions_per_user=1) as server:
            with pytest.raises(AuthRefused, match="token was refused"):
                await PresenceClient(server.url, "not a token").connect()
            token = server.token("ann", rooms={"video_123": ["join"]})
            async with PresenceClient(server.url, token) as ann:
                with pytest.raises(AuthRefused) as refused:
                    await PresenceClient(server.url, token).connect()
                assert refused.value.code == "TOO_MANY_SESSIONS"
                room = await ann.join("video_123", "video")
                with pytest.raises(PresenceRefused, match="FORBIDDEN"):
                    await ann.join("video_999", "video")
                with pytest.raises(PresenceRefused, match="FORBIDDEN"):
                    await room.broadcast({})
                assert list(ann.rooms) == ["video_123"] and ann.status == "online"

    run(test())


def test_a_fixed_token_that_cannot_be_checked_for_a_while_is_tried_again(run: Run) -> None:
    """Close code 4401 would end this client for good, since a fixed token cannot be replaced."""

    async def test() -> None:
        async with live() as server:
            ann, room = await enter(server, "ann")
            genuine = [worker.hub.verifier for worker in server.workers]
            down = Down()
            for worker in server.workers:
                worker.hub.verifier = down
            server.cut()
            await until(lambda: down.asked >= 3)
            assert ann.status != "closed"
            for worker, verifier in zip(server.workers, genuine, strict=True):
                worker.hub.verifier = verifier
            await until(lambda: ann.status == "online" and room.joined)
            await ann.close()

    run(test())


class Down:
    """A verifier whose identity provider cannot be reached."""

    asked = 0

    is_remote = False

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity:
        self.asked += 1
        raise VerifierUnavailable("nobody answers", 0.01)


def test_a_user_invisible_from_the_start_is_never_shown_k1(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            bob, room_b = await enter(server, "bob")
            events: list[Any] = []
            room_b.on("*", events.append)
            ann, room_a = await enter(server, "ann", privacy=Privacy(invisible=True))
            room_a.cursor(1.0)
            assert (await bob.get_active("video_123")).total_count == 1
            assert events == [] and list(room_b.people) == ["bob"] and "bob" in room_a.people
            await ann.set_privacy(invisible=False)
            await until(lambda: "ann" in room_b.people)
            await ann.close()
            await bob.close()

    run(test())


def test_a_room_that_is_left_is_over_and_may_be_entered_again(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            ann, room = await enter(server, "ann")
            await room.leave()
            again = await ann.join("video_123", "video")
            assert again is not room and again.joined and room.ended is not None
            await ann.close()

    run(test())


def test_it_speaks_tls(run: Run, certificate: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    async def test() -> None:
        async with live(tls=certificate) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            assert url.startswith("wss://")
            async with PresenceClient(url, server.token("ann"), ssl_context=trusting) as ann:
                assert (await ann.join("video_123", "video")).joined

    run(test())


def test_it_runs_on_asyncios_own_loop() -> None:
    async def test() -> None:
        async with live() as server:
            ann, room = await enter(server, "ann")
            assert await room.broadcast({}) == 0
            await ann.close()

    asyncio.run(test())


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def test_the_snippets_of_the_documentation_work(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with live() as server:
            names: dict[str, Any] = {"url": server.url, "token": server.token("ann"), "new_token": None}
            names["new_token"] = lambda: server.token("ann", "Ann")
            for snippet in snippets():
                code = compile(snippet, str(DOCUMENT), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                running = eval(code, names)
                if inspect.isawaitable(running):
                    await running
            await names["follow"]()  # the room was left: the stream ends

    run(test())
    said = capsys.readouterr().out
    assert "ann Ann active" in said and "TARGET_NOT_IN_ROOM" in said and "closed" in said
