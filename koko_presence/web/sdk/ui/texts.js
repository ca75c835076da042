/**
 * The texts of the components, in the language of the page: the nearest `lang` attribute selects the table. English is in the kit;
 * other tables, and replacements of single texts, come by `setTexts`. All copies of the kit in a page share the tables.
 */

/** @import { Texts } from "./english.js" */

import { rootsAround } from "./dom.js";
import { ENGLISH } from "./english.js";

/**
 * @typedef {object} Shared
 * @property {Map<string, Partial<Texts>>} tables By language in lower case.
 * @property {Map<string, Texts>} complete The same, filled up with English.
 * @property {Set<() => void>} listeners Called when texts may have changed.
 */

const page = /** @type {{ [key: symbol]: Shared | undefined }} */ (/** @type {unknown} */ (globalThis));
/** @type {Shared} */
const shared = (page[Symbol.for("koko-presence.texts")] ??= { tables: new Map(), complete: new Map(), listeners: new Set() });

/**
 * Sets texts of a language; the others stay as they are, and are those of English where the language has none.
 * @param {string} lang As in the attribute `lang`, for example "en", "de" or "pt-BR".
 * @param {Partial<Texts>} texts
 */
export function setTexts(lang, texts) {
  const key = lang.toLowerCase();
  const before = shared.tables.get(key);
  shared.tables.set(key, { ...before, ...texts, errors: { ...before?.errors, ...texts.errors } });
  shared.complete.clear();
  for (const listener of shared.listeners) listener();
}

/**
 * Calls back when texts may have changed: by `setTexts`, or because a `lang` attribute has changed.
 * @param {() => void} listener
 * @returns {() => void} Its undo.
 */
export function onTexts(listener) {
  shared.listeners.add(listener);
  const observer = new MutationObserver(listener);
  observer.observe(document, { subtree: true, attributes: true, attributeFilter: ["lang"] });
  return () => {
    observer.disconnect();
    shared.listeners.delete(listener);
  };
}

/**
 * The texts in the language of an element.
 * @param {Element} element
 * @returns {Texts}
 */
export function textsFor(element) {
  const lang = languageOf(element).toLowerCase();
  let texts = shared.complete.get(lang);
  if (texts) return texts;
  const [language = ""] = lang.split("-");
  const tables = [ENGLISH, shared.tables.get("en"), shared.tables.get(language), shared.tables.get(lang)];
  texts = Object.assign({}, ...tables, { errors: Object.assign({}, ...tables.map((table) => table?.errors)) });
  shared.complete.set(lang, /** @type {Texts} */ (texts));
  return /** @type {Texts} */ (texts);
}

/** @param {Element} element */
function languageOf(element) {
  let inner = element;
  for (const root of rootsAround(element)) {
    const lang = inner.closest("[lang]")?.getAttribute("lang");
    if (lang) return lang;
    inner = /** @type {Partial<ShadowRoot>} */ (root).host ?? inner;
  }
  return "";
}
