/** The selected range of the video: dragged under the timeline, or marked with the keys I and O. */

/** @import { Room, Selection } from "../sdk/presence.js" */

import { elementById, setText, timecode } from "./page.js";

const SHORTEST_S = 0.2;

/** @param {Room} room */
export function startSelection(room) {
  const video = elementById("video", HTMLVideoElement);
  const lane = elementById("lane");
  /** @type {Selection | null} */
  let selection = null;
  /**
   * Where a drag began, s.
   * @type {number | null}
   */
  let dragStart = null;

  const band = document.createElement("div");
  band.id = "own-stretch";
  band.hidden = true;
  lane.prepend(band);

  /**
   * @param {number} start
   * @param {number} end
   */
  function select(start, end) {
    selection = { startTime: Math.min(start, end), endTime: Math.max(start, end) };
    room.updateSelection(selection);
    show();
  }

  function clear() {
    selection = null;
    room.updateSelection(null);
    show();
  }

  function show() {
    elementById("clear").hidden = !selection;
    band.hidden = !selection;
    const { startTime = 0, endTime = 0 } = selection ?? {};
    setText(elementById("stretch"), selection ? `${timecode(startTime)} to ${timecode(endTime)}` : "Drag under the timeline to select a stretch");
    band.style.left = `${(startTime / video.duration) * 100}%`;
    band.style.width = `${((endTime - startTime) / video.duration) * 100}%`;
  }

  const secondAt = (/** @type {PointerEvent} */ { clientX }) => {
    const { left, width } = lane.getBoundingClientRect();
    return Math.min(Math.max((clientX - left) / width, 0), 1) * video.duration;
  };
  lane.addEventListener("pointerdown", (event) => {
    dragStart = secondAt(event);
    lane.setPointerCapture(event.pointerId);
  });
  lane.addEventListener("pointermove", (event) => {
    const second = secondAt(event);
    if (dragStart === null) room.updateCursor({ timestamp: second }); // the others show a mark and no cursor
    else if (Math.abs(second - dragStart) >= SHORTEST_S) select(dragStart, second);
  });
  for (const type of ["pointerup", "pointercancel"]) lane.addEventListener(type, () => (dragStart = null));
  lane.addEventListener("pointerleave", () => room.updateCursor(null));

  const markIn = () => select(video.currentTime, Math.max(selection?.endTime ?? 0, video.currentTime + SHORTEST_S));
  const markOut = () => select(Math.min(selection?.startTime ?? Infinity, video.currentTime - SHORTEST_S), video.currentTime);
  elementById("mark-in").addEventListener("click", markIn);
  elementById("mark-out").addEventListener("click", markOut);
  elementById("clear").addEventListener("click", clear);
  document.addEventListener("keydown", (event) => {
    const isForInput = event.target instanceof Element && event.target.closest("input, select, textarea");
    if (isForInput || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "i") markIn();
    else if (event.key === "o") markOut();
  });

  return {
    get current() {
      return selection;
    },
    clear,
  };
}
