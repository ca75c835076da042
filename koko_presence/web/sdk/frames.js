/**
 * Frame arithmetic with exact rates [H21]. Frames are counted from 0; frame n of a film begins at n / rate. A paused position
 * is the middle of a frame, which every decoder shows as that frame, whatever the rounding of its timestamps.
 */

/**
 * Frames per second as a fraction of integers.
 * @typedef {object} FrameRate
 * @property {number} numerator
 * @property {number} denominator
 */

const MIN_RATE = 0.1;
const MAX_RATE = 1000;
/** A position so little before the begin of a frame, in frames, counts as in it: timestamps are rounded to 1 us or 1 ms. */
const ROUNDING_FRAMES = 1e-3;

/**
 * @param {number | string | undefined} rate A number, or a fraction such as "24000/1001".
 * @returns {FrameRate | null} Null if there is none, or it is not a rate.
 */
export function parseFrameRate(rate) {
  const [, numerator, denominator = "1"] = /^(\d+(?:\.\d+)?)(?:\/(\d+))?$/.exec(`${rate}`) ?? [];
  const parsed = { numerator: Number(numerator), denominator: Number(denominator) };
  const value = parsed.numerator / parsed.denominator;
  return value >= MIN_RATE && value <= MAX_RATE ? parsed : null;
}

/**
 * The frame at a position.
 * @param {number} seconds
 * @param {FrameRate} rate
 */
export function frameAt(seconds, { numerator, denominator }) {
  return Math.max(0, Math.floor((seconds * numerator) / denominator + ROUNDING_FRAMES));
}

/**
 * The frame whose timestamp this is; containers round timestamps up or down.
 * @param {number} mediaTime s
 * @param {FrameRate} rate
 */
export function frameOfTimestamp(mediaTime, { numerator, denominator }) {
  return Math.max(0, Math.round((mediaTime * numerator) / denominator));
}

/**
 * The middle of a frame in seconds. One division of integers, so that all clients compute the same number.
 * @param {number} frame
 * @param {FrameRate} rate
 */
export function middleOfFrame(frame, { numerator, denominator }) {
  return ((2 * frame + 1) * denominator) / (2 * numerator);
}

/**
 * The middle of the frame at a position, and so on for the last frame of a film of a known duration.
 * @param {number} seconds
 * @param {FrameRate} rate
 * @param {number} [duration] s
 */
export function middleOfFrameAt(seconds, rate, duration = Infinity) {
  const last = duration < Infinity ? Math.max(0, Math.ceil((duration * rate.numerator) / rate.denominator - 0.5) - 1) : Infinity;
  return middleOfFrame(Math.min(frameAt(seconds, rate), last), rate);
}
