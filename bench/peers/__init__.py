"""The servers compared with this one: how to install and start them.

Each peer implements the part of the protocol that bench/loadgen.c needs: auth, join, cursor. They check no token,
field, rate or permission, store no presence and disconnect no client, which is to their advantage. Each takes a port as
its only argument and listens on 127.0.0.1.

The two JavaScript peers are installed by npm into build/peers/, which is never committed.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / "build" / "peers"
MODULES = INSTALLED / "node_modules"
BUN, WS = "1.4.5", "8.23.0"


class Missing(Exception):
    """A peer is not available on this machine; the text states the reason and the remedy."""


@dataclass(frozen=True)
class Peer:
    """`command` returns the command line without the port, and installs what it needs; `about` returns the version."""

    name: str
    about: Callable[[], str]
    command: Callable[[], list[str]]


@cache
def _from_npm() -> None:
    """Install Bun and ws, once, without their install scripts: the binary of Bun is in the package of its platform."""
    wanted = f"bun {BUN}, ws {WS}"
    done = INSTALLED / "installed"
    if done.exists() and done.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("needs npm: apt-get install nodejs npm")
    print(f"peers: getting {wanted} from npm into build/peers/", flush=True)
    command = [npm, "install", "--prefix", str(INSTALLED), "--no-save", "--no-package-lock", "--ignore-scripts"]
    command += ["--no-audit", "--no-fund", "--loglevel=error", f"bun@{BUN}", f"ws@{WS}"]
    INSTALLED.mkdir(parents=True, exist_ok=True)
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise Missing("npm did not finish within 300 s: is there a network?") from None
    if said.returncode:
        lines = said.stderr.strip().splitlines() or [f"exit code {said.returncode}"]
        raise Missing(f"npm failed: {lines[0]}")
    done.write_text(wanted)


def _bun() -> list[str]:
    _from_npm()
    for binary in sorted(MODULES.glob("@oven/bun-*/bin/bun")):  # npm may have installed the musl variant as well
        try:
            subprocess.run([str(binary), "--version"], capture_output=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return [str(binary), str(HERE / "bun_server.js")]
    raise Missing("npm brought no Bun that runs on this machine")


def _node() -> list[str]:
    _from_npm()
    node = shutil.which("node")
    if node is None:
        raise Missing("needs node: apt-get install nodejs")
    return [node, str(HERE / "node_ws.js")]


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", f"bench.peers.{module}"]


def _node_version() -> str:
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return said.stdout.strip().removeprefix("v")


PEERS = {
    peer.name: peer
    for peer in (
        Peer("bun", lambda: f"Bun {BUN} (uWebSockets) with topics", _bun),
        Peer(
            "picows",
            lambda: f"picows {version('picows')}, a plain listener in Python",
            partial(_python, "picows_plain"),
        ),
        Peer("node_ws", lambda: f"ws {WS} on Node {_node_version()}", _node),
        Peer(
            "websockets",
            lambda: f"websockets {version('websockets')} with broadcast()",
            partial(_python, "websockets_broadcast"),
        ),
    )
}
