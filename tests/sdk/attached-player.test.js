/** A player in step with a room: by what the room does, by what its user does, and by what it does itself. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { FrameVideo, Socket, Time, Video, event, finish, inside, later, page, row, settle, snapshot } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

const serverNow = () => performance.timeOrigin + time.now;
const state = (more = {}) => ({ isPlaying: true, currentTime: 100, playbackRate: 1, anchor: serverNow(), version: 1, ...more });

/** A live room with a video in it; `drift` is own position minus room position. */
async function watching(playback = state(), room = {}, options = {}, video = new Video(time)) {
  const there = await inside([row("jane")], { playback, ...room });
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

test("3 s behind: one jump, with what a seek takes here added; the rest at once by the speed, without a second jump", async () => {
  const { video, drift } = await watching();
  await time.advance(4000);
  video.seekMs = 400;
  const before = video.seeks.length;
  video.slip(3);
  await time.advance(300);
  assert.equal(video.seeks.length, before + 1);
  await time.advance(1500);
  assert.deepEqual([video.playbackRate, video.seeks.length, Math.abs(drift()) < 0.1], [1, before + 1, true], `${drift()}`);
  await time.advance(10_000);
  video.slip(3);
  await time.advance(660);
  assert.ok(Math.abs(drift()) < 0.25, `half of what the last one took is known: ${drift()}`);
  await time.advance(3000);
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

test("a command that comes while the player waits for data is met by a seek, however soon after the last one", async () => {
  const { video, drift, command } = await watching();
  await time.advance(4000);
  await command({ action: "seek", currentTime: 300 });
  await time.advance(300);
  video.stall(true);
  await time.advance(100);
  await command({ action: "seek", currentTime: 302 });
  await time.advance(1000);
  const seeks = video.seeks.length;
  video.stall(false);
  await time.advance(400);
  assert.equal(video.seeks.length, seeks + 1);
  assert.ok(Math.abs(drift()) < 0.1, `${drift()}`);
});

test("a hidden page rests from fine corrections, and follows all the same [H23]", async () => {
  const window = page();
  const { video, drift, socket, command } = await watching();
  const live = async (ms) => {
    for (let gone = 0; gone < ms; gone += 1000) {
      await time.advance(1000);
      await socket.say({ type: "pong" });
    }
  };
  await live(4000);
  const seeks = video.seeks.length;
  await window.hide();
  video.slip(0.3);
  await live(60_000);
  assert.deepEqual([video.seeks.length, video.playbackRate, Math.round(drift() * 10)], [seeks, 1, -3]);
  video.slip(5);
  await live(1000);
  assert.ok(Math.abs(drift()) < 0.08, `${drift()}`);
  await command({ currentTime: 300 });
  await time.advance(100);
  assert.ok(Math.abs(video.currentTime - 300) < 0.2, "a seek of the room");
  await command({ isPlaying: false, currentTime: 300 });
  await time.advance(100);
  assert.equal(video.paused, true);
  await window.hide(false);
  await live(1000);
  assert.equal(video.currentTime, 300);
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
  assert.deepEqual(Object.keys(reports()[0]).sort(), ["action", "at", "buffering", "currentTime", "follow", "isPlaying", "maxAgeMs", "playbackRate"]);
  await command({ isPlaying: false });
  await time.advance(300);
  assert.equal(reports().at(-1).isPlaying, false);
  socket.clear();
  await time.advance(20_000);
  assert.ok(reports().length >= 3 && reports().length <= 5, `${reports().length}`);
});

test("correct: false reports, and neither corrects nor commands", async () => {
  const { room, video, reports, commands } = await watching(state(), {}, { correct: false });
  await time.advance(3000);
  assert.deepEqual([video.paused, video.seeks, reports().length > 0], [true, [], true]);
  await video.play();
  video.currentTime = 30;
  await time.advance(1000);
  assert.deepEqual([commands(), reports().at(-1).isPlaying, room.getSnapshot().following], [[], true, true]);
});

test("without synchronisation the video is the person's own", async () => {
  const { video } = await watching(state(), { syncEnabled: false });
  await time.advance(3000);
  assert.deepEqual([video.paused, video.seeks], [true, []]);
});

test("at the end of the film nothing is started again, and its pause is no command [H20]", async () => {
  const { room, video, commands, reports } = await watching(state({ currentTime: 598 }));
  await time.advance(1900);
  video.end();
  await time.advance(20_000);
  assert.deepEqual([video.paused, video.ended, commands(), room.getSnapshot().following], [true, true, [], true]);
  assert.deepEqual([reports().at(-1).isPlaying, reports().at(-1).currentTime], [false, 600]);
  await video.play();
  video.currentTime = 0; // as a browser does for a play at the end
  await time.advance(100);
  const { at, maxAgeMs, ...command } = commands()[0];
  assert.deepEqual([commands().length, command], [1, { action: "sync", isPlaying: true, currentTime: 0, playbackRate: 1, duration: 600 }]);
});

test("a command of the page's own buttons says how long the attached film is, so that the room ends there [H20]", async () => {
  const { room, commands } = await watching(state({ isPlaying: false }));
  await time.advance(3000);
  const acts = [
    { action: "play" }, { action: "seek", currentTime: 30 }, { action: "rate", playbackRate: 2 }, { action: "pause" },
    { action: "sync", isPlaying: true, currentTime: 5, playbackRate: 1 }, { action: "play", duration: 90 }, { action: "enable" },
  ];
  for (const command of acts) {
    room.playback(command);
    await time.advance(300);
  }
  assert.deepEqual(commands().map(({ duration }) => duration), [600, 600, 600, 600, 600, 90, undefined]);
  assert.ok(commands().every(({ target }) => target === undefined));
});

test("of several players the one that is meant says how long its film is, none that shows another film than the room", async () => {
  const media = { main: { mediaId: "a" }, right: { mediaId: "b" } };
  const there = await inside([row("jane")], { playback: state(), media, type: "comparison" });
  const attach = (duration, options) => there.room.attach(Object.assign(new Video(time), { duration }), options);
  attach(60, { target: "right", mediaId: "b" });
  const left = attach(50, { mediaId: "a" });
  await time.advance(1000);
  const told = async (command) => {
    there.socket.clear();
    there.room.playback(command);
    await time.advance(300);
    const { target, mediaId, duration } = there.socket.of("playback").find(({ data }) => data.action === command.action).data;
    return [target, mediaId, duration];
  };
  assert.deepEqual(await told({ action: "play" }), [undefined, "a", 50]);
  assert.deepEqual(await told({ action: "play", target: "right" }), ["right", "b", 60]);
  assert.deepEqual(await told({ action: "play", target: "right", mediaId: "older" }), ["right", "older", undefined]);
  assert.deepEqual(await told({ action: "play", target: "up" }), ["up", undefined, undefined]);
  left.setMediaId("x");
  await time.advance(300);
  assert.deepEqual(await told({ action: "pause" }), [undefined, "a", undefined]);
  left();
  await time.advance(300);
  assert.deepEqual(await told({ action: "play" }), ["right", "b", 60]);
});

test("a late joiner after the end stands at the end", async () => {
  const { video } = await watching(state({ anchor: serverNow() - 700_000 }));
  await time.advance(3000);
  assert.deepEqual([video.paused, video.currentTime, video.seeks], [true, 600, [600]]);
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

// --- the user's actions, and the player's own doing [H23] ------------------------------------------------------------------

test("all that is done in one turn is one command, and it is not undone: a jump to a comment", async () => {
  const { video, commands, room } = await watching(state({ isPlaying: false, currentTime: 5 }));
  await time.advance(1000);
  video.currentTime = 12;
  await video.play();
  await time.advance(3000);
  const [{ at, maxAgeMs, ...command }, ...more] = commands();
  assert.deepEqual([command, more], [{ action: "sync", isPlaying: true, currentTime: 12, playbackRate: 1, duration: 600 }, []]);
  assert.deepEqual([video.paused, room.getSnapshot().playback.isPlaying, video.seeks.filter((to) => to === 12).length], [false, true, 1]);
});

test("... and so is a play before the seek", async () => {
  const { video, commands } = await watching(state({ isPlaying: false, currentTime: 5 }));
  await time.advance(1000);
  await video.play();
  video.currentTime = 12;
  await time.advance(3000);
  assert.deepEqual(commands().map(({ action, currentTime }) => [action, currentTime]), [["sync", 12]]);
});

test("a pause of the user whose event comes after the next tick is a command, and not undone by the tick", async () => {
  const { video, commands } = await watching();
  await time.advance(4000);
  video.dispatchEvent = () => {}; // its events are due
  video.pause();
  await time.advance(1000);
  delete video.dispatchEvent;
  video.fire("pause");
  await time.advance(1000);
  assert.deepEqual([commands().map(({ action }) => action), video.paused], [["pause"], true]);
});

test("own calls are swallowed, whatever the room does in between", async () => {
  const { video, command, commands } = await watching();
  await time.advance(4000);
  for (let i = 0; i < 5; i++) {
    command({ isPlaying: i % 2 === 1, currentTime: 10 + i * 7 });
    command({ isPlaying: i % 2 === 0, currentTime: 20 + i * 7, playbackRate: 1 + i / 4 });
    await time.advance(20);
  }
  await time.advance(3000);
  assert.deepEqual([commands(), video.paused], [[], false]);
});

test("a script of the page that reverses each pause is not commanded for ever: it follows, and says so", async () => {
  const { room, video, command, commands, socket } = await watching();
  const told = [];
  room.on("follow", ({ following, reason }) => told.push([following, reason]));
  await time.advance(4000);
  video.addEventListener("pause", () => video.play());
  let version = 1;
  const answered = new Set();
  for (let i = 0; i < 40; i++) {
    await command({ isPlaying: false, currentTime: 50, version: ++version });
    await time.advance(25);
    for (const { id, data } of socket.of("playback").filter((sent) => sent.data.action !== "report" && !answered.has(sent.id))) {
      answered.add(id);
      await socket.say({ type: "ack", id, success: true, ...state({ isPlaying: data.action === "play", currentTime: 50, version: ++version }) });
    }
  }
  assert.ok(commands().length <= 3, `${commands().length} commands`);
  assert.deepEqual(told, [[true, "reversals"]]);
  const sent = socket.sent.length;
  await time.advance(3000);
  assert.ok(socket.sent.length - sent < 40, "and it comes to rest");
});

test("a start that the browser refused joins the room where that is, whatever happened meanwhile", async () => {
  const there = await inside([row("jane")], { playback: state() });
  const video = new Video(time);
  video.refuse = true;
  const blocked = [];
  there.room.on("autoplay_blocked", (each) => blocked.push(each.video));
  there.room.attach(video);
  await time.advance(1000);
  const say = (data) => there.socket.say(event("playback_synced", "jane", { action: "sync", syncEnabled: true, playbackRate: 1, serverTime: serverNow(), ...data }));
  await say({ isPlaying: false, currentTime: 120, version: 2 });
  await time.advance(1000);
  await say({ isPlaying: true, currentTime: 120, version: 3 });
  await time.advance(4000);
  assert.deepEqual([blocked.every((each) => each === video), blocked.length, there.room.getSnapshot().isBlocked], [true, 1, true]);
  video.refuse = false;
  await video.play();
  await time.advance(500);
  assert.ok(Math.abs(video.currentTime - there.room.position()) < 0.1);
  assert.deepEqual([there.room.getSnapshot().isBlocked, there.socket.of("playback").filter(({ data }) => data.action !== "report")], [false, []]);
});

test("any interaction with the page retries a start that was refused, and so does Resync", async () => {
  for (const retry of ["click", "resync"]) {
    const window = page();
    const { room, video } = await watching(state(), {}, {}, Object.assign(new Video(time), { refuse: true }));
    await time.advance(1000);
    assert.equal(room.getSnapshot().isBlocked, true);
    video.refuse = false;
    if (retry === "click") await window.fire("keydown");
    else await room.follow(true);
    await time.advance(500);
    assert.deepEqual([video.paused, room.getSnapshot().isBlocked, Math.abs(video.currentTime - room.position()) < 0.1], [false, false, true]);
    room.leave();
  }
});

test("autoplay of a newcomer does not start a paused room; a script before any interaction neither", async () => {
  const { video, commands } = await watching(state({ isPlaying: false, currentTime: 30 }), {}, {}, Object.assign(new Video(time), { autoplay: true }));
  await video.play();
  await time.advance(1000);
  assert.deepEqual([commands(), video.paused, video.currentTime], [[], true, 30]);

  Object.defineProperty(globalThis, "navigator", { value: { userActivation: { hasBeenActive: false } }, configurable: true });
  later(() => delete globalThis.navigator);
  const other = await watching(state({ isPlaying: false, currentTime: 30 }));
  await other.video.play();
  await time.advance(1000);
  assert.deepEqual([other.commands(), other.video.paused], [[], true]);
});

test("buffering ends with the pause, and with the data", async () => {
  const { video, reports, room } = await watching(state(), {}, {}, new FrameVideo(time));
  await time.advance(4000);
  video.readyState = 2;
  video.stall(true);
  await time.advance(1000);
  assert.equal(reports().at(-1).buffering, true);
  video.pause();
  await time.advance(100);
  assert.deepEqual([reports().at(-1).buffering, reports().at(-1).isPlaying], [false, false]);
  video.readyState = 4;
  video.stall(false);
  room.playback({ action: "play" });
  await time.advance(1000);
  assert.equal(reports().at(-1).buffering, false);
});

test("the wait of a seek is not reported as buffering", async () => {
  const { video, reports, command } = await watching();
  await time.advance(4000);
  await command({ currentTime: 300 });
  video.fire("waiting");
  await time.advance(60);
  video.fire("playing");
  await time.advance(1000);
  assert.equal(reports().some(({ buffering }) => buffering), false);
});

test("what a browser does while another film is loaded is no command; then it is in step again", async () => {
  const { video, commands, drift, room } = await watching(state({ playbackRate: 1.5 }));
  await time.advance(4000);
  video.load();
  await time.advance(50);
  assert.equal(video.playbackRate, 1);
  await time.advance(3000);
  assert.deepEqual([commands(), video.paused, video.playbackRate, room.getSnapshot().following], [[], false, 1.5, true]);
  assert.ok(Math.abs(drift()) < 0.08, `${drift()}`);
});

test("a media key while the page is hidden pauses for all; the browser's own pause of a page that is being hidden does not", async () => {
  const window = page();
  const { video, commands, room } = await watching();
  await time.advance(4000);
  await window.hide();
  video.pause();
  await time.advance(2000);
  assert.deepEqual([commands(), video.paused], [[], true], "not fought against, either");
  await window.hide(false);
  await Socket.last.say({ type: "pong" });
  await time.advance(1000);
  assert.deepEqual([video.paused, Math.abs(video.currentTime - room.position()) < 0.1], [false, true]);
  await window.hide();
  await time.advance(5000);
  video.pause();
  await time.advance(2000);
  assert.deepEqual([commands().map(({ action }) => action), video.paused], [["pause"], true]);
});

test("a small jump of the player is drift; the same while paused is a step of the user", async () => {
  const { video, commands, command, room } = await watching(state(), { controller: "me", controllerSessionId: "s0" });
  await time.advance(4000);
  video.currentTime += 0.2;
  await time.advance(2000);
  assert.deepEqual([commands(), room.getSnapshot().following], [[], true]);
  await command({ isPlaying: false, currentTime: 50 });
  await time.advance(500);
  video.currentTime = 50.04;
  await time.advance(500);
  assert.deepEqual(commands().map(({ action, currentTime }) => [action, currentTime]), [["seek", 50.04]]);
});

test("a film that loops is refused in words, and does not end the following", async () => {
  const there = await inside([row("jane")], { playback: state() });
  const errors = [];
  there.room.on("error", ({ code }) => errors.push(code));
  const video = Object.assign(new Video(time), { loop: true });
  const detach = there.room.attach(video);
  await time.advance(1000);
  assert.deepEqual([errors, video.loop, there.room.getSnapshot().following], [["LOOP"], false, true]);
  detach();
  await settle();
  assert.equal(video.loop, true, "as it was before");
});

test("a player whose loop cannot be switched off is refused in words once; its begin after its end is no command", async () => {
  for (const options of [{}, { correct: false }]) {
    const { room, socket } = await inside([row("jane")], { playback: state({ currentTime: 590 }) });
    const errors = [];
    room.on("error", ({ code }) => errors.push(code));
    const video = new Video(time);
    await video.play();
    video.currentTime = 590;
    await time.advance(100);
    const player = foreignPlayer(video, { lateMs: 0 });
    const { getState } = player;
    room.attach({ ...player, getState: () => ({ ...getState(), loop: true }) }, options);
    await time.advance(9500);
    video.currentTime = 0;
    await time.advance(3000);
    assert.deepEqual(errors, options.correct === false ? [] : ["LOOP"]);
    assert.deepEqual(socket.of("playback").filter(({ data }) => data.action !== "report"), []);
    if (options.correct !== false) assert.deepEqual([video.paused, video.currentTime], [true, 600], "it stands at the end, as the room does");
    room.leave();
    await settle();
  }
});

test("a live stream is refused in words, and left alone", async () => {
  const { room, video, commands } = await watching(state(), {}, {}, Object.assign(new Video(time), { duration: Infinity }));
  const errors = [];
  room.on("error", ({ code }) => errors.push(code));
  await time.advance(1000);
  video.currentTime = 7;
  await video.play();
  await time.advance(1000);
  assert.deepEqual([video.paused, video.seeks, commands(), room.getSnapshot().following], [false, [7], [], true]);
});

test("... also one whose duration only grows, or becomes infinite later; then its film has an end, and is in step", async () => {
  const { room, video, commands } = await watching(null, {}, {}, Object.assign(new Video(time), { duration: 30 }));
  const errors = [];
  room.on("error", ({ code }) => errors.push(code));
  video.currentTime = 12; // three pieces of 6 s behind the end
  await time.advance(300);
  await video.play();
  for (let i = 0; i < 3; i++) {
    await time.advance(6000);
    video.duration += 6;
    video.fire("durationchange");
  }
  const sent = commands().length;
  video.currentTime = 33;
  await time.advance(7000);
  assert.deepEqual([errors, commands().length, video.paused, video.currentTime > 39], [["LIVE"], sent, false, true]);

  const other = await watching(state());
  other.room.on("error", ({ code }) => errors.push(code));
  await time.advance(4000);
  other.video.duration = Infinity;
  other.video.fire("durationchange");
  other.video.currentTime = 7;
  await time.advance(1000);
  assert.deepEqual([errors, other.commands(), other.video.seeks.at(-1)], [["LIVE", "LIVE"], [], 7]);
  other.video.duration = 600;
  other.video.fire("durationchange");
  await time.advance(1000);
  assert.ok(Math.abs(other.drift()) < 0.1, `${other.drift()}`);
});

test("a live stream is reported once, as one that does not follow, and again to another session", async () => {
  const { video, reports, socket } = await watching(state(), {}, {}, Object.assign(new Video(time), { duration: Infinity }));
  video.currentTime = 4000;
  await time.advance(1000);
  await video.play();
  video.stall(true);
  await time.advance(20_000);
  assert.deepEqual(reports().map(({ follow, buffering }) => [follow, buffering]), [[false, false]]);
  await socket.lose();
  await time.advance(3000);
  Socket.last.open({ sessionId: "s1" });
  await settle();
  await Socket.last.say({ ...snapshot([row("jane")], { playback: state() }), sessionId: "s1", id: Socket.last.of("join")[0].id });
  await time.advance(1000);
  const again = Socket.last.of("playback").filter(({ data }) => data.action === "report").map(({ data }) => data.follow);
  assert.deepEqual(again, [false]);
});

test("a live stream beside a film: the film is reported", async () => {
  const { room, reports, socket } = await watching(state(), { type: "comparison" }, {}, Object.assign(new FrameVideo(time), { duration: Infinity }));
  await time.advance(2000);
  socket.clear();
  room.attach(new FrameVideo(time), { target: "right" });
  await time.advance(5000);
  assert.ok(reports().length > 3 && reports().every(({ target, follow }) => target === "right" && follow), JSON.stringify(reports()));
});

test("rates at the ends of the browser's range are corrected within it; a small change of the user is a command", async () => {
  for (const playbackRate of [0.0625, 16]) {
    const { room, video, drift } = await watching(state({ playbackRate }));
    await time.advance(4000);
    video.slip(playbackRate > 1 ? 0.5 : -0.5);
    await time.advance(1000);
    assert.ok(video.playbackRate >= 0.0625 && video.playbackRate <= 16, `${video.playbackRate}`);
    room.leave();
    await settle();
  }
  const { video, commands } = await watching();
  await time.advance(4000);
  video.playbackRate = 1.05;
  await time.advance(1000);
  assert.deepEqual(commands().map(({ action, playbackRate }) => [action, playbackRate]), [["rate", 1.05]]);
  assert.equal(video.playbackRate, 1.05);
});

test("a speed that is none is refused, and the player has the room's again", async () => {
  const { room, video, commands } = await watching();
  const errors = [];
  room.on("error", ({ code }) => errors.push(code));
  await time.advance(4000);
  video.playbackRate = 0;
  await time.advance(500);
  assert.deepEqual([commands(), errors, video.playbackRate], [[], ["INVALID_DATA"], 1]);
});

test("alone in the room the own player is reported", async () => {
  const { room, socket } = await inside([], { playback: state() });
  room.attach(new Video(time));
  await time.advance(3000);
  assert.ok(socket.of("playback").length > 0);
});

test("an element that was taken out of the page is not started again behind its back", async () => {
  const { video, commands } = await watching();
  await time.advance(4000);
  video.isConnected = false;
  video.pause();
  await time.advance(3000);
  assert.deepEqual([commands(), video.paused], [[], true]);
  video.isConnected = true;
  await time.advance(1000);
  assert.equal(video.paused, false, "it is in the page again");
});

test("while the room waits for this player, it buffers until it has data to play, although it is paused [H9]", async () => {
  const { video, command, reports } = await watching(state(), {}, {}, new FrameVideo(time));
  await time.advance(4000);
  video.readyState = 2;
  video.stall(true);
  await time.advance(500);
  assert.equal(reports().at(-1).buffering, true);
  await command({ action: "wait", isPlaying: false, waitingFor: ["me"] });
  await time.advance(2000);
  assert.deepEqual([reports().at(-1).buffering, video.paused], [true, true]);
  video.readyState = 4;
  video.stalled = false;
  video.fire("canplay");
  await time.advance(100);
  assert.equal(reports().at(-1).buffering, false);
});

// --- to the frame [H21, H22] -----------------------------------------------------------------------------------------------

const MEDIA = { main: { mediaId: "film", frameRate: 25 } };

test("while it plays it is judged by the shown frames, and corrected to within half a frame", async () => {
  for (const fps of [24, 25, 50, 60]) {
    const { room, video, drift } = await watching(state(), {}, {}, new FrameVideo(time, fps));
    await time.advance(4000);
    for (const slip of [0.06, -0.05, 0.35]) {
      video.slip(slip);
      await time.advance(9000);
      // a frame is shown at a refresh of the screen, up to 1/60 s after its time
      assert.ok(Math.abs(drift() - 0.5 / 60) < 0.5 / 60 + 0.008, `${drift()} at ${fps}`);
    }
    room.leave();
    await settle();
  }
});

test("a late start is made up for at once, without a seek", async () => {
  const { video, drift, command } = await watching(state({ isPlaying: false, currentTime: 50 }), {}, {}, new FrameVideo(time, 60));
  await time.advance(2000);
  const seeks = video.seeks.length;
  await command({ currentTime: 50, isPlaying: true });
  video.stall(true);
  await time.advance(400);
  video.stall(false);
  await time.advance(1500);
  assert.deepEqual([video.seeks.length, Math.abs(drift()) < 0.008], [seeks, true], `${drift()}`);
});

test("paused with a known frame rate: the middle of the frame that was shown, and all stand on it", async () => {
  const { video, commands } = await watching(state(), { media: MEDIA }, {}, new FrameVideo(time));
  await time.advance(4003);
  const { shown } = video;
  video.pause();
  await time.advance(300);
  assert.ok(Math.abs(commands()[0].currentTime - (shown + 0.5) / 25) < 1e-9);
  assert.deepEqual([video.shown, commands()[0].mediaId, video.paused], [shown, "film", true]);
});

test("paused without one: the shown frame's time and 1 ms; a follower that shows another frame seeks there", async () => {
  const { video, commands } = await watching(state(), {}, {}, new FrameVideo(time));
  await time.advance(4003);
  const { shown } = video;
  video.pause();
  await time.advance(300);
  assert.ok(Math.abs(commands()[0].currentTime - (shown / 25 + 0.001)) < 1e-9);

  const follower = await watching(state(), {}, {}, new FrameVideo(time));
  await time.advance(4003);
  await follower.command({ isPlaying: false, currentTime: 51 / 25 + 0.001 });
  await time.advance(300);
  assert.deepEqual([follower.video.shown, follower.video.paused], [51, true]);
});

test("a pause by a button of the page means the shown frame, too", async () => {
  const { room, video, commands } = await watching(state(), { media: MEDIA }, {}, new FrameVideo(time));
  await time.advance(4003);
  const { shown } = video;
  room.playback({ action: "pause" });
  await time.advance(300);
  assert.ok(Math.abs(commands()[0].currentTime - (shown + 0.5) / 25) < 1e-9);
});

test("a seek that lands beside is repeated once, and not for ever", async () => {
  const { video, command } = await watching(state({ isPlaying: false, currentTime: 10.02 }), { media: MEDIA }, {}, new FrameVideo(time));
  await time.advance(1000);
  const { frameOf } = video;
  let wrong = 1;
  video.frameOf = (seconds) => frameOf(seconds) - (wrong-- > 0 ? 1 : 0);
  video.seeks = [];
  await command({ isPlaying: false, currentTime: 20.02 });
  await time.advance(500);
  assert.deepEqual([video.seeks, video.shown], [[20.02, 20.0205], 500]);
  video.frameOf = (seconds) => frameOf(seconds) - 1;
  video.seeks = [];
  await command({ isPlaying: false, currentTime: 30.02 });
  await time.advance(5000);
  assert.deepEqual(video.seeks, [30.02, 30.0205]);
});

test("a seek of the user to a frame is not repeated to its middle", async () => {
  const { video, commands } = await watching(state({ isPlaying: false, currentTime: 10.02 }), { media: MEDIA }, {}, new FrameVideo(time));
  await time.advance(1000);
  Object.assign(video, { seeks: [], seekMs: 400 });
  video.currentTime = 20.001;
  await time.advance(2000);
  assert.deepEqual([video.seeks, video.shown, commands().length], [[20.001], 500, 1]);
});

test("a browser that does not tell which frame stands after a pause is brought to it by one seek", async () => {
  for (const [room, tellsSeeks] of [[{}, false], [{}, true], [{ media: MEDIA }, false], [{ media: MEDIA }, true]]) {
    const kind = { tellsSeeks, showsOneMore: true };
    const video = Object.assign(new FrameVideo(time), kind);
    const { commands } = await watching(state(), room, {}, video);
    await time.advance(4003);
    const { shown } = video;
    video.seeks = [];
    video.pause();
    await time.advance(1000);
    assert.deepEqual([video.shown, video.seeks, Math.floor(commands()[0].currentTime * 25)], [shown, [commands()[0].currentTime], shown]);

    const follower = await watching(state(), room, {}, Object.assign(new FrameVideo(time), kind));
    await time.advance(4003);
    for (let round = 1; round < 4; round++) {
      await time.advance(1000);
      follower.video.seeks = [];
      const frame = follower.video.shown;
      await follower.command({ isPlaying: false, currentTime: frame / 25 + 0.001 });
      await time.advance(1000);
      assert.deepEqual([follower.video.shown, follower.video.seeks.length], [frame, 1]);
      await follower.command({ isPlaying: true, currentTime: frame / 25 });
      await time.advance(50);
    }
  }
});

test("... and steps from there", async () => {
  const { room, video } = await watching(state(), {}, {}, Object.assign(new FrameVideo(time), { tellsSeeks: true, showsOneMore: true }));
  await time.advance(4003);
  const { shown } = video;
  video.pause();
  await time.advance(1000);
  for (const frames of [1, 5, -2]) {
    room.step(frames);
    await time.advance(500);
  }
  assert.equal(video.shown, shown + 4);
});

test("a seek of the user is a command also where the browser leaves out the event of the own seek before it", async () => {
  const video = Object.assign(new FrameVideo(time), { seekMs: 400 });
  const { command, commands } = await watching(state({ isPlaying: false, currentTime: 10.02 }), { media: MEDIA }, {}, video);
  await time.advance(2000);
  const fire = video.fire.bind(video);
  let left = 1;
  video.fire = (type) => type === "seeking" && left-- > 0 ? undefined : fire(type);
  await command({ isPlaying: false, currentTime: 20.02 });
  await time.advance(100);
  video.currentTime = 30.02;
  await time.advance(2000);
  assert.deepEqual([commands().map(({ action, currentTime }) => [action, currentTime]), video.shown], [[["seek", 30.02]], 750]);
});

test("steps by frames: by the room's rate, or by the shown frames where it has none", async () => {
  const { room, video, commands } = await watching(state({ isPlaying: false, currentTime: 10.02 }), { media: MEDIA }, {}, new FrameVideo(time));
  await time.advance(1000);
  room.step(3);
  await time.advance(300);
  assert.deepEqual([commands()[0].action, commands()[0].frames, video.shown], ["step", 3, 253]);

  const unknown = await watching(state(), {}, {}, new FrameVideo(time));
  await time.advance(4003);
  unknown.video.pause();
  await time.advance(300);
  const { shown } = unknown.video;
  for (const frames of [1, 1, -3]) unknown.room.step(frames);
  await time.advance(600);
  assert.equal(unknown.video.shown, shown - 1);
});

test("the time that a seek takes is measured for each player", async () => {
  const video = Object.assign(new FrameVideo(time), { seekMs: 300 });
  const { drift, command } = await watching(state(), {}, {}, video);
  for (let i = 0; i < 5; i++) {
    await command({ currentTime: 100 + i * 20 });
    await time.advance(5000);
  }
  const seekedTo = video.seeks.at(-1);
  assert.ok(Math.abs(seekedTo - 180 - 0.3) < 0.05, `${seekedTo}`);
  assert.ok(Math.abs(drift()) < 0.02);
});

// --- targets [H17, H19] ----------------------------------------------------------------------------------------------------

test("two films of one room have one playhead, each at its offset", async () => {
  const media = { main: { mediaId: "a", frameRate: 25 }, right: { mediaId: "b", frameRate: "30000/1001", offset: 2.4 } };
  const { room, video, socket, commands, command } = await watching(state(), { media, type: "comparison" }, {}, new FrameVideo(time));
  const right = new FrameVideo(time, 30_000 / 1001);
  room.attach(right, { target: "right", mediaId: "b" });
  await time.advance(5000);
  assert.ok(Math.abs(video.currentTime - room.position()) < 0.02);
  assert.ok(Math.abs(right.currentTime - room.position() - 2.4) < 0.02);
  right.pause();
  await time.advance(300);
  const [pause, ...more] = commands();
  assert.deepEqual([more, pause.target, pause.mediaId, video.paused, right.paused], [[], "right", "b", true, true]);
  assert.ok(Math.abs(pause.currentTime + 2.4 - (right.shown + 0.5) / right.fps) < 1e-6, "the middle of the frame on the right");
  const [{ id }] = socket.of("playback").filter(({ data }) => data.action === "pause");
  await socket.say({ type: "ack", id, success: true, ...room.getSnapshot().playback, version: 2 });
  await command({ isPlaying: false, currentTime: 20.02 });
  await time.advance(300);
  assert.deepEqual([video.shown, right.shown], [500, Math.floor((22.42 * 30_000) / 1001)]);
  assert.deepEqual(room.getSnapshot().shownMedia, { right: "b" });
});

test("of two films the one that is farthest from the room is reported: another film, no data, a drift, else the main one", async () => {
  const media = { main: { mediaId: "a" }, right: { mediaId: "b", offset: 2.4 } };
  const { room, video, reports, socket } = await watching(state(), { media, type: "comparison" }, { mediaId: "a" }, new FrameVideo(time));
  const right = new FrameVideo(time);
  const attachment = room.attach(right, { target: "right", mediaId: "b" });
  await time.advance(5000);
  const last = () => {
    const { target = "main", mediaId, buffering, currentTime, at } = reports().at(-1);
    return [target, mediaId, buffering, Math.round(currentTime - room.position(at)) || 0];
  };
  assert.deepEqual(last(), ["main", "a", false, 0]);
  const sent = reports().length;
  await time.advance(10_000);
  assert.ok(reports().length - sent < 13, `${reports().length - sent} reports in 10 s`);

  right.readyState = 2;
  right.stall(true);
  await time.advance(1000);
  assert.deepEqual(last().slice(0, 3), ["right", "b", true]);
  right.readyState = 4;
  right.stall(false);
  await time.advance(4000);
  assert.deepEqual(last(), ["main", "a", false, 0]);

  right.slip(0.7);
  await time.advance(250);
  assert.deepEqual(last(), ["right", "b", false, -1]);
  await socket.say({ type: "pong" });
  await time.advance(15_000);
  assert.deepEqual(last(), ["main", "a", false, 0]);

  await socket.say({ type: "pong" });
  video.readyState = 2;
  video.stall(true);
  attachment.setMediaId("x");
  await time.advance(3000);
  assert.deepEqual(last().slice(0, 2), ["right", "x"]);
  attachment();
  await time.advance(300);
  assert.deepEqual(last().slice(0, 3), ["main", "a", true]);
});

test("a player that shows another film neither follows nor commands, until the room or the player has the same", async () => {
  const { room, video, commands, reports, socket } = await watching(state(), { media: { main: { mediaId: "cut 2" } } }, { mediaId: "cut 1" });
  await time.advance(2000);
  video.currentTime = 7;
  await video.play();
  await time.advance(1000);
  assert.deepEqual([commands(), video.seeks, reports().at(-1).mediaId, room.getSnapshot().following], [[], [7], "cut 1", true]);
  await socket.say(event("media_changed", "jane", { target: "main", medium: { mediaId: "cut 1" }, playback: state({ isPlaying: false, currentTime: 40, version: 9 }) }));
  await time.advance(500);
  assert.deepEqual([video.paused, video.currentTime, room.getSnapshot().playback.version], [true, 40, 9]);
});

test("a device that shows the film late plays ahead of the room, and reports what is seen", async () => {
  const there = await inside([row("jane")], { playback: state() });
  const video = new FrameVideo(time);
  const attachment = there.room.attach(video, { outputOffset: 0.2 });
  await time.advance(6000);
  const ahead = () => video.currentTime - there.room.position();
  assert.ok(Math.abs(ahead() - 0.2) < 0.02, `${ahead()}`);
  const report = there.socket.of("playback").at(-1).data;
  assert.ok(Math.abs(report.currentTime - there.room.position(report.at)) < 0.03);
  attachment.setOutputOffset(-0.1);
  await time.advance(6000);
  assert.ok(Math.abs(ahead() + 0.1) < 0.02, `${ahead()}`);
});

test("a pause and a play of such a device move no other player", async () => {
  for (const video of [new Video(time), new FrameVideo(time)]) {
    const { room, commands, command, socket } = await watching(state(), {}, { outputOffset: 0.3 }, video);
    await time.advance(6000);
    const before = room.position();
    video.pause();
    await time.advance(10);
    assert.ok(Math.abs(commands()[0].currentTime - before) < 0.05, `${commands()[0].currentTime - before}`);
    await socket.say({ type: "ack", id: socket.of("playback").find(({ data }) => data.action === "pause").id, success: true, ...room.getSnapshot().playback, version: 2 });
    await command({ isPlaying: false, currentTime: 120.02 });
    await time.advance(1000);
    assert.ok(Math.abs(video.currentTime - 120.02) < 1e-6);
    await video.play();
    await time.advance(10);
    assert.deepEqual([commands()[1].action, Math.abs(commands()[1].currentTime - 120.02) < 0.05], ["play", true]);
    await time.advance(6000);
    assert.ok(Math.abs(video.currentTime - room.position() - 0.3) < 0.05, "and is ahead again");
    video.currentTime = 50;
    await time.advance(10);
    assert.ok(Math.abs(commands()[2].currentTime - 49.7) < 0.05);
    video.currentTime = 60;
    video.pause();
    await time.advance(1000);
    assert.deepEqual([commands()[3].action, commands()[3].currentTime, commands()[3].isPlaying], ["sync", 60, false]);
    room.leave();
    await settle();
  }
});

test("a correction of the speed that is under way is none of the user's", async () => {
  const { video, commands, reports, room } = await watching(state(), {}, { outputOffset: 1 });
  await time.advance(6000);
  video.slip(0.5);
  await time.advance(1000);
  assert.equal(video.playbackRate, 1.05);
  const { at, currentTime } = reports().at(-1);
  assert.ok(Math.abs(currentTime - (video.currentTime - 1 - ((serverNow() - at) / 1000) * 1.05)) < 1e-6);
  video.currentTime = 12;
  video.pause();
  await time.advance(100);
  assert.deepEqual([commands()[0].action, commands()[0].playbackRate, room.getSnapshot().playback.playbackRate], ["sync", 1, 1]);
});

// --- other players -----------------------------------------------------------------------------------------------------------

/** An object with the six methods around a video, for a player that embeds a foreign one: calls take effect later. */
function foreignPlayer(video, { lateMs = 300, rates } = {}) {
  return {
    abilities: { canSetRate: !rates, frameAccurate: false },
    getState: () => ({ paused: video.paused, currentTime: video.currentTime, playbackRate: video.playbackRate, duration: video.duration }),
    play: () => void setTimeout(() => video.play(), lateMs),
    pause: () => void setTimeout(() => video.pause(), lateMs),
    seek: (seconds) => void setTimeout(() => (video.currentTime = seconds), lateMs),
    setRate: (rate) => void setTimeout(() => (video.playbackRate = rates ? rates.findLast((each) => each <= rate) : rate), lateMs),
    subscribe: (listener) => {
      const life = new AbortController();
      for (const type of ["play", "pause", "seeking", "seeked", "ratechange"]) {
        video.addEventListener(type, () => listener(type), { signal: life.signal });
      }
      return () => life.abort();
    },
  };
}

test("an object with six methods, whose calls take effect later: it follows, and nothing of it is a command", async () => {
  const there = await inside([row("jane")], { playback: state() });
  const video = new Video(time);
  const detach = there.room.attach(foreignPlayer(video, { rates: [0.5, 1, 1.25, 2] }));
  await time.advance(5000);
  assert.ok(Math.abs(video.currentTime - there.room.position()) < 0.5, `${video.currentTime - there.room.position()}`);
  await there.socket.say(event("playback_synced", "jane", { action: "pause", syncEnabled: true, isPlaying: false, currentTime: 50, playbackRate: 1, version: 2, serverTime: serverNow() }));
  await time.advance(3000);
  assert.deepEqual([video.paused, Math.abs(video.currentTime - 50) < 0.1], [true, true]);
  assert.deepEqual(there.socket.of("playback").filter(({ data }) => data.action !== "report"), []);
  video.play();
  await time.advance(1000);
  assert.deepEqual(there.socket.of("playback").filter(({ data }) => data.action !== "report").map(({ data }) => data.action), ["play"]);
  detach();
  await settle();
});

/** The object of docs/sdk.md, as it is written there. */
function documentedPlayer() {
  const text = readFileSync(new URL("../../docs/sdk.md", import.meta.url), "utf8");
  const [, code] = /```js\n((?:(?!```).)*?const player = \{.*?\n\};\n)/su.exec(text);
  return new Function(`${code}; return player;`)();
}

test("a player without `seeked`, as in the documentation: one seek for a command, to where the room is", async () => {
  const { room, socket } = await inside([row("jane")], { playback: state() });
  const player = documentedPlayer();
  const seeks = [];
  const { seek } = player;
  player.seek = (seconds) => {
    seeks.push(seconds - room.position());
    seek(seconds);
  };
  room.attach(player);
  await time.advance(5000);
  await socket.say(event("playback_synced", "jane", { action: "seek", syncEnabled: true, isPlaying: true, currentTime: 300, playbackRate: 1, version: 2, serverTime: serverNow() }));
  await time.advance(20_000);
  assert.equal(seeks.length, 2, `${seeks}`);
  assert.ok(seeks.every((ahead) => ahead < 0.1), `${seeks}`);
  assert.ok(Math.abs(player.getState().currentTime - room.position()) < 0.1);
  await socket.say(event("playback_synced", "jane", { action: "pause", syncEnabled: true, isPlaying: false, currentTime: 50, playbackRate: 1, version: 3, serverTime: serverNow() }));
  await time.advance(5000);
  assert.deepEqual([seeks.length, player.getState().paused, player.getState().currentTime], [3, true, 50]);
  assert.deepEqual(socket.of("playback").filter(({ data }) => data.action !== "report"), []);
  player.seek(70);
  await time.advance(100);
  assert.deepEqual(socket.of("playback").filter(({ data }) => data.action !== "report").map(({ data }) => [data.action, data.currentTime]), [["seek", 70]]);
});

test("... and one whose seeks take long is in step after the first ones", async () => {
  const { room, socket } = await inside([row("jane")], { playback: state() });
  const player = documentedPlayer();
  const { seek } = player;
  let seeks = 0;
  player.seek = (seconds) => {
    seeks++;
    setTimeout(() => seek(seconds), 800);
  };
  player.play();
  room.attach(player);
  await time.advance(20_000);
  assert.ok(seeks <= 3, `${seeks}`);
  assert.ok(Math.abs(player.getState().currentTime - room.position()) < 0.5, `${player.getState().currentTime - room.position()}`);
  assert.deepEqual(socket.of("playback").filter(({ data }) => data.action !== "report"), []);
});

test("what a foreign player shows before it tells that its film is exchanged is no command", async () => {
  const there = await inside([row("jane")], { playback: state({ playbackRate: 1.5 }) });
  const video = new Video(time);
  const player = foreignPlayer(video, { lateMs: 0 });
  const { subscribe } = player;
  player.subscribe = (listener) => {
    for (const type of ["emptied", "loadedmetadata", "canplay"]) video.addEventListener(type, () => listener(type));
    return subscribe(listener);
  };
  const detach = there.room.attach(player);
  await time.advance(4000);
  const { duration } = video;
  video.duration = NaN;
  video.paused = true;
  await time.advance(600);
  video.duration = duration;
  video.load();
  await time.advance(4000);
  assert.deepEqual(there.socket.of("playback").filter(({ data }) => data.action !== "report"), []);
  assert.deepEqual([video.paused, Math.abs(video.playbackRate - 1.5) < 0.2], [false, true]);
  detach();
  await settle();
});

test("an output offset that is no number is refused where it is set, and changes nothing", async () => {
  const { room, video, reports, detach } = await watching();
  await time.advance(3000);
  for (const seconds of [NaN, Infinity, "0.1", undefined, 11, -11]) {
    assert.throws(() => detach.setOutputOffset(seconds), /TypeError: setOutputOffset: it is a number of seconds from -10 to 10/);
    if (seconds !== undefined) assert.throws(() => room.attach(new Video(time), { outputOffset: seconds }), /TypeError: attach: `outputOffset` is a number/);
  }
  await time.advance(3000);
  assert.deepEqual([video.playbackRate, Math.abs(reports().at(-1).currentTime - 106) < 1], [1, true]);
  detach.setOutputOffset(-10);
  await time.advance(3000);
  assert.ok(Math.abs(video.currentTime - room.position() + 10) < 0.1);
});

test("other options of a player that are none are refused where it is attached", async () => {
  const { room, detach } = await watching();
  const wrong = [null, 5, { correct: "no" }, { whenNotAllowed: "never" }, { target: 1 }, { mediaId: {} }, { abilities: true }];
  for (const options of wrong) assert.throws(() => room.attach(new Video(time), options), /TypeError: attach: /, JSON.stringify(options));
  assert.throws(() => detach.setMediaId(7), /TypeError: setMediaId: the id is a text/);
  await time.advance(500);
});

test("a player that does not know its position yet is not reported; no report has a number that the server refuses", async () => {
  const there = await inside([row("jane")], { playback: state() });
  const known = { paused: true, currentTime: NaN, playbackRate: 1, duration: 600 };
  const player = { ...foreignPlayer(new Video(time)), getState: () => ({ ...known }), seek: () => {}, play: () => {} };
  there.room.attach(player, { correct: false });
  await time.advance(3000);
  assert.deepEqual(there.socket.of("playback"), []);
  Object.assign(known, { currentTime: 2e6, playbackRate: 0 });
  await time.advance(3000);
  assert.deepEqual(there.socket.of("playback").map(({ data }) => [data.currentTime, data.playbackRate])[0], [1e6, 0.0625]);

  const errors = [];
  there.room.on("error", ({ code }) => errors.push(code));
  there.socket.clear();
  there.room.playback({ action: "report", isPlaying: true, currentTime: NaN, playbackRate: 1 });
  await settle();
  assert.deepEqual([there.socket.sent, errors], [[], ["INVALID_DATA"]]);
});

test("an element that knows its own video later only is left alone when it is detached before", async () => {
  const { room } = await inside([row("jane")], { playback: state() });
  const video = new FrameVideo(time);
  const { requestVideoFrameCallback: request } = FrameVideo.prototype;
  let asked = 0;
  const loaded = new Promise((resolve) => setTimeout(resolve, 500));
  video.requestVideoFrameCallback = (callback) => {
    asked++;
    return loaded.then(() => request.call(video, callback));
  };
  const detach = room.attach(video);
  await time.advance(100);
  detach();
  await time.advance(100);
  video.play();
  await time.advance(3000);
  assert.equal(asked, 1);
});

test("what is no player is refused in words", async () => {
  const { room } = await inside();
  const errors = [];
  room.on("error", ({ code, message }) => errors.push(`${code} ${message}`));
  room.attach({ play() {} });
  await settle();
  assert.match(errors.join(), /^INVALID_DATA attach\(\) takes a <video>/);
});
