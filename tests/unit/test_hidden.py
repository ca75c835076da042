"""Who is invisible cannot be found out [K7]: random stories in two worlds, with and without them (tests/two_worlds.py), and
with somebody who goes invisible in place of leaving [K2]. KOKO_HIDDEN_SEEDS says how many seeds are played (120: about three
seconds, a quarter of them in `make test`). ROOM_FULL [C8] and what is asked for under load [N17] may differ, and no story gets there.

Each kind of trace has a test that it would be found: a fault is planted, and some seed finds it.
"""

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

from koko_presence.rooms import colors, lifetime, presence_state, snapshot_view
from koko_presence.rooms.member import Person
from koko_presence.rooms.room import Room
from koko_presence.rooms.room_state import RoomState
from tests.two_worlds import complain, difference, story_of

pytestmark = pytest.mark.deep
SEEDS = int(os.environ.get("KOKO_HIDDEN_SEEDS", "120"))
STEPS = 60
CHUNKS = 4


@pytest.fixture(autouse=True)
def collected_at_the_end() -> Iterator[None]:
    """A world is one great cycle: looking for those again and again takes a fifth of the time."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


@pytest.mark.parametrize("chunk", [0, *(pytest.param(more, marks=pytest.mark.long) for more in range(1, CHUNKS))])
def test_nobody_gets_a_byte_more_or_less_for_those_who_are_invisible(chunk: int) -> None:
    for seed in range(1 + chunk, 1 + SEEDS, CHUNKS):
        complaint = complain(*story_of(seed, STEPS))
        assert not complaint, f"seed {seed}, {complaint}"


def found() -> bool:
    return any(difference(*story_of(seed, STEPS)) for seed in range(1, 161))


@pytest.mark.long
def test_numbers_that_go_on_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    reset = lifetime._reset

    def keep_the_numbers(room: Room, *args: Any) -> None:
        before = room.seq
        reset(room, *args)
        room.seq = before

    monkeypatch.setattr(lifetime, "_reset", keep_the_numbers)
    assert found()


@pytest.mark.long
def test_a_type_that_only_the_invisible_know_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RoomState, "type_for", lambda room, person: room.type)
    assert found()


@pytest.mark.long
def test_an_age_that_only_the_invisible_know_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = lifetime.begin

    def keep_the_age(room: Room, *args: Any, **more: Any) -> None:
        before = room.created_at
        begin(room, *args, **more)
        room.created_at = before

    monkeypatch.setattr(lifetime, "begin", keep_the_age)
    assert found()


@pytest.mark.long
def test_a_room_that_the_invisible_keep_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    note = lifetime.note_removal

    def note_the_last(room: Room, *args: Any, **more: Any) -> None:
        if not room.members:
            note(room, *args, **more)

    monkeypatch.setattr(lifetime, "note_removal", note_the_last)
    assert found()


@pytest.mark.long
def test_a_colour_that_is_skipped_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Room, "_colors_taken", lambda self, but: {m.color for m in self.members.values() if m is not but}
    )
    monkeypatch.setattr(colors, "PALETTE", colors.PALETTE[:2])  # or it would take many people
    assert found()


@pytest.mark.long
def test_a_count_of_the_invisible_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Person, "visible_count", property(lambda self: len(self.members)))
    assert found()


@pytest.mark.long
def test_a_row_of_the_invisible_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wall_row = snapshot_view.outside_rows

    def with_all(room: Room) -> Any:
        wall = room.context.wall
        return [
            *wall_row(room),
            *(m.row(room.id, room.type, wall, full=False, own=False) for m in room.members.values() if not m.visible),
        ]

    monkeypatch.setattr(snapshot_view, "outside_rows", with_all)
    assert found()


@pytest.mark.long
def test_what_is_kept_for_later_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    selection = presence_state.COALESCED_VALUES["selection"]
    monkeypatch.setattr(selection, "public", False)
    monkeypatch.setattr(selection, "apply", lambda room, member, value, now: setattr(member, "selection", value))
    assert found()


@pytest.mark.long
def test_a_place_in_the_list_from_before_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Room._reveal_member

    def stay_in_place(self: Room, member: Any, now: float) -> None:
        before = list(self.members)
        show(self, member, now)
        for session_id in before:
            self.members[session_id] = self.members.pop(session_id)

    monkeypatch.setattr(Room, "_reveal_member", stay_in_place)
    assert found()
