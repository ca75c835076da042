/**
 * The presence object of the own session in one room: an object of the application that the others see. It is changed here
 * at once, and sent key by key.
 */

export class OwnPresence {
  /**
   * Immutable: a change makes a new one.
   * @type {Readonly<Record<string, unknown>>}
   */
  value = {};
  /**
   * The values as JSON, by key, to compare them.
   * @type {Record<string, string>}
   */
  #texts = {};
  /**
   * Keys whose present value the server does not have yet.
   * @type {Set<string>}
   */
  #unsent = new Set();

  /**
   * Merges a patch: null removes a key, or as the patch everything. What JSON leaves out, such as undefined, changes nothing.
   * @param {unknown} patch
   * @param {number} [maxBytes] Of the whole object as JSON.
   * @returns {{ code: "INVALID_DATA" | "TOO_LARGE", message: string } | null} What is wrong with the patch; nothing has changed
   *   then.
   */
  merge(patch, maxBytes = Infinity) {
    const copy = patch === null ? Object.fromEntries(Object.keys(this.value).map((key) => [key, null])) : copyOf(patch);
    if (!copy) return { code: "INVALID_DATA", message: "A presence object is a plain object that JSON can express." };
    /** @type {Record<string, unknown>} */
    const value = { ...this.value };
    const texts = { ...this.#texts };
    const changed = Object.keys(copy).filter((key) => JSON.stringify(copy[key]) !== (this.#texts[key] ?? "null"));
    for (const key of changed) {
      if (copy[key] === null) {
        delete value[key];
        delete texts[key];
      } else {
        value[key] = copy[key];
        texts[key] = JSON.stringify(copy[key]);
      }
    }
    if (!changed.length) return null;
    const bytes = bytesOf(value);
    if (bytes > maxBytes) return tooLarge(bytes, maxBytes);
    this.value = value;
    this.#texts = texts;
    for (const key of changed) this.#unsent.add(key);
    return null;
  }

  /** Of the object as JSON. */
  get bytes() {
    return bytesOf(this.value);
  }

  get hasUnsent() {
    return this.#unsent.size > 0;
  }

  /** @returns {Record<string, unknown> | undefined} What the server does not have yet, as a patch; undefined if that is nothing. */
  takeUnsent() {
    if (!this.#unsent.size) return undefined;
    const patch = Object.fromEntries([...this.#unsent].map((key) => [key, this.value[key] ?? null]));
    this.#unsent.clear();
    return patch;
  }

  /**
   * Compares the object with what the server has after a join, where a resumed session has what it had; what differs is unsent.
   * @param {Readonly<Record<string, unknown>>} [shown]
   * @returns {boolean} Whether there is anything in one of them.
   */
  compare(shown = {}) {
    const keys = [...Object.keys(this.value), ...Object.keys(shown)];
    this.#unsent = new Set(keys.filter((key) => this.#texts[key] !== JSON.stringify(shown[key])));
    return keys.length > 0;
  }
}

/** @param {Readonly<Record<string, unknown>>} value */
const bytesOf = (value) => new TextEncoder().encode(JSON.stringify(value)).length;

/**
 * @param {number} bytes
 * @param {number} maxBytes
 * @returns {{ code: "TOO_LARGE", message: string }}
 */
export function tooLarge(bytes, maxBytes) {
  return { code: "TOO_LARGE", message: `The presence object would have ${bytes} of ${maxBytes} bytes.` };
}

/**
 * A deep copy, as JSON makes it, or undefined for what is no object of JSON. Half of a surrogate pair, which JSON cannot
 * carry, becomes the replacement character.
 * @param {unknown} patch
 * @returns {Record<string, unknown> | undefined}
 */
function copyOf(patch) {
  if (typeof patch !== "object" || Array.isArray(patch)) return undefined;
  try {
    const text = JSON.stringify(patch).replace(/(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}/g, "$1\ufffd");
    const copy = JSON.parse(text);
    return typeof copy === "object" && copy ? copy : undefined;
  } catch {
    return undefined; // a circle, or a BigInt
  }
}
