/**
 * Targets of a room: the films that it shows, or whatever cursors and selections name. Pure functions of a snapshot, for the UI
 * kit and the hooks.
 */

/** @import { Cursor, Medium, RoomSnapshot, Selection } from "./types.js" */

import { MAIN_TARGET } from "./playback-position.js";

export { MAIN_TARGET };

/**
 * The room's film at a target.
 * @param {Pick<RoomSnapshot, "media">} snapshot
 * @param {string} target
 * @returns {Medium | undefined}
 */
export function mediumAt({ media }, target) {
  return media?.[target];
}

/**
 * Whether the player at a target has another film than the room has there.
 * @param {Pick<RoomSnapshot, "media" | "shownMedia">} snapshot
 * @param {string} target
 */
export function showsOtherMedium(snapshot, target) {
  const shown = snapshot.shownMedia[target];
  const medium = mediumAt(snapshot, target);
  return shown !== undefined && medium !== undefined && shown !== medium.mediaId;
}

/**
 * Whether a cursor or selection is in that target, and not in another film than the one that is shown there [H19].
 * @param {Pick<RoomSnapshot, "media" | "shownMedia">} snapshot
 * @param {string} target
 * @param {Pick<Cursor | Selection, "target" | "mediaId">} place
 */
export function isIn(snapshot, target, place) {
  if ((place.target || MAIN_TARGET) !== target) return false;
  const ofRoom = mediumAt(snapshot, target)?.mediaId;
  const shown = snapshot.shownMedia[target] ?? ofRoom;
  const theirs = place.mediaId ?? ofRoom; // it is left out where it is the room's
  return shown === undefined || theirs === undefined || shown === theirs;
}
