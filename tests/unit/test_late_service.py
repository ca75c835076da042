"""Clients that have lost the connection while the service is behind: a delay of the service causes no leave [D2]."""

from collections.abc import Callable

import pytest

from koko_presence.owner.takeover import RESUME_EXTENSION_S
from koko_presence.rooms.service_delays import AFTERWARDS_S, LONGEST_EXTRA_S
from tests.world import START_S, Client, Node, World

GRACE_S = 5.0


def falls_behind(world: World, node: Node, for_s: float) -> None:
    """Report a delay of `node` for the next `for_s` seconds, four times a second, as a worker does."""
    began = world.now

    def tell() -> None:
        if not node.dead:
            node.bus.note_delay(began, world.now)
            if world.now < began + for_s:
                world.timers.call_later(0.25, tell)

    world.timers.call_later(0.25, tell)


def is_listed(observer: Client, user: str) -> bool:
    observer.join()
    return any(row["userId"] == user for row in observer.last("joined")["room"]["users"])


@pytest.fixture(params=[1, 4], ids=["one worker", "four workers"])
def world(request: pytest.FixtureRequest) -> World:
    return World(workers=request.param, grace_s=GRACE_S)


def test_a_client_that_returns_late_because_of_the_service_has_not_left(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    token = ann.resume_token
    falls_behind(world, next(iter(world.nodes.values())), 20.0)
    ann.hang_up(1006)
    world.sleep(21.0)
    back = world.client().auth("ann", resumeToken=token)
    assert back.last("authenticated")["resumed"] is True
    back.join()
    world.sleep(60.0)
    assert bob.of("user_left") == [] and is_listed(bob, "ann")


@pytest.mark.parametrize("which", range(4))
def test_it_does_not_matter_which_worker_is_behind(which: int) -> None:
    world = World(workers=4, grace_s=GRACE_S)
    ann, bob = world.person("ann"), world.person("bob")
    token = ann.resume_token
    falls_behind(world, list(world.nodes.values())[which], 12.0)
    ann.hang_up(1006)
    world.sleep(13.0)
    assert world.client().auth("ann", resumeToken=token).last("authenticated")["resumed"] is True
    assert bob.of("user_left") == []


def test_a_service_on_time_holds_a_place_for_the_grace_period_and_no_longer(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    ann.hang_up(1006)
    world.sleep(GRACE_S - 0.1)
    assert bob.of("user_left") == []
    world.sleep(0.2)
    assert [event["data"]["reason"] for event in bob.of("user_left")] == ["disconnected"]


def test_a_place_is_free_when_the_service_is_on_time_again_and_the_rest_of_the_grace_period_is_over(
    world: World,
) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    falls_behind(world, next(iter(world.nodes.values())), 10.0)
    ann.hang_up(1006)
    world.sleep(10.0 + AFTERWARDS_S + GRACE_S - 1.0)
    assert bob.of("user_left") == []
    world.sleep(1.5)
    assert len(bob.of("user_left")) == 1
    assert not world.shard.users.get("ann")


def test_no_member_is_held_for_ever_by_a_service_that_is_always_behind(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    falls_behind(world, next(iter(world.nodes.values())), 200.0)
    ann.hang_up(1006)
    world.sleep(GRACE_S + LONGEST_EXTRA_S - 0.5)
    assert bob.of("user_left") == []
    world.sleep(1.0)
    assert len(bob.of("user_left")) == 1


def test_a_leave_is_a_leave_however_late_the_service_is(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    falls_behind(world, next(iter(world.nodes.values())), 20.0)
    world.sleep(3.0)
    ann.hang_up(1000)
    assert [event["data"]["reason"] for event in bob.of("user_left")] == ["left"]


def test_a_lease_ends_when_it_ends(world: World) -> None:
    bob = world.person("bob")
    world.http("ann").call("join", roomId="video_123", roomType="video")
    falls_behind(world, next(iter(world.nodes.values())), 200.0)
    world.sleep(60.0)
    bob.send(type="heartbeat", status="active")
    world.sleep(world.limits.silence_s - 60.0 + 0.5)
    assert [event["data"]["reason"] for event in bob.of("user_left")] == ["timeout"]


@pytest.mark.parametrize("of", ["the room", "the user"])
def test_a_new_owner_holds_the_members_that_the_lost_owner_held(of: str) -> None:
    """A new owner holds the members whose grace period the last owner had extended. The grace period was over by the
    clock when the owner died, and the membership was held because the service was behind."""
    world = World(workers=4, grace_s=GRACE_S)
    ann = world.person("ann")
    owner = world.owner_of(room_id="video_123") if of == "the room" else world.owner_of(user_id="ann")
    other = next(node for node in world.nodes.values() if node is not owner and ann.session.hub is not node.hub)
    bob = Client(world, other.hub).auth("bob").join()
    token = ann.resume_token
    falls_behind(world, other, 20.0)
    ann.hang_up(1006)
    world.sleep(10.0)
    world.kill(owner)
    world.add(9, world.slots[owner.number])  # the replacement becomes the owner in the end
    world.publish()
    world.sleep(5.0)
    assert bob.of("user_left") == []
    back = Client(world, other.hub).auth("ann", resumeToken=token).join()
    assert back.last("authenticated")["resumed"] is True
    world.sleep(60.0)
    assert bob.of("user_left") == [] and is_listed(bob, "ann")


def test_a_ghost_is_not_held_longer_because_its_owner_has_died() -> None:
    world = World(workers=4, grace_s=GRACE_S)
    ann = world.person("ann")
    owner = world.owner_of(user_id="ann")
    other = next(node for node in world.nodes.values() if node is not owner and ann.session.hub is not node.hub)
    bob = Client(world, other.hub).auth("bob").join()
    falls_behind(world, other, 200.0)
    ann.hang_up(1006)
    world.sleep(30.0)
    world.kill(owner)
    world.sleep(GRACE_S + LONGEST_EXTRA_S - 30.0 + 1.0)
    assert len(bob.of("user_left")) == 1


@pytest.mark.parametrize("behind", [False, True])
def test_the_resume_token_of_a_session_lost_with_its_owner_is_accepted_while_the_service_is_behind(
    behind: bool,
) -> None:
    world = World(workers=1, grace_s=GRACE_S)
    ann = world.person("ann")
    token, session_id = ann.resume_token, ann.session_id
    ann.hang_up(1006)
    world.shard.accept_unknown_resumes_for(GRACE_S + RESUME_EXTENSION_S, world.now)
    del world.shard.users["ann"]  # as if its owner and all replicas were lost
    if behind:
        falls_behind(world, next(iter(world.nodes.values())), 20.0)
    world.sleep(15.0)
    back = world.client().auth("ann", resumeToken=token)
    assert (back.session_id == session_id) is behind


def test_a_worker_that_has_not_run_itself_ends_no_grace_before_it_has_read_what_came_meanwhile() -> None:
    world = World(workers=1, grace_s=GRACE_S)
    ann, bob = world.person("ann"), world.person("bob")
    token, looked_at = ann.resume_token, world.now

    def look(now: float) -> None:  # as edge.arrivals does
        world.bus.note_delay(looked_at, now)

    world.bus.before_deadlines = look
    ann.hang_up(1006)
    looked_at = world.now
    world.timers.now += 30.0  # the worker gets no CPU time
    world.settle()  # timers fire before anything is read
    assert world.client().auth("ann", resumeToken=token).last("authenticated")["resumed"] is True
    assert bob.of("user_left") == []


@pytest.mark.parametrize("behind", [False, True])
def test_the_auth_timeout_is_extended_while_the_service_is_behind(behind: bool) -> None:
    world = World(workers=1)
    if behind:
        world.hub.delays.note(START_S, START_S + 30.0)
    client = world.client()
    world.sleep(world.limits.auth_timeout_s + 1.0)
    assert client.closed == (None if behind else 4408)
    if behind:
        world.sleep(30.0 + AFTERWARDS_S)
        assert client.closed == 4408


def waits(seconds: float) -> Callable[[float], float]:
    return lambda now: seconds


def test_a_client_that_returns_to_a_room_takes_precedence_over_new_ones() -> None:
    world = World(workers=1)
    ann = world.person("ann")
    token = ann.resume_token
    ann.hang_up(1006)
    world.hub.waits_for = waits(3.0)
    new, back = world.client().auth("new"), world.client().auth("ann", resumeToken=token)
    assert new.join().last("error")["code"] == "RATE_LIMITED"
    assert back.join().last("joined")["roomId"] == "video_123"
    assert back.join("video_2").last("joined")["roomId"] == "video_2", "it is inside again"
    world.hub.waits_for = waits(0.0)
    assert new.join().last("joined")["roomId"] == "video_123"
