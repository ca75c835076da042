/** The user of this tab, the room of the page, and the bar at the top: common to all pages of the demo. */

/** @import { Presence, Room, RoomType } from "../sdk/presence.js" */

import { createPresence } from "../sdk/presence.js";
import { KokoAvatars, KokoElement } from "../sdk/ui.js";
import { LateSocket } from "./network.js";
import { elementById, notify, setText } from "./page.js";

const NAMES = ["Ada Lindqvist", "Bruno Reyes", "Chidi Okafor", "Dana Kovac", "Elif Demir", "Farah Haddad", "Goro Tanaka",
  "Hana Novak", "Ines Duarte", "Jonas Weber", "Kira Petrov", "Lior Katz", "Maya Rao", "Nils Berg", "Olu Adeyemi"];

/** The state of the connection as a word. */
const STATUS_WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", lost: "Reconnecting", closed: "You left" };

/** A user with a generated name. */
function makeUser() {
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
  return { user: `guest-${random.toString(36)}`, name: NAMES[random % NAMES.length] ?? "Guest" };
}

/**
 * The generated user of this tab; a reload keeps it.
 * @returns {ReturnType<typeof makeUser>}
 */
function userOfTab() {
  const made = JSON.parse(sessionStorage.getItem("me") ?? "null") ?? makeUser();
  sessionStorage.setItem("me", JSON.stringify(made));
  return made;
}

/** The page's own, after the `?`. */
export const parameters = new URLSearchParams(location.search);

/**
 * Connects as the user of this tab and enters the room that the address names.
 * @param {RoomType} type
 * @param {string} defaultRoomId
 * @returns {{ presence: Presence, room: Room, name: string }}
 */
export function enterRoom(type, defaultRoomId) {
  const made = userOfTab();
  const user = parameters.get("user") || made.user;
  const name = parameters.get("name") || parameters.get("user") || made.name;
  const roomId = parameters.get("room") || defaultRoomId;
  const presence = createPresence({
    url: "/presence",
    auth: async () => {
      const answer = await fetch(`/dev/token?${new URLSearchParams({ user, name })}`);
      if (!answer.ok) throw new Error(`No token: ${answer.status}`);
      return (await answer.json()).token;
    },
    worker: "/sdk/timer.js",
    WebSocket: LateSocket,
  });
  const room = presence.enter(roomId, { type });
  setText(elementById("room"), roomId);
  startBar(room);
  showConnection(room);
  return { presence, room, name };
}

/**
 * The address of another page of the demo, for the same user.
 * @param {string} path
 * @param {Record<string, string>} [query]
 */
export function addressOf(path, query = {}) {
  const url = new URL(path, location.href);
  for (const key of ["user", "name"]) if (parameters.has(key)) url.searchParams.set(key, parameters.get(key) ?? "");
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
  return url.pathname + url.search;
}

/**
 * Gives the components of the page with these ids the room.
 * @param {Room} room
 * @param {readonly string[]} ids
 */
export function show(room, ids) {
  for (const id of ids) elementById(id, KokoElement).room = room;
}

/** @param {Room} room */
function startBar(room) {
  const avatars = elementById("avatars", KokoAvatars);
  const narrow = matchMedia("(max-width: 620px)");
  const fitAvatars = () => avatars.setAttribute("max", narrow.matches ? "2" : "4");
  narrow.addEventListener("change", fitAvatars);
  fitAvatars();
  avatars.room = room;
  for (const link of document.querySelectorAll("nav a")) link.setAttribute("href", addressOf(link.getAttribute("href") ?? ""));
  elementById("invite").addEventListener("click", () => {
    const query = new URLSearchParams(parameters);
    for (const [key, value] of Object.entries({ ...makeUser(), room: room.id })) query.set(key, value);
    open(`${location.pathname}?${query}`, "_blank", "popup,width=1180,height=860");
  });
  room.on("user_joined", ({ data }) => {
    if (data.sessionCount === 1) notify(`${data.name} joined`);
  });
  room.on("error", ({ code, message }) => {
    if (code !== "OFFLINE" && code !== "RATE_LIMITED") notify(message);
  });
}

/** @param {Room} room */
function showConnection(room) {
  function showStatus() {
    const { status, error } = room.getSnapshot();
    document.body.dataset.state = status;
    setText(elementById("connection"), status === "closed" && error ? "Closed" : STATUS_WORDS[status]);
    if (status === "closed" && error) notify(error.message);
  }
  room.on("status", showStatus);
  room.on("returned", ({ resumed, awayMs }) => {
    const away = `You were away for ${Math.ceil(awayMs / 1000)} s.`;
    notify(resumed ? "Back in the same session. Nobody saw you leave." : `Back in a new session: the others saw you leave. ${away}`);
  });
  showStatus();
}
