"""The configuration: accepted and refused values, and all faults reported at once with their keys."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koko_presence.config import cpu_cores
from koko_presence.config.default_file import default_config_text, unit
from koko_presence.config.schema import Config, ConfigError, Section, keys, load, origin_problem
from koko_presence.protocol.limits import Limits

SECRET = "s" * 32
WITH_SECRET = {"KOKO_PRESENCE_AUTH_SECRET": SECRET}


def faults(
    tmp_path: Path, toml: str = "", env: dict[str, str] | None = None, flags: dict[str, Any] | None = None, **more: Any
) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, toml), WITH_SECRET if env is None else env, flags, **more)
    return refused.value.faults


def written(tmp_path: Path, toml: str) -> Path:
    path = tmp_path / "presence.toml"
    path.write_text(toml)
    return path


def test_a_secret_is_all_that_must_be_set() -> None:
    config = load(env=WITH_SECRET)
    assert config.limits == Limits()
    assert (config.server.host, config.server.port, config.access.mode) == ("127.0.0.1", 8080, "claims")


def test_later_wins_file_environment_flags(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nhost = 'a'\nport = 1\nbacklog = 7\n")
    env = WITH_SECRET | {"KOKO_PRESENCE_SERVER_HOST": "b", "KOKO_PRESENCE_SERVER_PORT": "2"}
    server = load(path, env, {"server.port": "3"}).server
    assert (server.backlog, server.host, server.port) == (7, "b", 3)


def test_an_empty_variable_is_unset() -> None:
    assert load(env=WITH_SECRET | {"KOKO_PRESENCE_SERVER_PORT": ""}).server.port == 8080


def test_variables_are_read_by_the_type_of_their_key() -> None:
    env = WITH_SECRET | {
        "KOKO_PRESENCE_SERVER_ORIGINS": "https://a.example, https://b.example:8443",
        "KOKO_PRESENCE_SERVER_DEMO": "true",
        "KOKO_PRESENCE_LIMITS_CURSOR_HZ": "12.5",
        "KOKO_PRESENCE_ROOMS_AUTO_GRANT": "1",
    }
    config = load(env=env)
    assert config.server.origins == ("https://a.example", "https://b.example:8443")
    assert (config.server.demo, config.limits.cursor_hz, config.rooms.auto_grant) == (True, 12.5, True)


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    toml = "colour = 1\n[limits]\ncursor_hz = 'fast'\ncursor_herz = 3\n[sever]\nport = 1\n"
    told = faults(tmp_path, toml, {"KOKO_PRESENCE_SERVER_PORT": "http", "KOKO_PRESENCE_SERVER_PROT": "1"})
    assert told == [
        "colour: no such section; `koko-presence default-config` prints every key",
        "limits.cursor_hz: expected a number above 0 and at most 100000, got 'fast'",
        "limits.cursor_herz: no such key; did you mean limits.cursor_hz?",
        "sever: no such section; did you mean server?",
        "server.port (KOKO_PRESENCE_SERVER_PORT): expected a whole number from 0 to 65535, got 'http'",
        "KOKO_PRESENCE_SERVER_PROT: no such variable; did you mean KOKO_PRESENCE_SERVER_PORT?",
        "auth.secret: is needed (or auth.secret_file): make one with  openssl rand -base64 48",
    ]


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[limits]\ndrain_s = 1", "limits.drain_s: no such key; drain_s stands in [server]"),
        ("drain_s = 1", "drain_s: no such section; drain_s stands in [server]"),
        ("port = 1", "port: no such section; port stands in [server] and [operator]"),
        ("[server]\nmode = 'claims'", "server.mode: no such key; mode stands in [access]"),
        ("[limits]\ndrian_s = 1", "limits.drian_s: no such key; did you mean server.drain_s?"),
        ("[server]\ncursor_herz = 1", "server.cursor_herz: no such key; did you mean limits.cursor_hz?"),
        ("[limits]\ncursor_herz = 1", "limits.cursor_herz: no such key; did you mean limits.cursor_hz?"),
        ("[jwks]\nurl = 'x'", "jwks: no such section; did you mean auth.jwks?"),
        (
            "[operator]\nsecret = 'x'",
            "operator.secret: no such key; secret stands in [auth], [access.webhook] and [webhooks]",
        ),
    ],
)
def test_regression_a_key_in_a_wrong_section_was_not_recognised(tmp_path: Path, toml: str, told: str) -> None:
    assert faults(tmp_path, toml) == [told]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [("LIMITS_DRAIN_S", "SERVER_DRAIN_S"), ("DRAIN_S", "SERVER_DRAIN_S"), ("SERVER_PROT", "SERVER_PORT")],
)
def test_regression_a_variable_of_a_wrong_section_was_not_recognised(variable: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(env=WITH_SECRET | {f"KOKO_PRESENCE_{variable}": "1"})
    assert refused.value.faults == [f"KOKO_PRESENCE_{variable}: no such variable; did you mean KOKO_PRESENCE_{meant}?"]


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[server]\nport = 70000", "server.port: expected a whole number from 0 to 65535, got 70000"),
        (
            "[server]\nhost = ''",
            "server.host: '' is no address: write one of this machine, or 0.0.0.0 or :: for all that it has",
        ),
        (
            "[server]\nhost = 'a b'",
            "server.host: 'a b' is no address: write one of this machine, or 0.0.0.0 or :: for all that it has",
        ),
        ("[server]\nport = true", "server.port: expected a whole number from 0 to 65535, got True"),
        ("[server]\ndemo = 'yes'", "server.demo: expected true or false, got 'yes'"),
        ("[limits]\ngrace_s = nan", "limits.grace_s: expected a number from 0.0 to 60.0, got nan"),
        ("[limits]\ncursor_hz = 0", "limits.cursor_hz: expected a number above 0 and at most 100000, got 0"),
        ("[log]\nformat = 'xml'", 'log.format: expected "console" or "json", got \'xml\''),
        (
            "[server]\norigins = 'https://a.example'",
            "server.origins: expected a list of texts in brackets, got 'https://a.example'",
        ),
        ("server = 1", "server: is a section: write [server] and its keys below it"),
        ("[server]\nport = 9080", "operator.port: 9080 is server.port too: give them different ports"),
        ("[server]\ntls_key = '/'", "server.tls_cert: is needed too: TLS takes a certificate and its key"),
        ("[server]\nworkers = 0", 'server.workers: expected a whole number from 1 to 1024 or "auto", got 0'),
        ("[server]\nworkers = 'all'", "server.workers: expected a whole number from 1 to 1024 or \"auto\", got 'all'"),
        (
            '[access]\nmode = "nobody"',
            'access.mode: expected "allow_all" or "claims" or "trpc" or "webhook", got \'nobody\'',
        ),
        (
            "[limits]\nsend_soft_bytes = 2000\nsend_hard_bytes = 1000",
            "limits.send_soft_bytes: is above limits.send_hard_bytes: it must be at most that",
        ),
    ],
)
def test_a_wrong_value_is_one_fault_that_names_its_key(tmp_path: Path, toml: str, told: str) -> None:
    assert faults(tmp_path, toml) == [told]


def test_an_empty_list_of_algorithms_is_refused(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "[auth]\nalgorithms = []")
    assert told.startswith("auth.algorithms: expected a list of ") and told.endswith(", not empty, got []")


def test_algorithm_none_is_refused(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "[auth]\nalgorithms = ['none']")
    assert told.startswith("auth.algorithms: ")


def test_a_file_that_is_not_there_or_not_toml_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load(tmp_path / "nowhere.toml", WITH_SECRET)
    (told,) = faults(tmp_path, "[server\n")
    assert "is not valid TOML" in told and "line 1" in told


def test_a_secret_file_is_read_and_stripped_and_may_be_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "key").write_text("k" * 40 + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    env = {
        "KOKO_PRESENCE_AUTH_SECRET_FILE": "${CREDENTIALS_DIRECTORY}/secret",
        "KOKO_PRESENCE_OPERATOR_API_KEY_FILE": str(tmp_path / "key"),
    }
    config = load(env=env)
    assert (config.auth.secret, config.operator.api_key) == (SECRET, "k" * 40)
    assert config.secrets == [SECRET, "k" * 40]


def test_the_example_in_deploy_is_a_configuration_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("secret", "api_key"):
        (tmp_path / name).write_text(SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    config = load(Path(__file__).parents[3] / "deploy/koko-presence.toml", {})
    assert config.auth.secret == config.operator.api_key == SECRET
    assert config.server.origins == ("https://app.example.com",)


def test_a_secret_and_its_file_at_once_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    told = faults(tmp_path, f"[auth]\nsecret_file = '{tmp_path}/secret'")
    assert told == ["auth.secret: is set, and auth.secret_file too: keep one of them"]


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot read"), (b" \n", "is empty"), (b"\xff\xfe", "is not text")],
)
def test_a_secret_file_that_gives_no_secret_is_one_fault(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    (only,) = faults(tmp_path, f"[auth]\nsecret_file = '{tmp_path}/secret'", env={})
    assert only.startswith("auth.secret_file: ") and told in only


def test_a_short_secret_is_refused_and_never_shown(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "[auth]\nsecret = 'hunter2'", env={})
    assert told.startswith("auth.secret: has 7 bytes, at least 32 are needed")
    assert "hunter2" not in told


def test_a_secret_of_a_wrong_type_is_not_shown(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "[auth]\nsecret = 1234567890", env={})
    assert "1234567890" not in told


def test_no_repr_shows_a_secret() -> None:
    config = load(env=WITH_SECRET | {"KOKO_PRESENCE_OPERATOR_API_KEY": "k" * 40})
    assert SECRET not in repr(config) and "k" * 40 not in repr(config)


def test_a_secret_is_not_needed_where_none_is_used() -> None:
    assert load(env={}, needs_secret=False).auth.secret == ""
    env = {"KOKO_PRESENCE_AUTH_SECRET_FILE": "/not/for/you", "KOKO_PRESENCE_OPERATOR_API_KEY_FILE": "/not/for/you"}
    assert load(env=env, needs_secret=False).auth.secret == ""


def test_workers_are_a_number_or_one_for_each_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_cores, "quota", lambda: None)
    count = {
        text: load(env=WITH_SECRET | {"KOKO_PRESENCE_SERVER_WORKERS": text}).server.worker_count
        for text in ("3", "auto")
    }
    assert count == {"3": 3, "auto": len(os.sched_getaffinity(0))} and load(env=WITH_SECRET).server.worker_count == 1


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "http://localhost:3000",
        "https://[::1]:8443",
        "capacitor://localhost",
        "ionic://localhost",
        "app://bundle",
        "https://localhost",
        "null",
        "file://",
        "http://10.0.0.1",
    ],
)
def test_origins_that_browsers_send_are_taken(origin: str) -> None:
    assert origin_problem(origin) == ""


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("*", "is a pattern"),
        ("https://*.example.com", "is a pattern"),
        ("https://App.example.com", "capitals"),
        ("https://app.example.com/", "slash"),
        ("https://app.example.com/x", "is no origin"),
        ("app.example.com", "is no origin"),
        ("https://u@app.example.com", "is no origin"),
        ("https://a.example:0", "is no origin"),
        ("https://a.example:65536", "is no origin"),
        ("file:///", "slash"),
        ("Null", "capitals"),
        ("https://a.example:443", "leave it out"),
        ("http://a.example:80", "leave it out"),
    ],
)
def test_an_origin_no_browser_sends_is_refused_with_what_to_write_a8(tmp_path: Path, origin: str, told: str) -> None:
    (only,) = faults(tmp_path, f"[server]\norigins = ['{origin}']")
    assert only.startswith("server.origins: ") and told in only


def test_dev_makes_a_new_secret_lets_everyone_in_and_shows_the_demo() -> None:
    first, second = (load(env={"KOKO_PRESENCE_AUTH_SECRET": SECRET}, dev=True) for _ in range(2))
    assert (first.access.mode, first.server.demo, first.log.format) == ("allow_all", True, "console")
    assert len(first.auth.secret) >= 32
    assert len({SECRET, first.auth.secret, second.auth.secret}) == 3


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_dev_refuses_what_others_could_reach(tmp_path: Path, host: str) -> None:
    (told,) = faults(tmp_path, "", {}, {"server.host": host}, dev=True)
    assert told.startswith("server.host: --dev gives a token to any")
    (told,) = faults(tmp_path, f"[operator]\nhost = '{host}'", {}, dev=True)
    assert told.startswith("operator.host: --dev gives a token to any")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_dev_takes_every_loopback_address(host: str) -> None:
    assert load(env={}, flags={"server.host": host}, dev=True).server.host == host


def test_the_printed_defaults_are_the_defaults() -> None:
    tables = tomllib.loads(default_config_text())
    assert msgspec.convert(tables, Config) == Config()
    assert set(dotted(tables)) == {key.dotted for key in keys()}


def dotted(table: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{before}{name}.")
        else:
            yield before + name


def test_every_key_has_a_description() -> None:
    for key in keys():
        assert re.fullmatch(r"[A-Z\"].*\.", key.description), key.dotted
        values = [text for text in re.findall(r"'([^']*)'", str(key.type).partition("Meta(")[0]) if text]
        assert all(text in key.description for text in values), f"{key.dotted} names every value it can have"


def test_every_key_is_printed_with_its_description_and_unit() -> None:
    printed = default_config_text()
    text = " ".join(line.removeprefix("# ") for line in printed.splitlines())
    for key in keys():
        shown = f"{key.description} Unit: {unit(key)}." if unit(key) else key.description
        assert f" {shown} {key.name} = {msgspec.json.encode(key.default).decode()} " in f"{text} ", key.dotted
    assert max(len(line) for line in printed.splitlines() if line.startswith("#")) <= 120


def test_the_names_of_the_interface_stay() -> None:
    named = {
        "server": "host port workers backlog origins tls_cert tls_key demo",
        "operator": "host port api_key api_key_file",
        "auth": "secret secret_file algorithms issuer audience",
        "access": "mode",
        "limits": "max_users_per_room max_rooms_per_user max_sessions_per_user heartbeat_interval_s grace_s "
        "idle_after_s typing_stop_s cursor_hz selection_hz typing_hz playback_hz broadcast_hz room_events_hz "
        "max_message_bytes send_soft_bytes send_hard_bytes flush_window_ms room_linger_s auth_timeout_s",
        "log": "level format",
    }
    have = {key.dotted for key in keys()}
    assert {f"{section}.{name}" for section, names in named.items() for name in names.split()} <= have


def test_a_configuration_cannot_be_changed_after_reading() -> None:
    config = load(env=WITH_SECRET)
    assert isinstance(config, Section)
    with pytest.raises(AttributeError):
        config.server.port = 1  # type: ignore[misc]
