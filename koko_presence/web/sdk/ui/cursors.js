/** `<koko-cursors for="video">`: the cursors in a target, and reactions, over its picture; sends the own cursor. */

/** @import { Member, Person, Playback, Room } from "../types.js" */

import { createElement, setPersonColor } from "./dom.js";
import { KokoElement } from "./element.js";
import { wake } from "./frames.js";
import { pictureRect, settle, strength } from "./picture.js";
import { isIn, MAIN_TARGET } from "../targets.js";

const SILENCE_MS = 300; // after a longer pause a cursor jumps instead of moving from its last position
const MAX_SHOWN = 200; // cursors and reactions together
const MAX_EMOJI_LENGTH = 16;

/** The overlays in the page, so that <koko-watch> can show the own reactions, which the server does not send back. */
export const overlays = /** @type {Set<KokoCursors>} */ (new Set());

const reducedMotion = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)");

/**
 * The picture inside a video, an image, a canvas or any other element, px of the window.
 * @param {Element} media
 */
function pictureOf(media) {
  const { objectFit, objectPosition } = getComputedStyle(media);
  const { left, top } = media.getBoundingClientRect();
  const { videoWidth, videoHeight, naturalWidth, naturalHeight } = /** @type {Partial<HTMLVideoElement & HTMLImageElement>} */ (media);
  const size = { width: videoWidth ?? naturalWidth, height: videoHeight ?? naturalHeight };
  const rect = pictureRect({ width: media.clientWidth, height: media.clientHeight }, size, objectFit, objectPosition);
  return { ...rect, left: rect.left + left + media.clientLeft, top: rect.top + top + media.clientTop };
}

/**
 * Position of a mouse event, 0 to 1 of the letter-boxed picture of `media`; null outside of it.
 * @param {Element} media
 * @param {{ clientX: number, clientY: number }} event
 * @returns {{ x: number, y: number } | null}
 */
export function pointOn(media, { clientX, clientY }) {
  const { left, top, width, height } = pictureOf(media);
  const x = (clientX - left) / width;
  const y = (clientY - top) / height;
  return x >= 0 && x <= 1 && y >= 0 && y <= 1 ? { x, y } : null;
}

/**
 * A cursor in the page.
 * @typedef {object} ShownCursor
 * @property {HTMLElement} element
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
 * @property {{ left: number, top: number, width: number, height: number }} rect Of the picture, px of this element.
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
  #layer = createElement("div");
  /**
   * The picture; undefined until it is measured again.
   * @type {Frame["rect"] | undefined}
   */
  #rect;
  /** Whether the own cursor is over the picture. */
  #isPointing = false;

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
      this.#rect = undefined;
      wake(this);
    };
    const observer = new ResizeObserver(measure);
    observer.observe(this);
    if (this.target) observer.observe(this.target);
    this.keep(() => observer.disconnect());
    this.listen(this.target, ["loadedmetadata"], measure);
  }

  /** @param {Room} room */
  #sendOwnCursor(room) {
    const { target, parentElement, roomTarget } = this;
    const place = roomTarget === MAIN_TARGET ? {} : { target: roomTarget };
    /** @param {{ x: number, y: number } | null} point */
    const send = (point) => {
      if (point) room.updateCursor({ timestamp: currentTimeOf(target), ...place, ...point });
      else if (this.#isPointing) room.updateCursor(null);
      this.#isPointing = point !== null;
    };
    this.listen(parentElement, ["pointermove", "pointerdown"], (event) => send(target && pointOn(target, event)));
    this.listen(parentElement, ["pointerleave"], () => send(null));
    this.keep(() => send(null));
  }

  #measure() {
    const { left, top, width, height } = pictureOf(this.target ?? this);
    const own = this.getBoundingClientRect();
    return { left: left - own.left, top: top - own.top, width, height };
  }

  /**
   * For the frame loop.
   * @param {number} now
   * @param {number} elapsedS
   */
  frame(now, elapsedS) {
    const { snapshot, roomTarget } = this;
    const { others, playback } = snapshot;
    const jump = !this.#rect || reducedMotion.matches;
    const rect = (this.#rect ??= this.#measure());
    const frame = { now, elapsedS, rect, jump, playback };
    let isMoving = false;
    for (const person of others) {
      for (const session of person.sessions) {
        const { cursor } = session;
        if (cursor?.x === undefined || !isIn(snapshot, roomTarget, cursor)) continue; // hidden, on the timeline, or elsewhere
        if (this.#drawCursor(person, session, frame)) isMoving = true;
      }
    }
    for (const [sessionId, { element, drawnAt }] of this.#shown) {
      if (drawnAt === now) continue;
      element.remove();
      this.#shown.delete(sessionId);
    }
    return isMoving;
  }

  /**
   * @param {Person} person
   * @param {Member} session One of the person's, with a cursor.
   * @param {Frame} frame
   * @returns {boolean} Whether it still moves.
   */
  #drawCursor(person, { sessionId, cursor, viewerSync }, { now, elapsedS, rect, jump, playback }) {
    const { timestamp = NaN, x = 0, y = 0 } = cursor ?? {};
    const shown = this.#shown.get(sessionId) ?? this.#addCursor(sessionId, person);
    const { style, classList } = shown.element;
    let mustJump = jump;
    if (shown.cursor !== cursor) {
      if (now - shown.heardAt > SILENCE_MS) mustJump = true;
      shown.cursor = cursor;
      shown.heardAt = now;
      classList.toggle("west", x > 0.8); // the name stands on the other side, so that it is inside the picture
      classList.toggle("north", y > 0.88);
    }
    shown.drawnAt = now;
    const to = { x: rect.left + x * rect.width, y: rect.top + y * rect.height };
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
   * @param {Person} person
   * @returns {ShownCursor}
   */
  #addCursor(sessionId, person) {
    const element = createElement("div", "cursor", {}, createElement("bdi", "name", {}, person.name));
    setPersonColor(element, person);
    this.#layer.append(element);
    const shown = { element, cursor: undefined, heardAt: -Infinity, drawnAt: 0, springs: undefined };
    this.#shown.set(sessionId, shown);
    return shown;
  }

  /**
   * Lets a reaction rise over the picture, with or without a person.
   * @param {string} emoji
   * @param {Pick<Person, "name"> | null} [person]
   */
  float(emoji, person) {
    if (typeof emoji !== "string" || emoji.length > MAX_EMOJI_LENGTH || this.#layer.children.length > MAX_SHOWN) return;
    const { left, top, width, height } = (this.#rect ??= this.#measure());
    const element = createElement("div", "float", {}, emoji, createElement("bdi", "", {}, person?.name ?? ""));
    element.onanimationend = () => element.remove();
    element.style.left = `${left + width * (0.2 + 0.6 * Math.random())}px`;
    element.style.top = `${top + height * 0.85}px`;
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
