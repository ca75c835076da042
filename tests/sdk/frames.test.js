/** Frame arithmetic: exact, and the same in all clients. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  frameAt, frameOfTimestamp, middleOfFrame, middleOfFrameAt, parseFrameRate,
} from "../../koko_presence/web/sdk/frames.js";

const RATES = ["24000/1001", "24", "25", "30000/1001", "50", "60000/1001", 25, "15/2"];

test("rates are numbers or fractions; nothing else is one", () => {
  assert.deepEqual(parseFrameRate("24000/1001"), { numerator: 24000, denominator: 1001 });
  assert.deepEqual(parseFrameRate(25), { numerator: 25, denominator: 1 });
  assert.deepEqual(parseFrameRate(12.5), { numerator: 12.5, denominator: 1 });
  for (const wrong of [undefined, null, "", "x", "25 fps", "1/0", "0/1", 0, -25, NaN, Infinity, "2000/1", "1/100", {}]) {
    assert.equal(parseFrameRate(wrong), null, `${wrong}`);
  }
});

for (const text of RATES) {
  test(`${text} frames a second: the middle of a frame is in that frame, up to ten hours`, () => {
    const rate = parseFrameRate(text);
    const perS = rate.numerator / rate.denominator;
    for (const frame of [0, 1, 2, 23, 24, 1000, 1001, 86_399, 863_136, Math.floor(36_000 * perS)]) {
      assert.equal(frameAt(middleOfFrame(frame, rate), rate), frame);
      assert.ok(Math.abs(middleOfFrame(frame, rate) - (frame + 0.5) / perS) < 1e-9 * (frame + 1));
    }
  });

  test(`${text} frames a second: a timestamp is that of its frame, rounded to 1 us or to 1 ms, up or down`, () => {
    const rate = parseFrameRate(text);
    for (let frame = 0; frame < 5000; frame += 7) {
      const exact = frame * rate.denominator / rate.numerator;
      for (const stamp of [exact, Math.floor(exact * 1e6) / 1e6, Math.round(exact * 1000) / 1000, Math.floor(exact * 1000) / 1000]) {
        assert.equal(frameOfTimestamp(stamp, rate), frame);
      }
      assert.equal(frameAt(Math.floor(exact * 1e6) / 1e6, rate), frame, "1 us before its begin is its begin");
    }
  });
}

test("a position is brought to the middle of its frame, and not beyond the last one", () => {
  const rate = parseFrameRate("25");
  assert.equal(middleOfFrameAt(10.03, rate), 10.02);
  assert.equal(middleOfFrameAt(0, rate), 0.02);
  assert.equal(middleOfFrameAt(-1, rate), 0.02);
  assert.equal(middleOfFrameAt(10, rate, 10), 9.98, "250 frames: the last one is 249");
  assert.equal(middleOfFrameAt(99, rate, 10.001), 9.98, "sound that is longer than the picture adds no frame");
});
