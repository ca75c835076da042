import assert from "node:assert/strict";
import { test } from "node:test";
import { Announcer } from "../../koko_presence/web/sdk/ui/announcer.js";
import { playhead, settle, strength } from "../../koko_presence/web/sdk/ui/motion.js";
import { arrangeNames, placeOf } from "../../koko_presence/web/sdk/ui/name-places.js";
import { apply, compose, inverse, pictureRect } from "../../koko_presence/web/sdk/picture-place.js";
import { GERMAN } from "../../koko_presence/web/sdk/ui/de.js";
import { ENGLISH } from "../../koko_presence/web/sdk/ui/english.js";
import { needsResync } from "../../koko_presence/web/sdk/ui/watch.js";
import { arrivals, connectionWords, freeControlWords, initials, inkOn, shownName, titleOf, typingSentence, viewerWords, waitingSentence } from "../../koko_presence/web/sdk/ui/words.js";

const FILM = { width: 1280, height: 720 };

test("the kit can be imported where there is no page", async () => {
  assert.equal(typeof (await import("../../koko_presence/web/sdk/ui.js")).KokoAvatars, "function");
});

test("the picture is letter-boxed above and below, or at the sides", () => {
  assert.deepEqual(pictureRect({ width: 640, height: 640 }, FILM), { left: 0, top: 140, width: 640, height: 360 });
  assert.deepEqual(pictureRect({ width: 1000, height: 360 }, FILM), { left: 180, top: 0, width: 640, height: 360 });
});

test("object-fit cover, fill, and what has no size of its own", () => {
  assert.deepEqual(pictureRect({ width: 360, height: 360 }, FILM, "cover"), { left: -140, top: 0, width: 640, height: 360 });
  assert.deepEqual(pictureRect({ width: 100, height: 50 }, FILM, "fill"), { left: 0, top: 0, width: 100, height: 50 });
  assert.deepEqual(pictureRect({ width: 100, height: 50 }, { width: undefined }), { left: 0, top: 0, width: 100, height: 50 });
});

test("object-position in percent of what is free, and in pixels", () => {
  assert.equal(pictureRect({ width: 640, height: 640 }, FILM, "contain", "50% 0%").top, 0);
  assert.equal(pictureRect({ width: 640, height: 640 }, FILM, "contain", "50% 100%").top, 280);
  assert.equal(pictureRect({ width: 640, height: 640 }, FILM, "contain", "0px 12px").top, 12);
  assert.equal(pictureRect({ width: 640, height: 640 }, FILM, "contain", "50% calc(100% - 20px)").top, 260);
});

test("object-fit none and scale-down", () => {
  assert.deepEqual(pictureRect({ width: 640, height: 360 }, FILM, "none"), { left: -320, top: -180, width: 1280, height: 720 });
  assert.equal(pictureRect({ width: 640, height: 360 }, FILM, "scale-down").width, 640);
  assert.equal(pictureRect({ width: 2560, height: 1440 }, FILM, "scale-down").width, 1280);
});

test("affine maps: applied one after the other, and back", () => {
  const turned = { a: 0, b: 2, c: -2, d: 0, e: 10, f: 20 }; // a quarter turn, twice as large, moved
  assert.deepEqual(apply(turned, 3, 1), { x: 8, y: 26 });
  const { x, y } = apply(compose(inverse(turned), turned), 0.25, 0.75);
  assert.ok(Math.abs(x - 0.25) < 1e-12 && Math.abs(y - 0.75) < 1e-12);
  assert.ok(Number.isNaN(inverse({ a: 0, b: 0, c: 0, d: 0, e: 1, f: 1 }).e), "an element that is not shown");
});

