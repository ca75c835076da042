/** The rooms and their members, by the server API; both need the operator's key. */

import { make } from "./draw.js";
import { elementById } from "./page.js";
import { amount, span } from "./readings.js";
import { forgetKey, hasKey, keepKey, request, useKey } from "./requests.js";

const EVERY_MS = 2000;
const MAX_ROOMS = 200;

/**
 * What the page uses of a room in the API's answer (docs/server-api.md).
 * @typedef {object} RoomRow
 * @property {string} id
 * @property {string} type
 * @property {number} userCount
 * @property {number} sessionCount
 * @property {number} invisibleSessionCount
 * @property {string} [controller]
 * @property {string} createdAt
 */

/**
 * @typedef {object} MemberRow
 * @property {string} userId
 * @property {string} name
 * @property {string} color
 * @property {string} status
 * @property {boolean} isTyping
 * @property {boolean} isWatching
 * @property {boolean} isController
 * @property {boolean} invisible
 * @property {boolean} presenceOff
 * @property {boolean} connected
 * @property {string} [transport]
 * @property {string} lastActiveAt
 */

/** @typedef {RoomRow & { playback?: { isPlaying: boolean, currentTime: number }, members: MemberRow[] }} RoomDetails */

/**
 * By room id.
 * @type {Map<string, { row: HTMLTableRowElement, cells: HTMLTableCellElement[] }>}
 */
const rows = new Map();

/** The id of the room whose members are shown; "" without one. */
let chosen = "";

const prefix = elementById("prefix", HTMLInputElement);
const keyInput = elementById("key-input", HTMLInputElement);
const keyDialog = elementById("key-dialog", HTMLDialogElement);
const keyProblem = elementById("key-problem");
const table = elementById("rooms");
const note = elementById("rooms-note");
const members = elementById("members");

/** Reads the rooms from now on, while there is a key. */
export function startRooms() {
  elementById("unlock").addEventListener("click", askForKey);
  elementById("key-button").addEventListener("click", () => (hasKey() ? lock() : askForKey()));
  elementById("key-cancel").addEventListener("click", () => keyDialog.close());
  elementById("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    tryKey(keyInput.value.trim());
  });
  prefix.addEventListener("input", () => {
    if (hasKey()) readRooms();
  });
  pulse();
}

async function pulse() {
  const began = performance.now();
  if (hasKey()) await readRooms();
  setTimeout(pulse, Math.max(200, EVERY_MS - (performance.now() - began)));
}

// --- the key ------------------------------------------------------------------------------------------------------------

function askForKey() {
  keyProblem.textContent = "";
  keyInput.value = "";
  keyDialog.showModal();
}

/** @param {string} key */
async function tryKey(key) {
  useKey(key);
  const isAscii = !/[^ -~]/.test(key);
  const problem = isAscii ? await readRooms() : "A key is made of plain ASCII characters; this one is not.";
  if (problem) {
    keyProblem.textContent = problem;
    return;
  }
  keepKey();
  keyDialog.close();
}

/** Forgets the key and all that was read with it. */
function lock() {
  forgetKey();
  chosen = "";
  elementById("rooms-locked").hidden = false;
  elementById("rooms-open").hidden = true;
  note.textContent = "";
  elementById("key-button").textContent = "Enter key";
  rows.clear();
  table.replaceChildren();
  showMembers(null);
}

// --- rooms --------------------------------------------------------------------------------------------------------------

/** Reads the rooms once. Returns the problem with the key, or "". */
async function readRooms() {
  try {
    const found = await request(`/api/rooms?limit=${MAX_ROOMS}&prefix=${encodeURIComponent(prefix.value)}`, { withKey: true });
    const answer = JSON.parse(found.text);
    if (found.status === 401 || found.status === 403) {
      lock();
      return String(answer.error.message);
    }
    if (found.status !== 200) {
      note.textContent = answer.error.message;
      return "";
    }
    showRooms(answer);
    if (chosen) await readMembers();
  } catch {
    return ""; // the head reports a server without an answer
  }
  return "";
}

