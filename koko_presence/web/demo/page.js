/** Helpers of all parts of the page. */

export const $ = (id) => document.getElementById(id);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let timer = 0;

/** Show a notice at the bottom of the window for a few seconds. */
export function notify(text) {
  $("notice").textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => ($("notice").textContent = ""), 4000);
}

export const FPS = 24;

/** "00:12:08": minutes, seconds, frames. */
export function timecode(t) {
  const frame = Math.floor(t * FPS + 1e-3);
  return [frame / FPS / 60, (frame / FPS) % 60, frame % FPS].map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
}
