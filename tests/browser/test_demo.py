"""Users, cursors and comments on the pages of two to five users: real server, real browser, rendered elements.

Every wait is for a condition; `expect` and `wait_for_function` poll it. Section names are those of the specification.
"""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import Enter, Server
from .pages import (
    DESKTOP,
    PHONE,
    Wire,
    cursors,
    expect_playing,
    face,
    faces,
    play,
    point,
    seek,
    viewer,
    wait_for_cursor,
    wait_for_time,
)

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>"
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"


# --- Room Testing: join, leave, user_joined, user_left, limits ------------------------------------------------------


def test_each_sees_the_other_with_name_initials_status_and_colour(enter: Enter) -> None:
    jane = enter("jane", "Jane Smith")
    tom = enter("tom", "Tom Okafor")
    expect(jane.locator("#notice")).to_have_text("Tom Okafor joined")
    for page, me, other in ((jane, "Jane Smith", "Tom Okafor"), (tom, "Tom Okafor", "Jane Smith")):
        expect(faces(page)).to_have_count(2)
        expect(faces(page).first).to_have_attribute("aria-label", f"{me} (you), active")
        expect(face(page, other)).to_have_attribute("aria-label", f"{other}, active")
    expect(face(jane, "Tom").locator(".initials")).to_have_text("TO")
    colors = [
        [
            face(page, who).evaluate("(face) => face.firstChild.style.getPropertyValue('--color')")
            for who in ("Jane", "Tom")
        ]
        for page in (jane, tom)
    ]
    assert colors[0] == colors[1] and colors[0][0] != colors[0][1]


@pytest.mark.parametrize("how", ["button", pytest.param("closed", marks=pytest.mark.pages)])
def test_a_leave_removes_avatar_cursor_mark_and_typing(enter: Enter, how: str) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    point(jane, 0.4, 0.4)
    wait_for_cursor(tom, 0.4, 0.4)
    jane.locator("#words").press_sequentially("Hm")
    expect(tom.locator("#typing .typing")).to_have_text("Jane is typing...")
    if how == "button":
        jane.locator("#menu-button").click()
        jane.get_by_role("button", name="Leave the room").click()
        expect(jane.locator("#connection")).to_have_text("You left")
    else:
        jane.close()
    expect(faces(tom)).to_have_count(1)
    expect(cursors(tom)).to_have_count(0)
    expect(tom.locator("#marks .mark")).to_have_count(0)
    expect(tom.locator("#typing .typing")).to_be_hidden()
    expect(viewer(tom, "Jane")).to_have_count(0)
    if how == "button":
        jane.locator("#menu-button").click()
        jane.get_by_role("button", name="Come back").click()
        expect(faces(tom)).to_have_count(2)


@pytest.mark.pages
def test_a_page_that_left_shows_no_other_member(enter: Enter) -> None:
    """After a leave the page receives no more events, so any cursor or viewer count that it still showed would be
    stale."""
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    point(tom, 0.4, 0.4)
    wait_for_cursor(jane, 0.4, 0.4)
    play(tom)
    expect(jane.locator("#marks .mark")).to_have_count(1)
    jane.locator("#menu-button").click()
    jane.get_by_role("button", name="Leave the room").click()
    expect(cursors(jane)).to_have_count(0)
    for shown in (faces(jane), jane.locator("#marks .mark"), viewer(jane, "Tom")):
        expect(shown).to_have_count(0)
    expect(jane.locator("#watch .count")).to_have_text("Viewers")
    expect(jane.get_by_role("button", name="Resync")).to_be_hidden()


