/** What one does in a room: cursors, typing, playback, control. Its state is the store's; the hub has the connection. */

import { createEvents } from "./events.js";
import { createFollow } from "./follow.js";
import { createStore, positionOf } from "./store.js";
import { createSlot } from "./timing.js";
import { attachVideo } from "./video.js";

const TYPING_MS = 3000; // refreshed so often while keys are pressed; the server ends it after 5 s [G1]
const TYPING_LIFE_MS = 5000;
const SEEK_MS = 200; // the server's limit [H11]
const REPORT_MS = 1000;
const REPORT_CHANGE_MS = 200;
const RETRY_MS = 1000;

const clamp = (value, most) => (Number.isFinite(value) ? +Math.min(Math.max(value, 0), most).toFixed(4) : undefined);
const MAX_S = 1_000_000;

/** Returns `{ room, ... }`: what the application gets, and what the hub calls. */
export function createRoom(hub, roomId, type, privacy) {
  const { clock } = hub;
  const store = createStore(roomId);
  const events = createEvents();
  const waiting = new Set(); // resolvers of `ready`
  const detachments = new Set();
  let live = false;
  let retryTimer;
  let commands = 0; // of playback, not yet answered
  let typingUntil = 0;
  let reported;

  const tell = events.emit;
  const notify = () => store.dirty && tell("change", store.get());
  const send = (kind, data) => hub.send({ type: kind, roomId, data });

  // --- what is shown: the newest value, when its turn comes and somebody is there to see it ---------------------

  const seen = () => live && store.company > 0 && !hub.full;
  const least = hub.options.throttleMs ?? 50;
  const showing = (kind) => createSlot((data) => {
    shown[kind] = data;
    send(kind, data);
  }, seen, least);
  const shown = {}; // what the server has of us
  const cursor = showing("cursor");
  const selection = showing("selection");
  const typing = createSlot((data) => (!data.isTyping || clock.now() < typingUntil) && send("typing", data), seen, 0);
  const report = createSlot((data) => send("playback", data()), seen, REPORT_MS);
  const seek = createSlot(({ data, resolve }) => command(data).then(resolve), () => live, SEEK_MS);
  const slots = [cursor, selection, typing, report, seek];

  const show = (slot, kind, data) => {
    if (data || shown[kind] || slot.waiting) slot.offer(data);
  };
  const advise = (ms = 0) => {
    const cursorMs = 1000 / (hub.limits.cursorHz || 20);
    cursor.interval = selection.interval = Math.max(least, ms, cursorMs);
  };

  // --- what is asked ----------------------------------------------------------------------------------------------

  const ask = (kind, data, extra) => hub.request(() => ({ type: kind, roomId, data, ...extra }), roomId, "", live);

  /** Playback as it will be if the server agrees. */
  function after({ action, isPlaying, currentTime, playbackRate, at, duration }) {
    const old = store.get().playback;
    return {
      version: 0, ...old, anchor: at,
      isPlaying: isPlaying ?? (action === "play" || (action !== "pause" && !!old?.isPlaying)),
      currentTime: currentTime ?? positionOf(old, at),
      playbackRate: playbackRate ?? old?.playbackRate ?? 1,
      ...(duration && { duration }),
    };
  }

  async function command(data) {
    const wish = store.get().playback;
    // what could not be said in time is said as a state, and only if nobody else has said something since [H16]
    const render = () => {
      if (!late || /^(re|en|dis)/.test(data.action)) return { type: "playback", roomId, data };
      const at = clock.now();
      const { isPlaying, playbackRate, version, duration } = wish;
      const state = { action: "sync", isPlaying, currentTime: positionOf(wish, at), playbackRate, at, duration };
      return { type: "playback", roomId, data: { ...state, baseVersion: version || undefined } };
    };
    const late = !live;
    commands++;
    const reply = await hub.request(render, roomId, "playback", live);
    commands--;
    if (!commands) learn(reply.success ? reply : reply.state, !reply.success);
    return reply;
  }

  function learn({ isPlaying, currentTime, playbackRate, anchor, version, duration, target } = {}, always) {
    const state = { ...store.get().playback, isPlaying, currentTime, playbackRate, anchor, version };
    if (duration) state.duration = duration;
    if (target) state.target = target;
    if (always && Number.isFinite(anchor)) store.set({ playback: state });
    else store.learn(state);
    notify();
  }

  const room = {
    id: roomId,
    clock,
    get status() {
      return store.get().status;
    },
    get self() {
      return store.get().self;
    },
    get others() {
      return store.get().others;
    },
    getSnapshot: store.get,
    subscribe: (callback) => events.on("change", () => callback()),
    on: events.on,
    ready: () => new Promise((resolve) => {
      if (live || room.status === "closed") resolve(live);
      else waiting.add(resolve);
    }),

    updateCursor(data) {
      const { timestamp, x, y, target } = data ?? {};
      const point = { timestamp: clamp(timestamp, MAX_S), x: clamp(x, 1), y: clamp(y, 1), target };
      show(cursor, "cursor", data && point);
    },
    updateSelection(data) {
      const { startTime, endTime, target } = data ?? {};
      show(selection, "selection", data && { startTime: clamp(startTime, MAX_S), endTime: clamp(endTime, MAX_S), target });
    },
    typing(isTyping, context) {
      const last = typing.value;
      const now = clock.now();
      const on = now < typingUntil && last?.isTyping;
      if (!isTyping && !on) return;
      typingUntil = now + TYPING_LIFE_MS;
      typing.offer({ isTyping, context }, on && isTyping && last.context === context ? TYPING_MS : 0);
    },
    setStatus: (status, statusMessage) => hub.setStatus({ status, statusMessage }),
    setPrivacy: hub.setPrivacy,

    playback(data) {
      const { action } = data;
      if (action === "report") return say(data);
      if (action === "resync" || /able$/.test(action)) return command(data);
      data = { at: clock.now(), ...data };
      if (room.mayControl) {
        store.set({ playback: after(data) });
        notify();
      }
      if (action !== "seek" || !live) {
        seek.fire(); // never overtaken
        return command(data);
      }
      return new Promise((resolve) => {
        if (seek.waiting) seek.value.resolve({ success: false, code: "REPLACED", message: "A later seek took its place." });
        seek.offer({ data, resolve });
      });
    },
    position: (at = clock.now()) => positionOf(store.get().playback, at),
    get mayControl() {
      const { controller, self } = store.get();
      return !controller || controller === self?.userId;
    },
    requestControl: () => ask("control_request"),
    cancelRequest: () => ask("control_cancel"),
    grantControl: (toUserId) => ask("control_grant", { toUserId }),
    denyControl: (toUserId) => ask("control_deny", { toUserId }),
    releaseControl: () => ask("control_release"),
    broadcast: (data, to) => ask("broadcast", data, { to }),

    attach(video, options) {
      const undo = attachVideo(video, { room, store, follow, say, tell, options: options ?? {} });
      const detach = () => {
        if (detachments.delete(detach)) undo();
      };
      detachments.add(detach);
      return detach;
    },
    follow: (whom) => follow.start(whom),
    leave() {
      if (--inside.count > 0 || room.status === "closed") return;
      if (live) send("leave");
      inside.end(null);
    },
  };
  const follow = createFollow({ hub, room, store, notify, tell });

  /** Report where the own player is: at once on a change, else once a second [H6]. */
  function say({ action, ...data }) {
    const said = JSON.stringify([data.isPlaying, data.playbackRate, data.buffering, data.follow]);
    const at = clock.now();
    report.offer(() => ({ action: "report", ...data, at }), said === reported ? REPORT_MS : REPORT_CHANGE_MS);
    reported = said;
  }

  function end(error) {
    live = false;
    clearTimeout(retryTimer);
    for (const slot of slots) slot.stop();
    for (const detach of [...detachments]) detach();
    store.set({ status: "closed", error });
    hub.forget(roomId, { success: false, code: "CLOSED", message: "You are not in this room any more.", ...error });
    if (error) tell("error", error);
    tell("status", "closed");
    notify();
    for (const resolve of waiting) resolve(false);
    waiting.clear();
    events.clear();
  }

  const own = {
    joined(message) {
      live = true;
      store.set({ status: "live" });
      advise(message.sendIntervalMs);
      for (const kind in shown) shown[kind] = null;
      if (cursor.value) cursor.offer(cursor.value);
      if (selection.value) selection.offer(selection.value);
      for (const slot of slots) slot.go();
      hub.flush(roomId);
    },
    user_joined() {
      for (const slot of slots) slot.go();
    },
    server_notice: ({ code, sendIntervalMs }) => code === "SEND_INTERVAL" && advise(sendIntervalMs),
  };

  const inside = {
    room,
    count: 0,
    tell,
    end,
    join() {
      clearTimeout(retryTimer);
      hub.ask({ type: "join", roomId, roomType: type, privacy }, roomId);
    },
    status(next) {
      if (next === "live" || room.status === "closed") return; // the room is live when it is joined
      store.set({ status: next });
      tell("status", next);
      notify();
    },
    down() {
      live = false;
      for (const slot of slots) slot.stop();
    },
    refused(error, join) {
      if (!join) {
        if (error.state) learn(error.state, true);
        return tell("error", error);
      }
      if (error.code !== "RATE_LIMITED" && error.code !== "INTERNAL") return end(error);
      retryTimer = setTimeout(inside.join, (error.retryAfterMs ?? 0) + RETRY_MS * Math.random());
    },
    receive(message) {
      if (message.type === "cursors") {
        for (const row of message.data) {
          const moved = store.expand(row, message);
          if (!moved) continue;
          store.fold(moved);
          tell("cursor_moved", moved);
        }
        return notify();
      }
      if (message.type === "kicked") return end({ ...message, code: "KICKED", message: message.reason });
      if (!live && message.type !== "joined") return;
      const overtaken = message.type === "playback_synced" && message.sessionId === hub.me.sessionId && (commands > 1 || seek.waiting);
      if (overtaken) store.set({ playback: { ...store.get().playback, version: message.data.version } });
      else store.fold(message);
      if (Object.hasOwn(own, message.type)) own[message.type](message);
      follow.hear(message);
      if (message.type === "joined") {
        tell("status", "live");
        for (const resolve of waiting) resolve(true);
        waiting.clear();
      }
      if (!follow.isOwn(message)) tell(message.type, message);
      notify();
    },
  };
  return inside;
}
