/**
 * Latency where the user feels it: from the sender's pointer to the receiver's frame [N16]. A sender that measures says, beside
 * about one cursor in two seconds, when the pointer was there, in the server's time; a receiver that measures compares that
 * with the frame in which it has drawn this cursor. Both clocks are estimates of the server's, so the result is as exact as
 * they are, some ms.
 */

/**
 * @import { Clock, Cursor, Presence, Room, RoomEvents, Traffic, Undo } from "./types.js"
 */

/** Type of the broadcast with which a sender says when its pointer was there. */
const PROBE = "koko:pointer";
const PROBE_MS = 2000;
const KEPT_MS = 5000; // what was not answered by then was overtaken on its way
const KEPT_SAMPLES = 500;

/**
 * @typedef {object} Percentiles
 * @property {number} count
 * @property {number | null} p50 ms
 * @property {number | null} p99 ms
 */

/** The newest samples of one kind, ms. */
class Samples {
  /** @type {number[]} */
  #values = [];

  /** @param {number} value */
  add(value) {
    this.#values.push(value);
    if (this.#values.length > KEPT_SAMPLES) this.#values.shift();
  }

  /** @returns {Percentiles} */
  get percentiles() {
    const sorted = [...this.#values].sort((a, b) => a - b);
    const at = (/** @type {number} */ part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? null;
    return { count: sorted.length, p50: at(0.5), p99: at(0.99) };
  }
}

/**
 * What makes a cursor the one that is meant.
 * @param {Partial<Cursor>} cursor
 */
const keyOf = ({ timestamp, x, y, target, mediaId }) => JSON.stringify([timestamp, x, y, target, mediaId].map((value) => value ?? null));

export class PointerLatency {
  /** From the pointer of others, where they measure too, to the frame here. */
  pointerToFrame = new Samples();
  /** From the server's receipt to the frame here, of all others. */
  serverToFrame = new Samples();

  #presence;
  /** @type {Undo[]} */
  #undo = [];
  /** @type {Map<Room, Undo>} */
  #rooms = new Map();
  /** Server ms of the last movement of the pointer here. */
  #pointedAt = 0;
  #probedAt = -Infinity;
  /**
   * Cursors that have arrived, by session and place: server ms of the frame, or null until it is drawn.
   * @type {Map<string, { arrivedAt: number, frameAt: number | null }>}
   */
  #shown = new Map();
  /**
   * What senders have said, by session and place: server ms at which the pointer was there.
   * @type {Map<string, number>}
   */
  #said = new Map();

  /** @param {Presence<any>} presence */
  constructor(presence) {
    this.#presence = presence;
    const onMove = (/** @type {Event} */ { timeStamp }) => {
      this.#pointedAt = this.#clock.now() - (performance.now() - timeStamp);
    };
    globalThis.addEventListener?.("pointermove", onMove, { capture: true, passive: true });
    this.#undo.push(
      () => globalThis.removeEventListener?.("pointermove", onMove, { capture: true }),
      presence.inspect((traffic) => this.#onTraffic(traffic)),
    );
    this.followRooms();
  }

  /** @returns {Clock} */
  get #clock() {
    return this.#presence.clock;
  }

  stop() {
    for (const undo of [...this.#undo.splice(0), ...this.#rooms.values()]) undo();
    this.#rooms.clear();
  }

  /** Listens to rooms that are new, and no longer to those that are over. */
  followRooms() {
    const rooms = new Set(this.#presence.rooms);
    for (const [room, undo] of this.#rooms) {
      if (rooms.has(room)) continue;
      undo();
      this.#rooms.delete(room);
    }
    for (const room of rooms) {
      if (!this.#rooms.has(room)) this.#rooms.set(room, room.on("cursor_moved", (event) => this.#onCursor(event)));
    }
  }

  /** @param {Traffic} traffic */
  #onTraffic({ direction, message }) {
    const data = /** @type {Record<string, any> | null | undefined} */ (message.data);
    if (direction === "sent" && message.type === "cursor" && data) this.#probe(String(message.roomId), data);
    if (direction === "sent" && message.type === "join") this.followRooms();
    if (direction !== "received" || message.type !== "broadcast" || data?.type !== PROBE || !data) return;
    if (typeof data.at !== "number" || typeof data.cursor !== "object" || !data.cursor) return;
    this.#said.set(`${message.sessionId} ${keyOf(data.cursor)}`, data.at);
    this.#compare();
  }

  /**
   * @param {string} roomId
   * @param {Partial<Cursor>} cursor
   */
  #probe(roomId, cursor) {
    const now = this.#clock.now();
    const room = this.#presence.rooms.find(({ id }) => id === roomId);
    if (!room?.others.length || now - this.#probedAt < PROBE_MS) return;
    this.#probedAt = now;
    const isPointer = now - this.#pointedAt < PROBE_MS; // else the cursor was moved by code
    room.broadcast({ type: PROBE, at: isPointer ? this.#pointedAt : now, cursor });
  }

  /** @param {RoomEvents["cursor_moved"]} event */
  #onCursor({ sessionId, timestamp, data }) {
    if (data.hidden || typeof requestAnimationFrame === "undefined") return;
    const arrivedAt = this.#clock.now();
    const shown = { arrivedAt, frameAt: /** @type {number | null} */ (null) };
    this.#shown.set(`${sessionId} ${keyOf(data)}`, shown);
    requestAnimationFrame(() => {
      shown.frameAt = this.#clock.now();
      this.serverToFrame.add(Math.max(0, shown.frameAt - Date.parse(timestamp)));
      this.#compare();
    });
  }

  /** Takes what is known from both sides, and forgets what is old. */
  #compare() {
    const now = this.#clock.now();
    for (const [key, at] of this.#said) {
      const frameAt = this.#shown.get(key)?.frameAt;
      if (frameAt) this.pointerToFrame.add(Math.max(0, frameAt - at));
      if (frameAt || now - at > KEPT_MS) this.#said.delete(key);
    }
    for (const [key, { arrivedAt }] of this.#shown) if (now - arrivedAt > KEPT_MS) this.#shown.delete(key);
  }
}
