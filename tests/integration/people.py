"""Clients of a server in a process of its own. They stay connected, resume after a lost connection, and record both."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from koko_presence.auth.hmac_jwt import issue_token
from koko_presence.client import PresenceClient, Room
from tests.waiting import until

EVENTS = ("user_joined", "user_left", "status_changed")


class Person:
    """One user with one session, which is a member of one room."""

    def __init__(self, number: int, port: int, secret: str, room: str, tls: ssl.SSLContext | None = None) -> None:
        self.name = f"u{number}"
        token = issue_token(secret, user=self.name, now_s=int(time.time()))
        address = f"ws://127.0.0.1:{port}/presence" if tls is None else f"wss://localhost:{port}/presence"
        self.client = PresenceClient(address, token, ssl_context=tls)
        self.cut = 0  # connections that have ended
        self.out_s = 0.0  # the longest time without a connection
        self.heard: list[tuple[str, Any]] = []  # events about other members, since `listen`
        self.session_id = ""
        self._room = room
        self._lost_at: float | None = None
        self.room: Room

    async def come(self) -> "Person":
        """Connect and join the room."""
        await self.client.connect()
        self.room = await self.client.join(self._room, "video")
        self.session_id, self.color = self.client.session_id, self.room.color
        self.client.on("status", self._on_status)
        return self

    @property
    def here(self) -> bool:
        """Whether the client is connected and still has its first session id."""
        return self.client.status == "online" and self.client.session_id == self.session_id

    def listen(self) -> None:
        """Record joins, leaves and status changes of other members from this call on."""
        for kind in EVENTS:
            self.room.on(kind, lambda event, kind=kind: self.heard.append((kind, event)))

    def _on_status(self, status: str) -> None:
        now = time.monotonic()
        if status != "online" and self._lost_at is None:
            self.cut, self._lost_at = self.cut + 1, now
        elif status == "online" and self._lost_at is not None:
            self.out_s, self._lost_at = max(self.out_s, now - self._lost_at), None


class Crowd:
    """All clients of a test."""

    def __init__(self, people: list[Person]) -> None:
        self.people = people

    @property
    def all_here(self) -> bool:
        return all(person.here for person in self.people)

    @property
    def cuts(self) -> Counter[int]:
        """Number of clients per number of lost connections."""
        return Counter(person.cut for person in self.people)

    @property
    def longest_out_s(self) -> float:
        return max(person.out_s for person in self.people)

    def heard(self, kind: str) -> list[Any]:
        """All events of one type that the clients received."""
        return [event for person in self.people for name, event in person.heard if name == kind]


@asynccontextmanager
async def crowd(
    port: int, secret: str, count: int, *, per_room: int = 10, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Crowd]:
    """Connect `count` clients, `per_room` of them in each room. All of them have joined before the block begins."""
    people = [Person(number, port, secret, f"video_{number // per_room}", tls) for number in range(count)]
    try:
        for i in range(0, count, 50):
            await asyncio.gather(*(person.come() for person in people[i : i + 50]))
        sizes = Counter(person.room.id for person in people)
        await until(lambda: all(len(person.room.people) == sizes[person.room.id] for person in people))
        for person in people:
            person.listen()
        yield Crowd(people)
    finally:
        await asyncio.gather(*(person.client.close() for person in people), return_exceptions=True)
