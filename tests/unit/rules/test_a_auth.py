"""Decisions A: identity and authentication."""

from koko_presence.auth.hmac_jwt import ResumeTokens
from tests.world import SECRET, UNIX_START_S, World


def test_a1_auth_is_answered_with_everything_a_client_needs() -> None:
    client = World().client().auth("ann", id=7)
    (reply,) = client.take()
    assert reply["type"] == "authenticated" and reply["id"] == 7
    assert reply["userId"] == "ann" and reply["sessionId"] == "session_1" and reply["resumed"] is False
    assert reply["heartbeatInterval"] == 30 and reply["serverTime"] == int(UNIX_START_S * 1000)
    assert reply["limits"]["maxUsersPerRoom"] == 100
    assert ResumeTokens(SECRET).read(reply["resumeToken"], "ann", UNIX_START_S) == "session_1"


def test_a1_a_refused_token_gets_an_error_and_4401() -> None:
    client = World().client().auth("bad")
    (error,) = client.take()
    assert error["code"] == "UNAUTHENTICATED" and "it is bad" in error["message"]
    assert client.closed == 4401


def test_a1_not_authenticated_within_10_s_is_4408() -> None:
    world = World()
    client = world.client()
    world.sleep(9.9)
    assert client.closed is None
    world.sleep(0.2)
    assert client.closed == 4408


def test_a1_an_authenticated_session_outlives_the_auth_timeout() -> None:
    world = World()
    client = world.client().auth("ann")
    world.sleep(20)
    assert client.closed is None


def test_a2_messages_before_auth_are_refused_and_the_third_closes() -> None:
    client = World().client()
    for count in (1, 2, 3):
        assert client.closed is None
        client.join()
        assert [message["code"] for message in client.take()] == ["UNAUTHENTICATED"], count
    assert client.closed == 4401


def test_a2_messages_before_auth_are_never_queued() -> None:
    world = World()
    client = world.client().join().auth("ann")
    assert [message["type"] for message in client.take()] == ["error", "authenticated"]
    assert not world.shard.rooms


def test_a3_the_session_id_is_the_servers_and_the_same_in_all_rooms() -> None:
    world = World()
    client = world.client().auth("ann", sessionId="mine").join("video_1").join("video_2")
    assert client.session_id == "session_1"
    assert {message["sessionId"] for message in client.of("joined")} == {"session_1"}


def test_a4_a_second_auth_of_the_same_user_refreshes() -> None:
    world = World()
    world.verifier.expires_at_s = int(UNIX_START_S) + 100
    client = world.person("ann")
    world.verifier.expires_at_s = int(UNIX_START_S) + 10_000
    client.auth("ann", id="again")
    (reply,) = client.take("authenticated")
    assert reply["id"] == "again" and reply["sessionId"] == "session_1"
    for _ in range(5):
        world.sleep(60)
        client.send(type="heartbeat", status="active")
    assert client.closed is None


def test_a4_another_users_token_changes_nothing() -> None:
    client = World().person("ann")
    client.auth("bob")
    (error,) = client.take()
    assert error["code"] == "ALREADY_AUTHENTICATED" and client.closed is None
    client.send(type="heartbeat")
    assert client.take("pong")


def test_a4_a_refused_refresh_leaves_the_session_alone() -> None:
    client = World().person("ann")
    client.auth("bad")
    assert client.take("error") and client.closed is None


def test_a5_name_and_image_come_from_the_token_alone() -> None:
    world = World()
    watcher = world.person("watcher")
    world.client().auth("ann:Ann Real").join(name="Forged", image="https://forged", data={"name": "Forged"})
    (event,) = watcher.take("user_joined")
    assert event["data"]["name"] == "Ann Real" and "image" not in event["data"]


def test_a7_expiry_warns_60_s_before_and_cuts_30_s_after() -> None:
    world = World()
    world.verifier.expires_at_s = int(UNIX_START_S) + 200
    client = world.person("ann")

    def wait(seconds: float) -> None:
        world.sleep(seconds)
        client.send(type="heartbeat")

    wait(60)
    wait(60)
    assert not client.take("auth_expiring")
    wait(21)
    (warning,) = client.take("auth_expiring")
    assert warning["expiresAt"] == "2025-01-15T10:33:20.000Z"
    wait(60)
    wait(25)
    assert client.closed is None
    world.sleep(5)
    assert client.closed == 4401
    assert client.last("error")["code"] == "UNAUTHENTICATED"


def test_a7_a_refresh_after_the_warning_keeps_the_session_and_warns_again_later() -> None:
    world = World()
    world.verifier.expires_at_s = int(UNIX_START_S) + 70
    client = world.person("ann")
    world.sleep(36)
    assert client.take("auth_expiring")
    world.verifier.expires_at_s = int(UNIX_START_S) + 170
    client.auth("ann")
    world.sleep(73)
    assert client.closed is None and not client.take("auth_expiring")
    client.send(type="heartbeat")
    world.sleep(2)
    assert client.take("auth_expiring")


def test_a7_a_token_that_lives_a_minute_is_warned_at_half_of_what_is_left() -> None:
    world = World()
    world.verifier.expires_at_s = int(UNIX_START_S) + 60
    client = world.person("ann")
    world.sleep(29)
    assert not client.take("auth_expiring")
    world.sleep(2)
    (warning,) = client.take("auth_expiring")
    assert warning["expiresAt"] == "2025-01-15T10:31:00.000Z"
    client.auth("ann")  # the same token, as from a cache: 29 s are left
    world.sleep(14)
    assert not client.take("auth_expiring")
    world.sleep(1)
    assert client.take("auth_expiring") and client.closed is None


def test_a7_after_the_cut_a_fresh_token_brings_back_session_colour_and_control() -> None:
    world = World()
    watcher = world.person("ben")
    world.verifier.expires_at_s = int(UNIX_START_S) + 60
    client = world.client().auth("ann").join()
    session, color = client.session_id, client.last("joined")["assignedColor"]
    client.send(type="control_request", roomId="video_123")
    for _ in range(3):
        world.sleep(30)
        watcher.send(type="heartbeat")
        client.send(type="heartbeat")
    assert client.closed == 4401
    world.verifier.expires_at_s = int(UNIX_START_S) + 150
    watcher.take()
    world.sleep(4)
    again = world.client().auth("ann", resumeToken=client.resume_token).join()
    hello, joined = again.last("authenticated"), again.last("joined")
    assert (hello["resumed"], hello["sessionId"], joined["assignedColor"]) == (True, session, color)
    assert joined["room"]["controller"] == "ann"
    assert {message["type"] for message in watcher.take()} <= {"status_changed", "pong"}
