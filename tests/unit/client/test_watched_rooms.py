"""Rooms that a client watches without joining them [Q12], on a fake clock."""

import asyncio
from typing import Any

import pytest

from koko_presence.client import PresenceRefused, RoomSummary

from .fake_server import Peer, run, settle, stage, until

ANN = {"userId": "ann", "name": "Ann", "color": "#10B981"}


async def watching(peer: Peer, *rooms: str, refused: Any = ()) -> dict[str, Any]:
    """Answer the client's list and return it."""
    message = await peer.expect("watch")
    more = {} if "id" not in message else {"id": message["id"]}
    await peer.send("watching", rooms=list(rooms), refused=list(refused), **more)
    return message


def test_summaries_are_kept_by_room_and_reported() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            seen: list[RoomSummary] = []
            client.on("room_summary", seen.append)
            calling = asyncio.ensure_future(client.watch_rooms(["video_1", "video_2", "video_1"]))
            closed = {"roomId": "video_2", "code": "FORBIDDEN", "message": "No."}
            assert (await watching(peer, "video_1", refused=[closed]))["rooms"] == ["video_1", "video_2"]
            answer = await calling
            assert answer.rooms == ["video_1"] and answer.refused[0].code == "FORBIDDEN"
            await peer.send("room_summary", roomId="video_1", userCount=1, users=[ANN])
            await until(lambda: bool(seen))
            assert client.summaries["video_1"].users[0].name == "Ann" and seen[0].user_count == 1
            await peer.send("watching", rooms=[], refused=[{**closed, "roomId": "video_1"}])
            await until(lambda: not client.summaries)
            await client.close()

    run(test)


def test_the_list_is_sent_again_after_a_reconnect() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            calling = asyncio.ensure_future(client.watch_rooms(["video_1"]))
            await watching(peer, "video_1")
            await calling
            await peer.cut()
            peer = await it.meet_after(0.5)
            await peer.welcome()
            again = await peer.expect("watch")
            assert again["rooms"] == ["video_1"]
            await settle()
            assert [message["type"] for message in peer.unread if message["type"] != "heartbeat"] == []
            await client.close()

    run(test)


def test_a_list_without_an_answer_is_sent_once_on_the_next_connection() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            calling = asyncio.ensure_future(client.watch_rooms(["video_1"]))
            await peer.expect("watch")
            await peer.cut()
            peer = await it.meet_after(0.5)
            await peer.welcome()
            await watching(peer, "video_1")
            assert (await calling).rooms == ["video_1"]
            await settle()
            assert [message["type"] for message in peer.unread if message["type"] != "heartbeat"] == []
            await client.close()

    run(test)


def test_a_room_whose_access_could_not_be_checked_is_tried_again() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            calling = asyncio.ensure_future(client.watch_rooms(["video_1"]))
            unsure = {"roomId": "video_1", "code": "FORBIDDEN", "message": "Not checked.", "retryAfterMs": 2000}
            await watching(peer, refused=[unsure])
            await calling
            it.timers.advance(2.9)
            await settle()
            assert [message["type"] for message in peer.unread if message["type"] != "heartbeat"] == []
            it.timers.advance(0.2)  # the random number is one half: 3 s
            assert (await watching(peer, "video_1"))["rooms"] == ["video_1"]
            await client.close()

    run(test)


def test_too_many_rooms_and_refused_lists_are_errors() -> None:
    async def test() -> None:
        async with stage() as it:
            client, peer = await it.online()
            with pytest.raises(ValueError, match="at most 200"):
                await client.watch_rooms(f"video_{n}" for n in range(201))
            calling = asyncio.ensure_future(client.watch_rooms([]))
            message = await peer.expect("watch")
            await peer.send("error", id=message["id"], code="RATE_LIMITED", message="Slow.")
            with pytest.raises(PresenceRefused):
                await calling
            await client.close()

    run(test)
