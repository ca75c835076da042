/**
 * The UI kit: web components that show a room of presence.js. `import` it once, then `element.room = room`. docs/ui-kit.md
 * has the parts and properties.
 */

/// <reference path="./ui/tags.d.ts" preserve="true" />

import { KokoAvatars } from "./ui/avatars.js";
import { KokoCursors, pointOn } from "./ui/cursors.js";
import { KokoElement, loadStyles } from "./ui/element.js";
import { KokoFullscreen, toggleFullscreen } from "./ui/fullscreen.js";
import { KokoMarks } from "./ui/marks.js";
import { KokoTyping } from "./ui/typing.js";
import { KokoWatch } from "./ui/watch.js";

if (globalThis.customElements) { // not while a server renders
  loadStyles(new URL("./ui.css", import.meta.url));
  customElements.define("koko-avatars", KokoAvatars);
  customElements.define("koko-cursors", KokoCursors);
  customElements.define("koko-fullscreen", KokoFullscreen);
  customElements.define("koko-marks", KokoMarks);
  customElements.define("koko-typing", KokoTyping);
  customElements.define("koko-watch", KokoWatch);
}

export {
  KokoAvatars, KokoCursors, KokoElement, KokoFullscreen, KokoMarks, KokoTyping, KokoWatch, pointOn, toggleFullscreen,
};
