"""A room under random use for minutes: `make test-soak`, an hour with `make test-soak SOAK_MINUTES=60`, another story with
`SOAK_SEED=2`."""

import asyncio
import os

import pytest

from bench.frame_accuracy.clips import ENCODINGS
from bench.frame_accuracy.soak import report, soak

pytestmark = [pytest.mark.browser, pytest.mark.soak]

MINUTES = float(os.environ.get("SOAK_MINUTES", "5"))
SEED = int(os.environ.get("SOAK_SEED", "1"))


def test_the_pages_of_a_room_in_use_stay_on_one_frame() -> None:
    result = asyncio.run(soak(MINUTES, SEED, ENCODINGS["h264-25"], print))
    print(report(result))
    assert result.judged_s > MINUTES * 60 / 10, "the pages' frames came too late to be judged: is the machine busy?"
    assert result.violations == []
    assert result.identities == []
    assert result.errors == []
    assert not result.heap_grows, result.heap
