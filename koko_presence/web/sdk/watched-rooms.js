/**
 * Rooms that a page watches without entering them. The presence has one list for all its watches, sent at most once a second
 * and again on each connection, and the last summary of each room.
 */

/**
 * @import { ClientMessage, RoomMessage } from "./messages.js"
 * @import { Answer, PresenceError, RoomSummary, RoomWatch } from "./types.js"
 */

const LIST_INTERVAL_MS = 1000; // `limits.watch_hz` of the server
const MAX_ROOMS = 200;
/** After an answer with one of these the list is sent again. */
const REPEATED_CODES = ["RATE_LIMITED", "UNAVAILABLE", "INTERNAL", "TIMEOUT"];

/**
 * One watch: its rooms, and their summaries.
 * @typedef {object} Watch
 * @property {readonly string[]} roomIds
 * @property {Readonly<Record<string, RoomSummary>>} snapshot
 * @property {Set<{ callback: () => void }>} listeners
 */

export class WatchedRooms {
  /** @type {Set<Watch>} */
  #watches = new Set();
  /** @type {Map<string, RoomSummary>} */
  #summaries = new Map();
  /** Rooms whose refusal the application knows. */
  #refused = new Set();
  /** The list that was sent on this connection, as JSON. */
  #sentList = "[]";
  #isScheduled = false;
  /** The connection has ended, not only been lost. */
  #isEnded = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #ask;
  #isOnline;
  #onError;
  #onChange;

  /**
   * @param {object} options
   * @param {(message: ClientMessage) => Promise<Answer<any>>} options.ask
   * @param {() => boolean} options.isOnline
   * @param {(error: PresenceError) => void} options.onError
   * @param {() => void} options.onChange The list has begun or ended.
   */
  constructor({ ask, isOnline, onError, onChange }) {
    this.#ask = ask;
    this.#isOnline = isOnline;
    this.#onError = onError;
    this.#onChange = onChange;
  }

  /** Whether any room is watched: not after the end of the connection, until a list is given or there is a connection again. */
  get isUsed() {
    return !this.#isEnded && [...this.#watches].some(({ roomIds }) => roomIds.length > 0);
  }

  /**
   * @param {readonly string[]} roomIds
   * @returns {RoomWatch}
   */
  watch(roomIds) {
    /** @type {Watch} */
    const watch = { roomIds: [], snapshot: {}, listeners: new Set() };
    this.#watches.add(watch);
    this.#setRooms(watch, roomIds);
    return {
      getSnapshot: () => watch.snapshot,
      subscribe: (callback) => {
        const listener = { callback };
        watch.listeners.add(listener);
        return () => void watch.listeners.delete(listener);
      },
      setRooms: (ids) => this.#setRooms(watch, ids),
      stop: () => {
        this.#watches.delete(watch);
        watch.listeners.clear();
        this.#schedule();
      },
    };
  }

  /** There is a connection. */
  onOpen() {
    this.#isEnded = false;
    this.#sentList = "[]";
    this.#clearTimer();
    this.#send();
  }

  /** The connection is lost. */
  onLost() {
    this.#clearTimer();
  }

  /** The connection has ended: nothing is known of the rooms. Their watches go on with the next connection. */
  onEnd() {
    this.#isEnded = true;
    this.#clearTimer();
    const known = [...this.#summaries.keys()];
    this.#summaries.clear();
    this.#refused.clear();
    this.#update(known);
  }

  /**
   * @param {RoomMessage} message
   * @returns {boolean} Whether the message is about watched rooms.
   */
  receive(message) {
    if (message.type === "room_summary") {
      const { type, ...summary } = message;
      this.#summaries.set(summary.roomId, summary);
      this.#update([summary.roomId]);
      return true;
    }
    if (message.type !== "watching") return false;
    const gone = [...this.#summaries.keys()].filter((roomId) => !message.rooms.includes(roomId));
    for (const roomId of gone) this.#summaries.delete(roomId);
    this.#update(gone);
    const known = this.#refused;
    this.#refused = new Set(message.refused.map(({ roomId }) => roomId));
    for (const refusal of message.refused) {
      if (!known.has(refusal.roomId)) this.#onError(/** @type {PresenceError} */ (refusal));
    }
    this.#sendAgain(Math.max(...message.refused.map(({ retryAfterMs = 0 }) => retryAfterMs)));
    return true;
  }

  /**
   * @param {Watch} watch
   * @param {readonly string[]} roomIds
   */
  #setRooms(watch, roomIds) {
    if (!Array.isArray(roomIds) || roomIds.some((id) => typeof id !== "string" || !id)) {
      throw new TypeError("watchRooms wants an array of room ids");
    }
    this.#isEnded = false;
    watch.roomIds = [...roomIds];
    this.#updateOne(watch);
    this.#schedule();
  }

  // --- the list ----------------------------------------------------------------------------------------------------

  /** Sends the list after the caller's task: the components of a page are one list. */
  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#onChange();
      if (this.#timer === undefined) this.#send();
    });
  }

  async #send() {
    const wanted = [...new Set([...this.#watches].flatMap(({ roomIds }) => roomIds))];
    const rooms = wanted.slice(0, MAX_ROOMS);
    const list = JSON.stringify(rooms);
    if (!this.#isOnline() || list === this.#sentList) return;
    this.#sentList = list;
    this.#timer = setTimeout(() => this.#onTimer(), LIST_INTERVAL_MS);
    if (rooms.length < wanted.length) {
      this.#onError({ code: "TOO_LARGE", message: `${wanted.length} rooms; only the first ${MAX_ROOMS} are watched.` });
    }
    const answer = await this.#ask({ type: "watch", rooms });
    if (!answer.success && REPEATED_CODES.includes(answer.code)) this.#sendAgain(answer.retryAfterMs ?? LIST_INTERVAL_MS);
  }

  #onTimer() {
    this.#timer = undefined;
    this.#send();
  }

  /**
   * Sends the list once more, although it is the same.
   * @param {number} afterMs 0 or less: not at all.
   */
  #sendAgain(afterMs) {
    if (!(afterMs > 0)) return;
    this.#clearTimer();
    this.#timer = setTimeout(() => {
      this.#sentList = "";
      this.#onTimer();
    }, afterMs * (1 + Math.random()));
  }

  #clearTimer() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  // --- summaries ---------------------------------------------------------------------------------------------------

  /** @param {string[]} roomIds Whose summary has changed. */
  #update(roomIds) {
    for (const watch of this.#watches) {
      if (roomIds.some((roomId) => watch.roomIds.includes(roomId))) this.#updateOne(watch);
    }
  }

  /** @param {Watch} watch */
  #updateOne(watch) {
    const known = watch.roomIds.filter((roomId) => this.#summaries.has(roomId));
    watch.snapshot = Object.fromEntries(known.map((roomId) => [roomId, /** @type {RoomSummary} */ (this.#summaries.get(roomId))]));
    for (const { callback } of [...watch.listeners]) callback();
  }
}
