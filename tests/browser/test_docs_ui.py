"""The pages of docs/ui-kit.md work unchanged."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from .conftest import WAIT_MS, Enter, Server
from .pages import face, point, wait_for_cursor

pytestmark = [pytest.mark.browser, pytest.mark.pages]

TEXT = (Path(__file__).parents[2] / "docs" / "ui-kit.md").read_text()
MINIFIED = Path(__file__).parents[2] / "koko_presence" / "web" / "sdk_minified"
ELEMENTS = ("avatars", "cursors", "fullscreen", "marks", "typing", "watch")
PAGE, COMPARISON = re.findall(r"^```html\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def minify(route: Route) -> None:
    """Answer as a server without --dev."""
    path = MINIFIED / route.request.url.partition("/sdk/")[2]
    assert path.exists(), "a bundle imports no other file"
    route.fulfill(path=path, headers={"Content-Type": "text/javascript"})


@pytest.mark.parametrize("is_minified", [False, True], ids=["sources", "minified"])
def test_the_documented_page_works(
    server: Server, browser: Browser, enter: Enter, complaints: list[str], is_minified: bool
) -> None:
    tom = enter("tom", "Tom")
    room = tom.locator("#room").inner_text()
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    if is_minified:
        page.route("**/sdk/**", minify)
    page.route("**/demo/demo.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    page.goto(f"{server.url}/demo")  # an HTML page of the server's own origin, emptied
    page.set_content(PAGE.replace("film.mp4", "/demo/clip.mp4").replace("video_123", room))
    expect(face(tom, "Jane")).to_have_count(1)
    expect(page.locator("koko-avatars .row button")).to_have_count(2)
    expect(page.locator("koko-watch .viewer")).to_have_count(2)
    tom.locator("#words").press_sequentially("x")
    expect(page.locator("koko-typing .typing")).to_have_text("Tom is typing...")
    point(page, 0.5, 0.5)
    wait_for_cursor(tom, 0.5, 0.5)
    expect(tom.locator("#marks .mark")).to_have_text("J")
    context.close()


def test_the_documented_comparison_works(server: Server, browser: Browser, complaints: list[str]) -> None:
    html = COMPARISON.replace("cut-1.mp4", "/demo/clip.mp4").replace("cut-2.mp4", "/demo/clip-graded.mp4")
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(WAIT_MS)
    pages = {}
    for user in ("jane", "tom"):
        page = pages[user] = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/demo/demo.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
        page.goto(f"{server.url}/demo")
        page.set_content(html.replace("user=jane&name=Jane", f"user={user}&name={user.title()}"))
        expect(page.locator("koko-watch .viewer")).to_have_count(len(pages))
    for target in ("left", "right"):
        pages["jane"].locator(f"#{target}").hover()
        seen = pages["tom"].locator(f"koko-cursors[for={target}] .cursor")
        expect(seen).to_have_text("Jane")
        expect(pages["tom"].locator("koko-cursors .cursor")).to_have_count(1)
    context.close()


def test_the_documented_style_is_css_for_an_element_of_the_page(browser: Browser) -> None:
    (css,) = re.findall(r"^```css\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    ids = set(re.findall(r"#([\w-]+)", css))
    assert ids and all(f'id="{name}"' in TEXT for name in ids)
    page = browser.new_page()
    rules = "(css) => { const sheet = new CSSStyleSheet(); sheet.replaceSync(css); return [...sheet.cssRules].length; }"
    assert page.evaluate(rules, css) == css.count("{")
    page.close()


def test_every_documented_part_and_property_exists() -> None:
    kit = Path(__file__).parents[2] / "koko_presence" / "web" / "sdk"
    source = "".join(path.read_text() for path in (kit / "ui").glob("*.js"))
    table = TEXT.split("And these parts")[1].split("##")[0]
    parts = [
        part for row in table.splitlines() if row.startswith("| `koko-") for part in re.findall(r"`([\w-]+)`", row)[1:]
    ]
    assert (
        len(parts) > 25 and [part for part in parts if f'"{part}"' not in source.replace("`status ", '"status"')] == []
    )
    styles = (kit / "ui" / "styles.js").read_text()
    told = set(re.findall(r"`(--koko-[\w-]+)`", TEXT))
    assert told == set(re.findall(r"var\((--koko-[\w-]+)", styles))
    assert all(f"`<koko-{name}>`" in TEXT for name in ELEMENTS)
