/** The selected range of the video: dragged under the timeline, or marked with the keys I and O. */

import { $, setText, timecode } from "./page.js";

const LEAST_S = 0.2;

export function startSelection(room) {
  const video = $("video");
  const lane = $("lane");
  let selection = null;
  let from = null; // where a drag began, s

  function select(start, end) {
    const [startTime, endTime] = [Math.min(start, end), Math.max(start, end)];
    selection = { startTime, endTime };
    room.updateSelection(selection);
    show();
  }

  function clear() {
    selection = null;
    room.updateSelection(null);
    show();
  }

  function show() {
    $("clear").hidden = !selection;
    const { startTime, endTime } = selection ?? {};
    setText($("stretch"), selection ? `${timecode(startTime)} to ${timecode(endTime)}` : "Drag under the timeline to select a stretch");
    const own = $("own-stretch");
    own.hidden = !selection;
    own.style.left = `${(startTime / video.duration) * 100}%`;
    own.style.width = `${((endTime - startTime) / video.duration) * 100}%`;
  }

  const own = document.createElement("div");
  own.id = "own-stretch";
  own.hidden = true;
  lane.prepend(own);

  const moment = ({ clientX }) => {
    const { left, width } = lane.getBoundingClientRect();
    return Math.min(Math.max((clientX - left) / width, 0), 1) * video.duration;
  };
  lane.addEventListener("pointerdown", (event) => {
    from = moment(event);
    lane.setPointerCapture(event.pointerId);
  });
  lane.addEventListener("pointermove", (event) => {
    const at = moment(event);
    if (from === null) room.updateCursor({ timestamp: at }); // the others show a mark and no cursor
    else if (Math.abs(at - from) >= LEAST_S) select(from, at);
  });
  for (const type of ["pointerup", "pointercancel"]) lane.addEventListener(type, () => (from = null));
  lane.addEventListener("pointerleave", () => room.updateCursor(null));

  const markIn = () => select(video.currentTime, Math.max(selection?.endTime ?? 0, video.currentTime + LEAST_S));
  const markOut = () => select(Math.min(selection?.startTime ?? Infinity, video.currentTime - LEAST_S), video.currentTime);
  $("mark-in").addEventListener("click", markIn);
  $("mark-out").addEventListener("click", markOut);
  $("clear").addEventListener("click", clear);
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    ({ i: markIn, o: markOut })[event.key]?.();
  });
  return { get current() { return selection; }, clear };
}
