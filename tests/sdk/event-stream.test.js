/** Where WebSockets are blocked: events by a stream, messages by POST. The server is a `fetch` of the test. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { PROCEDURES } from "../../koko_presence/web/sdk/event-stream.js";
import { Socket, Time, event, finish, later, page, presence, row, settle, snapshot } from "./fake.js";

let time;
let server;
let warnings;
const { warn } = console;
beforeEach(() => {
  time = new Time();
  server = new Server();
  warnings = [];
  console.warn = (text) => warnings.push(text);
});
afterEach(async () => {
  console.warn = warn;
  await finish(time);
});

/** Answers requests: `streams` and `posts` have them in their order. */
class Server {
  streams = [];
  posts = [];
  /** Answers a call by its name and input. */
  call = (name, input) => ({ result: { data: { success: true, name, ...input } } });
  isHeld = false;
  /** There is no answer to requests for a stream. */
  isMute = false;

  constructor() {
    const { fetch } = globalThis;
    later(() => (globalThis.fetch = fetch));
    globalThis.fetch = (url, init = {}) => this.#fetch(new URL(url), init);
  }

  async #fetch({ pathname, search }, { method = "GET", headers = {}, body, signal, keepalive }) {
    if (pathname.endsWith("/presence")) return Response.json({});
    if (this.isMute) throw new TypeError("no stream");
    const names = pathname.split("/").at(-1).split(",").map((name) => name.replace("presence.", ""));
    if (method === "GET") return this.#open(names[0], headers, signal);
    assert.equal(search, "?batch=1");
    const inputs = Object.values(JSON.parse(body));
    this.posts.push({ names, inputs, headers, keepalive, signal });
    while (this.isHeld) await this.#wait(signal);
    return Response.json(names.map((name, i) => this.call(name, inputs[i])));
  }

  #wait(signal) {
    return new Promise((resolve, reject) => {
      this.release = resolve;
      signal.addEventListener("abort", () => reject(signal.reason));
    });
  }

  #open(name, headers, signal) {
    assert.equal(name, "onEvent");
    const stream = new Stream(headers);
    signal.addEventListener("abort", () => stream.fail(signal.reason));
    this.streams.push(stream);
    return new Response(stream.body, { headers: { "content-type": "text/event-stream" } });
  }

  get stream() {
    return this.streams.at(-1);
  }

  /** The calls since the last `take`, as [name, input]. */
  take() {
    return this.posts.splice(0).flatMap(({ names, inputs }) => names.map((name, i) => [name, inputs[i]]));
  }
}

class Stream {
  isOver = false;
  constructor(headers) {
    this.headers = headers;
    this.body = new ReadableStream({ start: (controller) => (this.controller = controller) });
    this.write('event: connected\ndata: {"reconnectAfterInactivityMs":35000}\n\n\nretry: 500\n\n');
  }

  write(text) {
    this.controller.enqueue(new TextEncoder().encode(text));
    return settle();
  }

  say(message) {
    return this.write(`data: ${JSON.stringify(message)}\n\n\n`);
  }

  hello(more = {}) {
    return this.say({
      type: "authenticated", userId: "me", sessionId: "s0", resumeToken: "resume", resumed: false, rooms: [],
      serverTime: performance.timeOrigin + performance.now(), heartbeatInterval: 30, limits: { cursorHz: 20 }, caps: [], ...more,
    });
  }

  end() {
    this.isOver = true;
    this.controller.close();
    return settle();
  }

  fail(reason) {
    if (!this.isOver) this.controller.error(reason);
    this.isOver = true;
  }
}

/** A user who has come to the point where a stream is opened. */
async function blocked(options = {}) {
  const made = presence(options);
  const room = made.enter("video_1", { type: "video" });
  await settle();
  await Socket.last.lose();
  for (const wait of [125, 250, 500, 1000, 2000, 1125]) { // the last one so that 5 s have passed
    await time.advance(wait);
    await Socket.last.lose();
  }
  await time.advance(125);
  return { presence: made, room };
}

/** A user in a room with jane, by a stream. */
async function inside(options) {
  const entered = await blocked(options);
  await server.stream.hello();
  await server.stream.say(snapshot([row("jane")]));
  await time.advance(300);
  server.take();
  return entered;
}

const refused = (reason, more = {}) => ({ error: { message: "No.", code: -32000, data: { code: "FORBIDDEN", reason, ...more } } });

