/** `<koko-cursors for="video">`: the cursors in a target, and reactions, over its picture; sends the own cursor. */

/** @import { Affine } from "../picture-place.js" */
/** @import { Member, Person, Playback, Room } from "../types.js" */

import { createElement, setPersonColor, setText } from "./dom.js";
import { KokoElement } from "./element.js";
import { wake } from "./frames.js";
import { settle, strength } from "./motion.js";
import { arrangeNames, placeOf } from "./name-places.js";
import { apply, boxInWindow, compose, inverse, pictureInWindow, pointOn } from "../picture-place.js";
import { isIn, MAIN_TARGET } from "../targets.js";
import { shownName } from "./words.js";

const SILENCE_MS = 300; // after a longer pause a cursor jumps instead of moving from its last position
const MEASURE_MS = 500; // a picture that moves without a change of its size is found again after so long
const ARRANGE_MS = 100; // between two arrangements of the names, while cursors move
const MAX_SHOWN = 200; // cursors and reactions together
const MAX_EMOJI_LENGTH = 16;

/** The overlays in the page, so that <koko-watch> can show the own reactions, which the server does not send back. */
export const overlays = /** @type {Set<KokoCursors>} */ (new Set());

/**
 * The overlay over whose picture the own cursor of a room was last.
 * @type {WeakMap<Room, KokoCursors>}
 */
const pointedAt = new WeakMap();

const reducedMotion = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)");

/**
 * A cursor in the page.
 * @typedef {object} ShownCursor
 * @property {HTMLElement} element
 * @property {HTMLElement} tag The name.
 * @property {Person | undefined} person As last shown.
 * @property {number} width Of the name, px; 0 until it is measured.
 * @property {number} height
 * @property {number} spot See name-places.js.
 * @property {Member["cursor"]} cursor The last one that was heard.
 * @property {number} heardAt Time of the frame in which it was heard first.
 * @property {number} drawnAt Time of the last frame in which it was drawn.
 * @property {{ x: { at: number, speed: number }, y: { at: number, speed: number } } | undefined} springs
 */

/**
 * What all cursors of one frame have in common.
 * @typedef {object} Frame
 * @property {number} now
 * @property {number} elapsedS
 * @property {Affine} place Of the picture: 0 to 1 in each direction to px of this element.
 * @property {boolean} jump Whether cursors jump to their position.
 * @property {Playback | null} playback
 */

/** `<koko-cursors for="video" target="main" receive-only>`: above the picture of the element that `for` names. */
export class KokoCursors extends KokoElement {
  /**
   * By session id.
   * @type {Map<string, ShownCursor>}
   */
  #shown = new Map();
  #layer = createElement("div", "overlay");
  /**
   * The place of the picture; undefined until it is measured again.
   * @type {Affine | undefined}
   */
  #place;
  /** Time of the frame in which it was measured. */
  #measuredAt = 0;
  /** Time of the frame in which the names were arranged. */
  #arrangedAt = 0;

  constructor() {
    super();
    this.shadowRoot?.append(this.#layer);
  }

  /**
   * @protected
   * @param {Room} room
   */
  attached(room) {
    const { target } = this;
    this.ariaHidden = "true";
    overlays.add(this);
    this.keep(() => overlays.delete(this));
    this.#watchSize();
    this.listen(target, ["timeupdate"], () => wake(this));
    this.keep(room.on("broadcast", ({ userId, data: { type, emoji } }) => {
      if (type === "reaction") this.float(/** @type {string} */ (emoji), this.personOf(userId));
    }));
    if (!this.hasAttribute("receive-only")) this.#sendOwnCursor(room);
  }

  #watchSize() {
    const measure = () => {
      this.#place = undefined;
      wake(this);
    };
    const observer = new ResizeObserver(measure);
    observer.observe(this);
    if (this.target) observer.observe(this.target);
    this.keep(() => observer.disconnect());
    this.listen(this.target, ["loadedmetadata"], measure);
  }

