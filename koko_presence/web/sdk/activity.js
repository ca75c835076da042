/**
 * What the user does with the page: active, idle or away, and when the user, the page or the network comes back. The
 * connection reports it in heartbeats and tries again at once when something has come back.
 */

/** @import { Activity } from "./types.js" */

/**
 * @typedef {object} ActivityHandlers
 * @property {() => void} onChange `current` has changed.
 * @property {() => void} onReturn The user, the page or the network is back.
 * @property {() => void} onAttentionLost The window has lost the focus, or the page was hidden or shown.
 * @property {() => void} onPageClosed The page is gone, and not kept for the browser's "back".
 * @property {() => void} onPageKept The page goes into the back/forward cache, from which it may come back.
 * @property {() => void} onPageBack The page has come back from there.
 */

/** Without a page (Node) the activity is always `active`. */
export class PageActivity {
  /** @type {Activity} */
  current = "active";

  #idleMs;
  #handlers;
  /** @type {Document | undefined} */
  #document;
  /** Local ms of the last interaction. */
  #touchedAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #idleTimer;
  /** @type {AbortController | undefined} */
  #listening;

  /**
   * @param {object} options
   * @param {number} options.idleMs The user is idle after this time without interaction.
   * @param {ActivityHandlers} options.handlers
   */
  constructor({ idleMs, handlers }) {
    this.#idleMs = idleMs;
    this.#handlers = handlers;
  }

  start() {
    this.#touchedAt = performance.now();
    this.#document = globalThis.document;
    this.#listening = new AbortController();
    this.#listen(["pointermove", "pointerdown", "keydown", "wheel"], () => this.#onInteraction(), { capture: true });
    this.#listen(["blur", "visibilitychange"], () => this.#handlers.onAttentionLost());
    this.#listen(["focus", "online", "pageshow", "visibilitychange"], () => this.#onReturn());
    this.#listen(["pagehide"], (event) => {
      if (isPersisted(event)) this.#handlers.onPageKept();
      else this.#handlers.onPageClosed();
    });
    this.#listen(["pageshow"], (event) => isPersisted(event) && this.#handlers.onPageBack());
    this.#assess();
  }

  stop() {
    clearTimeout(this.#idleTimer);
    this.#listening?.abort();
  }

  /**
   * @param {string[]} types
   * @param {(event: Event) => void} listener
   * @param {AddEventListenerOptions} [options]
   */
  #listen(types, listener, options) {
    for (const type of types) globalThis.addEventListener?.(type, listener, { ...options, signal: this.#listening?.signal });
  }

  #onInteraction() {
    this.#touchedAt = performance.now();
    if (this.current !== "active") this.#assess();
  }

  #onReturn() {
    this.#touchedAt = performance.now();
    this.#assess();
    this.#handlers.onReturn();
  }

  #assess() {
    clearTimeout(this.#idleTimer);
    if (!this.#document) return;
    const before = this.current;
    const leftMs = this.#touchedAt + this.#idleMs - performance.now();
    if (leftMs > 0) this.#idleTimer = setTimeout(() => this.#assess(), leftMs);
    if (this.#document.hidden) this.current = "away";
    else this.current = leftMs > 0 ? "active" : "idle";
    if (this.current !== before) this.#handlers.onChange();
  }
}

/** @param {Event} event Of a page that is hidden or shown: whether it is in the back/forward cache meanwhile. */
const isPersisted = (event) => (/** @type {PageTransitionEvent} */ (event)).persisted;
