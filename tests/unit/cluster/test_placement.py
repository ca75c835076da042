"""Placement of rooms and users on workers [N-a]."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from koko_presence.cluster.placement import Peer, Ring, View, room_key, user_key


def ring(*slots: int, leaving: tuple[int, ...] = ()) -> Ring:
    peers = tuple(Peer(id=10 + slot, slot=slot, address="", owns=slot not in leaving) for slot in slots)
    return Ring(View(epoch=1, peers=peers))


KEYS = [room_key(f"video_{number}") for number in range(20_000)]


@pytest.mark.parametrize("count", [2, 3, 4, 8, pytest.param(64, marks=pytest.mark.long)])
def test_every_worker_owns_about_as_much(count: int) -> None:
    owned = Counter(map(ring(*range(count)).owner, KEYS))
    even = len(KEYS) / count
    assert len(owned) == count and all(abs(number - even) < 0.25 * even for number in owned.values())


def test_only_what_a_lost_worker_owned_moves_and_it_moves_to_its_backup_owner() -> None:
    before, after = ring(0, 1, 2, 3), ring(0, 1, 3)
    moved = [key for key in KEYS if before.owner(key) != after.owner(key)]
    assert {before.owner(key) for key in moved} == {12}
    assert all(before.backup_owner(key) == after.owner(key) for key in moved)


def test_a_worker_on_its_way_out_owns_nothing_but_is_there() -> None:
    view = ring(0, 1, leaving=(1,))
    assert set(map(view.owner, KEYS)) == {10} and view.view.ids == {10, 11}


def test_one_worker_is_its_own_backup_owner_and_a_view_without_owners_is_an_error() -> None:
    assert ring(0).backup_owner("r:x") == 10
    with pytest.raises(LookupError):
        ring(0, leaving=(0,)).owner("r:x")


def test_a_room_and_a_user_of_one_name_are_two_things() -> None:
    owners = ring(0, 1, 2, 3)
    assert any(owners.owner(room_key(str(n))) != owners.owner(user_key(str(n))) for n in range(20))


def test_every_process_finds_the_same_owner() -> None:
    code = (
        "from koko_presence.cluster.placement import *;"
        "r=Ring(View(epoch=1,peers=tuple(Peer(id=i,slot=i,address='') for i in range(4))));"
        "print([r.owner(f'r:{n}') for n in range(50)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
