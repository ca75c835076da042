/** Texts of the components, and colours with enough contrast. Uses no DOM. */

/** Initials: JB for "Jane van der Berg"; one character for one word. Whole characters, in any script. */
export function initials(name) {
  const words = name.trim().split(/\s+/);
  return [...new Set([words[0], words.at(-1)])].map(([letter]) => letter).join("").toUpperCase();
}

const and = (names) => (names.length > 2 ? `${names[0]} and ${names.length - 1} others` : names.join(" and "));

/** "Jane is typing...", "Jane and Tom are typing...", "Jane and 2 others are typing..." */
export const typingSentence = (names) => names[0] && `${and(names)} ${names[1] ? "are" : "is"} typing...`;

/** The state of a viewer as readable text [H7]. */
export function viewerWords({ viewerSync: { state, driftMs } = {}, connected }, controls) {
  if (!connected) return "reconnecting";
  if (state === "behind" || state === "ahead") return `${state} ${(Math.abs(driftMs) / 1000).toFixed(1)} s`;
  if (controls) return "controlling";
  return /^un/.test(state) ? "not watching" : state; // unknown or undefined
}

/** Text of the joins and leaves between two maps of user id to name; "" without any. */
export function arrivals(before, after) {
  const changed = (from, to, verb) => {
    const names = [...to].filter(([id]) => !from.has(id)).map(([, name]) => name);
    return names[0] ? `${and(names)} ${verb}. ` : "";
  };
  return changed(before, after, "joined") + changed(after, before, "left");
}

/** Black or white, whichever has more contrast on #rrggbb: at least 4.5:1. A power approximates sRGB. */
export function inkOn(color) {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.218);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}
