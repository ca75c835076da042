/**
 * The frames that a player has really shown [H22]. `currentTime` runs ahead of the picture and between pictures; the media time
 * of a shown frame does not. attached-player.js judges by it.
 */

/**
 * @import { Player, ShownFrame } from "./types.js"
 */

const MAX_FRAMES = 8; // of even motion, for a median
const MAX_INTERVALS = 24;
const LEAST_INTERVAL_S = 0.002;
/** An interval so many times the shortest one has another frame between. */
const WITHOUT_GAP = 1.5;

export class ShownFrames {
  /**
   * The frame on the screen; null before the first.
   * @type {ShownFrame | null}
   */
  last = null;
  /**
   * The latest frames of even motion, oldest first.
   * @type {ShownFrame[]}
   */
  motion = [];

  /**
   * Seconds between frames that were shown one after the other.
   * @type {number[]}
   */
  #intervals = [];
  #undo;

  /**
   * @param {Required<Pick<Player, "onFrame">>} player
   * @param {() => void} onFrame Called after each frame.
   */
  constructor(player, onFrame) {
    this.#undo = player.onFrame((frame) => {
      this.#add(frame);
      onFrame();
    });
  }

  /**
   * Seconds of a frame as seen so far; 0 before two frames were shown. Intervals with a frame between that was not shown are
   * left out; the mean of the others is exact where a container rounds timestamps.
   */
  get interval() {
    const shortest = Math.min(...this.#intervals);
    const single = this.#intervals.filter((interval) => interval < shortest * WITHOUT_GAP);
    return single.length ? single.reduce((sum, interval) => sum + interval, 0) / single.length : 0;
  }

  /** The motion is uneven from here on: a seek, a start, another speed. */
  restart() {
    this.motion = [];
  }

  /** Another film. */
  forget() {
    this.restart();
    this.last = null;
    this.#intervals = [];
  }

  stop() {
    this.#undo();
  }

  /** @param {ShownFrame} frame */
  #add(frame) {
    // the first one after a seek may tell the position of the seek instead of its own begin, as in Firefox
    const before = this.motion.length > 1 ? this.motion.at(-1) : undefined;
    const interval = before ? frame.mediaTime - before.mediaTime : 0;
    if (interval > LEAST_INTERVAL_S) {
      this.#intervals.push(interval);
      if (this.#intervals.length > MAX_INTERVALS) this.#intervals.shift();
    }
    this.last = frame;
    this.motion.push(frame);
    if (this.motion.length > MAX_FRAMES) this.motion.shift();
  }
}