test("names of cursors do not hide each other, stay inside, and stay where they are", () => {
  const box = { width: 600, height: 300 };
  const cursor = (x, y) => ({ x, y, width: 80, height: 20, spot: 0 });
  const rect = (each) => ({ left: each.x + placeOf(each, each.spot).left, top: each.y + placeOf(each, each.spot).top });
  const cursors = [...Array(12)].map((_, i) => cursor(300 + i, 150 + i)).concat([cursor(599, 299), cursor(1, 1), cursor(599, 1)]);
  arrangeNames(cursors, box);
  const spots = cursors.map(({ spot }) => spot);
  for (const [index, each] of cursors.entries()) {
    const { left, top } = rect(each);
    assert.ok(left >= 0 && top >= 0 && left + 80 <= 600 && top + 20 <= 300, `${index} is inside`);
    for (const other of cursors.slice(0, index)) {
      const at = rect(other);
      assert.ok(Math.abs(at.left - left) >= 80 || Math.abs(at.top - top) >= 20, `${index} hides no other`);
    }
  }
  arrangeNames(cursors, box);
  assert.deepEqual(cursors.map(({ spot }) => spot), spots);
  const alone = [cursor(10, 10)];
  arrangeNames(alone, { width: 20, height: 20 });
  assert.equal(alone[0].spot, 0, "nowhere is enough room");
});

test("the spring arrives without overshooting, and says when it rests", () => {
  const spring = { at: 0, speed: 0 };
  let frames = 0;
  let before = 0;
  while (settle(spring, 300, 1 / 60)) {
    assert.ok(spring.at >= before && spring.at <= 300, `${before} then ${spring.at}`);
    before = spring.at;
    assert.ok(++frames < 60, "a second is enough");
  }
  assert.deepEqual(spring, { at: 300, speed: 0 });
  assert.ok(frames > 10, "it does not jump");
});

test("the spring is the same whatever the frame rate", () => {
  const [slow, fast] = [{ at: 0, speed: 0 }, { at: 0, speed: 0 }];
  settle(slow, 100, 0.08);
  for (let i = 0; i < 8; i++) settle(fast, 100, 0.01);
  assert.ok(Math.abs(slow.at - fast.at) < 1e-9);
});

test("near moments are at full strength, far ones at a quarter [N10]", () => {
  assert.equal(strength(0), 1);
  assert.equal(strength(-1), 1);
  assert.equal(strength(4), 0.25);
  assert.equal(strength(-500), 0.25);
  assert.ok(strength(2) > strength(3) && strength(3) > 0.25);
  assert.equal(strength(NaN), 1);
});

test("a playhead is the room's position and the person's drift [E6]", () => {
  assert.equal(playhead({ viewerSync: { state: "behind", driftMs: -900 } }, {}, 10), 9.1);
  assert.equal(playhead({ viewerSync: { state: "behind", driftMs: -900 } }, {}, 0.5), 0);
  assert.equal(playhead({ viewerSync: { state: "unknown", driftMs: 0 } }, {}, 10), undefined);
  assert.equal(playhead({ viewerSync: { state: "other_media", driftMs: 0 } }, {}, 10), undefined);
  assert.equal(playhead({}, {}, 10), undefined);
  assert.equal(playhead({ viewerSync: { state: "synced", driftMs: 0 } }, null, 10), undefined);
});

test("initials", () => {
  const cases = { "Jane Smith": "JS", Jane: "J", "Jane van der Berg": "JB", "  jane   smith ": "JS", "Élodie Ünal": "ÉÜ", "𝒜lan 👍x": "𝒜👍", "": "" };
  for (const [name, letters] of Object.entries(cases)) assert.equal(initials(name), letters);
});

test("initials are whole grapheme clusters", () => {
  const cases = { "🇬🇧 Ada": "🇬🇧A", "👨‍👩‍👧‍👦 Family": "👨‍👩‍👧‍👦F", "e\u0301mile": "E\u0301", "👍🏽": "👍🏽", "Ada \u3164": "A", "\u2800\u2800": "" };
  for (const [name, letters] of Object.entries(cases)) assert.equal(initials(name), letters);
  const devanagari = initials("क्षमा गुप्ता"); // one or two clusters for a conjunct, by the version of Unicode
  assert.ok(["क्षगु", "क्गु"].includes(devanagari), devanagari);
});

