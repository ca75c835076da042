"""What keeps a page of an application from being live is told there: in the snapshot, as an event, and in the console where
nothing listens. In Chromium, because it hides from a page why a WebSocket was refused."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.integration.test_deploy import free_port
from tests.waiting import wait_until

from .conftest import CHROMIUM_FLAGS, CHROMIUMS, WAIT_MS, Server

pytestmark = [pytest.mark.browser, pytest.mark.pages]

OTHER_HOST = "app.example"  # leads to this machine, so that no rule about networks comes into play
NOT_OURS = ("WebSocket connection to", "net::ERR_", "Failed to load resource")  # said by the browser itself

# `enter` makes a presence in the page, and records what it is told
SCRIPT = """async ([sdk, url, user, listens]) => {
  const { createPresence } = await import(`${sdk}/sdk/presence.js`);
  const auth = async () => {
    if (!user) throw new Error("signed out");
    if (new URL(sdk).origin !== location.origin) return "not read: the handshake is refused before";
    return (await (await fetch(`/dev/token?user=${user}`)).json()).token;
  };
  window.presences ??= [];
  const presence = createPresence({ url, auth, worker: false });
  presences.push(presence);
  window.errors = [];
  if (listens) presence.on("error", ({ code, message }) => errors.push({ code, message }));
  window.room = presence.enter("video_failures", { type: "video" });
}"""
IS_LIVE = "room.status === 'live' && room.getSnapshot().error === null"

Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for which OTHER_HOST is this machine."""
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)))
    rules = f"--host-resolver-rules=MAP {OTHER_HOST} 127.0.0.1"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=[*CHROMIUM_FLAGS, rules])
        yield running
        running.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Open an empty page at an address; `page.said` of the returned page's console is in the list that is passed."""
    context = browser.new_context()
    context.set_default_timeout(WAIT_MS)

    def open_page(address: str, said: list[str]) -> Page:
        page = context.new_page()
        page.on("console", lambda line: said.append(line.text) if line.type in ("warning", "error") else None)
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.goto(address)
        return page

    yield open_page
    context.close()


def ours(said: list[str]) -> list[str]:
    return [line for line in said if not any(text in line for text in NOT_OURS)]


def error_of(page: Page) -> dict[str, Any]:
    # on a busy machine the first one may be that nothing has come for 5 s
    page.wait_for_function("!/^$|within 5 s/.test(room.getSnapshot().error?.message ?? '')")
    found: dict[str, Any] = page.evaluate("room.getSnapshot().error")
    return found


def test_a_server_that_is_not_there_is_told_until_it_is(server: Server, opened: Opened, tmp_path: Path) -> None:
    said: list[str] = []
    page = opened(f"{server.url}/healthz", said)
    port = free_port()
    page.evaluate(SCRIPT, [server.url, f"ws://127.0.0.1:{port}/presence", "jane", True])
    assert error_of(page)["code"] == "UNREACHABLE"
    assert str(port) in error_of(page)["message"]
    assert page.evaluate("[room.status, errors[0].code]") == ["connecting", "UNREACHABLE"]
    page.evaluate("presences[0].close()")
    page.evaluate(SCRIPT, [server.url, f"ws://127.0.0.1:{server.port}/presence", "jane", True])
    page.wait_for_function(IS_LIVE)
    assert ours(said) == []


@pytest.mark.parametrize("listens", [True, False], ids=["listener", "console"])
def test_a_wrong_path_is_told_with_the_right_one(server: Server, opened: Opened, listens: bool) -> None:
    said: list[str] = []
    page = opened(f"{server.url}/healthz", said)
    page.evaluate(SCRIPT, [server.url, f"ws://127.0.0.1:{server.port}/presense", "jane", listens])
    error = error_of(page)
    assert (error["code"], page.evaluate("room.status")) == ("REFUSED", "connecting")
    assert "The WebSocket is at /presence, not /presense" in error["message"]
    assert page.evaluate("errors.length") == int(listens)
    page.wait_for_function("() => true")  # console messages come in the order of what was done
    assert len(ours(said)) == int(not listens)
    assert all("REFUSED" in line and "/presense" in line for line in ours(said))


