"""The operators' live page in a real Chromium: with real workers and moving cursors, and with simulated faults."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from koko_presence.auth.hmac_jwt import issue_token
from tests.integration.test_server_api import KEY, Operated, hear, say
from tests.integration.test_supervisor import SECRET, service
from tests.raw_ws import PONG, TEXT, RawSocket, frame

pytestmark = [pytest.mark.browser, pytest.mark.pages]

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
WAIT_MS = 10_000.0
EVIL = "video_<img src=x onerror=alert(1)>"
NAMES = ("Ada", "Grace", "Linus", "Barbara", "Edsger", "Radia", "Ken", "Frances")

Open = Callable[..., Page]


class Crowd:
    """Clients in rooms whose cursors move, until `leave`."""

    def __init__(self, served: Operated, rooms: dict[str, int]) -> None:
        self._over = threading.Event()
        self._people: list[tuple[RawSocket, str]] = []
        for room, count in rooms.items():
            for number in range(count):
                name = NAMES[number % len(NAMES)]
                ws = self._enter(served, f"{name.lower()}_{len(self._people)}", name, room, hidden=number == 3)
                self._people.append((ws, room))
        self._thread = threading.Thread(target=self._move)
        self._thread.start()

    def _enter(self, served: Operated, user: str, name: str, room: str, *, hidden: bool) -> RawSocket:
        ws = RawSocket(served.port)
        assert "101" in ws.upgrade()
        token = issue_token(SECRET, user=user, name=name, now_s=int(time.time()))
        say(ws, type="auth", token=token, privacy={"invisible": hidden})
        say(ws, type="join", roomId=room, roomType=room.split("_")[0])
        if room == "video_1040" and name == "Ada":
            say(ws, type="control_request", roomId=room)
            say(ws, type="status", data={"status": "reviewing"})
        hear(ws, "joined")
        ws.sock.setblocking(False)
        return ws

    def _move(self) -> None:
        tick = 0
        while not self._over.wait(0.05):
            tick += 1
            for i, (ws, room) in enumerate(self._people):
                try:
                    while ws.sock.recv(1 << 16):
                        pass
                except (BlockingIOError, OSError):
                    pass
                if (tick + i) % 3 == 0:
                    data = {"timestamp": tick / 20, "x": (tick * 7 + i * 13) % 100 / 100, "y": 0.5}
                    message: dict[str, Any] = {"type": "cursor", "roomId": room, "data": data}
                    if (tick + i) % 48 == 0:
                        message = {"type": "typing", "roomId": room, "data": {"isTyping": True}}
                    ws.sock.send(frame(TEXT, json.dumps(message).encode()) + frame(PONG))  # the pong answers pings

    def leave(self) -> None:
        self._over.set()
        self._thread.join()
        for ws, _ in self._people:
            ws.sock.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Operated]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOKO_PRESENCE_OPERATOR_API_KEY", KEY)
        with service(workers=3) as it:
            served = Operated(it.up())
            rooms = {f"video_{1040 + number}": 7 - number for number in range(5)}
            crowd = Crowd(served, {"project_apollo_storyboard": 12, **rooms, EVIL: 2})
            try:
                yield served
            finally:
                crowd.leave()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open the page in a browser profile of its own. Exceptions, dialogs and violations of the policy fail the test."""
    contexts, complaints = [], list[str]()

    def open_it(
        base: str,
        *,
        size: tuple[int, int] = (1440, 900),
        light: bool = False,
        prepare: Callable[[Page], None] | None = None,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="light" if light else "dark"
        )
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on(
            "console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        if prepare is not None:
            prepare(page)
        page.goto(base)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []


def unlock(page: Page, key: str = KEY) -> None:
    page.get_by_role("button", name="Enter key").first.click()
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Show rooms").click()


def shoot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def value(page: Page, tile: str) -> str:
    return page.locator(".tile", has_text=tile).locator(".value").inner_text()


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_a_wide_screen_shows_everything_live(served: Operated, open_page: Open) -> None:
    page = open_page(served.base)
    expect(page.locator("body")).to_have_attribute("data-state", "ready")
    expect(page.locator("#alarms .alarm.bad")).to_have_count(0)
    expect(page.locator("#traffic .line.in")).to_have_attribute("d", re.compile("(L.*){3}"))
    assert value(page, "Connections") == "39"
    assert value(page, "Rooms") == "7"
    assert re.fullmatch(r"[\d.]+ (µs|ms|s)", value(page, "Latency"))
    expect(page.locator("#workers tr")).to_have_count(3)
    expect(page.locator("#latency .bar").first).to_be_visible()
    expect(page.locator("#kinds")).to_contain_text("cursor moved")
    expect(page.locator("#rooms-locked")).to_be_visible()
    unlock(page)
    expect(page.locator("#rooms tr")).to_have_count(7)
    first = page.locator("#rooms tr").first
    expect(first).to_contain_text("project_apollo_storyboard")
    assert first.locator("td").all_inner_texts()[2:5] == ["11", "11", "1"], "the invisible counted apart [K4]"
    first.get_by_role("button").click()
    members = page.locator("#members li")
    expect(members).to_have_count(12)
    expect(members.filter(has_text="invisible")).to_have_count(1)
    assert fits(page)
    expect(page.locator("#rooms tr", has_text="video_1040").locator(".controller")).to_have_text(re.compile("ada"))
    shoot(page, "live-desktop-dark")
    page.get_by_placeholder("id begins with").fill("video_104")
    expect(page.locator("#rooms tr")).to_have_count(5)
    assert page.evaluate("JSON.stringify(localStorage)") == "{}", "the key is in this tab alone"
    page.reload()
    expect(page.locator("#rooms tr")).to_have_count(7)
    page.get_by_role("button", name="Forget key").click()
    expect(page.locator("#rooms-locked")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_narrow_screen_in_light_colours(served: Operated, open_page: Open) -> None:
    page = open_page(served.base, size=(390, 844), light=True)
    expect(page.locator("body")).to_have_attribute("data-state", "ready")
    unlock(page)
    expect(page.locator("#rooms tr")).to_have_count(7)
    expect(page.locator("#traffic .line.in")).to_have_attribute("d", re.compile("(L.*){3}"))
    assert fits(page), "nothing to scroll sideways"
    shoot(page, "live-phone-light")
    scales = page.locator("#latency .scale").evaluate_all(
        "(all) => all.map((each) => each.getBoundingClientRect()).map(({left, right}) => [left, right])"
    )
    assert len(scales) > 2 and all(before[1] + 4 < after[0] for before, after in pairwise(scales))


def test_names_are_text_and_a_wrong_key_is_reported(served: Operated, open_page: Open) -> None:
    page = open_page(served.base)
    unlock(page, "not the key")
    expect(page.locator("#key-problem")).to_contain_text("This is not the key.")
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_role("button", name="Show rooms").click()
    expect(page.locator("#rooms tr")).to_have_count(7)
    page.locator("#rooms").get_by_text(EVIL).click()
    expect(page.locator("#members h2")).to_have_text(EVIL)
    assert page.locator("#rooms img, #members img").count() == 0


def test_only_this_port_is_requested(served: Operated, open_page: Open) -> None:
    asked: list[str] = []
    page = open_page(served.base, prepare=lambda page: page.on("request", lambda request: asked.append(request.url)))
    expect(page.locator("body")).to_have_attribute("data-state", "ready")
    assert asked and all(url.startswith(served.base) for url in asked)
    policy = page.request.get(served.base).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


# --- simulated faults -------------------------------------------------------------------------------------------------


def metrics(at: float, **change: float) -> str:
    """The metrics of a service of two workers, `at` seconds after the page was opened."""
    numbers = {
        "up": 1,
        "lag": 0.004,
        "restarts": 0,
        "refused": 0,
        "denied": 0,
        "slow": 0,
        "recovering": 0,
        "connections": 400,
    }
    numbers |= change
    lines = [
        'koko_presence_build_info{version="0.1.0"} 1',
        f"koko_presence_worker_restarts_total {numbers['restarts']}",
        f"koko_presence_connections {numbers['connections']}",
        f"koko_presence_sessions {numbers['connections']}",
        f"koko_presence_users {numbers['connections']}",
        f"koko_presence_slow_receivers {numbers['slow']}",
        f"koko_presence_recovering {numbers['recovering']}",
        f"koko_presence_connections_refused_total {numbers['refused'] * at}",
        f'koko_presence_auth_total{{result="refused"}} {numbers["denied"] * at}',
        f'koko_presence_auth_total{{result="accepted"}} {at}',
    ]
    for worker in (0, 1):
        lines.append(f'koko_presence_worker_up{{worker="{worker}"}} {1 if worker == 0 else numbers["up"]}')
        if worker == 0 or numbers["up"]:
            lines.append(f'koko_presence_loop_lag_max_seconds{{worker="{worker}"}} {numbers["lag"]}')
            lines.append(f'koko_presence_cpu_seconds_total{{worker="{worker}"}} {at * 0.95}')
    return "\n".join(lines) + "\n"


class BadDay:
    """Answers in place of the server; `change` may depend on the seconds since the first reading."""

    def __init__(self, change: Callable[[float], dict[str, float]], reason: str = "") -> None:
        self._change, self._reason = change, reason
        self._began = 0.0
        self.gone = False

    def prepare(self, page: Page) -> None:
        page.clock.install()
        page.route("**/metrics", self._metrics)
        page.route("**/readyz", self._readyz)

    def _metrics(self, route: Route) -> None:
        if self.gone:
            route.abort()
            return
        now = float(route.request.frame.page.evaluate("performance.now()")) / 1000
        self._began = self._began or now
        at = now - self._began
        route.fulfill(body=metrics(at, **self._change(at)))

    def _readyz(self, route: Route) -> None:
        if self.gone:
            route.abort()
        else:
            route.fulfill(status=503 if self._reason else 200, json={"reason": self._reason})


def rings(page: Page) -> list[tuple[str, str]]:
    found = page.locator("#alarms .alarm")
    return [
        (str(found.nth(i).get_attribute("class")).split()[-1], found.nth(i).locator("strong").inner_text())
        for i in range(found.count())
    ]


def pass_time(page: Page, seconds: int) -> None:
    """Let `seconds` pass for the page, which reads once per second."""
    expect(page.locator("body")).not_to_have_attribute("data-state", "waiting")
    end = page.evaluate("performance.now()") + 1000 * seconds
    while page.evaluate("performance.now()") < end:
        page.clock.run_for(500)


@pytest.mark.parametrize(
    ("change", "reason", "seconds", "expected"),
    [
        ({"up": 0}, "", 2, ("bad", "Worker 1 does not answer")),
        ({}, "1 of 2 workers serve, missing: 1", 3, ("warm", "Not ready for")),
        ({}, "1 of 2 workers serve, missing: 1", 37, ("bad", "Not ready for")),
        ({"lag": 0.4}, "", 3, ("warm", "Worker 0 was late by 400 ms")),
        ({"lag": 0.4}, "", 130, ("bad", "Worker 0 was late by 400 ms")),
        ({"refused": 4}, "", 5, ("warm", r"[34]\.?\d? connections a second are refused")),
        ({"denied": 3}, "", 5, ("bad", r"7\d % of logins fail")),
        ({"slow": 7}, "", 38, ("warm", "7 clients do not read")),
        ({"recovering": 1}, "", 12, ("bad", "Rooms are without an owner for")),
    ],
)
def test_each_alarm_is_raised(
    served: Operated, open_page: Open, change: dict[str, float], reason: str, seconds: int, expected: tuple[str, str]
) -> None:
    page = open_page(served.base, prepare=BadDay(lambda at: change, reason).prepare)
    pass_time(page, seconds)
    (found,) = rings(page)
    assert found[0] == expected[0] and re.match(expected[1], found[1])


def test_deaths_and_a_fall_of_connections_raise_alarms_and_normal_metrics_do_not(
    served: Operated, open_page: Open
) -> None:
    page = open_page(served.base, prepare=BadDay(lambda at: {}).prepare)
    pass_time(page, 10)
    assert rings(page) == []

    def fall(at: float) -> dict[str, float]:
        return {"restarts": 2, "connections": 90, "lag": 0.6} if at > 8 else {}

    page = open_page(served.base, prepare=BadDay(fall, "1 of 2 workers serve, missing: 1").prepare)
    pass_time(page, 14)
    assert [re.sub(r"1\d s", "a while", title) for _, title in rings(page)] == [
        "2 workers were replaced",
        "Connections fell from 400 to 90",
        "Not ready for a while",
        "Worker 0 was late by 600 ms",
    ]
    shoot(page, "live-bad-day")


def test_stale_readings_are_marked(served: Operated, open_page: Open) -> None:
    day = BadDay(lambda at: {})
    page = open_page(served.base, prepare=day.prepare)
    pass_time(page, 5)
    expect(page.locator("body")).to_have_attribute("data-state", "ready")
    day.gone = True
    pass_time(page, 7)
    expect(page.locator("body")).to_have_attribute("data-state", "stale")
    expect(page.locator("#state")).to_contain_text("What you see is old")
    assert rings(page)[0][1].startswith("The server has not answered for")
    shoot(page, "live-stale")
    day.gone = False
    pass_time(page, 2)
    expect(page.locator("body")).to_have_attribute("data-state", "ready")


def test_every_alarm_is_in_the_docs() -> None:
    source = (ROOT / "koko_presence" / "web" / "live" / "alarms.js").read_text()
    table = (ROOT / "docs" / "operations.md").read_text().split("## Alarms")[1].split("\n## ")[0]
    rows = re.findall(r'row: "([^"]+)"', source)
    assert len(rows) == 9
    for row in rows:
        assert any(row in line.split("|")[1] for line in table.splitlines() if line.startswith("|")), row
