import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Socket, Time, Video, event, finish, inside, later, presence, row, settle, snapshot } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

const joined = (socket, users = [row("jane")], more) => socket.say({ ...snapshot(users, more), id: socket.of("join").at(-1)?.id });
async function back(options) {
  await time.advance(time.waits[0]);
  Socket.last.open(options);
  await settle();
  return Socket.last;
}

test("the first message is auth, and asks for compact cursors; then the room is joined", async () => {
  const made = presence({ privacy: { invisible: true } });
  const room = made.enter("video_1", { type: "video", privacy: { shareCursor: false } });
  assert.deepEqual([room.status, made.status, room.self, room.others.length], ["connecting", "connecting", null, 0]);
  await settle();
  Socket.last.open();
  await settle();
  const [auth, , join] = Socket.last.sent;
  assert.deepEqual(auth, { type: "auth", token: "token", caps: ["cursors"], privacy: { invisible: true } });
  assert.deepEqual(join, { type: "join", roomId: "video_1", roomType: "video", privacy: { shareCursor: false }, id: 1 });
  const seen = [];
  room.on("status", (status) => seen.push(status));
  room.on("joined", () => seen.push(room.status, room.others.length));
  const ready = room.ready();
  await joined(Socket.last);
  assert.deepEqual([await ready, seen, made.userId], [true, ["live", "live", 1], "me"]);
});

test("20 cursors a second at most, rounded and in their range, the last one always [E1, E5]", async () => {
  const { room, socket } = await inside();
  for (let i = 0; i <= 100; i++) {
    room.updateCursor({ timestamp: i / 3, x: 1.5, y: -2 });
    await time.advance(10);
  }
  await time.advance(100);
  const cursors = socket.of("cursor");
  assert.ok(cursors.length <= 22, `${cursors.length}`);
  assert.deepEqual(cursors.at(-1), { type: "cursor", roomId: "video_1", data: { timestamp: 33.3333, x: 1, y: 0 } });
  room.updateSelection({ startTime: -1, endTime: 2e6 });
  room.updateSelection(null);
  await time.advance(100);
  assert.deepEqual(socket.of("selection").map(({ data }) => data), [{ startTime: 0, endTime: 1e6 }, null]);
});

test("a room that is loaded asks for fewer, with joined and with a notice [L2]", async () => {
  const { room, socket } = await inside();
  await socket.say({ type: "server_notice", code: "SEND_INTERVAL", message: "", roomId: "video_1", sendIntervalMs: 200 });
  for (let i = 0; i < 100; i++) {
    room.updateCursor({ timestamp: i });
    await time.advance(10);
  }
  assert.ok(socket.of("cursor").length <= 6);
  await socket.lose();
  const again = await back({ limits: { cursorHz: 10 } });
  await joined(again);
  again.clear();
  for (let i = 0; i < 100; i++) {
    room.updateCursor({ timestamp: i });
    await time.advance(10);
  }
  assert.ok(again.of("cursor").length <= 11 && again.of("cursor").length >= 9);
});

test("a full socket is not filled further; the newest cursor goes when it drains", async () => {
  const { room, socket } = await inside();
  socket.bufferedAmount = 100_000;
  for (let i = 0; i < 10; i++) room.updateCursor({ timestamp: i });
  await time.advance(200);
  assert.equal(socket.of("cursor").length, 0);
  socket.bufferedAmount = 0;
  await socket.say({ type: "viewer_sync", roomId: "video_1", userId: "jane", sessionId: "jane-1", data: { state: "synced", driftMs: 0, synced: 1, total: 1 } });
  assert.deepEqual(socket.of("cursor").map(({ data }) => data.timestamp), [9]);
});

test("who is alone sends nothing; who comes then is shown what is", async () => {
  const { room, socket } = await inside([]);
  for (let i = 0; i < 10; i++) {
    room.updateCursor({ timestamp: i });
    room.updateSelection({ startTime: i, endTime: 20 });
    room.typing(true, "comment");
    await time.advance(100);
  }
  assert.deepEqual(socket.sent, []);
  await socket.say(event("user_joined", "tom", { name: "Tom", color: "#1", sessionCount: 1, status: "active", activity: "active", index: 1 }));
  assert.deepEqual(socket.sent.map(({ type, data }) => [type, data.timestamp ?? data.startTime ?? data.isTyping ?? data.action]), [
    ["cursor", 9], ["selection", 9], ["typing", true],
  ]);
});

test("what is old is not said to who comes: typing after 5 s", async () => {
  const { room, socket } = await inside([]);
  room.typing(true);
  await time.advance(6000);
  await socket.say(event("user_joined", "tom", { name: "Tom", color: "#1", sessionCount: 1, status: "active", activity: "active", index: 1 }));
  assert.deepEqual(socket.sent, []);
});

test("typing is refreshed every 3 s while keys are pressed, and stops at once [G1]", async () => {
  const { room, socket } = await inside();
  const said = () => socket.of("typing").map(({ data }) => [time.now, data.isTyping, data.context]);
  for (let i = 0; i < 70; i++) {
    room.typing(true, "comment");
    await time.advance(100);
  }
  assert.equal(said().length, 3);
  room.typing(true, "reply"); // in another context: at once
  assert.equal(said().at(-1)[2], "reply");
  room.typing(false, "reply");
  assert.deepEqual(said().at(-1).slice(1), [false, "reply"]);
  socket.clear();
  room.typing(false);
  await time.advance(10_000);
  assert.deepEqual(socket.of("typing"), [], "nothing more to stop");
  room.typing(true, "comment");
  assert.equal(said().length, 1);
});

