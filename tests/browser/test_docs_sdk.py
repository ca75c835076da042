"""Every code block of docs/sdk.md works in Chromium, against a real server, with the real React and Vue."""

import json
import os
import re
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import BrowserContext, Page

from .conftest import WAIT_MS, Server

pytestmark = [pytest.mark.browser, pytest.mark.pages]
CHROMIUM = "chromium"  # the shell drops a mouse move on a page without animation frames

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "sdk.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
EMPTY = "<!doctype html><div id=app></div>"


def block(language: str, number: int = 0) -> str:
    """The block with that number among those in that language."""
    return [text for name, text in BLOCKS if name == language][number]


def open_page(context: BrowserContext, server: Server, html: str, complaints: list[str], script: str = "") -> Page:
    """A page of the server's origin with this HTML."""
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.route("**/clip.mp4", lambda route: route.fulfill(body=b"", content_type="video/mp4", status=200))
    page.route("**/bundle.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    page.goto(f"{server.url}/healthz")  # a page fulfilled by the test itself would count as one of another network
    page.set_content(html)
    return page


def bundled(language: str, folder: Path, number: int = 0) -> str:
    return bundle(language, block(language, number), folder)


def bundle(language: str, text: str, folder: Path) -> str:
    """One script made of a snippet."""
    source, out = folder / f"snippet.{language}", folder / "bundle.js"
    source.write_text(text)
    done = subprocess.run(
        ["node", ROOT / "tests/sdk/bundle.js", source, out],
        capture_output=True, text=True, timeout=WAIT_MS / 1000, env=os.environ, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out.read_text()


# Another member of the room, by the SDK itself.
OTHER = """async ([room, type]) => {
  const { createPresence } = await import("/sdk/presence.js");
  const auth = async () => (await (await fetch("/dev/token?user=tom&name=Tom")).json()).token;
  window.tom = createPresence({ url: "/presence", auth, worker: false }).enter(room, { type });
  return Promise.race([window.tom.ready(), new Promise((resolve) => setTimeout(resolve, 100_000, "never"))]);
}"""


def other(context: BrowserContext, server: Server, complaints: list[str], room: str, type: str = "video") -> Page:
    page = open_page(context, server, EMPTY, complaints)
    assert page.evaluate(OTHER, [room, type]) is True
    return page


def test_every_block_is_run_here() -> None:
    languages = [language for language, _ in BLOCKS if language != "js"]
    assert sorted(languages) == ["html", "tsx", "tsx", "vue"]


def test_plain_html(server: Server, context: BrowserContext, complaints: list[str]) -> None:
    page = open_page(context, server, block("html"), complaints)
    tom = other(context, server, complaints, "video_html")
    page.wait_for_function("document.querySelector('#people').textContent === 'Tom'")
    tom.evaluate("tom.typing(true)")
    page.wait_for_function("document.querySelector('#people').textContent === 'Tom is typing...'")
    page.mouse.move(50, 50)
    tom.wait_for_function("tom.others[0].cursor && tom.others[0].cursor.timestamp === 0")
    page.mouse.move(1200, 700)
    tom.wait_for_function("!tom.others[0].cursor")
    page.close()
    tom.wait_for_function("tom.others.length === 0")


def test_react(server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path) -> None:
    html = f"{EMPTY}<script type=module src=/bundle.js></script>"
    page = open_page(context, server, html, complaints, bundled("tsx", tmp_path))
    tom = other(context, server, complaints, "video_react")
    page.wait_for_function("document.querySelector('#me').textContent === 'Jane'")
    page.wait_for_function("document.querySelector('#names').textContent === 'Tom'")
    tom.evaluate("tom.typing(true, 'comment')")
    page.wait_for_function("document.querySelector('#typing').textContent === 'Tom is typing...'")
    page.type("textarea", "hello")
    tom.wait_for_function("tom.others[0].typingContext === 'comment'")
    page.locator("video").hover()
    tom.wait_for_function("tom.others[0].cursor?.timestamp === 0")
    tom.evaluate("tom.updateCursor({ timestamp: 0, x: 0.5, y: 0.5 }); 0")
    page.wait_for_function(
        "document.querySelector('koko-cursors').shadowRoot.querySelector('.cursor')?.textContent === 'Tom'"
    )
    page.click("button")
    tom.wait_for_function("tom.getSnapshot().playback?.isPlaying")
    page.wait_for_function("document.querySelector('button').textContent === 'Pause'")


def test_react_with_two_films(server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path) -> None:
    html = f"{EMPTY}<script type=module src=/bundle.js></script>"
    page = open_page(context, server, html, complaints, bundled("tsx", tmp_path, 1))
    tom = other(context, server, complaints, "comparison_react", "comparison")
    tom.wait_for_function("tom.others.length === 1")
    tom.evaluate("""async () => {
        await tom.setMedia({ mediaId: "cut-1", title: "Cut 1" });
        await tom.setMedia({ mediaId: "cut-3", title: "Cut 3", target: "right" });
        tom.updateCursor({ timestamp: 1, x: 0.5, y: 0.5 });
    }""")
    page.wait_for_function("document.querySelectorAll('figcaption')[0].textContent === 'Cut 1'")
    page.wait_for_function("document.querySelectorAll('figcaption')[1].textContent.startsWith('Another version')")
    page.wait_for_function("document.querySelectorAll('figure')[0].querySelector('b')?.textContent === 'Tom'")
    assert page.locator("b").count() == 1
    page.locator("figure").nth(1).hover()
    tom.wait_for_function("tom.others[0].cursor?.target === 'right' && tom.others[0].cursor.mediaId === 'cut-2'")


def test_the_component_for_next(server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path) -> None:
    """By itself: that Next serves the package is tested in test_bundlers.py."""
    (code,) = re.findall(r"^```tsx next\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    show = 'createRoot(document.querySelector("#app")!).render(<Film id="video_next" src="/demo/clip.mp4" />);'
    script = bundle("tsx", f'{code}\nimport {{ createRoot }} from "react-dom/client";\n{show}', tmp_path)
    with urlopen(f"{server.url}/dev/token?user=jane&name=Jane") as answer:
        token = json.load(answer)["token"]
    context.route("**/api/presence-token", lambda route: route.fulfill(json={"token": token}))
    page = open_page(context, server, f"{EMPTY}<script type=module src=/bundle.js></script>", complaints, script)
    tom = other(context, server, complaints, "video_next")
    page.wait_for_function("document.querySelector('#names').textContent === 'Tom'")
    page.locator("video").hover()
    tom.wait_for_function("tom.others[0]?.cursor?.timestamp === 0")


def test_vue(server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path) -> None:
    html = f"{EMPTY}<script type=module src=/bundle.js></script>"
    page = open_page(context, server, html, complaints, bundled("vue", tmp_path))
    tom = other(context, server, complaints, "video_vue")
    page.wait_for_function("document.querySelector('#me').textContent === 'Jane'")
    page.wait_for_function("document.querySelector('#people').textContent.trim() === 'Tom'")
    tom.evaluate("tom.typing(true)")
    page.wait_for_selector("#people em")
    page.type("textarea", "hello")
    tom.wait_for_function("tom.others[0].isTyping")


def test_the_calls_one_after_the_other(server: Server, context: BrowserContext, complaints: list[str]) -> None:
    tom = other(context, server, complaints, "video_calls")
    tom.evaluate("window.heard = []; tom.on('broadcast', ({ data }) => heard.push(data.emoji)); 0")
    calls = "\n".join(text for language, text in BLOCKS if language == "js")
    script = f"""
      import {{ createPresence }} from "/sdk/presence.js";
      const url = "/presence";
      const auth = async () => (await (await fetch("/dev/token?user=jane&name=Jane")).json()).token;
      {calls}
      window.done = [room.status, second.status, presence.status, sent.delivered, granted, answer.code];"""
    films = "<video muted></video><div id=comparison><video muted></video><video muted></video></div>"
    html = f"{EMPTY}{films}<script type=module src=/bundle.js></script>"
    page = open_page(context, server, html, complaints, script)
    page.wait_for_function("window.done")
    assert page.evaluate("done") == ["closed", "closed", "closed", 1, True, "NOT_CONTROLLER"]
    tom.wait_for_function("heard.join() === '👍'")
    tom.wait_for_function("tom.others.length === 0")


def test_the_first_page_of_the_package(
    server: Server, context: BrowserContext, complaints: list[str], tmp_path: Path
) -> None:
    """The block of the package's README."""
    text = (ROOT / "koko_presence" / "web" / "sdk" / "README.md").read_text()
    (code,) = re.findall(r"^```js\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    address = "wss://presence.example.org/presence"
    assert code.count(address) == 1
    script = bundle("tsx", code.replace(address, f"{server.url}/presence"), tmp_path)
    with urlopen(f"{server.url}/dev/token?user=jane&name=Jane") as answer:
        token = json.load(answer)["token"]
    context.route("**/api/presence-token", lambda route: route.fulfill(json={"token": token}))
    html = "<!doctype html><video muted width=640 height=360></video><script type=module src=/bundle.js></script>"
    page = open_page(context, server, html, complaints, script)
    tom = other(context, server, complaints, "video_123")
    tom.wait_for_function("tom.others[0]?.name === 'Jane'")
    page.locator("video").hover()
    tom.wait_for_function("tom.others[0].cursor?.x > 0.4")
