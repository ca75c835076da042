"""Connection Testing: how a page loses its connection and resumes, and what the other pages show of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .cable import Cable
from .conftest import WAIT_MS, Enter, Server
from .pages import Wire, cursors, expect_playing, expect_together, face, faces, film_time, play, point, wait_for_cursor

pytestmark = pytest.mark.browser

LOST = (
    "ERR_CONNECTION_REFUSED",
    "ERR_CONNECTION_RESET",
    "ERR_SOCKET_NOT_CONNECTED",
    "ERR_EMPTY_RESPONSE",
    "WebSocket connection to",
)


@pytest.fixture(autouse=True)
def losses_are_no_complaints(complaints: list[str]) -> Iterator[None]:
    """The browser itself logs lost connections in the console, also one that is lost when its page is closed."""
    yield
    complaints[:] = [text for text in complaints if not any(lost in text for lost in LOST)]


def test_a_cut_connection_is_resumed_and_the_others_see_no_leave(enter: Enter, cable: Cable) -> None:
    """The connection is cut on the server's side. The cursor disappears at once [D2] and returns without an action of
    the user."""
    tom = enter("tom", "Tom")
    jane = enter("jane", "Jane", base=cable.url)
    expect(tom.locator("#notice")).to_have_text("Jane joined")
    before = face(tom, "Jane").evaluate("(face) => face.firstChild.style.getPropertyValue('--color')")
    session = jane.evaluate("document.getElementById('avatars').room.self.sessionId")
    point(jane, 0.5, 0.5)
    wait_for_cursor(tom, 0.5, 0.5)
    tom.evaluate("""() => {
        window.counts = [];
        document.getElementById("avatars").room.on("user_left", () => window.counts.push("left"));
    }""")
    cable.cut()
    expect(jane.locator("#notice")).to_have_text("Back in the same session. Nobody saw you leave.")
    jane.wait_for_selector("body[data-state=live]")
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, active")
    wait_for_cursor(tom, 0.5, 0.5)
    assert jane.evaluate("document.getElementById('avatars').room.self.sessionId") == session
    assert face(tom, "Jane").evaluate("(face) => face.firstChild.style.getPropertyValue('--color')") == before
    assert tom.evaluate("window.counts") == []


@pytest.mark.pages
def test_a_network_that_swallows_everything_is_noticed_and_told_and_so_is_the_return(
    enter: Enter, cable: Cable
) -> None:
    """No close frame and no reset arrive: only the silence tells. The tests in tests/sdk/silence.test.js say after how
    many seconds; here the page is to notice it at all, to say so, and to come back."""
    tom = enter("tom", "Tom")
    jane = enter("jane", "Jane", base=cable.url)
    jane.evaluate("""() => {
        window.seen = [];
        const { room } = document.getElementById("avatars");
        room.on("status", (status) => seen.push([status, room.getSnapshot().error?.code ?? null]));
        room.on("returned", ({ resumed }) => seen.push(["returned", resumed]));
    }""")
    session = jane.evaluate("document.getElementById('avatars').room.self.sessionId")
    cable.swallow()
    jane.wait_for_selector("body[data-state=reconnecting]")
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, active")  # the server does not know it yet, either
    jane.wait_for_selector("body[data-state=lost]")
    cable.plug()
    jane.wait_for_selector("body[data-state=live]")
    seen = jane.evaluate("seen")
    assert seen[:2] == [["reconnecting", "LOST"], ["lost", "LOST"]]
    assert seen[-2:] == [["live", None], ["returned", True]]
    assert jane.evaluate("document.getElementById('avatars').room.self.sessionId") == session
    expect(faces(tom)).to_have_count(2)


@contextmanager
def page_of_a_restarted_server(enter: Enter, log: Path) -> Iterator[Page]:
    """The demo's page of a server that was stopped and is started again at the same port."""
    first = Server(log)
    try:
        page = enter("jane", "Jane", base=first.url)
    finally:
        first.stop()
    expect(page.locator("#connection")).to_have_text("Reconnecting")
    second = Server(log, port=first.port)
    try:
        yield page
        page.close()
    finally:
        second.stop()


@pytest.mark.pages
def test_the_return_in_a_new_session_is_not_told_as_the_same(enter: Enter, tmp_path: Path) -> None:
    """The session of a server that is started again is another one: nothing was kept of the old."""
    with page_of_a_restarted_server(enter, tmp_path / "server.log") as jane:
        expect(jane.locator("#notice")).to_contain_text("in a new session: the others saw you leave")
        shown = jane.evaluate("document.getElementById('avatars').room.getSnapshot()")
        assert shown["returned"]["resumed"] is False
        assert shown["transport"] == "websocket", "a server that stops is not one whose WebSockets are blocked"


