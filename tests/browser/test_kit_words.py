"""What the UI kit says, and whether it can be read: names and messages of any length, languages, the state of the connection, the
focus, styles of the page."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .cable import Cable
from .conftest import Server
from .kit import FILM, Visit, visit

__all__ = ["visit"]

pytestmark = [pytest.mark.browser, pytest.mark.pages]

DOCS = (Path(__file__).parents[2] / "docs" / "ui-kit.md").read_text()
LONG = "Dr. Maria Wolfeschlegelsteinhausenbergerdorff-Szczepanska the Younger of Somewhere Far Away"
MESSAGE = "a message that is much longer than any list of users is wide, so that it ends in an ellipsis"

KIT = f"""<style>body {{ margin: 10px }} video {{ display: block; width: 100% }}</style>
<div id="stage" style="position: relative; max-width: 800px">{FILM}<koko-cursors for="film"></koko-cursors></div>
<koko-marks for="film"></koko-marks><koko-fullscreen for="stage"></koko-fullscreen>
<koko-avatars max="3"></koko-avatars>
<div style="max-width: 360px"><koko-watch></koko-watch><koko-typing></koko-typing></div>"""

# elements with text that is cut without an ellipsis, and those that stick out of the window
CUT = """() => kit().flatMap((each) => [...each.shadowRoot.querySelectorAll("*")]).filter((each) => {
    if (!each.checkVisibility() || each.matches(".voice, .cursor, .cursor *, .float, .float *, .mark, .mark *")) return false;
    const style = getComputedStyle(each), {left, right} = each.getBoundingClientRect();
    const isCut = each.scrollWidth > each.clientWidth + 1 && style.overflowX !== "visible" && style.textOverflow !== "ellipsis";
    return isCut || left < -1 || right > innerWidth + 1;
}).map((each) => `${each.localName}.${each.className}: ${each.textContent}`)"""


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)], ids=["390", "1280"])
def test_long_names_and_messages_end_in_an_ellipsis(visit: Visit, size: tuple[int, int]) -> None:
    jane = visit("jane", KIT, name=LONG, size=size)
    tom = visit("tom", KIT, name=LONG.replace("Maria", "Thomas"), size=size)
    mia = visit("mia", KIT, name=LONG.replace("Maria", "Mia"), size=size)
    tom.get_by_role("button", name="Take control").click()
    for page in (jane, mia):
        page.get_by_role("button", name="Request control").click()
        page.evaluate("message => room.setStatus('busy', message)", MESSAGE)
        page.evaluate("room.typing(true)")
    expect(tom.locator("koko-watch .request")).to_have_count(2)
    expect(tom.locator("koko-typing .typing")).to_be_visible()
    tom.wait_for_function("room.others.every(({statusMessage}) => statusMessage)")
    assert tom.locator("koko-typing .typing").bounding_box()["height"] < 30, "one line"
    assert tom.evaluate(CUT) == [] and jane.evaluate(CUT) == []
    tom.locator("koko-avatars .row button").first.click()
    expect(tom.locator("koko-avatars .panel .note", has_text=MESSAGE)).to_have_count(2)
    assert tom.evaluate(CUT) == []
    heights = tom.locator("koko-avatars .panel .person").evaluate_all("(rows) => rows.map((row) => row.offsetHeight)")
    assert len(set(heights)) == 1
    full = tom.locator("koko-avatars .panel .person", has_text="Mia").get_attribute("title")
    assert full is not None and MESSAGE in full


def test_no_avatar_covers_the_status_of_another_one(visit: Visit) -> None:
    pages = [visit(user, KIT + "<style>:root { --koko-avatar-gap: -14px }</style>") for user in ("jane", "tom", "mia")]
    expect(pages[0].locator("koko-avatars .row li")).to_have_count(3)
    covered = pages[0].evaluate(
        """() => {
            const root = document.querySelector("koko-avatars").shadowRoot;
            return [...root.querySelectorAll(".row .status")].filter((status) => {
                const {left, top, width, height} = status.getBoundingClientRect();
                return [0.3, 0.5, 0.7].some((part) => root.elementFromPoint(left + width * part, top + height / 2) !== status);
            }).length;
        }"""
    )
    assert covered == 0


def test_names_of_cursors_do_not_hide_each_other(visit: Visit) -> None:
    jane = visit("jane", KIT)
    for number in range(4):
        page = visit(f"guest{number}", KIT, name=f"Guest number {number}")
        page.evaluate("([x, y]) => room.updateCursor({timestamp: 0, x, y})", [0.5 + number / 200, 0.5])
    jane.wait_for_function(
        """() => {
            const root = document.querySelector("koko-cursors").shadowRoot;
            const boxes = [...root.querySelectorAll(".cursor bdi")].map((name) => name.getBoundingClientRect());
            return boxes.length === 4 && boxes.every((one, i) => boxes.slice(0, i).every((two) =>
                one.left >= two.right || two.left >= one.right || one.top >= two.bottom || two.top >= one.bottom));
        }"""
    )


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("🇬🇧 Ada", "🇬🇧A"),
        ("👨‍👩‍👧‍👦 Family", "👨‍👩‍👧‍👦F"),
        ("e\u0301mile", "E\u0301"),
    ],
)
def test_initials_are_whole_characters(visit: Visit, name: str, letters: str) -> None:
    jane = visit("jane", KIT, name=name)
    expect(jane.locator("koko-avatars .initials").first).to_have_text(letters)


def test_the_styles_of_the_page_do_not_reach_into_the_components(visit: Visit) -> None:
    loud = """<style>
        * { letter-spacing: 9px; text-transform: uppercase; word-spacing: 20px; line-height: 4; text-indent: 30px; text-align: right }
        body { font: italic bold 40px serif; color: red; text-shadow: 2px 2px blue; white-space: pre; direction: ltr }
        button, p, span, ul, li, b, i, small, div { padding: 30px; margin: 30px; background: lime; border: 9px solid; float: left }
        [hidden] { display: block } .row, .title, .head { display: none } bdi { font-size: 60px }
    </style>"""
    jane, tom = visit("jane", KIT), visit("tom", KIT)
    tom.evaluate("room.typing(true)")
    expect(jane.locator("koko-watch .viewer")).to_have_count(2)
    expect(jane.locator("koko-typing .typing")).to_be_visible()
    look = """() => kit().flatMap((each) => [...each.shadowRoot.querySelectorAll("*")])
        .filter((each) => !each.matches(".voice, .cursor, .cursor *, .mark, .mark *, .panel, .panel *")).map((each) => {
            const style = getComputedStyle(each);
            return [each.localName, each.className, style.font, style.letterSpacing, style.wordSpacing, style.textTransform,
                style.textShadow, style.color, style.whiteSpace, style.textAlign, style.textIndent, style.padding, style.backgroundColor];
        })"""
    plain = jane.evaluate(look)
    jane.evaluate("(html) => document.head.insertAdjacentHTML('beforeend', html)", loud)
    assert jane.evaluate("getComputedStyle(document.body).letterSpacing") == "9px"
    assert jane.evaluate(look) == plain


@pytest.mark.parametrize("answer", ["Grant", "Deny"])
def test_the_focus_stays_where_the_person_was(visit: Visit, answer: str) -> None:
    jane = visit("jane", KIT)
    jane.get_by_role("button", name="Take control").click()
    for user in ("tom", "mia", "ben"):
        page = visit(user, KIT)
        page.get_by_role("button", name="Request control").click()
        expect(jane.locator("koko-watch .request", has_text=user.title())).to_have_count(1)
    focused = "document.activeElement.shadowRoot?.activeElement"
    button = jane.locator("koko-watch .request", has_text="Tom").get_by_role("button", name=answer)
    button.focus()
    jane.keyboard.press("Enter")
    if answer == "Deny":
        expect(jane.locator("koko-watch .request")).to_have_count(2)
        assert jane.evaluate(f"[{focused}.textContent, {focused}.parentElement.textContent]") == [
            "Deny",
            "Mia asks for controlGrantDeny",
        ]
        for left in (1, 0):
            jane.keyboard.press("Enter")
            expect(jane.locator("koko-watch .request")).to_have_count(left)
    expect(jane.locator("koko-watch .request")).to_have_count(0)
    jane.wait_for_function(f"{focused}?.matches('.button')")
    assert jane.evaluate(f"{focused}.closest('.head') !== null")


def test_the_state_of_the_connection_and_the_reason(server: Server, visit: Visit, complaints: list[str]) -> None:
    jane = visit("jane", KIT, enters=False)
    jane.evaluate(
        """() => {
            for (const element of kit()) element.room = {
                on: () => () => {}, position: () => 0, updateCursor() {},
                get status() { return this.getSnapshot().status; },
                getSnapshot: () => window.snapshot,
            };
            window.snapshot = {roomId: "video_1", type: "video", status: "connecting", error: null, self: null, others: [],
                playback: null, controller: null, requests: [], synced: null, following: true, shownMedia: {}, rights: null};
            window.show = (fields) => {
                window.snapshot = {...snapshot, ...fields};
                for (const element of kit()) element.setAttribute("max", Math.random());
            };
        }"""
    )
    connection, control = jane.locator("koko-watch .connection"), jane.locator("koko-watch .head button").first
    jane.evaluate("show({})")
    expect(connection).to_have_text("Connecting...")
    expect(control).to_be_disabled()
    jane.evaluate("show({error: {code: 'REFUSED', message: 'The server is full.'}})")
    expect(connection).to_have_text("Connecting... The server is full.")
    jane.evaluate("show({status: 'live', error: null})")
    expect(connection).to_be_hidden()
    expect(control).to_be_enabled()
    jane.evaluate("show({status: 'reconnecting'})")
    expect(connection).to_have_text("Connection lost, trying again.")
    expect(control).to_be_disabled()
    jane.evaluate("show({status: 'closed', error: {code: 'KICKED', message: 'You were removed.'}})")
    expect(connection).to_have_text("Not connected. You were removed.")
    expect(control).to_be_hidden()
    expect(jane.locator("koko-watch .faces")).to_be_hidden()
    jane.evaluate("show({status: 'closed', error: null})")
    expect(connection).to_have_text("You left the room.")
    jane.evaluate("show({status: 'live', type: 'comment_thread'})")
    expect(control).to_be_hidden()
    expect(jane.locator("koko-watch .faces")).to_be_visible()


def test_a_lost_connection_is_said_with_the_controls_off(visit: Visit, server: Server, complaints: list[str]) -> None:
    jane = visit("jane", KIT)
    jane.context.set_offline(True)
    jane.evaluate("presence.close()")
    expect(jane.locator("koko-watch .connection")).to_be_visible()
    expect(jane.locator("koko-watch .head button").first).to_be_hidden()
    complaints.clear()


def test_how_the_connection_came_back(visit: Visit, cable: Cable) -> None:
    jane = visit("jane", KIT, base=cable.url)
    tom = visit("tom", KIT)
    cable.cut()
    connection = jane.locator("koko-watch .connection")
    expect(connection).to_contain_text(re.compile("^Back in the same session after [0-9]+ s. Nobody saw you leave."))
    expect(connection).to_be_hidden()
    expect(tom.locator("koko-watch .viewer")).to_have_count(2)


def test_ready_before_the_first_command_and_ended_at_the_end(visit: Visit) -> None:
    jane, tom = visit("jane", KIT), visit("tom", KIT)
    for page in (jane, tom):
        page.evaluate("void room.attach(film)")
    tom_at_janes = jane.locator("koko-watch .viewer", has_text="Tom").locator("small")
    expect(tom_at_janes).to_have_text("ready")
    expect(jane.locator("koko-watch .count")).to_have_text("Viewers")
    jane.evaluate("film.currentTime = film.duration - 0.4")
    jane.evaluate("film.play()")
    expect(jane.locator("koko-watch .count")).to_have_text("Ended")
    expect(tom_at_janes).to_have_text("at the end")


def test_texts_in_the_language_of_the_page(visit: Visit) -> None:
    jane, tom = visit("jane", KIT), visit("tom", KIT)
    control = jane.locator("koko-watch .head button").first
    expect(control).to_have_text("Take control")
    jane.evaluate("import('/sdk/ui/de.js')")
    expect(control).to_have_text("Take control")
    jane.evaluate("document.documentElement.lang = 'de-AT'")
    expect(control).to_have_text("Steuerung übernehmen")
    expect(jane.locator("koko-fullscreen button")).to_have_text("Vollbild")
    expect(jane.locator("koko-avatars .row button").first).to_have_attribute("aria-label", "Jane (Sie), aktiv")
    tom.evaluate("room.typing(true)")
    expect(jane.locator("koko-typing .text")).to_have_text("Tom schreibt ...")
    jane.evaluate("document.querySelector('koko-watch').parentElement.lang = 'en'")
    expect(control).to_have_text("Take control")
    expect(jane.locator("koko-fullscreen button")).to_have_text("Vollbild")


def test_the_snippets_of_the_documentation(visit: Visit) -> None:
    imports, texts = re.findall(r"^```js\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    jane, tom = visit("jane", KIT), visit("tom", KIT)
    paths = {'"koko-presence/ui"': '"/sdk/ui.js"', '"koko-presence/ui/de"': '"/sdk/ui/de.js"'}
    for snippet in (imports, texts):
        for name, path in paths.items():
            snippet = snippet.replace(name, path)
        jane.add_script_tag(type="module", content=snippet)
    jane.evaluate("document.documentElement.lang = 'fr'")
    tom.evaluate("room.typing(true)")
    expect(jane.locator("koko-typing .text")).to_have_text("Tom écrit...")
    expect(jane.locator("koko-watch .head button").first).to_have_text("Take control")
    jane.evaluate("document.documentElement.lang = 'de'")
    expect(jane.locator("koko-typing .text")).to_have_text("Tom schreibt ...")
