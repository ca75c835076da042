"""Stories of workers that crash, stop, are reloaded and cut off from each other (tests/sim.py): from seeds, and scripts
of former failures in tests/stories. `make test` plays 200 seeds, `make test-long` those up to 1,000; KOKO_SIM_SEEDS=N
has the former play N.

For each invariant a test plants a fault and asserts that some seed finds it.
"""

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, structs

from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.owner import reconcile
from koko_presence.owner.room_watchers import RoomWatchers
from koko_presence.owner.shard import Shard
from koko_presence.protocol.commands import ChangeStatus, EnterRoom, RemoveMember, UserInfo
from koko_presence.protocol.events import UserChanged
from koko_presence.protocol.settings import NO_SETTINGS, merged
from koko_presence.rooms import playback_sync, presence_state, room, room_settings, webhook_recorder
from koko_presence.rooms.context import ShardContext
from koko_presence.rooms.member import Member
from koko_presence.server.reauthorization import Reauthorization
from koko_presence.server.room_summaries import RoomSummaries
from koko_presence.users import member_confirmation
from koko_presence.users.user import User
from tests import witness
from tests.crowd import Person
from tests.script import Script, load, write
from tests.shrink import shrink
from tests.sim import Broken, Story, complaint_of

SEEDS = int(os.environ.get("KOKO_SIM_SEEDS", "200"))
MOST_SEEDS = 1000
CHUNKS = 20
STORIES = Path(__file__).parents[1] / "stories"
SCRIPTS = {path.stem: load(path) for path in sorted(STORIES.glob("*.json"))}


@pytest.fixture(autouse=True)
def collected_at_the_end() -> Iterator[None]:
    """Run one garbage collection at the end: a world is one large reference cycle, and searching for cycles takes a
    fifth of the time."""
    gc.disable()
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # calls still pending when a story was aborted
        gc.collect()
    gc.enable()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_seeds(chunk: int) -> None:
    """For a broken seed, `python -m tests.sim --shrink SEED` prints a short script, and `--story FILE` its log."""
    play(range(1 + chunk, 1 + SEEDS, CHUNKS))


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_more_seeds(chunk: int) -> None:
    play(range(1 + SEEDS + chunk, 1 + MOST_SEEDS, CHUNKS))


@pytest.mark.deep
@pytest.mark.parametrize("silent_s", [1.003, pytest.param(3.0, marks=pytest.mark.long)])
def test_seeds_in_which_the_supervisor_is_stopped_when_workers_die(silent_s: float) -> None:
    """The surviving workers make views of their own, shortly before those of the supervisor arrive, or long before."""
    took_over = 0
    for seed in range(1, 9):
        story = Story(replace(write(seed), silent_s=silent_s))
        story.run()
        took_over += any("goes on without the dead" in line for line in story.lines)
    assert took_over


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_more_seeds_in_which_the_supervisor_is_stopped(chunk: int) -> None:
    for seed in range(1 + chunk, 1 + MOST_SEEDS, CHUNKS):
        Story(replace(write(seed), silent_s=(0.5, 1.003, 1.2, 3.0)[seed % 4])).run()


def play(seeds: range) -> None:
    for seed in seeds:
        Story(seed).run()


@pytest.mark.deep
@pytest.mark.parametrize("name", SCRIPTS)
def test_what_once_went_wrong(name: str) -> None:
    Story(SCRIPTS[name][0]).run()


@pytest.mark.long
def test_the_same_seed_plays_the_same_story_in_any_process() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", "from tests.sim import Story; print(Story(7).run(), Story(8).run())"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": hash_seed}
        )
        digests.add(done.stdout)
    assert len(digests) == 1 and len(digests.pop().split()[0]) == 64


def test_different_seeds_play_different_stories() -> None:
    assert Story(7).run() != Story(8).run()


def test_a_script_from_disk_is_the_one_that_was_written(tmp_path: Path) -> None:
    script = write(7)
    (tmp_path / "x.json").write_text(script.dump(about="x"))
    assert load(tmp_path / "x.json") == (script, {"about": "x"})


def test_chance_values_do_not_change() -> None:
    """Scripts on disk rely on these values."""
    script = Script(workers=2, people=1, salt=7, actions=[])
    assert [round(script.chance("link", 0, 1, n), 6) for n in range(3)] == [0.570924, 0.262971, 0.67251]


