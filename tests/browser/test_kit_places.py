"""The UI kit in the pages of others: targets that come late, shadow roots, transforms, right-to-left pages, two films upon each
other, faults of one component."""

import pytest
from playwright.sync_api import Page, expect

from .kit import FILM, Visit, enter, room_of, visit

__all__ = ["visit"]

pytestmark = [pytest.mark.browser, pytest.mark.pages]

SIZE = "width: 640px; height: 360px"
STAGE = f"""<style>body {{ margin: 30px }} #film {{ display: block; {SIZE} }}</style>
<div style="position: relative; {SIZE}">{FILM}<koko-cursors for="film"></koko-cursors></div>"""

# where a point of the picture is in the window: the browser's own answer, by an element that lies there
MARK = """([x, y, id]) => {
    const film = document.getElementById(id), stage = film.parentElement, dot = document.createElement("i");
    dot.style.cssText = `position: absolute; left: ${x}px; top: ${y}px; width: 0; height: 0`;
    stage.append(dot);
    const {left, top} = dot.getBoundingClientRect();
    dot.remove();
    return [left, top];
}"""


def at(page: Page, x: float, y: float, film: str = "film") -> tuple[float, float]:
    """The point of the window where a px of the stage is."""
    left, top = page.evaluate(MARK, [x, y, film])
    return left, top


def point(page: Page, x: float, y: float, film: str = "film") -> None:
    page.mouse.move(*at(page, x, y, film))


def wait_for_sent(page: Page, x: float, y: float, target: str = "") -> None:
    """Wait until the only cursor that this page has heard of is at `x`, `y` of the picture."""
    page.wait_for_function(
        """([x, y, target]) => {
            const cursor = room.others[0]?.cursor;
            return cursor && Math.abs(cursor.x - x) < 0.01 && Math.abs(cursor.y - y) < 0.01 && (cursor.target ?? "") === target;
        }""",
        arg=[x, y, target],
    )


def wait_for_drawn(page: Page, left: float, top: float, within: str = "") -> None:
    """Wait until the only cursor on this page is drawn at that point of the window, to 2 px."""
    page.wait_for_function(
        """([left, top, within]) => {
            const layers = kit().filter((each) => each.localName === "koko-cursors" && each.matches(`${within || "*"}`));
            const drawn = layers.flatMap((each) => [...each.shadowRoot.querySelectorAll(".cursor")]);
            const tip = drawn.length === 1 && drawn[0].getBoundingClientRect();
            return tip && Math.abs(tip.left - left) < 2 && Math.abs(tip.top - top) < 2;
        }""",
        arg=[left, top, within],
    )


PAGES = {
    "scale": "transform: scale(0.5); transform-origin: 0 0",
    "scale-up": "transform: scale(1.5); transform-origin: 0 0",
    "individual": "scale: 0.8 0.6; rotate: 20deg; transform-origin: 0 0; margin: 20px 120px",
    "rotate": "transform: rotate(30deg); margin: 100px",
    "mirror": "transform: scaleX(-1)",
    "zoom": "zoom: 0.5",
    "zoom-and-scale": "zoom: 1.25; transform: scale(0.8); transform-origin: 0 0",
    "nested": "transform: translate(50px, 20px) rotate(-10deg) scale(0.7); zoom: 0.9",
}


@pytest.mark.parametrize("style", PAGES.values(), ids=PAGES)
def test_a_cursor_is_at_its_place_of_a_stage_that_is_transformed(visit: Visit, style: str) -> None:
    html = f'<div style="width: 640px; {style}">{STAGE}</div>'
    jane, tom = visit("jane", html), visit("tom", STAGE)
    point(jane, 480, 90)
    wait_for_sent(tom, 0.75, 0.25)
    wait_for_drawn(tom, *at(tom, 480, 90))
    point(tom, 160, 270)
    wait_for_sent(jane, 0.25, 0.75)
    wait_for_drawn(jane, *at(jane, 160, 270))


def test_a_film_that_is_transformed_itself(visit: Visit) -> None:
    jane, tom = (
        visit("jane", STAGE + "<style>#film { transform: scale(0.5) rotate(90deg) }</style>"),
        visit("tom", STAGE),
    )
    jane.mouse.move(30 + 320 + 45, 30 + 180)  # on the screen 45 px right of the centre: 90 px up in the film
    wait_for_sent(tom, 0.5, 0.25)
    point(tom, 320, 90)
    wait_for_drawn(jane, 30 + 320 + 45, 30 + 180)


@pytest.mark.parametrize("direction", ["rtl", "ltr"])
def test_a_page_that_reads_from_right_to_left(visit: Visit, direction: str) -> None:
    html = f"<script>document.documentElement.dir = '{direction}'</script>{STAGE}<koko-marks for=film style='width: 640px'></koko-marks>"
    jane, tom = visit("jane", html), visit("tom", STAGE)
    point(tom, 480, 90)
    wait_for_sent(jane, 0.75, 0.25)
    wait_for_drawn(jane, *at(jane, 480, 90))
    point(jane, 160, 270)
    wait_for_sent(tom, 0.25, 0.75)
    tom.evaluate("room.updateSelection({startTime: 0, endTime: film.duration / 2})")
    jane.wait_for_function(
        """() => {
            const marks = document.querySelector("koko-marks"), {left} = marks.getBoundingClientRect();
            const band = marks.shadowRoot.querySelector(".selection")?.getBoundingClientRect();
            return band && Math.abs(band.left - left) < 1 && Math.abs(band.right - left - 320) < 1;
        }"""
    )