test("after a loss the room is joined again, the same session, and what is shown is shown again", async () => {
  const { presence: made, room, socket } = await inside();
  room.updateCursor({ timestamp: 1, x: 0.1, y: 0.2 });
  room.updateSelection({ startTime: 1, endTime: 2 });
  room.setStatus("reviewing", "scene 4");
  await socket.say({ type: "ack", id: socket.of("status")[0].id, success: true, status: "reviewing" });
  await socket.lose();
  assert.equal(room.status, "reconnecting");
  room.updateCursor({ timestamp: 2, x: 0.3, y: 0.4 });
  room.updateCursor({ timestamp: 3, x: 0.5, y: 0.6 });
  const again = await back({ resumed: false });
  assert.equal(again.of("auth")[0].resumeToken, "resume");
  assert.deepEqual(again.of("status").map(({ data }) => data), [{ status: "reviewing", statusMessage: "scene 4" }]);
  assert.equal(again.of("cursor").length, 0, "not before the room is joined");
  await joined(again, [row("jane"), row("tom")]);
  assert.deepEqual(again.of("cursor").map(({ data }) => data.timestamp), [3], "a slot, not a queue");
  assert.deepEqual(again.of("selection").length, 1);
  assert.deepEqual(room.others.map(({ userId }) => userId), ["jane", "tom"]);
  assert.equal(made.enter("video_1"), room);
});

test("what is shown again after a loss stays in the film in which it was made [H19]", async () => {
  const media = (main) => ({ main: { mediaId: main }, right: { mediaId: "other" } });
  const { room, socket } = await inside([row("jane")], { media: media("cut-1") });
  room.updateCursor({ timestamp: 1, target: "right" });
  room.updateSelection({ startTime: 1, endTime: 2 });
  const shown = (connection) => [...connection.of("cursor"), ...connection.of("selection")].map(({ data }) => data);
  assert.deepEqual(shown(socket), [{ timestamp: 1, target: "right" }, { startTime: 1, endTime: 2 }]);
  await time.advance(2000);
  await socket.say(event("media_changed", "jane", { target: "main", medium: { mediaId: "cut-2" }, playback: {} }));
  assert.deepEqual(shown(socket).length, 2, "the server does the same by itself");
  await socket.lose();
  const again = await back({ resumed: false });
  await joined(again, [row("jane")], { media: media("cut-2") });
  assert.deepEqual(shown(again), [{ timestamp: 1, target: "right" }, { startTime: 1, endTime: 2, mediaId: "cut-1" }]);
  room.updateSelection({ startTime: 3, endTime: 4 });
  await again.lose();
  const third = await back({ resumed: false });
  await joined(third, [row("jane")], { media: media("cut-3") }); // replaced meanwhile
  assert.deepEqual(shown(third)[1], { startTime: 3, endTime: 4, mediaId: "cut-2" });
  third.clear();
  room.updateSelection({ startTime: 5, endTime: 6 });
  await time.advance(100);
  await third.say(event("media_changed", "jane", { target: "main", medium: { mediaId: "cut-4" }, playback: {} }));
  await time.advance(100);
  const last = { startTime: 5, endTime: 6 };
  assert.deepEqual(shown(third), [last, { ...last, mediaId: "cut-3" }], "it may have arrived after the change");
});

test("a resumed session has its status still", async () => {
  const { room, socket } = await inside();
  room.setStatus("busy");
  await socket.say({ type: "ack", id: socket.of("status")[0].id, success: true });
  await socket.lose();
  const again = await back({ resumed: true, rooms: ["video_1", "video_left_long_ago"] });
  assert.deepEqual(again.of("status"), []);
  assert.deepEqual(again.of("leave"), [{ type: "leave", roomId: "video_left_long_ago" }]);
});

test("what is asked without a connection waits: 100 at most, the oldest give way, of a kind that is a value the last counts", async () => {
  const { room, socket } = await inside();
  await socket.lose();
  const answers = [];
  for (let i = 0; i < 103; i++) room.broadcast({ n: i }).then((answer) => answers.push([i, answer.code]));
  room.setStatus("busy").then((answer) => answers.push(["busy", answer.code]));
  room.setStatus("away").then((answer) => answers.push(["away", answer.success]));
  await settle();
  assert.deepEqual(answers.slice(0, 3), [[0, "OFFLINE"], [1, "OFFLINE"], [2, "OFFLINE"]]);
  assert.ok(answers.some(([what, code]) => what === "busy" && code === "OFFLINE"));
  const again = await back();
  assert.equal(again.of("broadcast").length, 0);
  assert.deepEqual(again.of("status").map(({ data }) => data.status).at(-1), "away");
  await joined(again);
  const sent = again.of("broadcast").map(({ data }) => data.n);
  assert.deepEqual([sent.length, sent.at(-1)], [98, 102]); // the status and the join count as well
  assert.deepEqual(sent, [...sent].sort((a, b) => a - b), "in their order");
});

test("answers belong to questions; a refusal is an answer and an event, and nothing is rejected", async () => {
  const { room, socket } = await inside();
  const errors = [];
  room.on("error", ({ code }) => errors.push(code));
  const first = room.broadcast({ type: "reaction", emoji: "👍" }, ["jane"]);
  const second = room.grantControl("nobody");
  await settle();
  const [{ id: a, to }, { id: b, data }] = socket.sent;
  assert.deepEqual([to, data], [["jane"], { toUserId: "nobody" }]);
  await socket.say({ type: "error", id: b, code: "TARGET_NOT_IN_ROOM", message: "That user is not in the room." });
  await socket.say({ type: "ack", id: a, success: true, delivered: 3 });
  assert.deepEqual([(await first).delivered, (await second).success, (await second).code], [3, false, "TARGET_NOT_IN_ROOM"]);
  assert.deepEqual(errors, ["TARGET_NOT_IN_ROOM"]);
});

