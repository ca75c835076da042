"""What a player does by itself, and what its user does, with two people in a real browser [H23]. Each test is named after
a complaint of people who watched together.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from .cable import Cable
from .conftest import WAIT_MS, Server

pytestmark = [pytest.mark.browser, pytest.mark.pages]

Viewer = Callable[..., Page]

PAGE = """<!doctype html><meta charset="utf-8">
<button id="go" onclick="gesture = true; film.play()">play</button>
<video id="film" src="/demo/clip.mp4" muted playsinline width="320" height="180" ATTRIBUTES></video>
<script>
  window.gesture = !BLOCKED; // as a browser that requires a click before it plays
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    return gesture ? play.call(this) : Promise.reject(new DOMException("click first", "NotAllowedError"));
  };
</script>
<script type="module">
  import { createPresence } from "/sdk/presence.js";
  window.film = document.querySelector("#film");
  window.come = async (user, id, { privacy, kind = "video", options } = {}) => {
    const auth = async () => (await (await fetch(`/dev/token?user=${user}&name=${user}`)).json()).token;
    window.presence = createPresence({ url: "/presence", auth, worker: false });
    window.room = presence.enter(id, { type: "video", privacy });
    window.events = [];
    window.sent = []; // actions of the commands of this user
    for (const type of ["error", "follow", "autoplay_blocked"]) {
      room.on(type, (event) => events.push(event.code ?? event.reason ?? type));
    }
    room.on("playback_synced", ({ userId, data }) => userId === presence.userId && sent.push(data.action));
    if (film.readyState === 0) await new Promise((done) => film.addEventListener("loadedmetadata", done, { once: true }));
    room.attach(players[kind](), options);
    if (!(await room.ready())) throw new Error(JSON.stringify(room.getSnapshot().error));
  };
  // what stands for the film in `attach`, besides itself: an element with the same interface, and an object with six methods
  const STATE = ["paused", "currentTime", "playbackRate", "duration", "seeking", "ended"];
  const EVENTS = [
    "play", "pause", "playing", "waiting", "canplay", "seeking", "seeked", "ratechange", "ended", "emptied", "loadedmetadata",
  ];
  class FilmElement extends HTMLElement {
    constructor() {
      super();
      for (const type of EVENTS) film.addEventListener(type, () => this.dispatchEvent(new Event(type)));
    }
    play() { return film.play(); }
    pause() { film.pause(); }
  }
  for (const name of [...STATE, "readyState", "autoplay", "loop"]) {
    Object.defineProperty(FilmElement.prototype, name, { get: () => film[name], set: (value) => (film[name] = value) });
  }
  customElements.define("film-element", FilmElement);
  window.players = {
    video: () => film,
    element: () => document.body.appendChild(new FilmElement()),
    object: () => ({
      abilities: { canSetRate: true, frameAccurate: false },
      getState: () => Object.fromEntries(STATE.map((name) => [name, film[name]])),
      play: () => film.play(),
      pause: () => film.pause(),
      seek: (seconds) => (film.currentTime = seconds),
      setRate: (rate) => (film.playbackRate = rate),
      subscribe(listener) {
        const life = new AbortController();
        for (const type of EVENTS) film.addEventListener(type, () => listener(type), { signal: life.signal });
        return () => life.abort();
      },
    }),
  };
  window.apart = () => Math.abs(film.currentTime - room.position());
  window.inStep = () => {
    const { isPlaying } = room.getSnapshot().playback;
    return !film.seeking && film.paused !== isPlaying && apart() < 0.15;
  };
  window.hide = (hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
  };
  window.ready = true;
</script>"""

KINDS = pytest.mark.parametrize("kind", ["video", "element", "object"])

SYNC = "room.playback({action: 'sync', isPlaying: true, currentTime: %s, playbackRate: %s})"


@pytest.fixture
def viewer(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Viewer]:
    """Opens a page with an attached film, in a room of the test's own."""
    contexts = []
    room = "video_" + re.sub(r"\W+", "_", request.node.name)[:100]

    def open_page(
        user: str, *, attributes: str = "", blocked: bool = False, base: str | None = None, **options: object
    ) -> Page:
        context = browser.new_context()
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        html = PAGE.replace("ATTRIBUTES", attributes).replace("BLOCKED", str(blocked).lower())
        page.goto(
            f"{base or server.url}/healthz"
        )  # a page that the test itself fulfilled would count as one of another network
        page.set_content(html)
        page.wait_for_function("window.ready")
        page.evaluate("([user, room, options]) => come(user, room, options)", [user, room, options])
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            page.goto("about:blank")  # a page that is closed with its context sends no leave
        context.close()


