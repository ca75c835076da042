"""Every rule holds on one worker and on four, and nobody can tell which: the tests are the same."""

from collections.abc import Iterator

import pytest

from tests.world import World


@pytest.fixture(autouse=True, params=[1, 4], ids=["1 worker", "4 workers"])
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(World, "default_workers", request.param)
    yield request.param