test("what was asked and not answered when the connection was lost is answered with OFFLINE", async () => {
  const { room, socket } = await inside();
  const asked = room.broadcast({ n: 1 });
  await settle();
  await socket.lose();
  assert.equal((await asked).code, "OFFLINE");
  const again = await back();
  await joined(again);
  assert.deepEqual(again.of("broadcast"), [], "at most once [J2]");
});

test("a join that is refused ends the room and says why; the connection goes with the last room", async () => {
  const made = presence();
  const room = made.enter("video_1");
  const errors = [];
  room.on("error", ({ code }) => errors.push(code));
  await settle();
  Socket.last.open();
  await settle();
  await Socket.last.say({ type: "error", id: Socket.last.of("join")[0].id, code: "ROOM_FULL", message: "This room is full.", roomId: "video_1" });
  assert.deepEqual([room.status, room.getSnapshot().error.code, errors, await room.ready()], ["closed", "ROOM_FULL", ["ROOM_FULL"], false]);
  assert.equal(Socket.last.closedWith, 1000);
});

for (const code of ["RATE_LIMITED", "FORBIDDEN"]) test(`a join that the server asks to be repeated (${code}) is tried again when it said`, async () => {
  const made = presence();
  const room = made.enter("video_1");
  await settle();
  Socket.last.open();
  await settle();
  const [{ id }] = Socket.last.of("join");
  await Socket.last.say({ type: "error", id, code, message: "", roomId: "video_1", retryAfterMs: 400 });
  await time.advance(399);
  assert.equal(Socket.last.of("join").length, 1);
  await time.advance(400);
  assert.equal(Socket.last.of("join").length, 2);
  await joined(Socket.last);
  assert.equal(room.status, "live");
});

test("a join that is forbidden without a time is over", async () => {
  const room = presence().enter("video_1");
  await settle();
  Socket.last.open();
  await settle();
  const [{ id }] = Socket.last.of("join");
  await Socket.last.say({ type: "error", id, code: "FORBIDDEN", message: "", roomId: "video_1" });
  assert.equal(room.status, "closed");
});

test("kicked is over for that room only", async () => {
  const { presence: made, room, socket } = await inside();
  const other = made.enter("project_1");
  await settle();
  await socket.say({ ...snapshot([]), roomId: "project_1", id: socket.of("join")[0].id });
  await socket.say({ type: "kicked", roomId: "video_1", reason: "Your new token does not open this room." });
  assert.deepEqual([room.status, room.getSnapshot().error.code, other.status], ["closed", "KICKED", "live"]);
  assert.match(room.getSnapshot().error.message, /does not open/);
  assert.equal(socket.closedWith, null);
});

test("leave says so, and going from room to room keeps the connection", async () => {
  const { presence: made, room, socket } = await inside();
  room.leave();
  const next = made.enter("project_2");
  await settle();
  assert.deepEqual(socket.sent.map(({ type, roomId }) => [type, roomId]), [["leave", "video_1"], ["join", "project_2"]]);
  assert.equal(socket.closedWith, null);
  next.leave();
  await settle();
  assert.deepEqual([socket.closedWith, made.status, time.timers], [1000, "closed", 0]);
  room.updateCursor({ timestamp: 1 });
  assert.equal((await room.broadcast({})).code, "NOT_IN_ROOM");
});

test("a room entered twice is left with the second leave", async () => {
  const { presence: made, room } = await inside();
  assert.equal(made.enter("video_1"), room);
  room.leave();
  assert.equal(room.status, "live");
  room.leave();
  assert.equal(room.status, "closed");
  assert.notEqual(made.enter("video_1"), room, "entered again it is a new one");
});

test("signals leave and close, also those that were aborted before", async () => {
  const leave = new AbortController();
  const close = new AbortController();
  const made = presence({ signal: close.signal });
  const one = made.enter("video_1", { signal: leave.signal });
  const two = made.enter("video_2");
  await settle();
  leave.abort();
  assert.deepEqual([one.status, two.status], ["closed", "connecting"]);
  close.abort();
  assert.deepEqual([two.status, made.status, time.timers], ["closed", "closed", 0]);
  assert.equal(made.enter("video_3").status, "closed");
  await settle();
  assert.equal(time.timers, 0);
});

test("listeners: each has its own undo, one that throws harms nobody", async () => {
  const { room, socket } = await inside();
  const heard = [];
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  later(() => delete globalThis.reportError);
  const listener = ({ data }) => heard.push(data.n);
  const undo = [room.on("broadcast", listener), room.on("broadcast", () => { throw new Error("mine"); }), room.on("broadcast", listener)];
  await socket.say(event("broadcast", "jane", { n: 1 }));
  undo[0]();
  undo[0]();
  await socket.say(event("broadcast", "jane", { n: 2 }));
  assert.deepEqual([heard, reported], [[1, 1, 2], ["mine", "mine"]]);
});

test("compact cursors: one message, one change, a cursor_moved for each row", async () => {
  const { room, socket } = await inside([row("jane", "jane-1", { index: 1 }), row("tom", "tom-1", { index: 2 })]);
  const moved = [];
  let changes = 0;
  room.on("cursor_moved", ({ userId, data }) => moved.push([userId, data.timestamp ?? "hidden"]));
  room.subscribe(() => changes++);
  await socket.say({ type: "cursors", roomId: "video_1", timestamp: "now", data: [[1, 5, 0.1, 0.2], [2, 6, 0.3, 0.4], [9, 1], [1]] });
  assert.deepEqual(moved, [["jane", 5], ["tom", 6], ["jane", "hidden"]]);
  assert.deepEqual([changes, room.others[0].cursor, room.others[1].cursor.x], [1, undefined, 0.3]);
});

