/** Where the room is, and what a player of a target should do [H4, H10, H17, H20]. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { goalOf, positionOf } from "../../koko_presence/web/sdk/playback-position.js";

const T0 = 1_736_937_005_000;
const playing = { isPlaying: true, currentTime: 45.5, playbackRate: 1.5, anchor: T0 };

test("the worked example of docs/protocol.md, the pause, the end", () => {
  assert.equal(positionOf(playing, T0 + 3200), 50.3);
  assert.equal(positionOf({ ...playing, isPlaying: false }, 1e15), 45.5);
  assert.equal(positionOf({ ...playing, duration: 60 }, 1e15), 60);
  assert.equal(positionOf(playing, 0), 45.5, "a clock that is behind does not go back");
  assert.equal(positionOf(null, 5), 0);
});

test("a target is at the room's position plus its offset", () => {
  const { position, isPlaying, startsInMs } = goalOf(playing, { offset: 2.4 }, T0 + 1000);
  assert.deepEqual([position, isPlaying, startsInMs], [49.4, true, 0]);
});

test("a film that has not begun there stands at its begin, and starts in time", () => {
  const goal = goalOf({ ...playing, currentTime: 1 }, { offset: -4 }, T0);
  assert.deepEqual(goal, { isPlaying: true, position: 0, playbackRate: 1.5, startsInMs: 2000, isAtEnd: false });
});

test("a start that was delayed stands until then", () => {
  assert.deepEqual(goalOf({ ...playing, anchor: T0 + 300 }, {}, T0).startsInMs, 300);
  assert.equal(goalOf({ ...playing, anchor: T0 + 300 }, {}, T0).position, 45.5);
});

test("a shorter film stands at its end, and all do at the end of the room", () => {
  const short = goalOf(playing, { duration: 46 }, T0 + 10_000);
  assert.deepEqual([short.isPlaying, short.position, short.isAtEnd], [false, 46, true]);
  const over = goalOf({ ...playing, duration: 50 }, { duration: 80 }, T0 + 10_000);
  assert.deepEqual([over.isPlaying, over.position, over.isAtEnd], [false, 50, true]);
});

test("a device that shows the film late plays ahead, and stands where all stand", () => {
  assert.equal(goalOf(playing, { outputOffset: 0.2 }, T0).position, 45.5 + 0.3);
  assert.equal(goalOf({ ...playing, isPlaying: false }, { outputOffset: 0.2 }, T0).position, 45.5);
});
