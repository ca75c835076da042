/** A room of the type `comment_thread`: the replies to one comment, and who is typing one. The server does not store them. */

/** @import { Person } from "../sdk/presence.js" */

import { elementById, elementIn, initials, setText } from "./page.js";
import { addressOf, enterRoom, show } from "./visitor.js";

const MAX_CHARACTERS = 500;
const CONTEXT = "reply";

const { room } = enterRoom("comment_thread", "comment_thread_demo");
show(room, ["typing"]);
elementById("moment").setAttribute("href", addressOf("/demo"));

const template = elementById("comment-template", HTMLTemplateElement);
const input = elementById("words", HTMLInputElement);

/**
 * @param {Person} person
 * @param {string} text
 */
function add(person, text) {
  const item = elementIn(/** @type {ParentNode} */ (template.content.cloneNode(true)), "*");
  item.style.setProperty("--color", person.color);
  setText(elementIn(item, ".face"), initials(person.name));
  setText(elementIn(item, "bdi"), person.name);
  setText(elementIn(item, ".text"), text);
  elementById("feed").append(item);
  item.scrollIntoView({ block: "nearest" });
}

room.on("broadcast", ({ userId, data: { type, text } }) => {
  const person = [room.self, ...room.others].find((each) => each?.userId === userId);
  if (type === "reply" && typeof text === "string" && text.length <= MAX_CHARACTERS && person) add(person, text);
});
input.addEventListener("input", () => room.typing(input.value !== "", CONTEXT));
input.addEventListener("blur", () => room.typing(false, CONTEXT));
elementById("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text || !room.self) return;
  input.value = "";
  room.typing(false, CONTEXT);
  const answer = await room.broadcast({ type: "reply", text });
  if (answer.success) add(room.self, text);
  else input.value ||= text;
});
