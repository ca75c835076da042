/** Helpers of all parts of the demo page: its elements, notices, timecodes. */

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
 * The first element below `parent` that the selector finds.
 * @param {ParentNode} parent
 * @param {string} selector
 * @returns {HTMLElement}
 */
export function elementIn(parent, selector) {
  const element = parent.querySelector(selector);
  if (!(element instanceof HTMLElement)) throw new Error(`There is no ${selector}.`);
  return element;
}

/**
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Initials: JS for "Jane Smith".
 * @param {string} name
 */
export function initials(name) {
  const words = name.trim().split(/\s+/);
  const first = words[0] ?? "";
  const last = words.at(-1) ?? "";
  return [...new Set([first, last])].map(([letter]) => letter).join("").toUpperCase();
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let noticeTimer;

/**
 * Shows a notice at the bottom of the window for a few seconds.
 * @param {string} text
 */
export function notify(text) {
  const notice = elementById("notice");
  notice.textContent = text;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (notice.textContent = ""), 4000);
}

export const FPS = 24;

/**
 * "00:12:08": minutes, seconds, frames.
 * @param {number} seconds
 */
export function timecode(seconds) {
  const frame = Math.floor(seconds * FPS + 1e-3);
  const parts = [frame / FPS / 60, (frame / FPS) % 60, frame % FPS];
  return parts.map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
}
