import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { positionOf } from "../../koko_presence/web/sdk/playback-position.js";
import { correction } from "../../koko_presence/web/sdk/video.js";
import { Time, Video, event, finish, inside, page, row, settle } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

const serverNow = () => performance.timeOrigin + time.now;
const state = (more = {}) => ({ isPlaying: true, currentTime: 100, playbackRate: 1, anchor: serverNow(), version: 1, ...more });

/** A live room with a video in it; `drift` is own position minus room position. */
async function watching(playback = state(), room = {}, options = {}) {
  const there = await inside([row("jane")], { playback, ...room });
  const video = new Video(time);
  const detach = there.room.attach(video, options);
  await settle();
  const drift = () => video.currentTime - there.room.position();
  const command = (data, userId = "jane") => {
    const { playback: old } = there.room.getSnapshot();
    const full = { isPlaying: true, currentTime: there.room.position(), playbackRate: old?.playbackRate ?? 1, version: old.version + 1, ...data };
    return there.socket.say(event("playback_synced", userId, { action: "sync", syncEnabled: true, serverTime: serverNow(), ...full }));
  };
  const commands = () => there.socket.of("playback").filter(({ data }) => data.action !== "report").map(({ data }) => data);
  const reports = () => there.socket.of("playback").filter(({ data }) => data.action === "report").map(({ data }) => data);
  return { ...there, video, detach, drift, command, commands, reports };
}

test("where the room is [H4]: the worked example of docs/protocol.md, the pause, the end", () => {
  const playback = { isPlaying: true, currentTime: 45.5, playbackRate: 1.5, anchor: 1_736_937_005_000 };
  assert.equal(positionOf(playback, 1_736_937_005_000 + 3200), 50.3);
  assert.equal(positionOf({ ...playback, isPlaying: false }, 1e15), 45.5);
  assert.equal(positionOf({ ...playback, duration: 60 }, 1e15), 60);
  assert.equal(positionOf(playback, 0), 45.5, "a clock that is behind does not go back");
  assert.equal(positionOf(null, 5), 0);
});

for (const [drift, correcting, what] of [
  [0.079, false, 1], [-0.079, false, 1], [0.081, false, 0.95], [-0.081, false, 1.05], [0.5, false, 0.95], [-1.5, false, 1.1],
  [1.999, true, 0.9], [2.001, false, "seek"], [-2.001, true, "seek"], [0.05, true, 0.95], [-0.03, true, 1.05], [0.019, true, 1],
]) {
  test(`a drift of ${drift} s${correcting ? " that is being corrected" : ""}: ${what} [H8]`, () => assert.equal(correction(drift, correcting), what));
}

test("a late joiner lands on the right moment, and plays [H5]", async () => {
  const { video, drift } = await watching(state({ anchor: serverNow() - 30_000 }));
  await time.advance(300);
  assert.equal(video.paused, false);
  assert.ok(Math.abs(drift()) < 0.08, `${drift()}`);
  assert.ok(Math.abs(video.currentTime - 130.3) < 0.1);
});

test("a late joiner of a paused room lands on its frame, paused", async () => {
  const { video } = await watching(state({ isPlaying: false, currentTime: 42.5, anchor: serverNow() - 99_000 }));
  await time.advance(300);
  assert.deepEqual([video.paused, video.currentTime], [true, 42.5]);
});

test("0.5 s behind: faster by 5 % until it is gone, relative to the room's rate, without a seek", async () => {
  const { video, drift } = await watching(state({ playbackRate: 1.5 }));
  await time.advance(4000);
  const seeks = video.seeks.length;
  video.slip(0.5);
  await time.advance(300);
  assert.ok(Math.abs(video.playbackRate - 1.5 * 1.05) < 1e-9);
  await time.advance(8000);
  assert.equal(video.playbackRate, 1.5);
  assert.ok(Math.abs(drift()) <= 0.03, `${drift()}`);
  assert.equal(video.seeks.length, seeks);
});

