"""The demo page as two people see it: real server, real browser, and nothing but what is on the screen.

Every wait is for a condition; `expect` and `wait_for_function` poll it. Section names are those of the specification.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from .conftest import WAIT_MS, Enter, Server

pytestmark = pytest.mark.browser
expect.set_options(timeout=WAIT_MS)

FRAME_S = 1 / 24
SAME_TIME_S = 0.1  # "together" on one machine: a few frames, and the time it takes to ask two pages
DESKTOP, PHONE = (1440, 900), (390, 844)

EVIL = "<img src=x onerror=alert(1)>"


def person(page: Page, user: str) -> Locator:
    return page.locator(f'#people [data-user="{user}"]')


def point(page: Page, x: float, y: float) -> None:
    """Move the mouse to `x`, `y`, 0 to 1 of the picture."""
    box = page.locator("#screen").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)


def wait_for_cursor(page: Page, x: float, y: float) -> None:
    """Wait until the one cursor on this page has come to rest at `x`, `y` of this page's picture, to 1 %."""
    page.wait_for_function(
        """([x, y]) => {
            const [cursor] = document.querySelectorAll("#cursors .cursor");
            const picture = document.getElementById("screen").getBoundingClientRect();
            const tip = cursor?.getBoundingClientRect();
            return tip && Math.abs((tip.left - picture.left) / picture.width - x) < 0.01
                && Math.abs((tip.top - picture.top) / picture.height - y) < 0.01;
        }""",
        arg=[x, y],
    )


def film_time(page: Page) -> float:
    return float(page.locator("#seek").evaluate("(seek) => seek.valueAsNumber"))


def wait_for_time(page: Page, low: float, high: float) -> None:
    page.wait_for_function(
        """([low, high]) => {
            const time = document.getElementById("seek").valueAsNumber;
            return low < time && time < high;
        }""",
        arg=[low, high],
    )


def pixels(page: Page) -> str:
    return str(page.locator("#screen").evaluate("(canvas) => canvas.toDataURL()"))


def seek(page: Page, seconds: float) -> None:
    page.locator("#seek").fill(str(seconds))


def expect_playing(page: Page, playing: bool) -> None:
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause" if playing else "Play")


def test_each_sees_the_other_with_name_initials_status_and_colour(enter: Enter) -> None:
    jane = enter("jane", "Jane Smith")
    tom = enter("tom", "Tom Okafor")
    for page, me in ((jane, "jane"), (tom, "tom")):
        expect(page.locator("#count")).to_have_text("2")
        expect(person(page, "jane").locator(".name")).to_have_text("Jane Smith")
        expect(person(page, "tom").locator(".avatar")).to_have_text("TO")
        expect(person(page, me).locator(".note")).to_have_text("you · Active")
    colors = [
        [person(page, user).evaluate("(row) => row.style.getPropertyValue('--color')") for user in ("jane", "tom")]
        for page in (jane, tom)
    ]
    assert colors[0] == colors[1] and colors[0][0] != colors[0][1]


def test_a_cursor_is_at_the_same_place_of_the_picture_whatever_the_window(enter: Enter) -> None:
    jane = enter("jane", "Jane Smith", size=DESKTOP)
    tom = enter("tom", "Tom Okafor", size=PHONE)
    for x, y in ((0.25, 0.6), (0.9, 0.1), (0.5, 0.95)):
        point(jane, x, y)
        wait_for_cursor(tom, x, y)
    expect(tom.locator("#cursors .name")).to_have_text("Jane Smith")
    expect(tom.locator("#marks .mark")).to_have_text("JS")
    expect(jane.locator("#cursors .cursor")).to_have_count(0)
    jane.mouse.move(5, 5)
    expect(tom.locator("#cursors .cursor")).to_have_count(0)
    expect(tom.locator("#marks .mark")).to_have_count(0)


def test_a_pointer_on_the_timeline_shows_others_the_moment_and_no_cursor(enter: Enter) -> None:
    jane = enter("jane", "Jane Smith")
    tom = enter("tom", "Tom Okafor")
    box = jane.locator("#marks").bounding_box()
    assert box is not None
    jane.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"])
    expect(tom.locator("#marks .mark")).to_have_attribute("style", re.compile(r"left: 7[45]\.?\d*%"))
    expect(tom.locator("#cursors .cursor")).to_have_count(0)


