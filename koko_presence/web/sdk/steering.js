/**
 * How a player that plays is brought in step: by its speed or by a seek [H8, H22]. Pure functions; drift is own minus room, in
 * seconds, so behind is negative.
 */

/** A larger drift is corrected by a seek. */
const SEEK_S = 2;
/** ... just after a start, a seek or a command already from here on. */
const SEEK_WHEN_SETTLING_S = 0.75;
/** ... where the player has no speed between its own steps, from here on. */
const SEEK_ONLY_S = 0.5;

/** A larger drift is corrected by `FAST` instead of `SLOW`. */
const FAST_S = 1;
const SLOW = 0.05;
const FAST = 0.1;
/** A smaller drift is corrected within this time, so that the speed changes as little as can be. */
const GENTLE_S = 0.5;

/** Just after a start, a seek or a command the picture has moved anyway: a correction takes this time, and up to ... */
const SETTLING_S = 0.2;
/** ... so much of the speed, faster or slower. */
const SETTLING_FASTER = 1;
const SETTLING_SLOWER = 0.5;

/** Least drift that is corrected: part of a frame, within limits; more where only `currentTime` is known. */
const PART_OF_FRAME = 0.3;
const LEAST_S = 0.004;
const MOST_S = 0.012;
const BY_CURRENT_TIME_S = 0.08;

/**
 * A median resists the frames that are shown late on a busy computer.
 * @param {readonly number[]} values At least one.
 */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = /** @type {number} */ (sorted[half]);
  return sorted.length % 2 ? upper : (/** @type {number} */ (sorted[half - 1]) + upper) / 2;
}

/**
 * The value nearest to 0.
 * @param {readonly number[]} values At least one.
 */
export function smallest(values) {
  return values.reduce((nearest, value) => (Math.abs(value) < Math.abs(nearest) ? value : nearest));
}

/** How long something takes: an assumption until it was measured once, then the mean of the last measurement and the value before. */
export class MeasuredTime {
  #isMeasured = false;
  #longest;

  /**
   * @param {number} assumed s
   * @param {number} longest s; a longer measurement counts as this.
   */
  constructor(assumed, longest) {
    this.value = assumed;
    this.#longest = longest;
  }

  /** @param {number} seconds */
  add(seconds) {
    const measured = Math.min(Math.max(seconds, 0), this.#longest);
    this.value = this.#isMeasured ? (this.value + measured) / 2 : measured;
    this.#isMeasured = true;
  }
}

/**
 * How long a seek took, s, by where the player is now; for players that do not tell the end of a seek.
 * @param {number} to s
 * @param {{ paused: boolean, currentTime: number, playbackRate: number }} state
 * @param {number} goneS Since the seek was asked for.
 * @returns {number | null} Null: it is under way. One of a player that plays is over when the player moves on from there.
 */
export function timeOfSeek(to, { paused, currentTime, playbackRate }, goneS) {
  const beyondS = currentTime - to;
  if (paused) return Math.abs(beyondS) < BY_CURRENT_TIME_S ? goneS : null;
  const takenS = goneS - beyondS / playbackRate;
  return beyondS > 0 && takenS > -BY_CURRENT_TIME_S ? Math.max(0, takenS) : null;
}

/**
 * The least drift that is corrected, s.
 * @param {number} frameS Seconds of a frame; 0: the shown frames are not known.
 */
export function tolerance(frameS) {
  return frameS ? Math.min(Math.max(frameS * PART_OF_FRAME, LEAST_S), MOST_S) : BY_CURRENT_TIME_S;
}

/**
 * @typedef {object} Correction
 * @property {boolean} seek Go to the room's position at once.
 * @property {number} factor Of the room's rate; 1: none.
 * @property {number} durationS After this time the drift is gone, at a room's rate of 1.
 */

/**
 * @param {number} drift s
 * @param {object} circumstances
 * @param {number} circumstances.toleranceS A smaller drift is left; see `tolerance`.
 * @param {boolean} [circumstances.isSettling] There was a start, a seek or a command just now.
 * @param {boolean} [circumstances.canSetRate] Whether the player takes any speed.
 * @param {boolean} [circumstances.maySeek] False: there was a seek just now.
 * @returns {Correction}
 */
export function correction(drift, { toleranceS, isSettling = false, canSetRate = true, maySeek = true }) {
  const off = Math.abs(drift);
  if (off < toleranceS) return { seek: false, factor: 1, durationS: 0 };
  if (maySeek && off > seekFrom(isSettling, canSetRate)) return { seek: true, factor: 1, durationS: 0 };
  if (!canSetRate) return { seek: false, factor: 1, durationS: 0 };
  const isBehind = drift < 0;
  let change = Math.min(off / GENTLE_S, off > FAST_S ? FAST : SLOW);
  if (isSettling) change = Math.min(off / SETTLING_S, isBehind ? SETTLING_FASTER : SETTLING_SLOWER);
  return { seek: false, factor: isBehind ? 1 + change : 1 - change, durationS: off / change };
}

/**
 * @param {boolean} isSettling
 * @param {boolean} canSetRate
 */
function seekFrom(isSettling, canSetRate) {
  if (!canSetRate) return SEEK_ONLY_S;
  return isSettling ? SEEK_WHEN_SETTLING_S : SEEK_S;
}
