"""Event streams as sessions of whole workers, without sockets and on a fake clock [M6c, M6d]."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from koko_presence.access.policy import Grant
from koko_presence.auth.cookies import SessionCookie
from koko_presence.auth.identity import Identity, MayQuery, TokenRefused, unlimited
from koko_presence.protocol.survey import Recheck
from koko_presence.server.address_limits import FREE
from koko_presence.server.http import trpc_stream
from koko_presence.server.http.trpc_stream import EventStream, StreamRequest
from koko_presence.server.hub import Hub
from tests.unit.rules.test_m_server import ask
from tests.unit.rules.test_q12_watch import LaterAccess
from tests.world import FakeVerifier, World

ROOM = {"roomId": "video_1", "roomType": "video"}


class Transport:
    """Takes all bytes that are written, or from `hold` on only those that `take` takes."""

    def __init__(self) -> None:
        self.written = b""
        self.taken: int | None = None  # None: all

    def set_protocol(self, protocol: Any) -> None: ...

    def promote(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.written += data

    def hold(self) -> None:
        self.taken = len(self.written)

    def get_write_buffer_size(self) -> int:
        return 0 if self.taken is None else len(self.written) - self.taken

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Acceptor:
    def leave_stream(self, transport: Any) -> None: ...


class Stream:
    """A client's event stream."""

    def __init__(self, world: World, *, hub: Hub | None = None, **asked: Any) -> None:
        self.transport = Transport()
        self.hub = hub or world.next_hub()
        request = StreamRequest(
            **{
                "room_id": UNSET, "wrapped": False, "token": "", "cookie": None, "resume_token": "", "wants_ids": False,
                "headers": (), **asked,
            }
        )  # fmt: skip
        self.stream = EventStream(self.hub, Acceptor(), self.transport, FREE)  # type: ignore[arg-type]
        self.stream.open(request, b"")
        world.settle()

    def events(self, *types: str) -> list[dict[str, Any]]:
        """The values so far, with `types` only those of the named types."""
        blocks = [block.strip(b"\n") for block in self.transport.written.split(b"\n\n")]
        values = [msgspec.json.decode(block[6:].split(b"\n")[0]) for block in blocks if block.startswith(b"data: {")]
        return [value for value in values if not types or value["type"] in types]

    @property
    def session_id(self) -> str:
        return str(self.events("authenticated")[-1]["sessionId"])

    @property
    def session(self) -> Any:
        return self.hub.sessions[self.session_id]

    @property
    def error(self) -> str:
        """The server's code of the error that ended the stream, "" while there is none."""
        _, found, rest = self.transport.written.partition(b"event: serialized-error\ndata: ")
        return msgspec.json.decode(rest.split(b"\n")[0])["data"]["reason"] if found else ""


@pytest.fixture(autouse=True)
def peers_that_acknowledge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trpc_stream, "taken_bytes", lambda transport: len(transport.written))


# --- a room that the session is not in ----------------------------------------------------------------------------


def test_d2_a_stream_of_another_room_that_ends_keeps_the_places_of_its_session_for_the_grace() -> None:
    world = World()
    bob = world.person("bob", "video_1")
    ann = Stream(world, token="ann", room_id="video_2")
    world.http("ann", ann.session_id).call("join", **ROOM)
    bob.take()
    world.sleep(3.0)
    assert ann.error == "NOT_IN_ROOM"
    assert [(each["type"], each["data"]["connected"]) for each in bob.take()] == [("status_changed", False)]
    back = Stream(world, token="ann", resume_token=ann.events("authenticated")[0]["resumeToken"])
    (authenticated,) = back.events("authenticated")
    assert authenticated["resumed"] and authenticated["rooms"] == ["video_1"]
    assert bob.take("user_left") == []


def test_a_session_without_rooms_ends_with_its_stream() -> None:
    world = World()
    ann = Stream(world, token="ann", room_id="video_2")
    world.sleep(3.0)
    assert ann.error == "NOT_IN_ROOM" and "ann" not in world.shard.users


class SlowAccess(LaterAccess):
    answers_within_s = 2.0


def test_m6d_a_join_by_a_call_whose_access_is_still_checked_keeps_the_stream() -> None:
    access = SlowAccess()
    world = World(access=access)
    ann = Stream(world, token="ann", room_id="video_1")
    world.sleep(1.9)
    joining = world.http("ann", ann.session_id).start("join", **ROOM)
    world.sleep(1.9)
    assert not joining.done and ann.error == ""
    access.give(Grant(allow=True))
    world.settle()
    assert joining.result["sessionId"] == ann.session_id and len(ann.events("joined")) == 1
    world.sleep(20.0)
    assert ann.error == ""