def test_the_typing_line_comes_and_goes(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    typing = tom.get_by_role("status").filter(has_text="typing")
    jane.locator("#words").press_sequentially("The light")
    expect(typing).to_have_text("Jane is typing…")
    jane.locator("#words").fill("")
    expect(typing).to_have_count(0)
    jane.locator("#words").press_sequentially("again")
    expect(typing).to_have_text("Jane is typing…")
    jane.locator("#words").press("Enter")
    expect(typing).to_have_count(0)


def test_comments_and_reactions_reach_the_others_once(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    jane.locator("#words").fill("Hold <b>this</b> 👍🏽")
    jane.locator("#words").press("Enter")
    for page in (jane, tom):
        expect(page.locator("#feed .comment p")).to_have_text(["Hold <b>this</b> 👍🏽"])
        expect(page.locator("#captions .name")).to_have_text("Jane")
    tom.get_by_role("button", name="Love").click()
    expect(jane.locator("#floats .reaction use")).to_have_attribute("href", "#i-❤️")
    expect(jane.locator("#floats .reaction .name")).to_have_text("Tom")


def test_play_pause_and_seek_are_shared_to_the_frame(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    expect_playing(tom, True)  # the first one in starts the film

    jane.locator("#play").click()
    expect_playing(tom, False)
    assert abs(film_time(jane) - film_time(tom)) < FRAME_S / 10
    assert pixels(jane) == pixels(tom)

    seek(tom, 31.5)
    wait_for_time(jane, 31.49, 31.51)
    jane.locator("#play").click()
    expect_playing(tom, True)
    wait_for_time(tom, 32, 40)
    before, at_toms, after = film_time(jane), film_time(tom), film_time(jane)
    assert before - SAME_TIME_S < at_toms < after + SAME_TIME_S


def test_who_comes_late_sees_the_moment_the_others_see(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    seek(jane, 20)
    tom = enter("tom", "Tom")
    before, at_toms, after = film_time(jane), film_time(tom), film_time(jane)
    assert before > 19 and before - SAME_TIME_S < at_toms < after + SAME_TIME_S


def test_control_is_taken_asked_for_granted_and_released(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    jane.get_by_role("button", name="Take control").click()
    expect(tom.locator("#control")).to_have_text("Jane has control.")
    expect(tom.locator("#play")).to_be_disabled()
    tom.get_by_role("button", name="Request control").click()
    jane.get_by_role("button", name="Deny").click()
    expect(tom.get_by_role("button", name="Request control")).to_be_visible()
    tom.get_by_role("button", name="Request control").click()
    expect(jane.locator("#control-actions")).to_contain_text("Tom asks for control")
    jane.get_by_role("button", name="Grant").click()
    expect(tom.locator("#control")).to_contain_text("You have control.")
    expect(jane.locator("#play")).to_be_disabled()
    tom.locator("#play").click()
    expect_playing(jane, False)
    tom.get_by_role("button", name="Release").click()
    expect(jane.locator("#play")).to_be_enabled()


@pytest.mark.parametrize("how", ["button", "closed"])
def test_who_leaves_is_gone_with_avatar_and_cursor(enter: Enter, how: str) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    point(jane, 0.4, 0.4)
    wait_for_cursor(tom, 0.4, 0.4)
    if how == "button":
        jane.get_by_role("button", name="Leave").click()
        expect(jane.locator("#connection")).to_have_text("You left")
    else:
        jane.close()
    expect(person(tom, "jane")).to_have_count(0)
    expect(tom.locator("#count")).to_have_text("1")
    expect(tom.locator("#cursors .cursor")).to_have_count(0)
    if how == "button":
        jane.get_by_role("button", name="Rejoin").click()
        expect(person(tom, "jane")).to_have_count(1)


def test_a_name_is_text_wherever_it_is_shown(enter: Enter) -> None:
    evil = enter("<b>evil</b>", EVIL)
    tom = enter("tom", "Tom")
    point(evil, 0.5, 0.5)
    expect(tom.locator("#cursors .name")).to_have_text(EVIL)
    evil.locator("#words").press_sequentially("x")
    expect(tom.locator("#typing")).to_have_text(f"{EVIL} is typing…")
    evil.locator("#words").press("Enter")
    expect(tom.locator("#feed .name")).to_have_text(EVIL)
    evil.get_by_role("button", name="Take control").click()
    expect(tom.locator("#control")).to_have_text(f"{EVIL} has control.")
    expect(tom.locator("#people .name").first).to_have_text(EVIL)
    for page in (evil, tom):
        assert page.evaluate("document.querySelectorAll('img, #people b b').length") == 0


def test_the_second_person_is_somebody_else_in_the_same_room(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    with jane.context.expect_page() as opened:
        jane.get_by_role("button", name="second person").click()
    expect(opened.value.locator("#count")).to_have_text("2")
    expect(jane.locator("#count")).to_have_text("2")
    expect(opened.value.locator("#room")).to_have_text(jane.locator("#room").inner_text())


def test_without_parameters_a_tab_keeps_its_made_up_person(enter: Enter, server: Server) -> None:
    page = enter("jane", "Jane")
    shown = []
    for _ in range(2):
        page.goto(f"{server.url}/demo")
        page.wait_for_selector("body[data-state=live]")
        expect(page.locator("#room")).to_have_text("video_demo")
        shown.append(page.locator(".person", has_text="you").get_attribute("data-user"))
    assert shown[0] is not None and shown[0].startswith("guest-") and shown[0] == shown[1]


def test_a_restarted_server_is_found_again_with_a_new_token(
    enter: Enter, complaints: list[str], tmp_path: Path
) -> None:
    """The new process has another secret: the old token is refused with 4401, and the page fetches a new one [L7]."""
    first = Server(tmp_path / "server.log")
    try:
        jane = enter("jane", "Jane", base=first.url)
    finally:
        first.stop()
    expect(jane.locator("#connection")).to_contain_text("Reconnecting")
    expect(jane.locator("#play")).to_be_disabled()
    second = Server(tmp_path / "server.log", port=first.port)
    try:
        jane.wait_for_selector("body[data-state=live]")
        expect(person(jane, "jane")).to_have_count(1)
        expect(jane.locator("#play")).to_be_enabled()
    finally:
        jane.close()
        second.stop()
    complaints[:] = [text for text in complaints if "ERR_CONNECTION_REFUSED" not in text]


class Wire:
    """Stands between a page and the server: sees what the page sends, and can close its socket with any code."""

    def __init__(self, page: Page) -> None:
        self.sent: list[dict[str, Any]] = []
        self.socket: WebSocketRoute | None = None
        page.route_web_socket("**/presence", self._on_socket)

    def _on_socket(self, socket: WebSocketRoute) -> None:
        self.socket = socket
        server = socket.connect_to_server()

        def on_message(text: str | bytes) -> None:
            self.sent.append({**json.loads(text), "seenAtMs": time.time() * 1000})
            server.send(text)

        socket.on_message(on_message)

    def close(self, code: int) -> None:
        assert self.socket is not None
        self.socket.close(code=code)

    def auths(self) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["type"] == "auth"]


def test_a_computer_with_a_wrong_clock_plays_in_time_with_the_others(enter: Enter) -> None:
    """The offset to the server's clock comes from `clientTime` and its `echo` [D7, H4]."""
    wires: list[Wire] = []

    def prepare(page: Page) -> None:
        wires.append(Wire(page))
        page.add_init_script(
            "Object.defineProperty(performance, 'timeOrigin', {value: performance.timeOrigin + 3_600_000})"
        )

    tom = enter("tom", "Tom")
    jane = enter("jane", "Jane", prepare=prepare)
    seek(jane, 40)
    wait_for_time(tom, 40, 45)
    command = [message for message in wires[0].sent if message["type"] == "playback"][-1]
    assert abs(command["data"]["at"] - command["seenAtMs"]) < 500
    before, at_toms, after = film_time(jane), film_time(tom), film_time(jane)
    assert before - SAME_TIME_S < at_toms < after + SAME_TIME_S


@pytest.mark.parametrize(("code", "says"), [(4403, "You were removed"), (4409, "continues in another window")])
def test_after_a_final_close_code_the_page_stops_and_says_so(enter: Enter, code: int, says: str) -> None:
    wires: list[Wire] = []
    jane = enter("jane", "Jane", prepare=lambda page: wires.append(Wire(page)))
    wires[0].close(code)
    expect(jane.locator("#connection")).to_contain_text(says)
    expect(jane.locator("body")).to_have_attribute("data-state", "stopped")
    jane.get_by_role("button", name="Rejoin").click()
    jane.wait_for_selector("body[data-state=live]")
    first, second = wires[0].auths()
    assert "resumeToken" not in second and first["token"] == second["token"]


def test_a_lost_connection_is_resumed_and_the_others_see_nobody_leave(enter: Enter) -> None:
    wires: list[Wire] = []
    tom = enter("tom", "Tom")
    jane = enter("jane", "Jane", prepare=lambda page: wires.append(Wire(page)))
    expect(tom.locator("#notice")).to_have_text("Jane joined")
    before = person(tom, "jane").evaluate("(row) => row.style.getPropertyValue('--color')")
    wires[0].close(1012)
    jane.wait_for_selector("body:not([data-state=live])")
    jane.wait_for_selector("body[data-state=live]")
    assert wires[0].auths()[1]["resumeToken"]
    expect(person(tom, "jane").locator(".note")).to_have_text("Active")
    assert person(tom, "jane").evaluate("(row) => row.style.getPropertyValue('--color')") == before
    expect(tom.locator("#notice")).not_to_have_text("Jane left")


def test_a_page_left_alone_turns_idle_keeps_beating_and_wakes_with_the_pointer(enter: Enter) -> None:
    wires: list[Wire] = []

    def prepare(page: Page) -> None:
        page.clock.install()
        wires.append(Wire(page))

    jane = enter("jane", "Jane", prepare=prepare)
    tom = enter("tom", "Tom")
    for _ in range(5):
        jane.clock.fast_forward(31_000)
    expect(person(tom, "jane").locator(".note")).to_have_text("Idle")
    beats = [message["status"] for message in wires[0].sent if message["type"] == "heartbeat"]
    assert len(beats) >= 4 and beats[0] == "active" and beats[-1] == "idle"
    point(jane, 0.5, 0.5)
    expect(person(tom, "jane").locator(".note")).to_have_text("Active")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_nothing_sticks_out_of_the_window(enter: Enter, size: tuple[int, int]) -> None:
    page = enter("jane", "Jane Smith with a name that is rather longer than most", size=size)
    enter("tom", "Tom")
    expect(page.locator("#count")).to_have_text("2")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    box = page.locator("#screen").bounding_box()
    assert box is not None and box["width"] / box["height"] == pytest.approx(16 / 9, rel=0.01)
