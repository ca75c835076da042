"""docs/tokens.md, "Better Auth": its configuration, its page with the UI kit and its page with the hooks, signed in by the
application's cookie and nothing else."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.integration.test_deploy import free_port
from tests.waiting import PATIENCE_S, wait_until

from .conftest import WAIT_MS
from .test_docs_sdk import ROOT
from .test_readme import answers

pytestmark = [pytest.mark.browser, pytest.mark.pages]
CHROMIUM = "chromium"

SECTION = (ROOT / "docs" / "tokens.md").read_text().split("\n## Better Auth\n")[1].split("\n## ")[0]
TOML, HTML, TSX = (re.findall(rf"^```{kind}\n(.*?)^```$", SECTION, re.M | re.S)[0] for kind in ("toml", "html", "tsx"))
COOKIE = "better-auth.session_token"
SESSIONS = {"cookie-of-jane": "Jane", "cookie-of-tom": "Tom"}


class BetterAuth(BaseHTTPRequestHandler):
    """The application's `get-session`."""

    def do_GET(self) -> None:
        given = SimpleCookie(self.headers["Cookie"]).get(COOKIE)
        name = SESSIONS.get(given.value) if given else None
        user = {"id": str(name).lower(), "name": name, "email": "-@example.com", "image": None}
        session = {"id": "s", "userId": user["id"], "expiresAt": "2099-01-01T00:00:00.000Z"}
        body = json.dumps({"session": session, "user": user} if name else None).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the documented configuration, for pages of its own origin."""
    folder, port = tmp_path_factory.mktemp("cookie"), free_port()
    application = ThreadingHTTPServer(("127.0.0.1", 0), BetterAuth)
    threading.Thread(target=application.serve_forever, daemon=True).start()
    config = folder / "presence.toml"
    asked = f"http://127.0.0.1:{application.server_port}/api/auth/get-session"
    config.write_text(TOML.replace("https://app.example.com/api/auth/get-session", asked))
    command = [sys.executable, "-m", "koko_presence", "serve", "--config", config.name, "--port", str(port)]
    settings = {"KOKO_PRESENCE_OPERATOR_PORT": "0", "KOKO_PRESENCE_SERVER_DEMO": "true"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=os.environ | settings, stdout=log, stderr=log) as serving,
    ):
        wait_until(lambda: answers(port))
        yield f"http://127.0.0.1:{port}"
        serving.terminate()
        serving.wait(timeout=PATIENCE_S)
    application.shutdown()
    application.server_close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(bypass_csp=True)
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


def open_page(context: BrowserContext, url: str, html: str, cookie: str | None, script: str = "") -> Page:
    if cookie is not None:
        context.add_cookies([{"name": COOKIE, "value": cookie, "url": url}])
    page = context.new_page()
    page.route("**/bundle.js", lambda route: route.fulfill(body=at(url, script), content_type="text/javascript"))
    page.route("**/demo/demo.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    page.goto(f"{url}/demo")  # an HTML page of the server's own origin, emptied
    page.set_content(at(url, html))
    return page


def at(url: str, text: str) -> str:
    """The text with the address of the server in place of the documented one."""
    host = url.removeprefix("http://")
    return text.replace("https://presence.example.com", url).replace("wss://presence.example.com", f"ws://{host}")


def test_the_cookie_signs_in_with_the_kit_and_with_the_hooks(
    browser: Browser, context: BrowserContext, url: str, tmp_path: Path
) -> None:
    source, out = tmp_path / "snippet.tsx", tmp_path / "bundle.js"
    source.write_text(TSX)
    command = ["node", ROOT / "tests/sdk/bundle.js", source, out]
    subprocess.run(command, check=True, timeout=PATIENCE_S, env=os.environ)
    jane = open_page(context, url, HTML, "cookie-of-jane")
    others = browser.new_context(bypass_csp=True)
    others.set_default_timeout(WAIT_MS)
    html = "<!doctype html><div id=app></div><script type=module src=/bundle.js></script>"
    tom = open_page(others, url, html, "cookie-of-tom", out.read_text())
    expect(jane.locator("koko-avatars .row button")).to_have_count(2)
    expect(jane.locator("koko-avatars .row button[aria-label^=Tom]")).to_have_count(1)
    expect(tom.locator("p")).to_have_text("Tom: Jane")
    others.close()
    expect(jane.locator("koko-avatars .row button[aria-label='Tom, active']")).to_have_count(0)


def test_without_a_cookie_it_ends_with_the_reason(context: BrowserContext, url: str) -> None:
    page = open_page(context, url, HTML, None)
    snapshot = "document.querySelector('koko-avatars').room.getSnapshot()"
    page.evaluate("""() => {
        window.errors = [];
        document.querySelector("koko-avatars").room.on("error", ({ message }) => errors.push(message));
    }""")
    page.wait_for_function(f"{snapshot}.status === 'closed'")
    assert page.evaluate(f"{snapshot}.error.closeCode") == 4401
    assert "there is no cookie better-auth.session_token" in page.evaluate("errors")[0]