def wait_in_step(*pages: Page) -> None:
    for page in pages:
        page.wait_for_function("inStep()")


def commands(page: Page) -> list[str]:
    return list(page.evaluate("sent"))


@KINDS
def test_a_jump_to_a_comment_is_one_command_and_nobody_is_closed(viewer: Viewer, kind: str) -> None:
    """`currentTime = 12; play()` in one turn, on a paused film."""
    ann, ben = viewer("ann", kind=kind), viewer("ben", kind=kind)
    ann.evaluate("room.playback({action: 'pause', currentTime: 3})")
    wait_in_step(ann, ben)
    ann.evaluate("sent.length = 0; film.currentTime = 12; film.play(); 0")
    ben.wait_for_function("!film.paused && film.currentTime > 12.5")
    wait_in_step(ann, ben)
    ann.wait_for_timeout(1500)
    assert commands(ann) == ["sync"]
    assert commands(ben) == []
    assert ann.evaluate("room.status") == ben.evaluate("room.status") == "live"
    assert ann.evaluate("events") == ben.evaluate("events") == []


@KINDS
def test_a_late_click_joins_the_room_and_rewinds_no_other_viewer(viewer: Viewer, kind: str) -> None:
    """The browser refuses to start; meanwhile the room is paused and goes on."""
    ann = viewer("ann", kind=kind)
    ann.evaluate(SYNC % (1, 1))
    late = viewer("late", blocked=True, kind=kind)
    late.wait_for_function("room.getSnapshot().isBlocked")
    ann.evaluate("room.playback({action: 'pause'})")
    late.wait_for_function("!room.getSnapshot().playback.isPlaying")
    ann.evaluate("room.playback({action: 'play'})")
    ann.wait_for_function("film.currentTime > 4")
    before = ann.evaluate("room.position()")
    late.click("#go")
    wait_in_step(late)
    assert ann.evaluate("room.position()") > before
    assert commands(late) == []
    assert late.evaluate("room.getSnapshot().isBlocked") is False


def test_any_interaction_retries_a_start_that_was_refused(viewer: Viewer) -> None:
    ann = viewer("ann")
    ann.evaluate(SYNC % (1, 1))
    late = viewer("late", blocked=True)
    late.wait_for_function("room.getSnapshot().isBlocked")
    late.evaluate("gesture = true")
    late.keyboard.press("Shift")
    wait_in_step(late)
    assert late.evaluate("events") == ["autoplay_blocked"]


def test_autoplay_of_a_newcomer_does_not_start_a_paused_room(viewer: Viewer) -> None:
    ann = viewer("ann")
    ann.evaluate("room.playback({action: 'pause', currentTime: 5})")
    wait_in_step(ann)
    late = viewer("late", attributes="autoplay")
    wait_in_step(late)
    late.wait_for_timeout(1000)
    assert late.evaluate("film.paused") is True
    assert commands(late) == []
    assert ann.evaluate("film.paused") is True


@KINDS
def test_a_pause_just_behind_a_seek_leaves_no_viewer_buffering(viewer: Viewer, kind: str) -> None:
    ann, ben = viewer("ann", kind=kind), viewer("ben", kind=kind)
    ann.evaluate(SYNC % (1, 1))
    wait_in_step(ann, ben)
    ann.evaluate(
        "room.playback({action: 'seek', currentTime: 9}); setTimeout(() => room.playback({action: 'pause'}), 60); 0"
    )
    for page in (ann, ben):
        page.wait_for_function(
            "film.paused && room.self.viewerSync?.state === 'synced' && room.getSnapshot().synced?.synced === 2"
        )


@KINDS
def test_at_the_end_all_have_ended_and_none_is_shown_as_paused(viewer: Viewer, kind: str) -> None:
    """H20. The next play begins at 0 for both."""
    ann, ben = viewer("ann", kind=kind), viewer("ben", kind=kind)
    ann.evaluate("film.currentTime = film.duration - 1.5; film.play(); 0")
    for page in (ann, ben):
        page.wait_for_function("film.ended && room.getSnapshot().playback.ended")
        page.wait_for_function("['ended', 'synced'].includes(room.self.viewerSync?.state)")
    assert commands(ben) == []
    ben.evaluate("film.play(); 0")
    for page in (ann, ben):
        page.wait_for_function("!film.paused && film.currentTime > 0.3 && film.currentTime < 10")
    wait_in_step(ann, ben)


