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
    values.forEach((value, index) => {
      const item = before.get(value.userId) ?? this.#createItem(value);
      before.delete(value.userId);
      this.#items.set(value.userId, item);
      item.update(value, index);
      const place = this.#parent.children[index];
      if (place !== item.element) this.#parent.insertBefore(item.element, place ?? null);
    });
    for (const { element } of before.values()) element.remove();
  }
}
