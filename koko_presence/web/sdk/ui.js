/**
 * The UI kit: web components that show a room of presence.js. `import` it once, then `element.room = room`. docs/ui-kit.md
 * has the parts and properties. A page may load it twice, for example from two bundles: the elements and the exported classes
 * are those of the copy that came first.
 */

/// <reference path="./ui/tags.d.ts" preserve="true" />

import { KokoAvatars as Avatars } from "./ui/avatars.js";
import { KokoCursors as Cursors } from "./ui/cursors.js";
import { KokoFullscreen as Fullscreen } from "./ui/fullscreen.js";
import { KokoMarks as Marks } from "./ui/marks.js";
import { KokoTyping as Typing } from "./ui/typing.js";
import { KokoWatch as Watch } from "./ui/watch.js";

export { pointOn } from "./picture-place.js";
export { KokoElement } from "./ui/element.js";
export { ENGLISH } from "./ui/english.js";
export { toggleFullscreen } from "./ui/fullscreen.js";
export { setTexts } from "./ui/texts.js";

/**
 * Defines an element, unless there is one of that name.
 * @template {CustomElementConstructor} Element
 * @param {string} tag
 * @param {Element} element
 * @returns {Element} The class that is defined.
 */
function define(tag, element) {
  const registry = globalThis.customElements;
  if (!registry) return element; // while a server renders
  if (!registry.get(tag)) registry.define(tag, element);
  return /** @type {Element} */ (registry.get(tag));
}

/** @typedef {import("./ui/english.js").Texts} Texts */

/** @typedef {Avatars} KokoAvatars */
export const KokoAvatars = define("koko-avatars", Avatars);
/** @typedef {Cursors} KokoCursors */
export const KokoCursors = define("koko-cursors", Cursors);
/** @typedef {Fullscreen} KokoFullscreen */
export const KokoFullscreen = define("koko-fullscreen", Fullscreen);
/** @typedef {Marks} KokoMarks */
export const KokoMarks = define("koko-marks", Marks);
/** @typedef {Typing} KokoTyping */
export const KokoTyping = define("koko-typing", Typing);
/** @typedef {Watch} KokoWatch */
export const KokoWatch = define("koko-watch", Watch);
