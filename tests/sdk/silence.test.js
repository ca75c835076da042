/** A network that swallows everything is noticed: within 10 s while the user moves, within 15 s otherwise. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Socket, Time, event, finish, inside, page, settle } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

/** Seconds until the room is no longer live, in tenths; `each` is called before each of them. */
async function noticedAfter(room, each = () => {}) {
  for (let tenths = 1; tenths < 1000; tenths++) {
    each();
    await time.advance(100);
    if (room.status !== "live") return tenths / 10;
  }
  return Infinity;
}

/** Lets seconds pass with a server that answers each heartbeat. */
async function live(seconds, each = () => {}) {
  for (let tenths = 0; tenths < seconds * 10; tenths++) {
    each();
    const before = Socket.last.of("heartbeat").length;
    await time.advance(100);
    if (Socket.last.of("heartbeat").length > before) await Socket.last.say({ type: "pong", serverTime: 1 });
  }
}

const move = (room) => room.updateCursor({ timestamp: time.now / 1000, x: 0.5, y: 0.5 });

test("nothing moves: within 15 s, by a heartbeat that says nothing of the user, resumably", async () => {
  page();
  const { room, socket } = await inside();
  await live(60);
  await socket.say({ type: "pong", serverTime: 1 });
  socket.clear();
  const seconds = await noticedAfter(room);
  assert.ok(seconds > 8 && seconds <= 15, `${seconds} s`);
  assert.ok(socket.of("heartbeat").some((heartbeat) => heartbeat.status === undefined && heartbeat.clientTime > 0));
  assert.deepEqual([room.status, socket.closedWith, room.getSnapshot().error.code], ["reconnecting", 3000, "LOST"]);
  await time.advance(5000);
  assert.equal(room.status, "lost");
});

test("the user moves: within 10 s", async () => {
  page();
  const { room } = await inside();
  await live(30, () => move(room));
  const seconds = await noticedAfter(room, () => move(room));
  assert.ok(seconds <= 10, `${seconds} s`);
});

test("another user moved just now: within 10 s", async () => {
  page();
  const { room, socket } = await inside();
  for (let i = 0; i < 50; i++) {
    await live(0.1);
    await socket.say(event("cursor_moved", "jane", { timestamp: i, color: "#123456" }));
  }
  const seconds = await noticedAfter(room);
  assert.ok(seconds <= 10, `${seconds} s`);
});

test("the user begins to move in a silence of 6 s: noticed 5 s later", async () => {
  page();
  const { room, socket } = await inside();
  await live(60);
  await time.advance(5000);
  await socket.say({ type: "pong", serverTime: 1 });
  const began = time.now;
  const seconds = await noticedAfter(room, () => time.now - began >= 6000 && move(room));
  assert.ok(seconds > 6 && seconds <= 11, `${seconds} s`);
});

test("a hidden page asks at its usual pace, and notices it within 90 s", async () => {
  const window = page();
  const { room, socket } = await inside();
  await window.hide();
  socket.clear();
  await live(60);
  assert.ok(socket.of("heartbeat").every(({ status }) => status === "away") && socket.of("heartbeat").length <= 3);
  const seconds = await noticedAfter(room);
  assert.ok(seconds <= 90, `${seconds} s`);
});

test("with a server that answers, a quiet page asks once in 8 s and stays live; heartbeats are never closer than 5 s", async () => {
  page();
  const { room, socket } = await inside();
  socket.clear();
  const sentAt = [];
  const { length } = socket.sent;
  await live(120, () => {
    if (socket.sent.length > length + sentAt.length) sentAt.push(time.now);
  });
  assert.equal(room.status, "live");
  const gaps = sentAt.slice(1).map((at, i) => at - sentAt[i]);
  assert.ok(gaps.length >= 12 && gaps.every((gap) => gap >= 4900 && gap <= 8200), `${gaps}`);
});

test("while others move no further heartbeat is sent", async () => {
  page();
  const { socket } = await inside();
  socket.clear();
  for (let i = 0; i < 250; i++) {
    await live(0.1);
    await socket.say(event("cursor_moved", "jane", { timestamp: i, color: "#123456" }));
  }
  assert.equal(socket.of("heartbeat").length, 0);
});

test("a page that was held up reads what has come before it gives the connection up", async () => {
  page();
  const { room, socket } = await inside();
  await time.advance(9000);
  assert.ok(socket.of("heartbeat").length >= 1);
  await time.hold(20_000);
  assert.equal(room.status, "live");
  await socket.say({ type: "pong", serverTime: 1 });
  await time.advance(1500);
  assert.equal(room.status, "live");
  await settle();
});
