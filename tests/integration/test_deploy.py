"""The files for operators: the systemd unit and the files beside it, the proxy configurations, the installation
script."""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from koko_presence import __version__
from koko_presence.config.schema import load
from tests.waiting import PATIENCE_S

from .servers import process

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "koko-presence.service"
HIGHEST_EXPOSURE = 15  # of 100; a unit without hardening has 96


def call(*command: str | Path, **env: str) -> str:
    """Run a command that must succeed; return its output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KOKO_"))} | env
    done = subprocess.run(
        command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def tool(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


# --- systemd ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with an ExecStart program that exists on this machine, otherwise unchanged."""
    copy = tmp_path / UNIT.name
    text, changed = re.subn(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    assert changed == 1
    copy.write_text(text)
    return copy


def test_systemd_verifies_the_unit_without_a_warning(unit: Path) -> None:
    assert call(tool("systemd-analyze"), "verify", unit) == ""


def test_the_unit_is_as_closed_as_it_can_be(unit: Path) -> None:
    analyze = (tool("systemd-analyze"), "security", "--no-pager", "--offline=true")
    call(*analyze, f"--threshold={HIGHEST_EXPOSURE}", unit)
    unit.write_text(re.sub("^(Protect|Private).*$", "", unit.read_text(), flags=re.MULTILINE))
    loose = subprocess.run([*analyze, f"--threshold={HIGHEST_EXPOSURE}", unit], capture_output=True, check=False)
    assert loose.returncode == 1


def test_the_unit_is_what_the_server_expects() -> None:
    unit = settings(UNIT)
    assert unit["Type"] == ["notify"] and unit["NotifyAccess"] == ["main"]
    assert unit["RestartPreventExitStatus"] == ["2 CREDENTIALS"] and unit["Restart"] == ["on-failure"]
    assert unit["KillMode"] == ["mixed"] and unit["OOMPolicy"] == ["continue"]
    assert unit["RuntimeDirectoryMode"] == ["0700"] and int(unit["TimeoutStopSec"][0]) > 10
    names = [value.partition(":")[0] for value in unit["LoadCredential"]]
    config = (DEPLOY / "koko-presence.toml").read_text()
    assert re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/(\w+)", config) == sorted(names)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o600, 0o600), (0o400, 0o400), (0o640, 0o640), (0o644, 0o640), (0o666, 0o640), (0o440, 0o440)],
)
def test_modes_stay_as_the_operator_set_them_and_secrets_are_never_looser_than_0640(
    tmp_path: Path, before: int, after: int
) -> None:
    """The modes were set to one fixed value at boot and at every start, whatever the operator had set."""
    for name in ("koko-presence.toml", "secret", "api_key"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(before)
    (command,) = settings(UNIT)["ExecStartPre"]
    assert command.startswith("-+"), "as root, and where there is no such file it does not matter"
    call(*command.removeprefix("-+").replace("/etc/koko-presence", str(tmp_path)).split())
    assert modes(tmp_path) == {"koko-presence.toml": before, "secret": after, "api_key": after}
    assert not (DEPLOY / "tmpfiles.d").exists()


def test_every_kernel_setting_exists_and_has_a_reason() -> None:
    lines = (DEPLOY / "sysctl.d/90-koko-presence.conf").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert len(wanted) >= 4
    for line in wanted:
        name, value = (part.strip() for part in line.split("="))
        path = Path("/proc/sys") / name.removeprefix("-").replace(".", "/")
        assert path.exists() or name.startswith("-") or "/core/" in str(path), f"{path}: {value}"
        above = lines[lines.index(line) - 1]
        assert above.startswith("#") or "=" in above


# --- the script ---------------------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def make(target: str, root: Path, **variables: str) -> str:
    words = [f"{name}={value}" for name, value in {"DESTDIR": str(root), "PYTHON": sys.executable, **variables}.items()]
    return call(tool("make"), "--no-print-directory", "-C", ROOT, target, *words)


def test_a_first_install_is_complete_and_a_second_changes_nothing_of_the_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = make("install-systemd", tmp_path, PACKAGE="no")
    assert "systemctl enable --now koko-presence" in said and "made /etc/koko-presence/secret" in said
    etc = tmp_path / "etc/koko-presence"
    assert modes(etc) == {"koko-presence.toml": 0o644, "secret": 0o600, "api_key": 0o600}
    assert (tmp_path / "etc/systemd/system/koko-presence.service").read_text() == UNIT.read_text()
    kernel = "sysctl.d/90-koko-presence.conf"
    assert (tmp_path / "etc" / kernel).read_text() == (DEPLOY / kernel).read_text()

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(etc))
    config = load(etc / "koko-presence.toml", {})
    assert len(config.auth.secret) >= 64 and len(config.operator.api_key) >= 64
    assert config.auth.secret != config.operator.api_key

    (etc / "koko-presence.toml").write_text("# mine\n")
    mine = {"koko-presence.toml": 0o640, "secret": 0o640, "api_key": 0o400}
    for name, mode in mine.items():
        (etc / name).chmod(mode)
    etc.chmod(0o711)
    old = tmp_path / "etc/tmpfiles.d/koko-presence.conf"
    old.parent.mkdir()
    old.write_text("z /etc/koko-presence/secret 0600 root root -\n")
    before = {path: path.read_bytes() for path in etc.iterdir()}
    (tmp_path / "etc/systemd/system/koko-presence.service").write_text("of the version before\n")
    said = make("install-systemd", tmp_path, PACKAGE="no")
    assert "made" not in said
    assert modes(etc) == mine and stat.S_IMODE(etc.stat().st_mode) == 0o711 and not old.exists()
    assert {path: path.read_bytes() for path in etc.iterdir()} == before
    assert (tmp_path / "etc/systemd/system/koko-presence.service").read_text() == UNIT.read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree that contains the compiled extensions."""
    tree = tmp_path_factory.mktemp("tree") / "source"
    skipped = shutil.ignore_patterns(".git", ".venv", "dist", "*.egg-info", "*.so", "__pycache__", ".*_cache", "lib.*")
    shutil.copytree(ROOT, tree, ignore=skipped, symlinks=True)
    compiled = tree / f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}/koko_presence/_fastpath"
    compiled.mkdir(parents=True)
    for extension in (ROOT / "_fastpath").glob("*.so"):
        # newer than its sources, so that nothing is compiled again
        shutil.copyfile(extension, compiled / extension.name)
    out = tree.parent / "out"
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    call(*pip, "--no-deps", "--no-build-isolation", "-w", out, tree)
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.packaging
def test_the_package_goes_into_an_environment_of_its_own_and_upgrades_beside_it(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp(
        "d"
    )  # short: the first line of a script holds 127 characters, and pip writes another form of it for longer paths
    make("install-systemd", tmp_path, WHEEL=str(wheel))
    home = tmp_path / "opt/koko-presence"
    first = (home / "venv").readlink()
    said = call(home / "venv/bin/python", "-I", "-m", "koko_presence", "version")
    assert f"koko-presence {__version__}" in said
    # the installed script has the path that the unit names, in whatever folder it was built
    (program,) = re.findall(r"^ExecStart=(\S+)", UNIT.read_text(), re.MULTILINE)
    script = tmp_path / program.removeprefix("/")
    assert script.stat().st_mode & 0o111 and script.read_text().startswith("#!/opt/koko-presence/venv/bin/python")
    assert program in (tmp_path / "usr/local/bin/koko-presence").read_text()

    broken = tmp_path / "broken-1.0-py3-none-any.whl"
    broken.write_text("no wheel")
    with pytest.raises(AssertionError, match="what was installed before is untouched"):
        make("install-systemd", tmp_path, WHEEL=str(broken))
    assert (home / "venv").readlink() == first and len(list((home / "releases").iterdir())) == 1

    make("uninstall-systemd", tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {broken.name} | {f"etc/koko-presence/{name}" for name in ("koko-presence.toml", "secret", "api_key")}
    make("uninstall-systemd", tmp_path, PURGE="1")
    assert not (tmp_path / "etc/koko-presence").exists()


def test_a_wrong_call_of_the_script_prints_a_hint(tmp_path: Path) -> None:
    script = DEPLOY / "install.sh"
    for word, env, says in (
        ("remove", {}, "use install or uninstall"),
        ("install", {"WHEEL": "none.whl"}, "WHEEL=none.whl is no file"),
        ("install", {"PYTHON": "/nowhere/python"}, "apt-get install -y python3 python3-venv"),
    ):
        with pytest.raises(AssertionError, match=re.escape(says)):
            call("bash", script, word, DESTDIR=str(tmp_path), **env)
    assert not (tmp_path / "etc").exists()


# --- the proxies --------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that allows all users into all rooms."""
    monkeypatch.setenv("KOKO_PRESENCE_OPERATOR_PORT", "0")
    command = [sys.executable, "-m", "koko_presence", "serve", "--dev", "--port", "0", "--log-level", "error"]
    with process(command, r":(\d+)/demo") as (_running, port):
        yield port