test("0.5 s ahead: slower by 5 %", async () => {
  const { video, drift } = await watching();
  await time.advance(4000);
  video.slip(-0.5);
  await time.advance(300);
  assert.equal(video.playbackRate, 0.95);
  await time.advance(11_000);
  assert.deepEqual([video.playbackRate, Math.abs(drift()) <= 0.03], [1, true]);
});

test("3 s behind: one jump, with what a seek takes here subtracted, and nothing for 3 s after it", async () => {
  const { video, drift } = await watching();
  await time.advance(4000);
  video.seekMs = 400;
  const before = video.seeks.length;
  video.slip(3);
  await time.advance(300);
  assert.equal(video.seeks.length, before + 1);
  await time.advance(500);
  assert.ok(drift() < -0.3, "this seek was longer than any before");
  await time.advance(2000);
  assert.deepEqual([video.playbackRate, video.seeks.length], [1, before + 1], "left alone");
  await time.advance(10_000);
  video.slip(3);
  await time.advance(1000);
  assert.ok(Math.abs(drift()) < 0.2, `half of what the last one took is known: ${drift()}`);
});

test("nothing is corrected while it buffers; afterwards a long stall is jumped over", async () => {
  const { video, drift, reports } = await watching();
  await time.advance(4000);
  const seeks = video.seeks.length;
  video.stall(true);
  await time.advance(4000);
  assert.deepEqual([video.seeks.length, video.playbackRate], [seeks, 1]);
  assert.equal(reports().at(-1).buffering, true);
  video.stall(false);
  await time.advance(400);
  assert.deepEqual([video.seeks.length, reports().at(-1).buffering], [seeks + 1, false]);
  assert.ok(Math.abs(drift()) < 0.08, `${drift()}`);
});

test("nothing is corrected while the page is hidden; it is when it is seen again", async () => {
  const window = page();
  const { video, drift, socket } = await watching();
  const live = async (ms) => {
    for (let gone = 0; gone < ms; gone += 1000) {
      await time.advance(1000);
      await socket.say({ type: "pong" });
    }
  };
  await live(4000);
  const seeks = video.seeks.length;
  await window.hide();
  video.slip(5);
  await live(180_000);
  assert.equal(video.seeks.length, seeks);
  await window.hide(false);
  await live(1000);
  assert.ok(Math.abs(drift()) < 0.08, `${drift()}`);
});

test("commands of others: pause, play, a step of one second, another speed", async () => {
  const { video, drift, command, commands } = await watching();
  await time.advance(4000);
  await command({ isPlaying: false, currentTime: 50 });
  await time.advance(100);
  assert.deepEqual([video.paused, video.currentTime], [true, 50]);
  await command({ currentTime: 50 });
  await time.advance(4000);
  assert.equal(video.paused, false);
  const seeks = video.seeks.length;
  await command({ currentTime: video.currentTime + 1 });
  await time.advance(100);
  assert.equal(video.seeks.length, seeks + 1, "a step is a jump, not ten seconds of running after it");
  await command({ playbackRate: 2 });
  await time.advance(4000);
  assert.deepEqual([video.playbackRate, Math.abs(drift()) < 0.09], [2, true]);
  assert.deepEqual(commands(), [], "nothing of this is anybody's hand here");
});

test("the person's own hand becomes a command when they may", async () => {
  const { video, commands, room } = await watching();
  await time.advance(4000);
  video.pause();
  await time.advance(50);
  video.currentTime = 10;
  await time.advance(50);
  await video.play();
  await time.advance(50);
  video.playbackRate = 2;
  await time.advance(1000);
  assert.deepEqual(commands().map(({ action }) => action), ["pause", "seek", "play", "rate"]);
  assert.ok(Math.abs(commands()[0].currentTime - 104) < 0.2);
  assert.deepEqual([commands()[1].currentTime, commands()[3].playbackRate], [10, 2]);
  assert.deepEqual([video.paused, video.playbackRate, room.getSnapshot().following], [false, 2, true], "and is not undone meanwhile");
});

