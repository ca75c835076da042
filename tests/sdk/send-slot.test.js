import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { SendSlot } from "../../koko_presence/web/sdk/send-slot.js";
import { Time, finish } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

test("a slot sends the first value at once, then at most one per interval, and always the last [E1]", async () => {
  const sent = [];
  const slot = new SendSlot({ send: (value) => sent.push([time.now - 1000, value]), maySend: () => true });
  slot.intervalMs = 50;
  for (let i = 0; i < 100; i++) {
    slot.offer(i);
    await time.advance(3);
  }
  await time.advance(1000);
  assert.equal(sent[0][1], 0);
  assert.equal(sent.at(-1)[1], 99);
  const gaps = sent.slice(1).map(([at], i) => at - sent[i][0]);
  assert.ok(gaps.every((gap) => gap >= 50), `gaps ${gaps}`);
  assert.ok(sent.length >= 6 && sent.length <= 8, `${sent.length} of 100 in 300 ms`);
});

test("a slot that may not send holds the newest value, without a timer", async () => {
  const sent = [];
  let may = false;
  const slot = new SendSlot({ send: (value) => sent.push(value), maySend: () => may });
  slot.offer("old");
  slot.offer("new");
  assert.equal(time.timers, 0);
  may = true;
  slot.trySend();
  assert.deepEqual(sent, ["new"]);
  slot.trySend();
  assert.deepEqual(sent, ["new"]);
});

test("a value may be more urgent than the one before it", async () => {
  const sent = [];
  const slot = new SendSlot({ send: (value) => sent.push([time.now - 1000, value]), maySend: () => true });
  slot.offer("typing", 3000);
  slot.offer("still typing", 3000);
  await time.advance(500);
  slot.offer("stopped", 0);
  await time.advance(10_000);
  assert.deepEqual(sent, [[0, "typing"], [500, "stopped"]]);
});

test("a stopped slot leaves no timer", () => {
  const slot = new SendSlot({ send: () => {}, maySend: () => true });
  slot.offer(1, 50);
  slot.offer(2, 50);
  assert.equal(time.timers, 1);
  slot.stop();
  assert.equal(time.timers, 0);
});
