/**
 * The seeks of one player: which are the SDK's and which are not, when one is over, and how long one takes here. A player tells
 * seeks by events; a browser may leave out the event of a seek that another one replaces, and players of the application may
 * tell less, so the state of the player counts as well.
 */

/** @import { PlayerState } from "./types.js" */

import { MeasuredTime, timeOfSeek } from "./steering.js";

/** A call to a player that embeds a foreign one takes effect within this time. */
export const EFFECT_MS = 2000;
/** Tolerance of the position of a player whose positions are not exact. */
export const ABOUT_POSITION_S = 0.1;

/**
 * A seek of the SDK, or one of others after its end.
 * @typedef {object} Seek
 * @property {number} to s
 * @property {number} startedAt Local ms.
 * @property {boolean} isRepeated Whether the same seek before it landed beside.
 */

export class PlayerSeeks {
  /**
   * The SDK's seek that is under way.
   * @type {Seek | null}
   */
  own = null;
  /**
   * The last seek after its end, as long as nothing has moved the player since.
   * @type {Seek | null}
   */
  stood = null;
  /** A seek of others has begun that `adopt` has not taken yet. */
  hasOthers = false;
  /** Whether a known seek is under way. */
  isUnderWay = false;

  #isFrameAccurate;
  /** `seeking` events that are due for known seeks. */
  #dueEvents = 0;
  /** Local ms until which those of the own ones may come; 0: there are none. */
  #dueUntil = 0;
  /** The player has told the end of a seek. */
  #tellsEnd = false;
  #timeS = new MeasuredTime(0.05, 1);

  /** @param {boolean} isFrameAccurate */
  constructor(isFrameAccurate) {
    this.#isFrameAccurate = isFrameAccurate;
  }

  /** How long a seek takes here, s. */
  get timeS() {
    return this.#timeS.value;
  }

  /**
   * A seek of the SDK begins. Called before that of the player.
   * @param {number} to s
   * @param {number} now Local ms.
   * @param {boolean} isRepeated
   */
  begin(to, now, isRepeated) {
    this.own = { to, startedAt: now, isRepeated };
    this.stood = null;
    this.isUnderWay = true;
    this.#dueEvents++;
    this.#dueUntil = now + EFFECT_MS;
  }

  /** @param {PlayerState} state */
  onSeeking({ currentTime }) {
    const isThere = !this.own || !this.#isFrameAccurate || Math.abs(currentTime - this.own.to) < ABOUT_POSITION_S;
    if (this.#dueEvents > 0 && isThere) this.#dueEvents--;
    else this.hasOthers = true;
  }

  /**
   * @param {PlayerState} state
   * @param {number} now Local ms.
   */
  onSeeked(state, now) {
    this.#tellsEnd = true;
    if (state.seeking) return; // of a seek that another one has replaced before its event was there
    if (this.own) this.#timeS.add((now - this.own.startedAt) / 1000);
    this.#forgetEvents();
    this.#end(state, now);
  }

  /**
   * Ends an own seek whose end the player does not tell.
   * @param {PlayerState} state
   * @param {number} now Local ms.
   * @returns {boolean} Whether it has ended.
   */
  noticeEnd(state, now) {
    if (state.seeking) return false;
    if (this.#dueUntil && now >= this.#dueUntil) this.#forgetEvents();
    if (!this.own) return false;
    const isEventDue = this.#tellsEnd || (this.#isFrameAccurate && state.seeking !== undefined);
    const takenS = isEventDue ? null : timeOfSeek(this.own.to, state, (now - this.own.startedAt) / 1000);
    if (takenS === null && now - this.own.startedAt <= EFFECT_MS) return false;
    if (takenS !== null && !state.paused) this.#timeS.add(takenS);
    this.#end(state, now);
    return true;
  }

  /**
   * Whether others have begun a seek.
   * @param {PlayerState} state
   */
  isOthers({ seeking }) {
    return this.hasOthers || (Boolean(seeking) && !this.isUnderWay);
  }

  /**
   * The seek of others is known from now on.
   * @param {PlayerState} state
   */
  adopt({ seeking }) {
    if (!this.hasOthers) this.#dueEvents++; // it was seen before its event
    this.hasOthers = false;
    this.isUnderWay = Boolean(seeking);
    this.own = this.stood = null;
  }

  /** Another film. */
  forget() {
    this.isUnderWay = this.hasOthers = false;
    this.own = this.stood = null;
    this.#forgetEvents();
  }

  /**
   * @param {PlayerState} state
   * @param {number} now
   */
  #end({ paused, currentTime }, now) {
    this.isUnderWay = false;
    this.stood = this.own ?? (paused ? { to: currentTime, startedAt: now, isRepeated: false } : null);
    this.own = null;
  }

  #forgetEvents() {
    this.#dueEvents = this.#dueUntil = 0;
  }
}