def found(match: str, seeds: range = range(1, 40)) -> None:
    """Assert that one of these seeds finds a planted fault, by the invariant whose text matches."""
    with pytest.raises(Broken, match=match):
        for seed in seeds:
            Story(seed).run()


def without_a_word(self: Person) -> None:
    self.wants.clear()
    self.token = None


@pytest.mark.long
def test_a_script_is_shrunk_to_what_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a closed tab sends no leave to the server. A join and a close suffice to show it."""
    monkeypatch.setattr(Person, "go", without_a_word)
    seed = next(seed for seed in range(1, 40) if complaint_of(write(seed)) is not None)
    shortest = shrink(write(seed))
    assert shortest is not None
    script, complaint = shortest
    assert complaint_of(script) == complaint
    assert [action[1] for action in script.actions if action[0].startswith("p")] == ["join", "go"]
    assert script.workers == 2 and len(script.actions) <= 4


@pytest.mark.deep
def test_nothing_is_left_of_a_script_without_a_fault_to_shrink() -> None:
    assert shrink(write(7, steps=3)) is None


@pytest.mark.long
def test_a_ghost_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a closed tab sends no leave to the server, so that its member stays in the rooms."""
    monkeypatch.setattr(Person, "go", without_a_word)
    found(r"but there are|sees")


@pytest.mark.long
def test_a_lease_that_ends_too_early_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: in the room a lease ends 88 of its 90 s early."""
    extend_lease = room.Room.extend_lease

    def hasty(self: room.Room, member: Any, lease_until: float) -> None:
        extend_lease(self, member, lease_until - 88.0 if lease_until else 0.0)

    monkeypatch.setattr(room.Room, "extend_lease", hasty)
    found("but there are|holds")


@pytest.mark.long
def test_a_status_that_is_lost_with_its_owner_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: neither the users' replicas nor the rooms hold what users have set."""
    whole = reconcile.user_record
    monkeypatch.setattr(reconcile, "user_record", lambda user: structs.replace(whole(user), manual=None))
    monkeypatch.setattr(member_confirmation, "reconcile_shown", lambda user, command: None)
    found("with a worker went|shows|its owner has")


def test_a_former_status_that_comes_back_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: the user's owner does not know when the status was set."""
    change_status = User.change_status

    def forgetful(self: User, command: ChangeStatus) -> dict[str, object]:
        self.status_at = 0.0
        return change_status(self, command)

    monkeypatch.setattr(User, "change_status", forgetful)
    script, _ = SCRIPTS["status_repeated_behind_a_later_one"]
    assert "its owner has ('busy', 'old')" in (complaint_of(script) or "")


@pytest.mark.long
def test_a_snapshot_again_and_again_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: an edge requests a snapshot of a room with every flush of it."""
    on_flush = ClusterBus._on_flush

    def asking(self: ClusterBus, sender: int, body: bytes, now: float) -> None:
        on_flush(self, sender, body, now)
        for room_id in list(self.edge.subscriptions):
            self.fence.refresh(room_id, self.me, now)

    monkeypatch.setattr(ClusterBus, "_on_flush", asking)
    found("had not asked for")


@pytest.mark.long
def test_a_leave_of_an_older_membership_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: every join is followed by a leave that names no membership."""
    enter = User.enter

    def parting(self: User, command: EnterRoom) -> None:
        enter(self, command)
        removal = RemoveMember(room_id=command.room_id, session_id=command.session_info.session_id, reason="left")
        self.context.add_effect(removal)

    monkeypatch.setattr(User, "enter", parting)
    found("who has not|was put out")


@pytest.mark.long
def test_a_lost_member_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: owners take over nothing."""
    from koko_presence.cluster import transfer

    monkeypatch.setattr(
        transfer.OwnershipTransfer, "_take_over", lambda self, now: (self._rooms.clear(), self._users.clear())
    )
    found(".")


# --- privacy


@pytest.mark.long
def test_a_privacy_that_does_not_reach_a_room_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shard, "_apply_privacy", lambda self, command, now: None)
    found("for the privacy of")


@pytest.mark.long
def test_a_privacy_that_is_lost_at_user_and_room_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a change of privacy is acknowledged and not applied."""
    change = User.change_privacy
    monkeypatch.setattr(
        User,
        "change_privacy",
        lambda self, command: change(self, command) | {"invisible": command.privacy.invisible is True},
    )
    monkeypatch.setattr(User, "apply_privacy", lambda self, session_id, privacy: None)
    found("was told .*, but its owner has")