def test_a_page_of_a_refused_origin_is_told_that_and_the_log_has_it(
    opened: Opened, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    port = free_port()
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    serve = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    server = Server(tmp_path / "server.log")
    request.addfinalizer(server.stop)
    with subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as serving:
        try:
            wait_until(lambda: answers(port))
            said: list[str] = []
            page = opened(f"http://{OTHER_HOST}:{port}/", said)
            page.evaluate(SCRIPT, [server.url, f"ws://127.0.0.1:{server.port}/presence", "jane", True])
            error = error_of(page)
        finally:
            serving.terminate()
    what = "This page's origin is not on the server's list (server.origins)"
    assert error == {"code": "REFUSED", "message": f'{what}: add "http://{OTHER_HOST}:{port}" to it.'}
    wait_until(
        lambda: f"a page of the origin http://{OTHER_HOST}:{port} was refused" in (tmp_path / "server.log").read_text()
    )


def test_a_page_without_a_token_is_told_what_its_own_program_says(server: Server, opened: Opened) -> None:
    said: list[str] = []
    page = opened(f"{server.url}/healthz", said)
    page.evaluate(SCRIPT, [server.url, "/presence", "", False])
    assert error_of(page) == {"code": "TOKEN", "message": "Error: signed out"}
    page.wait_for_function("() => true")
    assert len(ours(said)) == 1 and "TOKEN: Error: signed out" in said[0]


def test_a_sixth_tab_is_told_why_it_waits_and_comes_in_when_another_is_closed(
    opened: Opened, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = Server(tmp_path / "server.log", max_sessions_per_user=5)
    request.addfinalizer(server.stop)
    said: list[str] = []
    pages = []
    for number in range(6):
        pages.append(opened(f"{server.url}/healthz", said))
        pages[-1].evaluate(SCRIPT, [server.url, "/presence", "jane", True])
        if number < 5:
            pages[-1].wait_for_function(IS_LIVE)
    error = error_of(pages[5])
    assert error["code"] == "TOO_MANY_SESSIONS" and "Close one." in error["message"]
    pages[5].wait_for_function("room.getSnapshot().error.closeCode === 4429")
    assert [page.evaluate("room.status") for page in pages] == [*["live"] * 5, "connecting"]
    pages[0].evaluate("presences[0].close()")
    pages[5].wait_for_function(IS_LIVE)  # it tries again by itself
    assert ours(said) == []


def test_another_tab_that_takes_the_session_is_the_reason_of_the_end(server: Server, opened: Opened) -> None:
    """What the server says in its close frame, and what was refused last, is in the final error."""
    said: list[str] = []
    page = opened(f"{server.url}/healthz", said)
    page.evaluate("""() => {
      const { WebSocket } = window;
      window.WebSocket = class extends WebSocket { constructor(...all) { super(...all); window.socket = this; } };
    }""")
    page.evaluate(SCRIPT, [server.url, "/presence", "jane", True])
    page.wait_for_function(IS_LIVE)
    taken = """async () => {
      const { token } = await (await fetch("/dev/token?user=jane")).json();
      const resumeToken = await new Promise((resolve) => {
        socket.addEventListener("message", ({ data }) => {
          const message = JSON.parse(data);
          if (message.type === "authenticated") resolve(message.resumeToken);
        });
        socket.send(JSON.stringify({ type: "auth", token }));
      });
      const other = new (Object.getPrototypeOf(WebSocket))(socket.url);
      other.onopen = () => other.send(JSON.stringify({ type: "auth", token, resumeToken }));
    }"""
    page.evaluate(taken)
    page.wait_for_function("room.status === 'closed'")
    error = error_of(page)
    assert (error["code"], error["closeCode"], error["cause"]["code"]) == ("CLOSED", 4409, "LOST")
    assert "replaced by a newer connection" in error["message"]
    assert page.evaluate("errors.map(({ code }) => code)") == ["CLOSED"]


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
