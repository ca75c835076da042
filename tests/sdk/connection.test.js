import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { TIMER_ADDRESS, TIMER_PROGRAM } from "../../koko_presence/web/sdk/worker-timer.js";
import { Socket, Time, finish, inside, later, page, presence, settle } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

/** The close codes of docs/protocol.md, which a unit test compares with the server. */
const table = [...readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8").matchAll(/^\| (\d{4}) \| .+ \| `(\w+)` \|$/gm)];
assert.ok(table.length > 15, "the table of close codes is found");

for (const [, code, how] of table) {
  test(`close code ${code} means ${how} [L7]`, async () => {
    let tokens = 0;
    const { presence, room, socket } = await inside([], {}, { auth: async () => `token ${++tokens}` });
    const sockets = Socket.all.length;
    await socket.lose(Number(code));
    if (how === "no") {
      assert.deepEqual([room.status, presence.status, room.getSnapshot().error.closeCode], ["closed", "closed", Number(code)]);
      await time.advance(60_000);
      assert.equal(Socket.all.length, sockets);
      return;
    }
    assert.equal(room.status, "reconnecting");
    const wait = how === "later" ? time.waits.at(-1) : time.waits[0]; // the other timer is that of the grace
    if (how === "later") assert.ok(wait >= 10_000 && wait <= 20_250, `a long wait, not ${wait}`);
    else assert.equal(wait, 125); // half of 250: Math.random is 0.5 here
    await time.advance(wait);
    assert.equal(Socket.all.length, sockets + 1);
    Socket.last.open({ resumed: true });
    await settle();
    const { token, resumeToken } = Socket.last.of("auth")[0];
    assert.equal(token, how === "new_token" ? "token 2" : "token 1");
    assert.equal(resumeToken, "resume");
    assert.equal(Socket.last.of("join").length, 1);
  });
}

test("waits double up to 20 s, with full jitter", async () => {
  presence().enter("video_1");
  await settle();
  const waits = [];
  await Socket.last.lose();
  for (let i = 0; i < 9; i++) {
    waits.push(time.waits[0] * 2);
    await time.advance(time.waits[0]);
    await Socket.last.lose();
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
  for (const [random, wait] of [[0, 0], [0.999, 19_980]]) {
    await time.advance(20_000);
    Math.random = () => random;
    await Socket.last.lose();
    assert.equal(time.waits[0], wait);
  }
});

test("only a connection that held resets the wait", async () => {
  const { socket } = await inside();
  await socket.lose();
  for (const [held, wait] of [[1000, 250], [6000, 125]]) {
    await time.advance(time.waits[0]);
    Socket.last.open();
    await time.advance(held);
    await Socket.last.lose();
    assert.equal(time.waits[0], wait);
  }
});

test("retryAfterMs of the last notice is obeyed, also when the network comes back", async () => {
  const window = page();
  const { socket } = await inside();
  await socket.say({ type: "server_notice", code: "RATE_LIMITED", message: "Too many.", retryAfterMs: 7000 });
  const sockets = Socket.all.length;
  await socket.lose(4429);
  await window.fire("online");
  await time.advance(6999);
  assert.equal(Socket.all.length, sockets);
  await time.advance(200);
  assert.equal(Socket.all.length, sockets + 1);
});

test("of an error of a request retryAfterMs says nothing about the connection", async () => {
  const { socket } = await inside();
  await socket.say({ type: "error", code: "RATE_LIMITED", message: "", roomId: "video_1", retryAfterMs: 90_000 });
  await socket.lose(1013);
  assert.ok(time.waits[0] <= 20_250);
});

test("a token that is refused again and again is given up", async () => {
  let tokens = 0;
  const errors = [];
  const made = presence({ auth: () => `bad ${++tokens}` });
  made.on("error", (error) => errors.push(error.code));
  const room = made.enter("video_1");
  for (let i = 0; i < 4; i++) {
    await time.advance(5000);
    Socket.last.onopen();
    await Socket.last.say({ type: "error", code: "UNAUTHENTICATED", message: "no" });
    await Socket.last.lose(4401);
  }
  assert.equal(tokens, 4);
  assert.deepEqual(errors, ["UNAUTHENTICATED", "UNAUTHENTICATED", "UNAUTHENTICATED", "UNAUTHENTICATED", "CLOSED"]);
  assert.deepEqual([room.status, await room.ready()], ["closed", false]);
});

test("auth that throws is told, and tried again", async () => {
  let calls = 0;
  const errors = [];
  const made = presence({
    auth() {
      if (++calls < 3) throw new Error("the back end sleeps");
      return "token";
    },
  });
  made.on("error", (error) => errors.push(error));
  made.enter("video_1");
  await time.advance(2000);
  assert.deepEqual(errors.map(({ code }) => code), ["TOKEN", "TOKEN"]);
  assert.match(errors[0].message, /back end sleeps/);
  assert.equal(Socket.all.length, 1);
});

test("auth that never answers, and a socket that never opens, are given up after 15 s", async () => {
  let calls = 0;
  const made = presence({ auth: () => (++calls === 1 ? new Promise(() => {}) : "token") });
  made.enter("video_1");
  await time.advance(15_000);
  await time.advance(1000);
  assert.deepEqual([calls, Socket.all.length], [2, 1]);
  await time.advance(15_000);
  assert.equal(Socket.all[0].closedWith, 3000);
  await time.advance(1000);
  assert.equal(Socket.all.length, 2);
});

test("a refused upgrade is told from a server that is not there, and tried again late", async () => {
  const asked = [];
  const answers = [Response.json({ error: "Full." }), new Response("Bad Gateway", { status: 502 })];
  const { fetch } = globalThis;
  later(() => (globalThis.fetch = fetch));
  globalThis.fetch = async (url) => (asked.push(`${url}`), answers.shift() ?? fetch());
  globalThis.location = new URL("https://app.example:8443/page?a=1");
  later(() => delete globalThis.location);
  const errors = [];
  const window = page();
  const made = presence({ url: "wss://host/app/presence?tenant=7" });
  made.on("error", (error) => errors.push(error));
  const room = made.enter("video_1");
  await settle();
  await Socket.last.lose();
  assert.deepEqual(asked, ["https://host/app/presence?tenant=7&why=https%3A%2F%2Fapp.example%3A8443"]);
  assert.deepEqual(errors, [{ code: "REFUSED", message: "Full." }]);
  assert.deepEqual([room.status, time.waits[0]], ["connecting", 15_125]);
  await window.fire("online");
  assert.equal(Socket.all.length, 1, "the network is not what is missing");
  for (const wait of [250, 500]) { // the answer of a proxy, and no answer
    await time.advance(time.waits[0]);
    await Socket.last.lose();
    assert.deepEqual([errors.at(-1).code, time.waits[0]], ["UNREACHABLE", wait]);
  }
  await time.advance(time.waits[0]);
  Socket.last.open();
  await Socket.last.lose();
  assert.equal(asked.length, 3, "a connection that was there is lost, not refused");
});

/** A server whose answers to `?why=` are given one by one; without one it does not answer, as long as the request goes on. */
function asked(answers) {
  const { fetch } = globalThis;
  later(() => (globalThis.fetch = fetch));
  const urls = [];
  globalThis.fetch = (url, { signal }) => {
    urls.push(url);
    const answer = answers[urls.length - 1];
    if (answer) return Promise.resolve(Response.json(answer));
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  return urls;
}

test("a server that does not say why in 5 s cannot be reached; what it says later changes nothing", async () => {
  asked([]);
  const errors = [];
  const made = presence();
  made.on("error", (error) => errors.push(error));
  made.enter("video_1");
  await settle();
  await Socket.last.lose();
  await time.advance(4999);
  assert.deepEqual([errors, Socket.all.length], [[], 1]);
  await time.advance(1);
  assert.deepEqual(errors.map(({ code }) => code), ["UNREACHABLE"]);
  await time.advance(125);
  assert.equal(Socket.all.length, 2);
});

test("a network that swallows everything blocks no WebSockets, however often they do not open", async () => {
  const urls = asked([]);
  const made = presence();
  const room = made.enter("video_1");
  await settle();
  for (let i = 0; i < 4; i++) {
    await time.advance(20_000);
    await time.advance(time.waits[0]);
  }
  assert.deepEqual([room.getSnapshot().transport, Socket.all.length, urls.length], ["websocket", 5, 4]);
});

test("WebSockets that never open although the server takes the page are blocked", async () => {
  asked([{}, {}]);
  const made = presence();
  const errors = [];
  made.on("error", ({ code }) => errors.push(code));
  const room = made.enter("video_1");
  await settle();
  for (const wait of [15_000, 125, 15_000, 125]) await time.advance(wait);
  assert.deepEqual([errors, Socket.all.length], [["REFUSED", "REFUSED"], 2]);
  made.close();
  assert.equal(room.getSnapshot().transport, "sse");
});

test("faults of one moment, and those with another reason between them, block no WebSockets", async () => {
  const refusals = [{}, {}, {}, {}, { error: "Full." }, {}, { stopping: true }, {}, undefined, {}];
  asked(refusals);
  const room = presence().enter("video_1");
  await settle();
  for (const refusal of refusals) {
    assert.equal(room.getSnapshot().transport, "websocket");
    await Socket.last.lose();
    if (!refusal) await time.advance(5000);
    await time.advance(time.waits[0]);
  }
  assert.deepEqual([room.getSnapshot().transport, Socket.all.length], ["websocket", refusals.length + 1]);
});

test("an `auth` that fails while WebSockets seem to be blocked is called with growing pauses", async () => {
  asked([{}]);
  const window = page();
  let calls = 0;
  const made = presence({ auth: () => (++calls === 1 ? "token" : Promise.reject(new Error("asleep"))) });
  made.on("error", () => {});
  made.enter("video_1");
  await settle();
  await Socket.last.lose();
  await window.fire("pagehide", { persisted: true }); // it begins anew with another token
  await time.advance(6000);
  await window.fire("pageshow", { persisted: true });
  await time.advance(60_000);
  assert.ok(calls < 15, `${calls} calls`);
});

test("a token that ends is replaced on the same connection, and the new one is used from then on [A7]", async () => {
  let tokens = 0;
  const { socket, room } = await inside([], {}, { auth: async () => `token ${++tokens}` });
  await socket.say({ type: "auth_expiring", expiresAt: "2025-01-15T11:30:00.000Z" });
  assert.deepEqual(socket.sent, [{ type: "auth", id: 0, token: "token 2" }]);
  await socket.say({ type: "authenticated", resumeToken: "resume 2", userId: "me", sessionId: "s0" });
  assert.equal(room.status, "live");
  await socket.lose();
  await time.advance(250);
  Socket.last.onopen();
  const [{ token, resumeToken }] = Socket.last.sent;
  assert.deepEqual([token, resumeToken], ["token 2", "resume 2"]);
});

/** A renewal of the token that waits for an answer. */
const renewals = (socket) => socket.of("auth").map(({ token }) => token);
const EXPIRING = { type: "auth_expiring", expiresAt: "2025-01-15T11:30:00.000Z" };
const REFUSAL = { type: "error", id: 0, code: "RATE_LIMITED", message: "Too many." };

test("a renewal that fails, is limited or is not answered is tried again with growing pauses, over the same connection [A7]", async () => {
  let calls = 0;
  const fails = new Set([2, 3]);
  const auth = async () => {
    if (fails.has(++calls)) throw new Error("asleep");
    return `token ${calls}`;
  };
  const { presence, socket, room } = await inside([], {}, { auth });
  const errors = [];
  presence.on("error", ({ code }) => errors.push(code));
  const say = (message) => socket.say(message);
  await say(EXPIRING);
  assert.deepEqual([calls, time.waits[0], renewals(socket)], [2, 1000, []]);
  await time.advance(1000);
  assert.deepEqual([calls, time.waits[0], renewals(socket)], [3, 2000, []]);
  await time.advance(2000);
  assert.deepEqual(renewals(socket), ["token 4"]);
  await say({ ...REFUSAL, retryAfterMs: 6000 });
  assert.equal(time.waits[0], 6000, "what the server asks for, if that is longer");
  await time.advance(6000);
  await say({ ...REFUSAL, code: "UNAUTHENTICATED" });
  assert.equal(time.waits[0], 8000);
  await time.advance(8000);
  for (let ms = 0; ms < 15_000; ms += 5000) { // no answer
    await say({ type: "pong" });
    await time.advance(5000);
  }
  await say({ type: "pong" });
  await time.advance(10_000);
  assert.deepEqual(renewals(socket), ["token 4", "token 5", "token 6", "token 7"]);
  await say({ type: "authenticated", resumeToken: "resume 2", userId: "me", sessionId: "s0" });
  await say({ type: "pong" });
  await time.advance(5000);
  assert.deepEqual([room.status, socket.closedWith, calls], ["live", null, 7]);
  assert.deepEqual(errors, ["TOKEN", "TOKEN", "UNAUTHENTICATED"], "a limit is no error of the application");
  await say(EXPIRING);
  assert.deepEqual(renewals(socket).at(-1), "token 8");
  await say({ ...REFUSAL, code: "UNAUTHENTICATED" });
  assert.equal(time.waits[0], 1000, "the pauses are short again");
});

test("a token from a cache, which ends soon, is not renewed again and again [A7]", async () => {
  let calls = 0;
  const { socket } = await inside([], {}, { auth: () => (calls++, "cached") });
  for (let i = 0; i < 7; i++) {
    await socket.say(EXPIRING);
    if (i === 0) await socket.say({ type: "authenticated", resumeToken: "r", userId: "me", sessionId: "s0" });
  }
  assert.deepEqual([calls, time.waits[0]], [2, 5000]);
  await time.advance(5000);
  assert.equal(calls, 3);
});

test("a connection that is lost during a renewal begins the next one with a fresh token", async () => {
  let isHeld = false;
  const answers = [];
  const auth = () => (isHeld ? new Promise((resolve) => answers.push(resolve)) : "token 1");
  const { socket, room } = await inside([], {}, { auth });
  isHeld = true;
  await socket.say(EXPIRING);
  await socket.lose(4401);
  await time.advance(250);
  answers[0]("late");
  answers[1]("fresh");
  await settle();
  Socket.last.open({ resumed: true });
  assert.deepEqual([room.status, renewals(Socket.last), renewals(socket)], ["reconnecting", ["fresh"], []]);
  assert.equal(Socket.last.of("auth")[0].resumeToken, "resume");
});

for (const during of ["first connection", "renewal"]) {
  test(`auth that gives null at the ${during} means stop, with the reason in the snapshot`, async () => {
    let token = during === "renewal" ? "token" : null;
    const made = presence({ auth: async () => token });
    const errors = [];
    made.on("error", (error) => errors.push(error));
    const room = made.enter("video_1");
    await settle();
    if (token) {
      Socket.last.open();
      token = null;
      await Socket.last.say(EXPIRING);
      assert.equal(Socket.last.closedWith, 1000);
    }
    const sockets = Socket.all.length;
    await time.advance(60_000);
    const { status, error } = room.getSnapshot();
    assert.deepEqual([status, error.code, errors, made.status, Socket.all.length], ["closed", "SIGNED_OUT", [error], "closed", sockets]);
    assert.match(error.message, /`auth` gives null/);
    token = "token";
    const second = made.enter("video_1");
    await settle();
    Socket.last.open();
    assert.equal(second.status, "connecting", "after a sign-in the room is entered again");
  });
}

test("auth that gives no text is told, and tried again", async () => {
  const given = [undefined, "", { token: "in an object" }, "token"];
  const errors = [];
  const made = presence({ auth: () => given.shift() });
  made.on("error", (error) => errors.push(error));
  made.enter("video_1");
  await time.advance(3000);
  assert.deepEqual(errors.map(({ code }) => code), ["TOKEN", "TOKEN", "TOKEN"]);
  assert.match(errors[2].message, /gives object in place of a token/);
  assert.equal(Socket.all.length, 1);
});

test("without auth the cookie signs in, at a renewal and after a loss too", async () => {
  const { socket, room } = await inside([], {}, { auth: undefined });
  assert.equal(room.status, "live");
  await socket.say(EXPIRING);
  assert.deepEqual(socket.sent, [{ type: "auth", id: 0 }]);
  await socket.say({ type: "authenticated", resumeToken: "resume 2", userId: "me", sessionId: "s0" });
  await socket.lose();
  await time.advance(250);
  Socket.last.onopen();
  assert.deepEqual(Socket.last.sent, [{ type: "auth", resumeToken: "resume 2", caps: ["cursors"] }]);
});

test("http addresses become ws addresses", async () => {
  presence({ url: "https://host/presence" }).enter("video_1");
  await settle();
  assert.equal(Socket.last.url, "wss://host/presence");
});

// --- heartbeats --------------------------------------------------------------------------------------------------

test("heartbeats go out at once and then every 30 s +- 10 % [D3]", async () => {
  presence().enter("video_1");
  await settle();
  const gaps = [];
  for (const random of [0, 0.5, 1]) {
    const started = time.now;
    Math.random = () => random;
    if (!gaps.length) Socket.last.open();
    const before = Socket.last.of("heartbeat").length;
    assert.equal(before, gaps.length + 1);
    if (gaps.length) await time.advance(1); // the awaited heartbeat schedules the next one
    while (Socket.last.of("heartbeat").length === before) {
      await time.advance(100);
      await Socket.last.say({ type: "pong" });
    }
    gaps.push(time.now - started);
  }
  assert.deepEqual(gaps.map((gap) => Math.round(gap / 1000)), [27, 27, 30]); // each is set by the previous random number
});

test("no answer to a heartbeat for 10 s: the connection is dead, and is closed so that it can be resumed", async () => {
  const { socket, room } = await inside();
  await time.advance(30_000);
  assert.equal(socket.of("heartbeat").length, 1);
  await time.advance(9_900);
  assert.equal(room.status, "live");
  await time.advance(200);
  assert.deepEqual([room.status, socket.closedWith], ["reconnecting", 3000]);
});

test("any message is an answer", async () => {
  const { socket, room } = await inside();
  await time.advance(35_000);
  await socket.say({ type: "user_left", roomId: "video_1", userId: "jane", sessionId: "jane-1", data: { sessionCount: 0 } });
  await time.advance(10_000);
  assert.equal(room.status, "live");
});

test("pongs set the clock", async () => {
  const { presence, socket } = await inside();
  const echo = performance.timeOrigin + performance.now();
  await time.advance(10);
  await socket.say({ type: "pong", echo, serverTime: echo + 5 + 3 });
  assert.equal(presence.clock.rtt, 0); // `authenticated` took no time in this test, so its sample remains the best
  assert.equal(presence.clock.offset, 0);
});

// --- activity ----------------------------------------------------------------------------------------------------

const statuses = (socket) => socket.of("heartbeat").map(({ status }) => status);
/** Let ms pass, with a server that answers. */
async function live(ms) {
  for (let gone = 0; gone < ms; gone += 1000) {
    await time.advance(Math.min(1000, ms - gone));
    await Socket.last.say({ type: "pong" });
  }
}

test("idle after two minutes without interaction, active at once at the next touch [D11]", async () => {
  const window = page();
  const { socket } = await inside();
  await live(60_000);
  await window.fire("pointermove");
  await live(119_000);
  assert.ok(statuses(socket).every((status) => status === "active"));
  await live(1500);
  assert.equal(statuses(socket).at(-1), "idle");
  await window.fire("keydown");
  assert.equal(statuses(socket).at(-1), "active");
});

test("hidden is away at once, for three minutes and more; coming back is active at once", async () => {
  const window = page();
  const { socket, room } = await inside();
  await window.hide();
  assert.deepEqual(statuses(socket), ["away"]);
  await live(180_000);
  assert.ok(statuses(socket).length >= 6 && statuses(socket).every((status) => status === "away"));
  assert.equal(room.status, "live");
  await window.hide(false);
  assert.equal(statuses(socket).at(-1), "active");
});

test("focus checks the connection: a heartbeat at once, but none that the server would not answer", async () => {
  const window = page();
  const { socket } = await inside();
  await window.fire("focus");
  assert.equal(socket.sent.length, 0);
  await time.advance(5499);
  await window.fire("focus");
  assert.equal(socket.sent.length, 0);
  await time.advance(1);
  await window.fire("focus");
  assert.equal(socket.of("heartbeat").length, 1);
});

for (const type of ["online", "pageshow", "focus", "visibilitychange"]) {
  test(`${type} tries again at once`, async () => {
    const window = page();
    const { socket } = await inside();
    await socket.lose();
    for (let i = 0; i < 6; i++) {
      await time.advance(time.waits[0]);
      await Socket.last.lose();
    }
    const sockets = Socket.all.length;
    await window.fire(type);
    assert.equal(Socket.all.length, sockets + 1);
  });
}

test("a page that goes for good leaves", async () => {
  const window = page();
  const { socket } = await inside();
  await window.fire("pagehide", { persisted: false });
  assert.equal(socket.closedWith, 1000);
});

test("a page in the back/forward cache closes so that it can resume, and comes back with a fresh token [D2]", async () => {
  const window = page();
  let tokens = 0;
  const { socket, room } = await inside([], {}, { auth: () => `token ${++tokens}` });
  await window.fire("pagehide", { persisted: true });
  assert.deepEqual([socket.closedWith, room.status], [3000, "reconnecting"]);
  for (const type of ["visibilitychange", "focus", "online"]) await window.fire(type); // the first one comes after pagehide
  await time.advance(60_000);
  assert.equal(Socket.all.length, 1);
  await window.fire("pageshow", { persisted: true });
  Socket.last.open({ resumed: true });
  const [{ token, resumeToken }] = Socket.last.of("auth");
  assert.deepEqual([Socket.all.length, token, resumeToken], [2, "token 2", "resume"]);
});

test("a page that is kept while it connects begins anew when it is back", async () => {
  const window = page();
  const answers = [];
  const made = presence({ auth: () => new Promise((resolve) => answers.push(resolve)) });
  made.enter("video_1");
  await window.fire("pagehide", { persisted: true });
  answers[0]("token");
  await time.advance(60_000);
  assert.deepEqual([Socket.all.length, made.status], [0, "connecting"]);
  await window.fire("pageshow", { persisted: true });
  answers[1]("fresh");
  await settle();
  Socket.last.open();
  assert.equal(Socket.last.of("auth")[0].token, "fresh");
});

test("a presence that the page closes as it goes does not come back with the page", async () => {
  const window = page();
  const { presence } = await inside();
  await window.fire("pagehide", { persisted: true });
  presence.close();
  await window.fire("pageshow", { persisted: true });
  await time.advance(60_000);
  assert.deepEqual([Socket.all.length, presence.status], [1, "closed"]);
});

test("blur hides the cursor [E3]", async () => {
  const window = page();
  const { room, socket } = await inside();
  room.updateCursor({ timestamp: 1, x: 0.5, y: 0.5 });
  await time.advance(100);
  await window.fire("blur");
  assert.deepEqual(socket.of("cursor").map(({ data }) => data), [{ timestamp: 1, x: 0.5, y: 0.5 }, null]);
  await window.fire("blur");
  await time.advance(100);
  assert.equal(socket.of("cursor").length, 2);
});

test("without interaction and without a page (Node) one is active", async () => {
  const { socket } = await inside();
  await live(300_000);
  assert.ok(statuses(socket).length >= 9 && statuses(socket).every((status) => status === "active"));
});

test("heartbeats come from a worker where one is allowed, and it ends with the connection [D5]", async () => {
  page();
  const workers = [];
  globalThis.Worker = class {
    posted = [];
    constructor(url) {
      this.url = url;
      workers.push(this);
    }
    postMessage(ms) {
      this.posted.push(ms);
    }
    terminate() {
      this.ended = true;
    }
  };
  const { presence, socket } = await inside([], {}, { worker: "/sdk/timer.js" });
  const [worker] = workers;
  assert.deepEqual([worker.url, worker.posted.at(-1)], ["/sdk/timer.js", 30_000]);
  await live(30_000);
  assert.deepEqual(statuses(socket).filter(Boolean), []);
  worker.onmessage();
  assert.deepEqual(statuses(socket).filter(Boolean), ["active"]);
  presence.close();
  assert.deepEqual([worker.posted.at(-1), worker.ended], [0, true]);
});

test("where the policy forbids workers, the page's own timers take over", async () => {
  page();
  let worker;
  globalThis.Worker = class {
    constructor() {
      worker = this;
    }
    postMessage() {}
    terminate() {}
  };
  const { socket } = await inside();
  worker.onerror({});
  await time.advance(30_000);
  assert.equal(socket.of("heartbeat").length, 1);
  globalThis.Worker = class {
    constructor() {
      throw new Error("SecurityError");
    }
  };
  const second = await inside();
  await time.advance(30_000);
  assert.equal(second.socket.of("heartbeat").length, 1);
});

test("timer.js and the worker's own text do the same", async () => {
  const text = readFileSync(new URL("../../koko_presence/web/sdk/timer.js", import.meta.url), "utf8");
  assert.equal(text.replaceAll(/^\/\*\*.*\*\/\n/gm, ""), TIMER_PROGRAM);
  assert.equal(decodeURIComponent(TIMER_ADDRESS), `data:text/javascript,${TIMER_PROGRAM}`);
  const posted = [];
  Object.assign(globalThis, { self: globalThis, postMessage: (value) => posted.push(value) });
  later(() => ["self", "postMessage", "onmessage"].forEach((name) => delete globalThis[name]));
  new Function(text)();
  onmessage({ data: 100 });
  onmessage({ data: 200 });
  assert.deepEqual(time.waits, [200]);
  await time.advance(200);
  assert.deepEqual(posted, [0]);
  onmessage({ data: 300 });
  onmessage({ data: 0 });
  assert.deepEqual(time.waits, []);
});

test("closing leaves with 1000 and takes every listener away", async () => {
  const window = page();
  const { presence, socket } = await inside();
  presence.close();
  assert.deepEqual([socket.closedWith, presence.status], [1000, "closed"]);
  await window.fire("online");
  await window.fire("focus");
  assert.equal(Socket.all.length, 1);
});
