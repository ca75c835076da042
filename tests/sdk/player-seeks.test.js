/** Whose a seek is, and when it is over. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { PlayerSeeks } from "../../koko_presence/web/sdk/player-seeks.js";

const PLAYING = { paused: false, currentTime: 100, playbackRate: 1, seeking: false };
const at = (currentTime, more = {}) => ({ ...PLAYING, currentTime, ...more });

/** The seeks of an element, whose own seek to 200 s has begun at 1000 ms. */
function begun() {
  const seeks = new PlayerSeeks(true);
  seeks.begin(200, 1000, false);
  return seeks;
}

test("an own seek: its event is its own, its time is measured, and it stands where it went", () => {
  const seeks = begun();
  seeks.onSeeking(at(200, { seeking: true }));
  assert.deepEqual([seeks.hasOthers, seeks.isUnderWay, seeks.own.to], [false, true, 200]);
  seeks.onSeeked(at(200), 1300);
  assert.deepEqual([seeks.isUnderWay, seeks.own, seeks.stood.to, seeks.timeS], [false, null, 200, 0.3]);
  seeks.onSeeking(at(50, { seeking: true }));
  assert.equal(seeks.hasOthers, true, "the next one is not");
});

test("a seek of others in place of an own one, whose event is left out", () => {
  const seeks = begun();
  seeks.onSeeking(at(300, { seeking: true }));
  assert.equal(seeks.isOthers(at(300, { seeking: true })), true);
  seeks.adopt(at(300, { seeking: true }));
  assert.deepEqual([seeks.isOthers(at(300, { seeking: true })), seeks.own, seeks.isUnderWay], [false, null, true]);
});

test("a seek of others that is seen before its event: the event is no second one", () => {
  const seeks = new PlayerSeeks(true);
  const seeking = at(300, { seeking: true });
  assert.equal(seeks.isOthers(seeking), true);
  seeks.adopt(seeking);
  seeks.onSeeking(seeking);
  assert.equal(seeks.isOthers(seeking), false);
  seeks.onSeeked(at(300, { paused: true }), 1500);
  assert.deepEqual([seeks.stood.to, seeks.timeS], [300, 0.05], "and is not measured");
});

test("an element's own seek ends by its event, however long that takes while it seeks", () => {
  const seeks = begun();
  assert.equal(seeks.noticeEnd(at(200, { seeking: true }), 9000), false);
  assert.equal(seeks.noticeEnd(at(200.01), 1200), false, "the event is due");
  assert.equal(seeks.noticeEnd(at(200.01), 3100), true, "it does not come");
  assert.equal(seeks.timeS, 0.05, "a time without an event is not measured");
});

test("the event of a seek that another one has replaced since ends the later one not", () => {
  const seeks = begun();
  seeks.onSeeking(at(200, { seeking: true }));
  seeks.begin(250, 1300, false); // the first one is over, and its event under way
  const seeking = at(250, { seeking: true });
  seeks.onSeeked(seeking, 1310);
  assert.deepEqual([seeks.own.to, seeks.isUnderWay, seeks.isOthers(seeking), seeks.timeS], [250, true, false, 0.05]);
  seeks.onSeeking(seeking);
  assert.equal(seeks.isOthers(seeking), false);
  seeks.onSeeked(at(250), 1500);
  assert.deepEqual([seeks.stood.to, seeks.own, seeks.timeS], [250, null, 0.2]);
});

test("a player without the event: it ends where the player moves on, and is measured by that", () => {
  const seeks = new PlayerSeeks(false);
  const state = (currentTime, paused = false) => ({ paused, currentTime, playbackRate: 1 });
  seeks.begin(200, 1000, false);
  assert.equal(seeks.noticeEnd(state(100.3), 1300), false);
  assert.equal(seeks.noticeEnd(state(200), 1400), false, "it has no data yet");
  assert.equal(seeks.noticeEnd(state(200.2), 1800), true);
  assert.ok(Math.abs(seeks.timeS - 0.6) < 1e-9);
  seeks.onSeeking(state(200.2));
  assert.equal(seeks.hasOthers, false, "its event may come late");
  seeks.begin(50, 5000, false);
  assert.equal(seeks.noticeEnd(state(50, true), 5050), true);
  assert.equal(seeks.noticeEnd(state(50, true), 7100), false);
  seeks.onSeeking(state(10, true));
  assert.equal(seeks.hasOthers, true, "2 s later it is not due any more");
  seeks.forget();
  assert.deepEqual([seeks.hasOthers, seeks.stood, seeks.own], [false, null, null]);
});

test("a player that has told the end of a seek once is waited for", () => {
  const seeks = new PlayerSeeks(false);
  seeks.begin(200, 1000, false);
  seeks.onSeeked({ paused: false, currentTime: 200, playbackRate: 1 }, 1500);
  seeks.begin(300, 4000, false);
  assert.equal(seeks.noticeEnd({ paused: false, currentTime: 300.1, playbackRate: 1 }, 4200), false);
});
