/**
 * A room of the type `project`: films with the people who are there. Each film is a target of cursors and selections, and has
 * a room of its own, which this page watches without entering it.
 */

import { KokoAvatars, KokoElement } from "../sdk/ui.js";
import { PROJECT } from "./films.js";
import { elementById, elementIn, setText } from "./page.js";
import { addressOf, enterRoom } from "./visitor.js";

const { presence, room } = enterRoom("project", "project_demo");
const template = elementById("film-template", HTMLTemplateElement);
const list = elementById("films");

for (const { roomId: id, title, src, at } of PROJECT) { // the target of a film is the id of its room
  const item = elementIn(document.importNode(template.content, true), "li"); // its components work from now on
  const video = /** @type {HTMLVideoElement} */ (elementIn(item, "video"));
  video.id = `film-${id}`;
  video.src = `${src}#t=${at}`;
  setText(elementIn(item, "h3"), title);
  const link = elementIn(item, "a");
  link.setAttribute("href", addressOf("/demo", { room: id, project: room.id }));
  link.addEventListener("focus", () => room.updateCursor({ x: 0.5, y: 0.5, target: id })); // the keyboard points, too
  link.addEventListener("blur", () => room.updateCursor(null));
  const cursors = elementIn(item, "koko-cursors");
  cursors.setAttribute("for", video.id);
  const inside = elementIn(item, "koko-avatars.inside");
  inside.setAttribute("room-id", id);
  if (inside instanceof KokoAvatars) inside.presence = presence;
  for (const element of [cursors, elementIn(item, ".here koko-avatars")]) {
    element.setAttribute("target", id);
    if (element instanceof KokoElement) element.room = room;
  }
  list.append(item);
}

room.on("change", ({ self, others }) => {
  const sessions = [self, ...others].flatMap((person) => person?.sessions ?? []);
  const targets = new Set(sessions.flatMap(({ cursor, selection }) => [cursor?.target, selection?.target]));
  PROJECT.forEach(({ roomId }, i) => list.children[i]?.classList.toggle("has-people", targets.has(roomId)));
});
