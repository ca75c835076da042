"""Invisible users leave no trace [K7]: random stories in two worlds, with and without them (tests/two_worlds.py), and
with a person who becomes invisible instead of leaving [K2]. KOKO_HIDDEN_SEEDS is the number of stories (120: about
three seconds, a quarter of them in `make test`). ROOM_FULL [C8] and the advised rates under load [N17] may differ; no
story reaches them.

For each kind of trace a test plants a fault and asserts that some seed finds it.
"""

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

from koko_presence.owner import room_watchers
from koko_presence.protocol.models import RoomType
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
    """Run one garbage collection at the end: a world is one large reference cycle, and searching for cycles takes a
    fifth of the time."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


@pytest.mark.parametrize("chunk", [0, *(pytest.param(more, marks=pytest.mark.long) for more in range(1, CHUNKS))])
def test_no_client_gets_a_byte_more_or_less_because_of_invisible_users(chunk: int) -> None:
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
def test_a_room_type_set_by_invisible_members_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RoomState, "type_for", lambda room, person: room.type)
    assert found()


@pytest.mark.long
def test_a_room_age_that_includes_invisible_members_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(colors, "PALETTE", colors.PALETTE[:2])  # with the full palette it would take many people
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
def test_an_earlier_position_in_the_list_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Room._reveal_member

    def stay_in_place(self: Room, member: Any, now: float) -> None:
        before = list(self.members)
        show(self, member, now)
        for session_id in before:
            self.members[session_id] = self.members.pop(session_id)

    monkeypatch.setattr(Room, "_reveal_member", stay_in_place)
    assert found()


@pytest.mark.long
def test_a_summary_that_counts_the_invisible_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = snapshot_view.summary

    def with_all(room_id: str, room: RoomState | None, room_type: RoomType | None) -> Any:
        row = summary(room_id, room, room_type)
        row.user_count = 0 if room is None else len(room.people)
        return row

    monkeypatch.setattr(room_watchers, "summary", with_all)
    assert found()
