"""The behaviour common to both forms of the service."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from koko_presence.config.certificate import Certificate
from koko_presence.config.reload import look_at_certificate
from koko_presence.config.schema import Auth, Config, Server
from koko_presence.process.os_process import Terminal
from koko_presence.process.service import Service
from tests.certificates import make_certificate


class Failing(Service):
    """A service that cannot apply a configuration."""

    reloads_over = 0

    def apply(self, config: Config) -> None:
        raise RuntimeError("a bug")

    def reloaded(self) -> None:
        self.reloads_over += 1


def test_a_reload_that_fails_is_reported_as_over(caplog: pytest.LogCaptureFixture) -> None:
    """A failed reload is reported to systemd as over, which went on to show the service as reloading."""
    config = Config(auth=Auth(secret="a secret that is long enough for every test"))

    async def test() -> None:
        others: Any = {name: lambda self: None for name in Service.__abstractmethods__ - vars(Failing).keys()}
        service = type("Whole", (Failing,), others)(config, False, lambda: config, Terminal())
        await service._reload()
        assert service.reloads_over == 1 and service._config is config
        assert "configuration not reloaded" in caplog.text and "a bug" in caplog.text

    asyncio.run(test())


@pytest.mark.parametrize(("can_roll", "takes"), [(True, "koko-presence reload --rolling"), (False, "a restart")])
def test_regression_a_reload_after_a_renewal_did_not_report_that_the_old_certificate_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, can_roll: bool, takes: str
) -> None:
    cert, key = make_certificate(tmp_path)
    server = Server(tls_cert=str(cert), tls_key=str(key))

    def told(served: Certificate | None) -> str:
        caplog.clear()
        asyncio.run(look_at_certificate(server, served, can_roll=can_roll))
        return " ".join(line.getMessage() for line in caplog.records)

    served = Certificate.read(server)
    assert told(served) == "" and told(None) == ""
    make_certificate(tmp_path)
    assert told(served) == f"the certificate in {cert} has changed, which takes {takes}; the previous one stays in use"
    key.write_bytes(served.key)
    assert "and its key cannot be used now; the previous certificate stays in use" in told(served)
    cert.unlink()
    assert "cannot be used now" in told(served)


class Draining(Failing):
    """A service that counts the requests to drain."""

    drains = 0

    def drain(self) -> None:
        self.drains += 1

    def is_leaving(self) -> bool:
        return self.drains > 0


def test_regression_a_drain_requested_twice_over_http_did_not_wait() -> None:
    """A second request to drain over HTTP does not end the service at once: a client that has lost the answer repeats
    its request, which is not a second SIGTERM."""
    config = Config(auth=Auth(secret="a secret that is long enough for every test"))

    async def test() -> None:
        others: Any = {name: lambda self: None for name in Service.__abstractmethods__ - vars(Draining).keys()}
        service = type("Whole", (Draining,), others)(config, False, lambda: config, Terminal())
        listening = asyncio.ensure_future(service.listen())

        async def drains(*asked: int | None) -> int:
            for number in asked:
                if number is None:
                    service.drain_on_request()
                else:
                    service._signals.put_nowait(number)
            while not service._signals.empty():
                await asyncio.sleep(0)
            return int(service.drains)

        assert await drains(None, None) == 1
        assert await drains(None) == 1
        assert await drains(signal.SIGTERM) == 2, "a signal is a second one"
        assert await drains(None) == 2
        listening.cancel()

    asyncio.run(test())
