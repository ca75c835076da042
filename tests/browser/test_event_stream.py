"""A network that blocks WebSockets: the page uses server-sent events and POST, and others notice nothing."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from .cable import Cable
from .conftest import Enter, Server
from .pages import cursors, expect_playing, face, faces, play, point, wait_for_cursor
from .test_connection import LOST

pytestmark = [pytest.mark.browser, pytest.mark.pages]
CHROMIUM = "chromium"

ROOM = "document.getElementById('avatars').room"


@pytest.fixture(autouse=True)
def losses_are_no_complaints(complaints: list[str]) -> Iterator[None]:
    yield
    # 404: the grant to nobody, and the icon of the other page; the SDK warns of streams. 412, NOT_IN_ROOM: a session
    # whose stream has ended is not connected until another stream resumes it, and no call but a leave counts for it. The
    # SDK ends its call under way with its stream, also when the page goes. But `cut` ends the connections one by one: the
    # server may see the end of the stream before the page does, and its answer to a call, on a connection that is not cut
    # yet, then reaches a page that could not know. The page resumes the session and shows its present values again
    statuses = ("(Not Found)", "(Precondition Failed)")
    lost = (
        *LOST,
        *statuses,
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_EMPTY_RESPONSE",
        "so this tab uses server-sent events",
    )
    complaints[:] = [text for text in complaints if not any(each in text for each in lost)]


@pytest.fixture
def blocking(cable: Cable) -> Cable:
    cable.blocks_websockets = True
    return cable


def transport(page: Page) -> str:
    return str(page.evaluate(f"{ROOM}.getSnapshot().transport"))


def test_everything_works_where_websockets_are_blocked(enter: Enter, blocking: Cable) -> None:
    tom = enter("tom", "Tom")
    jane = enter("jane", "Jane", base=blocking.url)
    assert (transport(jane), transport(tom)) == ("sse", "websocket") and blocking.blocked >= 2
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, active")
    expect(faces(jane)).to_have_count(2)
    point(jane, 0.5, 0.5)
    wait_for_cursor(tom, 0.5, 0.5)
    point(jane, 0.25, 0.75)
    wait_for_cursor(tom, 0.25, 0.75)
    point(tom, 0.5, 0.25)
    wait_for_cursor(jane, 0.5, 0.25)
    jane.locator("#words").press_sequentially("x")
    expect(tom.locator("koko-typing .typing")).to_have_text("Jane is typing...")
    assert jane.evaluate(f"{ROOM}.requestControl().then(({{ granted }}) => granted)") is True
    play(jane)
    expect_playing(tom, True)
    answer = jane.evaluate(f"{ROOM}.grantControl('nobody')")
    assert (answer["success"], answer["code"]) == (False, "TARGET_NOT_IN_ROOM")


def test_a_cut_stream_is_resumed_and_a_page_that_goes_leaves(enter: Enter, blocking: Cable, server: Server) -> None:
    tom = enter("tom", "Tom")
    jane = enter("jane", "Jane", base=blocking.url)
    session = jane.evaluate(f"{ROOM}.self.sessionId")
    tom.evaluate(f"() => {{ window.left = 0; {ROOM}.on('user_left', () => window.left++); }}")
    jane.evaluate(f"() => {{ window.states = []; {ROOM}.on('status', (status) => window.states.push(status)); }}")
    blocking.cut()
    jane.wait_for_function("() => states.includes('reconnecting') && states.at(-1) === 'live'")
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, active")
    point(jane, 0.5, 0.5)
    wait_for_cursor(tom, 0.5, 0.5)
    assert jane.evaluate(f"{ROOM}.self.sessionId") == session and tom.evaluate("window.left") == 0
    jane.goto(f"{server.url}/healthz")  # the grace period of this server is longer than the test waits
    expect(face(tom, "Jane")).to_have_count(0)
    expect(cursors(tom)).to_have_count(0)


def test_after_a_reload_no_websocket_is_tried(enter: Enter, blocking: Cable) -> None:
    jane = enter("jane", "Jane", base=blocking.url)
    tried = blocking.blocked
    jane.reload()
    jane.wait_for_selector("body[data-state=live]")
    assert (transport(jane), blocking.blocked) == ("sse", tried)
