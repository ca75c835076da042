"""The back/forward cache: a page that the browser keeps runs nothing, and comes back when the user presses Back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from .conftest import Enter, Server
from .test_connection import LOST

pytestmark = [pytest.mark.browser, pytest.mark.pages]
CHROMIUM = "chromium"
# Playwright switches the cache off, which browsers have
LEFT_OUT_FLAGS = ["--disable-back-forward-cache"]

ROOM = "document.getElementById('avatars').room"
LISTEN = f"""() => {{
    window.heard = [];
    for (const type of ["user_left", "control_released", "control_granted"]) {ROOM}.on(type, () => heard.push(type));
}}"""


@pytest.fixture(autouse=True)
def losses_are_no_complaints(complaints: list[str]) -> Iterator[None]:
    yield
    # Chromium asks for an icon of the other page
    complaints[:] = [text for text in complaints if not any(lost in text for lost in (*LOST, "(Not Found)"))]


def wait_for(page: Page, condition: str) -> None:
    """Wait until a condition of this page's room is fulfilled, where `jane` is the only other user in it."""
    page.wait_for_function(f"() => {{ const room = {ROOM}, [jane] = room.others; return {condition}; }}")


def go_away(page: Page, server: Server) -> None:
    page.evaluate("window.isKept = true")
    page.goto(f"{server.url}/healthz", wait_until="commit")


def come_back(page: Page) -> None:
    page.evaluate("setTimeout(() => history.back(), 0)")
    page.wait_for_selector("body[data-state=live]")
    assert page.evaluate("window.isKept") is True, "the page was loaded anew: this Chromium has no such cache"


def test_a_page_in_the_cache_is_not_connected_and_comes_back_as_the_same_session(enter: Enter, server: Server) -> None:
    tom, jane = enter("tom", "Tom"), enter("jane", "Jane")
    jane.evaluate(f"{ROOM}.requestControl()")
    wait_for(tom, "jane?.connected")
    wait_for(tom, "room.getSnapshot().controller === 'jane'")
    tom.evaluate(LISTEN)
    session, color = jane.evaluate(f"[{ROOM}.self.sessionId, {ROOM}.self.color]")
    for _ in range(2):
        go_away(jane, server)
        wait_for(tom, "jane.connected === false")
        come_back(jane)
        wait_for(tom, "jane.connected")
        assert jane.evaluate(f"[{ROOM}.self.sessionId, {ROOM}.self.color]") == [session, color]
    assert tom.evaluate("heard") == []
    assert tom.evaluate(f"{ROOM}.getSnapshot().controller") == "jane"


def test_a_page_that_stays_in_the_cache_has_left_after_the_grace_period(enter: Enter, tmp_path: Path) -> None:
    server = Server(tmp_path / "server.log", grace_s=1.0)
    try:
        tom, jane = enter("tom", "Tom", base=server.url), enter("jane", "Jane", base=server.url)
        jane.evaluate(f"{ROOM}.requestControl()")
        wait_for(tom, "room.getSnapshot().controller === 'jane'")
        session = jane.evaluate(f"{ROOM}.self.sessionId")
        go_away(jane, server)
        wait_for(tom, "!jane && room.getSnapshot().controller === null")
        come_back(jane)
        wait_for(tom, "jane?.connected")
        assert jane.evaluate(f"{ROOM}.self.sessionId") != session
    finally:
        for page in (tom, jane):
            page.goto("about:blank")
        server.stop()