test("after two WebSockets that did not open in 5 s while the server answers, a stream is used, and said", async () => {
  const { room } = await blocked({ privacy: { invisible: true } });
  assert.deepEqual([Socket.all.length, server.streams.length], [7, 1]);
  assert.deepEqual(server.stream.headers, { accept: "text/event-stream", "x-presence-resume": "", authorization: "Bearer token" });
  await server.stream.hello();
  await time.advance(1000);
  const [privacy, heartbeat, join] = server.posts; // the join waits for media.js
  assert.deepEqual([privacy.names, privacy.inputs], [["setPrivacy"], [{ data: { invisible: true } }]]);
  assert.deepEqual([join.names, join.inputs], [["join"], [{ roomId: "video_1", roomType: "video" }]]);
  assert.deepEqual([heartbeat.names, heartbeat.inputs[0].status], [["heartbeat"], "active"]);
  assert.deepEqual([join.headers["x-presence-session"], join.headers.authorization], ["s0", "Bearer token"]);
  await server.stream.say(snapshot([row("jane")]));
  const { status, transport, others } = room.getSnapshot();
  assert.deepEqual([status, transport, others.map(({ name }) => name)], ["live", "sse", ["JANE"]]);
});

test("events are applied in whatever pieces they come", async () => {
  const { room } = await inside();
  const text = `data: ${JSON.stringify(event("typing_started", "jane", { context: "ä" }))}\n\n\n`;
  const bytes = new TextEncoder().encode(text);
  for (const byte of bytes) server.stream.controller.enqueue(Uint8Array.of(byte));
  for (let i = 0; i < 50; i++) await settle();
  assert.equal(room.others[0].typingContext, "ä");
  await server.stream.write("event: ping\ndata: \n\n\n");
  assert.equal(room.status, "live");
});

test("every message of the SDK has its procedure, and answers reach their calls", async () => {
  const { room } = await inside();
  server.call = (name, input) => (name === "grantControl" ? refused("NOT_CONTROLLER", { state: { version: 3 }, retryAfter: 2 })
    : { result: { data: { success: true, delivered: 7, input } } });
  const answer = room.broadcast({ type: "hi" });
  await time.advance(200);
  assert.equal((await answer).delivered, 7);
  const errors = [];
  room.on("error", (error) => errors.push(error));
  const refusal = room.grantControl("jane");
  await time.advance(200);
  const { success, code, message, state, retryAfterMs } = await refusal;
  assert.deepEqual([success, code, message, state, retryAfterMs], [false, "NOT_CONTROLLER", "No.", { version: 3 }, 2000]);
  assert.equal(errors.length, 1);
  room.typing(true, "comment");
  await time.advance(200);
  room.typing(false);
  await time.advance(1000);
  assert.deepEqual(server.take().map(([name]) => name), ["broadcast", "grantControl", "startTyping", "stopTyping"]);
  const table = readFileSync(new URL("../../docs/http.md", import.meta.url), "utf8").split("\n## Procedures")[1].split("\n### ")[0];
  const documented = [...table.matchAll(/^\| ([^|]+) \|/gm)].flatMap(([, names]) => [...names.matchAll(/`(\w+)`/g)].map(([, name]) => name));
  assert.deepEqual([...Object.values(PROCEDURES), "startTyping", "stopTyping"].sort(), documented.sort());
});

test("while a request is under way the newest cursor waits; messages of a room keep their order", async () => {
  const { room } = await inside();
  server.isHeld = true;
  room.updateCursor({ timestamp: 1, x: 0, y: 0 });
  await time.advance(60);
  for (let i = 2; i < 10; i++) {
    room.updateCursor({ timestamp: i, x: 0, y: 0 });
    await time.advance(60);
  }
  const first = room.broadcast({ n: 1 });
  const second = room.broadcast({ n: 2 });
  await settle();
  assert.equal(server.posts.length, 1);
  server.isHeld = false;
  server.release();
  await time.advance(1000);
  await Promise.all([first, second]);
  const calls = server.take().map(([, { data }]) => data.timestamp ?? data.n);
  assert.deepEqual(calls, [1, 9, 1, 2]);
});

