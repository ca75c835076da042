"""What both forms of the service do in one way."""

import asyncio
from typing import Any

import pytest

from koko_presence.ops.config import Auth, Config
from koko_presence.ops.processes import Terminal
from koko_presence.service import Service


class Failing(Service):
    """A service that cannot take a configuration over."""

    reloads_over = 0

    def apply(self, config: Config) -> None:
        raise RuntimeError("a bug")

    def reloaded(self) -> None:
        self.reloads_over += 1


def test_a_reload_that_fails_is_over_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    """systemd went on to show the service as reloading."""
    config = Config(auth=Auth(secret="a secret that is long enough for every test"))

    async def test() -> None:
        others: Any = {name: lambda self: None for name in Service.__abstractmethods__ - vars(Failing).keys()}
        service = type("Whole", (Failing,), others)(config, False, lambda: config, Terminal())
        await service._reload()
        assert service.reloads_over == 1 and service._config is config
        assert "configuration not reloaded" in caplog.text and "a bug" in caplog.text

    asyncio.run(test())