test("the snapshot is the same object until something changes, and subscribers hear of changes only", async () => {
  const { room, socket } = await inside();
  let changes = 0;
  const undo = room.subscribe(() => changes++);
  const before = room.getSnapshot();
  await socket.say(event("broadcast", "jane", {}));
  assert.deepEqual([room.getSnapshot() === before, changes], [true, 0]);
  await socket.say(event("typing_started", "jane", {}));
  assert.deepEqual([room.getSnapshot() === before, changes], [false, 1]);
  room.on("control_released", () => room.getSnapshot());
  await socket.say(event("control_granted", "jane", { toUserId: "jane", toUserName: "", fromUserId: null, controllerSessionId: "jane-1", version: 1 }));
  await socket.say(event("control_released", "jane", { reason: "left", version: 2 }));
  assert.equal(changes, 3, "also when somebody looked before the subscribers were told");
  undo();
  await socket.say(event("typing_stopped", "jane", {}));
  assert.equal(changes, 3);
});

test("privacy is said now, and again by the next connection before anybody can see", async () => {
  const { room, socket } = await inside();
  room.setPrivacy({ invisible: true });
  assert.deepEqual(socket.of("privacy")[0].data, { invisible: true });
  room.setPrivacy({ shareCursor: false });
  await socket.lose();
  const again = await back();
  assert.deepEqual(again.of("auth")[0].privacy, { invisible: true, shareCursor: false });
});

test("the scope of one privacy message is not that of what is sent again: other tabs are not changed by it [K6]", async () => {
  const made = presence({ privacy: { invisible: true, scope: "user" } });
  const room = made.enter("video_1", { privacy: { invisible: true, scope: "user" } });
  await settle();
  Socket.last.open();
  await settle();
  await joined(Socket.last);
  assert.deepEqual(Socket.last.of("auth")[0].privacy, { invisible: true, scope: "user" });
  room.setPrivacy({ shareCursor: false, scope: "user" });
  assert.deepEqual(Socket.last.of("privacy")[0].data, { shareCursor: false, scope: "user" });
  room.setPrivacy({ invisible: false });
  await Socket.last.lose();
  const again = await back();
  assert.deepEqual(again.of("auth")[0].privacy, { invisible: false, shareCursor: false });
  assert.deepEqual(again.of("join")[0].privacy, { invisible: false, shareCursor: false });
});

/** Answer the privacy messages of a socket with `codes`, in the order of `order`; an empty code is a success. */
async function answerPrivacy(socket, codes, order) {
  const asked = socket.of("privacy");
  for (const i of order) {
    const { id, data } = asked[i];
    const refusal = { type: "error", id, code: codes[i], message: "" };
    await socket.say(codes[i] ? refusal : { type: "ack", id, success: true, ...data });
  }
}

test("a change of privacy that is refused is not sent again by the next connection", async () => {
  const made = presence({ privacy: { shareCursor: false, scope: "user" } });
  const room = made.enter("video_1", { privacy: { invisible: true } });
  await settle();
  Socket.last.open();
  await settle();
  await joined(Socket.last);
  const answer = room.setPrivacy({ invisible: "no", scope: "user" });
  await answerPrivacy(Socket.last, ["INVALID_DATA"], [0]);
  assert.equal((await answer).code, "INVALID_DATA");
  made.enter("video_1", { privacy: { shareSelection: false } }); // a second enter of a live room is a change, too
  await answerPrivacy(Socket.last, ["", "RATE_LIMITED"], [1]);
  room.setPrivacy({ shareCursor: 10n }); // cannot be sent
  await settle();
  await Socket.last.lose();
  const again = await back();
  assert.deepEqual(again.of("auth")[0].privacy, { shareCursor: false, scope: "user" });
  assert.deepEqual(again.of("join")[0].privacy, { invisible: true });
});

test("of changes of privacy under way each refused one is taken out, in whatever order they are answered", async () => {
  const first = { invisible: true, shareCursor: true };
  const changes = [
    { invisible: true }, { invisible: false, shareCursor: false }, { shareCursor: true, shareSelection: false },
  ];
  for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]]) {
    for (const refused of [[], [0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]]) {
      const { room, socket } = await inside([], {}, { privacy: first });
      for (const change of changes) room.setPrivacy(change);
      await answerPrivacy(socket, changes.map((_, i) => (refused.includes(i) ? "RATE_LIMITED" : "")), order);
      await socket.lose();
      const again = await back();
      const kept = changes.filter((_, i) => !refused.includes(i));
      assert.deepEqual(again.of("auth")[0].privacy, Object.assign({}, first, ...kept), `${order}, ${refused}`);
    }
  }
});

test("a change of privacy without an answer is sent again, also beside a refused one", async () => {
  const { room, socket } = await inside();
  room.setPrivacy({ invisible: true });
  room.setPrivacy({ shareCursor: false });
  await answerPrivacy(socket, ["", "RATE_LIMITED"], [1]);
  await socket.lose();
  room.setPrivacy({ shareSelection: false });
  const again = await back();
  assert.deepEqual(again.of("auth")[0].privacy, { invisible: true, shareSelection: false });
});

for (const code of ["UNAVAILABLE", "INTERNAL"]) {
  test(`a change of privacy that is answered with ${code} may have been made, and is sent again`, async () => {
    const { room, socket } = await inside();
    const answer = room.setPrivacy({ invisible: true });
    await answerPrivacy(socket, [code], [0]);
    assert.equal((await answer).code, code);
    await socket.lose();
    const again = await back();
    assert.deepEqual(again.of("auth")[0].privacy, { invisible: true });
  });
}