test("summaries of watched rooms are asked for again and again, until none is watched", async () => {
  let count = 1;
  server.call = (name, { rooms }) => ({ result: { data: name === "getSummaries"
    ? { summaries: rooms.filter((id) => id !== "no").map((roomId) => ({ roomId, userCount: count, users: [] })), refused: [] }
    : { success: true } } });
  const { presence: made } = await inside();
  const watch = made.watchRooms(["video_7", "no"]);
  await time.advance(300);
  assert.equal(watch.getSnapshot().video_7.userCount, 1);
  let changes = 0;
  watch.subscribe(() => changes++);
  await time.advance(5000);
  count = 2;
  await time.advance(5000);
  assert.deepEqual([watch.getSnapshot().video_7.userCount, changes], [2, 1]);
  watch.stop();
  await time.advance(3000);
  server.take();
  await time.advance(20_000);
  assert.ok(!server.take().some(([name]) => name === "getSummaries"));
});

/** A user by a stream whose watched rooms have one person each; `lists` gives the lists that were asked for since the last time. */
async function watching(roomId) {
  server.call = (name, { rooms = [] }) => ({ result: { data: name === "getSummaries"
    ? { summaries: rooms.map((id) => ({ roomId: id, userCount: 1, users: [] })), refused: [] }
    : { success: true } } });
  const { presence: made } = await inside();
  const watch = made.watchRooms([roomId]);
  await time.advance(1000);
  server.take();
  const lists = () => server.take().filter(([name]) => name === "getSummaries").map(([, { rooms }]) => rooms.join());
  return { watch, lists };
}

test("another list of watched rooms is asked for from then on, also if it waits as the earlier one is due", async () => {
  const { watch, lists } = await watching("video_a");
  const polls = [];
  while (!polls.length) {
    await time.advance(10);
    polls.push(...lists());
  }
  await time.advance(4950);
  server.isHeld = true;
  watch.setRooms(["video_b"]);
  await time.advance(60); // the question for the earlier list is due meanwhile
  server.isHeld = false;
  server.release?.();
  await time.advance(15_000);
  const asked = lists();
  assert.deepEqual([asked[0], new Set(asked), Object.keys(watch.getSnapshot())], ["video_b", new Set(["video_b"]), ["video_b"]]);
  assert.ok(asked.length > 2, `${asked}`);
});

test("an answer for an earlier list of watched rooms that is under way changes nothing", async () => {
  const { watch, lists } = await watching("video_a");
  server.isHeld = true;
  while (!server.posts.some(({ names }) => names.includes("getSummaries"))) await time.advance(10);
  watch.setRooms(["video_b"]);
  await settle();
  server.isHeld = false;
  server.release();
  await time.advance(12_000);
  assert.deepEqual([lists().slice(0, 3), Object.keys(watch.getSnapshot())], [["video_a", "video_b", "video_b"], ["video_b"]]);
});

test("a question for summaries that is refused is asked again", async () => {
  const { lists } = await watching("video_a");
  const { call } = server;
  server.call = (name, input) => (name === "getSummaries" ? refused("RATE_LIMITED") : call(name, input));
  await time.advance(11_000);
  assert.deepEqual(lists(), ["video_a", "video_a"]);
});

test("heartbeats are answered by a pong, which sets the clock", async () => {
  const { presence: made } = await inside();
  server.call = (name, { clientTime }) => ({ result: { data: { success: true, serverTime: clientTime + 5000, echo: clientTime } } });
  await time.advance(40_000);
  assert.deepEqual([server.take().map(([name]) => name), made.status], [["heartbeat"], "live"]);
});

test("a fresh token opens a second stream, which takes the place of the first when it has the session", async () => {
  let tokens = 0;
  const { room } = await inside({ auth: () => `token ${++tokens}` });
  const first = server.stream;
  await first.say({ type: "auth_expiring", expiresAt: "2025-01-15T11:30:00.000Z" });
  const second = server.stream;
  assert.equal(server.streams.length, 2);
  assert.deepEqual([second.headers.authorization, second.headers["x-presence-resume"]], ["Bearer token 2", "resume"]);
  await first.write(`event: serialized-error\ndata: ${JSON.stringify(refused("SESSION_REQUIRED").error)}\n\n\n`);
  assert.equal(room.status, "live", "the end of the first one says nothing");
  await second.hello({ resumed: true, resumeToken: "resume 2" });
  await second.say(snapshot([row("tom")]));
  assert.deepEqual([room.status, room.others[0].name], ["live", "TOM"]);
  room.broadcast({ n: 1 });
  await time.advance(100);
  assert.equal(server.posts.at(-1).headers.authorization, "Bearer token 2");
  assert.deepEqual([Socket.all.length, server.streams.length], [7, 2]);
});

