"""Peer: the websockets library with its broadcast(): `python -m bench.peers.websockets_broadcast PORT`."""

import asyncio
import logging
import secrets
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from .wire import Auth, Authenticated, Join, Joined, decode, encode, moved, user_of


class Room:
    def __init__(self) -> None:
        self.seq = 0
        self.members: set[ServerConnection] = set()


rooms: dict[str, Room] = {}


async def client(socket: ServerConnection) -> None:
    session_id, user_id, room = secrets.token_urlsafe(16), "", Room()
    try:
        while True:
            message = decode(await socket.recv(decode=False))
            if isinstance(message, Auth):
                user_id = user_of(message.token)
                await socket.send(encode(Authenticated(user_id, session_id)), text=True)
            elif isinstance(message, Join):
                room = rooms.setdefault(message.room_id, room)
                room.members.add(socket)
                await socket.send(encode(Joined(message.room_id, room.seq)), text=True)
            else:
                room.seq += 1
                event = moved(message, user_id, session_id, room.seq)
                # Removed and added again, since a copy of the set without the sender costs more.
                room.members.discard(socket)
                broadcast(room.members, event, text=True)
                room.members.add(socket)
    except ConnectionClosed:
        pass
    finally:
        room.members.discard(socket)


async def main(port: int) -> None:
    listening = serve(
        client, "127.0.0.1", port, compression=None, ping_interval=None, max_queue=None, backlog=4096
    )  # fmt: skip
    async with listening as server:
        await server.serve_forever()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # a warning per write to a closed client would distort the measurement
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