// --- playback and control -----------------------------------------------------------------------------------------

const playing = { isPlaying: true, currentTime: 10, playbackRate: 1, anchor: performance.timeOrigin, version: 3 };

test("a command shows at once, the answer settles it [H2]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: { ...playing, anchor: performance.timeOrigin + time.now } });
  await time.advance(2000);
  assert.equal(room.position(), 12);
  const answer = room.playback({ action: "pause" });
  await settle();
  assert.deepEqual([room.getSnapshot().playback.isPlaying, room.position()], [false, 12]);
  const [{ id, data }] = socket.of("playback");
  assert.deepEqual(data, { action: "pause", at: room.clock.now(), maxAgeMs: 2000 });
  await socket.say({ type: "ack", id, success: true, isPlaying: false, currentTime: 12.01, playbackRate: 1, anchor: 5, version: 4 });
  assert.deepEqual([(await answer).version, room.position(), room.getSnapshot().playback.version], [4, 12.01, 4]);
});

test("the echo of an earlier command does not undo a later one", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  room.playback({ action: "pause", currentTime: 1 });
  room.playback({ action: "play", currentTime: 2 });
  await settle();
  const [first, second] = socket.of("playback").map(({ id }) => id);
  const state = (isPlaying, currentTime, version) => ({ isPlaying, currentTime, playbackRate: 1, version });
  const echo = (more) => event("playback_synced", "me", { ...more, serverTime: 5, syncEnabled: true, action: "pause" }, { sessionId: "s0" });
  await socket.say(echo(state(false, 1, 4)));
  await socket.say({ type: "ack", id: first, success: true, anchor: 5, ...state(false, 1, 4) });
  assert.equal(room.getSnapshot().playback.isPlaying, true);
  await socket.say({ type: "ack", id: second, success: true, anchor: 5, ...state(true, 2, 5) });
  assert.deepEqual([room.getSnapshot().playback.isPlaying, room.getSnapshot().playback.version], [true, 5]);
  await socket.say(event("playback_synced", "jane", { ...state(false, 0, 2), serverTime: 1, syncEnabled: true, action: "pause" }));
  assert.equal(room.getSnapshot().playback.version, 5, "what is older is ignored");
});

test("seeks while scrubbing are merged, the last one travels, and play does not overtake it [H11]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  const answers = [];
  for (let i = 0; i <= 20; i++) {
    room.playback({ action: "seek", currentTime: i }).then(({ code }) => answers.push(code));
    await time.advance(20);
  }
  room.playback({ action: "play" });
  await settle();
  const sent = socket.of("playback").map(({ data }) => [data.action, data.currentTime]);
  assert.ok(sent.length <= 5, JSON.stringify(sent));
  assert.deepEqual(sent.slice(-2), [["seek", 20], ["play", undefined]]);
  assert.ok(answers.includes("REPLACED"));
});

test("refused with NOT_CONTROLLER the state snaps back to the server's [H1]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  const answer = room.playback({ action: "seek", currentTime: 100 });
  await settle();
  assert.equal(room.getSnapshot().playback.currentTime, 100);
  await socket.say({ type: "error", id: socket.of("playback")[0].id, code: "NOT_CONTROLLER", message: "", roomId: "video_1", state: playing });
  assert.deepEqual([(await answer).code, room.getSnapshot().playback.currentTime], ["NOT_CONTROLLER", 10]);
});

test("someone else has control: a command does not even show", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing, controller: "jane", controllerSessionId: "jane-1" });
  assert.equal(room.mayControl, false);
  room.playback({ action: "pause" });
  await settle();
  assert.equal(room.getSnapshot().playback.isPlaying, true);
  await socket.say(event("control_granted", "jane", { toUserId: "me", toUserName: "Me", fromUserId: "jane", controllerSessionId: "s0", version: 2 }));
  assert.equal(room.mayControl, true);
});

test("commands without a connection become one state, which counts only if nobody said something since [H16]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  await socket.lose();
  room.playback({ action: "seek", currentTime: 50 });
  room.playback({ action: "pause" });
  await settle();
  const again = await back();
  await joined(again, [row("jane")], { playback: { ...playing, version: 9 } });
  const [{ data, id }, ...more] = again.of("playback");
  assert.deepEqual([more.length, data.action, data.isPlaying, data.baseVersion], [0, "sync", false, 3]);
  assert.ok(Math.abs(data.currentTime - 50) < 0.01);
  await again.say({ type: "error", id, code: "STALE", message: "", roomId: "video_1", state: { ...playing, version: 9 } });
  assert.equal(room.getSnapshot().playback.version, 9);
});

const serverNow = () => performance.timeOrigin + performance.now();

test("commands and reports say how late they may arrive, and a command that came too late is taken back [H4]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: { ...playing, anchor: serverNow() } });
  const answer = room.playback({ action: "pause" });
  room.playback({ action: "report", isPlaying: true, currentTime: 10, playbackRate: 1 });
  await settle();
  const [pause, report] = socket.of("playback");
  assert.deepEqual([pause.data.action, pause.data.maxAgeMs, pause.data.at], ["pause", 2000, serverNow()]);
  assert.deepEqual([report.data.action, report.data.maxAgeMs, report.data.at], ["report", 2000, serverNow()]);
  assert.equal(room.getSnapshot().playback.isPlaying, false);
  await time.advance(4000);
  const state = { ...playing, anchor: serverNow() - 4000 };
  socket.clear();
  await socket.say({ type: "error", id: pause.id, code: "STALE", message: "", roomId: "video_1", state });
  assert.deepEqual([(await answer).code, room.getSnapshot().playback.isPlaying, room.position()], ["STALE", true, 14]);
  await time.advance(6000);
  assert.ok(socket.of("heartbeat").length > 0, "the clock is measured: it may be wrong");
  const { code } = await room.playback({ action: "play", maxAgeMs: 0 });
  assert.equal(code, "INVALID_DATA");
});

