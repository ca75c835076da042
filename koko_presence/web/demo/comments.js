/** Comments: sent as broadcasts and kept by the pages that are open. The server does not store them. */

import { $, setText, timecode } from "./page.js";

const MOST = 500; // characters of a comment; also the number of comments in a page

/** Initials: JS for "Jane Smith". */
const initials = (name) => [...new Set([name.trim().split(/\s+/)[0], name.trim().split(/\s+/).at(-1)])].map(([letter]) => letter).join("").toUpperCase();

/** The comment in a broadcast of another page; undefined if it is none. */
function read({ text, time, end }) {
  if (typeof text !== "string" || !text.trim() || text.length > MOST || !Number.isFinite(time)) return null;
  return { text, time: Math.max(0, time), end: Number.isFinite(end) && end > time ? end : undefined };
}

export function startComments(room, { go, selection }) {
  const video = $("video");
  let count = 0;

  function add(person, comment) {
    if (!comment || count >= MOST) return;
    const item = $("comment-template").content.firstElementChild.cloneNode(true);
    const moment = item.querySelector(".moment");
    item.style.setProperty("--color", person.color);
    setText(item.querySelector(".face"), initials(person.name));
    setText(item.querySelector("bdi"), person.name);
    setText(moment, timecode(comment.time) + (comment.end ? ` to ${timecode(comment.end)}` : ""));
    moment.addEventListener("click", () => go(comment.time));
    setText(item.querySelector(".text"), comment.text);
    $("feed").append(item);
    item.scrollIntoView({ block: "nearest" });
    setText($("comment-count"), String(++count));

    const dot = document.createElement("i");
    dot.style.setProperty("--color", person.color);
    dot.style.left = `${Math.min(1, comment.time / (video.duration || 1)) * 100}%`;
    $("dots").append(dot);
  }

  room.on("broadcast", ({ userId, data }) => {
    const person = [room.self, ...room.others].find((each) => each?.userId === userId);
    if (data.type === "comment" && person) add(person, read(data));
  });

  const words = $("words");
  words.addEventListener("input", () => room.typing(words.value !== "", "comment"));
  words.addEventListener("blur", () => room.typing(false, "comment"));
  $("say").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = words.value.trim();
    if (!text || !room.self) return;
    const { startTime = video.currentTime, endTime } = selection.current ?? {};
    const comment = { text, time: startTime, end: endTime };
    words.value = "";
    room.typing(false, "comment");
    const answer = await room.broadcast({ type: "comment", ...comment });
    if (answer.success) {
      add(room.self, comment);
      selection.clear();
    } else if (!words.value) {
      words.value = text;
    }
  });
}