@pytest.mark.pages
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_film_stands_where_it_is_when_people_and_title_come(enter: Enter, size: tuple[int, int]) -> None:
    """A cursor rests at a place of the picture: it is beside it if the page moves below a mouse that stands still. (The
    header grew by 24 px when the title of the room came.)"""
    enter("jane", "Jane")
    tom = enter(
        "tom",
        "Tom",
        size=size,
        prepare=lambda page: page.add_init_script("""document.addEventListener("DOMContentLoaded", () => {
            const observer = new MutationObserver(() => {
                if (document.body.dataset.state !== "live") return;
                observer.disconnect();
                globalThis.topAtFirst = document.getElementById("picture").getBoundingClientRect().top;
            });
            observer.observe(document.body, {attributes: true});
        })"""),
    )
    expect(faces(tom)).to_have_count(2)
    expect(tom.locator("#avatars .title")).to_contain_text("Golden Hour")
    tom.wait_for_function("globalThis.topAtFirst")
    assert tom.evaluate("document.getElementById('picture').getBoundingClientRect().top") == tom.evaluate("topAtFirst")


@pytest.mark.pages
def test_a_room_that_is_taken_away_is_not_shown_any_more(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    point(tom, 0.4, 0.4)
    wait_for_cursor(jane, 0.4, 0.4)
    jane.evaluate("""() => {
        for (const id of ["avatars", "cursors", "marks", "typing", "watch"]) document.getElementById(id).room = null;
    }""")
    for shown in (faces(jane), cursors(jane), jane.locator("#marks .mark"), viewer(jane, "Tom")):
        expect(shown).to_have_count(0)


@pytest.mark.pages
def test_the_state_of_a_viewer_remains_on_one_line_beside_a_long_name(enter: Enter) -> None:
    jane = enter("jane", "Dr. Maria Wolfeschlegelsteinhausenbergerdorff-Szczepanska", size=PHONE)
    enter("tom", "Tom")
    rows = [row["height"] for row in (viewer(jane, who).bounding_box() for who in ("Maria", "Tom")) if row]
    assert len(rows) == 2 and rows[0] == rows[1]


@pytest.mark.pages
def test_a_full_room_is_reported(enter: Enter, tmp_path: Path) -> None:
    small = Server(tmp_path / "server.log", max_users_per_room=2)
    pages = [enter(name.lower(), name, base=small.url) for name in ("Jane", "Tom")]
    late = enter("mia", "Mia", base=small.url, state="closed")
    expect(late.locator("#notice")).to_have_text("This room is full.")
    expect(faces(pages[0])).to_have_count(2)
    for page in (*pages, late):
        page.close()
    small.stop()


def test_two_tabs_of_one_user_are_shown_once(enter: Enter) -> None:
    """One entry per user, whatever the number of tabs [C7, D1]. A user who closes one of two tabs has not left."""
    tom = enter("tom", "Tom")
    first = enter("jane", "Jane")
    second = enter("jane", "Jane")
    expect(faces(second)).to_have_count(2)
    expect(faces(tom)).to_have_count(2)
    expect(tom.locator("#watch .viewer")).to_have_count(2)
    point(second, 0.3, 0.3)
    wait_for_cursor(tom, 0.3, 0.3)
    second.close()
    expect(cursors(tom)).to_have_count(0)
    point(first, 0.6, 0.6)
    wait_for_cursor(tom, 0.6, 0.6)
    expect(faces(tom)).to_have_count(2)


# --- Cursor Testing -------------------------------------------------------------------------------------------------


def test_a_cursor_is_at_the_same_place_of_the_picture_whatever_the_window(enter: Enter) -> None:
    """Positions refer to the letter-boxed picture, not to the element: Mia's player is square."""
    jane = enter("jane", "Jane Smith", size=DESKTOP)
    tom = enter("tom", "Tom Okafor", size=PHONE)
    mia = enter("mia", "Mia", size=(1000, 900))
    mia.evaluate("document.getElementById('picture').style.aspectRatio = '1'")
    for x, y in ((0.25, 0.6), (0.9, 0.1), (0.5, 0.95)):
        point(jane, x, y)
        wait_for_cursor(tom, x, y)
        wait_for_cursor(mia, x, y)
    expect(cursors(tom)).to_have_text("Jane Smith")
    expect(cursors(jane)).to_have_count(0)
    jane.mouse.move(5, 5)
    expect(cursors(tom)).to_have_count(0)
    # the bars above and below Mia's picture are not the picture
    box = mia.locator("#video").bounding_box()
    assert box is not None
    mia.mouse.move(box["x"] + 100, box["y"] + box["height"] / 2)
    expect(cursors(tom)).to_have_count(1)
    mia.mouse.move(box["x"] + 100, box["y"] + 5)
    expect(cursors(tom)).to_have_count(0)


def test_cursors_are_throttled_and_the_last_one_arrives(enter: Enter) -> None:
    wires: list[Wire] = []
    jane = enter("jane", "Jane", prepare=lambda page: wires.append(Wire(page)))
    point(jane, 0.1, 0.1)
    point(jane, 0.2, 0.2)
    assert wires[0].of_type("cursor") == []  # no other member is present
    tom = enter("tom", "Tom")
    wait_for_cursor(tom, 0.2, 0.2)
    before, began_ms = len(wires[0].of_type("cursor")), jane.evaluate("performance.now()")
    for step in range(60):
        point(jane, 0.2 + step / 100, 0.5)
    wait_for_cursor(tom, 0.79, 0.5)
    took_s = (jane.evaluate("performance.now()") - began_ms) / 1000
    assert 2 <= len(wires[0].of_type("cursor")) - before <= 2 + 21 * took_s


def test_a_pointer_on_the_timeline_shows_others_the_moment_and_no_cursor(enter: Enter) -> None:
    jane = enter("jane", "Jane Smith")
    tom = enter("tom", "Tom Okafor")
    box = jane.locator("#lane").bounding_box()
    assert box is not None
    jane.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 15)
    expect(tom.locator("#marks .mark")).to_have_text("JS")
    tom.wait_for_function(
        """() => {
            const {shadowRoot, clientWidth} = document.getElementById("marks");
            return Math.abs(parseFloat(shadowRoot.querySelector(".mark").style.left) / clientWidth - 0.75) < 0.01;
        }"""
    )
    expect(cursors(tom)).to_have_count(0)


