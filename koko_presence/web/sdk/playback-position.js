/**
 * The arithmetic of a playback: where the room and a target of it are at a given time. Pure functions; a time is an argument.
 */

/** The target of what names none [H17]. */
export const MAIN_TARGET = "main";

/**
 * A playback that runs from `currentTime` (s) at `anchor` (server ms). Before the anchor it stands, as in a start that was
 * delayed [H10].
 * @typedef {object} Timeline
 * @property {boolean} isPlaying
 * @property {number} currentTime
 * @property {number} playbackRate
 * @property {number} anchor
 * @property {number | undefined} [duration]
 */

/**
 * What a player should do now.
 * @typedef {object} Goal
 * @property {boolean} isPlaying
 * @property {number} position s of the target's film.
 * @property {number} playbackRate
 * @property {number} startsInMs The film starts to move after so many ms; 0: it moves already, or is paused.
 * @property {boolean} isAtEnd The film has ended, or the room has.
 */

/**
 * Second of the room at server ms `now` [H4].
 * @param {Timeline | null} timeline Null: 0.
 * @param {number} now
 */
export function positionOf(timeline, now) {
  if (!timeline) return 0;
  const { isPlaying, currentTime, playbackRate, anchor, duration = Infinity } = timeline;
  const elapsedS = isPlaying ? (Math.max(0, now - anchor) / 1000) * playbackRate : 0;
  return Math.min(Math.max(0, currentTime + elapsedS), duration);
}

/**
 * The goal of a player at server ms `now`: position in the target = position of the room + `offset` [H17]. A film that has not
 * begun there stands at its begin, one that has ended at its end [H20].
 * @param {Timeline} timeline
 * @param {object} target
 * @param {number} [target.offset] s
 * @param {number} [target.duration] s, of the film in the player.
 * @param {number} [target.outputOffset] s by which the device shows the film late: it plays so much ahead.
 * @param {number} now
 * @returns {Goal}
 */
export function goalOf(timeline, { offset = 0, duration = Infinity, outputOffset = 0 }, now) {
  const { isPlaying, playbackRate, anchor } = timeline;
  const roomPosition = positionOf(timeline, now);
  const position = roomPosition + offset + (isPlaying ? outputOffset * playbackRate : 0);
  const isAtEnd = position >= duration || roomPosition >= (timeline.duration ?? Infinity);
  const waitsMs = Math.max(0, anchor - now) + (Math.max(0, -position) / playbackRate) * 1000;
  return {
    isPlaying: isPlaying && !isAtEnd,
    position: Math.min(Math.max(0, position), duration),
    playbackRate,
    startsInMs: isPlaying && !isAtEnd ? waitsMs : 0,
    isAtEnd,
  };
}
