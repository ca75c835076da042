/**
 * The base class of the components: their room, their shadow root with the shared style sheet, their live region, and when
 * they draw.
 */

/** @import { Person, Room, RoomSnapshot, Undo } from "../types.js" */

import { Announcer } from "./announcer.js";
import { createElement, findById, rootsAround, setText } from "./dom.js";
import { ENGLISH } from "./english.js";
import { attempt, wake } from "./frames.js";
import { styleSheet } from "./styles.js";
import { onTexts, textsFor } from "./texts.js";
import { shownName } from "./words.js";
import { EMPTY_SNAPSHOT } from "../empty-snapshot.js";
import { MAIN_TARGET } from "../targets.js";

const DRAW_INTERVAL_MS = 70; // between two reads of the room
const PATIENCE_MS = 3000; // a target that is not in the page for longer is worth a warning

/**
 * What a component shows without a room.
 * @type {RoomSnapshot}
 */
const EMPTY = { ...EMPTY_SNAPSHOT, status: "closed" };

/** Where a server renders, there is no HTMLElement to extend, and no element is made. */
const PageElement = globalThis.HTMLElement ?? /** @type {typeof HTMLElement} */ (/** @type {unknown} */ (class {}));

/**
 * Properties of all components. `room` may be set before or after the element is in the page; null removes it. The element that
 * `for` names may come later and go away: the component waits for it.
 */
export class KokoElement extends PageElement {
  static observedAttributes = ["for", "target", "receive-only", "reactions", "max", "context", "room-id"];

  /** @type {Room | null | undefined} */
  #room;
  /** @type {Undo[]} */
  #undo = [];
  #nextDrawAt = 0;
  /** @type {HTMLElement | null} */
  #target = null;
  #hasWarned = false;
  #isStarted = false;
  #texts = ENGLISH;
  /** @type {Announcer} */
  #announcer;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styleSheet()];
    const region = createElement("span", "voice", { role: "status" });
    this.#announcer = new Announcer((text) => setText(region, text ?? ""));
    root.append(region);
  }

  get room() {
    return this.#room;
  }

  set room(room) {
    if (room === this.#room) return;
    this.#room = room;
    if (this.isConnected) this.#start();
  }

  // --- for the components ------------------------------------------------------------------------------------------

  /**
   * The element is in the page and has a room; what is done here is undone with `keep`.
   * @protected
   * @param {Room} room
   */
  attached(room) {}

  /**
   * The element is in the page, with or without a room; what is done here is undone with `keep`.
   * @protected
   */
  connected() {}

  /**
   * Shows the snapshot.
   * @protected
   * @returns {boolean | void} True: the next frame is wanted although no event will come.
   */
  draw() {}

  /**
   * The element that the attribute `for` names, in the shadow root of this element, in those around it, or in the document; null
   * while it is not there.
   * @protected
   */
  get target() {
    return this.#target;
  }

  /**
   * The room's target that the element shows: its attribute `target`.
   * @protected
   */
  get roomTarget() {
    return this.getAttribute("target") || MAIN_TARGET;
  }

  /**
   * The state of the room to show; empty after it was left, because its state is stale then.
   * @protected
   */
  get snapshot() {
    const room = this.#room;
    return !room || room.status === "closed" ? EMPTY : room.getSnapshot();
  }

  /**
   * All people, the local user first.
   * @protected
   * @returns {readonly Person[]}
   */
  get people() {
    const { self, others } = this.snapshot;
    return self ? [self, ...others] : others;
  }

  /**
   * @protected
   * @param {string | null} userId
   */
  personOf(userId) {
    return this.people.find((person) => person.userId === userId);
  }

  /**
   * @protected
   * @param {Person} person
   */
  nameOf(person) {
    const name = shownName(person.name, this.#texts);
    return person === this.snapshot.self ? this.#texts.you(name) : name;
  }

  /**
   * The texts in the language of the element.
   * @protected
   */
  get texts() {
    return this.#texts;
  }

  /**
   * Announces a text in the live region, at most every 5 s; `makeText` is called then.
   * @protected
   * @param {() => string | undefined} makeText
   */
  announce(makeText) {
    this.#announcer.announce(makeText);
  }

  /**
   * Keeps a function to call when the room or the element is removed.
   * @protected
   * @param {() => void} undo
   */
  keep(undo) {
    this.#undo.push(undo);
  }

  /**
   * Listens to events until the room or the element is removed.
   * @protected
   * @param {EventTarget | null} target
   * @param {string[]} types
   * @param {(event: any) => void} listener
   */
  listen(target, types, listener) {
    for (const type of types) {
      target?.addEventListener(type, listener);
      this.keep(() => target?.removeEventListener(type, listener));
    }
  }

  // --- for the browser and the frame loop --------------------------------------------------------------------------

  /** @protected */
  connectedCallback() {
    const { room } = this;
    delete (/** @type {{ room?: unknown }} */ (this).room); // an own property if it was set before the element was defined
    this.#room = room;
    this.#start();
  }

  /** @protected */
  disconnectedCallback() {
    this.#stop();
  }

  /** @protected */
  attributeChangedCallback() {
    if (this.#isStarted) this.#start();
  }

  /** Begins anew, with the present room, target and attributes. A fault is reported, and throws nothing at the caller. */
  #start() {
    this.#stop();
    this.#isStarted = true;
    attempt(this, () => {
      this.#findTarget();
      this.#texts = textsFor(this);
      this.keep(onTexts(() => wake(this)));
      this.connected();
      const room = this.#room;
      if (!room) return;
      if (typeof room.on !== "function") throw new TypeError(`<${this.localName}>.room: give it a room of presence.enter(), or null`);
      this.keep(room.on("change", () => wake(this)));
      this.attached(room);
    });
    wake(this);
  }

  #stop() {
    this.#isStarted = false;
    for (const undo of this.#undo.splice(0)) attempt(this, undo);
  }

  /** Finds the target, and begins anew as soon as there is another one, or none. */
  #findTarget() {
    const id = this.getAttribute("for");
    const find = () => (id ? findById(this, id) : null);
    this.#target = find();
    if (!id) return;
    const observer = new MutationObserver(() => {
      if (find() !== this.#target) this.#start();
    });
    for (const root of rootsAround(this)) {
      observer.observe(root, { subtree: true, childList: true, attributes: true, attributeFilter: ["id"] });
    }
    this.keep(() => observer.disconnect());
    if (this.#target || this.#hasWarned) return;
    const timer = setTimeout(() => {
      this.#hasWarned = true;
      console.warn(`<${this.localName} for="${id}"> waits: there is no element with this id in the document or in the shadow roots around it.`);
    }, PATIENCE_MS);
    this.keep(() => clearTimeout(timer));
  }

  /**
   * For the frame loop.
   * @param {number} now
   * @param {number} elapsedS Since the last frame.
   * @returns {boolean} Whether the next frame is wanted.
   */
  frame(now, elapsedS) {
    if (now < this.#nextDrawAt) return true;
    this.#nextDrawAt = now + DRAW_INTERVAL_MS;
    this.#texts = textsFor(this);
    return Boolean(this.draw());
  }
}
