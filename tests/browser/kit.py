"""Pages of the tests' own, with the UI kit in them: a room of the test, and any HTML around the film."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import WAIT_MS, Server

expect.set_options(timeout=WAIT_MS)

FILM = '<video id="film" src="/demo/clip.mp4" muted playsinline></video>'

SCRIPT = """<script type="module">
import { createPresence } from "/sdk/presence.js";
import "/sdk/ui.js";
window.faults = [];
addEventListener("error", ({message}) => faults.push(message));
addEventListener("unhandledrejection", ({reason}) => faults.push(String(reason)));
window.kit = () => [...document.querySelectorAll("*")]
  .flatMap((each) => [each, ...(each.shadowRoot?.querySelectorAll("*") ?? [])])
  .filter((each) => each.localName.startsWith("koko-"));
window.come = async (user, name, id, options) => {
  const auth = async () => (await (await fetch(`/dev/token?${new URLSearchParams({ user, name })}`)).json()).token;
  window.presence = createPresence({ url: "/presence", auth });
  window.room = presence.enter(id, options);
  for (const element of kit()) element.room = room;
  await room.ready();
};
window.isReady = true;
</script>"""

Visit = Callable[..., Page]


@pytest.fixture
def visit(server: Server, browser: Browser, complaints: list[str], request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Open a page with `html` in a browser profile of its own and enter the test's room with every component in it."""
    contexts = []

    def open_page(
        user: str,
        html: str,
        *,
        name: str = "",
        kind: str = "video",
        size: tuple[int, int] = (1000, 800),
        scheme: str = "light",
        enters: bool = True,
        base: str | None = None,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
            bypass_csp=True,
        )
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/demo/demo.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
        page.goto(f"{base or server.url}/demo")  # an HTML page of the server's own origin, emptied
        page.set_content(html + SCRIPT)
        page.wait_for_function("window.isReady")
        page.evaluate(
            """() => Promise.all([...document.querySelectorAll("video")].map((video) =>
                video.readyState || new Promise((resolve) => video.addEventListener("loadedmetadata", resolve))))"""
        )
        if enters:
            enter(page, user, name, room_of(request), kind)
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            page.goto("about:blank")
        context.close()


def room_of(request: pytest.FixtureRequest) -> str:
    return f"video_{request.node.name}"[:128]


def enter(page: Page, user: str, name: str, room: str, kind: str = "video") -> None:
    page.evaluate(
        "([user, name, room, type]) => come(user, name, room, {type})", [user, name or user.title(), room, kind]
    )