@pytest.mark.long
def test_a_cursor_that_is_shown_though_it_is_hidden_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    show = presence_state._show_cursor

    def showing_all(room: Any, member: Any, cursor: Any, now: float) -> None:
        shared, member.share_cursor = member.share_cursor, True
        show(room, member, cursor, now)
        member.share_cursor = shared

    monkeypatch.setattr(presence_state.COALESCED_VALUES["cursor"], "apply", showing_all)
    found("is kept, which it hides|were not to be seen")


@pytest.mark.long
def test_a_cursor_that_does_not_arrive_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Person, "see_compact", lambda self, room, rows: None)
    found("did not see cursors")


# --- rights


@pytest.mark.long
def test_rights_that_stay_as_they_were_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reauthorization, "check_again", lambda self, now: None)
    found("has the rights of")


@pytest.mark.long
def test_control_without_the_right_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from koko_presence.rooms import playback_sync

    monkeypatch.setattr(playback_sync, "lose_control", lambda room, member, now: None)
    found("has control of .* and may not have it", range(120, 240))


# --- compact cursors


@pytest.mark.long
def test_a_number_that_two_have_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.Room, "_free_index", lambda self: 0)
    found("are both number 0")


@pytest.mark.long
def test_a_number_that_is_not_sent_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: user_joined without the number."""
    monkeypatch.setattr(room, "Joined", lambda **fields: structs.replace(JOINED(**fields), index=UNSET))
    found("got a compact cursor of|as numbers in")


JOINED = room.Joined

# --- webhooks


@pytest.mark.long
def test_a_webhook_that_is_not_sent_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    left = webhook_recorder.left

    def forgetting(room: Any, member: Any, reason: str, now: float) -> None:
        if reason != "disconnected":
            left(room, member, reason, now)

    monkeypatch.setattr(webhook_recorder, "left", forgetting)
    found("by webhooks")


@pytest.mark.long
def test_webhooks_in_the_wrong_order_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: the event for a room's creation follows that of its first member."""
    note: Callable[..., None] = webhook_recorder._note
    waiting: list[tuple[Any, ...]] = []

    def late(room: Any, kind: Any, now: float, key: Any, **fields: Any) -> None:
        if kind is webhook_recorder.RoomCreated:
            waiting.append((room, kind, now, key))
            return
        note(room, kind, now, key, **fields)
        while waiting:
            note(*waiting.pop())

    monkeypatch.setattr(webhook_recorder, "_note", late)
    found("by webhooks")


# --- grace


@pytest.mark.long
def test_a_grace_that_is_too_short_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: half the grace period."""
    suspend = room.Room.suspend

    def hasty(self: room.Room, member: Any, now: float, grace_until: float = 0.0, away_at: float = 0.0) -> None:
        suspend(self, member, now)
        self.context.deadlines.set(("grace", self.id, member.session_id), now + self.context.limits.grace_s / 2)

    monkeypatch.setattr(room.Room, "suspend", hasty)
    found("who was away|and is not in")


@pytest.fixture
def too_long_a_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: the room's grace period is longer, and it ignores the end that the user's owner sends."""
    suspend, remove = room.Room.suspend, Shard._remove

    def patient(self: room.Room, member: Any, now: float, grace_until: float = 0.0, away_at: float = 0.0) -> None:
        suspend(self, member, now)
        self.context.deadlines.set(("grace", self.id, member.session_id), now + self.context.limits.grace_s * 2)

    monkeypatch.setattr(room.Room, "suspend", patient)
    monkeypatch.setattr(
        Shard, "_remove", lambda self, command, now: command.reason == "disconnected" or remove(self, command, now)
    )


@pytest.mark.long
@pytest.mark.usefixtures("too_long_a_grace")
def test_a_grace_that_is_too_long_would_be_found() -> None:
    found("is away for .* and still in")


@pytest.mark.usefixtures("too_long_a_grace")
def test_a_grace_that_is_too_long_would_be_found_after_a_drain() -> None:
    """The worker closes the connection, which the client reads only after the grace period."""
    script = SCRIPTS["drained_and_back_after_the_grace_period"][0]
    with pytest.raises(Broken, match=r"p0 is away for .* and still in video_1"):
        Story(script).run()


