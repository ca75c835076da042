import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Following } from "../../koko_presence/web/sdk/follow.js";
import { Time, Video, event, finish, inside, row, settle } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

const serverNow = () => performance.timeOrigin + time.now;
const head = (userId, currentTime, more = {}) =>
  event("broadcast", userId, { type: "koko:playhead", isPlaying: true, currentTime, playbackRate: 1, anchor: serverNow(), ...more });
const says = (userId, user) => event("broadcast", userId, { type: "koko:follow", user });
const said = (socket) => socket.of("broadcast").map(({ data, to }) => [data.type, data.user ?? data.currentTime, to]);

async function watching(users = [row("jane"), row("tom")], playback = { isPlaying: false, currentTime: 0, playbackRate: 1, anchor: serverNow(), version: 1 }) {
  const there = await inside(users, { playback });
  const video = new Video(time);
  there.room.attach(video);
  await time.advance(100);
  there.socket.clear();
  return { ...there, video };
}

test("following a person: the video goes where theirs is, and the room is not followed meanwhile", async () => {
  const { room, socket, video } = await watching();
  assert.equal(await room.follow("jane"), true);
  assert.deepEqual(said(socket), [["koko:follow", "jane", undefined]]);
  await socket.say(head("jane", 200));
  await time.advance(300);
  assert.ok(Math.abs(video.currentTime - 200.3) < 0.1, `${video.currentTime}`);
  assert.equal(video.paused, false);
  await socket.say(head("jane", 300, { isPlaying: false }));
  await time.advance(300);
  assert.deepEqual([video.paused, video.currentTime], [true, 300]);
  assert.equal(socket.of("playback").at(-1).data.follow, false);
  await socket.say(head("tom", 5));
  await time.advance(300);
  assert.equal(video.currentTime, 300, "someone else's playhead means nothing");
});

test("the page hears nothing of the SDK's own broadcasts, and all others", async () => {
  const { room, socket } = await watching();
  const heard = [];
  room.on("broadcast", ({ data }) => heard.push(data.type));
  await socket.say(says("jane", "tom"));
  await socket.say(head("jane", 1));
  await socket.say(event("broadcast", "jane", { type: "reaction" }));
  assert.deepEqual(heard, ["reaction"]);
});

test("who is followed tells the followers where they are, and nobody else", async () => {
  const { socket, video } = await watching();
  await time.advance(3000);
  assert.deepEqual(said(socket), []);
  await socket.say(says("jane", "me"));
  await time.advance(5100);
  assert.deepEqual(said(socket).map(([type, , to]) => [type, to]), [["koko:playhead", ["jane"]]]);
  socket.clear();
  video.currentTime = 77;
  await time.advance(100);
  assert.deepEqual(said(socket)[0], ["koko:playhead", 77, ["jane"]]);
  await socket.say(event("user_left", "jane", { sessionCount: 0 }));
  socket.clear();
  await time.advance(10_000);
  assert.deepEqual(said(socket), []);
});

test("a touch ends it: play, pause and seek by hand", async () => {
  for (const touch of [(video) => video.pause(), (video) => (video.currentTime = 7)]) {
    const { room, socket, video } = await watching();
    await room.follow("jane");
    await socket.say(head("jane", 200));
    await time.advance(1000);
    const told = [];
    room.on("follow", ({ following, reason }) => told.push([following, reason]));
    touch(video);
    await time.advance(100);
    assert.deepEqual([told, room.getSnapshot().following], [[[false, "touch"]], false]);
    assert.deepEqual(said(socket).at(-1), ["koko:follow", "", undefined]);
    assert.deepEqual(socket.of("playback").filter(({ data }) => data.action !== "report"), [], "and is no command for the room");
    await socket.say(head("jane", 400));
    await time.advance(1000);
    assert.ok(video.currentTime < 300);
    room.leave();
  }
});

test("the person leaves: it ends", async () => {
  const { room, socket } = await watching();
  await room.follow("jane");
  await socket.say(event("user_left", "jane", { sessionCount: 1 }));
  assert.equal(room.getSnapshot().following, "jane");
  await socket.say(event("user_left", "jane", { sessionCount: 0 }));
  assert.equal(room.getSnapshot().following, false);
});

test("nobody follows someone who is not here, or who follows them, directly or by others [N14]", async () => {
  const { room, socket } = await watching();
  assert.equal(await room.follow("nobody"), false);
  await socket.say(says("jane", "tom"));
  assert.equal(await room.follow("jane"), true);
  await room.follow(false);
  await socket.say(says("tom", "me"));
  assert.equal(await room.follow("jane"), false, "jane follows tom, who follows me");
  assert.equal(await room.follow("tom"), false);
  await socket.say(says("tom", ""));
  assert.equal(await room.follow("jane"), true);
});

test("who comes is told, and a new snapshot begins anew", async () => {
  const { room, socket } = await watching();
  await room.follow("jane");
  socket.clear();
  await socket.say(event("user_joined", "ann", { name: "Ann", color: "#1", sessionCount: 1, status: "active", activity: "active", index: 5 }));
  assert.deepEqual(said(socket), [["koko:follow", "jane", ["ann"]]]);
});

test("a playhead of nonsense moves nothing", async () => {
  const { room, socket, video } = await watching();
  await room.follow("jane");
  for (const bad of [{ currentTime: "x" }, { playbackRate: 0 }, { anchor: null }, { currentTime: null }]) await socket.say(head("jane", 50, bad));
  await time.advance(1000);
  assert.equal(video.currentTime, 0);
});

/** Users that receive each other's broadcasts, in any order. */
function crowd(names) {
  const wire = [];
  const people = new Map();
  for (const name of names) {
    let state = { self: { userId: name }, following: true, syncEnabled: true, playback: null };
    const follow = new Following({
      room: { others: names.filter((other) => other !== name).map((userId) => ({ userId })) },
      store: { get snapshot() { return state; }, patch: (fields) => (state = { ...state, ...fields }), hasOtherSessions: true },
      notify() {}, emit() {}, send: (type, data, to) => wire.push({ from: name, data, to: to ?? names }),
    });
    people.set(name, { follow, following: () => state.following });
  }
  const deliver = () => {
    for (let rounds = 0; wire.length; rounds++) {
      assert.ok(rounds < 1000, "it must come to rest");
      const { from, data, to } = wire.shift();
      for (const name of to) if (name !== from) people.get(name).follow.receive({ type: "broadcast", userId: from, data });
    }
  };
  return { people, deliver };
}

test("a circle that is begun from all sides at once is broken at one place, and comes to rest [N14]", () => {
  for (const names of [["a", "b"], ["a", "b", "c"], ["z", "m", "k", "b", "a"]]) {
    const { people, deliver } = crowd(names);
    names.forEach((name, i) => assert.equal(people.get(name).follow.start(names[(i + 1) % names.length]), true));
    deliver();
    const free = names.filter((name) => people.get(name).following() === false);
    assert.deepEqual(free, [[...names].sort().at(-1)]);
  }
});

test("with positions going round, two who tried to follow each other do not chase each other", async () => {
  const { people, deliver } = crowd(["a", "b"]);
  people.get("a").follow.start("b");
  people.get("b").follow.start("a");
  deliver();
  people.get("b").follow.lead({ isPlaying: true, currentTime: 10, playbackRate: 1, anchor: 1 });
  people.get("a").follow.lead({ isPlaying: true, currentTime: 90, playbackRate: 1, anchor: 1 });
  deliver();
  await settle();
  assert.equal(people.get("a").follow.timeline.currentTime, 10);
  assert.equal(people.get("b").follow.timeline, false, "b follows nobody: the circle is open");
});