test("a fresh token that is refused leaves the stream as it is, and is tried again", async () => {
  let tokens = 0;
  const { room } = await inside({ auth: () => `token ${++tokens}` });
  const first = server.stream;
  await first.say({ type: "auth_expiring", expiresAt: "2025-01-15T11:30:00.000Z" });
  await server.stream.write(`event: serialized-error\ndata: ${JSON.stringify(refused("UNAUTHENTICATED").error)}\n\n\n`);
  await first.say(event("typing_started", "jane"));
  assert.deepEqual([room.status, room.others[0].isTyping], ["live", true]);
  await time.advance(1000);
  assert.equal(server.stream.headers.authorization, "Bearer token 3");
});

test("a stream that ends is opened again with the resume token, also after a reload of the page", async () => {
  const { room } = await inside();
  await server.stream.end();
  assert.equal(room.status, "reconnecting");
  await time.advance(1000);
  assert.deepEqual([server.streams.length, server.stream.headers["x-presence-resume"], Socket.all.length], [2, "resume", 7]);
  await server.stream.hello({ resumed: true });
  await server.stream.say(snapshot([row("jane")]));
  assert.equal(room.status, "live");
});

for (const [reason, code] of [["FORBIDDEN", 4403], ["SESSION_REQUIRED", 4409]]) {
  test(`a stream that ends with ${reason} means what close code ${code} means`, async () => {
    const { room } = await inside();
    await server.stream.write(`event: serialized-error\ndata: ${JSON.stringify(refused(reason).error)}\n\n\n`);
    assert.deepEqual([room.status, room.getSnapshot().error.closeCode], ["closed", code]);
  });
}

test("a server that is full says so by the stream, and is tried again when it asks for it, by WebSocket", async () => {
  const { room } = await blocked();
  const errors = [];
  room.on("error", ({ code, message }) => errors.push([code, message]));
  await server.stream.write(`event: serialized-error\ndata: ${JSON.stringify(refused("UNAVAILABLE", { retryAfter: 30 }).error)}\n\n\n`);
  assert.deepEqual(errors, [["UNAVAILABLE", "No."]]);
  assert.ok(time.waits[0] >= 30_000);
  await time.advance(time.waits[0]);
  assert.equal(Socket.all.length, 8);
});

test("leaving and closing leave the room at once, and a page that goes too", async () => {
  const window = page();
  const { room, presence: made } = await inside();
  room.leave();
  await settle();
  assert.deepEqual(server.take(), [["leave", { roomId: "video_1" }]]);
  made.enter("video_1", { type: "video" });
  await time.advance(1000);
  await server.stream.hello();
  await time.advance(1000);
  server.posts.length = 0;
  await window.fire("pagehide", { persisted: false });
  const [{ names, keepalive }] = server.posts;
  assert.deepEqual([names, keepalive, server.stream.isOver], [["leave"], true, true]);
});

test("a call under way ends with its stream, without which it would be refused", async () => {
  const window = page();
  const { room } = await inside();
  server.isHeld = true;
  room.updateCursor({ timestamp: 1 });
  await settle();
  const [cursor] = server.posts;
  assert.deepEqual([cursor.names, cursor.signal.aborted], [["updateCursor"], false]);
  await server.stream.end();
  assert.equal(cursor.signal.aborted, true);
  server.isHeld = false;
  await time.advance(time.waits[0]);
  await server.stream.hello({ resumed: true, rooms: ["video_1"] });
  await server.stream.say(snapshot([row("jane")]));
  await time.advance(1000);
  server.posts.length = 0;
  server.isHeld = true;
  room.updateCursor({ timestamp: 2 });
  await time.advance(100);
  await window.fire("pagehide", { persisted: false });
  const calls = server.posts.map(({ names: [name], signal }) => [name, signal.aborted]);
  assert.deepEqual(calls, [["updateCursor", true], ["leave", false]]);
  server.isHeld = false;
  server.release();
  await settle();
});

