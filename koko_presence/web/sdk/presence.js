/**
 * Presence, cursors, typing and shared playback over one WebSocket. The types are in presence.d.ts, the protocol is in
 * docs/protocol.md. link.js owns the socket, room.js the actions in a room, store.js its state; this file has the rooms, and
 * the requests that wait for an answer or for a connection.
 */

import { createEvents } from "./events.js";
import { createLink } from "./link.js";
import { createRoom } from "./room.js";
import { createClock } from "./timing.js";

const QUEUE = 100;

const OFFLINE = { success: false, code: "OFFLINE", message: "Not connected." };

export function createPresence(options) {
  const { signal: life, throttleMs = 50 } = options;
  const rooms = new Map();
  const { on, emit } = createEvents();
  const clock = createClock();
  const asked = new Map(); // id -> { message, key, resolve, sent }: requests that wait for an answer or to be sent
  let ids = 0;
  let hello = {};
  let status; // set by the user
  let { privacy } = options;

  const settle = (reply, which) => {
    for (const [id, entry] of asked) if (which(entry)) asked.delete(id) && entry.resolve(reply);
  };
  const each = (method, argument) => {
    for (const room of [...rooms.values()]) room[method](argument);
  };
  const flush = () => {
    for (const entry of asked.values()) {
      const { type, roomId } = entry.message;
      if (!entry.sent && online() && (!roomId || type === "join" || rooms.get(roomId)?.live())) send(entry.message, (entry.sent = true));
    }
  };
  /** Resolves with the answer, never rejects. Without a connection the request waits; of one `key` only the last one. */
  const ask = (message, key) => new Promise((resolve) => {
    if (key) settle(OFFLINE, (old) => !old.sent && old.key === key);
    asked.set(++ids, { message: { ...message, id: ids }, key, resolve });
    flush();
    const [oldest] = asked.values();
    if (asked.size > QUEUE) settle(OFFLINE, (entry) => entry === oldest);
  });

  const [start, stop, send, getStatus, online, full] = createLink(
    options,
    clock,
    () => ({ privacy }),
    (message) => {
      hello = message;
      if (status && !message.resumed) send({ type: "status", data: status });
      for (const roomId of message.rooms) if (!rooms.has(roomId)) send({ type: "leave", roomId });
      each("join");
      flush();
    },
    (message) => {
      const { type, id, roomId } = message;
      const entry = asked.get(id);
      const room = rooms.get(roomId ?? entry?.message.roomId);
      const failed = type === "error";
      settle({ success: !failed, ...message }, (each) => each === entry);
      if (type === "joined" && !room) send({ type: "leave", roomId }); // left meanwhile
      else if (room) room.message(message);
      else if (!roomId) each("message", message);
      if (failed && !room) emit(type, message);
    },
    () => {
      settle(OFFLINE, (entry) => entry.sent);
      each("down");
    },
    (closeCode, reason = closeCode) => {
      const error = { code: "CLOSED", message: `Closed: ${reason}`, closeCode };
      emit("error", error);
      close(error);
    },
    (next) => {
      each("status", next);
      emit("status", next);
    },
    (error) => {
      emit("error", error);
      each("error", error);
    },
    () => each("hide"),
  );

  function close(error = null) {
    each("end", error);
    stop();
    settle(OFFLINE, () => true);
  }
  const setStatus = (data) => ask({ type: "status", data: (status = data) }, "status");
  const setPrivacy = (data) => {
    each("hold", data);
    // a scope applies to its own message only: in the next auth it would apply later settings of this tab to the others
    privacy = { ...privacy, ...data, scope: undefined };
    return ask({ type: "privacy", data }, "privacy");
  };
  const forget = (roomId) => {
    rooms.delete(roomId);
    settle(OFFLINE, (entry) => entry.message.roomId === roomId);
    // after the caller's task: a change from room to room keeps the connection
    queueMicrotask(() => rooms.size || stop());
  };

  const end = () => close(); // its callers pass no error
  life?.addEventListener("abort", end);

  return {
    clock,
    on,
    close: end,
    get status() {
      return getStatus();
    },
    get userId() {
      return hello.userId ?? null;
    },
    enter(roomId, { type: roomType, privacy, signal } = {}) {
      const entered = rooms.get(roomId) ?? createRoom(clock, ask, flush, throttleMs, send, full, () => hello, setStatus, setPrivacy, forget, { type: "join", roomId, roomType, privacy });
      const { room } = entered;
      if (!entered.count++) {
        rooms.set(roomId, entered);
        if (online()) entered.join();
        else start();
      }
      signal?.addEventListener("abort", room.leave);
      if (signal?.aborted || life?.aborted) room.leave();
      return room;
    },
  };
}
