/** What keeps a room from being live is told: in the snapshot, as an event, and in the console where nothing listens. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { watchLoss } from "../../koko_presence/web/sdk/connection-loss.js";
import { createHooks } from "../../koko_presence/web/sdk/react.js";
import { createPresence } from "../../koko_presence/web/sdk/presence.js";
import { Socket, Time, event, finish, inside, later, presence, row, settle, snapshot } from "./fake.js";

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

/** Answers of the server to fetch, by address; without one there is no server. */
function answering(answers) {
  const { fetch } = globalThis;
  later(() => (globalThis.fetch = fetch));
  globalThis.fetch = async (url) => answers[url]?.() ?? fetch(url);
}

/** A room that is entered; nothing listens to errors but `errors`, if that is asked for. */
async function entering(options, { listens = true } = {}) {
  const made = presence(options);
  const errors = [];
  if (listens) made.on("error", (error) => errors.push(error));
  const room = made.enter("video_1");
  await settle();
  return { made, room, errors };
}

const errorOf = (room) => room.getSnapshot().error;

test("a server that is not there: in the snapshot while it tries, an event at each attempt, gone when it is live", async () => {
  const { made, room, errors } = await entering();
  let changes = 0;
  room.subscribe(() => changes++);
  assert.equal(errorOf(room), null);
  await Socket.last.lose();
  const expected = { code: "UNREACHABLE", message: "No server answers at ws://server/presence." };
  assert.deepEqual([room.status, errorOf(room), made.error, errors, changes], ["connecting", expected, expected, [expected], 1]);
  await time.advance(time.waits[0]);
  await Socket.last.lose();
  assert.equal(errors.length, 2);
  await time.advance(time.waits[0]);
  Socket.last.open();
  await settle();
  await Socket.last.say({ ...snapshot(), id: Socket.last.of("join")[0].id });
  assert.deepEqual([room.status, errorOf(room), made.error, warnings], ["live", null, null, []]);
});

const atItsLimit = { status: 503, headers: { "retry-after": "10", "content-type": "text/plain; charset=utf-8" } };
for (const [what, answer, message] of [
  ["an origin that is not listed", () => Response.json({ error: "This page's origin is not on the list." }), /origin/],
  ["a wrong path", () => Response.json({ error: "Nothing here. The WebSocket is at /presence." }, { status: 404 }),
    /^Nothing here. The WebSocket is at \/presence. \(status 404 at http:\/\/server\/presence\)$/],
  ["a server at its limits", () => new Response("The server has no room.", atItsLimit), /no room/],
  ["the page of another server", () => new Response("<!doctype html>"), /^What answers at http:\/\/server\/presence \(status 200\) is no presence server: is the path right/],
  ["another interface", () => Response.json(["hello"]), /is no presence server/],
  ["a long error of another interface", () => Response.json({ error: "x".repeat(1000) }), /^x{300}$/],
  ["an error of another interface", () => Response.json({ error: { code: 7 } }, { status: 400 }), /\(status 400\) is no presence server: is the path right/],
]) {
  test(`${what} is told with the server's reason`, async () => {
    answering({ "http://server/presence?why=": answer });
    const { room, errors } = await entering();
    await Socket.last.lose();
    assert.deepEqual([room.status, errors.length, errorOf(room).code], ["connecting", 1, "REFUSED"]);
    assert.match(errorOf(room).message, message);
    assert.ok(time.waits[0] > 10_000, "it is not there again in a moment");
  });
}

for (const data of ["hello", "[1]", "null"]) {
  test(`a server that says ${data} is no presence server`, async () => {
    const { room, errors } = await entering();
    Socket.last.onopen();
    Socket.last.onmessage({ data });
    await settle();
    assert.deepEqual([errors.map(({ code }) => code), errorOf(room).code, Socket.all[0].closedWith], [["REFUSED"], "REFUSED", 3000]);
    assert.match(errorOf(room).message, /no presence server/);
  });
}

test("a server that answers something else than an authentication is given up like one that is silent", async () => {
  const { room } = await entering();
  Socket.last.onopen();
  await Socket.last.say({ type: "auth", token: "an echo" });
  await time.advance(15_000);
  assert.equal(errorOf(room).code, "UNREACHABLE");
});

