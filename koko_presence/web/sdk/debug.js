/**
 * What `createPresence({ debug: true })` writes to the console: the connection, and each message as one line with its data.
 */

/**
 * @import { Presence, Traffic } from "./types.js"
 */

const ARROWS = { sent: "→", received: "←" };

/**
 * A message as one line: its type, the room, whose it is.
 * @param {Traffic} traffic
 */
export function lineOf({ direction, message }) {
  const { type, roomId, userId, success, code, id } = message;
  const parts = [ARROWS[direction], type];
  if (roomId !== undefined) parts.push(`in ${roomId}`);
  if (userId !== undefined) parts.push(`of ${userId}`);
  if (code !== undefined) parts.push(`${code}`);
  if (success === false) parts.push("refused");
  if (id !== undefined) parts.push(`(${id})`);
  return parts.join(" ");
}

/** Local ms as a time of day. */
const timeOf = (/** @type {number} */ at) => new Date(performance.timeOrigin + at).toISOString().slice(11, 23);

/** Logs a presence from now on. */
export class DebugLog {
  /** @param {Presence<any>} presence */
  constructor(presence) {
    this.#state(presence.status);
    presence.on("status", (status) => this.#state(status));
    presence.on("error", (error) => console.warn("koko-presence", `error ${error.code}: ${error.message}`, error));
    presence.inspect((traffic) => this.write(traffic));
  }

  /** @param {Traffic} traffic */
  write(traffic) {
    console.log("koko-presence", timeOf(traffic.at), lineOf(traffic), traffic.message);
  }

  /** @param {string} status */
  #state(status) {
    console.info("koko-presence", timeOf(performance.now()), `connection: ${status}`);
  }
}
