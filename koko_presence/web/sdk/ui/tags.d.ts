/** The components' tags and events for `document.querySelector("koko-watch")` and `addEventListener("koko-person", ...)`. */

import type { Person } from "../types.js";
import type { KokoAvatars } from "./avatars.js";
import type { KokoCursors } from "./cursors.js";
import type { KokoFullscreen } from "./fullscreen.js";
import type { KokoMarks } from "./marks.js";
import type { KokoTyping } from "./typing.js";
import type { KokoWatch } from "./watch.js";

declare global {
  interface HTMLElementTagNameMap {
    "koko-avatars": KokoAvatars;
    "koko-cursors": KokoCursors;
    "koko-fullscreen": KokoFullscreen;
    "koko-marks": KokoMarks;
    "koko-typing": KokoTyping;
    "koko-watch": KokoWatch;
  }
  interface HTMLElementEventMap {
    "koko-person": CustomEvent<Person>;
  }
}
