/**
 * Presence, cursors, typing and shared playback over one WebSocket. The types are in presence.d.ts, the protocol is in
 * docs/protocol.md. link.js owns the socket, store.js what is known of a room, room.js what one does in it.
 */

import { createEvents } from "./events.js";
import { createLink } from "./link.js";
import { createRoom } from "./room.js";
import { createClock } from "./timing.js";

const QUEUE = 100;
const OFFLINE = { success: false, code: "OFFLINE", message: "There was no connection in time." };

export function createPresence(options) {
  const rooms = new Map();
  const events = createEvents();
  const clock = createClock();
  const asked = new Map(); // id -> { resolve, roomId, join }
  let queue = []; // what waits for a connection: { message(), resolve, roomId, key }
  let ids = 0;
  let me = null;
  let limits = {};
  let status; // the person's own, set by hand
  let entering = 0;

  const tell = (error) => {
    events.emit("error", error);
    for (const room of rooms.values()) room.tell("error", error);
  };

  function answer(id, reply) {
    const waiting = asked.get(id);
    asked.delete(id);
    waiting?.resolve(reply);
    return waiting;
  }

  const hub = {
    clock,
    options,
    get me() {
      return me;
    },
    get limits() {
      return limits;
    },
    get full() {
      return link.full;
    },
    send: (message) => link.send(message),
    /** Send and resolve with the answer; never rejects. */
    ask(message, roomId) {
      return new Promise((resolve) => {
        const id = ++ids;
        if (link.send({ ...message, id })) asked.set(id, { resolve, roomId, join: message.type === "join" });
        else resolve(OFFLINE);
      });
    },
    /** Ask now if `ready`, else when there is a connection (and the room is live); of one `key` only the last. */
    request(render, roomId, key, ready) {
      if (ready) return hub.ask(render(), roomId);
      return new Promise((resolve) => {
        const outdated = key && queue.find((each) => each.key === key && each.roomId === roomId);
        if (outdated) outdated.resolve({ ...OFFLINE, code: "REPLACED" });
        queue = queue.filter((each) => each !== outdated);
        if (queue.length >= QUEUE) queue.shift().resolve(OFFLINE);
        queue.push({ render, resolve, roomId, key });
      });
    },
    /** Send what waited for this room; without one, what belongs to no room. */
    flush(roomId) {
      const ready = queue.filter((each) => each.roomId === roomId);
      queue = queue.filter((each) => each.roomId !== roomId);
      for (const { render, resolve } of ready) hub.ask(render(), roomId).then(resolve);
    },
    setStatus(data) {
      status = data;
      return hub.request(() => ({ type: "status", data }), undefined, "status", link.online);
    },
    setPrivacy(data) {
      owner.privacy = { ...owner.privacy, ...data };
      return hub.request(() => ({ type: "privacy", data }), undefined, "", link.online);
    },
    /** The room is over: nothing of it is awaited any more. */
    forget(roomId, reply) {
      rooms.delete(roomId);
      for (const [id, each] of asked) if (each.roomId === roomId) answer(id, reply);
      for (const each of queue) if (each.roomId === roomId) each.resolve(reply);
      queue = queue.filter((each) => each.roomId !== roomId);
      // after the caller's own turn: who goes from room to room keeps the connection
      queueMicrotask(() => rooms.size || close());
    },
  };

  const owner = {
    privacy: options.privacy,
    hello(hello) {
      me = hello;
      limits = hello.limits ?? {};
      if (status && !hello.resumed && !queue.some((each) => each.key === "status")) link.send({ type: "status", data: status });
      hub.flush();
      for (const roomId of hello.rooms ?? []) if (!rooms.has(roomId)) link.send({ type: "leave", roomId });
      for (const room of rooms.values()) room.join();
    },
    message(message) {
      const { type, id, roomId } = message;
      const room = rooms.get(roomId);
      if (type === "error") {
        const error = { ...message, success: false };
        const waiting = answer(id, error);
        const there = room ?? rooms.get(waiting?.roomId);
        if (there) there.refused(error, waiting?.join);
        else tell(error);
        return events.emit(type, error);
      }
      if (type === "joined" && !room) return link.send({ type: "leave", roomId });
      room?.receive(message);
      if (id !== undefined) answer(id, message);
      if (!room && (type === "kicked" || type === "server_notice")) {
        for (const each of rooms.values()) each.receive(message);
      }
    },
    down() {
      for (const id of [...asked.keys()]) answer(id, OFFLINE);
      for (const room of rooms.values()) room.down();
    },
    over(closeCode) {
      const text = `The server closed the connection with ${closeCode}; it will not come back by itself.`;
      const error = { code: "CLOSED", message: text, closeCode };
      events.emit("error", error);
      for (const room of [...rooms.values()]) room.end(error);
      for (const each of queue) each.resolve({ ...OFFLINE, closeCode });
      queue = [];
    },
    status(next) {
      for (const room of rooms.values()) room.status(next);
      events.emit("status", next);
    },
    error: tell,
    hide() {
      for (const room of rooms.values()) room.room.updateCursor(null);
    },
  };
  const link = createLink(options, clock, owner);

  function close() {
    for (const room of [...rooms.values()]) room.end(null);
    if (link.status !== "idle") link.stop();
    for (const id of [...asked.keys()]) answer(id, OFFLINE);
    for (const each of queue) each.resolve(OFFLINE);
    queue = [];
  }
  options.signal?.addEventListener("abort", close, { once: true });

  return {
    clock,
    on: events.on,
    close,
    get status() {
      return link.status;
    },
    get userId() {
      return me?.userId ?? null;
    },
    enter(roomId, { type, privacy, signal } = {}) {
      let inside = rooms.get(roomId);
      if (!inside) {
        inside = createRoom(hub, roomId, type, privacy);
        if (options.signal?.aborted) {
          inside.end(null);
          return inside.room;
        }
        rooms.set(roomId, inside);
        if (link.online) inside.join();
        else link.start();
      }
      inside.count++;
      if (signal?.aborted) inside.room.leave();
      else signal?.addEventListener("abort", () => inside.room.leave(), { once: true });
      return inside.room;
    },
  };
}