test("a leave under way is not ended by the close behind it", async () => {
  const { room } = await inside();
  server.isHeld = true;
  room.leave(); // of the only room: the connection is closed
  await settle();
  assert.deepEqual(server.posts.map(({ names: [name], signal }) => [name, signal.aborted]), [["leave", false]]);
  assert.equal(server.stream.isOver, true);
  server.isHeld = false;
  server.release();
  await settle();
});

test("a change of privacy whose owner did not answer in time is sent again by the next stream", async () => {
  const { room } = await inside();
  server.call = () => refused("UNAVAILABLE");
  const answer = room.setPrivacy({ invisible: true });
  await time.advance(100);
  assert.equal((await answer).code, "UNAVAILABLE");
  server.call = () => ({ result: { data: { success: true } } });
  await server.stream.end();
  server.posts.length = 0;
  await time.advance(1000);
  await server.stream.hello();
  await time.advance(1000);
  const [privacy] = server.posts;
  assert.deepEqual([privacy.names, privacy.inputs], [["setPrivacy"], [{ data: { invisible: true } }]]);
});

test("a request that fails is a lost connection", async () => {
  const { room } = await inside();
  server.call = () => {
    throw new TypeError("the network is away");
  };
  const answer = room.broadcast({ n: 1 });
  await time.advance(100);
  assert.deepEqual([(await answer).code, room.status], ["OFFLINE", "reconnecting"]);
});

test("the session storage of the page remembers it, for this address", async () => {
  const stored = new Map();
  globalThis.sessionStorage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  later(() => delete globalThis.sessionStorage);
  await inside();
  const sockets = Socket.all.length;
  const room = presence().enter("video_1", { type: "video" });
  await settle();
  await server.stream.hello();
  assert.deepEqual([Socket.all.length, server.streams.length, room.getSnapshot().transport], [sockets, 2, "sse"]);
  presence({ url: "ws://server/other" }).enter("video_1", { type: "video" });
  await settle();
  assert.deepEqual([Socket.all.length, server.streams.length, Socket.last.url], [sockets + 1, 2, "ws://server/other"]);
});

test("the console is told once that streams are used, and again after a reload, whether or not anything listens to errors", async () => {
  const stored = new Map();
  globalThis.sessionStorage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  later(() => delete globalThis.sessionStorage);
  const warned = () => warnings.filter((text) => text.includes("server-sent events"));
  const { presence: made } = await inside();
  assert.match(warned()[0], /^koko-presence: No WebSocket opens at ws:\/\/server\/presence, so this tab uses server-sent events, /);
  assert.match(warned()[0], /Does a proxy on the way pass WebSockets on/);
  await server.stream.end();
  await time.advance(time.waits[0]);
  await server.stream.hello({ resumed: true });
  assert.deepEqual([made.status, server.streams.length, warned().length], ["live", 2, 1]);
  const reloaded = presence();
  reloaded.on("error", () => {});
  reloaded.enter("video_1", { type: "video" });
  await settle();
  await server.stream.hello();
  assert.equal(warned().length, 2);
});

test("a server that answers neither to WebSockets nor with a stream is told, and tried again late, by WebSocket", async () => {
  const errors = [];
  server.isMute = true;
  const { room, presence: made } = await blocked();
  made.on("error", ({ code }) => errors.push(code));
  const { status, error, transport } = room.getSnapshot();
  assert.deepEqual([status, error.code, transport, time.waits[0] > 15_000], ["connecting", "REFUSED", "websocket", true]);
  assert.match(error.message, /blocked on the way/);
  server.isMute = false;
  await time.advance(time.waits[0]);
  assert.equal(Socket.all.length, 8);
  Socket.last.open();
  await settle();
  await Socket.last.say({ ...snapshot([]), id: Socket.last.of("join")[0].id });
  assert.deepEqual([room.status, room.getSnapshot().transport, errors], ["live", "websocket", []]);
});

test("a server that refuses WebSockets by itself gets no stream", async () => {
  const { fetch } = globalThis;
  globalThis.fetch = async (url, init) => (url.pathname === "/presence" ? Response.json({ error: "Full." }) : fetch(url, init));
  const room = presence().enter("video_1");
  await settle();
  for (let i = 0; i < 3; i++) {
    await Socket.last.lose();
    assert.deepEqual([room.getSnapshot().error.message, server.streams.length], ["Full.", 0]);
    await time.advance(time.waits[0]);
  }
  assert.equal(Socket.all.length, 4);
});
