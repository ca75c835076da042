/**
 * DOM without HTML: texts of people are always text nodes. Used by all components of the UI kit.
 */

/** @import { Person } from "../types.js" */

import { inkOn } from "./words.js";

/**
 * Makes an element whose class and part are `part`.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [part] "": none.
 * @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function createElement(tag, part = "", properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties, part && { className: part, part });
  element.append(...children);
  return element;
}

/**
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * The shadow roots around an element, the innermost first, and at the end the document.
 * @param {Element} element
 * @returns {(Document | ShadowRoot)[]} Empty for an element that is not in a page.
 */
export function rootsAround(element) {
  const roots = [];
  for (let each = /** @type {Element | undefined} */ (element); each;) {
    const root = /** @type {Document | ShadowRoot} */ (each.getRootNode());
    if ("getElementById" in root) roots.push(root);
    each = /** @type {Partial<ShadowRoot>} */ (root).host;
  }
  return roots;
}

/**
 * The element with this id that is nearest: in the shadow root of `element`, in those around it, or in the document.
 * @param {Element} element
 * @param {string} id
 * @returns {HTMLElement | null}
 */
export function findById(element, id) {
  for (const root of rootsAround(element)) {
    const found = root.getElementById(id);
    if (found) return found;
  }
  return null;
}

/**
 * Gives `element` the person's colour, and a text colour with enough contrast.
 * @param {HTMLElement} element
 * @param {Pick<Person, "color">} person
 */
export function setPersonColor(element, { color }) {
  element.style.setProperty("--color", color);
  element.style.setProperty("--ink", inkOn(color));
}

/**
 * One element of a list, and how to show a value in it.
 * @template Value
 * @typedef {object} ListItem
 * @property {HTMLElement} element
 * @property {(value: Value, index: number) => void} update
 */

/**
 * The children of an element, one per user. The element of a user is kept as long as the user is in the list.
 * @template {{ userId: string }} Value
 */
export class UserList {
  #parent;
  #createItem;
  /** @type {Map<string, ListItem<Value>>} */
  #items = new Map();

  /**
   * @param {HTMLElement} parent
   * @param {(value: Value) => ListItem<Value>} createItem
   */
  constructor(parent, createItem) {
    this.#parent = parent;
    this.#createItem = createItem;
  }

  /** @param {readonly Value[]} values In the order in which they are shown. */
  show(values) {
    const before = this.#items;
    this.#items = new Map();
    for (const value of values) {
      this.#items.set(value.userId, before.get(value.userId) ?? this.#createItem(value));
      before.delete(value.userId);
    }
    // first, so that those who stay need not be moved: an element that is moved loses the focus
    for (const { element } of before.values()) element.remove();
    values.forEach((value, index) => {
      const item = /** @type {ListItem<Value>} */ (this.#items.get(value.userId));
      item.update(value, index);
      const place = this.#parent.children[index];
      if (place !== item.element) this.#parent.insertBefore(item.element, place ?? null);
    });
  }
}
