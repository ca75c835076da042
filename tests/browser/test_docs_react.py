"""The page of docs/react.md works in Chromium, against a real server, with the real React."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from .conftest import Server
from .test_docs_sdk import EMPTY, bundle, open_page, other

pytestmark = [pytest.mark.browser, pytest.mark.pages]

TEXT = (Path(__file__).parents[2] / "docs" / "react.md").read_text()
(PAGE,) = re.findall(r"^```tsx\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
HTML = f"{EMPTY}<script type=module src=/bundle.js></script>"


def shows(page: Page, selector: str, text: str) -> None:
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent === text", arg=[selector, text]
    )


def test_the_documented_page(server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path) -> None:
    page = open_page(context, server, HTML, complaints, bundle("tsx", PAGE, tmp_path))
    shows(page, "#connection", "live")
    shows(page, "#count", "0")
    tom = other(context, server, complaints, "video_hooks")
    shows(page, "#count", "1")
    shows(page, "#arrivals", "Tom")
    tom.evaluate("window.heard = []; tom.on('broadcast', ({ data }) => heard.push(data.emoji)); 0")
    page.click("#react")
    tom.wait_for_function("heard.join() === '🎉'")
    tom.evaluate("tom.broadcast({ type: 'reaction', emoji: '👍' }); 0")
    shows(page, "#reaction", "tom 👍")


def test_an_unmounted_composer_ends_typing_and_a_later_privacy_applies(
    server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path
) -> None:
    page = open_page(
        context, server, HTML, complaints, bundle("tsx", PAGE.replace("video_hooks", "video_composer"), tmp_path)
    )
    shows(page, "#connection", "live")
    tom = other(context, server, complaints, "video_composer")
    tom.wait_for_function("tom.others.length === 1")
    tom.evaluate("window.reasons = []; tom.on('typing_stopped', ({ data }) => reasons.push(data.reason)); 0")
    page.type("textarea", "hello")
    tom.wait_for_function("tom.others[0].typingContext === 'comment'")
    page.evaluate("document.querySelector('#close').click()")  # no blur comes before it, unlike with a mouse
    tom.wait_for_function("reasons.join() === 'stopped'")  # not after 5 s, by timeout
    page.check("input")
    tom.wait_for_function("tom.others.length === 0")
    page.uncheck("input")
    tom.wait_for_function("tom.others.length === 1")
