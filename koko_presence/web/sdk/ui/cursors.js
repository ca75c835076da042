/** `<koko-cursors for="video">`: all cursors and reactions over the picture; sends the own cursor. */

import { h, KokoElement, setText, tint, wake } from "./element.js";
import { pictureRect, settle, strength } from "./picture.js";

const SILENCE_MS = 300; // after a longer pause a cursor jumps instead of moving from its last position
const MOST = 200; // cursors and reactions together

/** The overlays in the page, so that <koko-watch> can show the own reactions, which the server does not send back. */
export const overlays = new Set();

const calm = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)");

/** The picture inside a video, an image, a canvas or any other element, px of the window. */
function pictureOf(media) {
  const { objectFit, objectPosition } = getComputedStyle(media);
  const { left, top } = media.getBoundingClientRect();
  const size = { width: media.videoWidth ?? media.naturalWidth, height: media.videoHeight ?? media.naturalHeight };
  const rect = pictureRect({ width: media.clientWidth, height: media.clientHeight }, size, objectFit, objectPosition);
  return { ...rect, left: rect.left + left + media.clientLeft, top: rect.top + top + media.clientTop };
}

/** Position of a mouse event, 0 to 1 of the picture of `media`; null outside. */
export function pointOn(media, { clientX, clientY }) {
  const { left, top, width, height } = pictureOf(media);
  const x = (clientX - left) / width;
  const y = (clientY - top) / height;
  return x >= 0 && x <= 1 && y >= 0 && y <= 1 ? { x, y } : null;
}

export class KokoCursors extends KokoElement {
  #shown = new Map(); // session id -> cursor
  #layer = h("div");
  #rect;
  #pointing;

  constructor() {
    super();
    this.shadowRoot.append(this.#layer);
  }

  attached(room) {
    const { target, parentElement } = this;
    this.ariaHidden = "true";
    overlays.add(this);
    this.keep(() => overlays.delete(this));
    const measure = () => {
      this.#rect = undefined;
      wake(this);
    };
    const watch = new ResizeObserver(measure);
    for (const each of [target, this]) watch.observe(each);
    this.keep(() => watch.disconnect());
    this.listen(target, "loadedmetadata", measure);
    this.listen(target, "timeupdate", () => wake(this));
    this.keep(room.on("broadcast", ({ userId, data: { type, emoji } }) => {
      if (type === "reaction") this.float(emoji, this.personOf(userId));
    }));
    if (this.hasAttribute("receive-only")) return;
    const point = (at) => {
      if (at || this.#pointing) room.updateCursor(at && { timestamp: target.currentTime, ...at });
      this.#pointing = at;
    };
    this.listen(parentElement, "pointermove pointerdown", (event) => point(pointOn(target, event)));
    this.listen(parentElement, "pointerleave", () => point(null));
    this.keep(() => point(null));
  }

  #measure() {
    const { left, top, ...size } = pictureOf(this.target);
    const own = this.getBoundingClientRect();
    return { left: left - own.left, top: top - own.top, ...size };
  }

  frame(now, dt) {
    const { others, playback } = this.snapshot;
    const jump = !this.#rect || calm.matches;
    const rect = (this.#rect ??= this.#measure());
    let moving = false;
    for (const person of others) {
      for (const session of person.sessions) {
        if (session.cursor?.x !== undefined && this.#draw(person, session, rect, playback, now, dt, jump)) moving = true;
      }
    }
    for (const [sessionId, { element, drawnAt }] of this.#shown) {
      if (drawnAt === now) continue;
      element.remove();
      this.#shown.delete(sessionId);
    }
    return moving;
  }

  /** Returns whether it still moves. */
  #draw(person, { sessionId, cursor, viewerSync }, { left, top, width, height }, playback, now, dt, jump) {
    let shown = this.#shown.get(sessionId);
    if (!shown) {
      shown = { element: h("div", "cursor", {}, h("bdi", "name", {}, person.name)), heardAt: -Infinity, axes: [] };
      tint(shown.element, person);
      this.#shown.set(sessionId, shown);
      this.#layer.append(shown.element);
    }
    const { style, classList } = shown.element;
    if (shown.cursor !== cursor) {
      jump ||= now - shown.heardAt > SILENCE_MS;
      Object.assign(shown, { cursor, heardAt: now });
      classList.toggle("west", cursor.x > 0.8);
      classList.toggle("north", cursor.y > 0.88);
    }
    shown.drawnAt = now;
    let moving = false;
    const place = [left + cursor.x * width, top + cursor.y * height].map((to, i) => {
      if (jump) shown.axes[i] = { at: to, speed: 0 };
      else if (settle(shown.axes[i], to, dt)) moving = true;
      return `${shown.axes[i].at.toFixed(1)}px`;
    });
    style.transform = `translate(${place})`;
    // a resting cursor belongs to the current time of its person's video
    const rate = playback?.isPlaying && viewerSync?.state !== "paused" ? playback.playbackRate : 0;
    style.opacity = strength(cursor.timestamp + ((now - shown.heardAt) / 1000) * rate - this.target.currentTime);
    return moving;
  }

  /** Let a reaction rise over the picture. */
  float(emoji, person) {
    if (typeof emoji !== "string" || emoji.length > 16 || this.#layer.children.length > MOST) return;
    const { left, top, width, height } = (this.#rect ??= this.#measure());
    const element = h("div", "float", { onanimationend: () => element.remove() }, emoji, h("bdi", "", {}, person?.name ?? ""));
    element.style.left = `${left + width * (0.2 + 0.6 * Math.random())}px`;
    element.style.top = `${top + height * 0.85}px`;
    this.#layer.append(element);
  }
}
