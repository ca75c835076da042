/** Texts of the components, and colours with enough contrast. Uses no DOM. */

/** @import { Person, RoomSnapshot } from "../types.js" */

/**
 * Initials: JB for "Jane van der Berg"; one character for one word. Whole characters, in any script.
 * @param {string} name
 */
export function initials(name) {
  const words = name.trim().split(/\s+/);
  const first = words[0] ?? "";
  const last = words.at(-1) ?? "";
  const firstCharacters = [...new Set([first, last])].map(([character]) => character);
  return firstCharacters.join("").toUpperCase();
}

/** @param {string[]} names */
function listOf(names) {
  return names.length > 2 ? `${names[0]} and ${names.length - 1} others` : names.join(" and ");
}

/**
 * "Jane is typing...", "Jane and Tom are typing...", "Jane and 2 others are typing...", or "".
 * @param {string[]} names
 */
export function typingSentence(names) {
  if (!names.length) return "";
  return `${listOf(names)} ${names.length > 1 ? "are" : "is"} typing...`;
}

/**
 * What the room shows: the title of the room, else those of its films; "" without any.
 * @param {Pick<RoomSnapshot, "settings" | "media">} snapshot
 */
export function titleOf({ settings, media = {} }) {
  const titles = Object.values(media).flatMap(({ title }) => title || []);
  return settings?.title || [...new Set(titles)].join(" and ");
}

/**
 * Who may play while no user has control [H1].
 * @param {Pick<RoomSnapshot, "settings" | "rights">} snapshot
 */
export function freeControlWords({ settings, rights }) {
  if (settings?.controlMode === "moderators") return "Moderators can play";
  if (settings?.controlMode === "controller") return "Take control to play";
  return rights?.control === false ? "You can watch" : "Everyone can play";
}

/**
 * "Waiting for Jane", or "" [H9].
 * @param {string[]} names
 */
export function waitingSentence(names) {
  return names.length ? `Waiting for ${listOf(names)}` : "";
}

/**
 * The state of a viewer as readable text [H7].
 * @param {Pick<Person, "viewerSync" | "connected">} person
 * @param {boolean} hasControl
 */
export function viewerWords({ viewerSync, connected }, hasControl) {
  if (!connected) return "reconnecting";
  const { state = "unknown", driftMs = 0 } = viewerSync ?? {};
  if (state === "behind" || state === "ahead") return `${state} ${(Math.abs(driftMs) / 1000).toFixed(1)} s`;
  if (state === "other_media") return "other version";
  if (hasControl) return "controlling";
  if (state === "ended") return "at the end";
  return state === "unknown" ? "not watching" : state;
}

/**
 * Text of the joins and leaves between two maps of user id to name; "" without any.
 * @param {Map<string, string>} before
 * @param {Map<string, string>} after
 */
export function arrivals(before, after) {
  return changes(before, after, "joined") + changes(after, before, "left");
}

/**
 * @param {Map<string, string>} without
 * @param {Map<string, string>} withThem
 * @param {string} verb Of those that are in the second map only.
 */
function changes(without, withThem, verb) {
  const names = [...withThem].filter(([userId]) => !without.has(userId)).map(([, name]) => name);
  return names.length ? `${listOf(names)} ${verb}. ` : "";
}

/**
 * Black or white, whichever has more contrast on #rrggbb: at least 4.5:1. A power approximates sRGB.
 * @param {string} color
 */
export function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.218);
  return 0.2126 * Number(red) + 0.7152 * Number(green) + 0.0722 * Number(blue) > 0.179 ? "#000" : "#fff";
}
