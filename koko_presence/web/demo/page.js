/** Small things for putting people and text on the page. */

export const $ = (id) => document.getElementById(id);
export const make = (id) => $(`${id}-template`).content.firstElementChild.cloneNode(true);
const initials = (name) => Array.from(name.matchAll(/(?<!\S)\S/gu), String).slice(0, 2).join("").toUpperCase();
export const setText = (element, text) => element.textContent !== text && (element.textContent = text);

/** Call `act` at most once in `ms`, the last call always. */
export function trailing(ms, act) {
  let [timer, last, args] = [0, -Infinity, []];
  const go = () => ([timer, last] = [0, performance.now()], act(...args));
  return (...next) => {
    args = next;
    const wait = last + ms - performance.now();
    if (!timer) wait > 0 ? (timer = setTimeout(go, wait)) : go();
  };
}

/** Put a member's colour and name on an element; names are text, whatever they look like. */
export function paint(element, { name, color }) {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2);
  element.style.setProperty("--color", color);
  element.style.setProperty("--ink", 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#0b0d12" : "#fff");
  for (const [selector, text] of [[".name", name], ["b", initials(name)]]) {
    const part = element.querySelector(selector);
    if (part) part.textContent = text;
  }
  return element;
}
