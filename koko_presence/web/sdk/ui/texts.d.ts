/**
 * The texts of the components, in the language of the page: the nearest `lang` attribute selects the table. English is in the kit;
 * other tables, and replacements of single texts, come by `setTexts`. All copies of the kit in a page share the tables.
 */
import type { Texts } from "./english.js";
export type Shared = {
    /**
     * By language in lower case.
     */
    tables: Map<string, Partial<Texts>>;
    /**
     * The same, filled up with English.
     */
    complete: Map<string, Texts>;
    /**
     * Called when texts may have changed.
     */
    listeners: Set<() => void>;
};
/**
 * Sets texts of a language; the others stay as they are, and are those of English where the language has none.
 * @param {string} lang As in the attribute `lang`, for example "en", "de" or "pt-BR".
 * @param {Partial<Texts>} texts
 */
export declare function setTexts(lang: string, texts: Partial<Texts>): void;
/**
 * Calls back when texts may have changed: by `setTexts`, or because a `lang` attribute has changed.
 * @param {() => void} listener
 * @returns {() => void} Its undo.
 */
export declare function onTexts(listener: () => void): () => void;
/**
 * The texts in the language of an element.
 * @param {Element} element
 * @returns {Texts}
 */
export declare function textsFor(element: Element): Texts;