# boxes of 640 x 640 px: the picture is 640 x 360, the box has bars above and below, or cuts the picture
FITS = {
    "contain": ("", 160, 140 + 270, (0.25, 0.75)),
    "at the bottom": ("object-position: 50% 100%", 160, 280 + 270, (0.25, 0.75)),
    "20 px above the bottom": ("object-position: left 0px bottom 20px", 160, 260 + 270, (0.25, 0.75)),
    "padding and border": (
        "box-sizing: content-box; padding: 40px 0 0 20px; border: 10px solid",
        30 + 160,
        50 + 140 + 270,
        (0.25, 0.75),
    ),
    "fill": ("object-fit: fill", 160, 480, (0.25, 0.75)),
    "cover": ("object-fit: cover", 320, 480, (0.5, 0.75)),
}


@pytest.mark.parametrize(("style", "x", "y", "seen"), FITS.values(), ids=FITS)
def test_a_letter_boxed_film(visit: Visit, style: str, x: float, y: float, seen: tuple[float, float]) -> None:
    boxed = STAGE.replace("height: 360px", "height: 640px") + f"<style>#film {{ {style} }}</style>"
    jane, tom = visit("jane", boxed), visit("tom", STAGE)
    point(jane, x, y)
    wait_for_sent(tom, *seen)
    point(tom, 640 * seen[0], 360 * seen[1])
    wait_for_drawn(jane, *at(jane, x, y))
    if not style:
        point(jane, 320, 20)  # on the bar
        expect(tom.locator("koko-cursors .cursor")).to_have_count(0)


def test_full_screen_of_the_container_of_a_stage_that_is_scaled(visit: Visit) -> None:
    html = STAGE.replace("<div ", '<div id="stage" ') + "<koko-fullscreen for=stage></koko-fullscreen>"
    html += "<style>#stage:fullscreen video { width: 100%; height: 100%; object-fit: contain }</style>"
    jane, tom = visit("jane", f'<div style="transform: scale(0.5)">{html}</div>'), visit("tom", STAGE)
    jane.locator("koko-fullscreen button").click()
    expect(jane.locator("koko-fullscreen button")).to_have_text("Exit full screen")
    width, height = jane.evaluate("[innerWidth, innerHeight]")
    picture = width, width * 9 / 16
    assert picture[1] < height
    jane.mouse.move(width * 0.25, (height - picture[1]) / 2 + picture[1] * 0.75)
    wait_for_sent(tom, 0.25, 0.75)
    point(tom, 480, 90)
    wait_for_drawn(jane, width * 0.75, (height - picture[1]) / 2 + picture[1] * 0.25)


PAIR = """<style>body { margin: 0 } .stage { position: relative; width: 640px; height: 360px }
video { position: absolute; display: block; width: 640px; height: 360px } %s</style><div class="stage">
<video id="one" src="/demo/clip.mp4" muted></video><video id="two" src="/demo/clip-graded.mp4" muted></video>
<koko-cursors for="one"></koko-cursors><koko-cursors for="two" target="right"></koko-cursors></div>"""


def test_two_films_side_by_side_in_one_container(visit: Visit) -> None:
    html = PAIR % "#two { left: 660px }"
    jane, tom = visit("jane", html, size=(1400, 500)), visit("tom", html, size=(1400, 500))
    for x, target in (
        (160, ""),
        (660 + 160, "right"),
        (160, ""),
    ):  # there and back: what leaves hides nothing of what comes
        jane.mouse.move(x, 180)
        wait_for_sent(tom, 0.25, 0.5, target)
        wait_for_drawn(tom, x, 180)
    jane.mouse.move(650, 180)  # between both
    expect(tom.locator("koko-cursors .cursor")).to_have_count(0)


def test_two_films_upon_each_other_with_a_wipe(visit: Visit) -> None:
    html = PAIR % "#two { clip-path: inset(0 0 0 50%) }"
    jane, tom = visit("jane", html), visit("tom", html)
    for x, target in ((480, "right"), (160, ""), (480, "right")):
        jane.mouse.move(x, 90)
        wait_for_sent(tom, x / 640, 0.25, target)
        wait_for_drawn(tom, x, 90)


