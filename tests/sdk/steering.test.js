/** Which correction for which drift [H8, H22]. Negative: behind the room. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { correction, MeasuredTime, median, smallest, timeOfSeek, tolerance } from "../../koko_presence/web/sdk/steering.js";

const FRAME = tolerance(1 / 25);
const factor = (drift, more) => correction(drift, { toleranceS: FRAME, ...more }).factor;

test("the tolerance is less than half a frame at any rate, and 80 ms where only currentTime is known", () => {
  for (const perS of [23.976, 24, 25, 29.97, 50, 59.94, 120]) assert.ok(tolerance(1 / perS) < 0.5 / perS, `${perS}`);
  assert.equal(tolerance(0), 0.08);
});

test("within the tolerance nothing is done", () => {
  for (const drift of [0, FRAME * 0.99, -FRAME * 0.99]) {
    assert.deepEqual(correction(drift, { toleranceS: FRAME }), { seek: false, factor: 1, durationS: 0 });
  }
});

test("a small drift changes the speed a little, a larger one by 5 %, above 1 s by 10 % [H8]", () => {
  assert.ok(factor(-0.015) > 1.02 && factor(-0.015) < 1.04);
  assert.ok(factor(0.015) < 0.98 && factor(0.015) > 0.96);
  for (const [drift, right] of [[-0.08, 1.05], [0.08, 0.95], [-0.9, 1.05], [-1.5, 1.1], [1.999, 0.9]]) assert.equal(factor(drift), right);
});

test("just after a start or a seek up to twice the speed, or half of it", () => {
  const isSettling = true;
  assert.deepEqual([factor(-0.4, { isSettling }), factor(0.4, { isSettling })], [2, 0.5]);
  assert.ok(factor(-0.04, { isSettling }) < 1.25);
});

test("the correction takes the time in which the drift is made up for exactly", () => {
  for (const isSettling of [false, true]) {
    for (const drift of [-0.7, -0.3, -0.02, 0.02, 0.3, 0.7]) {
      const { factor: rate, durationS } = correction(drift, { toleranceS: FRAME, isSettling });
      assert.ok(Math.abs(drift + (rate - 1) * durationS) < 1e-12);
    }
  }
});

test("a seek: above 2 s, while settling above 0.75 s, unless there was one just now", () => {
  const seek = (drift, more) => correction(drift, { toleranceS: FRAME, ...more }).seek;
  assert.deepEqual([seek(2.01), seek(-2.01), seek(1.99), seek(-0.8, { isSettling: true })], [true, true, false, true]);
  assert.equal(seek(-5, { maySeek: false }), false);
  assert.equal(factor(-5, { maySeek: false }), 1.1, "it does what it can meanwhile");
});

test("a player without any speed is corrected by seeks only, above 0.5 s", () => {
  const how = (drift) => correction(drift, { toleranceS: 0.08, canSetRate: false });
  assert.deepEqual([how(-0.4), how(-0.6)], [{ seek: false, factor: 1, durationS: 0 }, { seek: true, factor: 1, durationS: 0 }]);
});

test("the median", () => {
  assert.deepEqual([median([3]), median([3, 1]), median([9, 1, 2]), median([-0.5, 0.01, 0.02, 0.01])], [3, 2, 2, 0.01]);
});

test("a measured time: the first measurement replaces the assumption, later ones are averaged, within 0 and the longest", () => {
  const time = new MeasuredTime(0.05, 1);
  assert.equal(time.value, 0.05);
  time.add(0.4);
  assert.equal(time.value, 0.4);
  time.add(0.2);
  assert.ok(Math.abs(time.value - 0.3) < 1e-12);
  const limited = new MeasuredTime(0.03, 0.5);
  limited.add(7);
  assert.equal(limited.value, 0.5);
  limited.add(-1);
  assert.equal(limited.value, 0.25);
});

test("the time of a seek by where the player is: null while it is under way", () => {
  const playing = (currentTime, goneS, playbackRate = 1) => timeOfSeek(100, { paused: false, currentTime, playbackRate }, goneS);
  assert.deepEqual([playing(98, 0.4), playing(100, 0.4), playing(103, 0.4)], [null, null, null], "beside, waiting, not there yet");
  assert.ok(Math.abs(playing(100.3, 0.7) - 0.4) < 1e-9);
  assert.ok(Math.abs(playing(100.3, 0.55, 2) - 0.4) < 1e-9);
  assert.equal(playing(100.51, 0.5), 0, "its clock is a little fast");
  const paused = (currentTime) => timeOfSeek(100, { paused: true, currentTime, playbackRate: 1 }, 0.2);
  assert.deepEqual([paused(100.01), paused(98)], [0.2, null]);
});

test("the smallest drift is the nearest to 0, with its sign", () => {
  assert.equal(smallest([-0.4, -0.3]), -0.3);
  assert.equal(smallest([0.5, -0.2, 0.3]), -0.2);
});
