/** The motion of a cursor over a picture, its opacity, and the playhead of a person. Uses no DOM. */

/** @import { Person, Playback } from "../types.js" */

const STIFFNESS = 28; // 1/s; nine tenths of the way in 140 ms
const REST_PX = 0.1;
const REST_PX_S = 1;
const NEAR_S = 1; // full strength up to here ...
const FAR_S = 4; // ... and the least from here on
const MIN_STRENGTH = 0.25;

/**
 * Moves a spring on towards `to`: critically damped, exact, stable for any step.
 * @param {{ at: number, speed: number }} spring Changed; px, px/s.
 * @param {number} to
 * @param {number} elapsedS
 * @returns {boolean} Whether it still moves.
 */
export function settle(spring, to, elapsedS) {
  const distance = spring.at - to;
  const push = spring.speed + STIFFNESS * distance;
  const decay = Math.exp(-STIFFNESS * elapsedS);
  spring.at = to + (distance + push * elapsedS) * decay;
  spring.speed = (spring.speed - STIFFNESS * push * elapsedS) * decay;
  if (Math.abs(spring.at - to) >= REST_PX || Math.abs(spring.speed) >= REST_PX_S) return true;
  spring.at = to;
  spring.speed = 0;
  return false;
}

/**
 * Opacity of a cursor whose time is `seconds` away from the own one: 0.25 to 1 [N10].
 * @param {number} seconds NaN if a time is unknown: 1.
 */
export function strength(seconds) {
  const distance = Math.abs(seconds);
  if (!(distance > NEAR_S)) return 1;
  return 1 - (1 - MIN_STRENGTH) * Math.min(1, (distance - NEAR_S) / (FAR_S - NEAR_S));
}

/**
 * Position of a person's player, by the last viewer_sync [E6].
 * @param {Pick<Person, "viewerSync">} person
 * @param {Playback | null} playback
 * @param {number} position Of the film, if the person were in step.
 * @returns {number | undefined} Undefined if it is unknown, or the player has another film.
 */
export function playhead({ viewerSync }, playback, position) {
  if (!playback || !viewerSync || viewerSync.state === "unknown" || viewerSync.state === "other_media") return undefined;
  return Math.max(0, position + viewerSync.driftMs / 1000);
}
