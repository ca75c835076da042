/**
 * Tells a live stream from a film, by the durations that its player tells: a live stream has none, or, as with hls.js, one that
 * goes on growing while it plays.
 */

/** A longer one is none: some libraries tell 2 ** 32 s. */
const LONGEST_S = 1e6;
/** The duration of a film may be corrected: by less, sooner after it is known, once, or again much later. */
const LEAST_GROWTH_S = 0.5;
const LEAST_GROWTH_MS = 500;
const MAX_GROWTHS = 2;
const GROWS_AGAIN_MS = 30_000;

/**
 * The end of a film, s.
 * @param {number | undefined} duration As its player tells it.
 * @returns {number | undefined} Undefined: there is none, or it is not known.
 */
export function endOf(duration) {
  return duration && duration <= LONGEST_S ? duration : undefined;
}

export class LiveDetector {
  #hasNoEnd = false;
  #growths = 0;
  /** From which growth counts, s, and since when it has been so, local ms. */
  #base = { duration: Infinity, at: 0 };

  get isLive() {
    return this.#hasNoEnd || this.#growths >= MAX_GROWTHS;
  }

  /**
   * Takes the present duration of the player.
   * @param {number | undefined} duration s; NaN or undefined: not known.
   * @param {boolean} isPlaying
   * @param {number} now Local ms.
   */
  see(duration, isPlaying, now) {
    this.#hasNoEnd = Number(duration) > LONGEST_S;
    if (!duration || this.isLive) return;
    const { duration: before, at } = this.#base;
    const hasGrown = isPlaying && duration >= before + LEAST_GROWTH_S;
    if (hasGrown && now < at + LEAST_GROWTH_MS) return;
    if (hasGrown) this.#growths++;
    else if (duration < before || now >= at + GROWS_AGAIN_MS) this.#growths = 0;
    else if (isPlaying) return;
    this.#base = { duration, at: now };
  }

  /** Another film. */
  forget() {
    this.#hasNoEnd = false;
    this.#growths = 0;
    this.#base = { duration: Infinity, at: 0 };
  }
}
