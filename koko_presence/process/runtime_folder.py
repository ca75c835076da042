"""The runtime folder of a server: workers' sockets, the locked pid file, and the messages about addresses at the start.

The folder is accessible to its user only, since a process that can write to the workers' sockets could act for every
user. The pid file is locked for the lifetime of the server, so that neither the file of a killed server nor a pid that
was assigned to another program is mistaken for a server. `RuntimeFolder` writes the folder; the functions only read it.
"""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import ssl
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from koko_presence.config.queued_stream import queued
from koko_presence.config.schema import Config

PID_FILE = "supervisor.pid"
MAX_SOCKET_PATH_BYTES = 107  # sun_path without its terminating zero [unix(7)]
LONGEST_SOCKET_NAME = "w4294967295.sock"


class RuntimeFault(Exception):
    """The folder cannot be used, or no server can be found by it; the text states the remedy."""


class NoServer(RuntimeFault):
    """No server runs with the folder."""


class OneWorker(RuntimeFault):
    """The server has one worker, which cannot be replaced while it serves."""


class Running(NamedTuple):
    """A server found by its pid file."""

    pid: int
    workers: int


def runtime_dir(config: Config, port: int, env: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for the sockets and the pid file of the server on `port`. Errors: RuntimeFault if no folder is
    writable."""
    if config.server.runtime_dir:
        return Path(config.server.runtime_dir)
    # a unit with several runtime directories gets them separated by colons
    given = env.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    try:
        temporary = tempfile.gettempdir()
    except OSError as error:
        raise RuntimeFault(f"no temporary folder is writable: {error.strerror}: set server.runtime_dir") from None
    return Path(temporary) / f"koko-presence-{os.getuid()}-{port}"


class RuntimeFolder:
    """The folder of a running server: created, locked, and cleared at the end."""

    def __init__(self, path: Path, workers: int) -> None:
        """Errors: RuntimeFault if other users can access the folder, or another server uses it."""
        self.path = path.absolute()
        if len(os.fsencode(self.path)) + 1 + len(LONGEST_SOCKET_NAME) > MAX_SOCKET_PATH_BYTES:
            raise RuntimeFault(f"{self.path} is too long for sockets in it: set server.runtime_dir to a shorter path")
        self._workers = workers
        self._made, self._lock = self._take()
        for stale in self.path.glob("w*.sock"):
            stale.unlink(missing_ok=True)

    def _take(self) -> tuple[bool, int]:
        """Create the folder if it is missing, lock and write the pid file. Returns whether the folder was created, and
        the descriptor of the pid file. Errors: RuntimeFault."""
        try:
            made = _make_private(self.path)
            lock = os.open(self.path / PID_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RuntimeFault(f"{self.path} cannot be used: {error.strerror}: set server.runtime_dir") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise RuntimeFault(
                f"another koko-presence uses {self.path}: stop it, or set another server.runtime_dir"
            ) from None
        try:
            os.truncate(lock, 0)
            os.write(lock, f"{os.getpid()}\nworkers {self._workers}\n".encode())
        except OSError as error:
            os.close(lock)
            raise RuntimeFault(f"{self.path} cannot be written to: {error.strerror}: set server.runtime_dir") from None
        return made, lock

    def mend(self) -> bool:
        """Create the folder and the pid file again if they were removed. Returns whether they were. Errors:
        RuntimeFault, as at the start."""
        try:
            there, ours = os.stat(self.path / PID_FILE, follow_symlinks=False), os.fstat(self._lock)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return False
        except OSError:
            pass
        made, lock = self._take()
        os.close(self._lock)
        self._made, self._lock = self._made or made, lock
        return True

    def lacks(self, address: str) -> bool:
        """Whether the socket file of a worker is missing."""
        return not os.path.lexists(address)

    def forget(self, address: str) -> None:
        """Remove the socket file of a worker that has ended."""
        with contextlib.suppress(OSError):  # the next start clears the folder
            Path(address).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the server's files, and the folder if the server created it."""
        with contextlib.suppress(OSError):
            for path in (*self.path.glob("w*.sock"), self.path / PID_FILE):
                path.unlink(missing_ok=True)
        os.close(self._lock)
        if self._made:
            with contextlib.suppress(OSError):  # the folder contains files of other programs
                self.path.rmdir()


def find_server(path: Path) -> Running:
    """Find the server that uses the folder `path`. Errors: NoServer, RuntimeFault."""
    try:
        opened = os.open(path / PID_FILE, os.O_RDONLY | os.O_NOFOLLOW)
    except PermissionError:
        raise RuntimeFault(f"{path} belongs to another user: run this as the user that serves") from None
    except OSError:
        raise NoServer(_no_server_text(path)) from None
    with os.fdopen(opened) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # locked by the server
            lines = file.read().split()
            if len(lines) < 3:  # locked, but not written yet
                raise NoServer(f"the server with {path} is still starting: try again in a moment") from None
            return Running(int(lines[0]), int(lines[2]))
    raise NoServer(_no_server_text(path))


def signal_server(path: Path, *, rolling: bool) -> int:
    """Send SIGHUP, or SIGUSR2 for a rolling reload, to the server that uses the folder; returns its pid. Errors:
    NoServer, OneWorker, RuntimeFault."""
    server = find_server(path)
    if rolling and server.workers == 1:
        raise OneWorker(
            "one worker cannot be replaced while it serves: leave --rolling out, or serve with --workers 2 or more"
        )
    try:
        os.kill(server.pid, signal.SIGUSR2 if rolling else signal.SIGHUP)
    except ProcessLookupError:
        raise NoServer(_no_server_text(path)) from None
    except PermissionError:
        raise RuntimeFault(f"process {server.pid} is another user's: run this as the user that serves") from None
    return server.pid


def _no_server_text(path: Path) -> str:
    return (
        f"no server runs with {path}: give the same --config and --port as to serve, and --port with the old one when "
        "server.port has been changed; under systemd, use  systemctl reload koko-presence"
    )


def _make_private(path: Path) -> bool:
    """Create a folder of mode 0700 if it is missing; returns whether it was. Errors: OSError; RuntimeFault if other
    users can access it."""
    made = False
    try:
        path.mkdir(mode=0o700)
        made = True
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise RuntimeFault(f"{path} is not a directory: set another server.runtime_dir")
    if found.st_uid != os.getuid():
        raise RuntimeFault(f"{path} belongs to another user: set another server.runtime_dir")
    if found.st_mode & 0o077:
        raise RuntimeFault(f"{path} is open to other users: chmod 700 it, or set RuntimeDirectoryMode=0700 in systemd")
    return made


def announce(config: Config, port: int, *, dev: bool) -> None:
    """Print the address of the demo, and with `dev` that of the tokens, for a user at a terminal."""
    scheme = "https" if config.server.tls_cert else "http"
    address = authority(config.server.host, port)
    sys.stdout.flush()
    out = queued(1)
    if config.server.demo:
        print(f"Demo:  {scheme}://{address}/demo   (open it in two windows)", file=out)
    if dev:
        print(f"Token: {scheme}://{address}/dev/token?user=ID&name=NAME   Stop with Ctrl-C", file=out)


def serving_fields(config: Config, port: int, *, dev: bool) -> dict[str, str]:
    """The addresses of the service and the origins of pages that may connect, as fields of a log line."""
    address, safe = authority(config.server.host, port), "s" if config.server.tls_cert else ""
    origins = ", ".join(("this machine" if dev else "the server's own", *config.server.origins))
    return {"address": address, "websocket": f"ws{safe}://{address}/presence", "origins": origins}


def authority(host: str, port: int) -> str:
    """Format `host:port` as URLs do, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_serve(config: Config, error: OSError) -> str:
    """The message for an address or a certificate that cannot be used, with the remedy."""
    server = config.server
    start = f"cannot serve on {authority(server.host, server.port)}: "
    if isinstance(error, ssl.SSLError):
        return f"{start}{server.tls_cert} and its key are not a valid certificate: {error}"
    if isinstance(error, socket.gaierror):
        return f"{start}no address is known for that name. {_ANOTHER_HOST}"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"{start}this machine has no such address. {_ANOTHER_HOST}"
    if error.errno == errno.EADDRINUSE:
        return f"{start}{error.strerror}. Is something else there? Stop it, or set server.port to a free one"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{start}{error.strerror}. Allow more descriptors (LimitNOFILE, ulimit -n)"
    if error.errno == errno.EACCES:
        return f"{start}{error.strerror}. Set server.port to 1024 or more, or allow ports below (CAP_NET_BIND_SERVICE)"
    return f"{start}{error.strerror or error}"


_ANOTHER_HOST = "Set server.host to an address of this machine, or to 0.0.0.0 or :: for all that it has"


def no_operator_port(config: Config, error: OSError) -> str:
    """The message for an operator port that cannot be opened, with the remedy."""
    address = authority(config.operator.host, config.operator.port)
    remedy = "Set operator.port (KOKO_PRESENCE_OPERATOR_PORT) to a free one"
    return f"cannot open the operator port {address}: {error.strerror or error}. {remedy}"
