"""The demo's pages of a comparison, a project and a comment thread, and what a page shows of films and titles: real server,
real browser, rendered elements."""

import re
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page, expect

from .conftest import Enter, Server
from .pages import expect_playing, faces, film_time, play, point, seek, viewer, wait_for_cursor, wait_for_time

pytestmark = [pytest.mark.browser, pytest.mark.pages]

OFFSET_S = 2.5
FRAME_S = 1 / 24
REFUSE_TO_START = """() => {
    const play = HTMLMediaElement.prototype.play;
    window.allow = () => { HTMLMediaElement.prototype.play = play; };
    HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException("click first", "NotAllowedError"));
}"""

Visit = Callable[..., Page]


@pytest.fixture
def visit(enter: Enter, server: Server, request: pytest.FixtureRequest) -> Visit:
    """Open another page of the demo as the given user, in a room of that type and of the test's own."""

    def open_page(path: str, kind: str, user: str, name: str) -> Page:
        page = enter(user, name)
        page.goto(
            f"{server.url}{path}?{urlencode({'user': user, 'name': name, 'room': f'{kind}_{request.node.name}'})}"
        )
        page.wait_for_selector("body[data-state=live]")
        return page

    return open_page


def title(page: Page) -> Locator:
    return page.locator("#avatars .title")


def times(page: Page) -> tuple[float, float]:
    left, right = page.evaluate("['video', 'right'].map((id) => document.getElementById(id).currentTime)")
    return float(left), float(right)


def wait_until_paused_together(*pages: Page, at: float) -> None:
    """Wait until both films of each page are paused at the room's position `at`, to a frame."""
    for page in pages:
        page.wait_for_function(
            """([at, offset, tolerance]) => ["video", "right"].every((id, i) => {
                const {currentTime, paused, seeking} = document.getElementById(id);
                return paused && !seeking && Math.abs(currentTime - at - i * offset) <= tolerance;
            })""",
            arg=[at, OFFSET_S, FRAME_S],
        )


# --- comparison -----------------------------------------------------------------------------------------------------


def test_a_comparison_has_one_playhead_for_two_films_with_an_offset(visit: Visit) -> None:
    jane = visit("/demo/comparison.html", "comparison", "jane", "Jane")
    tom = visit("/demo/comparison.html", "comparison", "tom", "Tom")
    for page in (jane, tom):
        expect(page.locator("#title-left")).to_have_text("Golden Hour")
        expect(page.locator("#title-right")).to_have_text("Golden Hour, cut 2")
        expect(title(page)).to_have_text("Viewing: Golden Hour and Golden Hour, cut 2")
        expect(page.locator("#offset")).to_have_text("Right = left + 2.5 s")
    seek(jane, 12)
    wait_until_paused_together(jane, tom, at=12)
    play(jane)
    for page in (jane, tom):
        expect_playing(page, True)
        page.wait_for_function("() => ['video', 'right'].every((id) => document.getElementById(id).currentTime > 15)")
    play(tom)
    for page in (jane, tom):
        expect_playing(page, False)
    tom.wait_for_function("() => ['video', 'right'].every((id) => !document.getElementById(id).seeking)")
    wait_until_paused_together(jane, tom, at=times(tom)[0])


def test_a_click_on_either_film_plays_both(visit: Visit) -> None:
    jane = visit("/demo/comparison.html", "comparison", "jane", "Jane")
    tom = visit("/demo/comparison.html", "comparison", "tom", "Tom")
    jane.locator("#right").click()
    for page in (jane, tom):
        page.wait_for_function("() => ['video', 'right'].every((id) => !document.getElementById(id).paused)")


