/** A simulated page: a clock that only the test advances, sockets whose server is the test, a `<video>` without pictures. */

import assert from "node:assert/strict";
import "../../koko_presence/web/sdk/event-stream.js"; // loaded before they are imported where they are needed
import "../../koko_presence/web/sdk/media.js";
import { createPresence } from "../../koko_presence/web/sdk/presence.js";

globalThis.fetch = async () => {
  throw new TypeError("nothing is there");
};

const realImmediate = setImmediate;
const names = ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "addEventListener", "document", "Worker"];
const real = Object.fromEntries(names.map((name) => [name, globalThis[name]]));
const realNow = performance.now;
const realRandom = Math.random;

/** Run all promise callbacks that are due. */
export async function settle() {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => realImmediate(resolve));
}

/** The clock. `advance(ms)` runs due timers in order; `timers` is the number of pending ones. */
export class Time {
  now = 1000; // ms since the page was opened
  #waiting = new Map();
  #ids = 0;

  constructor() {
    const start = (every) => (run, ms = 0, ...args) => {
      this.#waiting.set(++this.#ids, { at: this.now + Math.max(ms, every ? 1 : 0), run, args, every: every ? ms : 0 });
      return this.#ids;
    };
    globalThis.setTimeout = start(false);
    globalThis.setInterval = start(true);
    globalThis.clearTimeout = globalThis.clearInterval = (id) => void this.#waiting.delete(id);
    performance.now = () => this.now;
    Math.random = () => 0.5;
  }

  get timers() {
    return this.#waiting.size;
  }

