/** The demo: a page that uses the public interface of the SDK and the UI kit. `/demo?user=ID&name=NAME&room=ROOM`. */

import { startComments } from "./comments.js";
import { startMenu } from "./menu.js";
import { elementById, notify } from "./page.js";
import { startPlayer } from "./player.js";
import { startSelection } from "./selection.js";
import { startVersions } from "./versions.js";
import { enterRoom, parameters, show } from "./visitor.js";

const { presence, room, name } = enterRoom("video", "video_demo");
show(room, ["cursors", "marks", "typing", "watch"]);
startMenu(presence, room, name);
const { go, attachment } = startPlayer(room);
startVersions(room, attachment);
const selection = startSelection(room);
startComments(room, { go, selection });

room.on("autoplay_blocked", () => notify("Your browser wants a click before it plays."));
room.on("follow", ({ following, reason }) => {
  if (reason === "left" && !following) notify("The person you followed has left.");
});
elementById("avatars").addEventListener("koko-person", async ({ detail: person }) => {
  if (person.userId === room.self?.userId) return;
  if (await room.follow(person.userId)) notify(`You follow ${person.name}. Touch the player to stop.`);
  else notify(`${person.name} follows you already.`);
});

// opened from a project: its page shows that this user has this film open
const projectId = parameters.get("project");
if (projectId) presence.enter(projectId, { type: "project" }).updateSelection({ startTime: 0, endTime: 0, target: room.id });
