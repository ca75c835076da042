"""The official @trpc/client, compiled by the real TypeScript compiler, against real server processes [M6]."""

import json
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import koko_presence
from koko_presence.auth.hmac_jwt import issue_token
from tests.integration.test_supervisor import SECRET, Service, service
from tests.waiting import PATIENCE_S

HERE = Path(__file__).parent
PACKAGES = HERE.parents[1] / "build" / "npm"
USERS = ("ann", "bob", "tom", "eve")
ROUTER = Path(koko_presence.__file__).parent / "web" / "sdk" / "presence-router.d.ts"


def compile_ts(name: str, sources: dict[str, str], files: list[str]) -> Path:
    """Compile TypeScript to JavaScript; return the folder, which is below the installed packages so that imports
    resolve."""
    folder = PACKAGES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, code in sources.items():
        (folder / file).write_text(code)
    settings = json.loads((HERE / "tsconfig.json").read_text()) | {"files": files}
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    compiler = PACKAGES / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run(["node", str(compiler), "-p", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


@pytest.fixture(scope="session")
def program() -> Path:
    """client.ts compiled to JavaScript."""
    sources = {"client.ts": (HERE / "client.ts").read_text(), "presence-router.d.ts": ROUTER.read_text()}
    return compile_ts("check", sources, ["client.ts"]) / "client.js"


class Client:
    """The compiled program in a process, with some of its scenarios."""

    def __init__(self, program: Path, it: Service, *scenarios: str) -> None:
        now = int(time.time())
        tokens = {user: issue_token(SECRET, user=user, name=user, now_s=now) for user in USERS}
        command = ["node", str(program), f"http://127.0.0.1:{it.port}", json.dumps(tokens), *scenarios]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()

    def end(self) -> list[str]:
        """Wait for the end and return the printed lines. A non-zero exit code fails the test and shows stderr."""
        killer = threading.Timer(2 * PATIENCE_S, self._process.kill)
        killer.start()
        out, complaint = self._process.communicate()
        killer.cancel()
        assert self._process.returncode == 0, out + complaint
        return out.splitlines()


def trouble(it: Service) -> list[dict[str, Any]]:
    return [line for line in it.log() if line["level"] in ("error", "critical")]


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.long)])
def test_the_official_client_works_with_every_link(program: Path, workers: int) -> None:
    names = [
        "httpLink", "httpBatchLink", "httpBatchStreamLink", "limits", "wsLink", "httpSubscriptionLink",
        "refused stream", "refused socket", "superjson",
    ]  # fmt: skip
    with service(workers=workers) as it:
        it.up()
        assert Client(program, it, *names).end() == [f"ok {name}" for name in names]
        assert trouble(it) == []


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["restart", "restart of streams"])
def test_a_client_moves_to_the_next_worker_when_its_own_is_replaced_n_d(program: Path, scenario: str) -> None:
    with service(workers=2) as it:
        it.up()
        client = Client(program, it, scenario)
        assert client.read_line() == "restart me"
        it.signal(signal.SIGUSR2)
        it.wait("every worker was replaced")
        client.go_on()
        assert client.end() == [f"ok {scenario}"]