  /** Ms until each pending timer, soonest first. */
  get waits() {
    return [...this.#waiting.values()].map(({ at }) => at - this.now).sort((a, b) => a - b);
  }

  /** The page does nothing for so long: what was due meanwhile runs at the end. */
  hold(ms) {
    for (const timer of this.#waiting.values()) timer.at = Math.max(timer.at, this.now + ms);
    return this.advance(ms);
  }

  async advance(ms) {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const due = [...this.#waiting].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      const [id, timer] = due;
      this.now = timer.at;
      if (timer.every) timer.at += timer.every;
      else this.#waiting.delete(id);
      timer.run(...timer.args);
      await settle();
    }
    this.now = end;
  }
}

/** The socket of an attempt; `sent` has the messages of the SDK, `say` sends as the server. */
export class Socket {
  static all = [];
  static get last() {
    return Socket.all.at(-1);
  }
  sent = [];
  bufferedAmount = 0;
  closedWith = null;

  constructor(url) {
    this.url = url;
    Socket.all.push(this);
  }

  send(text) {
    assert.equal(this.closedWith, null, "nothing is written to a closed socket");
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.closedWith = code ?? 1005;
  }

  /** Open the connection and accept the token. */
  open(hello = {}) {
    this.onopen();
    this.say({
      type: "authenticated", userId: "me", sessionId: "s0", resumeToken: "resume", resumed: false, rooms: [],
      serverTime: performance.timeOrigin + performance.now(), heartbeatInterval: 30, limits: { cursorHz: 20 }, caps: ["cursors"], ...hello,
    });
  }

  async say(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
    await settle();
  }

  /** Lose the connection, or close it as the server. */
  async lose(code = 1006) {
    this.onclose?.({ code });
    await settle();
  }

  of(type) {
    return this.sent.filter((message) => message.type === type);
  }

  /** Drop the recorded messages. */
  clear() {
    this.sent.length = 0;
  }
}

export const row = (userId, sessionId = `${userId}-1`, more = {}) => ({
  userId, sessionId, name: userId.toUpperCase(), color: "#123456", status: "active", activity: "active", connected: true,
  lastActiveAt: "2025-01-15T10:00:00.000Z", roomId: "video_1", roomType: "video", isTyping: false, isWatching: false, ...more,
});

export const snapshot = (users = [], more = {}) => ({
  type: "joined", roomId: "video_1", assignedColor: "#abcdef", sessionId: "s0", seq: 1, sendIntervalMs: 50,
  serverTime: performance.timeOrigin + performance.now(),
  room: {
    id: "video_1", type: "video", userCount: users.length + 1, sessionCount: users.length + 1, syncEnabled: true,
    createdAt: "2025-01-15T10:00:00.000Z", users: [row("me", "s0"), ...users], ...more,
  },
});

export const event = (type, userId, data = {}, more = {}) => ({
  type, roomId: "video_1", userId, sessionId: `${userId}-1`, data, timestamp: "2025-01-15T10:00:01.000Z", seq: 2, ...more,
});

const undo = [];
/** Call `fn` when the test is over. */
export const later = (fn) => undo.push(fn);

/** A presence with fake sockets in fake time. */
export function presence(options = {}) {
  const made = createPresence({ url: "ws://server/presence", auth: async () => "token", WebSocket: Socket, ...options });
  later(() => made.close());
  return made;
}

/** A user in a room with others (rows). Returns the room and its socket, with no recorded message. */
export async function inside(users = [row("jane")], more = {}, options = {}) {
  const made = presence(options);
  const room = made.enter("video_1", { type: "video" });
  await settle();
  Socket.last.open();
  await settle();
  await Socket.last.say({ ...snapshot(users, more), id: Socket.last.of("join")[0].id });
  Socket.last.clear();
  return { presence: made, room, socket: Socket.last };
}

/** The window and document of a page. */
export function page({ hidden = false } = {}) {
  const window = new EventTarget();
  globalThis.document = { hidden };
  globalThis.addEventListener = window.addEventListener.bind(window);
  return {
    fire(type, more = {}) {
      window.dispatchEvent(Object.assign(new Event(type), more));
      return settle();
    },
    async hide(hide = true) {
      document.hidden = hide;
      await this.fire("visibilitychange");
    },
  };
}

/** After each test: everything is closed, no timer is left, and the real globals are restored. */
export async function finish(time) {
  for (const fn of undo.splice(0)) fn();
  await settle();
  const left = time.waits;
  for (const name of names) {
    if (real[name] === undefined) delete globalThis[name];
    else globalThis[name] = real[name];
  }
  performance.now = realNow;
  Math.random = realRandom;
  Socket.all.length = 0;
  assert.deepEqual(left, [], "no timer is left when all is closed");
}

/** A video that plays by the test's clock. It has the states and events of an element that needs `seekMs` for a seek. */
export class Video extends EventTarget {
  paused = true;
  ended = false;
  seeking = false;
  duration = 600;
  autoplay = false;
  loop = false;
  isConnected = true;
  readyState = undefined;
  stalled = false;
  seekMs = 40;
  refuse = false;
  seeks = [];
  #base = 0;
  #at = 0;
  #rate = 1;
  #time;
  #seekTimer;

  constructor(time) {
    super();
    this.#time = time;
  }

  /** Show the frame of the present position: for a video that tells its frames. */
  show() {}

  fire(type) {
    this.dispatchEvent(new Event(type));
  }

  #mark() {
    this.#base = this.currentTime;
    this.#at = this.#time.now;
  }

  get currentTime() {
    const runs = !this.paused && !this.stalled && !this.seeking;
    return Math.min(this.duration, this.#base + (runs ? ((this.#time.now - this.#at) / 1000) * this.#rate : 0));
  }

  set currentTime(seconds) {
    this.seeks.push(seconds);
    const isThere = this.paused && !this.seeking && seconds === this.currentTime; // Chromium shows no frame anew then
    this.seeking = true;
    this.ended = false;
    this.#base = Math.min(Math.max(seconds, 0), this.duration);
    this.#at = this.#time.now;
    setTimeout(() => this.fire("seeking"), 0);
    clearTimeout(this.#seekTimer);
    this.#seekTimer = setTimeout(() => {
      this.#at = this.#time.now;
      this.seeking = false;
      this.ended = this.#base >= this.duration;
      if (!isThere) this.show();
      this.fire("seeked");
    }, this.seekMs);
  }

  get playbackRate() {
    return this.#rate;
  }

  set playbackRate(rate) {
    this.#mark();
    this.#rate = rate;
    setTimeout(() => this.fire("ratechange"), 0);
  }

  async play() {
    if (this.refuse) throw Object.assign(new Error("a click first"), { name: "NotAllowedError" });
    if (!this.paused) return;
    this.#mark();
    this.paused = false;
    setTimeout(() => this.fire("play"), 0);
  }

  pause() {
    if (this.paused) return;
    this.#mark();
    this.paused = true;
    setTimeout(() => this.fire("pause"), 0);
  }

  /** The film has come to its end. */
  end() {
    this.#mark();
    this.#base = this.duration;
    this.paused = this.ended = true;
    this.fire("pause");
    this.fire("ended");
  }

  /** Another film is put in: the browser resets what it resets. */
  load() {
    this.readyState = 0;
    this.paused = true;
    this.ended = this.seeking = false;
    clearTimeout(this.#seekTimer);
    this.#base = 0;
    this.#rate = 1;
    this.fire("emptied");
    setTimeout(() => this.fire("ratechange"), 0);
    setTimeout(() => {
      this.readyState = 4;
      this.fire("loadedmetadata");
      this.fire("canplay");
    }, 100);
  }

  stall(on) {
    this.#mark();
    this.stalled = on;
    this.fire(on ? "waiting" : "playing");
  }

  /** Fall behind by so many seconds at once, as in a stall without an event. */
  slip(seconds) {
    this.#mark();
    this.#base -= seconds;
  }
}

/** A video that tells which frames it shows, 60 times a second at most, as requestVideoFrameCallback does. */
export class FrameVideo extends Video {
  readyState = 4;
  /** Frames a second. */
  fps;
  /** The frame of a position; a test may replace it by a decoder that is wrong. */
  frameOf = (seconds) => Math.max(0, Math.floor(seconds * this.fps + 1e-6));
  shown = -1;
  /** After a seek its position is told, as by Firefox. */
  tellsSeeks = false;
  /** After a pause the frame after the last one that was told stands, as in Firefox, and in Chromium on a busy computer. */
  showsOneMore = false;
  #callbacks = new Map();
  #ids = 0;
  #timer;

  constructor(time, fps = 25) {
    super(time);
    this.fps = fps;
    this.#timer = setInterval(() => !this.paused && !this.seeking && this.show(true), 1000 / 60);
    later(() => clearInterval(this.#timer));
  }

  requestVideoFrameCallback(callback) {
    this.#callbacks.set(++this.#ids, callback);
    return this.#ids;
  }

  cancelVideoFrameCallback(id) {
    this.#callbacks.delete(id);
  }

  show(onlyNew = false) {
    const frame = this.frameOf(this.currentTime);
    if (onlyNew && frame === this.shown) return;
    this.shown = frame;
    const mediaTime = this.tellsSeeks && !onlyNew ? this.currentTime : frame / this.fps;
    const now = performance.now();
    const callbacks = [...this.#callbacks.values()];
    this.#callbacks.clear();
    for (const callback of callbacks) callback(now, { mediaTime, expectedDisplayTime: now, presentedFrames: 0 });
  }

  pause() {
    super.pause();
    if (this.showsOneMore) this.shown++;
  }
}
