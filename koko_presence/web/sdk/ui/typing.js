/** `<koko-typing context="comment">`: "Jane is typing..." */

/** @import { Member } from "../types.js" */

import { createElement, setText } from "./dom.js";
import { KokoElement } from "./element.js";
import { typingSentence } from "./words.js";

/** `<koko-typing context="comment">`; without `context` of every kind. */
export class KokoTyping extends KokoElement {
  /** The sentence of the last draw. */
  #sentence = "";
  #text = createElement("span", "text");
  #line = createElement("div", "typing", { ariaHidden: "true" }, this.#text, createElement("span", "dots"));

  constructor() {
    super();
    this.shadowRoot?.append(this.#line);
  }

  /** @protected */
  draw() {
    const context = this.getAttribute("context");
    const isMeant = (/** @type {Member} */ { isTyping, typingContext }) => isTyping && (!context || typingContext === context);
    const typists = this.snapshot.others.filter(({ sessions }) => sessions.some(isMeant));
    const sentence = typingSentence(typists.map((person) => this.nameOf(person)), this.texts);
    this.#line.hidden = !sentence;
    setText(this.#text, sentence);
    if (sentence === this.#sentence) return;
    this.#sentence = sentence;
    this.announce(() => this.#sentence);
  }
}
