"""A real server process and a real Chromium for the tests in this folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from tests.waiting import PATIENCE_S

from .cable import Cable

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# the first is the same engine without a browser around it: a page takes a third of the CPU
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WAIT_MS = 1000.0 * PATIENCE_S
GRACE_S = 60.0  # longer than any reconnect on a busy machine takes; a tab that is closed sends a leave [D2]

REPORT_VIOLATIONS = """addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI}) =>
    console.error(`policy violated: ${violatedDirective} ${blockedURI}`))"""

Enter = Callable[..., Page]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs Chromium; drives the pages as people do")


class Server:
    """`koko-presence serve --dev` in a process of its own. Errors: RuntimeError if it does not start."""

    def __init__(self, log: Path, port: int = 0, **settings: object) -> None:
        self._log = log
        self._log_file = log.open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "koko_presence", "serve", "--dev", "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            text=True,
            cwd=log.parent,
            env=os.environ
            | {"KOKO_PRESENCE_LIMITS_GRACE_S": str(GRACE_S), "KOKO_PRESENCE_OPERATOR_PORT": "0"}
            # each test has a room of its own, and all tests use the same users
            | {"KOKO_PRESENCE_LIMITS_MAX_SESSIONS_PER_USER": "1000"}
            # a fake clock sends heartbeats faster than real time allows, and a page without an answer reconnects
            | {"KOKO_PRESENCE_LIMITS_HEARTBEAT_MIN_INTERVAL_S": "0"}
            | {f"KOKO_PRESENCE_LIMITS_{key.upper()}": str(value) for key, value in settings.items()},
        )
        self.url = self._wait_for_address()
        self.port = int(self.url.rpartition(":")[2])
        with urlopen(f"{self.url}/healthz", timeout=PATIENCE_S) as answer:
            assert answer.status == 200

    def _wait_for_address(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Demo:"):
                return line.split()[1].removesuffix("/demo")
        raise RuntimeError(f"The server did not start:\n{self._log.read_text()}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log_file.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server") / "server.log")
    yield running
    running.stop()


# Module scope, not session: while Playwright's own loop exists, no other test can call asyncio.run.
@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """The browser that is named in the module's CHROMIUM or else in CHROMIUMS; the first that is installed. It is
    started without the flags of Playwright that are in the module's LEFT_OUT_FLAGS."""
    names = [*filter(None, [getattr(request.module, "CHROMIUM", None)]), *CHROMIUMS]
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.fail("No Chromium here. Type: make test (it installs one), or: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium,
            args=CHROMIUM_FLAGS,
            ignore_default_args=getattr(request.module, "LEFT_OUT_FLAGS", []),
        )
        yield running
        running.close()


@pytest.fixture
def cable(server: Server) -> Iterator[Cable]:
    """A proxy to the server that the test can cut or hold back."""
    made = Cable(server.port)
    yield made
    made.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """Console errors and warnings of the test's pages. A test that provokes them empties the list."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile of the test's own."""
    made = browser.new_context()
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def enter(server: Server, browser: Browser, complaints: list[str], request: pytest.FixtureRequest) -> Iterator[Enter]:
    """Open the demo as the given user, in a browser profile of its own and a room of the test's own."""
    contexts = []

    def on_dialog(dialog: Dialog) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open_page(
        user: str,
        name: str,
        *,
        size: tuple[int, int] = (1280, 860),
        base: str | None = None,
        prepare: Callable[[Page], None] | None = None,
        scheme: Literal["dark", "light"] = "light",
        state: str = "live",
    ) -> Page:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.add_init_script(REPORT_VIOLATIONS)
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", on_dialog)
        if prepare is not None:
            prepare(page)
        room = f"video_{request.node.name}"[:128]
        page.goto(f"{base or server.url}/demo?{urlencode({'user': user, 'name': name, 'room': room})}")
        page.wait_for_selector(f"body[data-state={state}]")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            page.goto("about:blank")  # a page that is closed with its context sends no leave
        context.close()
