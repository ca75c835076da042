/** German texts of the UI kit: `import "koko-presence/ui/de"`, and they are shown where the page's `lang` is German. */

/** @import { Texts } from "./english.js" */

import { setTexts } from "./texts.js";

/** @param {string[]} names */
const listOf = (names) => (names.length > 2 ? `${names[0]} und ${names.length - 1} weitere` : names.join(" und "));

/** @param {number} seconds */
const inSeconds = (seconds) => `${seconds.toFixed(1).replace(".", ",")} s`;

/** @type {Texts} */
export const GERMAN = {
  guest: "Gast",
  you: (name) => `${name} (Sie)`,

  active: "aktiv",
  idle: "untätig",
  away: "abwesend",
  busy: "beschäftigt",
  reviewing: "prüft",
  reconnecting: "verbindet sich neu",

  viewing: "Zu sehen:",
  here: (count) => `Hier: ${count}`,
  more: (count) => `+${count} weitere`,
  everybodyHere: "Alle hier",
  joined: (names) => `${listOf(names)} ${names.length > 1 ? "sind" : "ist"} gekommen.`,
  left: (names) => `${listOf(names)} ${names.length > 1 ? "sind" : "ist"} gegangen.`,
  typing: (names) => `${listOf(names)} ${names.length > 1 ? "schreiben" : "schreibt"} ...`,
  titles: (titles) => titles.join(" und "),

  fullScreen: "Vollbild",
  exitFullScreen: "Vollbild beenden",

  controller: "Steuerung",
  nobody: "Niemand",
  youHaveControl: "Sie",
  takeControl: "Steuerung übernehmen",
  requestControl: "Steuerung anfragen",
  cancelRequest: "Anfrage zurückziehen",
  releaseControl: "Steuerung abgeben",
  asksForControl: (name) => `${name} möchte die Steuerung`,
  grant: "Geben",
  deny: "Ablehnen",
  everyoneCanPlay: "Alle können abspielen",
  moderatorsCanPlay: "Moderatoren können abspielen",
  takeControlToPlay: "Übernehmen Sie die Steuerung, um abzuspielen",
  youCanWatch: "Sie können zusehen",
  control: (name) => `Steuerung: ${name}`,
  nobodyHasControl: "Steuerung: niemand",

  viewers: "Zuschauer",
  viewersSynced: (synced, total) => `Zuschauer im Gleichlauf: ${synced}/${total}`,
  waitingFor: (names) => `Warten auf ${listOf(names)}`,
  resync: "Aufholen",
  clickToPlay: "Zum Abspielen klicken",
  ended: "Zu Ende",
  ready: "bereit",
  synced: "im Gleichlauf",
  playing: "spielt",
  paused: "angehalten",
  buffering: "lädt",
  atTheEnd: "am Ende",
  behind: (seconds) => `${inSeconds(seconds)} zurück`,
  ahead: (seconds) => `${inSeconds(seconds)} voraus`,
  otherVersion: "andere Fassung",
  controlling: "steuert",
  notWatching: "sieht nicht zu",

  react: "Reagieren",
  reactWith: (emoji) => `Mit ${emoji} reagieren`,

  connecting: (reason) => `Verbindung wird hergestellt ... ${reason}`.trim(),
  connectionLost: (reason) => `Verbindung verloren, neuer Versuch läuft. ${reason}`.trim(),
  connectionClosed: (reason) => `Nicht verbunden. ${reason}`.trim(),
  youLeft: "Sie haben den Raum verlassen.",
  backInSession: (seconds) => `Nach ${seconds} s zurück in derselben Sitzung. Niemand hat Sie gehen sehen.`,
  backInNewSession: (seconds) => `Nach ${seconds} s zurück in einer neuen Sitzung. Die anderen haben Sie gehen sehen.`,

  errors: {
    CLOSED: "Die Verbindung wurde beendet.",
    FORBIDDEN: "Dazu fehlt Ihnen die Berechtigung.",
    KICKED: "Sie wurden aus dem Raum entfernt.",
    NOT_CONTROLLER: "Jemand anders hat die Steuerung.",
    OFFLINE: "Es besteht keine Verbindung.",
    RATE_LIMITED: "Das war zu oft. Bitte warten Sie einen Augenblick.",
    REFUSED: "Der Server nimmt diese Seite nicht an.",
    ROOM_FULL: "Der Raum ist voll.",
    TOKEN: "Die Anmeldung ist fehlgeschlagen.",
    UNAUTHENTICATED: "Sie sind nicht angemeldet.",
  },
};

setTexts("de", GERMAN);
