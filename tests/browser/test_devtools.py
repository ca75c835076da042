"""The developer panel in Chromium: what it shows of a presence, from before its element is defined on."""

import pytest
from playwright.sync_api import Page, expect

from .conftest import WAIT_MS, Enter, Server

pytestmark = [pytest.mark.browser, pytest.mark.pages]

OPEN = """async (room) => {
  document.body.innerHTML = "<koko-devtools></koko-devtools>";
  const { createPresence } = await import("/sdk/presence.js");
  const auth = async () => (await (await fetch("/dev/token?user=jane&name=Jane")).json()).token;
  window.presence = createPresence({ url: "/presence", auth });
  document.querySelector("koko-devtools").presence = presence; // before the element is defined
  await import("/sdk/devtools.js");
  window.room = presence.enter(room, { type: "video" });
  await window.room.ready();
}"""


@pytest.fixture
def room(enter: Enter) -> tuple[Page, str]:
    tom = enter("tom", "Tom")
    return tom, tom.locator("#room").inner_text()


@pytest.fixture
def page(server: Server, room: tuple[Page, str]) -> Page:
    made = room[0].context.new_page()
    made.set_default_timeout(WAIT_MS)
    made.goto(f"{server.url}/healthz")
    made.evaluate(OPEN, room[1])
    return made


def test_connection_rooms_and_messages(page: Page, room: tuple[Page, str], complaints: list[str]) -> None:
    panel = page.locator("koko-devtools")
    expect(panel.locator("dl")).to_contain_text("live, user jane", timeout=WAIT_MS)
    expect(panel.locator("dl")).to_contain_text(f"{room[1]}live; 1 others", timeout=WAIT_MS)
    expect(panel.locator("li", has_text="← joined")).to_have_count(1, timeout=WAIT_MS)
    page.get_by_label("Show messages with").fill("joined")
    expect(panel.locator("li")).to_have_count(1, timeout=WAIT_MS)
    panel.locator("summary").click()
    expect(panel.locator("pre")).to_contain_text('"assignedColor"', timeout=WAIT_MS)
    page.get_by_label("Show messages with").fill("authenticated")
    panel.locator("summary").click()
    expect(panel.locator("pre")).to_contain_text('"resumeToken": "..."', timeout=WAIT_MS)
    page.get_by_role("button", name="Clear").click()
    expect(panel.locator("li")).to_have_count(0, timeout=WAIT_MS)
    page.evaluate("document.querySelector('koko-devtools').presence = null")
    expect(panel.locator("dt")).to_have_count(0, timeout=WAIT_MS)
    page.evaluate("document.querySelector('koko-devtools').remove(); presence.close()")
    assert complaints == []


def test_latency_from_the_pointer_of_another_page_to_a_frame_here(
    server: Server, page: Page, room: tuple[Page, str], complaints: list[str]
) -> None:
    other = room[0].context.new_page()
    other.goto(f"{server.url}/healthz")
    other.evaluate(OPEN.replace("jane", "ann"), room[1])
    other.evaluate("""onpointermove = ({ clientX, clientY }) =>
        room.updateCursor({ timestamp: 0, x: clientX / innerWidth, y: clientY / innerHeight }); 0""")
    page.bring_to_front()  # only a visible page has frames
    page.evaluate("window.bySession = new Set(); room.on('cursor_moved', ({ userId }) => bySession.add(userId)); 0")
    other.evaluate("""() => {
        let step = 0;
        window.moving = setInterval(() => dispatchEvent(new PointerEvent("pointermove",
            { clientX: step++ % 300, clientY: 50 })), 60);
    }""")
    page.wait_for_function("bySession.has('ann')")
    latency = page.locator("koko-devtools dt", has_text="pointer to frame").locator("+ dd")
    expect(latency).to_contain_text("p50", timeout=WAIT_MS)
    other.evaluate("clearInterval(moving); presence.close()")
    page.evaluate("presence.close()")
    assert complaints == []