def test_what_a_back_end_makes_of_repeats() -> None:
    """The receiver of docs/webhooks.md handles each event once, in the order of the timestamps."""
    from koko_presence.protocol.webhook_events import RoomCounts, UserEntered, UserLeft

    counts = RoomCounts(users=1, sessions=1, visible_users=1, visible_sessions=1)
    common = {
        "room_id": "video_1", "room_type": "video", "room": counts, "user_id": "u", "session_id": "s", "name": "U",
        "invisible": False, "session_count": 1,
    }  # fmt: skip
    entered = UserEntered(id="1", timestamp="2025-01-15T10:30:00.000Z", **common)  # type: ignore[arg-type]
    left = UserLeft(id="2", timestamp="2025-01-15T10:30:01.000Z", reason="left", **common)  # type: ignore[arg-type]
    assert witness.Receiver([left, entered, entered]).inside["video_1"] == set()
    assert witness.Receiver([entered]).inside["video_1"] == {"s"}


@pytest.mark.long
def test_settings_that_are_lost_with_their_owner_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a room's record has no settings."""
    whole = reconcile.head_of
    monkeypatch.setattr(reconcile, "head_of", lambda room: structs.replace(whole(room), settings=NO_SETTINGS))
    found("has the settings|with a worker went")


@pytest.mark.long
def test_a_change_of_settings_that_is_not_sent_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a room changes its settings without an event."""

    def change(room: room.Room, change: Any, now: float) -> bool:
        room.settings = merged(room.settings, change)
        return True

    monkeypatch.setattr(room_settings, "change_settings", change)
    found("has the settings")


@pytest.mark.long
def test_a_wait_for_viewers_that_is_forgotten_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a command that plays does not end the wait."""
    monkeypatch.setattr(playback_sync, "end_wait", lambda room, now: None)
    found("waits for")


@pytest.mark.long
def test_a_next_owner_that_does_not_learn_the_watchers_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: an edge does not tell the next owner of a room that it watches."""
    monkeypatch.setattr(RoomSummaries, "repeat", lambda self, room_ids, now: None)
    found("is watched at|watches .* and has")


@pytest.mark.long
def test_a_former_owner_that_goes_on_with_summaries_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: an owner keeps the watchers of rooms that it gives up."""
    monkeypatch.setattr(RoomWatchers, "release", lambda self, moved: None)
    found("is watched at|watches .* and has")


@pytest.mark.long
def test_a_change_without_a_summary_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a change within the second after another one is dropped."""
    change = RoomWatchers.note_change

    def note(self: RoomWatchers, room_id: str, room: Any, now: float) -> None:
        by_type = self._rooms.get(room_id, {})
        if by_type and all(now >= watched.sent_at + 1.25 for watched in by_type.values()):
            change(self, room_id, room, now)

    monkeypatch.setattr(RoomWatchers, "note_change", note)
    found("is watched at|watches .* and has")


def test_a_name_that_is_lost_with_its_owner_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: neither records nor the reports of rooms and edges have the name."""
    whole = reconcile.user_record
    monkeypatch.setattr(reconcile, "user_record", lambda user: structs.replace(whole(user), user_info=UserInfo()))
    monkeypatch.setattr(member_confirmation, "reconcile_shown", lambda user, command: None)
    monkeypatch.setattr(reconcile, "merge_reported_name", lambda user, records: None)
    found("has token|with a worker went user|shows user|is shown")


def test_a_change_of_name_that_is_not_sent_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    emit = room.Room.emit

    def silent(self: room.Room, member: Member, data: Any, now: float, **more: Any) -> None:
        if not isinstance(data, UserChanged):
            emit(self, member, data, now, **more)

    monkeypatch.setattr(room.Room, "emit", silent)
    found("sees user. as")


def test_presence_that_the_back_end_has_switched_off_in_vain_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShardContext, "switch_presence", lambda self, user_id, *, on: None)
    found("the presence of .* is off")


def test_presence_that_the_authoriser_has_switched_off_in_vain_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.Room, "apply_room_presence", lambda self, member, now, *, on: None)
    found("and is disabled in")
