"""The recipes of docs/presence-object.md work in Chromium, against a real server, with the real React."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from .conftest import Server
from .test_docs_sdk import EMPTY, bundle, open_page, other

pytestmark = [pytest.mark.browser, pytest.mark.pages]

TEXT = (Path(__file__).parents[2] / "docs" / "presence-object.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def block(language: str, number: int = 0) -> str:
    return [text for name, text in BLOCKS if name == language][number]


def test_every_block_is_run_here() -> None:
    # the types are those of tests/sdk/types/use.ts
    assert [language for language, _ in BLOCKS] == ["js", "html", "html", "tsx", "tsx", "ts"]


def test_set_and_read(server: Server, context: BrowserContext, complaints: list[str]) -> None:
    page = open_page(context, server, EMPTY, complaints)
    tom = other(context, server, complaints, "project_board", "project")
    tom.evaluate("window.seen = []; tom.on('user_joined', ({ data }) => seen.push(data.presence)); 0")
    page.evaluate(
        """async (code) => {
          const { createPresence } = await import("/sdk/presence.js");
          const auth = async () => (await (await fetch("/dev/token?user=jane&name=Jane")).json()).token;
          const presence = createPresence({ url: "/presence", auth, worker: false });
          new Function("presence", code)(presence);
        }""",
        block("js"),
    )
    view = '{"view":{"x":120,"y":80,"zoom":2}}'
    tom.wait_for_function(f"JSON.stringify(tom.others[0]?.presence) === '{view}'")
    assert tom.evaluate("seen") == [{"view": {"x": 120, "y": 80, "zoom": 2}}], "with the join, so all calls of the turn"


def test_a_viewport_to_follow(server: Server, context: BrowserContext, complaints: list[str]) -> None:
    page = open_page(context, server, block("html"), complaints)
    tom = other(context, server, complaints, "project_view", "project")
    page.wait_for_function("document.querySelector('#whom').options[1]?.text === 'Follow Tom'")
    page.evaluate("document.querySelector('#board').scrollTop = 1000")
    tom.wait_for_function("tom.others[0].presence?.view?.top === 0.25")
    tom.evaluate("tom.setPresence({ view: { top: 0.5 } })")
    page.select_option("#whom", "tom")
    page.wait_for_function("document.querySelector('#board').scrollTop === 2000")
    tom.evaluate("tom.setPresence({ view: { top: 0.75 } })")
    page.wait_for_function("document.querySelector('#board').scrollTop === 3000")
    page.dispatch_event("#board", "wheel")
    page.wait_for_function("document.querySelector('#whom').value === ''")
    tom.evaluate("tom.setPresence({ view: { top: 0.1 }, done: true })")
    page.wait_for_function("document.querySelector('#whom').options.length === 2")
    assert page.evaluate("document.querySelector('#board').scrollTop") == 3000


def test_a_lock(server: Server, context: BrowserContext, complaints: list[str]) -> None:
    page = open_page(context, server, block("html", 1), complaints)
    tom = other(context, server, complaints, "project_lock", "project")
    tom.wait_for_function("tom.others.length === 1")
    tom.evaluate("tom.setPresence({ editing: { field: 'note', since: tom.clock.now() } })")
    page.wait_for_function("document.querySelector('#lock').textContent === 'Tom is editing'")
    assert page.evaluate("document.querySelector('#note').readOnly") is True
    page.focus("#note")  # the second one, who waits
    tom.wait_for_function("tom.others[0].presence?.editing?.field === 'note'")
    assert page.evaluate("document.querySelector('#note').readOnly") is True
    tom.evaluate("tom.setPresence({ editing: null })")
    page.wait_for_function(
        "document.querySelector('#lock').textContent === '' && !document.querySelector('#note').readOnly"
    )
    page.evaluate("document.querySelector('#note').blur()")
    tom.wait_for_function("!tom.others[0].presence")


def test_react(server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path) -> None:
    html = f"{EMPTY}<script type=module src=/bundle.js></script>"
    page = open_page(context, server, html, complaints, bundle("tsx", block("tsx"), tmp_path))
    tom = other(context, server, complaints, "project_tools", "project")
    tom.wait_for_function("tom.others[0]?.presence?.tool === 'pen'")
    page.wait_for_function("document.querySelector('li')?.textContent === 'tom: nothing'")
    page.click("#hand")
    tom.wait_for_function("tom.others[0].presence.tool === 'hand'")
    page.wait_for_function("document.querySelector('#hand').ariaPressed === 'true'")
    tom.evaluate("tom.setPresence({ tool: 'pen' })")
    page.wait_for_function("document.querySelector('li').textContent === 'tom: pen'")


# The test's provider: each page applies what the other has typed.
PROVIDER = """
Object.assign(window, { doc, room });
doc.on("update", (update, origin) => origin !== "room" && room.broadcast({ update: [...update] }));
room.on("broadcast", ({ data }) => Y.applyUpdate(doc, new Uint8Array(data.update), "room"));
"""


def test_an_editor_shows_the_selections_of_others(
    server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path
) -> None:
    html = f"{EMPTY}<script type=module src=/bundle.js></script>"
    snippet = block("tsx", 1) + PROVIDER
    jane = open_page(context, server, html, complaints, bundle("tsx", snippet, tmp_path))
    jane.wait_for_function("window.room?.status === 'live'")
    for_tom = snippet.replace("jane", "tom").replace("Jane", "Tom")
    tom = open_page(context, server, html, complaints, bundle("tsx", for_tom, tmp_path))
    tom.wait_for_function("window.room?.others.length === 1")
    jane.wait_for_function("room.others.length === 1")
    jane.click(".cm-content")
    jane.keyboard.type("hello")
    tom.wait_for_function("document.querySelector('.cm-content').textContent.includes('hello')")
    tom.wait_for_function("document.querySelector('.cm-ySelectionInfo')?.textContent === 'Jane'")
    jane.keyboard.press("Shift+Home")
    tom.wait_for_function("document.querySelector('.cm-ySelection')?.textContent === 'hello'")
    tom.click(".cm-content")
    jane.wait_for_function("document.querySelector('.cm-ySelectionInfo')?.textContent === 'Tom'")
    tom.close()
    jane.wait_for_function("!document.querySelector('.cm-ySelectionInfo')")
