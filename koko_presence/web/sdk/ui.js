/** The UI kit: web components that show a room of presence.js. `import` it once, then `element.room = room`. */

import { KokoAvatars } from "./ui/avatars.js";
import { KokoCursors, pointOn } from "./ui/cursors.js";
import { loadStyles } from "./ui/element.js";
import { KokoMarks } from "./ui/marks.js";
import { KokoTyping } from "./ui/typing.js";
import { KokoWatch } from "./ui/watch.js";

if (globalThis.customElements) { // not while a server renders
  loadStyles(new URL("./ui.css", import.meta.url));
  const elements = { avatars: KokoAvatars, cursors: KokoCursors, marks: KokoMarks, typing: KokoTyping, watch: KokoWatch };
  for (const name in elements) customElements.define(`koko-${name}`, elements[name]);
}

export { KokoAvatars, KokoCursors, KokoMarks, KokoTyping, KokoWatch, pointOn };
