/**
 * Which changes of a player are commands of the user, and which are the player's own doing [H23]. Pure functions.
 * attached-player.js calls them with what it has found and acts on the result.
 */

/** @import { PlayerState } from "./types.js" */

/** A player that plays skips so much by itself, over a gap in its buffer; so near to its end it begins anew. */
const GAP_S = 0.5;
/** A browser that pauses the players of a page that is being hidden does it within this time. */
const HIDING_MS = 500;
/** So many within a second are no user's. */
const MAX_REVERSALS = 3;
const MAX_CHANGES = 8;
const COUNTED_MS = 1000;

/**
 * @typedef {object} PlayerChange
 * @property {boolean} paused Whether it was paused, before the change.
 * @property {number} playbackRate Before the change.
 * @property {number} seekedByS Distance of a seek that the SDK has not asked for; 0: there was none.
 * @property {PlayerState} state Of the player, after the change.
 */

/**
 * @typedef {object} Circumstances
 * @property {boolean} isFirstStart The player has not played since its film was loaded.
 * @property {boolean} isBlocked The browser requires an interaction before this player may start.
 * @property {boolean} hasInteracted The user has interacted with the page.
 * @property {boolean} isRemoved The element was taken out of the document.
 * @property {number} hiddenForMs Time for which the page has been hidden; 0: it is visible.
 */

/**
 * What of a change is the user's.
 * @typedef {object} UserAction
 * @property {boolean} plays
 * @property {boolean} pauses
 * @property {boolean} seeks
 * @property {boolean} changesRate
 */

/**
 * @param {PlayerChange} change
 * @param {Circumstances} circumstances
 * @returns {UserAction}
 */
export function userActionOf({ paused, playbackRate, seekedByS, state }, circumstances) {
  const starts = paused && !state.paused;
  const stops = !paused && state.paused;
  const startsItself = starts && isOwnStart(state, circumstances);
  return {
    plays: starts && !startsItself,
    pauses: stops && !isOwnPause(state, circumstances),
    seeks: seekedByS !== 0 && !startsItself && !isOwnJump(seekedByS, paused || state.paused, state),
    changesRate: state.playbackRate !== playbackRate && !startsItself,
  };
}

/** @param {UserAction} action */
export function isCommand({ plays, pauses, seeks, changesRate }) {
  return plays || pauses || seeks || changesRate;
}

/**
 * The player was started by the page as it was loaded, or by the interaction that the browser required for what the room does.
 * @param {PlayerState} state
 * @param {Circumstances} circumstances
 */
function isOwnStart({ autoplay }, { isFirstStart, isBlocked, hasInteracted }) {
  return isBlocked || (isFirstStart && Boolean(autoplay)) || !hasInteracted;
}

/**
 * A player pauses by itself at its end, out of the document, and where the browser stops the films of hidden pages. A later pause of
 * a hidden page is the user's, by a media key or in a picture-in-picture window.
 * @param {PlayerState} state
 * @param {Circumstances} circumstances
 */
function isOwnPause({ ended }, { isRemoved, hiddenForMs }) {
  return Boolean(ended) || isRemoved || (hiddenForMs > 0 && hiddenForMs < HIDING_MS);
}

/**
 * A player that plays jumps over a gap in its buffer, and from its end to its begin where it loops.
 * @param {number} byS
 * @param {boolean} wasPaused
 * @param {PlayerState} state
 */
function isOwnJump(byS, wasPaused, { currentTime, duration = Infinity, loop }) {
  if (wasPaused) return false;
  const isLoop = Boolean(loop) && currentTime < GAP_S && currentTime - byS > duration - GAP_S;
  return isLoop || Math.abs(byS) < GAP_S;
}

/**
 * Counts plays and pauses: a script of the page that reverses what the room does is not the user [H23]. A user who presses a key
 * three times in a second reverses own actions, of which there may be more.
 */
export class ReversalCount {
  /** @type {{ at: number, isReversal: boolean }[]} */
  #changes = [];

  /**
   * @param {number} now ms
   * @param {boolean} isReversal Whether it reverses what the room has done within the last second.
   * @returns {boolean} Whether there were too many within a second.
   */
  add(now, isReversal) {
    this.#changes = [...this.#changes.filter(({ at }) => now - at < COUNTED_MS), { at: now, isReversal }];
    return this.#changes.length >= MAX_CHANGES || this.#changes.filter((change) => change.isReversal).length >= MAX_REVERSALS;
  }
}