@pytest.mark.pages
def test_a_user_at_another_time_of_the_video_has_a_fainter_cursor(enter: Enter) -> None:
    """N10. Tom plays on his own because Jane has control."""
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    seek(jane, 2)
    jane.get_by_role("button", name="Take control").click()
    wait_for_time(tom, 1.9, 2.1)
    expect(viewer(tom, "Jane")).to_contain_text("controlling")
    point(tom, 0.5, 0.5)
    wait_for_cursor(jane, 0.5, 0.5)
    expect(cursors(jane)).to_have_css("opacity", "1")
    seek(tom, 20)
    expect(tom.locator("#alone")).to_contain_text("Watching on your own")
    wait_for_time(tom, 19.9, 20.1)
    point(tom, 0.51, 0.5)
    expect(cursors(jane)).to_have_css("opacity", "0.25")


# --- selections, typing, comments, reactions ------------------------------------------------------------------------


def test_a_selection_is_dragged_shown_commented_and_cleared(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    box = jane.locator("#lane").bounding_box()
    assert box is not None
    jane.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 15)
    jane.mouse.down()
    jane.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 15, steps=4)
    jane.mouse.up()
    expect(jane.locator("#stretch")).to_have_text(re.compile(r"00:07:1\d to 00:1[45]:\d\d"))
    band = tom.locator("#marks .selection")
    tom.wait_for_function(
        """() => {
            const {shadowRoot, clientWidth} = document.getElementById("marks");
            const {left, width} = shadowRoot.querySelector(".selection")?.style ?? {};
            return Math.abs(parseFloat(left) / clientWidth - 0.25) < 0.01 && Math.abs(parseFloat(width) / clientWidth - 0.25) < 0.01;
        }"""
    )
    jane.locator("#words").fill("This stretch")
    jane.locator("#words").press("Enter")
    expect(tom.locator("#feed .moment")).to_have_text(re.compile("00:07:1.* to 00:1"))
    expect(band).to_have_count(0)


