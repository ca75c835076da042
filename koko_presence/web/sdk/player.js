/**
 * The players that can be attached, behind one interface (`Player` in types.d.ts): a `<video>`, elements with the same interface,
 * and objects of the application that have its methods. Everything that is particular to elements is here.
 */

/**
 * @import { MediaElement, Player, PlayerAbilities, PlayerEvent, PlayerState, ShownFrame, Undo } from "./types.js"
 */

/** @type {readonly PlayerEvent[]} */
const EVENTS = [
  "play", "pause", "playing", "waiting", "canplay", "seeking", "seeked", "ratechange", "ended", "emptied", "loadedmetadata",
  "durationchange",
];

const METHODS = /** @type {const} */ (["getState", "play", "pause", "seek", "setRate", "subscribe"]);

/**
 * @param {MediaElement | Player} source
 * @returns {Player}
 * @throws {TypeError} For an object that is neither.
 */
export function playerOf(source) {
  const has = (/** @type {string} */ name) => typeof (/** @type {any} */ (source)?.[name]) === "function";
  if (METHODS.every(has)) return /** @type {Player} */ (source);
  if (["play", "pause", "addEventListener"].every(has)) return new ElementPlayer(/** @type {MediaElement} */ (source));
  throw new TypeError(`attach() takes a <video>, an element with the same interface, or an object with ${METHODS.join(", ")}.`);
}

/**
 * An element with the interface of HTMLMediaElement. Those without `requestVideoFrameCallback`, which includes elements that
 * embed a foreign player, do not tell which frame they show: their positions are not exact.
 * @implements {Player}
 */
class ElementPlayer {
  /** @type {PlayerAbilities} */
  abilities;
  /** @type {Player["onFrame"]} */
  onFrame;

  #element;

  /** @param {MediaElement} element */
  constructor(element) {
    this.#element = element;
    const { HTMLMediaElement } = globalThis;
    const isNative = Boolean(HTMLMediaElement) && element instanceof HTMLMediaElement;
    const showsFrames = typeof element.requestVideoFrameCallback === "function";
    this.abilities = { canSetRate: true, frameAccurate: isNative || showsFrames };
    if (showsFrames) this.onFrame = (listener) => this.#watchFrames(listener);
  }

  /** @returns {PlayerState} */
  getState() {
    const { paused, currentTime, playbackRate, duration, seeking, ended, readyState, autoplay, loop, isConnected } = this.#element;
    return {
      paused, currentTime, playbackRate, duration, seeking, ended, autoplay, loop,
      readyState: this.abilities.frameAccurate ? readyState : undefined, // foreign players do not keep it
      isConnected,
    };
  }

  play() {
    return this.#element.play();
  }

  pause() {
    this.#element.pause();
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#element.currentTime = seconds;
  }

  /** @param {number} rate */
  setRate(rate) {
    this.#element.playbackRate = rate;
  }

  /** @param {boolean} loops */
  setLoop(loops) {
    this.#element.loop = loops;
  }

  /**
   * @param {(type: PlayerEvent) => void} listener
   * @returns {Undo}
   */
  subscribe(listener) {
    const life = new AbortController();
    for (const type of EVENTS) this.#element.addEventListener(type, () => listener(type), { signal: life.signal });
    return () => life.abort();
  }

  /**
   * @param {(frame: ShownFrame) => void} listener
   * @returns {Undo}
   */
  #watchFrames(listener) {
    const element = /** @type {HTMLVideoElement} */ (this.#element);
    let handle = 0;
    let isStopped = false; // an element whose own video is not there yet gives a promise in place of a handle
    const request = () => {
      handle = element.requestVideoFrameCallback((_, { mediaTime, expectedDisplayTime }) => {
        if (isStopped) return;
        request();
        listener({ mediaTime, shownAt: expectedDisplayTime });
      });
    };
    request();
    return () => {
      isStopped = true;
      if (typeof handle === "number") element.cancelVideoFrameCallback?.(handle);
    };
  }
}
