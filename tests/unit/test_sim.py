"""A thousand stories of workers that crash, hang, are rolled and cut off from each other (tests/sim.py)."""

import os
import subprocess
import sys

import pytest

from tests.sim import Broken, Person, Story

SEEDS = 1000
CHUNKS = 20


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_seeds(chunk: int) -> None:
    size = SEEDS // CHUNKS
    for seed in range(1 + chunk * size, 1 + (chunk + 1) * size):
        Story(seed).run()


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


def test_a_lost_member_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners that take over nothing: the simulation must see it."""
    from koko_presence.cluster import handover

    monkeypatch.setattr(handover.Handover, "_take_over", lambda self, now: (self._rooms.clear(), self._users.clear()))
    with pytest.raises(Broken):
        for seed in range(1, 40):
            Story(seed).run()
