/** German texts of the UI kit: `import "koko-presence/ui/de"`, and they are shown where the page's `lang` is German. */
import type { Texts } from "./english.js";
/** @type {Texts} */
export declare const GERMAN: Texts;
