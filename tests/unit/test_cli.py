"""The command line: commands, flags and exit codes; every refusal is one line that names the remedy."""

import functools
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from koko_presence import cli, process
from koko_presence.config import logs
from koko_presence.config.schema import Config
from koko_presence.process.runtime_folder import RuntimeFolder
from tests.certificates import make_certificate
from tests.waiting import PATIENCE_S

SECRET = "s" * 40


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KOKO_PRESENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KOKO_PRESENCE_AUTH_SECRET", SECRET)


def run(*argv: str) -> int:
    """Return the exit code of `koko-presence argv`, also when argparse raises SystemExit."""
    try:
        return cli.main(argv)
    except SystemExit as left:
        assert isinstance(left.code, int)
        return left.code


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the one line printed on wrong usage."""
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err.strip()


# --- serve ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each server that `serve` would have run; no server runs."""
    calls: list[dict[str, Any]] = []

    class FakeWorker:
        @staticmethod
        def run(config: Config, **more: Any) -> int:
            calls.append({"config": config, **more})
            return 0

    for name in ("worker_process", "supervisor"):
        fake = type(name, (FakeWorker,), {"run": staticmethod(functools.partial(FakeWorker.run, by=name))})
        monkeypatch.setitem(sys.modules, f"koko_presence.process.{name}", fake)
        monkeypatch.setattr(process, name, fake, raising=False)
    monkeypatch.setattr(logs, "configure", lambda *args, **more: calls.append({"logs": args}))
    return calls


