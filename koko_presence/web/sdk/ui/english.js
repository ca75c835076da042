/** The English texts of the components: every text of the kit, and the shape of the tables of other languages. */

/** @param {string[]} names */
const listOf = (names) => (names.length > 2 ? `${names[0]} and ${names.length - 1} others` : names.join(" and "));

/** Every text of the kit. Names are those of users, as shown. */
export const ENGLISH = {
  /** A user whose name has nothing to see. */
  guest: "Guest",
  /** The own entry in a list. */
  you: (/** @type {string} */ name) => `${name} (you)`,

  active: "active",
  idle: "idle",
  away: "away",
  busy: "busy",
  reviewing: "reviewing",
  /** A user whose connection is lost and may come back. */
  reconnecting: "reconnecting",

  /** Before the title of the room. */
  viewing: "Viewing:",
  here: (/** @type {number} */ count) => `Here: ${count}`,
  more: (/** @type {number} */ count) => `+${count} more`,
  everybodyHere: "Everybody here",
  joined: (/** @type {string[]} */ names) => `${listOf(names)} joined.`,
  left: (/** @type {string[]} */ names) => `${listOf(names)} left.`,
  typing: (/** @type {string[]} */ names) => `${listOf(names)} ${names.length > 1 ? "are" : "is"} typing...`,
  /** The titles of several films. */
  titles: (/** @type {string[]} */ titles) => titles.join(" and "),

  fullScreen: "Full screen",
  exitFullScreen: "Exit full screen",

  controller: "Controller",
  nobody: "Nobody",
  youHaveControl: "You",
  takeControl: "Take control",
  requestControl: "Request control",
  cancelRequest: "Cancel request",
  releaseControl: "Release control",
  asksForControl: (/** @type {string} */ name) => `${name} asks for control`,
  grant: "Grant",
  deny: "Deny",
  everyoneCanPlay: "Everyone can play",
  moderatorsCanPlay: "Moderators can play",
  takeControlToPlay: "Take control to play",
  youCanWatch: "You can watch",
  /** For screen readers. */
  control: (/** @type {string} */ name) => `Control: ${name}`,
  nobodyHasControl: "Control: nobody",

  viewers: "Viewers",
  viewersSynced: (/** @type {number} */ synced, /** @type {number} */ total) => `Viewers synced: ${synced}/${total}`,
  waitingFor: (/** @type {string[]} */ names) => `Waiting for ${listOf(names)}`,
  resync: "Resync",
  clickToPlay: "Click to play",
  /** The room has reached the end of its film. */
  ended: "Ended",
  /** The state of a viewer. */
  ready: "ready",
  synced: "synced",
  playing: "playing",
  paused: "paused",
  buffering: "buffering",
  atTheEnd: "at the end",
  behind: (/** @type {number} */ seconds) => `behind ${seconds.toFixed(1)} s`,
  ahead: (/** @type {number} */ seconds) => `ahead ${seconds.toFixed(1)} s`,
  otherVersion: "other version",
  controlling: "controlling",
  notWatching: "not watching",

  react: "React",
  reactWith: (/** @type {string} */ emoji) => `React with ${emoji}`,

  /** The state of the connection; `reason` may be "". */
  connecting: (/** @type {string} */ reason) => `Connecting... ${reason}`.trim(),
  connectionLost: (/** @type {string} */ reason) => `Connection lost, trying again. ${reason}`.trim(),
  connectionClosed: (/** @type {string} */ reason) => `Not connected. ${reason}`.trim(),
  youLeft: "You left the room.",
  /** After a loss of the connection: the others saw no leave, or they saw one. */
  backInSession: (/** @type {number} */ seconds) => `Back in the same session after ${seconds} s. Nobody saw you leave.`,
  backInNewSession: (/** @type {number} */ seconds) => `Back in a new session after ${seconds} s. The others saw you leave.`,

  /**
   * Texts for errors, by their code; without one an error is shown with the server's message.
   * @type {Record<string, string>}
   */
  errors: {},
};

/** @typedef {typeof ENGLISH} Texts */