@pytest.mark.pages
def test_the_slow_network_switch_loses_and_resumes(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    play(jane)
    expect_playing(tom, True)
    jane.locator("#menu-button").click()
    jane.get_by_label("Slow network").check()
    expect(jane.locator("#connection")).to_have_text("Reconnecting")
    expect(jane.locator("#notice")).to_have_text("Back in the same session. Nobody saw you leave.")
    jane.get_by_label("Slow network").uncheck()
    expect(faces(tom)).to_have_count(2)
    expect_together(jane, tom)


@pytest.mark.pages
def test_a_restarted_server_is_found_again_with_a_new_token(enter: Enter, tmp_path: Path) -> None:
    """The new process has another secret: the old token is refused with 4401, and the page fetches a new one [L7]."""
    with page_of_a_restarted_server(enter, tmp_path / "server.log") as jane:
        jane.wait_for_selector("body[data-state=live]")
        expect(faces(jane)).to_have_count(1)


@pytest.mark.parametrize("code", [4403, pytest.param(4409, marks=pytest.mark.pages)])
def test_after_a_final_close_code_the_page_stops_and_shows_it(enter: Enter, code: int) -> None:
    wires: list[Wire] = []
    jane = enter("jane", "Jane", prepare=lambda page: wires.append(Wire(page)))
    wires[0].close(code)
    expect(jane.locator("#connection")).to_have_text("Closed")
    expect(jane.locator("#notice")).not_to_be_empty()
    jane.locator("#menu-button").click()
    jane.get_by_role("button", name="Come back").click()
    jane.wait_for_selector("body[data-state=live]")
    first, second = wires[0].of_type("auth")
    assert first["token"] and "resumeToken" not in second


HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    Object.defineProperty(document, "visibilityState", {value: hidden ? "hidden" : "visible", configurable: true});
    document.dispatchEvent(new Event("visibilitychange", {bubbles: true}));
}"""


def pass_time(page: Page, wire: Wire, seconds: int) -> None:
    """Let a fake clock run, but wait for the real server's answer to each heartbeat."""
    for _ in range(0, seconds, 5):
        page.clock.fast_forward(5000)
        deadline = time.monotonic() + WAIT_MS / 1000
        while wire.pongs < len(wire.of_type("heartbeat")):
            assert time.monotonic() < deadline
            page.wait_for_function("() => true")


def fake_clock(wires: list[Wire]) -> Callable[[Page], None]:
    def prepare(page: Page) -> None:
        page.clock.install()
        page.add_init_script("delete window.Worker")  # the timer of a worker would keep real time
        wires.append(Wire(page))

    return prepare


@pytest.mark.pages
def test_a_tab_hidden_for_three_minutes_is_away_beats_and_comes_back_in_step(enter: Enter) -> None:
    """A hidden tab is away at once, its session continues, and its video is in step when the tab is visible again
    [D5]."""
    wires: list[Wire] = []
    tom = enter("tom", "Tom")
    jane = enter("jane", "Jane", prepare=fake_clock(wires))
    point(jane, 0.5, 0.5)
    wait_for_cursor(tom, 0.5, 0.5)
    play(tom)
    expect_playing(jane, True)
    jane.evaluate(HIDE, True)
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, away")
    expect(cursors(tom)).to_have_count(0)
    pass_time(jane, wires[0], 180)
    expect(faces(tom)).to_have_count(2)
    beats = wires[0].of_type("heartbeat")
    assert len(beats) >= 5 and {beat["status"] for beat in beats[1:]} == {"away"}
    jane.evaluate(HIDE, False)
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, active")
    assert wires[0].of_type("heartbeat")[-1]["status"] == "active"
    assert len(wires[0].of_type("auth")) == 1
    assert film_time(tom) > 0


@pytest.mark.pages
def test_an_untouched_page_turns_idle_keeps_beating_and_is_active_with_the_pointer(enter: Enter) -> None:
    wires: list[Wire] = []
    jane = enter("jane", "Jane", prepare=fake_clock(wires))
    tom = enter("tom", "Tom")
    pass_time(jane, wires[0], 150)
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, idle")
    expect(face(tom, "Jane").locator(".status.idle")).to_have_count(1)
    beats = [message["status"] for message in wires[0].of_type("heartbeat") if "status" in message]
    assert len(beats) >= 4 and beats[0] == "active" and beats[-1] == "idle"
    point(jane, 0.5, 0.5)
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, active")
