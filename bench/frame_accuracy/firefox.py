"""Pages of a Firefox as it is installed, over WebDriver BiDi: Playwright drives a Firefox of its own build only.

https://w3c.github.io/webdriver-bidi/: commands and their answers as JSON over one WebSocket.
"""

import asyncio
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import websockets

PROGRAMS = ("firefox-esr", "firefox")
PREFERENCES = {
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "privacy.reduceTimerPrecision": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
}
START_S = 60.0


class Firefox:
    """The connection to one browser. Errors of commands: RuntimeError with the browser's message."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())
        self.version = ""

    async def command(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        return await answer

    async def start(self) -> None:
        session = await self.command("session.new", capabilities={})
        self.version = session["capabilities"]["browserVersion"]

    async def new_page(self, width: int, height: int) -> "FirefoxPage":
        """A page in a window and a user context of its own."""
        user = (await self.command("browser.createUserContext"))["userContext"]
        context = (await self.command("browsingContext.create", type="window", userContext=user))["context"]
        viewport = {"width": width, "height": height}
        await self.command("browsingContext.setViewport", context=context, viewport=viewport)
        return FirefoxPage(self, context)

    async def close(self) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        await self._socket.close()

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            answer = self._waiting.pop(message.get("id"), None)
            if answer is None or answer.done():
                continue
            if message["type"] == "error":
                answer.set_exception(RuntimeError(f"{message['error']}: {message['message']}"))
            else:
                answer.set_result(message["result"])


class FirefoxPage:
    """What viewers.py uses of Playwright's Page."""

    def __init__(self, browser: Firefox, context: str) -> None:
        self._browser, self._context = browser, context

    def on(self, event: str, callback: Callable[[Any], object]) -> None:
        """Errors of the page are not reported here."""

    async def goto(self, url: str) -> None:
        await self._browser.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, function: str, argument: Any = None) -> Any:
        """Call a JavaScript function with one JSON value; returns its result, awaited. Errors: RuntimeError."""
        made = await self._browser.command(
            "script.callFunction",
            functionDeclaration=f"async (text) => JSON.stringify(await ({function})(JSON.parse(text)) ?? null)",
            arguments=[{"type": "string", "value": json.dumps(argument)}],
            awaitPromise=True,
            userActivation=True,  # as Playwright does: what the pages do is done by a person
            target={"context": self._context},
        )
        if made["type"] == "exception":
            raise RuntimeError(made["exceptionDetails"]["text"])
        return json.loads(made["result"]["value"])

    async def wait_for_function(self, expression: str, timeout: float = 30_000.0) -> None:
        """Until the expression is true. Errors: TimeoutError after `timeout` ms."""
        async with asyncio.timeout(timeout / 1000):
            while not await self.evaluate(f"() => Boolean({expression})"):
                await asyncio.sleep(0.01)

    async def screenshot(self, width: int, height: int) -> str:
        """The upper left part of the page, as a PNG in base64."""
        clip = {"type": "box", "x": 0, "y": 0, "width": width, "height": height}
        taken = await self._browser.command("browsingContext.captureScreenshot", context=self._context, clip=clip)
        return str(taken["data"])

    async def wait_for_timeout(self, timeout: float) -> None:
        await asyncio.sleep(timeout / 1000)

    async def close(self) -> None:
        await self._browser.command("browsingContext.close", context=self._context)


@asynccontextmanager
async def firefox(program: str | None = None) -> AsyncIterator[Firefox]:
    """Run a headless Firefox with a new profile until the end of the block. Errors: SystemExit if there is none."""
    program = program or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SystemExit("No Firefox here. Type: sudo apt-get install firefox-esr")
    with tempfile.TemporaryDirectory(prefix="koko-firefox-", ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
        Path(profile, "user.js").write_text("\n".join(lines))
        process = await asyncio.create_subprocess_exec(
            program, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            url = await asyncio.wait_for(_address(process), START_S)
            async with websockets.connect(f"{url}/session", max_size=None, ping_interval=None) as socket:
                browser = Firefox(socket)
                await browser.start()
                draining = asyncio.create_task(_drain(process))
                try:
                    yield browser
                finally:
                    await browser.close()
                    draining.cancel()
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = b""
    async for line in process.stderr:
        said += line
        if found := re.search(rb"WebDriver BiDi listening on (ws://\S+)", line):
            return found[1].decode()
    raise SystemExit(f"Firefox ended: {said.decode(errors='replace')[-500:]}")


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    async for _ in process.stderr:
        pass
