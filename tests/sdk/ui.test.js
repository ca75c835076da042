import assert from "node:assert/strict";
import { test } from "node:test";
import { Announcer } from "../../koko_presence/web/sdk/ui/announcer.js";
import { pictureRect, playhead, settle, strength } from "../../koko_presence/web/sdk/ui/picture.js";
import { arrivals, freeControlWords, initials, inkOn, titleOf, typingSentence, viewerWords, waitingSentence } from "../../koko_presence/web/sdk/ui/words.js";

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