test("someone else has control: the hand wins, and the video follows nothing until asked", async () => {
  const { room, video, commands, reports } = await watching(state(), { controller: "jane", controllerSessionId: "jane-1" });
  const told = [];
  room.on("follow", ({ following, reason }) => told.push([following, reason]));
  await time.advance(4000);
  video.pause();
  await time.advance(5000);
  assert.deepEqual([video.paused, commands(), room.getSnapshot().following, reports().at(-1).follow], [true, [], false, false]);
  await room.follow(true);
  await time.advance(500);
  assert.deepEqual([video.paused, Math.abs(video.currentTime - room.position()) < 0.08], [false, true]);
  assert.deepEqual(told, [[false, "touch"], [true, "asked"]]);
});

test("... or it snaps back, if the page wants that", async () => {
  const { room, video } = await watching(state(), { controller: "jane", controllerSessionId: "jane-1" }, { whenNotAllowed: "snap" });
  await time.advance(4000);
  video.currentTime = 500;
  await time.advance(300);
  assert.ok(Math.abs(video.currentTime - room.position()) < 0.1, `${video.currentTime}`);
  video.pause();
  await time.advance(300);
  assert.deepEqual([video.paused, room.getSnapshot().following], [false, true]);
});

test("the refusal of a command snaps the video back [H1]", async () => {
  const { room, video, socket } = await watching();
  await time.advance(4000);
  video.currentTime = 500;
  await time.advance(300);
  assert.ok(video.currentTime > 499);
  const { id } = socket.of("playback").find(({ data }) => data.action === "seek");
  await socket.say({ type: "error", id, code: "NOT_CONTROLLER", message: "", roomId: "video_1", state: state({ currentTime: 104, version: 7 }) });
  await time.advance(300);
  assert.ok(Math.abs(video.currentTime - room.position()) < 0.1);
});

test("a browser that wants a click first is not asked again and again", async () => {
  const there = await inside([row("jane")], { playback: state() });
  const video = new Video(time);
  video.refuse = true;
  let blocked = 0;
  there.room.on("autoplay_blocked", () => blocked++);
  there.room.attach(video);
  await time.advance(3000);
  assert.equal(blocked, 1);
  video.refuse = false;
  await video.play(); // the user's click
  await time.advance(500);
  assert.deepEqual([video.paused, Math.abs(video.currentTime - there.room.position()) < 0.1], [false, true]);
  assert.deepEqual(there.socket.of("playback").filter(({ data }) => data.action !== "report"), [], "playing along is no command");
});

test("reports: once a second while it plays, every 5 s in a pause, at once on a change [H6]", async () => {
  const { command, socket, reports } = await watching();
  await time.advance(2000);
  socket.clear();
  await time.advance(10_000);
  assert.ok(reports().length >= 9 && reports().length <= 11, `${reports().length}`);
  assert.deepEqual(Object.keys(reports()[0]).sort(), ["action", "at", "buffering", "currentTime", "follow", "isPlaying", "playbackRate"]);
  await command({ isPlaying: false });
  await time.advance(300);
  assert.equal(reports().at(-1).isPlaying, false);
  socket.clear();
  await time.advance(20_000);
  assert.ok(reports().length >= 3 && reports().length <= 5, `${reports().length}`);
});

test("correct: false reports and corrects nothing", async () => {
  const { video, reports } = await watching(state(), {}, { correct: false });
  await time.advance(3000);
  assert.deepEqual([video.paused, video.seeks, reports().length > 0], [true, [], true]);
});

test("without synchronisation the video is the person's own", async () => {
  const { video } = await watching(state(), { syncEnabled: false });
  await time.advance(3000);
  assert.deepEqual([video.paused, video.seeks], [true, []]);
});

test("at the end of the film nothing is started again", async () => {
  const { video, commands } = await watching(state({ currentTime: 598 }));
  await time.advance(3000);
  video.ended = true;
  video.pause();
  await time.advance(20_000);
  assert.deepEqual([video.paused, commands()], [true, []]);
});

test("detached, the video is left alone, and has its own speed back", async () => {
  const { video, detach, command } = await watching();
  await time.advance(4000);
  video.slip(0.5);
  await time.advance(500);
  assert.equal(video.playbackRate, 1.05);
  detach();
  await settle();
  assert.equal(video.playbackRate, 1);
  await command({ isPlaying: false });
  await time.advance(1000);
  assert.equal(video.paused, false);
});
