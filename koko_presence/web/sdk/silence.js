/**
 * How long nothing has come from the server. Some networks swallow all messages without closing the connection; the connection
 * asks for a sign of life when it has been silent, and is given up soon after that.
 */

import { localNow } from "./clock.js";

/** After so long without a message a sign of life is asked for ... */
const SILENCE_MS = 8000;
/** ... and after so long the connection is given up: both with time to spare before 10 s and 15 s. */
const GIVE_UP_MS = 14_500;
/** The same while the user, or others, do something: a loss is felt at once. No heartbeat earlier is answered for sure [D3]. */
const BUSY_SILENCE_MS = 5500;
const BUSY_GIVE_UP_MS = 9500;
/** Messages within this time make the connection a busy one. */
const BUSY_MS = 10_000;
/** An answer has at least this time. */
const ANSWER_MS = 4000;

export class Silence {
  #onSilence;
  #receivedAt = 0;
  /** When the last message was sent or received that is no heartbeat. */
  #busyAt = -Infinity;
  /**
   * When the first heartbeat was sent that nothing has answered yet.
   * @type {number | undefined}
   */
  #askedAt;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {object} options
   * @param {() => void} options.onSilence Called once in each silence, while it watches.
   */
  constructor({ onSilence }) {
    this.#onSilence = onSilence;
  }

  /** Watches from now on. */
  start() {
    if (this.#timer === undefined) this.#schedule();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** @param {boolean} isHeartbeat */
  onReceived(isHeartbeat) {
    this.#receivedAt = localNow();
    if (!isHeartbeat) this.#busyAt = this.#receivedAt;
    if (this.#askedAt === undefined) return; // the timer looks at the time when it fires
    this.#askedAt = undefined;
    if (this.#timer !== undefined) this.#schedule();
  }

  /** A message that is no heartbeat was sent. */
  onSent() {
    this.#busyAt = localNow();
    if (this.#timer !== undefined && this.#busyAt - this.#receivedAt >= BUSY_SILENCE_MS) this.#check();
  }

  /**
   * A heartbeat was sent.
   * @returns {number} Ms until the connection is given up.
   */
  onAsked() {
    const now = localNow();
    this.#askedAt ??= now;
    const giveUpMs = this.#isBusy(now) ? BUSY_GIVE_UP_MS : GIVE_UP_MS;
    return Math.max(this.#receivedAt + giveUpMs, this.#askedAt + ANSWER_MS) - now;
  }

  #schedule() {
    clearTimeout(this.#timer);
    const silentMs = localNow() - this.#receivedAt;
    const dueMs = silentMs < BUSY_SILENCE_MS ? BUSY_SILENCE_MS : SILENCE_MS;
    this.#timer = setTimeout(() => this.#check(), silentMs < dueMs ? dueMs - silentMs : SILENCE_MS);
  }

  #check() {
    const now = localNow();
    const limitMs = this.#isBusy(now) ? BUSY_SILENCE_MS : SILENCE_MS;
    if (this.#askedAt === undefined && now - this.#receivedAt >= limitMs) this.#onSilence();
    if (this.#timer !== undefined) this.#schedule();
  }

  /** @param {number} now */
  #isBusy(now) {
    return now - this.#busyAt < BUSY_MS;
  }
}
