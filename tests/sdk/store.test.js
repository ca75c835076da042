import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_SNAPSHOT } from "../../koko_presence/web/sdk/empty-snapshot.js";
import { RoomStore } from "../../koko_presence/web/sdk/store.js";
import { isIn } from "../../koko_presence/web/sdk/targets.js";
import { event, row, snapshot } from "./fake.js";

function made(users = [row("jane"), row("tom")], more = {}) {
  const store = new RoomStore("video_1");
  const get = () => store.snapshot;
  const fold = (message) => store.apply(message);
  const expand = (row, message) => store.expandCursor(row, message);
  fold(snapshot(users, more));
  return { store, fold, expand, get, person: (id) => get().others.find(({ userId }) => userId === id) };
}

test("a room begins with the state that hooks and components show without one", () => {
  const { media, settings, ...first } = new RoomStore("video_1").snapshot;
  assert.deepEqual([first, media, settings], [{ ...EMPTY_SNAPSHOT, roomId: "video_1" }, undefined, undefined]);
});

test("a snapshot replaces what was known [C4]", () => {
  const { fold, get } = made();
  fold(snapshot([row("ann")], { controller: "ann", controllerSessionId: "ann-1" }));
  assert.deepEqual(get().others.map(({ userId }) => userId), ["ann"]);
  assert.deepEqual([get().controller, get().type, get().syncEnabled], ["ann", "video", true]);
  assert.deepEqual(["users", "userCount", "id"].filter((key) => key in get()), []);
  fold(snapshot([]));
  assert.deepEqual([get().others, get().controller, get().requests], [[], null, []]);
});

test("nothing changes its identity unless it changed", () => {
  const { fold, get, person } = made();
  const before = get();
  assert.equal(get(), before);
  const [jane, tom] = before.others;
  fold(event("cursor_moved", "jane", { timestamp: 1, x: 0.1, y: 0.2, color: "#123456" }));
  assert.notEqual(get(), before);
  assert.notEqual(person("jane"), jane);
  assert.equal(person("tom"), tom);
  assert.equal(get().self, before.self);
  assert.equal(before.others[0].cursor, undefined, "what was handed out stays as it was");
  const { others } = get();
  fold(event("status_changed", "me", { status: "busy", activity: "active", isWatching: false, connected: true }, { sessionId: "s0" }));
  assert.equal(get().others, others, "others do not change with oneself");
  assert.equal(get().self.status, "busy");
  const after = get();
  fold(event("cursor_moved", "nobody", { timestamp: 1, color: "#123456" }));
  fold({ type: "from the future" });
  fold({ type: "constructor" });
  fold({ type: "__proto__" });
  assert.equal(get(), after);
});

test("one person per user, whatever the tabs [C7, D1]", () => {
  const { fold, get, person } = made([row("jane"), row("jane", "jane-2", { color: "#222222" })]);
  assert.equal(get().others.length, 1);
  fold(event("cursor_moved", "jane", { timestamp: 1, x: 0.5, y: 0.5, color: "#222222" }, { sessionId: "jane-2" }));
  fold(event("typing_started", "jane", { context: "comment" }, { sessionId: "jane-2" }));
  assert.deepEqual(
    [person("jane").color, person("jane").isTyping, person("jane").typingContext, person("jane").cursor.x],
    ["#123456", true, "comment", 0.5],
  );
  assert.deepEqual(person("jane").sessions.map(({ sessionId, isTyping }) => [sessionId, isTyping]), [["jane-1", false], ["jane-2", true]]);
  fold(event("user_left", "jane", { reason: "left", sessionCount: 1 }, { sessionId: "jane-2" }));
  assert.deepEqual([person("jane").sessions.length, person("jane").isTyping, person("jane").cursor], [1, false, undefined]);
  fold(event("user_left", "jane", { reason: "left", sessionCount: 0 }));
  assert.deepEqual(get().others, []);
});

