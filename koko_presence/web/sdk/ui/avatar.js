/** An avatar: a photo or initials in the person's colour, with the status as a shape. Used by <koko-avatars>. */

/** @import { Person } from "../types.js" */

import { createElement, setPersonColor, setText } from "./dom.js";
import { initials } from "./words.js";

/** The status as a word. */
export const statusOf = (/** @type {Person} */ { status, connected }) => (connected ? status : "reconnecting");

export function createAvatar() {
  const letters = createElement("b", "initials");
  const photo = createElement("img", "photo", { src: "", alt: "", referrerPolicy: "no-referrer", hidden: true });
  const dot = createElement("i", "status");
  const element = createElement("span", "avatar", { ariaHidden: "true" }, letters, photo, dot);
  let shownImage = "";
  photo.onerror = () => (photo.hidden = true);

  return {
    element,
    /** @param {Person} person */
    show(person) {
      setPersonColor(element, person);
      setText(letters, initials(person.name));
      dot.className = `status ${person.connected ? person.status : "away"}`;
      const image = person.image?.startsWith("https:") ? person.image : ""; // by https only
      if (shownImage === image) return;
      shownImage = image;
      photo.hidden = !image;
      photo.src = image;
    },
  };
}
