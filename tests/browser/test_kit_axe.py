"""axe finds nothing on the pages of the demo and on each component, on a telephone and a wide screen, in light and in dark."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .conftest import Enter, Server
from .kit import FILM, Visit, visit
from .pages import face, point

__all__ = ["visit"]

pytestmark = [pytest.mark.browser, pytest.mark.pages]

AXE = (Path(__file__).parents[2] / "tests" / "node_modules" / "axe-core" / "axe.min.js").resolve()
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SIZES = {"telephone": (390, 844), "wide": (1440, 900)}
LONG = "Dr. Maria Wolfeschlegelsteinhausenbergerdorff-Szczepanska"

KIT = f"""<!doctype html><html lang="en"><title>The kit</title><meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark; background: canvas; color: canvastext }} video {{ display: block; width: 100% }}</style><main><h1>The kit</h1>
<div id="stage" style="position: relative">{FILM.replace("<video ", '<video aria-label="A film" ')}
<koko-cursors for="film"></koko-cursors></div>
<koko-marks for="film"></koko-marks><koko-fullscreen for="stage"></koko-fullscreen>
<koko-avatars max="1"></koko-avatars><koko-watch></koko-watch><koko-typing></koko-typing></main>"""


def faults(page: Page) -> list[str]:
    """What axe finds: rule, element, reason."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE.read_text())
    found: list[str] = page.evaluate(
        """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.flatMap(({id, nodes}) =>
            nodes.map(({target, failureSummary}) => `${id}: ${target}: ${failureSummary}`))"""
    )
    return found


def picture(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_film_of_the_demo(enter: Enter, size: str, scheme: Any) -> None:
    jane = enter("jane", "Jane", size=SIZES[size], scheme=scheme)
    tom = enter("tom", LONG)
    tom.get_by_role("button", name="Take control").click()
    jane.get_by_role("button", name="Request control").click()
    expect(tom.get_by_role("button", name="Grant")).to_be_visible()
    tom.locator("#words").fill("Hello")
    tom.locator("#words").press("Enter")
    expect(jane.locator("#feed li")).to_have_count(1)
    point(tom, 0.5, 0.5)
    expect(jane.locator("#cursors .cursor")).to_have_count(1)
    jane.locator("#notice:empty").wait_for(state="attached")
    assert faults(jane) == []
    jane.locator("#menu-button").click()
    expect(jane.locator("#menu")).to_be_visible()
    assert faults(jane) == []
    jane.keyboard.press("Escape")
    face(jane, "Jane").click()
    expect(jane.locator("#avatars .panel")).to_be_visible()
    assert faults(jane) == []
    picture(jane, f"axe-{size}-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["comparison", "project", "thread"])
def test_the_other_pages_of_the_demo(enter: Enter, server: Server, name: str, size: str, scheme: Any) -> None:
    jane = enter("jane", "Jane", size=SIZES[size], scheme=scheme)
    jane.goto(f"{server.url}/demo/{name}.html?user=jane&name=Jane")
    jane.wait_for_selector("body[data-state=live]")
    assert faults(jane) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_each_component(visit: Visit, size: str, scheme: str) -> None:
    jane = visit("jane", KIT, name="Jane", size=SIZES[size], scheme=scheme)
    tom = visit("tom", KIT, name=LONG)
    mia = visit("mia", KIT, name="Mia")
    jane.get_by_role("button", name="Take control").click()
    for other in (tom, mia):
        other.get_by_role("button", name="Request control").click()
    expect(jane.get_by_role("button", name="Grant")).to_have_count(2)
    tom.evaluate(
        "room.setStatus('busy', 'a message that is longer than any list of users is wide, and ends in an ellipsis')"
    )
    tom.evaluate("room.updateCursor({timestamp: 0, x: 0.5, y: 0.5})")
    tom.evaluate("room.typing(true)")
    expect(jane.locator("koko-cursors .cursor")).to_have_count(1)
    expect(jane.locator("koko-typing .typing")).to_be_visible()
    assert faults(jane) == []
    jane.locator("koko-avatars .more").click()
    expect(jane.locator("koko-avatars .panel")).to_be_visible()
    assert faults(jane) == []
    picture(jane, f"kit-{size}-{scheme}")
    jane.keyboard.press("Escape")
    jane.evaluate("room.leave()")
    expect(jane.locator("koko-watch .connection")).to_be_visible()
    assert faults(jane) == []
