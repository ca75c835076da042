/** The demo: a page that uses the public interface of the SDK and the UI kit. `/demo?user=ID&name=NAME&room=ROOM`. */

import { createPresence } from "../sdk/presence.js";
import { KokoAvatars, KokoElement } from "../sdk/ui.js";
import { startComments } from "./comments.js";
import { startMenu } from "./menu.js";
import { LateSocket } from "./network.js";
import { elementById, notify, setText } from "./page.js";
import { startPlayer } from "./player.js";
import { startSelection } from "./selection.js";

const NAMES = ["Ada Lindqvist", "Bruno Reyes", "Chidi Okafor", "Dana Kovac", "Elif Demir", "Farah Haddad", "Goro Tanaka",
  "Hana Novak", "Ines Duarte", "Jonas Weber", "Kira Petrov", "Lior Katz", "Maya Rao", "Nils Berg", "Olu Adeyemi"];

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

const parameters = new URLSearchParams(location.search);
const made = userOfTab();
const user = parameters.get("user") || made.user;
const name = parameters.get("name") || parameters.get("user") || made.name;
const roomId = parameters.get("room") || "video_demo";
setText(elementById("room"), roomId);

async function auth() {
  const answer = await fetch(`/dev/token?${new URLSearchParams({ user, name })}`);
  if (!answer.ok) throw new Error(`No token: ${answer.status}`);
  return (await answer.json()).token;
}

const presence = createPresence({ url: "/presence", auth, worker: "/sdk/timer.js", WebSocket: LateSocket });
const room = presence.enter(roomId, { type: "video" });

const avatars = elementById("avatars", KokoAvatars);
const narrow = matchMedia("(max-width: 620px)");
const fitAvatars = () => avatars.setAttribute("max", narrow.matches ? "2" : "4");
narrow.addEventListener("change", fitAvatars);
fitAvatars();
for (const id of ["avatars", "cursors", "marks", "typing", "watch"]) elementById(id, KokoElement).room = room;
startMenu(presence, room, name);
const player = startPlayer(room);
const selection = startSelection(room);
startComments(room, { go: player.go, selection });

room.on("error", ({ code, message }) => {
  if (code !== "OFFLINE" && code !== "RATE_LIMITED") notify(message);
});
room.on("autoplay_blocked", () => notify("Your browser wants a click before it plays."));
room.on("user_joined", ({ data }) => {
  if (data.sessionCount === 1) notify(`${data.name} joined`);
});
room.on("follow", ({ following, reason }) => {
  if (reason === "left" && !following) notify("The person you followed has left.");
});
avatars.addEventListener("koko-person", async ({ detail: person }) => {
  if (person.userId === room.self?.userId) return;
  if (await room.follow(person.userId)) notify(`You follow ${person.name}. Touch the player to stop.`);
  else notify(`${person.name} follows you already.`);
});

elementById("invite").addEventListener("click", () => {
  const query = new URLSearchParams({ ...makeUser(), room: roomId });
  open(`/demo?${query}`, "_blank", "popup,width=1180,height=860");
});