@contextmanager
def proxy(port: int, folder: Path, *command: str) -> Iterator[None]:
    """A proxy that accepts on `port` while the block runs."""
    log = folder / "proxy.log"
    env = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log.open("w") as said:
        running = subprocess.Popen(command, stdout=said, stderr=said, env=env)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while running.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            pytest.fail(log.read_text())
        yield
    finally:
        running.terminate()
        running.wait(PATIENCE_S)


def enter_a_room(port: int, security: ssl.SSLContext | None, server: int) -> None:
    """Authenticate and join through the proxy on `port`, with the origin of a page of this host."""
    with socket.create_connection(("127.0.0.1", server)) as plain:
        plain.sendall(b"GET /dev/token?user=u1&name=Ada HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: plain.recv(4096), b""))
    token = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])["token"]
    secure = "s" if security else ""
    url, origin = f"ws{secure}://localhost:{port}/presence", f"http{secure}://localhost:{port}"
    # a proxy that does not forward the host and its port gets 403 for this origin
    with connect(url, ssl=security, origin=origin, proxy=None, open_timeout=PATIENCE_S) as ws:  # type: ignore[arg-type]
        ws.send(json.dumps({"type": "auth", "token": token}))
        ws.send(json.dumps({"type": "join", "roomId": "video_1", "roomType": "video"}))
        heard = [json.loads(ws.recv(timeout=PATIENCE_S))["type"] for _ in range(2)]
    assert "joined" in heard


