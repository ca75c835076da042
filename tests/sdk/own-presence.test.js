/** The presence object of the own session: merged at once, sent once a turn and 20 times a second, and after a reconnection. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { OwnPresence } from "../../koko_presence/web/sdk/own-presence.js";
import { Socket, Time, event, finish, inside, presence, row, settle, snapshot } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

const patches = (socket) => socket.of("presence").map(({ data }) => data);
const joined = (socket, own) => socket.say({ ...snapshot([row("jane")], { users: [row("me", "s0", own), row("jane")] }), id: socket.of("join").at(-1)?.id });

test("it is merged at once, and all calls of one turn are one message", async () => {
  const { room, socket } = await inside();
  assert.deepEqual(room.getSnapshot().presence, {});
  assert.equal(room.setPresence({ tool: "pen", view: { x: 1 } }), true);
  room.setPresence({ view: { x: 2 }, gone: 1 });
  room.setPresence({ gone: null });
  const { presence: own, self } = room.getSnapshot();
  assert.deepEqual(own, { tool: "pen", view: { x: 2 } });
  assert.deepEqual([self.presence, self.sessions[0].presence], [own, own]);
  assert.deepEqual(patches(socket), []);
  await settle();
  assert.deepEqual(socket.of("presence"), [
    { type: "presence", roomId: "video_1", data: { tool: "pen", view: { x: 2 }, gone: null } },
  ]);
});

test("what changes nothing is not sent, and keeps the identity of the snapshot", async () => {
  const { room, socket } = await inside();
  room.setPresence({ view: { x: 1 } });
  await settle();
  const before = room.getSnapshot();
  for (const patch of [{ view: { x: 1 } }, { other: null }, {}, { later: undefined }]) assert.equal(room.setPresence(patch), true);
  await settle();
  assert.equal(room.getSnapshot(), before);
  assert.equal(patches(socket).length, 1);
});

test("20 a second at most, merged key by key, the last one always; also without others", async () => {
  const { room, socket } = await inside([]);
  for (let i = 0; i <= 100; i++) {
    room.setPresence({ n: i, [`k${i % 3}`]: i });
    await time.advance(10);
  }
  await time.advance(100);
  const sent = patches(socket);
  assert.ok(sent.length <= 22 && sent.length >= 19, `${sent.length}`);
  assert.deepEqual(Object.assign({}, ...sent), room.getSnapshot().presence);
});

test("null removes everything", async () => {
  const { room, socket } = await inside();
  room.setPresence({ a: 1, b: 2 });
  await settle();
  room.setPresence(null);
  await time.advance(60);
  assert.deepEqual([patches(socket).at(-1), room.getSnapshot().presence], [{ a: null, b: null }, {}]);
  assert.equal(room.self.presence, undefined);
});

test("a later change of the application's object changes nothing", async () => {
  const { room } = await inside();
  const view = { x: 1 };
  room.setPresence({ view });
  view.x = 2;
  assert.deepEqual(room.getSnapshot().presence, { view: { x: 1 } });
});

test("what JSON cannot express, and what is too large, is refused and changes nothing", async () => {
  const { room, socket } = await inside();
  const errors = [];
  room.on("error", ({ code, roomId }) => errors.push([code, roomId]));
  room.setPresence({ a: 1 });
  const circle = {};
  circle.circle = circle;
  for (const wrong of [circle, { n: 1n }]) assert.equal(room.setPresence(wrong), false);
  assert.deepEqual(errors, Array(2).fill(["INVALID_DATA", "video_1"]));
  for (const wrong of ["text", 5, undefined, [], () => {}]) assert.throws(() => room.setPresence(wrong), TypeError);
  await socket.lose();
  await time.advance(time.waits[0]);
  Socket.last.open({ limits: { cursorHz: 20, presenceHz: 20, maxPresenceBytes: 50 } });
  await settle();
  await joined(Socket.last, {});
  assert.equal(room.setPresence({ text: "ü".repeat(20) }), false); // 40 bytes, and the rest
  assert.deepEqual(errors.at(-1), ["TOO_LARGE", "video_1"]);
  assert.deepEqual(room.getSnapshot().presence, { a: 1 });
  assert.equal(room.setPresence({ text: "x".repeat(25) }), true);
});

test("half of a surrogate pair is replaced, because JSON over the wire cannot carry it", () => {
  const own = new OwnPresence();
  own.merge({ cut: "👍".slice(0, 1), whole: "👍", text: "\\ud83d" });
  assert.deepEqual(own.value, { cut: "\ufffd", whole: "👍", text: "\\ud83d" });
});

test("initial presence is in the join, and so is what was set before it", async () => {
  const made = presence();
  const room = made.enter("video_1", { type: "video", presence: { tool: "pen" } });
  room.setPresence({ n: 1 });
  await settle();
  Socket.last.open();
  await settle();
  assert.deepEqual(Socket.last.of("join")[0].presence, { tool: "pen", n: 1 });
  await joined(Socket.last, { presence: { tool: "pen", n: 1 } });
  await time.advance(200);
  assert.deepEqual(patches(Socket.last), []);
});

test("a new session brings the object; of a resumed one only what differs is sent", async () => {
  const { room, socket } = await inside();
  room.setPresence({ a: 1, b: 1 });
  await settle();
  await socket.lose();
  room.setPresence({ b: 2 });
  await time.advance(time.waits[0]);
  Socket.last.open({ resumed: true, rooms: ["video_1"] });
  await settle();
  assert.deepEqual(Socket.last.of("join")[0].presence, { a: 1, b: 2 });
  await joined(Socket.last, { presence: { a: 1, b: 1, old: 3 } });
  assert.deepEqual(patches(Socket.last), [{ b: 2, old: null }]);
  assert.deepEqual(room.self.presence, { a: 1, b: 2 });
  await Socket.last.lose();
  await time.advance(time.waits[0]);
  Socket.last.open({ sessionId: "s0" });
  await settle();
  await joined(Socket.last, { presence: { a: 1, b: 2 } });
  await time.advance(200);
  assert.deepEqual(patches(Socket.last), []);
});

test("without a connection it is merged, and sent with the next join", async () => {
  const { room, socket } = await inside();
  await socket.lose();
  room.setPresence({ n: 1 });
  assert.deepEqual(room.getSnapshot().presence, { n: 1 });
  await time.advance(time.waits[0]);
  Socket.last.open();
  await settle();
  assert.deepEqual(Socket.last.of("join")[0].presence, { n: 1 });
});

test("the others' objects are in the snapshot, and change key by key", async () => {
  const { room, socket } = await inside([row("jane", "jane-1", { presence: { a: 1, b: 1 } })]);
  assert.deepEqual(room.others[0].presence, { a: 1, b: 1 });
  const events = [];
  room.on("presence_changed", ({ data }) => events.push(data));
  await socket.say(event("presence_changed", "jane", { b: null, c: { d: null } }));
  assert.deepEqual([room.others[0].presence, events], [{ a: 1, c: { d: null } }, [{ b: null, c: { d: null } }]]);
  await socket.say(event("presence_changed", "jane", { a: null, c: null }));
  assert.equal(room.others[0].presence, undefined);
  await socket.say(event("user_joined", "tom", { name: "Tom", color: "#1", sessionCount: 1, status: "active", activity: "active", index: 1, presence: { n: 1 } }));
  assert.deepEqual(room.others[1].presence, { n: 1 });
});

test("a room that was left takes nothing", async () => {
  const { room, socket } = await inside();
  room.leave();
  assert.equal(room.setPresence({ a: 1 }), false);
  await settle();
  assert.deepEqual(patches(socket), []);
});

test("one that is too large for the server is told and taken back as the room is joined, which it is", async () => {
  for (const [limits, isFit] of [[{ cursorHz: 20, maxPresenceBytes: 1024 }, false], [{ cursorHz: 20, maxPresenceBytes: 4096 }, true]]) {
    const made = presence();
    const errors = [];
    made.on("error", () => {}); // so that nothing is written to the console
    const room = made.enter("video_1", { type: "video", presence: { a: "x".repeat(3000) } });
    room.on("error", (error) => errors.push(error));
    await settle();
    Socket.last.open({ limits });
    await settle();
    const [{ presence: sent }] = Socket.last.of("join");
    assert.deepEqual([sent?.a.length, room.getSnapshot().presence.a?.length], isFit ? [3000, 3000] : [undefined, undefined]);
    const expected = { code: "TOO_LARGE", message: "The presence object would have 3008 of 1024 bytes.", roomId: "video_1" };
    assert.deepEqual(errors, isFit ? [] : [expected]);
    await joined(Socket.last, { presence: sent });
    assert.equal(room.status, "live");
    made.close();
  }
});