test("a state from another time than the clock's has the clock measured: the one of the server was set", async () => {
  const { socket } = await inside([row("jane")], { playback: { ...playing, anchor: serverNow() } });
  await time.advance(15_000);
  const say = async (awayMs) => {
    socket.clear();
    const data = { ...playing, version: 4, anchor: undefined, serverTime: serverNow(), syncEnabled: true, action: "seek" };
    await socket.say(event("playback_synced", "jane", data, { timestamp: new Date(serverNow() + awayMs).toISOString() }));
    return socket.of("heartbeat").length;
  };
  assert.deepEqual([await say(500), await say(-1500), await say(5000)], [0, 0, 1]);
});

test("of the commands without a connection those that are old are dropped, each by its own time [H16]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: { ...playing, anchor: serverNow() } });
  await socket.lose();
  const answers = [];
  const give = (command) => room.playback(command).then(({ code, success }) => answers.push([command.action, code ?? success]));
  give({ action: "pause" });
  give({ action: "disable" });
  await time.advance(100); // the next attempt begins, and hangs
  await time.advance(6900);
  assert.deepEqual(answers, [["pause", "OFFLINE"], ["disable", "OFFLINE"]]);
  give({ action: "seek", currentTime: 50 });
  give({ action: "resync" });
  const again = Socket.last;
  again.open();
  await settle();
  await joined(again, [row("jane")], { playback: { ...playing, anchor: serverNow() - 7000 } });
  const sent = again.of("playback").map(({ data: { action, isPlaying, currentTime } }) => [action, isPlaying, currentTime]);
  assert.deepEqual(sent, [["resync", undefined, undefined], ["sync", true, 50]]);
  assert.deepEqual([room.getSnapshot().playback.isPlaying, room.position()], [true, 50]);
});

test("commands without a connection keep the film that they were meant for, and its duration [H19, H20]", async () => {
  const media = { main: { mediaId: "cut-1" }, right: { mediaId: "other" } };
  const { room, socket } = await inside([row("jane")], { playback: playing, media });
  await socket.lose();
  room.playback({ action: "play", target: "right", duration: 90, startDelayMs: "auto" });
  room.playback({ action: "seek", currentTime: 30, target: "right" });
  await settle();
  const again = await back();
  await joined(again, [row("jane")], { playback: { ...playing, isPlaying: false }, media: { ...media, right: { mediaId: "newer" } } });
  const [{ data }] = again.of("playback");
  assert.deepEqual([data.target, data.mediaId, data.duration, data.isPlaying], ["right", "other", 90, true]);
});

test("an own event that comes before its answer counts where the answer has no state", async () => {
  const waits = { ...playing, isPlaying: false, waitingFor: ["jane"] };
  const { room, socket } = await inside([row("jane")], { playback: waits, rights: { control: true } });
  const answer = room.playback({ action: "disable" });
  await settle();
  const [{ id }] = socket.of("playback");
  const synced = { ...playing, version: 4, serverTime: playing.anchor, syncEnabled: false, action: "disable" };
  await socket.say(event("playback_synced", "me", synced, { sessionId: "s0" }));
  await socket.say({ type: "ack", id, success: true, syncEnabled: false });
  await answer;
  const { syncEnabled, playback } = room.getSnapshot();
  assert.deepEqual([syncEnabled, playback.isPlaying, playback.waitingFor, playback.version], [false, true, undefined, 4]);
});

test("the state that a resync asks for counts, also while another command is open", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  const step = room.playback({ action: "pause" });
  const resync = room.playback({ action: "resync" });
  await settle();
  const [first, second] = socket.of("playback").map(({ id }) => id);
  const synced = (action, more) => event("playback_synced", "me", { ...playing, serverTime: 5, syncEnabled: true, action, ...more }, { sessionId: "s0" });
  await socket.say(synced("pause", { isPlaying: false, currentTime: 7, version: 4 }));
  await socket.say({ type: "ack", id: first, success: true, isPlaying: false, currentTime: 7, playbackRate: 1, anchor: 5, version: 4 });
  await socket.say(synced("resync", { isPlaying: false, currentTime: 9, version: 6 }));
  await socket.say({ type: "ack", id: second, success: true });
  await Promise.all([step, resync]);
  assert.deepEqual([room.getSnapshot().playback.currentTime, room.getSnapshot().playback.version], [9, 6]);
});

test("control: who has it, who asks, what becomes of it", async () => {
  const { room, socket } = await inside();
  await socket.say(event("control_granted", "jane", { toUserId: "jane", toUserName: "Jane", fromUserId: null, controllerSessionId: "jane-1", version: 1, auto: true }));
  await socket.say(event("control_requested", "tom", { requesterName: "Tom" }));
  await socket.say(event("control_requested", "tom", { requesterName: "Tom" }));
  assert.deepEqual([room.getSnapshot().controller, room.getSnapshot().requests.length], ["jane", 1]);
  await socket.say(event("control_denied", "jane", { toUserId: "tom", reason: "denied" }));
  assert.deepEqual(room.getSnapshot().requests, []);
  await socket.say(event("control_requested", "jane", { requesterName: "Jane" }));
  await socket.say(event("control_released", "jane", { reason: "left", version: 2 }));
  await socket.say(event("user_left", "jane", { reason: "left", sessionCount: 0 }));
  assert.deepEqual([room.getSnapshot().controller, room.getSnapshot().requests], [null, []]);
  for (const [method, type] of [["requestControl", "control_request"], ["cancelRequest", "control_cancel"], ["releaseControl", "control_release"], ["denyControl", "control_deny"]]) {
    socket.clear();
    room[method]("tom");
    await settle();
    assert.equal(socket.sent[0].type, type);
  }
});

