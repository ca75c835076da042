/** The state of a room of which nothing is known yet: what a room begins with, and what hooks and components show without one. */

/** @import { RoomSnapshot } from "./types.js" */

/** @type {Readonly<RoomSnapshot>} */
export const EMPTY_SNAPSHOT = Object.freeze({
  roomId: "", status: "connecting", error: null, transport: "websocket", self: null, others: [], playback: null, syncEnabled: false,
  controller: null, controllerSessionId: null, requests: [], synced: null, following: true, shownMedia: {}, isBlocked: false, rights: null,
  returned: null, presence: {},
});