test("own tabs are oneself, with this tab's session and colour", () => {
  const { get, store } = made([row("me", "s9", { color: "#999999" })]);
  assert.deepEqual(get().others, []);
  assert.deepEqual([get().self.sessionId, get().self.color, get().self.sessions.length], ["s0", "#abcdef", 2]);
  assert.equal(store.hasOtherSessions, true, "own tabs see what one shows");
  assert.equal(made([]).store.hasOtherSessions, false);
});

test("someone who comes is there with what the event says", () => {
  const { fold, person } = made([]);
  fold(event("user_joined", "ann", { name: "Ann", color: "#111111", sessionCount: 1, status: "active", activity: "active", index: 4 }));
  const { sessions, lastActiveAt, ...ann } = person("ann");
  assert.deepEqual(ann, {
    userId: "ann", sessionId: "ann-1", name: "Ann", color: "#111111", status: "active", activity: "active", index: 4,
    connected: true, isTyping: false, isWatching: false,
  });
});

test("a session in its grace is away; the person's other session counts [D2]", () => {
  const { fold, person } = made([row("jane"), row("jane", "jane-2")]);
  fold(event("status_changed", "jane", { status: "away", activity: "away", isWatching: false, connected: false }));
  assert.deepEqual([person("jane").connected, person("jane").status], [true, "active"]);
  fold(event("status_changed", "jane", { status: "away", activity: "away", isWatching: false, connected: false }, { sessionId: "jane-2" }));
  assert.deepEqual([person("jane").connected, person("jane").status], [false, "away"]);
  fold(event("status_changed", "jane", { status: "busy", statusMessage: "call", activity: "active", isWatching: true, connected: true }));
  assert.deepEqual([person("jane").connected, person("jane").status, person("jane").statusMessage], [true, "busy", "call"]);
});

test("selection and cursor come, change and go", () => {
  const { fold, person } = made();
  fold(event("selection_changed", "tom", { startTime: 1, endTime: 2, color: "#123456" }));
  assert.deepEqual(person("tom").selection, { startTime: 1, endTime: 2 });
  fold(event("selection_changed", "tom", { cleared: true, color: "#123456" }));
  fold(event("cursor_moved", "tom", { hidden: true, color: "#123456" }));
  assert.deepEqual([person("tom").selection, person("tom").cursor], [undefined, undefined]);
  assert.equal(person("tom").lastActiveAt, "2025-01-15T10:00:01.000Z");
});

test("cursors and selections stay in the film that is replaced [H19]", () => {
  const media = { main: { mediaId: "cut-1" }, right: { mediaId: "other" } };
  const span = { startTime: 10, endTime: 20 };
  const users = [row("jane", "jane-1", { selection: span }), row("tom", "tom-1", { cursor: { timestamp: 1, mediaId: "cut-0" }, selection: { ...span, target: "right" } })];
  const { fold, get, person } = made(users, { media });
  const changed = (target, medium) => fold(event("media_changed", "ann", { target, medium, playback: {} }));
  fold(event("cursor_moved", "jane", { timestamp: 5, target: "main", color: "#123456" }));
  const tom = person("tom");
  changed("main", { mediaId: "cut-1", title: "The same film" });
  assert.equal(person("jane").selection, span);
  changed("main", { mediaId: "cut-2" });
  assert.deepEqual(person("jane").selection, { ...span, mediaId: "cut-1" });
  assert.deepEqual(person("jane").cursor, { timestamp: 5, target: "main", mediaId: "cut-1" });
  assert.equal(person("tom"), tom, "nothing of him is there");
  changed("right", null);
  assert.deepEqual(person("tom").selection, { ...span, target: "right", mediaId: "other" });
  fold(event("selection_changed", "jane", { ...span, color: "#123456" }));
  const seen = (target) => [isIn(get(), target, person("jane").cursor), isIn(get(), target, person("jane").selection)];
  assert.deepEqual(seen("main"), [false, true]);
});

