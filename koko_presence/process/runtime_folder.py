"""What a running server leaves on the disk, and what it says first: its folder, its pid file, the address it serves.

The folder belongs to this user alone, since whoever can write to the workers' sockets in it speaks for everybody. The
pid file is locked for as long as the server lives, so that a file left by one that was killed, or a pid that was given
to another program meanwhile, is never mistaken for a server.
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
MAX_SOCKET_PATH_BYTES = 107  # sun_path, less its zero [unix(7)]
LONGEST_SOCKET_NAME = "w4294967295.sock"


class RuntimeFault(Exception):
    """The folder cannot be used, or no server can be found by it; the text says what to do."""


class NoServer(RuntimeFault):
    """Nobody serves there."""


class OneWorker(RuntimeFault):
    """A server of one worker cannot replace it while it serves."""


class Running(NamedTuple):
    """A server found by its pid file."""

    pid: int
    workers: int


def runtime_dir(config: Config, port: int, env: Mapping[str, str] = os.environ) -> Path:
    """Where the server on `port` keeps its sockets and its pid. Errors: RuntimeFault when no folder is writable."""
    if config.server.runtime_dir:
        return Path(config.server.runtime_dir)
    # systemd names several with colons between them when the unit asks for several
    given = env.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    try:
        temporary = tempfile.gettempdir()
    except OSError as error:
        raise RuntimeFault(f"no folder can be written to: {error.strerror}: set server.runtime_dir") from None
    return Path(temporary) / f"koko-presence-{os.getuid()}-{port}"


class RuntimeFolder:
    """The folder of a server that runs: made, locked, and cleared at the end."""

    def __init__(self, path: Path, workers: int) -> None:
        """Errors: RuntimeFault when the folder is not ours alone, or another server's."""
        self.path = path.absolute()
        if len(os.fsencode(self.path)) + 1 + len(LONGEST_SOCKET_NAME) > MAX_SOCKET_PATH_BYTES:
            raise RuntimeFault(f"{self.path} is too long for sockets in it: set server.runtime_dir to a shorter path")
        self._workers = workers
        self._made, self._lock = self._take()
        for stale in self.path.glob("w*.sock"):
            stale.unlink(missing_ok=True)

    def _take(self) -> tuple[bool, int]:
        """Whether the folder was made just now, and the descriptor of the pid file, locked and written."""
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
        """Make the folder and the pid file again when they were removed. True when they were gone. Errors:
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
        """Whether the socket of a worker that should be there is gone."""
        return not os.path.lexists(address)

    def forget(self, address: str) -> None:
        """Remove the socket of a worker that is gone."""
        with contextlib.suppress(OSError):  # the next start clears the folder
            Path(address).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove what the server has left, and the folder if the server made it."""
        with contextlib.suppress(OSError):
            for path in (*self.path.glob("w*.sock"), self.path / PID_FILE):
                path.unlink(missing_ok=True)
        os.close(self._lock)
        if self._made:
            with contextlib.suppress(OSError):  # somebody else's files in it are theirs
                self.path.rmdir()


def find_server(path: Path) -> Running:
    """The server whose folder this is. Errors: NoServer, RuntimeFault."""
    try:
        opened = os.open(path / PID_FILE, os.O_RDONLY | os.O_NOFOLLOW)
    except PermissionError:
        raise RuntimeFault(f"{path} belongs to another user: run this as the user that serves") from None
    except OSError:
        raise NoServer(_nobody(path)) from None
    with os.fdopen(opened) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # held by the server, as it should be
            lines = file.read().split()
            if len(lines) < 3:  # it has only just locked the file
                raise NoServer(f"the server with {path} is only just starting: ask again in a moment") from None
            return Running(int(lines[0]), int(lines[2]))
    raise NoServer(_nobody(path))


def tell_server(path: Path, *, rolling: bool) -> int:
    """Send the server whose folder this is SIGHUP, or SIGUSR2 for a rolling reload; gives its pid.

    Errors: NoServer, OneWorker, RuntimeFault."""
    server = find_server(path)
    if rolling and server.workers == 1:
        raise OneWorker(
            "one worker cannot be replaced while it serves: leave --rolling out, or serve with --workers 2 or more"
        )
    try:
        os.kill(server.pid, signal.SIGUSR2 if rolling else signal.SIGHUP)
    except ProcessLookupError:
        raise NoServer(_nobody(path)) from None
    except PermissionError:
        raise RuntimeFault(f"process {server.pid} is another user's: run this as the user that serves") from None
    return server.pid


def _nobody(path: Path) -> str:
    return (
        f"no server runs with {path}: give the same --config and --port as to serve; "
        "under systemd, use  systemctl reload koko-presence"
    )


def _make_private(path: Path) -> bool:
    """Whether the folder was made just now. Errors: OSError, RuntimeFault for one that is not ours alone."""
    made = False
    try:
        path.mkdir(mode=0o700)
        made = True
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise RuntimeFault(f"{path} is no folder: set another server.runtime_dir")
    if found.st_uid != os.getuid():
        raise RuntimeFault(f"{path} belongs to another user: set another server.runtime_dir")
    if found.st_mode & 0o077:
        raise RuntimeFault(f"{path} is open to other users: chmod 700 it, or set RuntimeDirectoryMode=0700 in systemd")
    return made


def announce(config: Config, port: int, *, dev: bool) -> None:
    """Tell a person at a terminal where the demo is."""
    scheme = "https" if config.server.tls_cert else "http"
    place = authority(config.server.host, port)
    sys.stdout.flush()
    out = queued(1)
    if config.server.demo:
        print(f"Demo:  {scheme}://{place}/demo   (open it in two windows)", file=out)
    if dev:
        print(f"Token: {scheme}://{place}/dev/token?user=ID&name=NAME   Stop with Ctrl-C", file=out)


def serving_fields(config: Config, port: int) -> dict[str, str]:
    """The addresses, for the log."""
    place, safe = authority(config.server.host, port), "s" if config.server.tls_cert else ""
    return {"address": place, "websocket": f"ws{safe}://{place}/presence"}


def authority(host: str, port: int) -> str:
    """`host:port` as addresses write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_serve(config: Config, error: OSError) -> str:
    """The line for an address or a certificate that is of no use, with what to do instead."""
    server = config.server
    start = f"cannot serve on {authority(server.host, server.port)}: "
    if isinstance(error, ssl.SSLError):
        return f"{start}{server.tls_cert} and its key are no certificate: {error}"
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
    """The line for an operator port that cannot be opened."""
    place = authority(config.operator.host, config.operator.port)
    return f"cannot open the operator port {place}: {error.strerror or error}. Set operator.port to a free one"
