"""A client resumes while its token cannot be verified, or its access to rooms cannot be checked: a session that was in
a room stays there, as the same user; a refused one does not."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from koko_presence.access.policy import NO, UNSURE, Access, Grant
from koko_presence.auth.identity import (
    Identity,
    MayQuery,
    TokenRefused,
    TooManyQueries,
    VerifierUnavailable,
    hash_of,
    unlimited,
)
from koko_presence.protocol.edge_messages import SessionRefused
from koko_presence.server.authentication import RESUME_WAITS_S
from koko_presence.server.membership import MEMBER_WAITS_S
from tests.world import UNIX_START_S, Client, World

pytestmark = pytest.mark.parametrize("workers", [1, 3])
ALL = Grant(allow=True, can_control=True, can_broadcast=True)


# names the user, and an end, and has no signature
MADE_UP = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"EdDSA","kid":"x"}', b'{"sub":"ann","exp":9e9}', b"no signature")
)


class Provider:
    """A verifier with a provider: `up`, `down` (it fails at once), `hanging` (until `answers` is set) or `crowded` (too
    many requests, so that unknown tokens are not verified)."""

    is_remote = True

    def __init__(self) -> None:
        self.state = "up"
        self.refused: set[str] = set()  # tokens that are no longer valid
        self.known_refused: set[str] = set()  # those of which that is cached
        self.answers = asyncio.Event()
        self.name = ""
        self.asked = 0

    def was_refused(self, token: str, now_s: float) -> bool:
        return token in self.known_refused

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        return token_hash in map(hash_of, self.known_refused)

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity | Awaitable[Identity]:
        self.asked += 1
        if self.state == "hanging":
            return self._later(token)
        if self.state == "down":
            raise VerifierUnavailable("nobody answers", 2.0)
        if self.state == "crowded" and not token.startswith("ann-"):  # unless it was accepted before
            raise TooManyQueries("too many tokens that are not known", 1.0, is_silence=False)
        return self._answer(token)

    async def _later(self, token: str) -> Identity:
        await self.answers.wait()
        if self.state == "down":
            raise VerifierUnavailable("nobody answers", 2.0)
        return self._answer(token)

    def _answer(self, token: str) -> Identity:
        if token in self.refused or token == MADE_UP:
            raise TokenRefused("it has signed out")
        user = token.partition("-")[0]
        return Identity(
            user_id=user,
            name=self.name or user.title(),
            image="https://x.example/a.png",
            expires_at_s=int(UNIX_START_S) + 3600,
            rooms={"video_1": ("join", "control")},
        )


class Authoriser(Access):
    """Answers with `grant` at once; with `hangs` not before `answers` is set."""

    def __init__(self, grant: Grant = ALL) -> None:
        self.grant = grant
        self.hangs = False
        self.answers = asyncio.Event()
        self.asked = 0

    def check(self, identity: Identity, room_id: str, room_type: Any, **_: str) -> Grant | Awaitable[Grant]:
        self.asked += 1
        return self._later() if self.hangs else self.grant

    async def _later(self) -> Grant:
        await self.answers.wait()
        return self.grant


class Scene:
    """Ann in a room, and Bob who watches it."""

    def __init__(self, workers: int) -> None:
        self.provider, self.authoriser = Provider(), Authoriser()
        self.world = World(workers=workers, access=self.authoriser)
        for node in self.world.nodes.values():
            node.hub.verifier = self.provider
        self.bob = self.world.client().auth("bob-1").join("video_1")
        self.ann = self.world.client().auth("ann-1").join("video_1")
        self.ann_token, self.ann_session = self.ann.resume_token, self.ann.session_id
        self.bob.take()

    def lose(self, client: Client) -> None:
        client.hang_up(1006)
        self.bob.take()

    def come_back(self, token: str = "ann-1", **more: Any) -> Client:
        return self.world.client().auth(token, resumeToken=self.ann_token, **more)

    async def settle(self, seconds: float = 0.0) -> None:
        """Run tasks and timers."""
        for _ in range(5):
            await asyncio.sleep(0)
            self.world.settle()
        if seconds:
            self.world.sleep(seconds)
            await self.settle()

    def assert_back(self, client: Client) -> None:
        """Assert that the client is in the room again, as the same user: no other member saw it leave, change or be
        renamed."""
        reply = client.last("authenticated")
        assert reply["resumed"] and reply["sessionId"] == self.ann_session and reply["rooms"] == ["video_1"]
        client.join("video_1")
        row = next(row for row in client.last("joined")["room"]["users"] if row["userId"] == "ann")
        assert (row["name"], row["image"], row["connected"]) == ("Ann", "https://x.example/a.png", True)
        assert {message["type"] for message in self.bob.take()} <= {"status_changed"}
        self.bob.send(type="broadcast", roomId="video_1", data={"type": "hello"})
        assert client.last("broadcast")["data"] == {"type": "hello"}, "and not deaf"


def scene(test: Callable[[Scene], Awaitable[None]], workers: int) -> None:
    async def run() -> None:
        await test(Scene(workers))

    asyncio.run(run())


@pytest.mark.parametrize("state", ["down", "hanging"])
def test_a_resume_token_is_proof_enough_while_the_token_cannot_be_checked(workers: int, state: str) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = state
        client = s.come_back()
        if state == "hanging":
            await s.settle(RESUME_WAITS_S - 0.1)
            assert not client.of("authenticated"), "an answer may still come"
            await s.settle(0.1)
        s.assert_back(client)

    scene(test, workers)


def test_a_token_that_was_not_checked_is_checked_later_and_counts_then(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "down"
        client = s.come_back()
        s.assert_back(client)
        s.world.sleep(30)
        asked = s.provider.asked
        assert 1 < asked < 10 and client.closed is None and client.session.authentication._unchecked is not None
        s.provider.state, s.provider.name = "up", "Ann Smith"
        s.world.sleep(11)
        assert client.session.authentication._unchecked is None and client.session.identity.name == "Ann Smith"
        s.world.sleep(30)
        assert s.provider.asked == asked + 1 and client.closed is None and not client.of("error")
        client.send(type="heartbeat")
        assert client.of("pong")

    scene(test, workers)


@pytest.mark.parametrize("state", ["down", "hanging"])
def test_a_token_that_turns_out_to_be_refused_ends_the_connection(workers: int, state: str) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = state
        client = s.come_back()
        await s.settle(RESUME_WAITS_S)
        s.assert_back(client)
        s.provider.refused.add("ann-1")
        s.provider.state = "up"
        s.provider.answers.set()
        await s.settle(11)
        assert client.closed == 4401 and "was refused: it has signed out" in client.last("error")["message"]

    scene(test, workers)


def test_a_refused_token_is_refused_whatever_resume_token_comes_with_it(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.refused.add("ann-1")
        assert s.come_back().closed == 4401
        s.provider.known_refused.add("ann-1")
        for state in ("down", "hanging"):  # and so it stays while the provider does not answer
            s.provider.state = state
            client = s.come_back()
            await s.settle(RESUME_WAITS_S)
            assert not client.of("authenticated")
            assert client.closed == (1013 if state == "down" else None)

    scene(test, workers)


def test_a_made_up_token_is_no_way_in_while_the_provider_answers(workers: int) -> None:
    """A resume token replaces no unverified token while the provider answers. A user who had signed out returned with
    an unsigned token: a few more of these per second used up the request budget, so that it was not verified, and the
    resume token replaced it."""

    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "crowded"
        client = s.come_back(MADE_UP)
        await s.settle(RESUME_WAITS_S)
        assert not client.of("authenticated") and client.closed == 1013
        s.assert_back(s.come_back())

    scene(test, workers)


def test_a_made_up_token_is_accepted_only_while_the_provider_does_not_answer(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "down"
        client = s.come_back(MADE_UP)
        s.assert_back(client)
        found = s.ann.session.hub.resume_tokens.read_identity(client.resume_token, MADE_UP, UNIX_START_S)
        assert found is not None and not found.is_same and found.token_hash == hash_of("ann-1"), "never checked"
        s.provider.state = "crowded"
        s.world.sleep(11)
        assert client.closed == 1013 and client.last("error")["retryAfterMs"] == 1000

    scene(test, workers)


def test_a_resume_token_of_a_token_that_was_refused_proves_nothing(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "down"
        s.provider.known_refused.add("ann-1")
        assert s.come_back(MADE_UP).closed == 1013

    scene(test, workers)


def test_a_token_of_another_user_does_not_resume_the_previous_session(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "down"
        client = s.come_back("eve-1")
        assert client.closed == 1013 and client.last("error")["retryAfterMs"] == 2000

    scene(test, workers)


@pytest.mark.parametrize("how", ["left", "grace", "kicked"])
@pytest.mark.parametrize("state", ["down", "hanging"])
def test_a_session_that_is_over_is_not_brought_back(workers: int, state: str, how: str) -> None:
    async def test(s: Scene) -> None:
        if how == "kicked":
            s.ann.session.finish(4403)
            s.world.settle()
        else:
            s.ann.hang_up(1000 if how == "left" else 1006)
        s.world.sleep(s.world.limits.grace_s + 1.0)
        s.provider.state = state
        client = s.come_back()
        await s.settle(RESUME_WAITS_S)
        assert not client.of("authenticated")
        assert "ann" not in s.world.shard.users, "and no trace of it"
        if state == "down":
            assert client.closed == 1013 and "cannot be checked now" in client.last("error")["message"]
            return
        assert client.closed is None, "the answer may still come"
        s.provider.state = "up"
        s.provider.answers.set()
        await s.settle()
        reply = client.last("authenticated")
        assert not reply["resumed"] and reply["sessionId"] != s.ann_session

    scene(test, workers)


def test_a_late_report_of_a_sessions_end_does_not_end_a_resumed_session(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "down"
        client = s.come_back()
        hub = client.session.hub
        hub.on_edge_message(SessionRefused(connection=client.session.connection, code="UNAUTHENTICATED"), s.world.now)
        s.assert_back(client)
        assert client.closed is None

    scene(test, workers)


def test_an_answer_that_comes_while_the_session_is_being_resumed_counts(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "hanging"
        client = s.come_back()
        authentication = client.session.authentication
        s.provider.state = "up"
        s.provider.answers.set()
        authentication._on_resume_timeout(authentication._message)  # before the task has run
        await s.settle()
        s.assert_back(client)
        assert authentication._unchecked is None and client.session.authentication._resume_timer is None

    scene(test, workers)


def test_a_fresh_token_takes_the_place_of_one_that_could_not_be_checked(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "down"
        client = s.come_back()
        s.provider.state = "up"
        client.auth("ann-2")
        assert client.session.authentication._unchecked is None
        s.provider.refused.add("ann-1")
        s.world.sleep(30)
        assert client.closed is None

    scene(test, workers)


@pytest.mark.parametrize("answer", ["good", "refused", "none"])
def test_an_answer_about_a_token_that_has_been_replaced_meanwhile_counts_for_nothing(
    workers: int, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "down"
        client = s.come_back()
        s.provider.state = "hanging"
        await s.settle(11)  # the first token is verified again,
        asked = s.provider.asked
        s.provider.state = "up"
        client.auth("ann-2")  # and a newer one is valid at once
        assert s.provider.asked == asked + 1 and client.session.authentication._unchecked is None
        if answer == "refused":
            s.provider.refused.add("ann-1")
        elif answer == "none":
            s.provider.state = "down"
        s.provider.answers.set()
        await s.settle()
        assert client.closed is None and not client.of("error") and len(client.of("authenticated")) == 2
        client.send(type="heartbeat")
        assert client.of("pong") and client.session.identity.expires_at_s

    scene(test, workers)
    assert not caplog.records


def test_the_newest_token_holds_whichever_is_answered_first(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.provider.state, s.provider.name = "hanging", "Old Name"
        s.ann.auth("ann-2")
        s.provider.state, s.provider.name = "up", "New Name"
        s.ann.auth("ann-3")
        s.provider.name = "Old Name"
        s.provider.answers.set()
        await s.settle()
        assert len(s.ann.of("authenticated")) == 3 and not s.ann.of("error"), "each is answered"
        assert s.ann.session.identity.name == "New Name"

    scene(test, workers)


def test_a_connection_that_ends_while_it_waits_leaves_nothing_behind(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.lose(s.ann)
        s.provider.state = "hanging"
        client = s.come_back()
        client.hang_up(1006)
        s.world.sleep(RESUME_WAITS_S)
        s.provider.answers.set()
        await s.settle()
        assert not client.of("authenticated")

    scene(test, workers)


# --- rooms


def resumed(s: Scene) -> Client:
    s.lose(s.ann)
    client = s.come_back()
    assert client.last("authenticated")["rooms"] == ["video_1"]
    return client


def test_a_room_that_the_resume_lists_is_entered_while_access_cannot_be_checked_and_permissions_stay(
    workers: int,
) -> None:
    async def test(s: Scene) -> None:
        s.authoriser.grant = UNSURE
        client = resumed(s)
        s.assert_back(client)
        client.send(type="control_request", roomId="video_1", id=1)
        assert client.last("control_granted")["data"]["toUserId"] == "ann", "as it was allowed before"
        client.join("video_2")
        assert client.last("error")["code"] == "FORBIDDEN" and client.last("error")["retryAfterMs"] == 2000

    scene(test, workers)


def undecided(client: Client) -> list[str]:
    return [room for room, membership in client.session.memberships.rooms.items() if membership.undecided]


@pytest.mark.parametrize(("grant", "stays"), [(ALL, True), (NO, False)])
def test_an_unanswered_access_check_is_repeated_until_it_is_answered(workers: int, grant: Grant, stays: bool) -> None:
    async def test(s: Scene) -> None:
        s.authoriser.grant = UNSURE
        client = resumed(s).join("video_1")
        s.bob.take()
        asked = s.authoriser.asked
        s.world.sleep(35)
        assert asked + 2 <= s.authoriser.asked <= asked + 7 and undecided(client) == ["video_1"]
        s.authoriser.grant = grant
        s.world.sleep(11)
        assert not undecided(client)
        asked = s.authoriser.asked
        s.world.sleep(15)
        assert s.authoriser.asked == asked
        if stays:
            assert not client.of("kicked") and not s.bob.take("user_left")
        else:
            assert client.last("kicked")["roomId"] == "video_1" and s.bob.take("user_left")

    scene(test, workers)


@pytest.mark.parametrize(("grant", "stays"), [(ALL, True), (NO, False)])
def test_a_room_is_entered_while_the_authoriser_hangs_and_its_answer_counts(
    workers: int, grant: Grant, stays: bool
) -> None:
    async def test(s: Scene) -> None:
        s.authoriser.hangs = True
        client = resumed(s).join("video_1")
        await s.settle(MEMBER_WAITS_S - 0.1)
        assert not client.of("joined"), "a no in time keeps it out"
        await s.settle(0.1)
        assert client.of("joined")
        s.authoriser.grant = grant
        s.authoriser.answers.set()
        await s.settle()
        assert bool(client.of("kicked")) is not stays and len(client.of("joined")) == 1

    scene(test, workers)


def test_a_refusal_in_time_keeps_a_resumed_session_out(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.authoriser.grant = NO
        client = resumed(s)
        assert client.last("kicked")["roomId"] == "video_1"
        client.join("video_1")
        assert client.last("error")["code"] == "FORBIDDEN" and not client.of("joined")

    scene(test, workers)


def test_the_time_of_the_authoriser_is_not_the_time_of_a_join(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.authoriser.hangs = True
        client = s.world.client().auth("cleo-1").join("video_1")
        membership = client.session.memberships.rooms["video_1"]
        began = membership.began_at
        assert began is not None
        await s.settle(1.5)
        s.authoriser.answers.set()
        for _ in range(3):  # loop iterations in which no time passes
            await asyncio.sleep(0)
        assert membership.began_at == pytest.approx(s.world.now)
        waited = client.session.hub.join_access.read()
        assert (waited.count, waited.sum_s) == (1, pytest.approx(s.world.now - began))
        await s.settle()
        assert client.of("joined")

    scene(test, workers)


def test_calls_of_a_member_continue_while_access_cannot_be_checked(workers: int) -> None:
    async def test(s: Scene) -> None:
        s.authoriser.grant = UNSURE
        client = resumed(s).join("video_1")
        hub = client.session.hub
        for session, refused in ((client.session_id, False), ("", True)):
            http = s.world.http("ann", session)
            http.identity = client.session.identity
            for name, more in (("join", {"roomType": "video"}), ("broadcast", {"data": {"type": "x"}})):
                call = http.start(name, roomId="video_1", hub=hub, **more)
                s.world.settle()
                assert call.done and (call.error is not None) is refused, (name, call.error)

    scene(test, workers)