  /**
   * Where the picture is of which cursors are shown: the target's, or without `for` this element; null while the target is not
   * there.
   * @returns {Element | null}
   */
  get #media() {
    return this.hasAttribute("for") ? this.target : this;
  }

  /** @param {Room} room */
  #sendOwnCursor(room) {
    const { parentElement, roomTarget } = this;
    const place = roomTarget === MAIN_TARGET ? {} : { target: roomTarget };
    const hide = () => {
      if (pointedAt.get(room) !== this) return; // it is over the picture of another overlay, or over none
      pointedAt.delete(room);
      room.updateCursor(null);
    };
    const move = (/** @type {PointerEvent} */ event) => {
      const point = this.#media && this.#isMeantBy(event, room) ? pointOn(this.#media, event) : null;
      if (!point) return hide();
      pointedAt.set(room, this);
      room.updateCursor({ timestamp: currentTimeOf(this.target), ...place, ...point });
    };
    const area = parentElement ?? /** @type {Partial<ShadowRoot>} */ (this.getRootNode()).host ?? null;
    this.listen(area, ["pointermove", "pointerdown"], move);
    this.listen(area, ["pointerleave", "mouseleave"], hide); // Chromium has only the second in a page made by document.write
    this.keep(hide);
  }

  /**
   * Whether a pointer is over this picture and not over that of another overlay of the room in the same place: where two films lie
   * upon each other, it is over the one that the browser says, or else over the last in the page.
   * @param {PointerEvent} event
   * @param {Room} room
   */
  #isMeantBy(event, room) {
    const path = event.composedPath();
    const rivals = [...overlays].filter((each) => each !== this && each.room === room && each.#media && !each.hasAttribute("receive-only"));
    const media = /** @type {Element} */ (this.#media);
    if (path.includes(media) || !rivals.length) return true;
    return !rivals.some((each) => {
      const theirs = /** @type {Element} */ (each.#media);
      if (path.includes(theirs)) return true;
      const isAfter = media.compareDocumentPosition(theirs) & Node.DOCUMENT_POSITION_FOLLOWING;
      return isAfter && pointOn(theirs, event) !== null;
    });
  }

  /**
   * @param {Element} media
   * @returns {Affine | undefined} Undefined while one of both is not shown.
   */
  #measure(media) {
    const own = compose(boxInWindow(this), { a: 1, b: 0, c: 0, d: 1, e: this.clientLeft, f: this.clientTop });
    const place = compose(inverse(own), pictureInWindow(media));
    return Number.isFinite(place.e) ? place : undefined;
  }

  /**
   * For the frame loop.
   * @param {number} now
   * @param {number} elapsedS
   */
  frame(now, elapsedS) {
    const { snapshot, roomTarget } = this;
    const { playback } = snapshot;
    const media = this.#media;
    const jump = !this.#place || reducedMotion.matches;
    if (!this.#place || now - this.#measuredAt > MEASURE_MS) {
      this.#place = media ? this.#measure(media) : undefined;
      this.#measuredAt = now;
    }
    const frame = this.#place && { now, elapsedS, place: this.#place, jump, playback };
    let isMoving = false;
    for (const person of frame ? snapshot.others : []) {
      for (const session of person.sessions) {
        const { cursor } = session;
        if (cursor?.x === undefined || !isIn(snapshot, roomTarget, cursor)) continue; // hidden, on the timeline, or elsewhere
        if (frame && this.#drawCursor(person, session, frame)) isMoving = true;
      }
    }
    for (const [sessionId, { element, drawnAt }] of this.#shown) {
      if (drawnAt === now) continue;
      element.remove();
      this.#shown.delete(sessionId);
    }
    if (!isMoving || now - this.#arrangedAt > ARRANGE_MS) this.#arrangeNames(now);
    return isMoving;
  }

  /** @param {number} now */
  #arrangeNames(now) {
    this.#arrangedAt = now;
    const cursors = [...this.#shown.values()];
    for (const shown of cursors) {
      if (shown.width) continue;
      shown.width = shown.tag.offsetWidth;
      shown.height = shown.tag.offsetHeight;
    }
    const named = cursors.map(({ springs, width, height, spot }) => ({
      x: springs?.x.at ?? 0, y: springs?.y.at ?? 0, width, height, spot,
    }));
    arrangeNames(named, { width: this.clientWidth, height: this.clientHeight });
    cursors.forEach((shown, index) => {
      const cursor = /** @type {typeof named[0]} */ (named[index]);
      shown.spot = cursor.spot;
      const { left, top } = placeOf(cursor, cursor.spot);
      shown.tag.style.translate = `${left}px ${top}px`;
    });
  }

  /**
   * @param {Person} person
   * @param {Member} session One of the person's, with a cursor.
   * @param {Frame} frame
   * @returns {boolean} Whether it still moves.
   */
  #drawCursor(person, { sessionId, cursor, viewerSync }, { now, elapsedS, place, jump, playback }) {
    const { timestamp = NaN, x = 0, y = 0 } = cursor ?? {};
    const shown = this.#shown.get(sessionId) ?? this.#addCursor(sessionId);
    if (shown.person !== person) this.#showPerson(shown, person);
    const { style } = shown.element;
    let mustJump = jump;
    if (shown.cursor !== cursor) {
      if (now - shown.heardAt > SILENCE_MS) mustJump = true;
      shown.cursor = cursor;
      shown.heardAt = now;
    }
    shown.drawnAt = now;
    const to = apply(place, x, y);
    let isMoving = false;
    if (mustJump || !shown.springs) {
      shown.springs = { x: { at: to.x, speed: 0 }, y: { at: to.y, speed: 0 } };
    } else {
      const movesX = settle(shown.springs.x, to.x, elapsedS);
      const movesY = settle(shown.springs.y, to.y, elapsedS);
      isMoving = movesX || movesY;
    }
    style.transform = `translate(${shown.springs.x.at.toFixed(1)}px,${shown.springs.y.at.toFixed(1)}px)`;
    // a resting cursor belongs to the current time of its person's video
    const rate = playback?.isPlaying && viewerSync?.state !== "paused" ? playback.playbackRate : 0;
    const seconds = timestamp + ((now - shown.heardAt) / 1000) * rate;
    style.opacity = String(strength(seconds - (currentTimeOf(this.target) ?? NaN)));
    return isMoving;
  }

  /**
   * @param {string} sessionId
   * @returns {ShownCursor}
   */
  #addCursor(sessionId) {
    const tag = createElement("bdi", "name");
    const element = createElement("div", "cursor", {}, tag);
    this.#layer.append(element);
    const shown = {
      element, tag, person: undefined, width: 0, height: 0, spot: 0, cursor: undefined, heardAt: -Infinity, drawnAt: 0, springs: undefined,
    };
    this.#shown.set(sessionId, shown);
    return shown;
  }

  /**
   * @param {ShownCursor} shown
   * @param {Person} person
   */
  #showPerson(shown, person) {
    const name = this.nameOf(person);
    if (shown.tag.textContent !== name) shown.width = 0;
    setText(shown.tag, name);
    if (shown.person?.color !== person.color) setPersonColor(shown.element, person);
    shown.person = person;
  }

  /**
   * Lets a reaction rise over the picture, with or without a person.
   * @param {string} emoji
   * @param {Pick<Person, "name"> | null} [person]
   */
  float(emoji, person) {
    if (typeof emoji !== "string" || emoji.length > MAX_EMOJI_LENGTH || this.#layer.children.length > MAX_SHOWN) return;
    const place = this.#media && this.#measure(this.#media);
    if (!place) return;
    const start = apply(place, 0.2 + 0.6 * Math.random(), 0.85);
    const element = createElement("div", "float", {}, emoji, createElement("bdi", "", {}, person ? shownName(person.name, this.texts) : ""));
    element.onanimationend = () => element.remove();
    element.style.left = `${start.x}px`;
    element.style.top = `${start.y}px`;
    this.#layer.append(element);
  }
}

/**
 * @param {Element | null} target
 * @returns {number | undefined} Undefined if it is not a video.
 */
function currentTimeOf(target) {
  return /** @type {HTMLVideoElement | null} */ (target)?.currentTime;
}