def nginx_settings(folder: Path, certificate: tuple[Path, Path], port: int, server: int) -> Path:
    text = (DEPLOY / "nginx.conf").read_text()
    for old, new in (
        ("/etc/ssl/presence.example.com/fullchain.pem", str(certificate[0])),
        ("/etc/ssl/presence.example.com/privkey.pem", str(certificate[1])),
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("    listen [::]:80;\n", ""),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("    listen [::]:443 ssl;\n", ""),
        ("server 127.0.0.1:8080", f"server 127.0.0.1:{server}"),
    ):
        assert old in text
        text = text.replace(old, new)
    site, whole = folder / "site.conf", folder / "nginx.conf"
    site.write_text(text)
    temp = " ".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole.write_text(
        f"pid {folder}/pid; daemon off; error_log stderr; events {{}} http {{ access_log off; {temp} include {site}; }}"
    )
    return whole


def test_behind_nginx(tmp_path: Path, certificate: tuple[Path, Path], trusting: ssl.SSLContext, server: int) -> None:
    nginx, port = tool("nginx"), free_port()
    whole = nginx_settings(tmp_path, certificate, port, server)
    said = call(nginx, "-t", "-p", tmp_path, "-c", whole)
    assert "test is successful" in said and "[warn]" not in said.replace('the "user" directive', "")
    with proxy(port, tmp_path, nginx, "-p", str(tmp_path), "-c", str(whole)):
        enter_a_room(port, trusting, server)