def test_m6d_without_a_join_the_stream_ends_when_no_check_can_be_under_way_any_more() -> None:
    world = World(access=SlowAccess())
    ann = Stream(world, token="ann", room_id="video_1")
    world.sleep(5.9)
    assert ann.error == ""
    world.sleep(0.2)
    assert ann.error == "NOT_IN_ROOM"


@pytest.mark.one_worker
@pytest.mark.parametrize("names_session", [True, False])
def test_m6d_a_join_by_a_call_that_waits_for_a_distant_owner_keeps_the_stream(names_session: bool) -> None:
    world = World(workers=4)
    streams = [Stream(world, hub=world.hub, token=f"user{number}", room_id="video_1") for number in range(8)]
    world.link_delay_s = lambda sender, receiver: 1.2
    for number, stream in enumerate(streams):
        session = stream.session_id if names_session else ""
        world.http(f"user{number}", session).start("join", **ROOM, hub=world.hub)
    world.sleep(8.0)
    assert [stream.error for stream in streams] == [""] * 8
    assert all(len(stream.events("joined")) == 1 for stream in streams)


# --- cookies ------------------------------------------------------------------------------------------------------


class EndingVerifier(FakeVerifier):
    """Accepts the tokens USER=N, which end at second N of the world's clock."""

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity:
        user, _, ends_at = token.partition("=")
        expires_at_s = self.expires_at_s - 86_400 + int(ends_at)
        if expires_at_s <= now_s:
            raise TokenRefused("it has expired")
        return msgspec.structs.replace(super().verify(user, now_s), expires_at_s=expires_at_s)


def beat(world: World, token: str, session_id: str, *, has_cookie: bool = True) -> None:
    caller = world.http(token, session_id)
    caller.cookie = SessionCookie("sid", token) if has_cookie else None
    assert caller.call("heartbeat")["success"]


def world_of_ending_tokens() -> World:
    world = World()
    world.verifier = EndingVerifier()
    for node in world.nodes.values():
        node.hub.verifier = world.verifier
    return world


def test_a7_the_cookie_of_a_heartbeat_replaces_the_one_of_the_stream() -> None:
    world = world_of_ending_tokens()
    ann = Stream(world, cookie=SessionCookie("sid", "ann=100"))
    began_at_s = world.unix_s
    world.sleep(40.0)
    for _ in range(3):
        beat(world, "ann=1000", ann.session_id)
        world.sleep(10.0)
    assert len(ann.events("authenticated")) == 2 and ann.events("error") == []
    assert ann.session.identity.expires_at_s - began_at_s > 900.0
    for _ in range(4):
        world.sleep(30.0)
        beat(world, "ann=1000", ann.session_id)
    assert ann.session.state == "open" and len(ann.events("authenticated")) == 2, "longer than the first cookie"


def test_a_call_without_token_and_cookie_renews_nothing() -> None:
    """As one on a socket that names the session of a stream."""
    world = world_of_ending_tokens()
    ann = Stream(world, cookie=SessionCookie("sid", "ann=100"))
    for _ in range(5):
        world.sleep(30.0)
        beat(world, "ann=1000", ann.session_id, has_cookie=False)
        if world.now > 1100.0:
            break
    assert len(ann.events("authenticated")) == 1 and ann.events("error") == []


# --- slow clients -------------------------------------------------------------------------------------------------


def test_n1_the_progress_of_a_slow_client_counts_the_bytes_that_the_stream_adds() -> None:
    async def story() -> None:
        world = World()
        bob = world.person("bob", "video_1")
        ann = Stream(world, token="ann", wants_ids=True, headers=(("x-long", "x" * 1000),))
        await asyncio.sleep(0)
        session, transport = ann.session, ann.transport
        assert session.outbox.taken_bytes() == len(transport.written)
        world.http("ann", ann.session_id).call("join", **ROOM)
        transport.hold()
        for number in range(30):
            bob.send(type="broadcast", roomId="video_1", data={"n": number})
            transport.taken += 10
            assert session.outbox.taken_bytes() == transport.taken
            world.sleep(1.0)
        assert (
            session.state == "open" and b"restore-id" in transport.written and trpc_stream.sse.PING in transport.written
        )

    asyncio.run(story())


# --- sessions held over HTTP --------------------------------------------------------------------------------------


def test_m2_a_join_that_the_owner_gives_to_a_stream_leaves_no_lease_to_check_again() -> None:
    world = World()
    ann = Stream(world, token="ann")
    assert world.http("ann").call("join", **ROOM)["sessionId"] == ann.session_id
    assert sum(answer.checked for answer in ask(world, Recheck(user_id="ann"))) == 1
    held = world.http("ann").call("join", **ROOM, clientKey="phone")["sessionId"]
    assert held != ann.session_id
    assert sum(answer.checked for answer in ask(world, Recheck(user_id="ann"))) == 2
