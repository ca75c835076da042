/**
 * The base class of the components: their room, their shadow root with the shared style sheet, their live region, and when
 * they draw.
 */

/** @import { Person, Room, RoomSnapshot, Undo } from "../types.js" */

import { Announcer } from "./announcer.js";
import { createElement, setText } from "./dom.js";
import { wake } from "./frames.js";
import { MAIN_TARGET } from "../targets.js";

const DRAW_INTERVAL_MS = 70; // between two reads of the room

/** What a component shows without a room. */
const EMPTY = /** @type {RoomSnapshot} */ ({
  roomId: "", status: "closed", error: null, self: null, others: [], playback: null, syncEnabled: false, controller: null,
  controllerSessionId: null, requests: [], synced: null, following: true, shownMedia: {}, isBlocked: false, rights: null, returned: null,
});

/** @type {CSSStyleSheet} */
let styles;

/**
 * Loads the one style sheet of all shadow roots. The components are hidden until it is loaded.
 * @param {URL} url
 */
export async function loadStyles(url) {
  styles = new CSSStyleSheet();
  styles.replaceSync(":host{visibility:hidden}");
  styles.replaceSync(await (await fetch(url)).text());
}

/** Where a server renders, there is no HTMLElement to extend, and no element is made. */
const PageElement = globalThis.HTMLElement ?? /** @type {typeof HTMLElement} */ (/** @type {unknown} */ (class {}));

/** Properties of all components. `room` may be set before or after the element is in the page; null removes it. */
export class KokoElement extends PageElement {
  /** @type {Room | null | undefined} */
  #room;
  /** @type {Undo[]} */
  #undo = [];
  #nextDrawAt = 0;
  /** @type {Announcer} */
  #announcer;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styles];
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
    if (!this.isConnected) return;
    this.connectedCallback();
    wake(this);
  }

  // --- for the components ------------------------------------------------------------------------------------------

  /**
   * The element is in the page and has a room; what is done here is undone with `keep`.
   * @protected
   * @param {Room} room
   */
  attached(room) {}

  /**
   * Shows the snapshot.
   * @protected
   * @returns {boolean | void} True: the next frame is wanted although no event will come.
   */
  draw() {}

  /**
   * The element that the attribute `for` names.
   * @protected
   */
  get target() {
    return document.getElementById(this.getAttribute("for") ?? "");
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
    return person.name + (person === this.snapshot.self ? " (you)" : "");
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
    this.disconnectedCallback();
    const { room } = this;
    delete (/** @type {{ room?: unknown }} */ (this).room); // an own property if it was set before the element was defined
    this.#room = room;
    if (!room) return;
    this.keep(room.on("change", () => wake(this)));
    this.attached(room);
    wake(this);
  }

  /** @protected */
  disconnectedCallback() {
    for (const undo of this.#undo.splice(0)) undo();
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
    return Boolean(this.draw());
  }
}
