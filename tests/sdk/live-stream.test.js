/** Which durations are those of a live stream. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { LiveDetector } from "../../koko_presence/web/sdk/live-stream.js";

/** Whether it is live after each of these durations, [ms, s, whether it plays]. */
function judge(...seen) {
  const detector = new LiveDetector();
  return seen.map(([now, duration, isPlaying = true]) => {
    detector.see(duration, isPlaying, now);
    return detector.isLive;
  });
}

test("a stream without an end is live, and one whose end becomes known is not any more", () => {
  assert.deepEqual(judge([0, NaN], [100, Infinity], [200, 600], [300, 2 ** 32], [400, undefined]), [false, true, false, true, false]);
});

test("a duration that goes on growing while it plays is that of a live stream, from its second growth on", () => {
  assert.deepEqual(judge([0, 30], [6000, 36], [8000, 36], [12_000, 42], [60_000, 42]), [false, false, false, true, true]);
  const parts = Array.from({ length: 6 }, (_, i) => [i * 300, 30 + i * 0.3]);
  assert.deepEqual(judge(...parts), [false, false, false, false, true, true], "one that grows by little pieces");
});

test("the corrections of a film's duration are none", () => {
  const isEverLive = (...seen) => judge(...seen).includes(true);
  assert.equal(isEverLive([0, 10], [50, 30], [100, 300], [200, 600], [60_000, 600]), false, "as it is loaded");
  assert.equal(isEverLive([0, 600], [5000, 600.04], [10_000, 600.08], [15_000, 600.02]), false, "by less than a frame or two");
  assert.equal(isEverLive([0, 600], [5000, 630], [90_000, 630], [95_000, 660], [200_000, 660]), false, "by an advertisement now and then");
  assert.equal(isEverLive([0, 600], [1000, 640], [2000, 610], [3000, 650], [4000, 620]), false, "an estimate");
  assert.equal(isEverLive([0, 30, false], [2000, 40, false], [4000, 50, false], [6000, 60, false], [7000, 60]), false, "while it is paused");
});

test("another film is judged anew", () => {
  const detector = new LiveDetector();
  for (const [now, duration] of [[0, 30], [1000, 36], [2000, 42]]) detector.see(duration, true, now);
  assert.equal(detector.isLive, true);
  detector.forget();
  for (const [now, duration] of [[3000, 60], [4000, 66]]) detector.see(duration, true, now);
  assert.equal(detector.isLive, false);
});
