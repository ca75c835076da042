/** Debugging: what is logged, what a tool sees, and the latency from pointer to frame. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { DebugLog, lineOf } from "../../koko_presence/web/sdk/debug.js";
import { PointerLatency } from "../../koko_presence/web/sdk/devtools.js";
import { Socket, Time, event, finish, inside, later, presence, row, settle, snapshot } from "./fake.js";

let time;
let frames;
beforeEach(() => {
  time = new Time();
  frames = [];
  globalThis.requestAnimationFrame = (callback) => frames.push(callback);
});
afterEach(() => {
  delete globalThis.requestAnimationFrame;
  return finish(time);
});
const nextFrame = () => frames.splice(0).forEach((callback) => callback(time.now));

/** What is written to the console meanwhile. */
function consoleLines() {
  const lines = [];
  const real = { ...console };
  for (const name of ["log", "info", "warn"]) console[name] = (...parts) => lines.push(parts);
  later(() => Object.assign(console, real));
  return lines;
}

test("a message as a line", () => {
  const line = (direction, message) => lineOf({ direction, at: 0, message });
  assert.equal(line("sent", { type: "join", roomId: "video_1", id: 1 }), "→ join in video_1 (1)");
  assert.equal(line("received", event("user_left", "jane")), "← user_left in video_1 of jane");
  assert.equal(line("received", { type: "error", code: "ROOM_FULL", id: 2 }), "← error ROOM_FULL (2)");
  assert.equal(line("received", { type: "ack", id: 3, success: false }), "← ack refused (3)");
});

test("debug logs the connection and each message from the first one on, and no token", async () => {
  const lines = consoleLines();
  const made = presence({ debug: true, auth: async () => "secret-token" });
  made.enter("video_1", { type: "video" });
  await settle();
  Socket.last.open({ resumeToken: "secret-resume" });
  await settle();
  await Socket.last.say({ ...snapshot([row("jane")]), id: Socket.last.of("join")[0].id });
  const texts = lines.map((parts) => parts.slice(0, 3).join(" "));
  assert.ok(texts.every((text) => /^koko-presence \d\d:\d\d:\d\d\.\d{3} /.test(text)), texts.join("\n"));
  const messages = lines.filter(([, , line]) => /^[→←]/.test(line)).map(([, , line]) => line.split(" ").slice(0, 2).join(" "));
  const types = messages.filter((line) => line !== "→ heartbeat");
  assert.deepEqual(types, ["→ auth", "← authenticated", "→ join", "← joined"]);
  assert.ok(texts.some((text) => text.endsWith("connection: live")));
  assert.ok(!JSON.stringify(lines).includes("secret"), "tokens are not shown");
  assert.equal(Socket.last.of("auth")[0].token, "secret-token", "they are sent");
});

test("an error is a warning of the log", async () => {
  const { presence: made, socket } = await inside();
  const lines = consoleLines();
  new DebugLog(made);
  await socket.say({ type: "error", code: "RATE_LIMITED", message: "Too many." });
  assert.ok(lines.some(([, text]) => text === "error RATE_LIMITED: Too many."));
});

test("without debug nothing is logged, and a tool sees messages while it inspects", async () => {
  const lines = consoleLines();
  const { presence: made, room, socket } = await inside();
  const seen = [];
  const undo = made.inspect(({ direction, message }) => seen.push(`${direction} ${message.type}`));
  room.typing(true);
  await socket.say(event("user_left", "jane", { sessionCount: 0 }));
  undo();
  await socket.say(event("user_joined", "jane", { sessionCount: 1 }));
  assert.deepEqual([seen, lines], [["sent typing", "received user_left"], []]);
  assert.deepEqual(made.rooms.map(({ id }) => id), ["video_1"]);
});

/** Jane points, her cursor takes `pathMs` to the server and as long to this page, and is drawn `frameMs` later. */
async function pointerToFrame(pathMs, frameMs = 8) {
  const { presence: made, socket } = await inside();
  const meter = new PointerLatency(made);
  for (let i = 0; i < 20; i++) {
    const place = { timestamp: i, x: 0.5, y: i / 100 };
    const pointedAt = made.clock.now();
    await time.advance(pathMs);
    const timestamp = new Date(made.clock.now()).toISOString();
    await time.advance(pathMs);
    const said = event("broadcast", "jane", { type: "koko:pointer", at: pointedAt, cursor: place });
    if (i % 2) await socket.say(said); // it may come before the cursor, or after its frame
    await socket.say(event("cursor_moved", "jane", { ...place, color: "#123456" }, { timestamp }));
    await time.advance(frameMs);
    nextFrame();
    if (i % 2 === 0) await socket.say(said);
  }
  meter.stop();
  return meter;
}

test("the latency is that from the pointer to the frame: 30 ms more on the way are 30 ms more", async () => {
  const near = await pointerToFrame(10);
  const far = await pointerToFrame(25);
  const [before, after] = [near, far].map(({ pointerToFrame: { percentiles } }) => percentiles);
  assert.deepEqual([before.count, after.count], [20, 20]);
  assert.ok(Math.abs(before.p50 - 28) < 1.5, `${before.p50}`);
  assert.ok(Math.abs(after.p50 - before.p50 - 30) < 3 && Math.abs(after.p99 - before.p99 - 30) < 3, `${before.p50} ${after.p50}`);
  assert.ok(Math.abs(far.serverToFrame.percentiles.p50 - 33) < 1.5);
});

test("a sender says about one cursor in two seconds when the pointer was there", async () => {
  const { presence: made, room, socket } = await inside();
  const meter = new PointerLatency(made);
  for (let i = 0; i < 50; i++) {
    room.updateCursor({ timestamp: i, x: 0.5, y: 0.5 });
    await time.advance(100);
  }
  meter.stop();
  const said = socket.of("broadcast").map(({ data }) => data);
  assert.deepEqual(said.map(({ type, cursor }) => [type, cursor.timestamp]), [["koko:pointer", 0], ["koko:pointer", 20], ["koko:pointer", 40]]);
  room.updateCursor({ timestamp: 99, x: 0.5, y: 0.5 });
  await time.advance(3000);
  assert.equal(socket.of("broadcast").length, 3, "nothing after its end");
});

test("what a stranger says of pointers is checked", async () => {
  const { presence: made, socket } = await inside();
  const meter = new PointerLatency(made);
  for (const data of [{ at: "now", cursor: {} }, { at: 5 }, { at: 5, cursor: null }, { at: 5, cursor: 3 }]) {
    await socket.say(event("broadcast", "jane", { type: "koko:pointer", ...data }));
  }
  meter.stop();
  assert.equal(meter.pointerToFrame.percentiles.count, 0);
});
