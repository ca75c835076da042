"""Name and image of a user: those of the newest token, in all rooms and sessions, over every way in [A5]."""

from typing import Any

from tests.world import Client, World


def changes(client: Client) -> list[dict[str, Any]]:
    return [event["data"] for event in client.take("user_changed")]


def names(client: Client, room: str = "video_123") -> dict[str, str]:
    """The names by session in a snapshot that the client gets anew."""
    client.join(room)
    return {row["sessionId"]: row["name"] for row in client.last("joined")["room"]["users"]}


def renew(client: Client, token: str) -> None:
    client.send({"type": "auth", "token": token})


def test_a_new_name_is_shown_to_all_at_once_in_all_rooms_and_to_later_joiners() -> None:
    world = World()
    world.verifier.images = {"Anna": "https://a.example/a.png"}
    ann, bob, cid = world.person("ann"), world.person("bob"), world.person("cid", "video_2")
    ann.join("video_2")
    ann.take()
    bob.take()
    cid.take()
    renew(ann, "ann:Anna")
    (event,) = bob.take()
    assert (event["type"], event["userId"], event["sessionId"]) == ("user_changed", "ann", ann.session_id)
    assert (
        event["data"] == {"name": "Anna", "image": "https://a.example/a.png"}
        and event["seq"] == bob.last("joined")["seq"] + 1
    )
    assert changes(cid) == [event["data"]] and len(changes(ann)) == 2, "its own session gets it, too"
    dan = world.person("dan")
    (row,) = [row for row in dan.last("joined")["room"]["users"] if row["userId"] == "ann"]
    assert (row["name"], row["image"]) == ("Anna", "https://a.example/a.png")
    ann.join("video_3")
    ann.send(type="leave", roomId="video_123")
    ann.join()
    assert bob.last("user_joined")["data"]["name"] == "Anna"
    renew(ann, "ann:Anna")
    assert not changes(bob), "nothing has changed"


def test_an_image_that_is_gone_is_left_out() -> None:
    world = World()
    world.verifier.images = {"Anna": "https://a.example/a.png"}
    ann, bob = world.person("ann:Anna"), world.person("bob")
    del world.verifier.images["Anna"]
    renew(ann, "ann:Anna")
    assert changes(bob) == [{"name": "Anna"}]


def test_all_sessions_of_a_user_have_the_name_of_the_newest_token() -> None:
    world = World()
    phone, laptop, bob = world.person("ann:Ann@10"), world.person("ann:Ann@10"), world.person("bob")
    renew(laptop, "ann:Anna@20")
    assert changes(bob) == [{"name": "Anna"}]
    assert set(names(bob).values()) == {"Anna", "Bob"}
    renew(phone, "ann:Ann@10")
    phone.join("video_2")
    assert not changes(bob), "an older token of another tab"
    renew(phone, "ann:Annabel@30")
    assert changes(bob) == [{"name": "Annabel"}]


def test_of_two_tokens_of_one_second_the_one_received_last_counts_and_a_join_does_not_go_back() -> None:
    world = World()
    phone, laptop, bob = world.person("ann:Ann@10"), world.person("ann:Ann@10"), world.person("bob")
    renew(laptop, "ann:Anna@10")
    assert changes(bob) == [{"name": "Anna"}]
    phone.join("video_2")
    assert not changes(bob)


def test_a_token_without_a_name_says_nothing_of_it() -> None:
    world = World()
    ann, bob = world.person("ann:Anna"), world.person("bob")
    renew(ann, "ann")
    world.http("ann").call("join", roomId="video_123", roomType="video")
    assert not changes(bob) and bob.last("user_joined")["data"]["name"] == "Anna"


def test_a_session_that_resumes_with_a_fresh_token_shows_its_name() -> None:
    world = World()
    ann, bob = world.person("ann:Ann"), world.person("bob")
    ann.hang_up(1006)
    bob.take()
    back = world.client()
    back.send({"type": "auth", "token": "ann:Anna", "resumeToken": ann.resume_token})
    assert back.last("authenticated")["resumed"]
    assert [event["type"] for event in bob.take()] == ["status_changed", "user_changed"]
    assert set(names(bob).values()) == {"Anna", "Bob"} == set(names(back).values())


def test_a_name_that_a_hidden_session_brings_is_shown_at_a_lost_one_that_others_see() -> None:
    world = World()
    phone, laptop, bob = world.person("ann:Ann"), world.person("ann:Ann"), world.person("bob")
    laptop.send({"type": "privacy", "data": {"invisible": True}})
    phone.hang_up(1006)
    bob.take()
    renew(laptop, "ann:Anna")
    assert changes(bob) == [{"name": "Anna"}] and set(names(bob).values()) == {"Anna", "Bob"}


def test_one_who_resumes_sees_the_name_that_has_come_meanwhile() -> None:
    world = World()
    ann, bob = world.person("ann:Ann"), world.person("bob")
    bob.hang_up(1006)
    renew(ann, "ann:Anna")
    back = world.client()
    back.send({"type": "auth", "token": "bob", "resumeToken": bob.resume_token})
    assert set(names(back).values()) == {"Anna", "Bob"}


def test_joins_and_heartbeats_over_http_bring_the_name_of_their_token() -> None:
    world = World()
    bob = world.person("bob")
    world.http("ann:Ann@10").call("join", roomId="video_123", roomType="video")
    bob.take()
    world.http("ann:Anna@20").call("heartbeat", roomId="video_123")
    assert changes(bob) == [{"name": "Anna"}]
    world.http("ann:Annabel@30").call("join", roomId="video_123", roomType="video")
    assert changes(bob) == [{"name": "Annabel"}]
    world.http("ann:Ann@10").call("heartbeat", roomId="video_123")
    assert not changes(bob)


def test_a_lost_session_is_shown_with_a_name_that_comes_from_elsewhere() -> None:
    world = World()
    ann, bob = world.person("ann:Ann@10"), world.person("bob")
    ann.hang_up(1006)
    bob.take()
    world.http("ann:Anna@20").call("join", roomId="video_2", roomType="video")
    assert changes(bob) == [{"name": "Anna"}]


def test_a_waiting_request_for_control_has_the_new_name() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob:Bob")
    ann.send(type="control_request", roomId="video_123")
    bob.send(type="control_request", roomId="video_123")
    renew(bob, "bob:Robert")
    names(ann)
    assert [each["requesterName"] for each in ann.last("joined")["room"]["controlRequests"]] == ["Robert"]


def test_the_new_name_of_an_invisible_user_is_seen_when_the_user_is() -> None:
    world = World()
    ann, tab, bob = world.person("ann:Ann@10"), world.person("ann:Ann@10"), world.person("bob")
    for each in (ann, tab):
        each.send(type="privacy", data={"invisible": True})
        each.take()
    bob.take()
    renew(ann, "ann:Anna@20")
    assert not bob.take() and changes(tab) == [{"name": "Anna"}]
    ann.send(type="privacy", data={"invisible": False})
    assert bob.take()[0]["data"]["name"] == "Anna"


def test_the_own_tabs_of_a_hidden_user_get_the_name_that_comes_from_elsewhere() -> None:
    world = World()
    ann, bob = world.person("ann:Ann@10"), world.person("bob")
    ann.send(type="privacy", data={"invisible": True, "scope": "user"})
    ann.take()
    bob.take()
    world.http("ann:Anna@20").call("join", roomId="video_2", roomType="video")
    assert changes(ann) == [{"name": "Anna"}] and not bob.take()
