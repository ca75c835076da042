"""Measures the frame rate of the demo page with the cursors of a full room: `python -m bench.frames [--users 101]
[--seconds 10]`.

Starts a server and a headless Chromium with the demo page. Bots of koko_presence.client move their cursors 20 times a
second while the film plays; the time from one requestAnimationFrame to the next is measured. Prints one row; exit code
1 if the 95th percentile exceeds 20 ms (60 frames/s).
"""

import argparse
import asyncio
import math
import os
import shutil
import socket
import time
from typing import Any

from playwright.async_api import async_playwright

from koko_presence.auth.hmac_jwt import issue_token
from koko_presence.client import PresenceClient

from .load import SECRET, koko_server

BAR_MS = 20.0
CURSOR_HZ = 20.0
ROOM = "video_frames"
COUNT_FRAMES = """async (seconds) => {
    const times = [];
    const end = performance.now() + seconds * 1000;
    await new Promise((done) => requestAnimationFrame(function next(now) {
        times.push(now);
        if (now < end) requestAnimationFrame(next); else done();
    }));
    const shown = document.getElementById("cursors").shadowRoot.querySelectorAll(".cursor").length;
    return {gaps: times.slice(1).map((at, i) => at - times[i]), shown};
}"""


def token(user: str) -> str:
    return issue_token(SECRET, user=user, name=f"Person {user}", ttl_s=3600, now_s=int(time.time()))


async def bot(url: str, number: int, users: int) -> None:
    """Join as one more user and draw circles until cancelled."""
    async with PresenceClient(url, token(f"bot{number}")) as client:
        room = await client.join(ROOM, "video")
        phase = number / users * math.tau
        while True:
            at = time.monotonic()
            room.cursor(
                timestamp=room.playback.position(client.server_now_ms()) if room.playback else 0.0,
                x=0.5 + 0.45 * math.cos(at * 1.3 + phase * 5),
                y=0.5 + 0.45 * math.sin(at * 1.7 + phase * 3),
            )
            await asyncio.sleep(1 / CURSOR_HZ)


async def measure(port: int, users: int, seconds: float) -> dict[str, Any]:
    """The gaps between frames in ms while `users` - 1 others move."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("frames: needs Chromium: apt-get install chromium")
    bots = [asyncio.create_task(bot(f"ws://127.0.0.1:{port}/presence", n, users)) for n in range(users - 1)]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.route("**/dev/token?*", lambda route: route.fulfill(json={"token": token("viewer")}))
        await page.goto(f"http://127.0.0.1:{port}/demo?user=viewer&name=Viewer&room={ROOM}")
        await page.wait_for_function(
            "(others) => document.getElementById('cursors').shadowRoot?.querySelectorAll('.cursor').length >= others",
            arg=users - 1,
        )
        await page.click("#play")
        await page.evaluate(COUNT_FRAMES, 1)  # to warm up
        counted: dict[str, Any] = await page.evaluate(COUNT_FRAMES, seconds)
        await browser.close()
    for each in bots:
        each.cancel()
    await asyncio.gather(*bots, return_exceptions=True)
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description="Frames of the demo page under moving cursors.")
    parser.add_argument("--users", type=int, default=101, help="users in the room, including that of the page")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {"server_demo": "true", "operator_port": 0, "limits_max_users_per_room": options.users}
    with koko_server(port, None, **settings):
        counted = asyncio.run(measure(port, options.users, options.seconds))
    gaps = sorted(counted["gaps"])
    p95 = gaps[int(len(gaps) * 0.95)]
    late = sum(gap > 1000 / 60 * 1.5 for gap in gaps) / len(gaps)
    print(
        f"cursors {counted['shown']}  frames/s {1000 * len(gaps) / sum(gaps):.1f}  p50 {gaps[len(gaps) // 2]:.1f} ms  "
        f"p95 {p95:.1f} ms  worst {gaps[-1]:.1f} ms  missed {late:.1%}  cores {os.cpu_count()}"
    )
    raise SystemExit(0 if p95 < BAR_MS else 1)


if __name__ == "__main__":
    main()