def test_each_film_of_a_comparison_has_its_own_cursors_and_selections(visit: Visit) -> None:
    jane = visit("/demo/comparison.html", "comparison", "jane", "Jane")
    tom = visit("/demo/comparison.html", "comparison", "tom", "Tom")
    mia = visit("/demo/comparison.html", "comparison", "mia", "Mia")
    jane.locator("#right").hover(position={"x": 60, "y": 50})
    tom.locator("#video").hover(position={"x": 90, "y": 70})
    left, right = mia.locator("#cursors .cursor"), mia.locator("#cursors-right .cursor")
    expect(left).to_have_text("Tom")
    expect(right).to_have_text("Jane")
    box, film = right.bounding_box(), mia.locator("#right").bounding_box()
    assert box is not None and film is not None
    mia.wait_for_function(
        """() => {
            const tip = document.getElementById("cursors-right").shadowRoot.querySelector(".cursor").getBoundingClientRect();
            const film = document.getElementById("right").getBoundingClientRect();
            return Math.abs(tip.left - film.left - 60) < 3 && Math.abs(tip.top - film.top - 50) < 3;
        }"""
    )
    jane.locator("#video").hover(position={"x": 60, "y": 50})
    expect(right).to_have_count(0)
    expect(left).to_have_count(2)


# --- films and titles -----------------------------------------------------------------------------------------------


