/** Which changes of a player are its user's, and which its own [H23]. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { isCommand, ReversalCount, userActionOf } from "../../koko_presence/web/sdk/user-actions.js";

const PLAYING = { paused: false, currentTime: 10, playbackRate: 1 };
const PAUSED = { ...PLAYING, paused: true };
const USUAL = { isFirstStart: false, isBlocked: false, hasInteracted: true, isRemoved: false, hiddenForMs: 0 };

/** The names of what the user has done. */
function found(before, state, { circumstances = {}, seekedByS = 0 } = {}) {
  const change = { paused: before.paused, playbackRate: before.playbackRate, seekedByS, state };
  const action = userActionOf(change, { ...USUAL, ...circumstances });
  const names = Object.keys(action).filter((name) => action[name]);
  assert.equal(isCommand(action), names.length > 0);
  return names;
}

test("play, pause, seek and speed are the user's, also several of them in one turn", () => {
  assert.deepEqual(found(PAUSED, PLAYING), ["plays"]);
  assert.deepEqual(found(PLAYING, PAUSED), ["pauses"]);
  assert.deepEqual(found(PLAYING, PLAYING, { seekedByS: -5 }), ["seeks"]);
  assert.deepEqual(found(PLAYING, { ...PLAYING, playbackRate: 1.05 }), ["changesRate"]);
  assert.deepEqual(found(PAUSED, { ...PLAYING, playbackRate: 2 }, { seekedByS: 30 }), ["plays", "seeks", "changesRate"]);
  assert.deepEqual(found(PLAYING, PLAYING), []);
});

test("a start that the page or the browser has made is not: autoplay, a script before any interaction, after a block", () => {
  assert.deepEqual(found(PAUSED, { ...PLAYING, autoplay: true }, { circumstances: { isFirstStart: true } }), []);
  assert.deepEqual(found(PAUSED, { ...PLAYING, autoplay: true }), ["plays"], "a later one is");
  assert.deepEqual(found(PAUSED, PLAYING, { circumstances: { hasInteracted: false } }), []);
  assert.deepEqual(found(PAUSED, PLAYING, { circumstances: { isBlocked: true }, seekedByS: 9 }), []);
});

test("a pause at the end, of a removed element, or as the page is hidden is not; a later one while hidden is", () => {
  assert.deepEqual(found(PLAYING, { ...PAUSED, ended: true }), []);
  assert.deepEqual(found(PLAYING, PAUSED, { circumstances: { isRemoved: true } }), []);
  assert.deepEqual(found(PLAYING, PAUSED, { circumstances: { hiddenForMs: 30 } }), []);
  assert.deepEqual(found(PLAYING, PAUSED, { circumstances: { hiddenForMs: 5000 } }), ["pauses"]);
});

test("a small jump of a player that plays is its own; while paused it is a step of the user", () => {
  for (const seekedByS of [0.1, -0.49]) assert.deepEqual(found(PLAYING, PLAYING, { seekedByS }), []);
  assert.deepEqual(found(PLAYING, PLAYING, { seekedByS: 0.51 }), ["seeks"]);
  assert.deepEqual(found(PAUSED, PAUSED, { seekedByS: 0.04 }), ["seeks"]);
  assert.deepEqual(found(PAUSED, PLAYING, { seekedByS: 0.1 }), ["plays", "seeks"]);
});

test("a player that loops begins anew by itself", () => {
  const begin = { ...PLAYING, currentTime: 0.1, duration: 600, loop: true };
  assert.deepEqual(found(PLAYING, begin, { seekedByS: -599.8 }), []);
  assert.deepEqual(found(PLAYING, { ...begin, loop: false }, { seekedByS: -599.8 }), ["seeks"]);
  assert.deepEqual(found(PLAYING, begin, { seekedByS: -400 }), ["seeks"], "not from its end");
  assert.deepEqual(found(PLAYING, { ...begin, currentTime: 5 }, { seekedByS: -594.9 }), ["seeks"], "not to its begin");
  assert.deepEqual(found(PAUSED, { ...begin, paused: true }, { seekedByS: -599.9 }), ["seeks"], "it was paused");
});

test("three reversals within a second are too many; three in three seconds are not", () => {
  const fast = new ReversalCount();
  assert.deepEqual([0, 10, 20].map((now) => fast.add(now, true)), [false, false, true]);
  const slow = new ReversalCount();
  assert.deepEqual([0, 900, 1800, 2700].map((now) => slow.add(now, true)), [false, false, false, false]);
});

test("a user may reverse own actions more often, but not as often as only a script does", () => {
  const count = new ReversalCount();
  assert.deepEqual([0, 200, 400, 600].map((now) => count.add(now, false)), [false, false, false, false]);
  assert.ok([700, 710, 720, 730, 740].map((now) => count.add(now, false)).at(-1));
});