test("a name with nothing to see is shown as Guest", () => {
  for (const blank of ["", " ", "\u3164", "\u2800\u2800", "\u115f\u1160", "\uffa0", "\u200b\u200d", "\u00ad\ufe0f"]) {
    assert.equal(shownName(blank), "Guest");
    assert.equal(shownName(blank, GERMAN), "Gast");
  }
  for (const name of ["Ada", "👍", "क्षमा", "\u3164Ada"]) assert.equal(shownName(name), name);
});

test("the German table is complete", () => {
  assert.deepEqual(Object.keys(GERMAN).sort(), Object.keys(ENGLISH).sort());
  for (const [key, text] of Object.entries(ENGLISH)) assert.equal(typeof GERMAN[key], typeof text, key);
  assert.equal(typingSentence(["Jane", "Tom", "Mia"], GERMAN), "Jane und 2 weitere schreiben ...");
  const viewerSync = { state: "behind", driftMs: -900 };
  assert.equal(viewerWords({ connected: true, viewerSync }, false, { texts: GERMAN }), "0,9 s zurück");
});

test("the state of the connection, and why", () => {
  const error = { code: "REFUSED", message: "The server is full." };
  assert.equal(connectionWords({ status: "live", error: null }), "");
  const returned = { resumed: true, awayMs: 4200 };
  assert.equal(connectionWords({ status: "live", error: null, returned }), "Back in the same session after 4 s. Nobody saw you leave.");
  assert.match(connectionWords({ status: "live", error: null, returned: { resumed: false, awayMs: 10 } }), /^Back in a new session after 1 s/);
  assert.equal(connectionWords({ status: "connecting", error: null }), "Connecting...");
  assert.equal(connectionWords({ status: "connecting", error }), "Connecting... The server is full.");
  assert.equal(connectionWords({ status: "reconnecting", error: null }), "Connection lost, trying again.");
  assert.equal(connectionWords({ status: "reconnecting", error }), "Connection lost, trying again. The server is full.");
  assert.equal(connectionWords({ status: "closed", error: null }), "You left the room.");
  assert.equal(connectionWords({ status: "closed", error }), "Not connected. The server is full.");
  assert.equal(connectionWords({ status: "closed", error }, GERMAN), "Nicht verbunden. Der Server nimmt diese Seite nicht an.");
});

test("before the first command a viewer with a player is ready", () => {
  const viewer = { connected: true, isWatching: true, viewerSync: { state: "unknown", driftMs: 0 } };
  assert.equal(viewerWords(viewer, false, { isStarted: false }), "ready");
  assert.equal(viewerWords(viewer, false), "not watching");
  assert.equal(viewerWords({ ...viewer, isWatching: false }, false, { isStarted: false }), "not watching");
});

test("the title: of the room, else of its films", () => {
  assert.equal(titleOf({}), "");
  assert.equal(titleOf({ media: { main: { mediaId: "a" } } }), "");
  assert.equal(titleOf({ media: { main: { title: "Cut 1" } } }), "Cut 1");
  assert.equal(titleOf({ media: { main: { title: "Cut 1" }, right: { title: "Cut 2" } } }), "Cut 1 and Cut 2");
  assert.equal(titleOf({ media: { main: { title: "Cut" }, right: { title: "Cut" } } }), "Cut");
  assert.equal(titleOf({ settings: { title: "Trailer" }, media: { main: { title: "Cut 1" } } }), "Trailer");
  assert.equal(titleOf({ settings: { waitForViewers: 5 }, media: { main: { title: "Cut 1" } } }), "Cut 1");
});

test("who may play while nobody has control [H1]", () => {
  const may = { control: true, broadcast: true, moderate: false };
  assert.equal(freeControlWords({ rights: null }), "Everyone can play");
  assert.equal(freeControlWords({ rights: may }), "Everyone can play");
  assert.equal(freeControlWords({ rights: { ...may, control: false } }), "You can watch");
  assert.equal(freeControlWords({ rights: may, settings: { controlMode: "controller" } }), "Take control to play");
  assert.equal(freeControlWords({ rights: may, settings: { controlMode: "moderators" } }), "Moderators can play");
});

