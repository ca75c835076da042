/** `<koko-typing context="comment">`: "Jane is typing..." */

import { h, KokoElement, setText } from "./element.js";
import { typingSentence } from "./words.js";

export class KokoTyping extends KokoElement {
  #said;
  #text = h("span", "text");
  #line = h("div", "typing", { ariaHidden: "true" }, this.#text, h("span", "dots"));

  constructor() {
    super();
    this.shadowRoot.append(this.#line);
  }

  draw() {
    const context = this.getAttribute("context");
    const types = ({ isTyping, typingContext }) => isTyping && (!context || typingContext === context);
    const typists = this.snapshot.others.filter(({ sessions }) => sessions.some(types));
    const sentence = typingSentence(typists.map(({ name }) => name)) ?? "";
    this.#line.hidden = !sentence;
    setText(this.#text, sentence);
    if (sentence !== this.#said) this.say(() => this.#said);
    this.#said = sentence;
  }
}
