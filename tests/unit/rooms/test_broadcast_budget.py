"""The byte budget of broadcasts per room: the largest message passes, and its cost delays the next ones."""

from koko_presence.rooms.broadcast_budget import BroadcastBudget
from tests.world import World


def test_what_is_spent_comes_back_with_time_and_no_more_than_a_seconds_worth() -> None:
    flow = BroadcastBudget(1000, 10.0)
    assert flow.ready_at(10.0) == 10.0
    flow.spend(500, 4, 10.0)
    assert abs(flow.ready_at(10.0) - 11.001) < 1e-9
    assert flow.ready_at(11.1) == 11.1
    flow.spend(900, 1, 100.0)
    assert flow.ready_at(100.0) == 100.0, "one second's worth was saved up"
    flow.spend(100, 1, 100.0)
    assert flow.ready_at(100.0) > 100.0
    assert flow.ready_at(99.0) > 99.0


def test_j_broadcasts_have_a_budget_in_bytes_beside_the_one_in_events() -> None:
    """Broadcasts have a budget in bytes beside the one in events. Ten broadcasts a second of 8 KiB to 500 receivers
    were 40 MB a second, within every limit."""
    world = World(room_broadcast_bytes=40_000)
    people = [world.person(f"user{number}") for number in range(10)]
    large = {"text": "x" * 8000}
    for sender in people[:2]:
        sender.take()
        sender.send(type="broadcast", roomId="video_123", id=1, data=large)
    assert [message["type"] for message in people[0].take("ack", "error")] == ["ack"], (
        "the first goes, whatever its size"
    )
    (error,) = people[1].take("error")
    assert error["code"] == "RATE_LIMITED" and 750 < error["retryAfterMs"] < 850
    world.sleep(error["retryAfterMs"] / 1000)
    people[1].send(type="broadcast", roomId="video_123", id=2, data={"emoji": "+1"})
    assert people[1].take("ack")
