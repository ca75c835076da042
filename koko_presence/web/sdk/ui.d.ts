/**
 * The UI kit: web components that show a room of presence.js. `import` it once, then `element.room = room`. docs/ui-kit.md
 * has the parts and properties.
 */
/// <reference path="ui/tags.d.ts" preserve="true" />
import { KokoAvatars } from "./ui/avatars.js";
import { KokoCursors, pointOn } from "./ui/cursors.js";
import { KokoElement } from "./ui/element.js";
import { KokoFullscreen, toggleFullscreen } from "./ui/fullscreen.js";
import { KokoMarks } from "./ui/marks.js";
import { KokoTyping } from "./ui/typing.js";
import { KokoWatch } from "./ui/watch.js";
export { KokoAvatars, KokoCursors, KokoElement, KokoFullscreen, KokoMarks, KokoTyping, KokoWatch, pointOn, toggleFullscreen, };
