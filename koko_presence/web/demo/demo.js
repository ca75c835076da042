/** The demo: a page that uses the public interface of the SDK and the UI kit. `/demo?user=ID&name=NAME&room=ROOM`. */

import { createPresence } from "../sdk/presence.js";
import "../sdk/ui.js";
import { startComments } from "./comments.js";
import { startMenu } from "./menu.js";
import { LateSocket } from "./network.js";
import { $, notify, setText } from "./page.js";
import { startPlayer } from "./player.js";
import { startSelection } from "./selection.js";

const NAMES = ["Ada Lindqvist", "Bruno Reyes", "Chidi Okafor", "Dana Kovac", "Elif Demir", "Farah Haddad", "Goro Tanaka",
  "Hana Novak", "Ines Duarte", "Jonas Weber", "Kira Petrov", "Lior Katz", "Maya Rao", "Nils Berg", "Olu Adeyemi"];

/** A user with a generated name. */
function someone() {
  const [chance] = crypto.getRandomValues(new Uint32Array(1));
  return { user: `guest-${chance.toString(36)}`, name: NAMES[chance % NAMES.length] };
}

const asked = new URLSearchParams(location.search);
const made = JSON.parse(sessionStorage.getItem("me")) ?? someone();
sessionStorage.setItem("me", JSON.stringify(made)); // a reload keeps the user
const user = asked.get("user") || made.user;
const name = asked.get("name") || asked.get("user") || made.name;
const roomId = asked.get("room") || "video_demo";
setText($("room"), roomId);

async function auth() {
  const answer = await fetch(`/dev/token?${new URLSearchParams({ user, name })}`);
  if (!answer.ok) throw new Error(`No token: ${answer.status}`);
  return (await answer.json()).token;
}

const presence = createPresence({ url: "/presence", auth, worker: "/sdk/timer.js", WebSocket: LateSocket });
const room = presence.enter(roomId, { type: "video" });

const narrow = matchMedia("(max-width: 620px)");
const fit = () => $("avatars").setAttribute("max", narrow.matches ? 2 : 4);
narrow.addEventListener("change", fit);
fit();
for (const id of ["avatars", "cursors", "marks", "typing", "watch"]) $(id).room = room;
startMenu(presence, room, name);
const player = startPlayer(room);
const selection = startSelection(room);
startComments(room, { go: player.go, selection });

room.on("error", ({ code, message }) => code !== "OFFLINE" && code !== "RATE_LIMITED" && notify(message));
room.on("autoplay_blocked", () => notify("Your browser wants a click before it plays."));
room.on("user_joined", ({ data }) => data.sessionCount === 1 && notify(`${data.name} joined`));
room.on("follow", ({ following, reason }) => {
  if (reason === "left" && !following) notify("The person you followed has left.");
});
$("avatars").addEventListener("koko-person", async ({ detail: person }) => {
  if (person.userId === room.self?.userId) return;
  if (await room.follow(person.userId)) notify(`You follow ${person.name}. Touch the player to stop.`);
  else notify(`${person.name} follows you already.`);
});

$("invite").addEventListener("click", () => {
  const second = someone();
  const query = new URLSearchParams({ ...second, room: roomId });
  open(`/demo?${query}`, "_blank", "popup,width=1180,height=860");
});
