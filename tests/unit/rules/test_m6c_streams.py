"""Decision M6c: the session of an event stream, whose client speaks by calls over HTTP."""

from typing import Any

import pytest

from tests.world import Client, Http, World

ROOM = "video_123"


def stream(world: World, user: str, **auth: Any) -> Client:
    """An event stream at the next worker."""
    client = world.client()
    client.session.become_stream()
    return client.auth(user, **auth)


@pytest.fixture
def scene() -> tuple[World, Client, Client, Http]:
    """Ann's stream and bob's socket are in the room; ann calls for her session, at another worker each time."""
    world = World()
    ann, bob = stream(world, "ann"), world.person("bob")
    http = world.http("ann", ann.session_id)
    http.call("join", roomId=ROOM, roomType="video")
    ann.take(), bob.take()
    return world, ann, bob, http


def test_its_heartbeat_reports_the_activity_and_is_answered_d7(scene: tuple[World, Client, Client, Http]) -> None:
    _, ann, bob, http = scene
    answer = http.call("heartbeat", status="idle", clientTime=7)
    assert (answer["success"], answer["renewed"], answer["echo"]) == (True, 1, 7)
    assert "leaseSeconds" not in answer and answer["serverTime"] > 0
    assert [event["data"]["status"] for event in bob.take("status_changed")] == ["idle"]
    http.call("heartbeat", sessionId=ann.session_id, status="active")
    assert [event["data"]["status"] for event in bob.take("status_changed")] == ["active"]


def test_a_heartbeat_is_for_no_other_session_d6(scene: tuple[World, Client, Client, Http]) -> None:
    world, ann, bob, http = scene
    for caller in (world.http("bob", bob.session_id), world.http("bob", ann.session_id), world.http("ann", "unknown")):
        assert caller.refused("heartbeat").code == "METHOD_NOT_SUPPORTED"
    assert world.http("ann").refused("heartbeat").code == "METHOD_NOT_SUPPORTED"  # it holds nothing over HTTP
    ann.hang_up(1006)
    assert http.refused("heartbeat").code == "METHOD_NOT_SUPPORTED"  # in its grace period


def test_a_socket_that_resumes_it_sends_its_heartbeats_itself(scene: tuple[World, Client, Client, Http]) -> None:
    world, ann, _, http = scene
    back = world.client().auth("ann", resumeToken=ann.resume_token)
    assert back.session_id == ann.session_id and ann.closed == 4409
    assert http.refused("heartbeat").code == "METHOD_NOT_SUPPORTED"
    assert stream(world, "ann", resumeToken=ann.resume_token).session_id == ann.session_id
    assert http.call("heartbeat")["renewed"] == 1


@pytest.mark.parametrize("beats", [False, True])
def test_a_client_that_has_sent_heartbeats_is_judged_by_them_d4(
    scene: tuple[World, Client, Client, Http], beats: bool
) -> None:
    world, ann, bob, http = scene
    if beats:
        http.call("heartbeat")
    bob.take()
    for _ in range(12):  # its transport lives, which `EventStream` reports so
        world.sleep(10)
        ann.session.activity.note_transport(world.now)
        bob.send(type="heartbeat", status="active")
    left = [event["data"]["reason"] for event in bob.take("user_left")]
    assert (left, ann.closed) == ((["timeout"], 4408) if beats else ([], None))


def test_a_heartbeat_with_a_token_that_ends_later_renews_the_streams_a7(
    scene: tuple[World, Client, Client, Http],
) -> None:
    world, ann, bob, http = scene
    ends_at = world.verifier.expires_at_s
    http.token = "ann:Ann"
    http.call("heartbeat")
    assert ann.take("authenticated") == []  # the same end
    world.verifier.expires_at_s = ends_at + 1000
    http.identity = world.verifier.verify("ann:Ann", world.now)
    http.call("heartbeat")
    (renewed,) = ann.take("authenticated")
    assert (renewed["sessionId"], renewed["rooms"]) == (ann.session_id, [ROOM])
    assert ann.session.identity.expires_at_s == ends_at + 1000
    assert bob.take("user_left", "user_joined") == []


def test_a_restored_owner_knows_streams_n_b() -> None:
    world = World(workers=3)
    streams = {user: stream(world, user) for user in ("ann", "bob", "eve", "tom")}
    user, client = next(
        (user, client) for user, client in streams.items() if world.owner_of(user_id=user).hub is not client.session.hub
    )
    world.kill(world.owner_of(user_id=user))
    world.sleep(1.0)
    assert world.http(user, client.session_id).call("heartbeat")["renewed"] == 1