def test_at_the_end_all_have_ended_with_the_pages_own_buttons_too(viewer: Viewer) -> None:
    """Their commands name no duration; the attached player knows it [H20]."""
    ann, ben = viewer("ann"), viewer("ben")
    ann.evaluate(
        "room.playback({action: 'seek', currentTime: film.duration - 1.5}); room.playback({action: 'play'}); 0"
    )
    for page in (ann, ben):
        page.wait_for_function("film.ended && room.getSnapshot().playback.ended")
        page.wait_for_function("['ended', 'synced'].includes(room.self.viewerSync?.state)")
        assert page.evaluate("room.position() <= film.duration") is True


def test_a_film_that_loops_is_refused_in_words_and_still_follows(viewer: Viewer) -> None:
    ann, ben = viewer("ann"), viewer("ben", attributes="loop")
    ann.evaluate(SYNC % (27, 1))
    ben.wait_for_function("film.ended")
    assert ben.evaluate("[events, room.getSnapshot().following]") == [["LOOP"], True]
    assert commands(ben) == []


@KINDS
def test_another_source_keeps_the_rate_and_the_position_of_the_room(viewer: Viewer, kind: str) -> None:
    """The browser resets speed, position and play state of an element whose source changes."""
    ann, ben = viewer("ann", kind=kind), viewer("ben", kind=kind)
    ann.evaluate(SYNC % (2, 0.5))  # slow: on a busy machine it may take longer than the film at its own speed
    wait_in_step(ann, ben)
    ben.evaluate("film.src = '/demo/clip.mp4?quality=2'; 0")
    ben.wait_for_function("film.readyState > 2 && film.playbackRate < 0.7")
    wait_in_step(ann, ben)
    assert commands(ben) == []
    assert ann.evaluate("room.getSnapshot().playback.playbackRate") == 0.5


@KINDS
def test_a_media_key_in_a_hidden_page_pauses_for_all_and_a_hidden_page_follows(viewer: Viewer, kind: str) -> None:
    ann, ben = viewer("ann", kind=kind), viewer("ben", kind=kind)
    ann.evaluate(SYNC % (1, 1))
    wait_in_step(ann, ben)
    ben.evaluate("hide(true)")
    ben.wait_for_timeout(700)
    ann.evaluate("room.playback({action: 'seek', currentTime: 15})")
    ben.wait_for_function("film.currentTime > 14.9 && inStep()")
    ben.evaluate("film.pause()")
    ann.wait_for_function("film.paused")
    ben.wait_for_timeout(1200)
    assert ben.evaluate("film.paused") is True
    assert commands(ben) == ["pause"]


@KINDS
def test_a_small_jump_of_the_player_ends_no_following(viewer: Viewer, kind: str) -> None:
    """As a library jumps over a gap in the stream."""
    ann, ben = viewer("ann", kind=kind), viewer("ben", kind=kind)
    ann.evaluate("room.requestControl()")
    ann.evaluate(SYNC % (1, 1))
    wait_in_step(ann, ben)
    ben.evaluate("film.currentTime += 0.1")
    ben.wait_for_timeout(500)
    wait_in_step(ben)
    assert ben.evaluate("[events, room.getSnapshot().following]") == [[], True]
    ben.evaluate("film.currentTime += 5")
    ben.wait_for_function("room.getSnapshot().following === false")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("{action: 'seek', currentTime: NaN}", "INVALID_DATA"),
        ("{action: 'seek', currentTime: -0.5}", "INVALID_DATA"),
        ("{action: 'rate', playbackRate: 0}", "INVALID_DATA"),
        ("{action: 'rate', playbackRate: 17}", "INVALID_DATA"),
        ("{action: 'seek', currentTime: 20, baseVersion: 99}", "STALE"),
    ],
)
def test_a_refused_command_leaves_nothing_behind(viewer: Viewer, command: str, code: str) -> None:
    ann, ben = viewer("ann"), viewer("ben")
    ann.evaluate("room.playback({action: 'pause', currentTime: 5})")
    wait_in_step(ann, ben)
    before = ben.evaluate("room.getSnapshot().playback")
    assert ben.evaluate(f"room.playback({command}).then(({{code}}) => code)") == code
    ben.wait_for_timeout(300)
    assert ben.evaluate("room.getSnapshot().playback") == before
    wait_in_step(ann, ben)


