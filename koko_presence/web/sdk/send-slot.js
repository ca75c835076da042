/**
 * The newest value of one kind, sent at a limited rate. A room has a slot each for its cursor, its selection and its typing;
 * shared playback has two more, for reports and seeks.
 */

import { localNow } from "./clock.js";

/** A value that was sent so recently may not have arrived. */
const UNDER_WAY_MS = 1000;

/**
 * Sends a value when `intervalMs` have passed since the one before it. A newer value replaces one that waits, and the last
 * value is always sent [E1]. While `maySend` returns false a value waits without a timer, until the next `trySend`.
 * @template Value
 */
export class SendSlot {
  /** Shortest time between two values, ms. */
  intervalMs = 0;
  /**
   * The newest value, sent or waiting; null before the first.
   * @type {Value | null}
   */
  value = null;
  /** Whether `value` has not been sent yet. */
  isWaiting = false;

  /** @type {(value: Value) => void} */
  #send;
  /** @type {() => boolean} */
  #maySend;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #sentAt = -Infinity;

  /**
   * @param {object} options
   * @param {(value: Value) => void} options.send
   * @param {() => boolean} options.maySend
   */
  constructor({ send, maySend }) {
    this.#send = send;
    this.#maySend = maySend;
  }

  /**
   * Takes a newer value, and from now on `intervalMs`.
   * @param {Value} value
   * @param {number} [intervalMs]
   */
  offer(value, intervalMs = this.intervalMs) {
    this.value = value;
    this.intervalMs = intervalMs;
    this.isWaiting = true;
    this.trySend();
  }

  /**
   * Takes a value that says the same more exactly. It is sent if the one before it waits, or may still be under way.
   * @param {Value} value
   */
  amend(value) {
    this.value = value;
    if (localNow() - this.#sentAt < UNDER_WAY_MS) this.offer(value);
  }

  /** Sends a waiting value if it may be sent: now, or when its interval is over. */
  trySend() {
    this.#sendIn(this.#sentAt + this.intervalMs - localNow());
  }

  /** Sends a waiting value if it may be sent, without regard to its interval. */
  sendNow() {
    this.#sendIn(0);
  }

  /** Stops the timer; a waiting value stays. */
  stop() {
    clearTimeout(this.#timer);
  }

  /** @param {number} ms */
  #sendIn(ms) {
    this.stop();
    if (!this.isWaiting || !this.#maySend()) return;
    if (ms > 0) {
      this.#timer = setTimeout(() => this.sendNow(), ms);
      return;
    }
    this.isWaiting = false;
    this.#sentAt = localNow();
    this.#send(/** @type {Value} */ (this.value));
  }
}
