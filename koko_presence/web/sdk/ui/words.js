/** What the components say of a room, by a table of texts; initials; colours with enough contrast. Uses no DOM. */

/** @import { Person, RoomSnapshot } from "../types.js" */
/** @import { Texts } from "./english.js" */

import { ENGLISH } from "./english.js";

/** Spaces, and what takes no ink or only a space: also Hangul fillers and the empty Braille pattern. */
const UNSEEN = /[\s\p{Z}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]/gu;

const segmenter = globalThis.Intl?.Segmenter && new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** @param {string} text */
function firstGrapheme(text) {
  if (!segmenter) return [...text][0] ?? "";
  const [first] = segmenter.segment(text);
  return first?.segment ?? "";
}

/**
 * Initials: JB for "Jane van der Berg"; one character for one word. Whole characters (grapheme clusters), in any script.
 * @param {string} name
 */
export function initials(name) {
  const words = name.split(/\s+/).filter((word) => word.replace(UNSEEN, ""));
  const first = words[0] ?? "";
  const last = words.at(-1) ?? "";
  return [...new Set([first, last])].map(firstGrapheme).join("").toUpperCase();
}

/**
 * A name as it is shown: "Guest" in place of one that has nothing to see.
 * @param {string} name
 * @param {Pick<Texts, "guest">} [texts]
 */
export function shownName(name, texts = ENGLISH) {
  return name.replace(UNSEEN, "") ? name : texts.guest;
}

/**
 * "Jane is typing...", "Jane and Tom are typing...", "Jane and 2 others are typing...", or "".
 * @param {string[]} names
 * @param {Pick<Texts, "typing">} [texts]
 */
export function typingSentence(names, texts = ENGLISH) {
  return names.length ? texts.typing(names) : "";
}

/**
 * What the room shows: the title of the room, else those of its films; "" without any.
 * @param {Pick<RoomSnapshot, "settings" | "media">} snapshot
 * @param {Pick<Texts, "titles">} [texts]
 */
export function titleOf({ settings, media = {} }, texts = ENGLISH) {
  const titles = Object.values(media).flatMap(({ title }) => title || []);
  return settings?.title || texts.titles([...new Set(titles)]);
}

/**
 * Who may play while no user has control [H1].
 * @param {Pick<RoomSnapshot, "settings" | "rights">} snapshot
 * @param {Texts} [texts]
 */
export function freeControlWords({ settings, rights }, texts = ENGLISH) {
  if (settings?.controlMode === "moderators") return texts.moderatorsCanPlay;
  if (rights?.control === false) return texts.youCanWatch;
  return settings?.controlMode === "controller" ? texts.takeControlToPlay : texts.everyoneCanPlay;
}

/**
 * "Waiting for Jane", or "" [H9].
 * @param {string[]} names
 * @param {Pick<Texts, "waitingFor">} [texts]
 */
export function waitingSentence(names, texts = ENGLISH) {
  return names.length ? texts.waitingFor(names) : "";
}

/**
 * The state of a viewer as readable text [H7].
 * @param {Pick<Person, "viewerSync" | "connected"> & { isWatching?: boolean }} person
 * @param {boolean} hasControl
 * @param {{ texts?: Texts, isStarted?: boolean }} [options] `isStarted`: false before the first command of the room; a viewer
 *   with a player is ready then.
 */
export function viewerWords({ viewerSync, connected, isWatching }, hasControl, { texts = ENGLISH, isStarted = true } = {}) {
  if (!connected) return texts.reconnecting;
  const { state = "unknown", driftMs = 0 } = viewerSync ?? {};
  if (state === "behind" || state === "ahead") return texts[state](Math.abs(driftMs) / 1000);
  if (state === "other_media") return texts.otherVersion;
  if (hasControl) return texts.controlling;
  if (state === "ended") return texts.atTheEnd;
  if (state !== "unknown") return texts[state];
  return isWatching && !isStarted ? texts.ready : texts.notWatching;
}

/**
 * Text of the joins and leaves between two maps of user id to name; "" without any.
 * @param {Map<string, string>} before
 * @param {Map<string, string>} after
 * @param {Pick<Texts, "joined" | "left">} [texts]
 */
export function arrivals(before, after, texts = ENGLISH) {
  const joined = namesOnlyIn(after, before);
  const left = namesOnlyIn(before, after);
  return [joined.length ? texts.joined(joined) : "", left.length ? texts.left(left) : ""].join(" ").trim();
}

/**
 * @param {Map<string, string>} these
 * @param {Map<string, string>} others
 */
function namesOnlyIn(these, others) {
  return [...these].filter(([userId]) => !others.has(userId)).map(([, name]) => name);
}

/**
 * The state of the connection and, where it is known, the reason; while it is live how it came back, or "".
 * @param {Pick<RoomSnapshot, "status" | "error"> & { returned?: RoomSnapshot["returned"] }} snapshot
 * @param {Texts} [texts]
 */
export function connectionWords({ status, error, returned }, texts = ENGLISH) {
  if (status === "live") {
    if (!returned) return "";
    return texts[returned.resumed ? "backInSession" : "backInNewSession"](Math.max(1, Math.round(returned.awayMs / 1000)));
  }
  const reason = error ? texts.errors[error.code] ?? error.message : "";
  if (status === "connecting") return texts.connecting(reason);
  if (status === "closed") return error ? texts.connectionClosed(reason) : texts.youLeft;
  return texts.connectionLost(reason);
}

/**
 * Black or white, whichever has more contrast on #rrggbb: at least 4.5:1. A power approximates sRGB.
 * @param {string} color
 */
export function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.218);
  return 0.2126 * Number(red) + 0.7152 * Number(green) + 0.0722 * Number(blue) > 0.179 ? "#000" : "#fff";
}