for (const [what, token, message] of [
  ["nothing", undefined, /^`auth` gives undefined in place of a token, or null if there is no user. Is it the field `token` of the route's answer\?$/],
  ["JSON", '{"token":"e30.e30.e30"}', /^`auth` gives JSON, or a page, in place of the token: return .* `\(await answer.json\(\)\).token`/],
  ["JSON of a text", '"e30.e30.e30"', /gives JSON/],
  ["a page", "\n<!doctype html>", /or a page/],
]) {
  test(`\`auth\` that gives ${what} is told what to do, and asked again`, async () => {
    const { room } = await entering({ auth: () => token });
    assert.deepEqual([room.status, errorOf(room).code, Socket.all.length], ["connecting", "TOKEN", 0]);
    assert.match(errorOf(room).message, message);
  });
}

for (const [what, answer, token] of [
  ["JSON", () => Response.json({ token: "a.b.c" }), "a.b.c"],
  ["a text", () => new Response("a.b.c\n"), "a.b.c"],
  ["a text as JSON", () => Response.json("a.b.c"), "a.b.c"],
]) {
  test(`\`auth\` that is an address: the route answers with ${what}, and is asked with cookies`, async () => {
    const asked = [];
    globalThis.location = { href: "https://app.example/film" };
    const { fetch } = globalThis;
    later(() => {
      globalThis.fetch = fetch;
      delete globalThis.location;
    });
    globalThis.fetch = async (url, { credentials, cache }) => {
      asked.push([url.href, credentials, cache]);
      return answer();
    };
    await entering({ auth: "/api/token" });
    Socket.last.onopen();
    assert.deepEqual([Socket.last.of("auth")[0].token, asked], [token, [["https://app.example/api/token", "include", "no-store"]]]);
  });
}

for (const [what, answer, code, message] of [
  ["401 ends the room: there is no user", () => Response.json({ error: "Sign in." }, { status: 401 }), "SIGNED_OUT", /there is no user/],
  ["404 is told, with what it says", () => Response.json({ error: "No such page." }, { status: 404 }), "TOKEN",
    /^Error: http:\/\/app\/token answers with status 404: No such page\.$/],
  ["500 is told", () => new Response("oops", { status: 500 }), "TOKEN", /^Error: http:\/\/app\/token answers with status 500$/],
  ["a page is told", () => new Response("<!doctype html>"), "TOKEN", /gives JSON, or a page/],
  ["JSON without a token is told", () => Response.json({ jwt: "a.b.c" }), "TOKEN", /gives undefined .* the field `token`/],
  ["an empty answer is told", () => new Response(null, { status: 204 }), "TOKEN", /in place of a token/],
  ["no answer is told", () => Promise.reject(new TypeError("Failed to fetch")), "TOKEN", /^TypeError: Failed to fetch$/],
]) {
  test(`\`auth\` that is an address: ${what}`, async () => {
    answering({ "http://app/token": answer });
    const { room } = await entering({ auth: "http://app/token" });
    assert.deepEqual([room.status, errorOf(room).code, Socket.all.length], [code === "TOKEN" ? "connecting" : "closed", code, 0]);
    assert.match(errorOf(room).message, message);
  });
}

test("`auth` whose route answers with a page says that it is no JSON", async () => {
  const { room } = await entering({ auth: async () => (await new Response("<!doctype html>").json()).token });
  assert.match(errorOf(room).message, /^SyntaxError: .*is not valid JSON. The route of `auth` gives no JSON: does a proxy lead to your back end\?$/);
});

test("a proxy whose server does not run is told with its status, and tried again soon", async () => {
  answering({ "http://server/presence?why=": () => new Response("", { status: 502 }) });
  const { room } = await entering();
  await Socket.last.lose();
  const message = "What answers at http://server/presence (status 502) is no presence server: does the presence server behind the proxy run?";
  assert.deepEqual([errorOf(room), time.waits[0]], [{ code: "UNREACHABLE", message }, 125]);
});

test("what the first attempt waits for is told after 5 s, while it goes on", async () => {
  let give;
  const { made, room, errors } = await entering({ auth: () => new Promise((resolve) => (give = resolve)) });
  const seen = [];
  room.subscribe(() => seen.push(errorOf(room)));
  await time.advance(4999);
  assert.deepEqual([errorOf(room), errors], [null, []]);
  await time.advance(1);
  const missing = { code: "TOKEN", message: "`auth` has not answered within 5 s." };
  assert.deepEqual([errors, seen, made.error], [[], [missing], missing]); // no failure, so no event
  give("token");
  await settle();
  Socket.last.open();
  await settle();
  await Socket.last.say({ ...snapshot(), id: Socket.last.of("join")[0].id });
  assert.deepEqual([room.status, errorOf(room), errors.length], ["live", null, 0]);
});

test("a socket that does not open in 5 s is told with its address; later attempts have the failure before them", async () => {
  const { room, errors } = await entering();
  await time.advance(5000);
  const message = "ws://server/presence has not answered within 5 s.";
  assert.deepEqual([errorOf(room), Socket.last.closedWith], [{ code: "UNREACHABLE", message }, null]);
  await time.advance(10_000);
  assert.deepEqual(errors.map((error) => error.message), ["ws://server/presence has not answered within 15 s."]);
  await time.advance(time.waits[0]);
  await time.advance(5000);
  assert.deepEqual(errorOf(room), errors[0]);
});

test("the reason of a close frame keeps its own punctuation", async () => {
  for (const [reason, shown = reason] of [["Made with another secret?"], ["Bye."], ["going away", "going away."]]) {
    const { presence: made, room, socket } = await inside();
    socket.onclose({ code: 4409, reason });
    await settle();
    assert.equal(errorOf(room).message, `The server closed the connection: ${shown}`);
    made.close();
  }
});

test("a room that is closed to the user: the console, not the user, is told where a developer looks", async () => {
  const { room } = await entering({}, { listens: false });
  Socket.last.open();
  await settle();
  const message = "This room is not open to you. Ask your application for access.";
  await Socket.last.say({ type: "error", id: 1, code: "FORBIDDEN", message, roomId: "video_1" });
  assert.deepEqual([room.status, errorOf(room).message, warnings.length], ["closed", message, 1]);
  assert.match(warnings[0], /for access. Has the token's claim `rooms`, or your back end's answer, "join" for video_1\? \(Said once/);
});

test("nor does the console guess where access could not be checked", async () => {
  await entering({}, { listens: false });
  Socket.last.open();
  await settle();
  await Socket.last.say({ type: "error", id: 1, code: "FORBIDDEN", message: "Later.", roomId: "video_1", retryAfterMs: 400 });
  assert.match(warnings[0], /FORBIDDEN: Later. \(Said once/);
});

test("no token: what `auth` threw is in the snapshot", async () => {
  const { room, errors } = await entering({ auth: () => Promise.reject(new Error("signed out")) });
  assert.deepEqual([room.status, errorOf(room), errors.length], ["connecting", { code: "TOKEN", message: "Error: signed out" }, 1]);
});

test("a sixth tab: the server's words, while it tries", async () => {
  const { room, errors } = await entering();
  Socket.last.onopen();
  await Socket.last.say({ type: "error", code: "TOO_MANY_SESSIONS", message: "Close one." });
  await Socket.last.lose(4429);
  const expected = { code: "TOO_MANY_SESSIONS", message: "Close one.", closeCode: 4429 };
  assert.deepEqual([room.status, errorOf(room), errors.map(({ code }) => code)], ["connecting", expected, ["TOO_MANY_SESSIONS"]]);
});

test("a join that the server asks to be repeated: its reason, until it is in", async () => {
  const { room } = await entering();
  Socket.last.open();
  await settle();
  await Socket.last.say({ type: "error", id: 1, code: "FORBIDDEN", message: "Ask later.", roomId: "video_1", retryAfterMs: 400 });
  assert.deepEqual([room.status, errorOf(room).code, errorOf(room).message], ["connecting", "FORBIDDEN", "Ask later."]);
  await time.advance(1000);
  await Socket.last.say({ ...snapshot(), id: 2 });
  assert.deepEqual([room.status, errorOf(room)], ["live", null]);
});

test("a join without an answer is repeated", async () => {
  const { room } = await entering();
  Socket.last.open();
  await settle();
  for (let i = 0; i < 20; i++) {
    await time.advance(1000);
    await Socket.last.say({ type: "pong" });
  }
  assert.deepEqual([Socket.last.of("join").length, errorOf(room).code], [2, "TIMEOUT"]);
});

test("the final error has the server's reason", async () => {
  for (const [code, more, message, cause] of [
    [1003, { type: "error", code: "BINARY_NOT_SUPPORTED", message: "Send text." }, "Send text.", "BINARY_NOT_SUPPORTED"],
    [4409, null, "The server closed the connection: replaced by a newer connection.", "LOST"],
  ]) {
    const { presence: made, room, socket } = await inside();
    const errors = [];
    made.on("error", (error) => errors.push(error));
    if (more) await socket.say(more);
    socket.onclose({ code, reason: "replaced by a newer connection" });
    await settle();
    const { error } = room.getSnapshot();
    assert.deepEqual([room.status, error.message, error.cause.code], ["closed", message, cause]);
    assert.deepEqual([errors.at(-1), made.error, error.closeCode], [error, error, code]);
    made.close();
  }
});

test("a loss is in the snapshot, with how it was closed, and is no error event", async () => {
  const { presence: made, room, socket } = await inside();
  const errors = [];
  made.on("error", (error) => errors.push(error));
  await socket.say({ type: "error", code: "INVALID_DATA", message: "Of a cursor, long ago." });
  errors.length = 0;
  await socket.lose(1006);
  assert.deepEqual([room.status, errorOf(room), errors], ["reconnecting", { code: "LOST", message: "The connection was lost.", closeCode: 1006 }, []]);
});

test("where nothing listens the console is told of each code once; where anything does, it is not", async () => {
  const { room } = await entering({}, { listens: false });
  for (let i = 0; i < 3; i++) {
    await Socket.last.lose();
    await time.advance(time.waits[0]);
  }
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /UNREACHABLE: No server answers at ws:\/\/server\/presence/);
  room.on("error", () => {});
  Socket.last.onopen();
  await Socket.last.say({ type: "error", code: "UNAUTHENTICATED", message: "no" });
  await Socket.last.lose(4401);
  assert.equal(warnings.length, 1);
});

test("a join that is refused for good is told to the console, a refused request is not", async () => {
  const { room } = await entering({}, { listens: false });
  Socket.last.open();
  await settle();
  await Socket.last.say({ type: "error", id: 1, code: "ROOM_FULL", message: "This room is full.", roomId: "video_1" });
  assert.deepEqual([room.status, warnings.length], ["closed", 1]);
  const { room: other, socket } = await inside();
  other.broadcast({ n: 1 });
  await socket.say({ type: "error", id: 2, code: "RATE_LIMITED", message: "Too many.", roomId: "video_1" });
  assert.equal(warnings.length, 1);
});

test("a loss that lasts is `lost`, and still tried [D2]", async () => {
  const { presence: made, room, socket } = await inside();
  const seen = [];
  room.on("status", (status) => seen.push(status));
  await socket.lose();
  await time.advance(4999);
  assert.equal(room.status, "reconnecting");
  await time.advance(1);
  assert.deepEqual([room.status, made.status], ["lost", "lost"]);
  const sockets = Socket.all.length;
  for (let i = 0; i < 3; i++) {
    await time.advance(20_000);
    await Socket.last.lose();
  }
  assert.deepEqual([Socket.all.length > sockets, seen], [true, ["reconnecting", "lost"]]);
  await time.advance(time.waits[0]);
  Socket.last.open();
  await settle();
  await Socket.last.say(snapshot());
  assert.deepEqual(seen, ["reconnecting", "lost", "live"]);
});

test("a room that is left while it is lost is not restored; one that is live again is", async () => {
  const { presence: made, room, socket } = await inside();
  const heard = [];
  watchLoss(room, 1000, (loss) => heard.push(loss));
  await socket.lose();
  await time.advance(3000);
  Socket.last.open({ resumed: true, rooms: ["video_1"] });
  await settle();
  await Socket.last.say({ ...snapshot(), id: Socket.last.of("join")[0].id });
  assert.deepEqual(heard, ["lost", "restored"]);
  await Socket.last.lose();
  await time.advance(3000);
  room.leave();
  await settle();
  assert.deepEqual([heard, made.status], [["lost", "restored", "lost"], "closed"]);
});

test("what a return was is told: the same session or a new one, and how long it took", async () => {
  const { room, socket } = await inside();
  const told = [];
  room.on("returned", (returned) => told.push(returned));
  assert.equal(room.getSnapshot().returned, null);
  await socket.say(event("typing_started", "jane"));
  await time.advance(3000);
  const back = async (hello) => {
    await time.advance(1000);
    Socket.last.open(hello);
    await settle();
    await Socket.last.say(snapshot([row("jane")]));
  };
  await socket.lose();
  await back({ resumed: true, rooms: ["video_1"] });
  assert.deepEqual([told, room.getSnapshot().returned], [[{ resumed: true, awayMs: 4000 }], { resumed: true, awayMs: 4000 }]);
  await Socket.last.lose();
  await back({ resumed: true, rooms: [] });
  await Socket.last.lose();
  await back({ resumed: false });
  assert.deepEqual(told.slice(1), [{ resumed: false, awayMs: 1000 }, { resumed: false, awayMs: 1000 }]);
  await Socket.last.say(snapshot([row("jane")]));
  assert.equal(told.length, 3, "a new snapshot on the same connection is no return");
});

// --- wrong calls -------------------------------------------------------------------------------------------------

test("a missing address or a wrong option throws at the call", () => {
  const auth = () => "token";
  for (const [options, message] of [
    [undefined, /options/],
    [{ auth }, /`url` is missing/],
    [{ url: "", auth }, /`url` is missing/],
    [{ url: "http://[nonsense", auth }, /Invalid URL/],
    [{ url: "file:///presence", auth }, /file: is no address of a server/],
    [{ url: "/presence", auth: 5 }, /`auth` is the address of a route/],
    [{ url: "/presence", auth: "" }, /`auth` is the address/],
    [{ url: "/presence", auth: "eyJhbGciOiJIUzI1NiJ9.e30.e30" }, /it is no token/],
    [{ url: "/presence", auth, signal: true }, /`signal`/],
  ]) assert.throws(() => createPresence(options), { name: "TypeError", message });
  assert.equal(createPresence({ url: "/presence", auth }).status, "idle", "on a server that renders there is no address of the page");
});

test("wrong arguments throw at the call, and harm nothing", async () => {
  const { presence: made, room, socket } = await inside();
  for (const [call, message] of [
    [() => made.enter(), /id of a room is a string/],
    [() => made.enter(""), /id of a room is a string/],
    [() => made.enter("video_2", { type: "film" }), /no type "film"/],
    [() => made.enter("video_2", { privacy: true }), /`privacy`/],
    [() => made.enter("video_2", null), /options/],
    [() => made.on("status"), /listener/],
    [() => room.on("change", "x"), /listener/],
    [() => room.subscribe(), /listener/],
    [() => room.updateCursor(5), /needs an object/],
    [() => room.updateCursor({ timestamp: 1n }), /`timestamp` is a number or a text, not bigint/],
    [() => room.updateSelection({ startTime: {} }), /`startTime`/],
    [() => room.typing(true, {}), /context is a text/],
    [() => room.playback(), /playback: needs a command, such as \{ action: "play" \}, not undefined/],
    [() => room.playback("play"), /needs a command/],
    [() => room.follow(), /follow: needs true, false or a user id/],
    [() => room.follow(null), /follow: needs true/],
  ]) assert.throws(call, { name: "TypeError", message });
  await time.advance(1000);
  assert.deepEqual([socket.sent, room.status, made.status], [[], "live", "live"]);
});

test("entering an entered room applies its privacy, and refuses another type", async () => {
  const { presence: made, room, socket } = await inside();
  assert.equal(made.enter("video_1", { type: "video", privacy: { shareCursor: false } }), room);
  await settle();
  assert.deepEqual(socket.of("privacy").map(({ data }) => data), [{ shareCursor: false }]);
  assert.throws(() => made.enter("video_1", { type: "project" }), { name: "TypeError", message: /entered as "video"/ });
  room.leave();
  assert.equal(room.status, "live", "the refused one does not count");
  room.leave();
  assert.equal(room.status, "closed");
  const early = presence();
  early.enter("video_2");
  early.enter("video_2", { type: "comparison", privacy: { invisible: true } });
  assert.throws(() => early.enter("video_2", { type: "video" }), /entered as "comparison"/);
  await settle();
  Socket.last.open();
  await settle();
  const [{ roomType, privacy }] = Socket.last.of("join");
  assert.deepEqual([roomType, privacy], ["comparison", { invisible: true }]);
});

test("entering an entered room adds what is missing in its presence object", async () => {
  const { presence: made, room, socket } = await inside();
  room.setPresence({ tool: "pen", page: 3 });
  await time.advance(100);
  socket.clear();
  made.enter("video_1", { presence: { tool: "none", isGuest: true } });
  await time.advance(100);
  assert.deepEqual(room.getSnapshot().presence, { tool: "pen", page: 3, isGuest: true });
  assert.deepEqual(socket.of("presence").map(({ data }) => data), [{ isGuest: true }]);
});

/** A signal that counts its listeners. */
function countingSignal() {
  const controller = new AbortController();
  const { signal } = controller;
  const listeners = new Set();
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (type, listener, options) => {
    listeners.add(listener);
    options?.signal?.addEventListener("abort", () => listeners.delete(listener));
    addEventListener.call(signal, type, listener, options);
  };
  signal.removeEventListener = (type, listener) => {
    listeners.delete(listener);
    removeEventListener.call(signal, type, listener);
  };
  return { controller, signal, listeners };
}

test("a signal of the page keeps no room that was left, and no presence that is closed", async () => {
  const { controller, signal, listeners } = countingSignal();
  const made = presence({ signal });
  for (let i = 0; i < 5; i++) {
    const room = made.enter(`video_${i}`, { signal });
    await settle();
    room.leave();
  }
  await settle();
  assert.deepEqual([made.status, listeners.size], ["closed", 0]);
  const room = made.enter("video_1", { signal });
  const again = made.enter("video_1", { signal });
  assert.deepEqual([room, listeners.size], [again, 3]);
  controller.abort();
  await settle();
  assert.deepEqual([room.status, made.status, listeners.size], ["closed", "closed", 0]);
});

test("each `enter` with a signal is one that its abort takes back", async () => {
  const { presence: made, room } = await inside();
  const controller = new AbortController();
  for (let i = 0; i < 2; i++) made.enter("video_1", { signal: controller.signal });
  controller.abort();
  assert.equal(room.status, "live");
  made.enter("video_1", { signal: controller.signal }); // aborted already
  assert.equal(room.status, "live");
  room.leave();
  assert.equal(room.status, "closed");
});

test("createHooks says what it needs", () => {
  assert.throws(() => createHooks(), { name: "TypeError", message: /createHooks\(React\)/ });
});

// --- requests ----------------------------------------------------------------------------------------------------

const circle = {};
circle.self = circle;

test("what is no JSON, or too large, is refused at the call, with and without a connection, and kills nothing", async () => {
  const { room, socket } = await inside();
  const errors = [];
  room.on("error", ({ code, roomId }) => errors.push([code, roomId]));
  const wrong = [{ n: 1n }, circle, { toJSON() { throw new Error("mine"); } }, { text: "x".repeat(20_000) }];
  const codes = ["INVALID_DATA", "INVALID_DATA", "INVALID_DATA", "TOO_LARGE"];
  for (const connected of [true, false]) {
    if (!connected) await socket.lose();
    const answers = await Promise.all(wrong.map((data) => room.broadcast(data)));
    assert.deepEqual(answers.map(({ success, code }) => [success, code]), codes.map((code) => [false, code]));
    assert.match(answers[0].message, /cannot be sent as JSON: TypeError/);
    assert.deepEqual(errors.splice(0), codes.map((code) => [code, "video_1"]));
  }
  const good = room.broadcast({ n: 2 });
  await time.advance(time.waits[0]);
  Socket.last.open();
  await settle();
  await Socket.last.say(snapshot([row("jane")]));
  assert.deepEqual([room.status, Socket.last.of("broadcast").map(({ data }) => data)], ["live", [{ n: 2 }]]);
  await Socket.last.say({ type: "ack", id: Socket.last.of("broadcast")[0].id, success: true, delivered: 1 });
  assert.equal((await good).delivered, 1);
});

test("what is sent is what was passed, also if it is changed while it waits", async () => {
  const { room, socket } = await inside();
  await socket.lose();
  const data = { n: 1 };
  room.broadcast(data);
  data.n = 2n;
  await time.advance(time.waits[0]);
  Socket.last.open();
  await settle();
  await Socket.last.say(snapshot([row("jane")]));
  assert.deepEqual(Socket.last.of("broadcast").map(({ data: sent }) => sent), [{ n: 1 }]);
});

test("a request whose owner dies is answered with TIMEOUT, and a late answer changes nothing", async () => {
  const { room, socket } = await inside();
  const answer = room.broadcast({ n: 1 });
  for (let i = 0; i < 15; i++) {
    await time.advance(1000);
    await socket.say({ type: "pong" });
  }
  const { success, code, message } = await answer;
  assert.deepEqual([success, code], [false, "TIMEOUT"]);
  assert.match(message, /broadcast within 15 s/);
  await socket.say({ type: "ack", id: socket.of("broadcast")[0].id, success: true, delivered: 1 });
  assert.equal(room.status, "live");
});

test("a request that finds no connection in 30 s is answered with OFFLINE, and not sent later", async () => {
  const { room, socket } = await inside();
  await socket.lose();
  const answer = room.broadcast({ n: 1 });
  await time.advance(30_000);
  assert.equal((await answer).code, "OFFLINE");
  await Socket.last.lose();
  await time.advance(time.waits[0]);
  Socket.last.open();
  await settle();
  await Socket.last.say(snapshot([row("jane")]));
  assert.deepEqual([room.status, Socket.last.of("broadcast")], ["live", []]);
});

/** Every call of a room that gives a promise. */
const calls = {
  broadcast: [{ n: 1 }], setStatus: ["busy"], setPrivacy: [{ invisible: false }], playback: [{ action: "play" }], step: [1],
  setMedia: [{ mediaId: "a" }], requestControl: [], cancelRequest: [], grantControl: ["jane"], denyControl: ["jane"], releaseControl: [],
  follow: [true], ready: [],
};

for (const [when, prepare] of Object.entries({
  "the room is left": ({ room }) => room.leave(),
  "the presence is closed": ({ presence: made }) => made.close(),
  "the connection is lost and then closed": async ({ presence: made, socket }) => {
    await socket.lose();
    queueMicrotask(() => made.close());
  },
})) {
  for (const late of [false, true]) {
    test(`every promise settles when ${when}${late ? ", also of a call after it" : ""}`, async () => {
      const all = await inside();
      const ask = () => Object.entries(calls).map(async ([name, args]) => [name, await all.room[name](...args)]);
      const early = late ? [] : ask();
      await prepare(all);
      await settle();
      const answers = Object.fromEntries(await Promise.all(late ? ask() : early));
      assert.deepEqual(Object.keys(answers), Object.keys(calls));
      const { ready, follow, ...requests } = answers;
      if (late) assert.deepEqual([ready, typeof follow], [false, "boolean"]);
      for (const [name, { success, code, message }] of Object.entries(requests)) {
        assert.deepEqual([success, typeof message], [false, "string"], name);
        assert.ok(["OFFLINE", "NOT_IN_ROOM"].includes(code), `${name}: ${code}`);
      }
    });
  }
}

test("a seek that waits for its turn when the connection is lost is answered, and so is a start that only the server can time", async () => {
  const { room, socket } = await inside();
  room.playback({ action: "seek", currentTime: 1 });
  const seek = room.playback({ action: "seek", currentTime: 2 });
  await settle();
  assert.equal(socket.of("playback").length, 1);
  await socket.lose();
  const start = room.playback({ action: "play", startDelayMs: "auto" });
  await time.advance(2100);
  assert.deepEqual([(await seek).code, (await start).code], ["OFFLINE", "OFFLINE"]);
});

test("a message of an old room object is not sent for the new one", async () => {
  const { presence: made, room, socket } = await inside();
  room.leave();
  made.enter("video_1", { type: "video" });
  await settle();
  await socket.say(snapshot([row("jane")]));
  assert.equal((await room.broadcast({ n: 1 })).code, "NOT_IN_ROOM");
  assert.deepEqual(socket.of("broadcast"), []);
});

test("a final end is not warned of where one of two rooms listens", async () => {
  const { made, room } = await entering({}, { listens: false });
  room.on("error", () => {});
  made.enter("project_1", { type: "project" });
  await settle();
  Socket.last.open();
  await Socket.last.lose(4403);
  await settle();
  assert.equal(made.status, "closed");
  assert.deepEqual(warnings, []);
});

test("a server that stops is one that cannot be reached: WebSockets are tried again soon", async () => {
  answering({ "http://server/presence?why=": () => Response.json({ error: "The server is stopping.", stopping: true }) });
  const { made, room } = await entering();
  for (let attempt = 0; attempt < 3; attempt++) {
    await Socket.last.lose();
    await settle();
    assert.equal(errorOf(room).code, "UNREACHABLE");
    await time.advance(time.waits[0]);
  }
  assert.deepEqual([made.transport ?? room.getSnapshot().transport, errorOf(room).code], ["websocket", "UNREACHABLE"]);
});

test("a room that a listener of `closed` enters again is another one, with a connection of its own", async () => {
  const { presence: made, room, socket } = await inside();
  let again;
  room.on("status", (status) => {
    if (status === "closed") again = made.enter("video_1", { type: "video" });
  });
  await socket.lose(4403);
  assert.deepEqual([room.status, again.status, made.rooms, made.enter("video_1")], ["closed", "connecting", [again], again]);
  assert.equal(made.error, null);
  Socket.last.open();
  await settle();
  await Socket.last.say({ ...snapshot([row("tom")]), id: Socket.last.of("join")[0].id });
  assert.deepEqual([again.status, made.status, again.others[0].name], ["live", "live", "TOM"]);
});

test("so is one that a listener of the error enters, and one of a presence that is closed", async () => {
  const { presence: made, socket, room } = await inside();
  let again;
  made.on("error", () => (again ??= made.enter("video_1")));
  await socket.lose(4403);
  assert.deepEqual([room.status, again.status, made.rooms], ["closed", "connecting", [again]]);
  let last;
  const undo = made.on("status", (status) => {
    if (status === "closed") last = made.enter("video_1");
  });
  made.close();
  undo();
  assert.deepEqual([again.status, last.status, made.rooms, made.status], ["closed", "connecting", [last], "connecting"]);
  await settle();
  assert.equal(Socket.all.length, 3);
});

for (const [what, listen] of [
  ["of the status", (made, close) => made.on("status", (status) => status === "reconnecting" && close())],
  ["of the status of a room", (made, close, room) => room.on("status", (status) => status === "reconnecting" && close())],
  ["of the snapshot", (made, close, room) => room.subscribe(() => room.getSnapshot().error && close())],
]) {
  test(`a presence that a listener ${what} closes at a loss stays closed`, async () => {
    const { presence: made, room, socket } = await inside();
    listen(made, () => made.close(), room);
    await socket.lose();
    assert.deepEqual([made.status, room.status, made.error], ["closed", "closed", null]);
    await time.advance(60_000);
    assert.deepEqual([made.status, Socket.all.length], ["closed", 1]);
  });
}

for (const [what, fail, { answer, auth = () => "token" } = {}] of [
  ["a server that cannot be reached", () => Socket.last.lose()],
  ["a server that refuses it", () => Socket.last.lose(), { answer: { error: "No." } }],
  ["a socket that never opens", () => time.advance(20_000)],
  ["an `auth` that fails", () => {}, { auth: () => Promise.reject(new Error("no")) }],
  ["an `auth` that does not answer", () => time.advance(15_000), { auth: () => new Promise(() => {}) }],
  ["what answers nonsense", () => Socket.last.onopen() ?? Socket.last.onmessage({ data: "hello" })],
]) {
  test(`a presence that only watches, and closes at the error of ${what}, stays closed`, async () => {
    answering(answer ? { "http://server/presence?why=": () => Response.json(answer) } : {});
    const made = presence({ auth });
    const errors = [];
    made.on("error", ({ code }) => {
      errors.push(code);
      made.close();
    });
    made.watchRooms(["video_7"]);
    await settle();
    await fail();
    await settle();
    const sockets = Socket.all.length;
    await time.advance(60_000);
    assert.deepEqual([made.status, errors.length, Socket.all.length], ["closed", 1, sockets]);
  });
}

test("a presence that is closed as it begins, or as it becomes live, stays closed", async () => {
  const made = presence();
  const undo = made.on("status", (status) => status === "connecting" && made.close());
  assert.equal(made.enter("video_1").status, "closed");
  await settle();
  assert.deepEqual([made.status, Socket.all.length], ["closed", 0]);
  undo();
  made.inspect(({ message }) => message.type === "authenticated" && made.close());
  made.enter("video_1");
  await settle();
  Socket.last.open();
  await settle();
  assert.deepEqual([made.status, made.rooms], ["closed", []]);
});

test("what `auth` brings after the end of its attempt is not told", async () => {
  const rejects = [];
  const { made, room, errors } = await entering({ auth: () => new Promise((_, reject) => rejects.push(reject)) });
  await time.advance(15_000);
  assert.deepEqual(errors.map(({ code }) => code), ["TOKEN"]);
  rejects[0](new Error("too late"));
  await settle();
  assert.deepEqual([errors.length, made.error.message], [1, "`auth` has not answered within 15 s."]);
  await time.advance(1000);
  made.close();
  rejects[1](new Error("of a presence that is closed"));
  await settle();
  assert.deepEqual([rejects.length, errors.length, made.error, room.getSnapshot().error, warnings], [2, 1, null, null, []]);
});

test("a renewal that fails after the connection was lost is not told", async () => {
  let reject;
  const tokens = [() => "token", () => new Promise((_, no) => (reject = no)), () => "token"];
  const { presence: made, socket } = await inside([], {}, { auth: () => tokens.shift()() });
  const errors = [];
  made.on("error", ({ code }) => errors.push(code));
  await socket.say({ type: "auth_expiring", expiresAt: "2025-01-15T11:30:00.000Z" });
  await socket.lose();
  reject(new Error("too late"));
  await settle();
  assert.deepEqual(errors, []);
});
