/**
 * `<koko-devtools>`: a panel for developers with the connection, the rooms, the messages, the drift of the own player, and the
 * latency from pointer to frame. `import` it once, then `element.presence = presence`. Nothing of it is in the other entries.
 */

/// <reference path="./ui/devtools-tag.d.ts" preserve="true" />

/**
 * @import { Presence, Room, Traffic, Undo } from "./types.js"
 * @import { Percentiles } from "./pointer-latency.js"
 */

import { lineOf } from "./debug.js";
import { PointerLatency } from "./pointer-latency.js";

const DRAW_MS = 250;
const KEPT_MESSAGES = 300;

const STYLES = `
  :host { display: block; font: 12px/1.5 ui-monospace, monospace; color: #e5e7eb; background: #111827; padding: 8px; border-radius: 8px;
    max-height: 24em; overflow: auto; color-scheme: dark; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 12px; margin: 0 0 8px; }
  dt { color: #9ca3af; } dd { margin: 0; overflow-wrap: anywhere; }
  form { display: flex; gap: 6px; margin: 0 0 6px; }
  input { flex: 1; min-width: 0; } input, button { font: inherit; }
  ol { list-style: none; margin: 0; padding: 0; }
  summary { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; cursor: pointer; }
  pre { margin: 0 0 6px 16px; white-space: pre-wrap; overflow-wrap: anywhere; color: #9ca3af; }
`;

const PageElement = globalThis.HTMLElement ?? /** @type {typeof HTMLElement} */ (/** @type {unknown} */ (class {}));

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {object} [properties]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** @param {Percentiles} percentiles */
const latencyText = ({ count, p50, p99 }) =>
  p50 === null || p99 === null ? "nothing yet" : `p50 ${Math.round(p50)} ms, p99 ${Math.round(p99)} ms (${count} cursors)`;

/**
 * The state of a room in one line, with the drift of this session's player.
 * @param {Room} room
 */
function roomText(room) {
  const { status, error, self, others, controller, rights } = room.getSnapshot();
  const own = self?.sessions.find(({ sessionId }) => sessionId === self.sessionId);
  const parts = [error ? `${status}: ${error.code}` : status, `${others.length} others`];
  if (controller) parts.push(`controller ${controller}`);
  if (rights) parts.push(`may ${Object.entries(rights).filter(([, isGiven]) => isGiven).map(([name]) => name).join(", ") || "nothing"}`);
  if (own?.viewerSync) parts.push(`${own.viewerSync.state}, drift ${Math.round(own.viewerSync.driftMs)} ms`);
  return parts.join("; ");
}

