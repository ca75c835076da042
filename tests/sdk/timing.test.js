import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { createClock, createSlot, localNow } from "../../koko_presence/web/sdk/timing.js";
import { Time, finish } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

test("the clock trusts the exchange with the shortest way [D7]", () => {
  const clock = createClock();
  clock.note(1000, 1400, 6200); // round trip 400 ms, symmetric or not: offset 5000
  assert.deepEqual([clock.offset, clock.rtt], [5000, 400]);
  clock.note(2000, 2020, 7110); // 20 ms: offset 5100
  assert.deepEqual([clock.offset, clock.rtt], [5100, 20]);
  clock.note(3000, 3900, 8000); // a slow one is ignored
  assert.equal(clock.offset, 5100);
  assert.equal(clock.now() - localNow(), 5100);
});

test("what the clock knows is forgotten slowly, so that a clock that was set is followed", () => {
  const clock = createClock();
  clock.note(0, 10, 5005);
  for (let i = 0; i < 8; i++) clock.note(i * 30_000, i * 30_000 + 40, i * 30_000 + 9020); // round trips are longer now
  assert.equal(clock.offset, 9000);
});

test("a clock that stood while the computer slept is set by the first exchange, however long its way", () => {
  const clock = createClock();
  clock.note(0, 10, 5005);
  clock.note(1000, 1200, 3_606_100); // an hour later, round trip 200 ms: the stored offset would be 3,600 s wrong
  assert.deepEqual([clock.offset, clock.rtt], [3_605_000, 200]);
});

test("a clock ahead of the server's has an offset below 0", () => {
  const clock = createClock();
  clock.note(10_000, 10_020, 4010);
  clock.note(11_000, 11_100, 5080); // consistent, but longer
  assert.deepEqual([clock.offset, clock.rtt], [-6000, 25]);
});

test("nonsense does not move the clock", () => {
  const clock = createClock();
  clock.note(100, 50, 1); // the answer before the request
  clock.note(undefined, 50, 1); // a pong without echo
  assert.deepEqual([clock.offset, clock.rtt], [0, Infinity]);
});

test("a slot sends the first value at once, then at most one per interval, and always the last [E1]", async () => {
  const sent = [];
  const slot = createSlot((value) => sent.push([time.now - 1000, value]), () => true);
  slot.wait = 50;
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
  const slot = createSlot((value) => sent.push(value), () => may);
  slot.offer("old");
  slot.offer("new");
  assert.equal(time.timers, 0);
  may = true;
  slot.go();
  assert.deepEqual(sent, ["new"]);
  slot.go();
  assert.deepEqual(sent, ["new"]);
});

test("a value may be more urgent than the one before it", async () => {
  const sent = [];
  const slot = createSlot((value) => sent.push([time.now - 1000, value]), () => true);
  slot.offer("typing", 3000);
  slot.offer("still typing", 3000);
  await time.advance(500);
  slot.offer("stopped", 0);
  await time.advance(10_000);
  assert.deepEqual(sent, [[0, "typing"], [500, "stopped"]]);
});

test("a stopped slot leaves no timer", () => {
  const slot = createSlot(() => {}, () => true);
  slot.offer(1, 50);
  slot.offer(2, 50);
  assert.equal(time.timers, 1);
  slot.stop();
  assert.equal(time.timers, 0);
});