test("rows of compact cursors mean what cursor_moved means [B12]", () => {
  const { fold, expand } = made([row("jane", "jane-1", { index: 1 }), row("tom", "tom-1", { index: 3 })]);
  const envelope = { type: "cursors", roomId: "video_1", timestamp: "2025-01-15T10:30:00.024Z" };
  const data = (cells) => JSON.parse(JSON.stringify(expand(cells, envelope).data));
  assert.deepEqual(expand([3, 15.25, 0.1, 0.9], envelope).userId, "tom");
  assert.deepEqual(data([1, 15.5, 0.45, 0.62]), { color: "#123456", timestamp: 15.5, x: 0.45, y: 0.62 });
  assert.deepEqual(data([1]), { color: "#123456", hidden: true });
  assert.deepEqual(data([1, 15.5]), { color: "#123456", timestamp: 15.5 });
  assert.deepEqual(data([1, null, 0.1, 0.2]), { color: "#123456", x: 0.1, y: 0.2 });
  assert.deepEqual(data([1, 2, null, null, "left"]), { color: "#123456", timestamp: 2, target: "left" });
  assert.equal(expand([77, 1], envelope), undefined);
  fold(event("user_left", "jane", { sessionCount: 0 }));
  assert.equal(expand([1, 1], envelope), undefined, "the number of someone who left");
  fold(event("user_joined", "ann", { name: "Ann", color: "#111111", sessionCount: 1, status: "active", activity: "active", index: 1 }));
  assert.equal(expand([1, 1], envelope).userId, "ann", "a number is given to another");
});

test("names that are traps are names", () => {
  const { fold, get } = made([]);
  for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
    fold(event("user_joined", name, { name, color: "#111111", sessionCount: 1, status: "active", activity: "active", index: 1 }, { sessionId: name }));
  }
  fold(JSON.parse(`{"type":"cursor_moved","userId":"__proto__","sessionId":"__proto__","timestamp":"now",
    "data":{"timestamp":1,"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}}`));
  assert.deepEqual(get().others.map(({ name }) => name), ["__proto__", "constructor", "toString", "hasOwnProperty"]);
  assert.equal({}.polluted, undefined);
  assert.equal(Object.prototype.polluted, undefined);
});

test("another name or image is that of all sessions and of a waiting request [A5]", () => {
  const { fold, get, person } = made([row("jane", "jane-1", { image: "https://a.example/j.png" }), row("jane", "jane-2"), row("tom")], {
    controlRequests: [{ userId: "jane", requesterName: "Jane", requestedAt: "2025-01-15T10:30:00.000Z" }],
  });
  const tom = person("tom");
  fold(event("user_changed", "jane", { name: "Jane Doe" }));
  assert.deepEqual([person("jane").name, person("jane").image, get().requests[0].requesterName], ["Jane Doe", undefined, "Jane Doe"]);
  assert.deepEqual(person("jane").sessions.map(({ name }) => name), ["Jane Doe", "Jane Doe"]);
  assert.equal(person("tom"), tom);
  const { requests } = get();
  fold(event("user_changed", "tom", { name: "Tom 2", image: "https://a.example/t.png" }));
  assert.deepEqual([person("tom").name, person("tom").image], ["Tom 2", "https://a.example/t.png"]);
  assert.equal(get().requests, requests);
});

test("settings of the room, what changes of them, and the end of the last one [Q10]", () => {
  const { fold, get } = made([], { settings: { title: "Trailer", controlMode: "open" } });
  const change = (data) => fold(event("room_changed", "system", data));
  assert.deepEqual(get().settings, { title: "Trailer", controlMode: "open" });
  change({ title: "Trailer, cut 2", waitForViewers: 5 });
  assert.deepEqual(get().settings, { title: "Trailer, cut 2", controlMode: "open", waitForViewers: 5 });
  change({ title: null, controlMode: null });
  assert.deepEqual(get().settings, { waitForViewers: 5 });
  change({ waitForViewers: null });
  assert.equal(get().settings, undefined);
  change({ title: "Again" });
  fold(snapshot([]));
  assert.equal(get().settings, undefined, "a snapshot without settings");
});
