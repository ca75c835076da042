/**
 * Listeners by event type. A presence and each of its rooms have one emitter; the application reaches it through their `on`.
 */

/**
 * @template {object} Events The event types, each with the argument of its listeners.
 */
export class Emitter {
  /** @type {Map<keyof Events, Set<{ listener: (event: any) => void }>>} */
  #entries = new Map();

  /**
   * Calls `listener` at each event of this type. A listener that is added twice is called twice.
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {(event: Events[Type]) => void} listener
   * @returns {() => void} Removes the listener.
   */
  on(type, listener) {
    const entry = { listener };
    const entries = this.#entries.get(type) ?? new Set();
    this.#entries.set(type, entries.add(entry));
    return () => void entries.delete(entry);
  }

  /**
   * @param {keyof Events} type
   * @returns {boolean} Whether it has a listener.
   */
  has(type) {
    return Boolean(this.#entries.get(type)?.size);
  }

  /**
   * Calls the listeners of this type. One that throws is reported and does not affect the others.
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {Events[Type]} event
   */
  emit(type, event) {
    for (const { listener } of [...(this.#entries.get(type) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        (globalThis.reportError ?? console.error)(error);
      }
    }
  }
}
