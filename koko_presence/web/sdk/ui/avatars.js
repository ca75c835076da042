/** `<koko-avatars max="3">`: what the room shows, and the people in it, one entry each; "+2 more" opens the list of all. */

/** @import { Person, Presence, RoomSummary, RoomWatch } from "../types.js" */

import { createAvatar, statusOf } from "./avatar.js";
import { createElement, setText, UserList } from "./dom.js";
import { KokoElement } from "./element.js";
import { wake } from "./frames.js";
import { arrivals, shownName, titleOf } from "./words.js";

const PANEL_ID = "all";
const PANEL_PX = 296; // with its margin

/**
 * `<koko-avatars max="3" target="film-7">`: with `target` only the people whose cursor or selection is in that target, without
 * the title. Fires `koko-person` when a person is chosen in the list. Without a `room`, but with a `presence` and the attribute
 * `room-id`: who is in that room, which is not entered.
 */
export class KokoAvatars extends KokoElement {
  /**
   * Names by user id, as they were announced.
   * @type {Map<string, string> | undefined}
   */
  #announced;
  #titleText = createElement("bdi");
  #viewing = createElement("small");
  #title = createElement("p", "title", {}, this.#viewing, " ", this.#titleText);
  #row = createElement("ul", "row");
  #faces = new UserList(this.#row, () => this.#createFace());
  #more = createOpener("more");
  #entries = createElement("ul");
  #everybody = new UserList(this.#entries, (/** @type {Person} */ { userId }) => this.#createEntry(userId));
  #panel = createElement(
    "div", "panel", { id: PANEL_ID, popover: "auto", role: "dialog" }, this.#entries,
  );

  /** @type {Presence<any> | null | undefined} */
  #presence;
  /**
   * Of the room that is not entered.
   * @type {RoomWatch | null}
   */
  #watch = null;
  #outside = createElement("ul", "row", { hidden: true });
  #seen = new UserList(this.#outside, () => this.#createImage());
  #rest = createElement("span", "rest", { hidden: true });

  constructor() {
    super();
    /** @type {Element | null} */
    let opener = null;
    this.#panel.addEventListener("beforetoggle", (event) => { // under the avatars, inside the window
      if (/** @type {ToggleEvent} */ (event).newState === "open") opener = this.shadowRoot?.activeElement ?? null;
      else if (this.#panel.matches(":focus-within")) /** @type {HTMLElement | null} */ (opener)?.focus();
      const { left, bottom } = this.getBoundingClientRect();
      this.#panel.style.left = `${Math.max(8, Math.min(left, innerWidth - PANEL_PX))}px`;
      this.#panel.style.top = `${bottom + 8}px`;
    });
    this.shadowRoot?.append(this.#title, this.#row, this.#more, this.#panel, this.#outside, this.#rest);
  }

  get presence() {
    return this.#presence;
  }

  set presence(presence) {
    this.#presence = presence;
    this.attributeChangedCallback();
  }

  /** @protected */
  connected() {
    if (Object.hasOwn(this, "presence")) { // set before the element was defined
      const { presence } = this;
      delete (/** @type {{ presence?: unknown }} */ (this).presence);
      this.#presence = presence;
    }
    const roomId = this.getAttribute("room-id");
    const watch = roomId && !this.room && this.#presence ? this.#presence.watchRooms([roomId]) : null;
    this.#watch = watch;
    if (!watch) return;
    this.keep(watch.subscribe(() => wake(this)));
    this.keep(watch.stop);
  }

  /** @protected */
  attached() {
    this.#announced = undefined;
  }

  /** @protected */
  draw() {
    const watch = this.#watch;
    this.#row.hidden = watch !== null;
    this.#outside.hidden = watch === null;
    if (watch) return this.#drawSummary(Object.values(watch.getSnapshot())[0]);
    this.#rest.hidden = true;
    const target = this.getAttribute("target");
    const people = target === null ? this.people : this.people.filter((person) => isAt(person, target));
    const { texts } = this;
    const max = Number(this.getAttribute("max")) || 3;
    const title = target === null ? titleOf(this.snapshot, texts) : "";
    this.#title.hidden = !title;
    setText(this.#viewing, texts.viewing);
    setText(this.#titleText, title);
    this.#faces.show(people.slice(0, max));
    this.#row.ariaLabel = texts.here(people.length);
    this.#panel.ariaLabel = texts.everybodyHere;
    this.#more.hidden = people.length <= max;
    setText(this.#more, texts.more(people.length - max));
    this.#everybody.show(people);
    if (this.snapshot.status === "live" && target === null) this.#announceArrivals();
  }

  /** @param {RoomSummary | undefined} summary Undefined: not known yet. */
  #drawSummary({ userCount, users } = { roomId: "", userCount: 0, users: [] }) {
    const shown = users.slice(0, Number(this.getAttribute("max")) || 3);
    this.#title.hidden = this.#more.hidden = true;
    this.#seen.show(shown);
    this.#outside.ariaLabel = this.texts.here(userCount);
    this.#rest.hidden = userCount === shown.length;
    setText(this.#rest, this.texts.more(userCount - shown.length));
  }

  #announceArrivals() {
    const names = () => new Map(this.people.map(({ userId, name }) => [userId, shownName(name, this.texts)]));
    const before = (this.#announced ??= names());
    if (!arrivals(before, names(), this.texts)) return;
    this.announce(() => {
      const announced = this.#announced ?? names();
      this.#announced = names();
      return arrivals(announced, this.#announced, this.texts);
    });
  }

  /** An avatar of the row; it opens the list. */
  #createFace() {
    const avatar = createAvatar();
    const button = createOpener("face", avatar.element);
    return {
      element: createElement("li", "", {}, button),
      update: (/** @type {Person} */ person) => {
        avatar.show(person, shownName(person.name, this.texts));
        button.title = button.ariaLabel = `${this.nameOf(person)}, ${statusOf(person, this.texts)}`;
      },
    };
  }

  /** An avatar of a person in a room that is not entered: no status is known there. */
  #createImage() {
    const avatar = createAvatar();
    avatar.element.classList.add("image");
    avatar.element.role = "img";
    avatar.element.ariaHidden = null;
    return {
      element: createElement("li", "", {}, avatar.element),
      update: (/** @type {RoomSummary["users"][number]} */ user) => {
        const name = shownName(user.name, this.texts);
        avatar.show({ ...user, status: "active", connected: true }, name);
        avatar.element.title = avatar.element.ariaLabel = name;
      },
    };
  }

  /**
   * An entry of the list.
   * @param {string} userId
   */
  #createEntry(userId) {
    const avatar = createAvatar();
    const name = createElement("bdi", "name");
    const note = createElement("small", "note");
    const button = createElement(
      "button", "person", { type: "button", onclick: () => this.#choose(userId) }, avatar.element, name, note,
    );
    return {
      element: createElement("li", "", {}, button),
      update: (/** @type {Person} */ person, /** @type {number} */ index) => {
        button.autofocus = index === 0;
        avatar.show(person, shownName(person.name, this.texts));
        setText(name, this.nameOf(person));
        setText(note, statusOf(person, this.texts) + (person.statusMessage ? `: ${person.statusMessage}` : ""));
        button.title = `${name.textContent}, ${note.textContent}`; // what does not fit ends in an ellipsis
      },
    };
  }

  /** @param {string} userId */
  #choose(userId) {
    this.#panel.hidePopover();
    this.dispatchEvent(new CustomEvent("koko-person", { detail: this.personOf(userId), bubbles: true }));
  }
}

/**
 * Whether a person points at a target, or has selected something in it.
 * @param {Person} person
 * @param {string} target
 */
function isAt({ sessions }, target) {
  return sessions.some(({ cursor, selection }) => cursor?.target === target || selection?.target === target);
}

/**
 * A button that opens the list.
 * @param {string} part
 * @param {Node[]} children
 */
function createOpener(part, ...children) {
  const button = createElement("button", part, { type: "button" }, ...children);
  button.setAttribute("popovertarget", PANEL_ID);
  return button;
}
