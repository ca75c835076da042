"""Peer: picows as in its documentation, with a listener in Python: `python -m bench.peers.picows_plain PORT`."""

import asyncio
import logging
import secrets
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from .wire import Auth, Authenticated, Join, Joined, decode, encode, moved, user_of


class Room:
    def __init__(self) -> None:
        self.seq = 0
        self.members: set[WSTransport] = set()


rooms: dict[str, Room] = {}


class Client(WSListener):
    room: Room | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.session_id = secrets.token_urlsafe(16)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        message = decode(frame.get_payload_as_memoryview())
        if isinstance(message, Auth):
            self.user_id = user_of(message.token)
            transport.send(WSMsgType.TEXT, encode(Authenticated(self.user_id, self.session_id)))
        elif isinstance(message, Join):
            self.room = rooms.setdefault(message.room_id, Room())
            self.room.members.add(transport)
            transport.send(WSMsgType.TEXT, encode(Joined(message.room_id, self.room.seq)))
        elif self.room is not None:
            self.room.seq += 1
            event = moved(message, self.user_id, self.session_id, self.room.seq)
            for member in self.room.members:
                if member is not transport:
                    member.send(WSMsgType.TEXT, event)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.room is not None:
            self.room.members.discard(transport)


async def serve(port: int) -> None:
    def accept(request: WSUpgradeRequest) -> Client:
        return Client()

    server = await ws_create_server(accept, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # a warning per write to a closed client would distort the measurement
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