def ask(port: int, security: ssl.SSLContext | None, host: str) -> str:
    """Return the head of the answer to a client that sends forged forwarding headers."""
    claims = "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nX-Forwarded-Proto: gopher\r\n"
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as plain:
        with security.wrap_socket(plain, server_hostname="localhost") if security else plain as sock:
            sock.sendall(f"GET /healthz?a=1 HTTP/1.1\r\nHost: {host}\r\n{claims}Connection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: sock.recv(4096), b"")).decode().partition("\r\n\r\n")[0]


@contextmanager
def recorder() -> Iterator[tuple[int, list[str]]]:
    """Stands in for the server: its port, and the heads of the requests that it receives."""
    heads: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def record() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listening.accept()
                    with sock:
                        heads.append(sock.recv(16384).decode().lower())
                        sock.sendall(b"HTTP/1.1 200 OK\r\nServer: Python/3.11\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=record, daemon=True)
        thread.start()
        yield listening.getsockname()[1], heads
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE_S)


def check_what_a_proxy_says(head: str, answer: str) -> None:
    """Assert that the request has one forwarding header with the address that the proxy sees, and that answers carry
    HSTS and no version."""
    fields = [line.partition(": ")[::2] for line in head.split("\r\n")]
    assert [value for name, value in fields if name == "x-forwarded-for"] == ["127.0.0.1"]
    assert [value for name, value in fields if name == "forwarded"] == []
    assert "gopher" not in head
    assert answer.startswith("HTTP/1.1 200 ") and "\nStrict-Transport-Security: max-age=" in answer
    assert re.findall(r"\nServer: (.*)", answer) in ([], ["nginx\r"])


def test_nginx_sets_one_forwarding_header_limits_and_shows_no_version(
    tmp_path: Path, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    nginx, port = tool("nginx"), free_port()
    with recorder() as (server, heads):
        whole = nginx_settings(tmp_path, certificate, port, server)
        site = tmp_path / "site.conf"
        plain = int(re.findall(r"listen 127\.0\.0\.1:(\d+);", site.read_text())[0])
        # no burst, so that one address reaches its limit at once
        site.write_text(site.read_text().replace("rate=200r/s", "rate=1r/m").replace("burst=400 nodelay", "nodelay"))
        with proxy(port, tmp_path, nginx, "-p", str(tmp_path), "-c", str(whole)):
            answer = ask(port, trusting, "localhost")
            check_what_a_proxy_says(heads[0], answer)
            assert ask(port, trusting, "localhost").startswith("HTTP/1.1 429 ") and len(heads) == 1
            redirect = ask(plain, None, "evil.example")
            assert (
                "\nLocation: https://presence.example.com/healthz?a=1" in redirect and "\nServer: nginx\r" in redirect
            )


def test_nginx_waits_longer_than_the_server_is_silent() -> None:
    limits = load(None, {"KOKO_PRESENCE_AUTH_SECRET": "x" * 32}).limits
    silent_s = limits.ping_interval_s + limits.ping_timeout_s
    timeouts = re.findall(r"proxy_(?:read|send)_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text())
    assert len(timeouts) == 2 and min(map(int, timeouts)) > max(60, 2 * silent_s)


def caddy_settings(folder: Path, port: int, server: int) -> Path:
    text = (DEPLOY / "Caddyfile").read_text()
    changed = text.replace("presence.example.com", f"http://localhost:{port}").replace(
        "127.0.0.1:8080", f"127.0.0.1:{server}"
    )
    assert changed.count("localhost") == 1
    config = folder / "Caddyfile"
    config.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + changed)
    return config


def test_caddy_sets_one_forwarding_header_and_shows_no_version(tmp_path: Path) -> None:
    caddy, port = tool("caddy"), free_port()
    with recorder() as (server, heads):
        config = caddy_settings(tmp_path, port, server)
        with proxy(port, tmp_path, caddy, "run", "--adapter", "caddyfile", "--config", str(config)):
            answer = ask(port, None, f"localhost:{port}")
            check_what_a_proxy_says(heads[0], answer)


def test_behind_caddy(tmp_path: Path, server: int) -> None:
    caddy, port = tool("caddy"), free_port()
    assert "Valid configuration" in call(
        caddy, "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile", XDG_DATA_HOME=str(tmp_path)
    )
    config = caddy_settings(tmp_path, port, server)
    with proxy(port, tmp_path, caddy, "run", "--adapter", "caddyfile", "--config", str(config)):
        enter_a_room(port, None, server)
