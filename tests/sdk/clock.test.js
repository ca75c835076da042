import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { ServerClock, localNow } from "../../koko_presence/web/sdk/clock.js";
import { Time, finish } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

test("the clock trusts the exchange with the shortest way [D7]", () => {
  const clock = new ServerClock();
  clock.addSample(1000, 1400, 6200); // round trip 400 ms, symmetric or not: offset 5000
  assert.deepEqual([clock.offset, clock.rtt], [5000, 400]);
  clock.addSample(2000, 2020, 7110); // 20 ms: offset 5100
  assert.deepEqual([clock.offset, clock.rtt], [5100, 20]);
  clock.addSample(3000, 3900, 8000); // a slow one is ignored
  assert.equal(clock.offset, 5100);
  assert.equal(clock.now() - localNow(), 5100);
});

test("what the clock knows is forgotten slowly, so that a clock that was set is followed", () => {
  const clock = new ServerClock();
  clock.addSample(0, 10, 5005);
  for (let i = 0; i < 8; i++) clock.addSample(i * 30_000, i * 30_000 + 40, i * 30_000 + 9020); // round trips are longer now
  assert.equal(clock.offset, 9000);
});

test("a clock that stood while the computer slept is set by the first exchange, however long its way", () => {
  const clock = new ServerClock();
  clock.addSample(0, 10, 5005);
  clock.addSample(1000, 1200, 3_606_100); // an hour later, round trip 200 ms: the stored offset would be 3,600 s wrong
  assert.deepEqual([clock.offset, clock.rtt], [3_605_000, 200]);
});

test("a clock ahead of the server's has an offset below 0", () => {
  const clock = new ServerClock();
  clock.addSample(10_000, 10_020, 4010);
  clock.addSample(11_000, 11_100, 5080); // consistent, but longer
  assert.deepEqual([clock.offset, clock.rtt], [-6000, 25]);
});

test("nonsense does not move the clock", () => {
  const clock = new ServerClock();
  clock.addSample(100, 50, 1); // the answer before the request
  clock.addSample(undefined, 50, 1); // a pong without echo
  assert.deepEqual([clock.offset, clock.rtt], [0, Infinity]);
});
