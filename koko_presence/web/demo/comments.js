/** Comments: sent as broadcasts and kept by the pages that are open. The server does not store them. */

/**
 * @import { Person, Room, Selection } from "../sdk/presence.js"
 */

import { elementById, elementIn, initials, setText, timecode } from "./page.js";

const MAX_CHARACTERS = 500;
const MAX_COMMENTS = 500;

/**
 * @typedef {object} Comment
 * @property {string} text
 * @property {number} time Second of the video at which it begins.
 * @property {number | undefined} [end]
 */

/**
 * The comment in a broadcast of another page.
 * @param {{ readonly [field: string]: unknown }} data
 * @returns {Comment | null} Null if it is none.
 */
function readComment({ text, time, end }) {
  if (typeof text !== "string" || !text.trim() || text.length > MAX_CHARACTERS) return null;
  if (typeof time !== "number" || !Number.isFinite(time)) return null;
  const hasEnd = typeof end === "number" && Number.isFinite(end) && end > time;
  return { text, time: Math.max(0, time), end: hasEnd ? end : undefined };
}

/**
 * @param {Room} room
 * @param {object} page
 * @param {(seconds: number) => void} page.go Moves the video.
 * @param {{ readonly current: Selection | null, clear: () => void }} page.selection
 */
export function startComments(room, { go, selection }) {
  const video = elementById("video", HTMLVideoElement);
  const template = elementById("comment-template", HTMLTemplateElement);
  const input = elementById("words", HTMLInputElement);
  let count = 0;

  /**
   * @param {Person} person
   * @param {Comment} comment
   */
  function add(person, { text, time, end }) {
    if (count >= MAX_COMMENTS) return;
    const item = elementIn(/** @type {ParentNode} */ (template.content.cloneNode(true)), "*");
    const moment = elementIn(item, ".moment");
    item.style.setProperty("--color", person.color);
    setText(elementIn(item, ".face"), initials(person.name));
    setText(elementIn(item, "bdi"), person.name);
    setText(moment, timecode(time) + (end ? ` to ${timecode(end)}` : ""));
    moment.addEventListener("click", () => go(time));
    setText(elementIn(item, ".text"), text);
    elementById("feed").append(item);
    item.scrollIntoView({ block: "nearest" });
    setText(elementById("comment-count"), String(++count));

    const dot = document.createElement("i");
    dot.style.setProperty("--color", person.color);
    dot.style.left = `${Math.min(1, time / (video.duration || 1)) * 100}%`;
    elementById("dots").append(dot);
  }

  room.on("broadcast", ({ userId, data }) => {
    const person = [room.self, ...room.others].find((each) => each?.userId === userId);
    const comment = data.type === "comment" ? readComment(data) : null;
    if (person && comment) add(person, comment);
  });

  input.addEventListener("input", () => room.typing(input.value !== "", "comment"));
  input.addEventListener("blur", () => room.typing(false, "comment"));
  elementById("say").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || !room.self) return;
    const { startTime = video.currentTime, endTime = undefined } = selection.current ?? {};
    const comment = { text, time: startTime, end: endTime };
    input.value = "";
    room.typing(false, "comment");
    const answer = await room.broadcast({ type: "comment", ...comment });
    if (answer.success) {
      add(room.self, comment);
      selection.clear();
    } else if (!input.value) {
      input.value = text;
    }
  });
}
