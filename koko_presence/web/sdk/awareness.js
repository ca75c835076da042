/**
 * The presence object of a room with the interface of y-protocols' Awareness, for editor bindings such as
 * y-codemirror.next, y-prosemirror and y-quill. The document itself is synchronised by a provider of yours.
 */

/**
 * @import { Room } from "./types.js"
 *
 * @typedef {{ [field: string]: any }} State
 *
 * What has changed, as ids of clients.
 * @typedef {{ added: number[], updated: number[], removed: number[] }} Changes
 *
 * What a session shows of its editor, under one key of its presence object.
 * @typedef {{ clientID: number, state: State }} Shown
 *
 * @typedef {(...args: any[]) => void} Listener
 */

/** What may change the states of others. */
const CHANGES = /** @type {const} */ (["joined", "user_joined", "user_left", "presence_changed", "status"]);

/**
 * Whether two states are the same for those who get them as JSON.
 * @param {unknown} a
 * @param {unknown} b
 */
const isSame = (a, b) => a === b || JSON.stringify(a) === JSON.stringify(b);

export class Awareness {
  /** The document, of which only the id of the client is used. */
  doc;
  /** @type {number} */
  clientID;
  /**
   * The own state, and that of each other session in the room.
   * @type {Map<number, State>}
   */
  states = new Map();
  /**
   * How often each has changed, and when it did last, in ms since 1970.
   * @type {Map<number, { clock: number, lastUpdated: number }>}
   */
  meta = new Map();

  #room;
  #key;
  #undos;
  /** @type {Map<string, Set<Listener>>} */
  #listeners = new Map();

  /**
   * @param {Room<any>} room
   * @param {{ clientID: number }} doc A Y.Doc.
   * @param {{ key?: string }} [options] The key of the presence object that it uses, where a room has several documents.
   */
  constructor(room, doc, { key = "awareness" } = {}) {
    this.doc = doc;
    this.clientID = doc.clientID;
    this.#room = room;
    this.#key = key;
    this.setLocalState({});
    this.#undos = CHANGES.map((type) => room.on(type, () => this.#read()));
    this.#read();
  }

  getStates() {
    return this.states;
  }

  /** @returns {State | null} Null while the session shows no state. */
  getLocalState() {
    return this.states.get(this.clientID) ?? null;
  }

  /** @param {State | null} state Null: others do not see this session's state any more. */
  setLocalState(state) {
    const { clientID } = this;
    const before = this.states.get(clientID);
    this.#keep(clientID, state);
    this.#room.setPresence({ [this.#key]: state && { clientID, state } });
    const only = (/** @type {unknown} */ is) => (is ? [clientID] : []);
    this.#tell(only(state && !before), only(state && before), only(!state), only(state && before && !isSame(before, state)), "local");
  }

  /**
   * @param {string} field
   * @param {unknown} value
   */
  setLocalStateField(field, value) {
    const state = this.getLocalState();
    if (state) this.setLocalState({ ...state, [field]: value });
  }

  /**
   * `change` when a state has changed, `update` also when it was set to the same: with the changes, and "local" or the room.
   * @param {string} name
   * @param {Listener} listener
   */
  on(name, listener) {
    this.#listeners.set(name, new Set(this.#listeners.get(name)).add(listener));
    return listener;
  }

  /**
   * @param {string} name
   * @param {Listener} listener
   */
  once(name, listener) {
    const first = this.on(name, (...args) => {
      this.off(name, first);
      listener(...args);
    });
  }

  /**
   * @param {string} name
   * @param {Listener} listener
   */
  off(name, listener) {
    const left = new Set(this.#listeners.get(name));
    left.delete(listener);
    this.#listeners.set(name, left);
  }

  /**
   * @param {string} name
   * @param {unknown[]} args
   */
  emit(name, args) {
    for (const listener of this.#listeners.get(name) ?? []) listener(...args);
  }

  destroy() {
    this.emit("destroy", [this]);
    this.setLocalState(null);
    for (const undo of this.#undos) undo();
    this.#listeners.clear();
  }

  /** Takes the states of the other sessions from the room, and tells what has changed. */
  #read() {
    const found = new Map(this.#shown().map(({ clientID, state }) => [clientID, state]));
    /** @type {number[]} */
    const added = [];
    /** @type {number[]} */
    const updated = [];
    const removed = [...this.states.keys()].filter((id) => id !== this.clientID && !found.has(id));
    for (const [id, state] of found) {
      const before = this.states.get(id);
      if (before && isSame(before, state)) continue;
      (before ? updated : added).push(id);
      this.#keep(id, state);
    }
    for (const id of removed) this.#keep(id, null);
    if (added.length + updated.length + removed.length) this.#tell(added, updated, removed, updated, this.#room);
  }

  /** @returns {Shown[]} */
  #shown() {
    const { self, others, status } = this.#room.getSnapshot();
    if (status === "closed") return [];
    return [...others, ...(self ? [self] : [])]
      .flatMap(({ sessions }) => sessions)
      .map(({ presence }) => /** @type {any} */ (presence)?.[this.#key])
      .filter((shown) => shown?.state && Number.isInteger(shown.clientID) && shown.clientID !== this.clientID);
  }

  /**
   * @param {number} id
   * @param {State | null} state
   */
  #keep(id, state) {
    if (state) this.states.set(id, state);
    else this.states.delete(id);
    this.meta.set(id, { clock: (this.meta.get(id)?.clock ?? -1) + 1, lastUpdated: Date.now() });
  }

  /**
   * @param {number[]} added
   * @param {number[]} updated
   * @param {number[]} removed
   * @param {number[]} changed Those of `updated` that are not the same as before.
   * @param {unknown} origin
   */
  #tell(added, updated, removed, changed, origin) {
    if (added.length + changed.length + removed.length) this.emit("change", [{ added, updated: changed, removed }, origin]);
    this.emit("update", [{ added, updated, removed }, origin]);
  }
}
