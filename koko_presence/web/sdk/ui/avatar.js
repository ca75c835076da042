/** An avatar: a photo or initials in the person's colour, with the status as a shape. Used by <koko-avatars>. */

/** @import { Person } from "../types.js" */
/** @import { Texts } from "./english.js" */

import { createElement, setPersonColor, setText } from "./dom.js";
import { initials } from "./words.js";

/**
 * The status as a word.
 * @param {Person} person
 * @param {Texts} texts
 */
export const statusOf = ({ status, connected }, texts) => texts[connected ? status : "reconnecting"];

export function createAvatar() {
  // a picture in place of the photo: as text of the button it would have to be part of the button's name
  const text = createElement("span", "", { hidden: true });
  const letters = createElement("b", "initials", {}, text);
  const photo = createElement("img", "photo", { src: "", alt: "", referrerPolicy: "no-referrer", hidden: true });
  const dot = createElement("i", "status");
  const element = createElement("span", "avatar", { ariaHidden: "true" }, letters, photo, dot);
  let shownImage = "";
  photo.onerror = () => (photo.hidden = true);

  return {
    element,
    /**
     * @param {Pick<Person, "color" | "image" | "status" | "connected">} person
     * @param {string} name As shown.
     */
    show(person, name) {
      setPersonColor(element, person);
      letters.dataset.initials = initials(name);
      setText(text, initials(name));
      dot.className = `status ${person.connected ? person.status : "away"}`;
      const image = person.image?.startsWith("https:") ? person.image : ""; // by https only
      if (shownImage === image) return;
      shownImage = image;
      photo.hidden = !image;
      photo.src = image;
    },
  };
}