test("for whom the room waits", () => {
  assert.equal(waitingSentence([]), "");
  assert.equal(waitingSentence(["Jane"]), "Waiting for Jane");
  assert.equal(waitingSentence(["Jane", "Tom", "Mia"]), "Waiting for Jane and 2 others");
});

test("who is typing", () => {
  assert.equal(typingSentence([]), "");
  assert.equal(typingSentence(["Jane"]), "Jane is typing...");
  assert.equal(typingSentence(["Jane", "Tom"]), "Jane and Tom are typing...");
  assert.equal(typingSentence(["Jane", "Tom", "Mia"]), "Jane and 2 others are typing...");
});

test("what a viewer does [H7]", () => {
  const says = (state, driftMs, controls = false, connected = true) => viewerWords({ connected, viewerSync: { state, driftMs } }, controls);
  assert.equal(says("synced", -12), "synced");
  assert.equal(says("synced", 0, true), "controlling");
  assert.equal(says("behind", -900), "behind 0.9 s");
  assert.equal(says("ahead", 1234), "ahead 1.2 s");
  assert.equal(says("paused", 0), "paused");
  assert.equal(says("buffering", 0), "buffering");
  assert.equal(says("unknown", 0), "not watching");
  assert.equal(says("ended", 0), "at the end");
  assert.equal(says("ended", 0, true), "controlling");
  assert.equal(says("other_media", 0), "other version");
  assert.equal(says("other_media", 0, true), "other version");
  assert.equal(says("synced", 0, false, false), "reconnecting");
  assert.equal(viewerWords({ connected: true }, false), "not watching");
});

test("Resync is about the player of this page, not of another tab of the user", () => {
  const session = (sessionId, state) => ({ sessionId, viewerSync: state && { state, driftMs: 0 } });
  const tabs = (own, other) => ({
    following: true, playback: {},
    self: { sessionId: "s0", viewerSync: { state: other }, sessions: [session("s1", other), session("s0", own)] },
  });
  assert.deepEqual([needsResync(tabs("synced", "paused")), needsResync(tabs("paused", "synced"))], [false, true]);
  assert.deepEqual([needsResync(tabs(undefined, "behind")), needsResync(tabs("ended", "behind"))], [false, false], "no player here");
  assert.deepEqual([needsResync({ ...tabs("synced"), following: false }), needsResync({ ...tabs("behind"), playback: null })], [true, false]);
  assert.equal(needsResync({ following: true, playback: {}, self: null }), false);
});

test("who came and who went", () => {
  const map = (...names) => new Map(names.map((name) => [name, name]));
  assert.equal(arrivals(map("a"), map("a")), "");
  assert.equal(arrivals(map("a"), map("a", "b")).trim(), "b joined.");
  assert.equal(arrivals(map("a", "b"), map("c")).trim(), "c joined. a and b left.");
  assert.equal(arrivals(map(), map("a", "b", "c")).trim(), "a and 2 others joined.");
});

// by the formula of WCAG 2, not by that of the kit
function contrast(one, other) {
  const luminance = (color) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

test("a name can be read on every colour there is: 4.5:1", () => {
  const long = { "#000": "#000000", "#fff": "#ffffff" };
  for (let color = 0; color < 0x1000000; color += 37) {
    const hex = `#${color.toString(16).padStart(6, "0")}`;
    const found = contrast(hex, long[inkOn(hex)]);
    if (found < 4.5) assert.fail(`${hex}: ${found}`);
  }
});

test("a live region says the newest, and no oftener than every 5 s", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const pass = (ms) => {
    now += ms;
    t.mock.timers.tick(ms);
  };
  const said = [];
  const announcer = new Announcer((text) => said.push(text));
  announcer.announce(() => "one");
  pass(0);
  assert.deepEqual(said, ["one"]);
  for (let i = 0; i < 50; i++) {
    announcer.announce(() => `${i}`);
    pass(90);
  }
  assert.deepEqual(said, ["one"]);
  pass(600);
  assert.deepEqual(said, ["one", "49"]);
});
