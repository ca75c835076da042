/** Checks the numbers of a playback command before anything moves [H3, H12, H21]. */

/** @import { PlaybackCommand, PlaybackReport } from "./types.js" */

export const MIN_RATE = 0.0625;
export const MAX_RATE = 16;
export const MAX_SECONDS = 1e6;
const MAX_STEP_FRAMES = 1000;
const MAX_DELAY_MS = 2000;
const LONGEST_AGE_MS = 60_000;

/** The fields that an action needs. @type {Record<string, readonly string[]>} */
const REQUIRED = {
  sync: ["isPlaying", "currentTime", "playbackRate"],
  seek: ["currentTime"],
  rate: ["playbackRate"],
  step: ["frames"],
  report: ["isPlaying", "currentTime", "playbackRate"],
};

/**
 * @param {unknown} value
 * @param {number} least
 * @param {number} most
 */
function isBetween(value, least, most) {
  return typeof value === "number" && value >= least && value <= most;
}

/** What a field must be, in words and as a function. @type {Record<string, [string, (value: any) => boolean]>} */
const CHECKS = {
  currentTime: [`seconds from 0 to ${MAX_SECONDS}`, (value) => isBetween(value, 0, MAX_SECONDS)],
  playbackRate: [`a rate from ${MIN_RATE} to ${MAX_RATE}`, (value) => isBetween(value, MIN_RATE, MAX_RATE)],
  isPlaying: ["true or false", (value) => typeof value === "boolean"],
  frames: [
    `a number of frames from -${MAX_STEP_FRAMES} to ${MAX_STEP_FRAMES}, not 0`,
    (value) => Number.isInteger(value) && value !== 0 && Math.abs(value) <= MAX_STEP_FRAMES,
  ],
  maxAgeMs: [`whole ms from 1 to ${LONGEST_AGE_MS}`, (value) => Number.isInteger(value) && isBetween(value, 1, LONGEST_AGE_MS)],
  startDelayMs: [`"auto", or ms from 0 to ${MAX_DELAY_MS}`, (value) => value === "auto" || isBetween(value, 0, MAX_DELAY_MS)],
};

/**
 * @param {PlaybackCommand | PlaybackReport} command
 * @returns {string} What is wrong, in words; "" if nothing is.
 */
export function problemOf(command) {
  const fields = /** @type {Record<string, unknown>} */ (command);
  const missing = REQUIRED[command.action]?.find((field) => fields[field] === undefined);
  if (missing) return `${command.action} needs ${missing}.`;
  for (const [field, [words, isRight]] of Object.entries(CHECKS)) {
    const value = fields[field];
    if (value !== undefined && !isRight(value)) return `${field} must be ${words}, it is ${value}.`;
  }
  return "";
}
