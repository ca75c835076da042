/** Shared by the components: a room, one frame loop, one style sheet, live regions, and DOM without HTML. */

import { inkOn } from "./words.js";

const PACE_MS = 70; // between two reads of the room
const QUIET_MS = 5000; // shortest time between two texts of a live region

// --- one requestAnimationFrame for all ------------------------------------------------------------------------------

const awake = new Set();
let asked = 0;
let before = 0;

/** Call `element.frame(now, dt)` at the next frame, and again as long as it returns true. */
export function wake(element) {
  awake.add(element);
  asked ||= requestAnimationFrame(run);
}

function run(now) {
  asked = 0;
  const dt = Math.min(now - before, 50) / 1000;
  before = now;
  const elements = [...awake];
  awake.clear();
  for (const element of elements) if (element.isConnected && element.frame(now, dt)) wake(element);
}

// --- live regions ---------------------------------------------------------------------------------------------------

/** Put the text of `make()` into the live region, at most every 5 s; `make` is called then. Undefined: no text. */
export function createVoice(speak) {
  let timer;
  let make;
  let nextAt = 0;
  return (text) => {
    make = text;
    timer ??= setTimeout(() => {
      timer = undefined;
      nextAt = performance.now() + QUIET_MS;
      speak(make());
    }, nextAt - performance.now());
  };
}

// --- DOM without HTML: a person's name is always a text node --------------------------------------------------------

/** An element whose class and part are `part`. */
export function h(tag, part, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties, part && { className: part, part });
  element.append(...children);
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Give `element` the person's colour, and a text colour with enough contrast. */
export function tint(element, { color }) {
  element.style.setProperty("--color", color);
  element.style.setProperty("--ink", inkOn(color));
}

/** Make the children of `parent` those of `people`, keeping the elements of those that were there. */
export function keyed(parent, people, make, update) {
  const old = new Map([...parent.children].map((child) => [child.key, child]));
  people.forEach((person, i) => {
    const key = person.userId;
    const child = old.get(key) ?? Object.assign(make(person), { key });
    old.delete(key);
    update(child, person, i);
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i]);
  });
  for (const child of old.values()) child.remove();
}

// --- the base -------------------------------------------------------------------------------------------------------

let sheet;

/** One sheet for every shadow root; the components are hidden until it is loaded. */
export async function loadStyles(url) {
  sheet = new CSSStyleSheet();
  sheet.replaceSync(":host{visibility:hidden}");
  sheet.replaceSync(await (await fetch(url)).text());
}

const EMPTY = { others: [], requests: [] };

export class KokoElement extends (globalThis.HTMLElement ?? class {}) {
  #room;
  #undo = [];
  #nextAt = 0;

  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
    const voice = h("span", "voice", { role: "status" });
    this.say = createVoice((text) => setText(voice, text));
    this.shadowRoot.append(voice);
  }

  get room() {
    return this.#room;
  }

  set room(room) {
    if (room === this.#room) return;
    this.#room = room;
    if (!this.isConnected) return;
    this.connectedCallback();
    wake(this);
  }

  /** The element that the attribute `for` names. */
  get target() {
    return document.getElementById(this.getAttribute("for"));
  }

  /** The room to show; none after it was left, because its state is stale then. */
  get snapshot() {
    const { room } = this;
    return !room || room.status === "closed" ? EMPTY : room.getSnapshot();
  }

  /** All people, the local user first. */
  get people() {
    const { self, others } = this.snapshot;
    return self ? [self, ...others] : others;
  }

  personOf(id) {
    return this.people.find(({ userId }) => userId === id);
  }

  nameOf(person) {
    return person.name + (person === this.snapshot.self ? " (you)" : "");
  }

  connectedCallback() {
    this.disconnectedCallback();
    const { room } = this;
    delete this.room; // an own property if it was set before the element was defined
    this.#room = room;
    if (!room) return;
    this.keep(room.on("change", () => wake(this)));
    this.attached?.(room);
    wake(this);
  }

  disconnectedCallback() {
    for (const undo of this.#undo.splice(0)) undo();
  }

  frame(now) {
    if (now < this.#nextAt) return true;
    this.#nextAt = now + PACE_MS;
    return this.draw();
  }

  /** Functions to call when the room or the element is removed. */
  keep(undo) {
    this.#undo.push(undo);
  }

  /** Listen to events, several types with spaces between them. */
  listen(target, types, listener) {
    for (const type of types.split(" ")) {
      target?.addEventListener(type, listener);
      this.keep(() => target?.removeEventListener(type, listener));
    }
  }
}
