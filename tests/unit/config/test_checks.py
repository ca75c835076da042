"""What check-config refuses or warns of: weak keys, secrets that every user can read, tokens made for other
applications."""

from pathlib import Path

import pytest

from koko_presence.config.checks import WORKER_MIN_BYTES, warnings
from koko_presence.config.schema import ConfigError, load
from tests.unit.config.test_schema import written

SECRET = "a secret for tests that is long enough"
JWKS = "[auth]\nalgorithms = ['RS256']\n%s[auth.jwks]\nurl = 'https://id.example/keys'\n[access]\nmode = 'allow_all'"


def test_a_short_api_key_is_refused_where_others_reach_the_port_and_warned_of_on_loopback(tmp_path: Path) -> None:
    text = f"[auth]\nsecret = '{SECRET}'\n[operator]\napi_key = 'x'\nhost = '%s'"
    with pytest.raises(ConfigError, match=r"operator\.api_key: has 1 bytes"):
        load(written(tmp_path, text % "0.0.0.0"), {})
    (warning,) = warnings(load(written(tmp_path, text % "127.0.0.1"), {}))
    assert warning.startswith("operator.api_key:")
    assert load(written(tmp_path, (text % "0.0.0.0").replace("'x'", f"'{'x' * 32}'")), {}).operator.api_key == "x" * 32


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_a_world_readable_secret_is_warned_of(tmp_path: Path, mode: int, warned: bool) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(mode)
    found = warnings(load(written(tmp_path, f"[auth]\nsecret_file = '{file}'"), {}))
    assert [line.startswith("auth.secret_file:") for line in found] == [True] * warned


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False)])
def test_a_secret_in_a_world_readable_configuration_is_warned_of(tmp_path: Path, mode: int, warned: bool) -> None:
    path = written(tmp_path, f"[auth]\nsecret = '{SECRET}'\n[webhooks]\nurl = 'https://a.example'\nsecret = '{SECRET}'")
    path.chmod(mode)
    found = warnings(load(path, {}), path)
    assert [line.partition(":")[0] for line in found] == ["auth.secret", "webhooks.secret"] * warned


def test_all_rooms_for_every_token_of_an_identity_provider_is_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings(load(written(tmp_path, JWKS % ""), {}))
    assert warning.startswith("auth.audience:")
    assert warnings(load(written(tmp_path, JWKS % "audience = 'koko'\n"), {})) == []


@pytest.mark.parametrize(
    ("memory_bytes", "workers", "warned"),
    [(0, 2, False), (1, 2, True), (2 * WORKER_MIN_BYTES - 1, 2, True), (2 * WORKER_MIN_BYTES, 2, False), (1, 1, True)],
)
def test_regression_less_memory_than_idle_workers_use_was_not_warned_of(
    tmp_path: Path, memory_bytes: int, workers: int, warned: bool
) -> None:
    """check-config warns of a memory limit below the use of idle workers. The server started, and answered all requests
    with 503."""
    text = f"[server]\nworkers = {workers}\nmemory_bytes = {memory_bytes}\n[auth]\nsecret = '{SECRET}'"
    found = warnings(load(written(tmp_path, text), {}))
    assert [line.startswith(f"server.memory_bytes: is {memory_bytes} for {workers} worker") for line in found] == [
        True
    ] * warned
    assert all(str(workers * WORKER_MIN_BYTES) in line for line in found)


@pytest.mark.parametrize(
    ("host", "warned"), [("", True), ("0.0.0.0", True), ("::", True), ("10.1.2.3", False), ("127.0.0.1", False)]
)
def test_an_operator_port_on_every_interface_is_warned_of(tmp_path: Path, host: str, warned: bool) -> None:
    """An empty operator.host listened on every interface without a word."""
    found = warnings(load(written(tmp_path, f"[auth]\nsecret = '{SECRET}'\n[operator]\nhost = '{host}'"), {}))
    assert [line.startswith("operator.host: is ") for line in found] == [True] * warned


@pytest.mark.parametrize(
    ("folder", "told"), [("run/x", "is relative"), ("/nowhere/x", "/nowhere does not exist"), ("/tmp/x", "")]
)
def test_a_runtime_folder_that_cannot_be_made_or_found_is_warned_of(tmp_path: Path, folder: str, told: str) -> None:
    found = warnings(load(written(tmp_path, f"[auth]\nsecret = '{SECRET}'\n[server]\nruntime_dir = '{folder}'"), {}))
    assert [told in line and line.startswith("server.runtime_dir: ") for line in found] == [True] * bool(told)


def test_several_workers_for_each_core_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koko_presence.config.cpu_cores.usable", lambda: 2)
    monkeypatch.setattr("koko_presence.config.cpu_cores.quota", lambda: None)
    for workers, warned in ((4, False), (5, True)):
        found = warnings(load(written(tmp_path, f"[auth]\nsecret = '{SECRET}'\n[server]\nworkers = {workers}"), {}))
        assert [line.startswith(f"server.workers: is {workers}, and this machine has 2") for line in found] == [
            True
        ] * warned
