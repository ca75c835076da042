"""Elements of the demo page that the tests of this folder read, and actions on it."""

import json
import time
from typing import Any

from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from .conftest import WAIT_MS

expect.set_options(timeout=WAIT_MS)

FRAME_S = 1 / 24
# tolerance for "at the same time" on a busy machine: a few frames, and the time of queries to two pages
SAME_TIME_S = 0.15
DESKTOP, PHONE = (1440, 900), (390, 844)

# the rectangle of the picture inside the video element, computed without the UI kit
PICTURE = """(() => {
    const video = document.getElementById("video"), box = video.getBoundingClientRect();
    const scale = Math.min(box.width / video.videoWidth, box.height / video.videoHeight);
    const width = video.videoWidth * scale, height = video.videoHeight * scale;
    return {left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height};
})()"""


def faces(page: Page) -> Locator:
    """The avatars in the row, one per user, the own one first."""
    return page.locator("#avatars .row button")


def face(page: Page, name: str) -> Locator:
    return page.locator(f"#avatars .row button[aria-label^='{name}']")


def viewer(page: Page, name: str) -> Locator:
    return page.locator("#watch .viewer", has_text=name)


def cursors(page: Page) -> Locator:
    return page.locator("#cursors .cursor")


def point(page: Page, x: float, y: float) -> None:
    """Move the mouse to `x`, `y`, 0 to 1 of the picture."""
    picture = page.evaluate(PICTURE)
    page.mouse.move(picture["left"] + picture["width"] * x, picture["top"] + picture["height"] * y)


def wait_for_cursor(page: Page, x: float, y: float) -> None:
    """Wait until the only cursor on this page rests at `x`, `y` of this page's picture, to 2 px."""
    page.wait_for_function(
        f"""([x, y]) => {{
            const cursor = document.getElementById("cursors").shadowRoot.querySelector(".cursor");
            const tip = cursor?.getBoundingClientRect(), picture = {PICTURE};
            return tip && Math.abs(tip.left - picture.left - x * picture.width) < 2
                && Math.abs(tip.top - picture.top - y * picture.height) < 2;
        }}""",
        arg=[x, y],
    )


def film_time(page: Page) -> float:
    return float(page.locator("#video").evaluate("(video) => video.currentTime"))


def wait_for_time(page: Page, low: float, high: float) -> None:
    page.wait_for_function(
        """([low, high]) => {
            const {currentTime, seeking} = document.getElementById("video");
            return !seeking && low < currentTime && currentTime < high;
        }""",
        arg=[low, high],
    )


def seek(page: Page, seconds: float) -> None:
    page.locator("#seek").fill(str(seconds))


def play(page: Page) -> None:
    page.locator("#play").click()


def expect_playing(page: Page, playing: bool) -> None:
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause" if playing else "Play")


def expect_together(one: Page, other: Page) -> None:
    """Wait until both videos play and are at the same time."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while True:
        before, at_others, after = film_time(one), film_time(other), film_time(one)
        if before - SAME_TIME_S < at_others < after + SAME_TIME_S:
            return
        assert time.monotonic() < deadline, f"{before} .. {after} here, {at_others} there"


class Wire:
    """Intercepts the WebSocket of a page: records what the page sends, and can close the socket with any code."""

    def __init__(self, page: Page) -> None:
        self.sent: list[dict[str, Any]] = []
        self.pongs = 0
        self.socket: WebSocketRoute | None = None
        page.route_web_socket("**/presence", self._on_socket)

    def _on_socket(self, socket: WebSocketRoute) -> None:
        self.socket = socket
        server = socket.connect_to_server()

        def on_message(text: str | bytes) -> None:
            self.sent.append({**json.loads(text), "seenAtMs": time.time() * 1000})
            server.send(text)

        def on_answer(text: str | bytes) -> None:
            self.pongs += json.loads(text)["type"] == "pong"
            socket.send(text)

        socket.on_message(on_message)
        server.on_message(on_answer)

    def close(self, code: int) -> None:
        assert self.socket is not None
        self.socket.close(code=code)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["type"] == kind]
