"""A thousand stories of workers that crash, hang, are rolled and cut off from each other (tests/sim.py)."""

import os
import subprocess
import sys

import pytest
from msgspec import structs

from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.commands import EnterRoom, Remove
from koko_presence.domain.user import User
from tests.sim import Broken, Person, Story

SEEDS = 1000
CHUNKS = 20
# stories that once went wrong, and are not told in a few words; test_cluster_regressions.py has the others
ONCE_BROKEN = (1505, 2534, 2599, 2865, 3837, 3867, 4167, 5145, 5286, 5299, 5493, 5717, 8243, 30408, 31912, 33468)
ONCE_BROKEN_IN_A_CROWD = (
    20055,
    20153,
    20334,
    20425,
    20440,
    20629,
    20645,
    20703,
    20717,
    20991,
    21037,
    21235,
    21493,
    21923,
)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_seeds(chunk: int) -> None:
    size = SEEDS // CHUNKS
    for seed in range(1 + chunk * size, 1 + (chunk + 1) * size):
        Story(seed).run()


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_once_went_wrong(seed: int) -> None:
    Story(seed).run()


@pytest.mark.parametrize("seed", ONCE_BROKEN_IN_A_CROWD)
def test_what_once_went_wrong_in_a_crowd(seed: int) -> None:
    Story(seed, workers=5, people=10).run(steps=90)


def test_the_same_seed_tells_the_same_story_in_any_process() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", "from tests.sim import Story; print(Story(7).run(), Story(8).run())"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": hash_seed}
        )
        digests.add(done.stdout)
    assert len(digests) == 1 and len(digests.pop().split()[0]) == 64


def test_different_seeds_tell_different_stories() -> None:
    assert Story(7).run() != Story(8).run()


def test_a_ghost_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who goes without a word to the server stays in the rooms: the simulation must see it."""
    monkeypatch.setattr(Person, "go", lambda self: (self.wants.clear(), setattr(self, "token", None)))
    with pytest.raises(Broken, match=r"but there are|sees"):
        for seed in range(1, 40):
            Story(seed).run()


def test_a_lease_that_is_taken_for_a_lost_socket_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from koko_presence.domain.usersession import UserSession

    monkeypatch.setattr(UserSession, "leased", False)
    with pytest.raises(Broken):
        for seed in range(1, 80):
            Story(seed).run()


def test_a_status_that_is_lost_with_its_owner_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users' records that say nothing of what people have set, and rooms that do not either."""
    from koko_presence.domain import claims, keeping

    whole = keeping.user_record
    monkeypatch.setattr(keeping, "user_record", lambda user: structs.replace(whole(user), manual=None))
    monkeypatch.setattr(claims, "agree", lambda user, command: None)
    with pytest.raises(Broken, match=r"with a worker went|shows"):
        for seed in range(1, 40):
            Story(seed).run()


def test_a_snapshot_again_and_again_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge that asks for a room anew with every flush of it."""
    on_packet = ClusterBus._on_packet

    def asking(self: ClusterBus, sender: int, body: bytes, now: float) -> None:
        on_packet(self, sender, body, now)
        for room_id in list(self.edge.feeds):
            self.hearing.refresh(room_id, self.me, now)

    monkeypatch.setattr(ClusterBus, "_on_packet", asking)
    with pytest.raises(Broken, match="had not asked for"):
        for seed in range(1, 20):
            Story(seed).run()


def test_a_leave_of_an_older_stay_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every join is followed by a leave that does not say of which stay it is."""
    enter = User.enter

    def parting(self: User, command: EnterRoom, now: float) -> None:
        enter(self, command, now)
        word = Remove(room_id=command.room_id, session_id=command.visitor.session_id, reason="left")
        self.setting.effects.append(word)

    monkeypatch.setattr(User, "enter", parting)
    with pytest.raises(Broken, match=r"who has not|was put out"):
        for seed in range(1, 20):
            Story(seed).run()


def test_a_lost_member_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners that take over nothing: the simulation must see it."""
    from koko_presence.cluster import handover

    monkeypatch.setattr(handover.Handover, "_take_over", lambda self, now: (self._rooms.clear(), self._users.clear()))
    with pytest.raises(Broken):
        for seed in range(1, 40):
            Story(seed).run()