def test_serve_gives_the_worker_file_environment_and_flags(
    served: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.toml").write_text("[server]\nport = 1\nbacklog = 5\n")
    monkeypatch.setenv("KOKO_PRESENCE_SERVER_PORT", "2")
    argv = [
        "--config",
        str(tmp_path / "p.toml"),
        "--host",
        "::1",
        "--port",
        "3",
        "--workers",
        "1",
        "--log-level",
        "debug",
    ]
    assert run("serve", *argv) == 0
    logged, ran = served
    config: Config = ran["config"]
    assert (config.server.host, config.server.port, config.server.backlog) == ("::1", 3, 5)
    assert (config.log.level, ran["dev"], ran["by"]) == ("debug", False, "worker_process")
    assert logged["logs"] == (config.log, [SECRET])


def test_serve_reads_the_file_again_on_reload_and_flags_still_win(served: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("[limits]\ncursor_hz = 20\n")
    run("serve", "--config", str(tmp_path / "p.toml"), "--port", "3")
    (tmp_path / "p.toml").write_text("[limits]\ncursor_hz = 10\n[server]\nport = 4\n")
    again: Config = served[1]["reload_config"]()
    assert (again.limits.cursor_hz, again.server.port) == (10.0, 3)


def test_serve_with_several_workers_has_a_supervisor(served: list[dict[str, Any]]) -> None:
    assert run("serve", "--workers", "2") == 0
    assert served[1]["by"] == "supervisor" and served[1]["config"].server.worker_count == 2


def test_serve_dev_keeps_its_secret_through_a_reload(served: list[dict[str, Any]]) -> None:
    assert run("serve", "--dev") == 0
    config: Config = served[1]["config"]
    assert served[1]["dev"] is True and config.auth.secret != SECRET
    assert served[1]["reload_config"]().auth.secret == config.auth.secret


def test_serve_dev_refuses_what_others_could_reach(
    served: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "serve", "--dev", "--host", "0.0.0.0").startswith("server.host: --dev gives a token to any")
    assert served == []


def test_serve_names_the_flag_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "serve", "--port", "web").startswith("server.port (--port): expected a whole number")
    assert refused(capsys, "serve", "--log-level", "loud").startswith("log.level (--log-level): expected")
    assert refused(capsys, "serve", "--workers", "all").startswith(
        "server.workers (--workers): expected a whole number"
    )


# --- tokens -----------------------------------------------------------------------------------------------------------


def check(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return run("check-token")


def test_a_token_holds_the_user_and_the_scopes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [
        "--user",
        "u1",
        "--name",
        "Ada",
        "--room",
        "video_1=join,moderate",
        "--room",
        "project_*=join",
        "--room",
        "r",
    ]
    assert run("token", *argv, "--ttl", "60") == 0
    token = capsys.readouterr().out
    assert token.count("\n") == 1
    assert check(monkeypatch, token) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["user     u1", "name     Ada"]
    assert said[3] in ("expires  in 60 s", "expires  in 59 s")
    assert sorted(said[5:]) == [
        "room     project_*: join",
        "room     r: broadcast, control, join",
        "room     video_1: join, moderate",
    ]


def test_a_token_may_switch_presence_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for more, shown in (([], "presence on"), (["--no-presence"], "presence off")):
        assert run("token", "--user", "u1", *more) == 0
        assert check(monkeypatch, capsys.readouterr().out) == 0
        assert shown in capsys.readouterr().out.splitlines()


def test_a_token_holds_the_settings_of_rooms(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = 'video_*={"title": "Trailer", "waitForViewers": 5}'
    assert run("token", "--user", "u1", "--room", "video_*=join", "--settings", settings) == 0
    assert check(monkeypatch, capsys.readouterr().out) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ['settings video_*: {"title":"Trailer","waitForViewers":5.0}', "room     video_*: join"]


def test_check_token_prints_when_the_application_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("token", "--user", "u1")
    token = capsys.readouterr().out
    monkeypatch.setenv("KOKO_PRESENCE_ACCESS_MODE", "webhook")
    monkeypatch.setenv("KOKO_PRESENCE_ACCESS_WEBHOOK_URL", "https://app.example/access")
    monkeypatch.setenv("KOKO_PRESENCE_ACCESS_WEBHOOK_SECRET", "w" * 40)
    assert check(monkeypatch, token) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("rooms    the application says")


def test_a_token_has_the_configured_issuer_and_audience(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("token", "--user", "u1")
    without = capsys.readouterr().out
    monkeypatch.setenv("KOKO_PRESENCE_AUTH_ISSUER", "https://app.example")
    monkeypatch.setenv("KOKO_PRESENCE_AUTH_AUDIENCE", "presence")
    run("token", "--user", "u1")
    assert check(monkeypatch, capsys.readouterr().out) == 0
    assert check(monkeypatch, without) == 1


def test_a_refused_token_is_exit_1_and_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("token", "--user", "u1")
    token = capsys.readouterr().out
    monkeypatch.setenv("KOKO_PRESENCE_AUTH_SECRET", "t" * 40)
    assert check(monkeypatch, token) == 1
    assert capsys.readouterr().out.startswith("refused: ")
    assert check(monkeypatch, "nonsense") == 1


def test_check_token_without_a_token_is_wrong_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "echo TOKEN | koko-presence check-token" in refused(capsys, "check-token")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--user", "u", "--room", "r=fly"], "'fly' is no scope: use join, control, broadcast, moderate"),
        (["--user", "u", "--room", "=join"], "the pattern is a room id"),
        (["--user", "u", "--room", "a*b"], "one * at its end"),
        (["--user", "u", "--ttl", "0"], "--ttl is from 1 to 86400 seconds"),
        (["--user", "u", "--ttl", "86401"], "--ttl is from 1 to 86400 seconds"),
        (["--user", "u", "--ttl", "soon"], "invalid int value: 'soon'"),
        (["--name", "n"], "--user"),
        (["--user", "u", "--image", "http://x"], "--image: clients would not show it: use an https address"),
        (["--user", "u", "--image", ""], "--image: clients would not show it: use an https address"),
        (["--user", "u", "--settings", "video_*"], "--settings 'video_*': write PATTERN=JSON"),
        (["--user", "u", "--settings", "r=[1]"], "--settings 'r=[1]': write PATTERN=JSON"),
        (["--user", "u", "--settings", "r={"], "--settings 'r={': Input data was truncated"),
        (["--user", "u", "--settings", 'r={"titel": "A"}'], "Object contains unknown field `titel`"),
        (["--user", "u", "--settings", 'r={"waitForViewers": 99}'], "<= 10.0 - at `$.waitForViewers`"),
        (["--user", "u", "--settings", 'r*s={"title": "A"}'], "a room pattern may have one * and only at its end"),
    ],
)
def test_a_token_that_cannot_be_made_is_wrong_use(
    capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    assert told in refused(capsys, "token", *argv)


# --- configuration ----------------------------------------------------------------------------------------------------


def test_check_config_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check-config") == 0
    out = capsys.readouterr().out
    assert "http://127.0.0.1:8080" in out and "claims" in out and SECRET not in out


def test_check_config_warns_of_a_secret_in_a_world_readable_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[operator]\napi_key = "a key of the server API, long enough"\n')
    path.chmod(0o644)
    assert run("check-config", "--config", str(path)) == 0
    assert capsys.readouterr().err.startswith(f"warning: operator.api_key: all users of this host can read {path}")


def test_check_config_prints_every_fault_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.toml").write_text("[server]\nport = 'x'\n[limits]\nspeed = 1\n")
    assert run("check-config", "--config", str(tmp_path / "p.toml")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["server.port", "limits.speed"]


def check_tls(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return exit code and stderr of check-config for the certificate in the folder."""
    text = f"[server]\ntls_cert = '{folder}/cert.pem'\ntls_key = '{folder}/key.pem'\n"
    (folder / "p.toml").write_text(text)
    status = run("check-config", "--config", str(folder / "p.toml"))
    return status, capsys.readouterr().err


def test_regression_check_config_accepted_a_certificate_that_does_not_fit_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cert, key = make_certificate(tmp_path)
    assert check_tls(tmp_path, capsys) == (0, "")
    old_key = key.read_bytes()
    make_certificate(tmp_path)
    key.write_bytes(old_key)
    fault = f"server.tls_key: {key} is not the key of the certificate in {cert}\n"
    assert check_tls(tmp_path, capsys) == (2, fault)
    cert.write_text("no certificate\n")
    status, told = check_tls(tmp_path, capsys)
    assert status == 2 and told.startswith(f"server.tls_cert: {cert} and {key} are not a certificate and its key: ")
    cert.unlink()
    assert check_tls(tmp_path, capsys) == (2, f"server.tls_cert: cannot read {cert}\n")
    cert.mkdir()
    assert check_tls(tmp_path, capsys) == (2, f"server.tls_cert: {cert} and {key} cannot be read: Is a directory\n")


@pytest.mark.parametrize(
    ("begins_in_s", "lasts_s", "told"),
    [(-9000.0, 60.0, " has expired, at "), (9000.0, 1e6, " is not valid before "), (-60.0, 86_400.0, " expires at ")],
)
def test_check_config_warns_of_a_certificate_by_its_dates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], begins_in_s: float, lasts_s: float, told: str
) -> None:
    cert, _ = make_certificate(tmp_path, begins_in_s=begins_in_s, lasts_s=lasts_s)
    status, warning = check_tls(tmp_path, capsys)
    assert status == 0 and warning.startswith(f"warning: server.tls_cert: the certificate in {cert}{told}")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http:///readyz", "http://[::1/"])
@pytest.mark.parametrize("command", ["health", "top"])
def test_regression_an_invalid_port_was_connected_to(
    capsys: pytest.CaptureFixture[str], command: str, url: str
) -> None:
    assert f"{command}: --url {url!r} is no address" in refused(capsys, command, "--url", url)


@pytest.mark.parametrize("text", [None, "[server", "\xff"])
def test_regression_an_unreadable_file_was_reported_to_lack_a_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    monkeypatch.delenv("KOKO_PRESENCE_AUTH_SECRET")
    path = tmp_path / "p.toml"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    assert refused(capsys, "check-config", "--config", str(path)).startswith(f"{path}: ")


def test_default_config_prints_toml(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("default-config") == 0
    assert tomllib.loads(capsys.readouterr().out)["limits"]["cursor_hz"] == 20.0


# --- health and version -----------------------------------------------------------------------------------------------


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"{}" if self.path == "/readyz" else b'{"reason":"draining"}'
        self.send_response(200 if self.path == "/readyz" else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server_port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_health_asks_the_operator_port_and_needs_no_secret(
    server_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KOKO_PRESENCE_AUTH_SECRET")
    monkeypatch.setenv("KOKO_PRESENCE_AUTH_SECRET_FILE", "/not/for/you")
    monkeypatch.setenv("KOKO_PRESENCE_OPERATOR_HOST", "0.0.0.0")
    monkeypatch.setenv("KOKO_PRESENCE_OPERATOR_PORT", str(server_port))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert run("health") == 0
    assert capsys.readouterr().out == f"ready: http://127.0.0.1:{server_port}/readyz answers 200\n"


def test_health_is_exit_1_when_the_server_is_not_healthy(server_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("health", "--url", f"http://127.0.0.1:{server_port}/other") == 1
    assert capsys.readouterr().err.endswith("/other answers 503: draining\n")


def test_health_is_exit_1_when_no_server_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound and not listening: no other process can answer on it
        taken.bind(("127.0.0.1", 0))
        assert run("health", "--url", f"http://127.0.0.1:{taken.getsockname()[1]}/healthz") == 1
    assert "refused" in capsys.readouterr().err


def test_health_with_no_address_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert "use http://HOST:PORT/readyz" in refused(capsys, "health", "--url", "file:///etc/passwd")


def test_health_cannot_guess_a_port_that_the_system_chose(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOKO_PRESENCE_OPERATOR_PORT", "0")
    assert "set a port, or use --url" in refused(capsys, "health")


# --- reload -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server's folder, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="koko") as path:
        monkeypatch.setenv("KOKO_PRESENCE_SERVER_RUNTIME_DIR", f"{path}/run")
        yield Path(path) / "run"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that would have been sent, as (pid, signal)."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    return sent


def test_reload_signals_the_server_of_the_folder(
    folder: Path, told: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    running = RuntimeFolder(folder, 2)
    assert run("reload") == 0 and run("reload", "--rolling") == 0
    assert told == [(os.getpid(), signal.SIGHUP), (os.getpid(), signal.SIGUSR2)]
    assert "reads its configuration again" in capsys.readouterr().out
    running.close()
    assert run("reload") == 1 and not folder.exists()
    assert "no server runs with" in capsys.readouterr().err


def test_reload_rolling_of_one_worker_is_refused_before_a_signal_is_sent(
    folder: Path, told: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    running = RuntimeFolder(folder, 1)
    assert "serve with --workers 2 or more" in refused(capsys, "reload", "--rolling")
    assert run("reload") == 0 and len(told) == 1
    running.close()


def test_reload_never_signals_another_process_with_the_pid_of_a_dead_server(
    folder: Path, told: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(mode=0o700)
    (folder / "supervisor.pid").write_text(f"{os.getpid()}\nworkers 2\n")
    assert run("reload") == 1 and told == []
    assert "give the same --config and --port" in capsys.readouterr().err


def test_reload_of_another_users_server_names_the_permitted_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def not_permitted(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    running = RuntimeFolder(folder, 1)
    monkeypatch.setattr(os, "kill", not_permitted)
    assert run("reload") == 1
    assert "run this as the user that serves" in capsys.readouterr().err
    running.close()


def test_reload_cannot_guess_a_port_that_the_system_chose(capsys: pytest.CaptureFixture[str]) -> None:
    assert "set server.runtime_dir" in refused(capsys, "reload", "--port", "0")


def test_reload_with_a_faulty_file_prints_the_fault_instead(
    told: list[tuple[int, int]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.toml").write_text("[limits]\ncursor_hz = 'x'\n")
    assert refused(capsys, "reload", "--config", str(tmp_path / "p.toml")).startswith("limits.cursor_hz") and told == []


def test_version_names_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("version") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["koko-presence", "Python", "picows", "uvloop", "msgspec", "compiled"]


# --- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["fly"], ["serve", "--fly"], ["version", "extra"]])
def test_wrong_use_is_exit_2_and_one_line_with_a_hint(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert "Try: koko-presence" in refused(capsys, *argv)


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    said = capsys.readouterr().out
    assert "koko-presence serve --dev" in said and "exit codes: 0 success, 2 wrong use" in said
    for command in ["serve", "reload", "token", "check-token", "check-config", "default-config", "health", "version"]:
        assert f"\n    {command} " in said
    assert run("token", "--help") == 0
    assert "koko-presence token --user u1" in capsys.readouterr().out


def test_help_imports_nothing_slow() -> None:
    script = (
        "import sys; from koko_presence.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'msgspec','uvloop','picows','aiohttp','jwt','asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "koko_presence", "fly"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("koko-presence: ") and done.stderr.count("\n") == 1


# --- hints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["serve", "--prot", "9000"], "koko-presence serve: unknown option --prot; did you mean --port?"),
        (["serve", "--prot=9000"], "koko-presence serve: unknown option --prot; did you mean --port?"),
        (["token", "--user", "u", "--rooms", "r"], "koko-presence token: unknown option --rooms; did you mean --room?"),
        (["serve", "--rolling"], "koko-presence serve: unknown option --rolling."),
        (
            ["serve", "--drain-s", "5"],
            "koko-presence serve: unknown option --drain-s; in the configuration file it is server.drain_s.",
        ),
        (["serve", "-p", "80"], "koko-presence serve: unknown option -p; did you mean --port?"),
        (
            ["serve", "--limits.cursor-hz=10"],
            "koko-presence serve: unknown option --limits.cursor-hz; in the configuration file it is limits.cursor_hz.",
        ),
        (["check-config", "p.toml"], "koko-presence check-config: unexpected argument 'p.toml'."),
    ],
)
def test_regression_an_unknown_option_of_a_command_pointed_to_the_general_help(
    capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    line = refused(capsys, *argv)
    assert line.startswith(told) and line.endswith(f"Try: koko-presence {argv[0]} --help")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["stop"], "unknown command 'stop'; a server stops at SIGTERM or Ctrl-C"),
        (["status"], "unknown command 'status'; whether a server is ready is told by  koko-presence health"),
        (["sevre"], "unknown command 'sevre'; did you mean koko-presence serve?"),
        (["--version"], "unknown option --version; did you mean koko-presence version?"),
        (["--port", "9000", "serve"], "the command comes first: koko-presence serve --port ..."),
        (["fly"], "unknown command 'fly'."),
    ],
)
def test_an_unknown_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str], argv: list[str], told: str) -> None:
    line = refused(capsys, *argv)
    assert line.startswith(f"koko-presence: {told}") and line.endswith("Try: koko-presence --help")


@pytest.mark.parametrize("command", ["health", "top"])
def test_a_refused_connection_to_the_operator_port_says_that_a_reload_does_not_move_it(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with socket.socket() as taken:  # bound and not listening: no other process can answer on it
        taken.bind(("127.0.0.1", 0))
        assert run(command, "--url", f"http://127.0.0.1:{taken.getsockname()[1]}/metrics") == 1
    said = capsys.readouterr().err
    assert "with this configuration (--config FILE)?" in said
    assert "operator.port takes effect at a restart only, not at a reload" in said


@pytest.mark.parametrize("end", ["", "/"])
def test_regression_health_took_the_live_page_for_the_answer_when_its_address_had_no_path(
    server_port: int, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    assert run("health", "--url", f"http://127.0.0.1:{server_port}{end}") == 0
    assert capsys.readouterr().out == f"ready: http://127.0.0.1:{server_port}/readyz answers 200\n"


def test_reload_of_a_server_whose_port_has_been_changed_in_the_file_names_the_flag(
    capsys: pytest.CaptureFixture[str], told: list[tuple[int, int]], tmp_path: Path
) -> None:
    (tmp_path / "p.toml").write_text("[server]\nport = 1\n")
    assert run("reload", "--config", str(tmp_path / "p.toml")) == 1 and told == []
    assert "--port with the old one when server.port has been changed" in capsys.readouterr().err
