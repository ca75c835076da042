/** The module of shared playback comes late, not at all, or not the first time. */

import assert from "node:assert/strict";
import { register } from "node:module";
import { afterEach, beforeEach, test } from "node:test";

// each import of the module by room.js is answered by `loadMedia` of the test
const HOOKS = `
  let count = 0;
  export async function resolve(specifier, context, next) {
    const found = await next(specifier, context);
    return specifier === "./media.js" ? { ...found, url: found.url + "?" + count++ } : found;
  }
  export const load = (url, context, next) => /media\\.js\\?/.test(url)
    ? { format: "module", shortCircuit: true, source: "export const { SharedPlayback } = await loadMedia();" }
    : next(url, context);
`;
register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);

const { Socket, Time, finish, later, presence, row, settle, snapshot } = await import("./fake.js");
const media = await import("../../koko_presence/web/sdk/media.js");

let time;
let warnings;
const { warn } = console;
beforeEach(() => {
  time = new Time();
  warnings = [];
  console.warn = (text) => warnings.push(text);
});
afterEach(async () => {
  console.warn = warn;
  await finish(time);
});

/** Runs what is due until something is true: an import takes a while, in real time. */
async function until(isTrue) {
  while (!isTrue()) await settle();
}

/** A user who enters a room; the imports of the module are answered by `answers`, the last one for all later ones. */
async function entering(answers, { type = "video" } = {}) {
  let imports = 0;
  globalThis.loadMedia = () => answers[Math.min(imports++, answers.length - 1)]();
  const made = presence();
  const room = made.enter("room_1", { type });
  await settle();
  Socket.last.open();
  await until(() => imports > 0 || joins().length > 0);
  await settle();
  return { made, room, imports: () => imports };
}

const joins = () => Socket.last?.of("join") ?? [];
const joined = (more) => Socket.last.say({ ...snapshot([row("jane")], more), roomId: "room_1", id: joins().at(-1).id });
const comes = async () => media;
const fails = () => Promise.reject(new Error("404"));
const hangs = () => new Promise((resolve) => later(() => resolve(media)));

test("a module that does not come is told after 10 s, and the room is joined without it", async () => {
  const { made, room } = await entering([hangs]);
  const errors = [];
  assert.deepEqual([joins(), room.getSnapshot().error], [[], null]);
  await time.advance(5000);
  await Socket.last.say({ type: "pong", serverTime: 0, echo: 0 });
  await time.advance(5000);
  assert.deepEqual([joins().length, room.getSnapshot().error.code, warnings.length], [1, "LOAD", 1]);
  assert.match(warnings[0], /LOAD: Error: media\.js has not come within 10 s/);
  made.on("error", (error) => errors.push(error));
  await joined();
  assert.deepEqual([room.status, room.others[0].name, room.getSnapshot().error], ["live", "JANE", null]);
});

test("one that fails is told, and loaded again at the next call; then the room is joined again for its playback", async () => {
  const { room, imports } = await entering([fails, fails, comes]);
  const errors = [];
  room.on("error", ({ code, roomId }) => errors.push([code, roomId]));
  await until(() => joins().length === 1);
  await joined();
  assert.deepEqual([room.status, imports(), warnings.length], ["live", 1, 1]);
  const first = room.playback({ action: "play" });
  assert.deepEqual([(await first).code, imports(), errors.at(-1)], ["LOAD", 2, ["LOAD", "room_1"]]);
  const second = room.playback({ action: "play" });
  await until(() => joins().length === 2);
  assert.equal(imports(), 3);
  const playback = { version: 7, isPlaying: false, currentTime: 42, playbackRate: 1, anchor: performance.timeOrigin + performance.now() };
  await joined({ playback });
  assert.equal(room.position(), 42);
  const [{ id }] = Socket.last.of("playback");
  await Socket.last.say({ type: "ack", id, roomId: "room_1", version: 8, isPlaying: true, currentTime: 42, playbackRate: 1, anchor: playback.anchor });
  assert.deepEqual([(await second).success, room.getSnapshot().playback.version], [true, 8]);
});

test("a reconnect loads it again", async () => {
  const { room, imports } = await entering([fails, comes]);
  await until(() => joins().length === 1);
  await joined();
  await Socket.last.lose();
  await time.advance(1000);
  Socket.last.open();
  await until(() => joins().length === 1);
  await joined();
  assert.deepEqual([room.status, imports(), joins().length], ["live", 2, 1]);
});

for (const [what, end] of [
  ["a leave", ({ room }) => room.leave()],
  ["the end of the presence", ({ made }) => made.close()],
]) {
  test(`calls that wait for the module settle at ${what}`, async () => {
    const { made, room } = await entering([hangs], { type: "project" });
    await joined();
    const answers = Promise.all([
      room.follow("jane"), room.step(1), room.requestControl(), room.cancelRequest(), room.releaseControl(), room.setMedia({}),
      room.grantControl("jane"), room.denyControl("jane"), room.playback({ action: "play" }),
    ]);
    const detach = room.attach(new EventTarget());
    await settle();
    end({ made, room });
    detach();
    const later = await Promise.all([room.follow(true), room.step(1)]);
    const [isFollowing, ...others] = [...await answers, later[1]];
    assert.deepEqual([isFollowing, later[0], new Set(others.map(({ code }) => code))], [false, false, new Set(["NOT_IN_ROOM"])]);
    assert.deepEqual(warnings, []);
  });
}

test("calls settle after 10 s where the module does not come", async () => {
  const { room } = await entering([hangs], { type: "project" });
  await joined();
  const answers = Promise.all([room.follow("jane"), room.step(1), room.requestControl()]);
  await time.advance(10_000);
  assert.deepEqual((await answers).map((answer) => answer.code ?? answer), [false, "LOAD", "LOAD"]);
});
