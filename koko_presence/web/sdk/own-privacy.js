/** @import { Privacy } from "./types.js" */

/**
 * The privacy that the next `auth` or `join` has: a first value with the changes that were made since, in their order. A
 * change that the server refuses is taken out again; those that were made beside it stay.
 */
export class OwnPrivacy {
  /**
   * Without the changes that are kept in the map below.
   * @type {Privacy | undefined}
   */
  #settled;
  /**
   * Changes in their order, from the first one that is not answered on; true: it is not answered.
   * @type {Map<Privacy, boolean>}
   */
  #changes = new Map();

  /** @param {Privacy} [first] */
  constructor(first) {
    this.#settled = first;
  }

  /** Undefined if nothing was ever said. */
  get value() {
    return [...this.#changes.keys()].reduce(merged, this.#settled);
  }

  /** @param {Privacy} change An object of its own, by which it is known later. It counts until it is refused. */
  add(change) {
    this.#changes.set(change, true);
  }

  /**
   * A change is answered; nothing if it was not added here.
   * @param {Privacy} change
   * @param {boolean} isRefused
   */
  settle(change, isRefused) {
    if (!this.#changes.has(change)) return;
    if (isRefused) this.#changes.delete(change);
    else this.#changes.set(change, false); // not merged before an earlier one is answered, which it may replace
    for (const [each, isOpen] of this.#changes) {
      if (isOpen) return;
      this.#settled = merged(this.#settled, each);
      this.#changes.delete(each);
    }
  }
}

/**
 * @param {Privacy | undefined} before
 * @param {Privacy} change
 * @returns {Privacy}
 */
function merged(before, change) {
  return { ...before, ...change };
}
