"""Events that wait for delivery, on a fake clock: batches by count and time, pauses before a retry, bounds."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from koko_presence.protocol.webhook_events import (
    WEBHOOK_EVENT_TYPES,
    AnyWebhookEvent,
    RoomCounts,
    RoomCreated,
    RoomEmptied,
    UserEntered,
    UserLeft,
)
from koko_presence.webhooks.delivery_queue import RETRY_FIRST_S, RETRY_LONGEST_S, WebhookQueue

EMPTY = RoomCounts(users=0, sessions=0, visible_users=0, visible_sessions=0)


def event(number: int) -> AnyWebhookEvent:
    return RoomCreated(id=f"evt_{number}", timestamp="", room_id="r", room_type="video", room=EMPTY)


def queue(chance: float = 1.0, **changes: Any) -> WebhookQueue:
    options = {"limit": 10, "batch_events": 3, "batch_s": 1.0, "tries": 4} | changes
    return WebhookQueue(**options, chance=lambda: chance)


def ids(of: WebhookQueue) -> list[str]:
    return [each.id for each in of.take()]


def test_m10_a_batch_is_due_when_its_first_event_is_a_second_old_or_when_it_is_full() -> None:
    q = queue()
    assert q.due_at() is None
    q.put(event(1), 100.0)
    q.put(event(2), 100.5)
    assert q.due_at() == 101.0
    assert q.due_at(hurry=True) == 100.0
    q.put(event(3), 100.6)
    assert q.due_at() == 100.0
    assert ids(q) == ["evt_1", "evt_2", "evt_3"]


def test_m10_the_next_batch_waits_for_the_one_that_is_tried_again() -> None:
    q = queue()
    for number in range(5):
        q.put(event(number), 100.0)
    first = ids(q)
    assert not q.failed(101.0)
    assert ids(q) == first, "the same again, and nothing that came later with it"
    q.succeeded()
    assert ids(q) == ["evt_3", "evt_4"]
    q.succeeded()
    assert (q.delivered, q.given_up, q.dropped, len(q), q.due_at()) == (5, 0, 0, 0, None)


def test_m10_pauses_double_up_to_a_minute_and_any_part_of_them_is_as_likely() -> None:
    for chance in (0.0, 0.25, 1.0):
        q = queue(chance, tries=20)
        q.put(event(1), 0.0)
        q.take()
        pauses = []
        for _ in range(10):
            assert not q.failed(1000.0)
            pauses.append((q.due_at() or 0.0) - 1000.0)
        longest = [min(RETRY_LONGEST_S, RETRY_FIRST_S * 2**n) for n in range(10)]
        assert pauses == [chance * pause for pause in longest] and longest[-1] == 60.0


def test_m10_undelivered_events_of_a_worker_are_sent_first_by_its_successor_and_not_counted_as_lost() -> None:
    """A successor sends the undelivered events of a worker before its own. 160 events were lost with the workers that a
    rolling reload replaced, and not counted."""
    old, new = queue(), queue(batch_events=10)
    for number in range(5):
        old.put(event(number), 0.0)
    old.take()
    waiting = old.take_waiting()
    assert [each.id for each in waiting] == ["evt_3", "evt_4"] and len(old) == 3
    rest = old.take_all()
    assert [each.id for each in rest] == ["evt_0", "evt_1", "evt_2"] and len(old) == 0
    assert (old.delivered, old.given_up, old.dropped) == (0, 0, 0)
    new.put(event(9), 1.0)
    new.take_over(waiting, 2.0)
    new.take_over(rest, 3.0)
    assert ids(new) == [f"evt_{number}" for number in (0, 1, 2, 3, 4, 9)]


def test_m10_what_is_taken_over_is_bounded_too() -> None:
    q = queue(limit=4)
    q.put(event(9), 1.0)
    q.take_over([event(number) for number in range(6)], 2.0)
    assert len(q) == 4 and q.dropped == 3


def test_m10_after_its_last_try_a_batch_is_given_up_and_the_next_one_has_all_its_tries() -> None:
    q = queue(batch_events=1, tries=3)
    for number in range(2):
        q.put(event(number), 0.0)
    for number in range(2):
        assert ids(q) == [f"evt_{number}"]
        assert [q.failed(1.0), q.failed(2.0), q.failed(3.0)] == [False, False, True]
    assert (q.delivered, q.given_up, len(q)) == (0, 2, 0)


def test_m10_the_oldest_of_too_many_is_dropped_and_counted() -> None:
    q = queue(limit=4)
    q.put(event(0), 0.0)
    assert ids(q) == ["evt_0"], "under way, and so not among those that may be dropped"
    for number in range(1, 8):
        q.put(event(number), 0.0)
    assert (q.dropped, len(q)) == (3, 5)
    q.succeeded()
    assert ids(q) == ["evt_4", "evt_5", "evt_6"]
    assert q.drop_all() == 4 and q.dropped == 7 and q.due_at() is None


@given(st.lists(st.sampled_from(["put", "tell", "fail"]), max_size=60))
def test_m10_every_event_is_delivered_given_up_or_dropped_once_and_in_order(story: list[str]) -> None:
    q, put, told = queue(limit=5, tries=2), 0, []
    for step in story:
        if step == "put":
            q.put(event(put), 0.0)
            put += 1
        elif q.due_at() is not None:
            batch = [int(each.id.removeprefix("evt_")) for each in q.take()]
            if step == "tell":
                told += batch
                q.succeeded()
            else:
                q.failed(0.0)
        assert q.delivered + q.given_up + q.dropped + len(q) == put
        assert len(q) <= 5 + 3
    assert told == sorted(set(told)) and len(told) == q.delivered


def test_every_type_of_event_has_its_name_in_the_configuration() -> None:
    assert {kind.__struct_config__.tag for kind in (RoomCreated, UserEntered, UserLeft)} < set(WEBHOOK_EVENT_TYPES)
    assert {kind.__struct_config__.tag for kind in AnyWebhookEvent.__args__} == set(WEBHOOK_EVENT_TYPES)  # type: ignore[attr-defined]


def about(user_id: str, number: int, kind: Any = UserEntered, room_id: str = "r") -> AnyWebhookEvent:
    fields: dict[str, Any] = {"reason": "left"} if kind is UserLeft else {}
    return kind(
        id=f"{user_id}_{number}", timestamp="", room_id=room_id, room_type="video", room=EMPTY, user_id=user_id,
        session_id="s", name="", invisible=False, session_count=1, **fields,
    )  # type: ignore[no-any-return]  # fmt: skip


def test_m10_a_flood_of_joins_and_leaves_by_one_user_drops_that_users_events_first() -> None:
    q = queue(limit=10, batch_events=10)
    for number in range(4):
        q.put(about(f"user{number}", number), 1.0)
    for number in range(1000):
        q.put(about("mallory", number, UserLeft if number % 2 else UserEntered), 2.0)
    assert q.dropped == 994
    assert ids(q) == ["user0_0", "user1_1", "user2_2", "user3_3"] + [f"mallory_{n}" for n in range(994, 1000)]


def test_m10_room_events_count_for_the_user_that_causes_them() -> None:
    q = queue(limit=20, batch_events=20)
    others = [f"user{number}_{number}" for number in range(10)]
    for number in range(10):
        q.put(about(f"user{number}", number), 1.0)
    for number in range(500):
        room = f"made_{number}"
        q.put(RoomCreated(id=f"c{number}", timestamp="", room_id=room, room_type="video", room=EMPTY), 2.0)
        q.put(about("mallory", number, room_id=room), 2.0)
        q.put(about("mallory", number, UserLeft, room_id=room), 2.0)
        q.put(RoomEmptied(id=f"e{number}", timestamp="", room_id=room, room_type="video", room=EMPTY), 2.0)
    assert ids(q)[:10] == others and len(q) == 20


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 6))
def test_m10_a_dropped_event_is_always_of_a_user_with_the_most(steps: list[tuple[str, bool]], limit: int) -> None:
    q, model = queue(limit=limit, batch_events=1), list[str]()
    for number, (user, taken) in enumerate(steps):
        if taken and model:
            assert ids(q) == [model.pop(0)]
            q.succeeded()
        else:
            q.put(about(user, number), 1.0)
            model.append(f"{user}_{number}")
            if len(model) > limit:
                counts = {each: sum(one[0] == each for one in model) for each in "abc"}
                kept = _left_of(q)
                (gone,) = set(model) - set(kept)
                most = max(counts.values())
                assert counts[gone[0]] == most and (most == 1) <= (gone == model[0])
                assert gone == next(one for one in model if one[0] == gone[0])
                model = kept
    assert _left_of(q) == model


def _left_of(q: WebhookQueue) -> list[str]:
    return [entry[0].id for entry in q._waiting._entries.values()]


def test_a_webhook_that_keeps_up_loses_nothing_while_memory_is_short() -> None:
    """A webhook that keeps up loses no event while memory is short. All waiting events were dropped, ten times a second
    as long as memory was short, and every event waits for a second: in a container that is always 86 % full the
    application received none any more."""
    q = queue(limit=100)
    for number in range(3):
        q.put(event(number), 100.0)
    assert q.shed() == 0 and ids(q) == ["evt_0", "evt_1", "evt_2"]
    for number in range(3, 20):  # the batch hangs
        q.put(event(number), 101.0)
    assert q.shed() == 14 and (q.dropped, len(q)) == (14, 6)
    assert q.shed() == 0
    q.succeeded()
    assert ids(q) == ["evt_17", "evt_18", "evt_19"], "the newest are kept"
