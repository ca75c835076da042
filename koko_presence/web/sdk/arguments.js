/** Checks of what the application passes: a wrong argument is a fault of its program, and throws where it is made. */

/** @import { AttachOptions, EnterOptions, PresenceOptions } from "./types.js" */

const ROOM_TYPES = ["video", "project", "comment_thread", "comparison"];
const MAX_OUTPUT_OFFSET_S = 10;

/**
 * @param {boolean} isFit
 * @param {string} problem
 */
function check(isFit, problem) {
  if (!isFit) throw new TypeError(problem);
}

/**
 * @param {string} call
 * @param {unknown} options
 */
function checkObject(call, options) {
  check(typeof options === "object" && options !== null, `${call}: its options are an object, not ${String(options)}.`);
}

/** @param {PresenceOptions} options */
export function checkPresenceOptions(options) {
  checkObject("createPresence", options);
  const { url, auth, signal } = options;
  check(url !== undefined && url !== "", "createPresence: `url` is missing, such as wss://presence.example.org/presence or /presence.");
  const isAddress = typeof auth === "string" && auth !== "" && !/^eyJ[\w-]*\./.test(auth);
  check(typeof auth === "function" || auth === undefined || isAddress,
    "createPresence: `auth` is the address of a route that answers with a token, or a function that returns one; it is no token.");
  check(!signal || typeof signal.addEventListener === "function", "createPresence: `signal` is the signal of an AbortController.");
  const { protocol } = new URL(url, globalThis.location?.href ?? "http://localhost"); // a server that renders has no address
  const example = "give an address such as wss://presence.example.org/presence";
  check(/^(ws|http)s?:$/.test(protocol), `createPresence: ${protocol} is no address of a server; ${example}.`);
}

/**
 * @param {unknown} roomId
 * @param {EnterOptions} options
 */
export function checkEnter(roomId, options) {
  check(typeof roomId === "string" && roomId !== "", `enter: the id of a room is a string, not ${JSON.stringify(roomId)}.`);
  checkObject("enter", options);
  const { type, privacy, presence, signal } = options;
  check(type === undefined || ROOM_TYPES.includes(type), `enter: there is no type ${JSON.stringify(type)}, only ${ROOM_TYPES.join(", ")}.`);
  check(!privacy || typeof privacy === "object", "enter: `privacy` is an object.");
  if (presence) checkOwnObject("enter", presence);
  check(!signal || typeof signal.addEventListener === "function", "enter: `signal` is the signal of an AbortController.");
}

/**
 * @template {Function} Listener
 * @param {string} call
 * @param {Listener} listener
 */
export function checkListener(call, listener) {
  check(typeof listener === "function", `${call}: the listener is a function, not ${String(listener)}.`);
  return listener;
}

/** @param {unknown} command Of a wrong field the caller is told by the answer. */
export function checkCommand(command) {
  check(typeof command === "object" && command !== null, `playback: needs a command, such as { action: "play" }, not ${String(command)}.`);
}

/** @param {unknown} whom */
export function checkFollowed(whom) {
  check(typeof whom === "boolean" || (typeof whom === "string" && whom !== ""), `follow: needs true, false or a user id, not ${String(whom)}.`);
}

/**
 * A cursor or a selection: numbers and texts.
 * @template {object | null | undefined} Value
 * @param {string} call
 * @param {Value} value
 */
export function checkShown(call, value) {
  check(typeof value === "object" || value === undefined, `${call}: needs an object, or null to hide it.`);
  for (const [field, part] of Object.entries(value ?? {})) {
    const isPlain = part === null || ["number", "string", "undefined"].includes(typeof part);
    check(isPlain, `${call}: \`${field}\` is a number or a text, not ${typeof part}.`);
  }
  return value ?? null;
}

/**
 * A presence object, or a patch of one.
 * @template {object | null} Value
 * @param {string} call
 * @param {Value} value
 */
export function checkOwnObject(call, value) {
  check(typeof value === "object" && !Array.isArray(value), `${call}: a presence object is a plain object, not ${String(value)}.`);
  return value;
}

/**
 * @param {AttachOptions} [options]
 */
export function checkAttach(options = {}) {
  checkObject("attach", options);
  const { correct, whenNotAllowed, target, mediaId, outputOffset, abilities } = options;
  check(correct === undefined || typeof correct === "boolean", "attach: `correct` is true or false.");
  check(whenNotAllowed === undefined || ["release", "snap"].includes(whenNotAllowed), 'attach: `whenNotAllowed` is "release" or "snap".');
  checkText("attach: `target`", target);
  checkText("attach: `mediaId`", mediaId);
  check(abilities === undefined || (typeof abilities === "object" && abilities !== null), "attach: `abilities` is an object.");
  if (outputOffset !== undefined) checkOutputOffset("attach: `outputOffset`", outputOffset);
  return options;
}

/**
 * @param {string} what
 * @param {number} seconds
 */
export function checkOutputOffset(what, seconds) {
  const isFit = typeof seconds === "number" && Math.abs(seconds) <= MAX_OUTPUT_OFFSET_S;
  check(isFit, `${what} is a number of seconds from -${MAX_OUTPUT_OFFSET_S} to ${MAX_OUTPUT_OFFSET_S}, not ${String(seconds)}.`);
  return seconds;
}

/**
 * @param {string} what
 * @param {string | undefined} text
 */
export function checkText(what, text) {
  check(text === undefined || text === null || typeof text === "string", `${what} is a text, not ${typeof text}.`);
  return text ?? undefined;
}
