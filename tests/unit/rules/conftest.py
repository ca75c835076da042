"""Every rule holds on one worker and on four, with no difference for clients: the tests are the same.

Those marked `one_worker` inspect a worker's state, or depend on the order in which two clients' messages of the same
instant arrive, which is not defined.
"""

import pytest

from tests.world import Client, World


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    inside = metafunc.definition.get_closest_marker("one_worker") is not None
    metafunc.parametrize("_workers", [1] if inside else [1, 4], ids=lambda count: f"{count} workers", indirect=True)


@pytest.fixture(autouse=True)
def _workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "default_workers", request.param)


@pytest.fixture
def pair() -> tuple[Client, Client]:
    """Two users in one room; the first has read what the second's join has sent."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.take()
    return ann, bob