test("a room of another type asks for no watching together before it is used", async () => {
  const made = presence();
  const room = made.enter("project_1", { type: "project" });
  await settle();
  Socket.last.open();
  await settle();
  await Socket.last.say({ ...snapshot([row("jane")], { type: "project", syncEnabled: false }), roomId: "project_1", id: Socket.last.of("join")[0].id });
  assert.deepEqual([room.status, room.position(), room.getSnapshot().playback, room.getSnapshot().requests], ["live", 0, null, []]);
  const answer = room.playback({ action: "play" });
  await settle();
  await Socket.last.say({ type: "error", id: Socket.last.of("playback")[0].id, code: "SYNC_DISABLED", message: "", roomId: "project_1" });
  assert.equal((await answer).code, "SYNC_DISABLED");
});

test("what is cleared while the connection is away stays cleared", async () => {
  const { room, socket } = await inside();
  room.updateSelection({ startTime: 1, endTime: 2 });
  room.updateCursor({ timestamp: 1, x: 0.5, y: 0.5 });
  await time.advance(100);
  await socket.lose();
  room.updateSelection(null);
  room.updateCursor(null);
  const again = await back({ resumed: true, rooms: ["video_1"] });
  await joined(again);
  await time.advance(1000);
  assert.deepEqual(["selection", "cursor"].map((type) => again.of(type).map(({ data }) => data)), [[null], [null]]);
});

test("a room that is left while its media.js loads is not joined; entered again, it is joined once", async () => {
  const { presence: made, socket } = await inside();
  made.enter("video_2").leave();
  await time.advance(1000);
  assert.deepEqual(socket.sent, []);
  made.enter("video_2").leave();
  made.enter("video_2");
  await time.advance(1000);
  assert.equal(socket.of("join").length, 1);
});

test("a join that waits for its turn when the connection goes is said once by the next one", async () => {
  presence().enter("video_1");
  await settle();
  const first = Socket.last;
  first.open();
  await settle();
  await first.say({ type: "error", code: "RATE_LIMITED", message: "", retryAfterMs: 300, id: first.of("join")[0].id });
  await first.lose(1013);
  await time.advance(5000); // the join is retried first
  assert.equal(Socket.last, first);
  await time.advance(15_000);
  assert.notEqual(Socket.last, first);
  Socket.last.open();
  await settle();
  assert.equal(Socket.last.of("join").length, 1);
});

test("who became invisible in a room that was entered visibly is invisible when it is joined anew [K1, K6]", async () => {
  const made = presence();
  const room = made.enter("video_1", { privacy: { invisible: false, shareCursor: false } });
  await settle();
  Socket.last.open();
  await settle();
  await joined(Socket.last);
  room.setPrivacy({ invisible: true });
  await Socket.last.lose();
  const again = await back();
  assert.deepEqual(again.of("join")[0].privacy, { invisible: true, shareCursor: false });
});

test("a refusal of any kind takes everything back: with the state, without it, and of a number before it is sent [H1, H16]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  const before = room.getSnapshot().playback;
  for (const [command, code, more] of [
    [{ action: "pause" }, "INVISIBLE", {}],
    [{ action: "seek", currentTime: 100 }, "FORBIDDEN", { state: playing }],
    [{ action: "rate", playbackRate: 2 }, "STALE", { state: playing }],
    [{ action: "play", currentTime: 3 }, "RATE_LIMITED", {}],
  ]) {
    socket.clear();
    await time.advance(300);
    const answer = room.playback(command);
    await settle();
    assert.notDeepEqual(room.getSnapshot().playback, before);
    await socket.say({ type: "error", id: socket.of("playback")[0].id, code, message: "", roomId: "video_1", ...more });
    assert.equal((await answer).code, code);
    const { isPlaying, currentTime, playbackRate, anchor, version } = room.getSnapshot().playback;
    assert.deepEqual({ isPlaying, currentTime, playbackRate, anchor, version }, playing, code);
  }
  socket.clear();
  const errors = [];
  room.on("error", ({ code }) => errors.push(code));
  for (const wrong of [
    { action: "seek", currentTime: NaN }, { action: "seek", currentTime: -0.5 }, { action: "seek" }, { action: "rate", playbackRate: 0 },
    { action: "rate", playbackRate: 17 }, { action: "rate", playbackRate: "2" }, { action: "step", frames: 0 }, { action: "step", frames: 0.5 },
    { action: "play", startDelayMs: -1 }, { action: "sync", isPlaying: 1, currentTime: 1, playbackRate: 1 },
  ]) {
    const snapshot = room.getSnapshot();
    const { success, code, message } = await room.playback(wrong);
    assert.deepEqual([success, code, room.getSnapshot() === snapshot], [false, "INVALID_DATA", true], message);
  }
  assert.deepEqual([errors.length, socket.sent], [10, []]);
});

test("a duration that is not known is not sent", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  for (const duration of [NaN, Infinity, 0, undefined]) room.playback({ action: "pause", duration });
  await settle();
  assert.ok(socket.of("playback").every(({ data }) => !("duration" in data)));
});