def test_a_viewer_of_another_version_is_marked_and_its_cursor_is_not_drawn(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    for page in (jane, tom):
        expect(title(page)).to_have_text("Viewing: Golden Hour")
    point(tom, 0.3, 0.3)
    wait_for_cursor(jane, 0.3, 0.3)
    tom.locator("#version").select_option(label="Cut 2")
    expect(viewer(jane, "Tom")).to_contain_text("other version")
    expect(viewer(tom, "Tom")).to_contain_text("other version")
    expect(tom.locator("#other-text")).to_have_text("You watch Golden Hour, cut 2, the others Golden Hour")
    point(tom, 0.6, 0.6)
    expect(jane.locator("#cursors .cursor")).to_have_count(0)
    point(jane, 0.5, 0.5)
    seek(jane, 20)
    wait_for_time(jane, 19.9, 20.1)
    assert film_time(tom) < 5, "another film is not moved"
    expect(tom.locator("#cursors .cursor")).to_have_count(0)

    tom.get_by_role("button", name="Show it to all").click()
    for page in (jane, tom):
        expect(title(page)).to_have_text("Viewing: Golden Hour, cut 2")
        expect(page.locator("#other")).to_be_hidden()
        page.wait_for_function("() => document.getElementById('video').src.endsWith('clip-graded.mp4')")
        wait_for_time(page, 19.9, 20.1)
    expect(viewer(jane, "Tom")).not_to_contain_text("other version")
    point(tom, 0.7, 0.7)
    wait_for_cursor(jane, 0.7, 0.7)


def test_the_panel_offers_a_click_where_the_browser_refuses_to_start(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    tom.evaluate(f"({REFUSE_TO_START})()")
    button = tom.locator("#watch").get_by_role("button", name=re.compile("Resync|Click to play"))
    expect(button).to_be_hidden()
    play(jane)
    expect(button).to_have_text("Click to play")
    expect(tom.locator("#watch [role=status]")).to_have_text(re.compile("Click to play"))
    button.click()  # still refused
    expect(button).to_have_text("Click to play")
    tom.evaluate("allow()")
    button.click()
    expect_playing(tom, True)
    expect(button).to_be_hidden()
    expect(viewer(jane, "Tom")).to_contain_text("synced")


def test_alone_in_a_room_the_own_state_is_known(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    play(jane)
    expect(viewer(jane, "Jane")).to_contain_text("synced")
    expect(jane.locator("#watch .count")).to_have_text("Viewers synced: 1/1")


def test_the_panel_offers_what_the_user_may_do(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    watch = jane.locator("#watch")
    control, rule = watch.get_by_role("button", name=re.compile("control")), watch.locator(".rule")

    def allow(**changes: object) -> None:
        """Show the room in the panel as it would be with these fields of the snapshot."""
        jane.evaluate(
            """(changes) => {
                const watch = document.getElementById("watch"), {room} = document.getElementById("avatars");
                watch.room = {...room, on: room.on, status: "live", getSnapshot: () => ({...room.getSnapshot(), ...changes})};
            }""",
            changes,
        )

    requests = [{"userId": "tom", "requesterName": "Tom", "requestedAt": "2025-01-15T10:30:00.000Z"}]
    expect(control).to_have_text("Take control")
    expect(rule).to_have_text("Everyone can play")
    allow(rights={"control": False, "broadcast": False, "moderate": False}, requests=requests)
    expect(control).to_be_hidden()
    expect(rule).to_have_text("You can watch")
    expect(watch.get_by_role("group", name="React")).to_be_hidden()
    expect(watch.get_by_role("button", name="Grant")).to_have_count(0)
    may = {"control": True, "broadcast": True}
    allow(rights=may | {"moderate": False}, settings={"controlMode": "moderators"}, requests=requests)
    expect(control).to_have_text("Request control")
    expect(rule).to_have_text("Moderators can play")
    expect(watch.get_by_role("group", name="React")).to_be_visible()
    allow(rights=may | {"moderate": True}, settings={"controlMode": "moderators"}, requests=requests)
    expect(watch.get_by_role("button", name="Take control")).to_be_visible()
    expect(watch.get_by_role("button", name="Grant")).to_have_count(1)


def test_full_screen_shows_the_cursors_too(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    button = jane.get_by_role("button", name="Full screen")
    button.click()
    jane.wait_for_function("() => document.fullscreenElement?.id === 'picture'")
    point(tom, 0.25, 0.75)
    wait_for_cursor(jane, 0.25, 0.75)
    box = jane.locator("#video").bounding_box()
    width = jane.evaluate("innerWidth")
    assert box is not None and (box["x"], box["width"]) == (0, width)
    jane.evaluate("document.exitFullscreen()")
    expect(button).to_be_visible()


# --- project and thread ---------------------------------------------------------------------------------------------


def test_a_project_shows_who_is_at_which_film(visit: Visit, server: Server) -> None:
    jane = visit("/demo/project.html", "project", "jane", "Jane")
    tom = visit("/demo/project.html", "project", "tom", "Tom")

    def here(page: Page, number: int) -> Locator:
        return page.locator(".film").nth(number).locator("koko-avatars .row button")

    expect(jane.locator(".film")).to_have_count(4)
    expect(faces(jane)).to_have_count(2)
    tom.locator(".film a").nth(1).hover()
    expect(here(jane, 1)).to_have_attribute("aria-label", "Tom, active")
    expect(jane.locator(".film").nth(1).locator("koko-cursors .cursor")).to_have_text("Tom")
    expect(jane.locator(".film .cursor")).to_have_count(1)
    for number in (0, 2, 3):
        expect(jane.locator(".film").nth(number).locator(".nobody")).to_be_visible()

    tom.locator(".film a").nth(2).click()
    tom.wait_for_selector("body[data-state=live] #video")
    expect(title(tom)).to_have_text("Viewing: Teaser")
    expect(here(jane, 2)).to_have_attribute("aria-label", "Tom, active")
    expect(here(jane, 1)).to_have_count(0)
    tom.go_back()
    expect(here(jane, 2)).to_have_count(0)

    jane.locator(".film a").first.focus()
    expect(here(tom, 0)).to_have_attribute("aria-label", "Jane, active")


def test_a_project_shows_who_is_in_the_room_of_each_film_without_entering_it(visit: Visit) -> None:
    jane = visit("/demo/project.html", "project", "jane", "Jane")
    films = jane.locator(".film")
    inside = jane.locator(".film .inside [role=img]")
    expect(films).to_have_count(4)
    expect(inside).to_have_count(0)
    tom = visit("/demo/project.html", "project", "tom", "Tom")
    tom.locator(".film a").nth(3).click()
    tom.wait_for_selector("body[data-state=live] #video")
    expect(films.nth(3).locator(".inside [role=img]")).to_have_attribute("aria-label", "Tom")
    expect(faces(tom)).to_have_count(1)  # Jane is not in that room
    tom.go_back()
    expect(inside).to_have_count(0)


def test_typing_and_replies_in_a_thread(visit: Visit) -> None:
    jane = visit("/demo/thread.html", "comment_thread", "jane", "Jane")
    tom = visit("/demo/thread.html", "comment_thread", "tom", "Tom")
    expect(faces(jane)).to_have_count(2)
    jane.locator("#words").press_sequentially("Yes, ")
    expect(tom.locator("#typing .typing")).to_have_text("Jane is typing...")
    jane.locator("#words").press_sequentially("two seconds")
    jane.get_by_role("button", name="Send").click()
    for page in (jane, tom):
        expect(page.locator("#feed .text")).to_have_text("Yes, two seconds")
        expect(page.locator("#feed bdi")).to_have_text("Jane")
    expect(tom.locator("#typing .typing")).to_be_hidden()