def test_a_target_that_comes_later_goes_away_and_comes_back(visit: Visit, complaints: list[str]) -> None:
    html = '<div id="stage" style="position: relative; width: 640px; height: 360px"><koko-cursors for="film"></koko-cursors></div>'
    html += '<koko-marks for="film" style="width: 640px"></koko-marks>'
    jane, tom = visit("jane", html), visit("tom", STAGE)
    assert jane.evaluate("faults") == []
    film = f"const film = document.createElement('div'); film.innerHTML = `{FILM}`; const video = film.firstChild;"
    jane.evaluate(f"() => {{ {film} video.width = 640; video.height = 360; stage.prepend(video); }}")
    jane.wait_for_function("film.readyState > 0")
    point(tom, 480, 90)
    wait_for_drawn(jane, *at(jane, 480, 90))
    point(jane, 160, 270)
    wait_for_sent(tom, 0.25, 0.75)
    jane.evaluate("() => { window.kept = film; film.remove(); }")
    expect(jane.locator("koko-cursors .cursor")).to_have_count(0)
    expect(tom.locator("koko-cursors .cursor")).to_have_count(0)
    jane.evaluate("() => { kept.id = 'other'; stage.prepend(kept); kept.id = 'film'; }")
    expect(jane.locator("koko-cursors .cursor")).to_have_count(1)
    jane.evaluate("() => { kept.id = 'other'; document.querySelector('koko-cursors').setAttribute('for', 'other'); }")
    expect(jane.locator("koko-cursors .cursor")).to_have_count(1)
    complaints[:] = [text for text in complaints if " waits: " not in text]  # on a busy machine


def test_a_target_that_does_not_come_is_warned_of_once(visit: Visit, complaints: list[str]) -> None:
    jane = visit("jane", '<koko-cursors for="nothing"></koko-cursors>', enters=False)
    with jane.expect_console_message(lambda said: said.type == "warning") as warning:
        enter(jane, "jane", "Jane", "video_nothing")
    assert 'for="nothing"' in warning.value.text
    jane.evaluate("() => { const {parentElement} = kit()[0]; parentElement.append(kit()[0]); }")
    complaints.clear()


SHADOW = f"""<div id="host"></div><script>
host.attachShadow({{mode: "open"}}).innerHTML = `%s<style>#film {{ display: block; {SIZE} }}</style>`;
</script>"""
BESIDE = f'<div style="position: relative; {SIZE}">{FILM}<koko-cursors for="film"></koko-cursors></div>'
IN_THE_ROOT = f'{FILM}<koko-cursors for="film"></koko-cursors><style>:host {{ display: block; position: relative; {SIZE} }}</style>'


@pytest.mark.parametrize("inner", [BESIDE, IN_THE_ROOT], ids=["in a container", "in the root itself"])
def test_in_a_shadow_root(visit: Visit, inner: str) -> None:
    jane = visit("jane", "<style>body { margin: 0 }</style>" + SHADOW % inner)
    tom = visit("tom", STAGE)
    jane.wait_for_function("host.shadowRoot.querySelector('video').readyState > 0")
    point(tom, 480, 90)
    wait_for_drawn(jane, 480, 90)
    jane.mouse.move(160, 270)
    wait_for_sent(tom, 0.25, 0.75)


def test_a_component_in_a_shadow_root_finds_its_film_in_the_document(visit: Visit) -> None:
    html = (
        STAGE
        + '<div id="host"></div><script>host.attachShadow({mode: "open"}).innerHTML = "<koko-marks for=film></koko-marks>"</script>'
    )
    jane, tom = visit("jane", html), visit("tom", STAGE)
    tom.evaluate("room.updateSelection({startTime: 1, endTime: 2})")
    expect(jane.locator("koko-marks .selection")).to_have_count(1)


def test_the_fault_of_one_component_stops_no_other_and_is_reported_once(
    visit: Visit, complaints: list[str], request: pytest.FixtureRequest
) -> None:
    jane = visit("jane", STAGE + '<koko-typing id="broken"></koko-typing><koko-avatars></koko-avatars>', enters=False)
    jane.evaluate(
        """() => {
            broken.draw = () => { throw new Error("a fault"); };
            document.querySelector("koko-cursors").attached = () => { throw new Error("another fault"); };
        }"""
    )
    enter(jane, "jane", "Jane", room_of(request))  # sets each `room`
    visit("tom", STAGE)
    expect(jane.locator("koko-avatars .row button")).to_have_count(2)
    visit("mia", STAGE)
    expect(jane.locator("koko-avatars .row button")).to_have_count(3)
    jane.evaluate("broken.room = {}")
    jane.evaluate(
        "() => { const second = document.createElement('koko-watch'); document.body.append(second); second.room = {}; }"
    )
    faults = jane.evaluate("faults.map((fault) => fault.replace('Uncaught ', ''))")
    assert sorted(faults) == [
        "Error: a fault",
        "Error: another fault",
        "TypeError: <koko-watch>.room: give it a room of presence.enter(), or null",
    ]
    complaints.clear()


def test_the_kit_may_be_loaded_twice(visit: Visit) -> None:
    jane, tom = visit("jane", STAGE), visit("tom", STAGE)
    again = jane.evaluate(
        """async () => {
            const [one, two] = [await import("/sdk/ui.js"), await import("/sdk/ui.js?second")];
            return one.KokoWatch === two.KokoWatch && new two.KokoWatch() instanceof one.KokoElement
                && Boolean(two.pointOn(film, {clientX: 100, clientY: 100}));
        }"""
    )
    assert again is True and jane.evaluate("faults") == []
    point(tom, 480, 90)
    wait_for_drawn(jane, *at(jane, 480, 90))
