/** Helpers of all parts of the live page. */

/**
 * The element of the page with this id.
 * @template {HTMLElement} [Type=HTMLElement]
 * @param {string} id
 * @param {new () => Type} [type] Its class.
 * @returns {Type}
 */
export function elementById(id, type = /** @type {new () => Type} */ (HTMLElement)) {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`The page has no ${type.name} #${id}.`);
  return element;
}

/**
 * The level of a value by two thresholds, as a class name.
 * @param {number | null} value
 * @param {number} warm
 * @param {number} bad
 */
export function levelOf(value, warm, bad) {
  if (value === null || value < warm) return "";
  return value < bad ? "warm" : "bad";
}

/**
 * Slots of a drawing over time, one a second: it grows with the number of readings.
 * @param {number} readings
 * @param {{ min: number, max: number }} limits
 */
export function slotsFor(readings, { min, max }) {
  return Math.min(max, Math.max(min, readings));
}