/** @param {{ rooms: RoomRow[], nextCursor: string | null, missing: number[] }} answer */
function showRooms({ rooms, nextCursor, missing }) {
  elementById("rooms-locked").hidden = true;
  elementById("rooms-open").hidden = false;
  elementById("key-button").textContent = "Forget key";
  rooms.sort((a, b) => b.userCount - a.userCount || (a.id < b.id ? -1 : 1));
  const count = nextCursor ? `the first ${rooms.length} by id, most people first` : `${amount(rooms.length)} open`;
  note.textContent = missing.length ? `${count}; worker ${missing.join(", ")} does not answer` : count;
  elementById("rooms-empty").hidden = rooms.length > 0;
  const ids = new Set(rooms.map((room) => room.id));
  for (const [id, { row }] of rows) {
    if (ids.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  rooms.forEach(showRoom);
}

/**
 * @param {RoomRow} room
 * @param {number} index
 */
function showRoom(room, index) {
  const shown = rows.get(room.id) ?? createRow(room.id);
  rows.set(room.id, shown);
  const texts = [
    room.type.replace("_", " "),
    amount(room.userCount),
    amount(room.sessionCount),
    room.invisibleSessionCount ? amount(room.invisibleSessionCount) : "",
    room.controller || "",
    span((Date.now() - Date.parse(room.createdAt)) / 1000),
  ];
  shown.cells.forEach((cell, i) => {
    const text = texts[i] ?? "";
    if (cell.textContent !== text) cell.textContent = text;
  });
  shown.row.classList.toggle("chosen", room.id === chosen);
  const place = table.children[index];
  if (place !== shown.row) table.insertBefore(shown.row, place ?? null);
}

/** @param {string} id */
function createRow(id) {
  const button = make("button", "open", id);
  button.type = "button";
  button.title = id;
  button.addEventListener("click", () => choose(chosen === id ? "" : id));
  const classes = ["late", "number", "number", "number late", "controller late", "number"];
  const cells = classes.map((className) => make("td", className));
  return { row: make("tr", "", make("td", "", button), ...cells), cells };
}

/** @param {string} id */
function choose(id) {
  chosen = id;
  showMembers(null);
  readRooms();
}

// --- members ------------------------------------------------------------------------------------------------------------

async function readMembers() {
  const id = chosen;
  const found = await request(`/api/rooms/${encodeURIComponent(id)}`, { withKey: true });
  if (id !== chosen) return;
  if (found.status === 404) chosen = "";
  showMembers(found.status === 200 ? JSON.parse(found.text).room : null);
}

/** @param {RoomDetails | null} room */
function showMembers(room) {
  members.hidden = !room;
  elementById("rooms-open").classList.toggle("two", Boolean(room));
  if (!room) {
    members.replaceChildren();
    return;
  }
  const close = make("button", "quiet", "Close");
  close.type = "button";
  close.addEventListener("click", () => choose(""));
  const scrolled = members.querySelector("ul")?.scrollTop ?? 0;
  const hadFocus = members.contains(document.activeElement);
  const list = make("ul", "", ...room.members.map(createMember));
  members.replaceChildren(make("div", "head", make("h2", "", room.id), make("p", "note", summaryOf(room)), close), list);
  list.scrollTop = scrolled;
  if (hadFocus) close.focus();
}

/** @param {RoomDetails} room */
function summaryOf({ userCount, sessionCount, playback }) {
  const people = `${amount(userCount)} people, ${amount(sessionCount)} sessions`;
  if (!playback) return people;
  const minutes = Math.floor(playback.currentTime / 60);
  const seconds = String(Math.floor(playback.currentTime % 60)).padStart(2, "0");
  return `${people}, video ${playback.isPlaying ? "plays" : "is paused"} at ${minutes}:${seconds}`;
}

/** @param {MemberRow} member */
function createMember(member) {
  const face = make("span", "face", [...member.name].slice(0, 1).join("").toUpperCase() || "?");
  if (/^#[0-9a-f]{6}$/i.test(member.color)) face.style.background = member.color;
  const who = make("span", "who", member.name);
  if (member.isController) who.append(make("span", "flag", "controls"));
  if (member.invisible) who.append(make("span", "flag hides", member.presenceOff ? "presence off" : "invisible"));
  if (!member.connected) who.append(make("span", "flag", "in its grace"));
  if (member.transport === "http") who.append(make("span", "flag", "over HTTP"));
  const does = [member.status, member.isTyping ? "typing" : "", member.isWatching ? "watching" : ""].filter(Boolean);
  const idle = span((Date.now() - Date.parse(member.lastActiveAt)) / 1000);
  const what = make("span", "what", `${does.join(", ")} · ${member.userId} · active ${idle} ago`);
  return make("li", "", face, who, what);
}