test("a command without a connection is dropped after 2 s, and the room's state counts", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  await socket.lose();
  const answer = room.playback({ action: "pause", currentTime: 1 });
  await settle();
  assert.equal(room.getSnapshot().playback.isPlaying, false);
  await time.advance(2100);
  const again = Socket.last;
  again.open();
  await settle();
  await joined(again, [row("jane")], { playback: { ...playing, version: 4 } });
  assert.deepEqual([(await answer).code, again.of("playback"), room.getSnapshot().playback.isPlaying], ["OFFLINE", [], true]);
});

test("rights, settings and the controller decide whether one may control", async () => {
  const { room, socket } = await inside();
  const rejoin = (rights, more = {}) => socket.say({ ...snapshot([row("jane")], more), rights });
  const all = { control: true, broadcast: true, moderate: false };
  await rejoin({ ...all, control: false });
  assert.deepEqual([room.mayControl, room.getSnapshot().rights.control], [false, false]);
  await rejoin(all);
  assert.equal(room.mayControl, true);
  await rejoin(all, { settings: { controlMode: "controller", title: "Cut 3" } });
  assert.equal(room.mayControl, false);
  await rejoin(all, { settings: { controlMode: "controller" }, controller: "me", controllerSessionId: "s0" });
  assert.equal(room.mayControl, true);
  await rejoin(all, { settings: { controlMode: "moderators" } });
  assert.equal(room.mayControl, false);
  await rejoin({ ...all, moderate: true }, { settings: { controlMode: "moderators" } });
  assert.equal(room.mayControl, true);
  await rejoin(all, { settings: { controlMode: "controller", title: "Cut 3" } });
  await socket.say(event("room_changed", "system", { controlMode: null, title: "Cut 4" }));
  assert.deepEqual([room.mayControl, room.getSnapshot().settings], [true, { title: "Cut 4" }]);
});

test("what is known of the playback is said when the room is joined again [H24]", async () => {
  const media = { main: { mediaId: "film", duration: 600 } };
  const { socket } = await inside([row("jane")], { playback: playing, media });
  assert.equal(socket.of("join").length, 0);
  const at = performance.timeOrigin + performance.now() - 8 * 3_600_000;
  await socket.say({ type: "pong", serverTime: at });
  await socket.lose();
  const again = await back();
  assert.deepEqual(again.of("join")[0].data, { known: { playback: playing, media, at } }, "it has slept since then");
  await joined(again, [row("jane")], {});
  await again.lose();
  const third = await back();
  assert.equal(third.of("join")[0].data, undefined, "the server has none");
});

test("the room waits, and goes on: who it waits for is in the snapshot only meanwhile [H9]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  const say = (data) => socket.say(event("playback_synced", "system", { currentTime: 12, playbackRate: 1, syncEnabled: true, serverTime: 7, ...data }, { sessionId: "system" }));
  await say({ action: "wait", isPlaying: false, version: 4, waitingFor: ["jane"] });
  assert.deepEqual([room.getSnapshot().playback.waitingFor, room.getSnapshot().playback.isPlaying], [["jane"], false]);
  await say({ action: "play", isPlaying: true, version: 5 });
  assert.equal(room.getSnapshot().playback.waitingFor, undefined);
});

test("the film of a target is set, changed and removed [H17, H18]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing });
  room.setMedia({ mediaId: "a", frameRate: 25 });
  await settle();
  assert.deepEqual(socket.of("media")[0].data, { at: room.clock.now(), maxAgeMs: 2000, mediaId: "a", frameRate: 25 });
  const changed = (data) => socket.say(event("media_changed", "me", { playback: { ...playing, version: 9 }, ...data }, { sessionId: "s0" }));
  await changed({ target: "main", medium: { mediaId: "a", frameRate: 25 } });
  await changed({ target: "right", medium: { mediaId: "b" } });
  await changed({ target: "right", medium: null });
  assert.deepEqual([room.getSnapshot().media, room.getSnapshot().playback.version], [{ main: { mediaId: "a", frameRate: 25 } }, 9]);
  room.playback({ action: "pause" });
  await settle();
  assert.equal(socket.of("playback")[0].data.mediaId, "a", "a late command for it does nothing to the next film");
});

test("a film that is set before the first join waits for it, later an old one is stale [H4]", async () => {
  const room = presence().enter("video_1");
  room.setMedia({ mediaId: "a" });
  await settle();
  Socket.last.open();
  await settle();
  await joined(Socket.last);
  assert.deepEqual(Object.keys(Socket.last.of("media")[0].data), ["at", "mediaId"]);
  await Socket.last.lose();
  const answer = room.setMedia({ mediaId: "b" });
  const at = room.clock.now();
  const socket = await back();
  await joined(socket);
  const [{ id, data }] = socket.of("media");
  assert.deepEqual(data, { at, maxAgeMs: 2000, mediaId: "b" });
  await time.advance(10_000);
  socket.clear();
  await socket.say({ type: "error", id, code: "STALE", message: "", roomId: "video_1" });
  assert.deepEqual([(await answer).code, socket.of("heartbeat").length], ["STALE", 1], "the clock is measured");
});

test("a cursor in another film than the room's says so, one in the room's does not [H19]", async () => {
  const { room, socket } = await inside([row("jane")], { playback: playing, media: { main: { mediaId: "a" } } });
  const attachment = room.attach(new Video(time), { mediaId: "a" });
  await settle();
  room.updateCursor({ timestamp: 1 });
  attachment.setMediaId("b");
  await settle();
  await time.advance(100);
  room.updateCursor({ timestamp: 2 });
  await time.advance(100);
  assert.deepEqual(socket.of("cursor").map(({ data }) => data.mediaId), [undefined, "b"]);
});
