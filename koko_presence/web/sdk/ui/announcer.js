/**
 * Texts for screen readers. Every component has a live region; this limits how often its text changes.
 */

const QUIET_MS = 5000; // shortest time between two texts

export class Announcer {
  #speak;
  /**
   * Makes the newest text.
   * @type {() => string | undefined}
   */
  #makeText = () => undefined;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #nextAt = 0;

  /** @param {(text: string | undefined) => void} speak Puts a text into the live region. */
  constructor(speak) {
    this.#speak = speak;
  }

  /**
   * Speaks as soon as it may, at most every 5 s; `makeText` of the last call is called then.
   * @param {() => string | undefined} makeText
   */
  announce(makeText) {
    this.#makeText = makeText;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#nextAt = performance.now() + QUIET_MS;
      this.#speak(this.#makeText());
    }, this.#nextAt - performance.now());
  }
}
