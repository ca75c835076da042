/** The arithmetic of a playback: where it is at a given time. Used by media.js and video.js. */

/**
 * A playback that runs from `currentTime` (s) at `anchor` (server ms).
 * @typedef {object} Timeline
 * @property {boolean} isPlaying
 * @property {number} currentTime
 * @property {number} playbackRate
 * @property {number} anchor
 * @property {number | undefined} [duration]
 */

/**
 * Second of the video at server ms `now` [H4].
 * @param {Timeline | null} timeline Null: 0.
 * @param {number} now
 */
export function positionOf(timeline, now) {
  if (!timeline) return 0;
  const { isPlaying, currentTime, playbackRate, anchor, duration = Infinity } = timeline;
  const elapsedS = isPlaying ? (Math.max(0, now - anchor) / 1000) * playbackRate : 0;
  return Math.min(Math.max(0, currentTime + elapsedS), duration);
}
