/**
 * Small SVG drawings for the page (live.js). Each function fills an element with a drawing of numbers and keeps no state.
 */

/** @import { Bucket } from "./readings.js" */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with a class, and text or children. Texts are text nodes: the content of a name is shown and never run.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [className]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}

/**
 * @param {number} width
 * @param {number} height
 * @param {string} label
 */
function canvas(width, height, label) {
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
}

/**
 * @param {number | null} value
 * @returns {value is number}
 */
function isNumber(value) {
  return Number.isFinite(value);
}

/**
 * The round number from `value` on, for the end of a scale.
 * @param {number} value
 */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

/**
 * The path of line segments; a null is a gap.
 * @param {(number | null)[]} values
 * @param {(index: number) => number} at Px from the left.
 * @param {(value: number) => number} high Px from the top.
 */
function path(values, at, high) {
  let d = "";
  let pen = false;
  values.forEach((value, i) => {
    if (value === null || !Number.isFinite(value)) {
      pen = false;
      return;
    }
    d += `${pen ? "L" : "M"}${at(i).toFixed(1)} ${high(value).toFixed(1)}`;
    pen = true;
  });
  return d;
}

/**
 * A line of values, the newest at the right.
 * @param {Element} into
 * @param {(number | null)[]} values
 * @param {number} slots The largest number of values.
 * @param {string} label
 * @param {string} [className]
 */
export function spark(into, values, slots, label, className = "") {
  const width = Math.max(40, into.clientWidth || 120);
  const height = into.clientHeight || 34;
  const shown = values.slice(-slots);
  const known = shown.filter(isNumber);
  const most = Math.max(...known, 0) || 1;
  const step = width / (slots - 1);
  const from = width - (shown.length - 1) * step;
  const at = (/** @type {number} */ i) => from + i * step;
  const high = (/** @type {number} */ value) => height - 2 - (value / most) * (height - 5);
  const svg = canvas(width, height, label);
  const line = path(shown, at, high);
  if (known.length > 1 && !shown.includes(null)) {
    svg.append(shape("path", { class: "area", d: `${line}L${width} ${height}L${from.toFixed(1)} ${height}Z` }));
  }
  svg.append(shape("path", { class: `line ${className}`, d: line }));
  const end = shown.at(-1) ?? null;
  if (isNumber(end)) svg.append(shape("circle", { class: "end", cx: width - 2.5, cy: high(end), r: 2.5 }));
  into.replaceChildren(svg);
}

/**
 * Several lines over the last `slots` seconds with a scale.
 * @param {Element} into
 * @param {{ className: string, values: (number | null)[] }[]} series
 * @param {number} slots
 * @param {string} label
 * @param {(value: number) => string} show A number of the scale as a text.
 */
export function trails(into, series, slots, label, show) {
  const width = Math.max(200, into.clientWidth);
  const height = into.clientHeight || 220;
  const left = 46;
  const bottom = 22;
  const top = 8;
  const known = series.flatMap((line) => line.values.slice(-slots)).filter(isNumber);
  const most = roundUp(Math.max(...known, 10));
  const step = (width - left - 6) / (slots - 1);
  const high = (/** @type {number} */ value) => height - bottom - (value / most) * (height - bottom - top);
  const svg = canvas(width, height, label);
  for (const share of [0, 0.5, 1]) {
    const y = high(most * share);
    svg.append(shape("line", { class: "grid", x1: left, x2: width - 6, y1: y, y2: y }));
    const text = shape("text", { class: "scale", x: left - 8, y: y + 4, "text-anchor": "end" });
    text.textContent = show(most * share);
    svg.append(text);
  }
  const every = slots > 150 ? 60 : slots > 75 ? 30 : 15;
  for (let ago = 0; ago < slots - 5; ago += every) {
    const text = shape("text", { class: "scale", x: width - 6 - ago * step, y: height - 5, "text-anchor": ago ? "middle" : "end" });
    text.textContent = !ago ? "now" : every === 60 ? `-${ago / 60} min` : `-${ago} s`;
    svg.append(text);
  }
  for (const { className, values } of series) {
    const shown = values.slice(-slots);
    const from = width - 6 - (shown.length - 1) * step;
    const d = path(shown, (i) => from + i * step, high);
    if (shown.length > 1 && !shown.includes(null)) {
      svg.append(shape("path", { class: `area ${className}`, d: `${d}L${width - 6} ${high(0)}L${from.toFixed(1)} ${high(0)}Z` }));
    }
    svg.append(shape("path", { class: `line ${className}`, d }));
  }
  into.replaceChildren(svg);
}

/**
 * Bars for the buckets of a histogram; those above `warm` and `bad` seconds have their colours.
 * @param {Element} into
 * @param {Bucket[]} buckets
 * @param {string} label
 * @param {(seconds: number) => string} show
 * @param {number} warm
 * @param {number} bad
 */
export function bars(into, buckets, label, show, warm, bad) {
  const width = Math.max(200, into.clientWidth);
  const height = into.clientHeight || 220;
  const bottom = 34;
  const top = 18;
  const total = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  const most = Math.max(...buckets.map((bucket) => bucket.count), 1);
  const each = width / buckets.length;
  const svg = canvas(width, height, label);
  svg.append(shape("line", { class: "grid", x1: 0, x2: width, y1: height - bottom, y2: height - bottom }));
  buckets.forEach((bucket, i) => {
    const tall = (bucket.count / most) * (height - bottom - top);
    const level = bucket.from >= bad ? "bad" : bucket.from >= warm ? "warm" : "";
    const x = i * each + 1.5;
    const wide = Math.max(2, each - 3);
    svg.append(shape("rect", { class: "slot", x, y: top, width: wide, height: height - bottom - top, rx: 2 }));
    if (bucket.count) {
      const bar = shape("rect", { class: `bar ${level}`, x, y: height - bottom - Math.max(2, tall), width: wide, height: Math.max(2, tall), rx: 2 });
      const title = shape("title", {});
      title.textContent = `${show(bucket.from)} to ${show(bucket.to)}: ${((100 * bucket.count) / total).toFixed(1)} %`;
      bar.append(title);
      svg.append(bar);
    }
    const last = buckets.length - 1;
    if ((i % (width < 330 ? 4 : 3) === 2 && (last - i) * each > 48) || i === last) { // clear of "more"
      const text = shape("text", { class: "scale", x: (i + 1) * each - 1, y: height - bottom + 15, "text-anchor": i === last ? "end" : "middle" });
      text.textContent = bucket.to === Infinity ? "more" : show(bucket.to).replace(/\.0 /, " ");
      svg.append(text);
    }
  });
  into.replaceChildren(svg);
}