@pytest.mark.pages
def test_the_typing_line_comes_and_goes(enter: Enter) -> None:
    jane, mia, raj, tom = (enter(name.lower(), name) for name in ("Jane", "Mia", "Raj", "Tom"))
    line = tom.locator("#typing .typing")
    jane.locator("#words").press_sequentially("The light")
    expect(line).to_have_text("Jane is typing...")
    expect(tom.locator("#typing [role=status]")).to_have_text("Jane is typing...")
    mia.locator("#words").press_sequentially("I")
    expect(line).to_have_text("Jane and Mia are typing...")
    raj.locator("#words").press_sequentially("I")
    expect(line).to_have_text("Jane and 2 others are typing...")
    for page in (jane, mia, raj):
        page.locator("#words").fill("")
    expect(line).to_be_hidden()
    jane.locator("#words").press_sequentially("again")
    expect(line).to_have_text("Jane is typing...")
    jane.locator("#words").press("Enter")
    expect(line).to_be_hidden()


@pytest.mark.pages
def test_comments_and_reactions_reach_the_others_once(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    seek(jane, 12.5)
    wait_for_time(tom, 12.4, 12.6)
    jane.locator("#words").fill("Hold <b>this</b> 👍🏽")
    jane.locator("#words").press("Enter")
    for page in (jane, tom):
        expect(page.locator("#feed .text")).to_have_text(["Hold <b>this</b> 👍🏽"])
        expect(page.locator("#feed .moment")).to_have_text("00:12:12")
    seek(jane, 3)
    wait_for_time(tom, 2.9, 3.1)
    tom.locator("#feed .moment").click()
    wait_for_time(jane, 12.4, 12.6)
    tom.get_by_role("button", name="React with ❤️").click()
    for page in (jane, tom):
        expect(page.locator("#cursors .float")).to_have_text("❤️Tom")


# --- status and privacy ---------------------------------------------------------------------------------------------


def test_status_and_privacy_are_seen_by_the_others(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    point(jane, 0.5, 0.5)
    wait_for_cursor(tom, 0.5, 0.5)
    jane.locator("#menu-button").click()
    jane.get_by_text("Busy").click()
    jane.locator("#status-message").fill("in a call")
    jane.locator("#status-message").press("Tab")
    expect(face(tom, "Jane")).to_have_attribute("aria-label", "Jane, busy")
    expect(face(tom, "Jane").locator(".status.busy")).to_have_count(1)
    face(tom, "Jane").click()
    expect(tom.locator("#avatars .person", has_text="Jane")).to_contain_text("busy: in a call")
    tom.keyboard.press("Escape")
    point(jane, 0.5, 0.5)
    wait_for_cursor(tom, 0.5, 0.5)
    jane.get_by_label("Share my cursor").uncheck()
    expect(cursors(tom)).to_have_count(0)
    jane.get_by_label("Invisible").check()
    expect(faces(tom)).to_have_count(1)
    jane.get_by_label("Invisible").uncheck()
    expect(faces(tom)).to_have_count(2)


# --- names, policy, keyboard, layout --------------------------------------------------------------------------------


def test_a_name_is_text_wherever_it_is_shown(enter: Enter) -> None:
    """The fixtures fail on dialogs, console errors and violations of the page's policy."""
    evil = enter("<b>evil</b>", EVIL)
    tom = enter("tom", "Tom")
    point(evil, 0.5, 0.5)
    expect(cursors(tom)).to_have_text(EVIL)
    evil.locator("#words").press_sequentially("x")
    expect(tom.locator("#typing .typing")).to_have_text(f"{EVIL} is typing...")
    evil.locator("#words").press("Enter")
    expect(tom.locator("#feed bdi")).to_have_text(EVIL)
    evil.get_by_role("button", name="Take control").click()
    expect(tom.locator("#watch .controller")).to_have_text(EVIL)
    evil.get_by_role("button", name="React with 🔥").click()
    expect(tom.locator("#cursors .float")).to_have_text(f"🔥{EVIL}")
    tom.get_by_role("button", name="Request control").click()
    faces(tom).last.click()
    expect(tom.locator("#avatars .person .name")).to_have_text(["Tom (you)", EVIL])
    for page in (evil, tom):
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert page.locator("img:not([hidden])").count() == 0


def test_only_https_images_are_requested(enter: Enter) -> None:
    page = enter("jane", "Jane")
    shown = page.evaluate(
        """async () => {
            const person = (image, i) => ({userId: String(i), name: "A B", color: "#10B981", status: "active", connected: true,
                                           image, sessions: []});
            const images = ["http://127.0.0.1/a.png", "javascript:alert(1)", "data:image/png;base64,AA", " https:x", undefined];
            const others = images.map(person), snapshot = {self: null, others, requests: [], status: "live"};
            const element = document.createElement("koko-avatars");
            element.setAttribute("max", "9");
            element.room = {getSnapshot: () => snapshot, on: () => () => {}};
            document.body.append(element);
            await new Promise((done) => setTimeout(done, 150));
            return [...element.shadowRoot.querySelectorAll(".row img")].map((image) => [image.hidden, image.getAttribute("src")]);
        }"""
    )
    assert shown == [[True, ""]] * 5


@pytest.mark.pages
def test_avatars_list_and_watch_panel_work_with_the_keyboard_only(enter: Enter) -> None:
    names = ("Jane", "Mia", "Raj", "Tom", "Zoe")
    jane, mia, *_ = (enter(name.lower(), name) for name in names)
    more = jane.locator("#avatars .more")
    expect(more).to_have_text("+1 more")
    more.focus()
    jane.keyboard.press("Enter")
    expect(jane.get_by_role("dialog", name="Everybody here")).to_be_visible()
    expect(jane.locator("#avatars .person").first).to_be_focused()
    jane.keyboard.press("Tab")
    expect(jane.locator("#avatars .person").nth(1)).to_be_focused()
    jane.keyboard.press("Escape")
    expect(jane.get_by_role("dialog", name="Everybody here")).to_be_hidden()
    expect(more).to_be_focused()
    jane.keyboard.press("Enter")
    jane.keyboard.press("Tab")
    jane.keyboard.press("Enter")  # follows Mia
    expect(jane.locator("#alone")).to_contain_text("Following Mia")

    jane.get_by_role("button", name="Take control").focus()
    jane.keyboard.press("Enter")
    expect(jane.locator("#watch .controller")).to_have_text("You")
    mia.get_by_role("button", name="Request control").focus()
    mia.keyboard.press("Space")
    jane.keyboard.press("Tab")
    expect(jane.get_by_role("button", name="Grant")).to_be_visible()
    jane.get_by_role("button", name="Grant").focus()
    jane.keyboard.press("Enter")
    expect(mia.locator("#watch .controller")).to_have_text("You")
    expect(mia.locator("#watch [role=status]")).to_have_text(re.compile("^Control: You"))


SIZES = [pytest.param(DESKTOP, marks=pytest.mark.pages), pytest.param((820, 1100), marks=pytest.mark.pages), PHONE]


@pytest.mark.parametrize("size", SIZES)
def test_nothing_sticks_out_of_the_window(enter: Enter, size: tuple[int, int]) -> None:
    page = enter("jane", "Jane Smith with a name that is rather longer than most", size=size)
    enter("tom", "Tom-Without-Any-Break-In-A-Name-That-Goes-On-And-On-And-On")
    expect(faces(page)).to_have_count(2)
    page.get_by_role("button", name="Take control").click()
    page.locator("#menu-button").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    box = page.locator("#picture").bounding_box()
    assert box is not None and box["width"] / box["height"] == pytest.approx(16 / 9, rel=0.02)
    for small in page.locator("#play, #menu-button, #invite, #say button, #watch button").all():
        if small.is_visible():
            target = small.bounding_box()
            assert target is not None and target["height"] >= 30 and target["x"] + target["width"] <= size[0]


# --- the page itself ------------------------------------------------------------------------------------------------


@pytest.mark.pages
def test_the_second_page_is_another_user_in_the_same_room(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    with jane.context.expect_page() as opened:
        jane.get_by_role("button", name="Open a second person").click()
    expect(faces(opened.value)).to_have_count(2)
    expect(faces(jane)).to_have_count(2)
    expect(opened.value.locator("#room")).to_have_text(jane.locator("#room").inner_text())


@pytest.mark.pages
def test_without_parameters_a_tab_keeps_its_generated_user(enter: Enter, server: Server) -> None:
    page = enter("jane", "Jane")
    shown = []
    for _ in range(2):
        page.goto(f"{server.url}/demo")
        page.wait_for_selector("body[data-state=live]")
        expect(page.locator("#room")).to_have_text("video_demo")
        shown.append(page.locator("#my-name").text_content())
    assert shown[0] and shown[0] == shown[1]


@pytest.mark.pages
def test_screenshots_of_the_demo(enter: Enter) -> None:
    """Five pages in use, saved as build/screenshots/{desktop,phone,dark,list}.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    jane = enter("jane", "Jane Smith", size=DESKTOP)
    tom = enter("tom", "Tom Okafor", size=PHONE)
    mia = enter("mia", "Mia Kowalski", size=DESKTOP, scheme="dark")
    raj, lea = enter("raj", "Raj Patel"), enter("lea", "Léa Moreau")
    everybody = (jane, tom, mia, raj, lea)
    seek(jane, 8)
    for page in everybody:
        wait_for_time(page, 7.9, 8.1)
        # while it is paused: a busy machine may not play five videos in real time
        expect(page.locator("#watch .count")).to_have_text("Viewers synced: 5/5")
    jane.get_by_role("button", name="Take control").click()
    play(jane)
    for page in everybody:
        expect_playing(page, True)
    say(mia, "Love how the light falls on the sail here")
    say(raj, "Can we hold this a beat longer?")
    for page, label in ((raj, "Reviewing"), (lea, "Busy")):
        page.locator("#menu-button").click()
        page.get_by_text(label, exact=True).click()
        page.keyboard.press("Escape")
    box = raj.locator("#lane").bounding_box()
    assert box is not None
    raj.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + 15)
    raj.mouse.down()
    raj.mouse.move(box["x"] + box["width"] * 0.62, box["y"] + 15, steps=3)
    raj.mouse.up()
    raj.get_by_role("button", name="Request control").click()
    lea.locator("#words").press_sequentially("The lighthouse could", delay=5)
    expect(jane.locator("#typing .typing")).to_be_visible()
    tom.get_by_role("button", name="React with ❤️").click()
    jane.wait_for_function("() => document.getElementById('cursors').shadowRoot.querySelector('.float')")
    expect(jane.locator("#notice")).to_be_empty()
    mia.get_by_role("button", name="React with 🔥").click()
    expect(tom.locator("#cursors .float").last).to_contain_text("Mia")
    for page, x, y in ((jane, 0.45, 0.8), (mia, 0.33, 0.44), (raj, 0.6, 0.33), (lea, 0.87, 0.6)):
        point(page, x, y)
    expect(cursors(tom)).to_have_count(4)
    jane.screenshot(path=SCREENSHOTS / "desktop.png")
    mia.screenshot(path=SCREENSHOTS / "dark.png")
    tom.screenshot(path=SCREENSHOTS / "phone.png", full_page=True)
    jane.locator("#avatars .more").click()
    jane.screenshot(path=SCREENSHOTS / "list.png")


def say(page: Page, text: str) -> None:
    page.locator("#words").fill(text)
    page.locator("#words").press("Enter")
    expect(page.locator("#feed .text", has_text=text)).to_be_visible()