def test_an_invisible_user_who_seeks_is_brought_back(viewer: Viewer) -> None:
    ann = viewer("ann")
    ann.evaluate("room.playback({action: 'pause', currentTime: 5})")
    eva = viewer("eva", privacy={"invisible": True})
    wait_in_step(ann, eva)
    eva.evaluate("film.currentTime = 20; 0")
    eva.wait_for_function("events.includes('INVISIBLE') || room.getSnapshot().following === false")
    if eva.evaluate("room.getSnapshot().following"):
        wait_in_step(eva)
    assert eva.evaluate("Math.abs(room.position() - 5) < 0.1") is True
    assert ann.evaluate("Math.abs(film.currentTime - 5) < 0.1") is True


def test_a_pause_without_a_connection_does_not_pull_the_room_back(viewer: Viewer, cable: Cable) -> None:
    ann = viewer("ann")
    ben = viewer("ben", base=cable.url)
    ann.evaluate(SYNC % (1, 0.25))  # on a busy machine it may take longer than the film at its own speed
    wait_in_step(ann, ben)
    cable.unplug()
    ben.wait_for_function("room.status === 'reconnecting'")
    ben.evaluate("film.pause()")
    ben.wait_for_timeout(3000)
    before = ann.evaluate("room.position()")
    cable.plug()
    ben.wait_for_function("room.status === 'live' && inStep() && !film.paused")
    assert ann.evaluate("[film.paused, room.position() > arguments[0]]".replace("arguments[0]", str(before))) == [
        False,
        True,
    ]


def test_a_pause_that_a_silent_network_delivers_late_does_not_pull_the_room_back(viewer: Viewer, cable: Cable) -> None:
    """The connection stays open, and all bytes arrive: the pause 3 s after it was made."""
    ann = viewer("ann")
    ben = viewer("ben", base=cable.url)
    ann.evaluate(SYNC % (1, 0.25))
    wait_in_step(ann, ben)
    cable.stall()
    ben.evaluate("film.pause(); window.pausedAt = room.clock.now(); 0")
    ben.wait_for_function("room.getSnapshot().playback.isPlaying === false")
    ben.wait_for_function("room.clock.now() > pausedAt + 3000")
    version, position = ann.evaluate("[room.getSnapshot().playback.version, room.position()]")
    cable.plug()
    ben.wait_for_function("room.status === 'live' && !film.paused && inStep()")
    assert ann.evaluate("[film.paused, room.getSnapshot().playback.version]") == [False, version]
    assert ann.evaluate("room.position()") > position


@pytest.mark.parametrize("rate", [0.0625, 16])
def test_rates_at_the_ends_of_the_range_throw_nothing(viewer: Viewer, rate: float) -> None:
    ann, ben = viewer("ann"), viewer("ben")
    for page in (ann, ben):
        page.evaluate("window.thrown = []; addEventListener('error', (event) => thrown.push(event.message)); 0")
    ann.evaluate(SYNC % (1, rate))
    ben.wait_for_function("!film.paused || film.ended")
    ben.wait_for_timeout(1500)
    assert ann.evaluate("thrown") == ben.evaluate("thrown") == []
    assert ben.evaluate("film.playbackRate >= 0.0625 && film.playbackRate <= 16") is True


def test_the_only_person_of_a_room_is_shown_as_in_step(viewer: Viewer) -> None:
    ann = viewer("ann")
    ann.evaluate("film.play(); 0")
    ann.wait_for_function("room.self.viewerSync?.state === 'synced' && room.getSnapshot().synced?.synced === 1")


def test_a_script_that_restarts_the_film_after_each_pause_is_stopped(viewer: Viewer) -> None:
    ann, ben = viewer("ann"), viewer("ben")
    ann.evaluate(SYNC % (1, 1))
    wait_in_step(ann, ben)
    ben.evaluate("film.addEventListener('pause', () => film.play()); 0")
    ann.evaluate("(async () => { while (!window.isOver) { await room.playback({action: 'pause'}); } })(); 0")
    ben.wait_for_function("events.includes('reversals')")
    ann.evaluate("isOver = true")
    count = len(commands(ben))
    ben.wait_for_timeout(2000)
    assert len(commands(ben)) <= count + 2
    assert ann.evaluate("room.status") == "live"
