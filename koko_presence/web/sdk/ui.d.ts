/**
 * The UI kit: web components that show a room of presence.js. `import` it once, then `element.room = room`. docs/ui-kit.md
 * has the parts and properties. A page may load it twice, for example from two bundles: the elements and the exported classes
 * are those of the copy that came first.
 */
/// <reference path="ui/tags.d.ts" preserve="true" />
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
export type Texts = import("./ui/english.js").Texts;
export type KokoAvatars = Avatars;
/** @typedef {import("./ui/english.js").Texts} Texts */
/** @typedef {Avatars} KokoAvatars */
export declare const KokoAvatars: typeof Avatars;
export type KokoCursors = Cursors;
/** @typedef {Cursors} KokoCursors */
export declare const KokoCursors: typeof Cursors;
export type KokoFullscreen = Fullscreen;
/** @typedef {Fullscreen} KokoFullscreen */
export declare const KokoFullscreen: typeof Fullscreen;
export type KokoMarks = Marks;
/** @typedef {Marks} KokoMarks */
export declare const KokoMarks: typeof Marks;
export type KokoTyping = Typing;
/** @typedef {Typing} KokoTyping */
export declare const KokoTyping: typeof Typing;
export type KokoWatch = Watch;
/** @typedef {Watch} KokoWatch */
export declare const KokoWatch: typeof Watch;
