"""Pages of a real browser in which people watch films of clips.py together, against a real server.

All times are wall times in ms, as the pages see them (`performance.timeOrigin + performance.now()`).
"""

import asyncio
import base64
import functools
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright

from koko_presence.auth.hmac_jwt import issue_token

from ..floods import free_port
from ..load import SECRET, koko_server
from .clips import HEIGHT, WIDTH, Encoding, clip
from .firefox import firefox
from .site import SDK, site

# the first is the same engine without a browser around it: a page takes a third of the CPU
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@dataclass(frozen=True)
class Film:
    """A film in a page. `start_ms`, `seek_ms`: how much longer than the browser's own time starting and seeking take.
    `options` are those of the SDK's `attach`."""

    encoding: Encoding
    seconds: float
    start_ms: float = 0.0
    seek_ms: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def for_page(self) -> dict[str, Any]:
        path = clip(self.encoding, self.seconds)
        return {
            "clip": f"/clips/{path.name}",
            "rate": float(self.encoding.rate),
            "startMs": self.start_ms,
            "seekMs": self.seek_ms,
            "options": dict(self.options),
        }


class Viewer:
    """One person's page, of Playwright or of firefox.py. `errors` are the texts of exceptions and of console errors."""

    def __init__(self, user: str, page: Any, *, is_chromium: bool) -> None:
        self.user, self.page, self.is_chromium = user, page, is_chromium
        self.errors: list[str] = []
        self._cdp: Any = None
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    async def call(self, name: str, *arguments: Any) -> Any:
        """A function of `viewer` in page.js."""
        return await self.page.evaluate(f"(all) => viewer.{name}(...all)", list(arguments))

    async def act(self, kind: str, film: int = 0, **details: Any) -> dict[str, Any]:
        """Play, pause, seek (`to`, s), step (`frames`) or any other `command`; returns {at, frame}."""
        acted: dict[str, Any] = await self.call("act", {"kind": kind, **details}, film)
        return acted

    async def devtools(self, method: str, **params: Any) -> Any:
        """A command of the Chrome DevTools Protocol."""
        if self._cdp is None:
            self._cdp = await self.page.context.new_cdp_session(self.page)
        return await self._cdp.send(method, params)

    async def throttle(self, factor: float) -> None:
        """Slow the page's main thread down by `factor`; 1 ends it. Chromium only."""
        if self.is_chromium:
            await self.devtools("Emulation.setCPUThrottlingRate", rate=factor)

    async def painted(self) -> int:
        """The number of the first film's frame on a screenshot."""
        if self.is_chromium:
            png = base64.b64encode(await self.page.locator("video").first.screenshot()).decode()
        else:
            png = await self.page.screenshot(WIDTH, HEIGHT)
        number: int = await self.call("numberOfPng", png)
        return number

    async def close(self) -> None:
        await (self.page.context if self.is_chromium else self.page).close()


class Hall:
    """A server, a site with the page, and a browser. `version` is the browser's name and version."""

    def __init__(
        self, origin: str, port: int, version: str, new_page: Callable[[int, int], Awaitable[Any]], *, is_chromium: bool
    ) -> None:
        self.origin, self.port, self.version = origin, port, version
        self._new_page, self._is_chromium = new_page, is_chromium

    @property
    def url(self) -> str:
        """The server's address."""
        return f"ws://127.0.0.1:{self.port}/presence"

    async def open(
        self, user: str, room: str, films: Sequence[Film], *, url: str | None = None, token: str | None = None
    ) -> Viewer:
        """A page with a browser profile of its own, in the room, with the films' first pictures loaded."""
        page = await self._new_page(340, 180 * len(films) + 20)
        viewer = Viewer(user, page, is_chromium=self._is_chromium)
        await self.load(viewer, room, films, url=url, token=token)
        return viewer

    async def load(
        self, viewer: Viewer, room: str, films: Sequence[Film], *, url: str | None = None, token: str | None = None
    ) -> None:
        """Load the page, again if it was loaded already."""
        await viewer.page.goto(f"{self.origin}/page.html")
        await viewer.page.wait_for_function("globalThis.viewer")
        options = {
            "url": url or self.url,
            "token": token or token_of(viewer.user),
            "roomId": room,
            "films": [film.for_page() for film in films],
        }
        await viewer.call("enter", options)


def token_of(user: str, ttl_s: int = 86_400) -> str:
    return issue_token(SECRET, user=user, name=user.title(), ttl_s=ttl_s, now_s=int(time.time()))


@contextmanager
def server_and_site(
    sdk: Path = SDK, token_of: Callable[[str], str] | None = None, **settings: Any
) -> Iterator[tuple[str, int]]:
    """Runs a server that admits the site's pages, and the site; yields the site's origin and the server's port."""
    port = free_port()
    with site(sdk, token_of) as origin, koko_server(port, None, server_origins=origin, **settings):
        yield origin, port


@asynccontextmanager
async def hall(
    sdk: Path = SDK, browser: str | None = None, token_of: Callable[[str], str] | None = None, **settings: Any
) -> AsyncIterator[Hall]:
    """`browser` is the name of a program; without it the first of CHROMIUMS. `token_of` issues the tokens at the site's
    TOKEN_PATH. Settings are the server's, SECTION_KEY. Errors: SystemExit if there is no such program."""
    program = next(filter(None, map(shutil.which, [browser] if browser else CHROMIUMS)), None)
    if program is None:
        raise SystemExit("No Chromium here. Type: make test (it installs one), or: sudo apt-get install chromium")
    async with AsyncExitStack() as stack:
        origin, port = stack.enter_context(server_and_site(sdk, token_of, **settings))
        if "firefox" in program:
            running = await stack.enter_async_context(firefox(program))
            yield Hall(origin, port, f"Firefox {running.version}", running.new_page, is_chromium=False)
            return
        playwright = await stack.enter_async_context(async_playwright())
        chromium = await playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        stack.push_async_callback(chromium.close)
        version = f"{Path(program).name} {chromium.version}"
        yield Hall(origin, port, version, functools.partial(_page_of, chromium), is_chromium=True)


async def _page_of(chromium: Browser, width: int, height: int) -> Any:
    context = await chromium.new_context(viewport={"width": width, "height": height})
    return await context.new_page()


async def wait_until(viewer: Viewer, condition: str, timeout_s: float = 30.0) -> None:
    """Until a JavaScript expression about `viewer` is true. Errors: playwright's TimeoutError."""
    await viewer.page.wait_for_function(condition, timeout=timeout_s * 1000)


async def all_shown(viewers: Sequence[Viewer], at: float, film: int = 0) -> list[dict[str, Any]]:
    """What each page displays at one wall time."""
    return list(await asyncio.gather(*(viewer.call("shownAt", at, film) for viewer in viewers)))
