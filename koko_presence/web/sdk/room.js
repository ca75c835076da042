/** Actions in a room: cursors, selection, typing, broadcasts. The store has its state, the presence the link. */

import { createEvents } from "./events.js";
import { createStore } from "./store.js";
import { createSlot } from "./timing.js";

const TYPING_MS = 3000; // refreshed so often while keys are pressed; the server ends it after 5 s [G1]
const TYPING_LIFE_MS = 5000;
const RETRY_MS = 1000;
const MAX_S = 1e6;

/** Numbers in their range, rounded to a visible precision [E5]. */
function clamped(data) {
  const result = data && { ...data };
  for (const key in result) {
    const most = /^[xy]$/.test(key) ? 1 : MAX_S;
    if (result[key] > -Infinity) result[key] = +Math.min(Math.max(result[key], 0), most).toFixed(4);
  }
  return result;
}

/** `joining` is the join message. Returns the functions for the presence; `room` is the object for the application. */
export function createRoom(clock, ask, flush, throttleMs, send, full, hello, setStatus, setPrivacy, forget, joining) {
  const { roomId, roomType = roomId } = joining;
  const [set, update, fold, expand, company, get] = createStore(roomId);
  const { on, emit } = createEvents();
  let live = false;
  let retryTimer;
  let typingUntil = 0;
  let watching; // promise of the result of media.js
  let media;
  let told = get(); // the snapshot that listeners were called with

  const notify = () => told !== get() && emit("change", (told = get()));
  const become = (status, error = null) => {
    set({ status, error });
    emit("status", status);
    notify();
  };
  const say = (type, data, to) => send({ type, roomId, data, to });

  // the newest value, when it may be sent and another session is in the room
  const seen = () => live && company() && !full();
  const showing = (type) => createSlot((data) => say(type, data), seen);
  const cursor = showing("cursor");
  const selection = showing("selection");
  const typing = createSlot((data) => clock.now() < typingUntil && say("typing", data), seen);
  const slots = [cursor, selection, typing];
  const show = (slot, data) => (data || slot.value) && slot.offer(clamped(data)); // a cleared value is not cleared again
  const advise = (ms = 0) => {
    cursor.wait = selection.wait = Math.max(throttleMs, ms, 1000 / hello().limits.cursorHz);
  };

  /** Playback, control and video are in a file of their own; rooms that may need it load it before they are entered. */
  const watch = () => (watching ??= import("./media.js").then(
    ({ createMedia }) => (media = createMedia(room, createSlot, slots, set, update, get, notify, emit, say, ask, seen, isLive, company)),
    ({ message }) => emit("error", { code: "LOAD", message }),
  ));
  const isLive = () => live;
  const over = () => get().status === "closed";

  const room = {
    id: roomId,
    clock,
    on,
    get status() {
      return get().status;
    },
    get self() {
      return get().self;
    },
    get others() {
      return get().others;
    },
    get mayControl() {
      const { controller, self } = get();
      return !controller || controller === self?.userId;
    },
    getSnapshot: get,
    subscribe: (callback) => on("change", callback),
    ready: () => new Promise((resolve) => {
      const check = () => (live || over()) && resolve(live);
      check();
      on("status", check);
    }),
    updateCursor: (data) => show(cursor, data),
    updateSelection: (data) => show(selection, data),
    typing(isTyping, context) {
      const now = clock.now();
      const old = now < typingUntil && typing.value;
      if (!isTyping && !old.isTyping) return;
      typingUntil = now + TYPING_LIFE_MS;
      typing.offer({ isTyping, context }, isTyping && old.isTyping && old.context === context ? TYPING_MS : 0);
    },
    setStatus: (status, statusMessage) => setStatus({ status, statusMessage }),
    setPrivacy,
    position: (at) => media?.position(at) ?? 0,
    broadcast: (data, to) => ask({ type: "broadcast", roomId, data, to }),
    attach(video, options) {
      const undo = watch().then(() => media?.attach(video, options));
      return () => void undo.then((detach) => detach?.());
    },
    leave() {
      if (--entry.count > 0 || over()) return;
      if (live) say("leave");
      entry.end(null);
    },
  };

  for (const name of "playback follow requestControl cancelRequest grantControl denyControl releaseControl".split(" ")) {
    room[name] = (...args) => watch().then(() => media?.[name](...args));
  }

  const own = {
    __proto__: null,
    joined({ sendIntervalMs }) {
      live = true;
      advise(sendIntervalMs);
      for (const slot of slots.slice(0, 2)) if (slot.value) slot.offer(slot.value);
      flush();
      become("live");
    },
    server_notice: ({ sendIntervalMs }) => sendIntervalMs && advise(sendIntervalMs),
    kicked: ({ reason: message }) => entry.end({ code: "KICKED", message }),
  };

  const entry = {
    room,
    count: 0, // how often entered
    live: isLive,
    error: (error) => emit("error", error),
    hide: () => room.updateCursor(null),
    // the next join sends the current values, or a reconnect would undo this one
    hold(data) {
      joining.privacy &&= { ...joining.privacy, ...data, scope: undefined };
    },
    async join() {
      clearTimeout(retryTimer);
      if (/^(video|comp)/.test(roomType)) await watch();
      if (over()) return; // left meanwhile
      const reply = await ask(joining);
      const { code, retryAfterMs } = reply;
      // FORBIDDEN has a retry time if access could not be checked
      if (retryAfterMs || /^(RATE|INT)/.test(code)) retryTimer = setTimeout(entry.join, (retryAfterMs || RETRY_MS) * (1 + Math.random()));
      else if (code && code !== "OFFLINE") entry.end(reply, true);
    },
    status(status) {
      if (status === "live" || over()) return; // the room is live when it is joined
      become(status);
    },
    down() {
      live = false;
      clearTimeout(retryTimer); // the next connection joins
      for (const slot of slots) slot.stop();
    },
    end(error, known) {
      entry.down();
      forget(roomId);
      if (error && !known) emit("error", error);
      become("closed", error);
    },
    message(event) {
      const { type, data } = event;
      if (!live && type !== "joined" && type !== "error") return;
      if (type === "cursors") {
        for (const row of data) {
          const moved = expand(row, event);
          if (!moved) continue;
          fold(moved);
          emit(moved.type, moved);
        }
        return notify();
      }
      fold(event);
      own[type]?.(event);
      for (const slot of slots) slot.go();
      if (!media?.fold(event)) emit(type, event);
      notify();
    },
  };
  return entry;
}