export class KokoDevtools extends PageElement {
  /** @type {Presence<any> | null | undefined} */
  #presence;
  /** @type {Undo[]} */
  #undo = [];
  /** @type {PointerLatency | undefined} */
  #latency;
  /** @type {Traffic[]} */
  #messages = [];
  #counts = { sent: 0, received: 0 };
  #isPaused = false;
  #state;
  #list;
  #filter;
  /**
   * The entries of the list.
   * @type {Map<Traffic, HTMLElement>}
   */
  #items = new Map();
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    this.#state = make("dl");
    this.#list = make("ol");
    this.#filter = make("input", { placeholder: "cursor, joined, ROOM_FULL...", ariaLabel: "Show messages with" });
    const pause = make("button", { type: "button", textContent: "Pause" });
    pause.onclick = () => {
      this.#isPaused = !this.#isPaused;
      pause.textContent = this.#isPaused ? "Continue" : "Pause";
    };
    const clear = make("button", { type: "button", textContent: "Clear" });
    clear.onclick = () => {
      this.#messages = [];
      this.#draw();
    };
    const form = make("form", { onsubmit: (/** @type {Event} */ event) => event.preventDefault() }, this.#filter, pause, clear);
    this.#filter.oninput = () => this.#draw();
    root.append(make("style", { textContent: STYLES }), this.#state, form, this.#list);
  }

  get presence() {
    return this.#presence;
  }

  /** May be set before or after the element is in the page; null removes it. */
  set presence(presence) {
    if (presence !== this.#presence) this.#clear();
    this.#presence = presence;
    if (this.isConnected) this.connectedCallback();
  }

  connectedCallback() {
    this.disconnectedCallback();
    this.role ??= "region";
    this.ariaLabel ??= "Presence: connection and messages";
    if (Object.hasOwn(this, "presence")) { // it was set before the element was defined
      const { presence } = this;
      delete (/** @type {{ presence?: unknown }} */ (this).presence);
      this.#presence = presence;
    }
    const presence = this.#presence;
    if (!presence) return;
    this.#latency = new PointerLatency(presence);
    this.#undo.push(presence.inspect((traffic) => this.#keep(traffic)), () => this.#latency?.stop());
    this.#timer = setInterval(() => this.#draw(), DRAW_MS);
    this.#draw();
  }

  /** Nothing of another presence is shown. */
  #clear() {
    this.#messages = [];
    this.#counts = { sent: 0, received: 0 };
    this.#latency = undefined;
    this.#state.replaceChildren();
    this.#drawMessages();
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
    for (const undo of this.#undo.splice(0)) undo();
  }

  /** @param {Traffic} traffic */
  #keep(traffic) {
    this.#counts[traffic.direction]++;
    if (this.#isPaused) return;
    this.#messages.push(traffic);
    if (this.#messages.length > KEPT_MESSAGES) this.#messages.shift();
  }

  #draw() {
    const presence = this.#presence;
    const latency = this.#latency;
    if (!presence || !latency) return;
    latency.followRooms();
    const { rtt, offset } = presence.clock;
    /** @type {[string, string][]} */
    const rows = [
      ["connection", `${presence.status}${presence.userId ? `, user ${presence.userId}` : ""}`],
      ["clock", rtt === Infinity ? "not measured" : `round trip ${Math.round(rtt)} ms, server ${Math.round(offset)} ms ahead`],
      ["messages", `${this.#counts.sent} sent, ${this.#counts.received} received`],
      ["pointer to frame", latencyText(latency.pointerToFrame.percentiles)],
      ["server to frame", latencyText(latency.serverToFrame.percentiles)],
      ...presence.rooms.map((room) => /** @type {[string, string]} */ ([room.id, roomText(room)])),
    ];
    this.#state.replaceChildren(...rows.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
    this.#drawMessages();
  }

  /** The newest first; those that are shown already keep their elements, so that opened ones stay open. */
  #drawMessages() {
    const wanted = this.#filter.value.trim().toLowerCase();
    const isShown = (/** @type {Traffic} */ { message }) => !wanted || JSON.stringify(message).toLowerCase().includes(wanted);
    const items = new Map(this.#messages.filter(isShown).map((traffic) => [traffic, this.#items.get(traffic) ?? itemOf(traffic)]));
    for (const [traffic, item] of this.#items) if (!items.has(traffic)) item.remove();
    let next = this.#list.firstElementChild;
    for (const item of [...items.values()].reverse()) {
      if (item === next) next = next.nextElementSibling;
      else this.#list.insertBefore(item, next);
    }
    this.#items = items;
  }
}

/**
 * @param {Traffic} traffic
 * @returns {HTMLElement}
 */
function itemOf(traffic) {
  const text = make("pre");
  const details = make("details", {}, make("summary", {}, `${(traffic.at / 1000).toFixed(2)} ${lineOf(traffic)}`), text);
  details.ontoggle = () => (text.textContent = JSON.stringify(traffic.message, null, 2)); // as text, never as HTML
  return make("li", {}, details);
}

if (globalThis.customElements && !customElements.get("koko-devtools")) customElements.define("koko-devtools", KokoDevtools);

export { PointerLatency };
