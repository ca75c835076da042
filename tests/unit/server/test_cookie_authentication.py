"""`auth` without a token: the cookie of the upgrade replaces it; and verifiers that cannot be reached."""

import asyncio
from typing import Any

import pytest

from koko_presence.auth.cookies import SessionCookie
from koko_presence.auth.hmac_jwt import Identity, VerifierUnavailable
from koko_presence.auth.identity import MayQuery, unlimited
from tests.world import Client, World

COOKIE = SessionCookie("__Secure-better-auth.session_token", "ann")


def came_with(world: World, cookie: SessionCookie | str | None) -> Client:
    client = world.client()
    client.session.authentication.cookie = cookie
    return client


def test_a1_a_cookie_answers_for_an_auth_without_token() -> None:
    world = World()
    client = came_with(world, COOKIE)
    client.send(type="auth", id=1)
    (message,) = client.take()
    assert (message["type"], message["id"], message["userId"]) == ("authenticated", 1, "ann")


def test_a4_a_cookie_also_refreshes_for_as_long_as_the_connection_lasts() -> None:
    world = World()
    client = came_with(world, COOKIE)
    client.send(type="auth")
    client.send(type="auth", id=2)
    assert [(m["type"], m.get("id")) for m in client.take()] == [("authenticated", None), ("authenticated", 2)]


def test_a_token_takes_precedence_over_the_cookie_which_is_then_dropped() -> None:
    world = World()
    client = came_with(world, COOKIE)
    client.send(type="auth", token="ben")
    assert client.take()[0]["userId"] == "ben"
    assert client.session.authentication.cookie is None
    client.send(type="auth", id=2)
    (message,) = client.take()
    assert (message["type"], message["code"], message["id"]) == ("error", "INVALID_MESSAGE", 2)


@pytest.mark.parametrize("opened", [False, True])
def test_where_no_cookies_are_wanted_an_auth_without_token_is_invalid_and_ends_nothing(opened: bool) -> None:
    world = World()
    client = world.client()
    if opened:
        client.auth("ann")
        client.take()
    client.send(type="auth", id=1)
    (message,) = client.take()
    assert (message["code"], message["id"]) == ("INVALID_MESSAGE", 1)
    assert message["message"] == "Object missing required field `token`."
    assert client.closed is None
    client.send(type="auth", token="ann")
    assert client.take()[0]["type"] == "authenticated"


def test_a_cookie_that_does_not_count_says_why_and_closes_4401() -> None:
    world = World()
    client = came_with(world, "there is no cookie x: sign in first, or send a token")
    client.send(type="auth", id=1)
    (message,) = client.take()
    assert message["code"] == "UNAUTHENTICATED" and "retryAfterMs" not in message
    assert message["message"] == "The cookie was refused: there is no cookie x: sign in first, or send a token."
    assert client.closed == 4401


def test_a_refused_cookie_closes_4401() -> None:
    world = World()
    client = came_with(world, SessionCookie("x", "bad"))
    client.send(type="auth")
    assert client.take()[0]["message"] == "The cookie was refused: it is bad."
    assert client.closed == 4401


class Down:
    """A verifier that fails, at once or after a while, or raises."""

    def __init__(self, how: str) -> None:
        self.how = how

    is_remote = False

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Any:
        if self.how == "at once":
            raise VerifierUnavailable("the application gave no usable answer about it", 5.0)
        return self._later()

    async def _later(self) -> Identity:
        await asyncio.sleep(0)
        if self.how == "later":
            raise VerifierUnavailable("the application gave no usable answer about it", 5.0)
        raise RuntimeError("a fault of ours")


@pytest.mark.parametrize("how", ["at once", "later", "broken"])
def test_l7_a_client_that_cannot_be_verified_has_to_retry_without_a_new_token(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        world = World()
        for node in world.nodes.values():
            node.hub.verifier = Down(how)
        client = world.client()
        client.send(type="auth", token="ann", id=1)
        for _ in range(5):
            await asyncio.sleep(0)
        world.settle()
        (message,) = client.take()
        assert (message["code"], message["id"]) == ("UNAUTHENTICATED", 1)
        assert message["message"].startswith("The token cannot be checked now: ")
        assert message["retryAfterMs"] == (2000 if how == "broken" else 5000)
        assert client.closed == 1013
        assert not world.shard.users

    asyncio.run(test())
    assert ("a fault of ours" in caplog.text) == (how == "broken")


def test_a_refresh_that_cannot_be_checked_leaves_the_session_as_it_is() -> None:
    world = World()
    client = world.client().auth("ann")
    client.take()
    for node in world.nodes.values():
        node.hub.verifier = Down("at once")
    client.send(type="auth", token="ann", id=2)
    (message,) = client.take()
    assert (message["code"], message["retryAfterMs"]) == ("UNAUTHENTICATED", 5000)
    assert client.closed is None


def test_forwarded_credentials_are_in_no_message_to_a_client() -> None:
    class Forwarding:
        is_remote = False

        def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity:
            forward = (("cookie", "session=s3cret-cookie"),)
            return Identity(
                user_id=token, name=token, image=None, expires_at_s=int(now_s) + 600, rooms={}, forward=forward
            )

    world = World()
    for node in world.nodes.values():
        node.hub.verifier = Forwarding()
    ann, ben = world.client(), world.client()
    for client, user in ((ann, "ann"), (ben, "ben")):
        client.send(type="auth", token=user)
        client.send(type="join", roomId="video_1", roomType="video")
        client.send(type="get_active", roomId="video_1")
        client.send(type="cursor", roomId="video_1", data={"timestamp": 1})
    assert len(ann.raw) > 3 and len(ben.raw) >= 3
    assert not any(b"s3cret" in message for client in (ann, ben) for message in client.raw)
