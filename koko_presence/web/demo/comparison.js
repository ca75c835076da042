/** Two films, one playhead: a room of the type `comparison`, with a cursor layer over each film. */

import { GOLDEN_HOUR, GOLDEN_HOUR_GRADED, mediumOf, TITLE_S } from "./films.js";
import { elementById, setText } from "./page.js";
import { startPlayer } from "./player.js";
import { enterRoom, show } from "./visitor.js";

const RIGHT = "right"; // the other target is "main"

const { room } = enterRoom("comparison", "comparison_demo");
show(room, ["cursors", "cursors-right", "marks", "watch"]);

startPlayer(room, { mediaId: GOLDEN_HOUR.mediaId });
room.attach(elementById("right", HTMLVideoElement), { target: RIGHT, mediaId: GOLDEN_HOUR_GRADED.mediaId });
elementById("right").addEventListener("click", () => elementById("video").click());

room.on("joined", async () => {
  if (room.getSnapshot().media || !room.mayControl) return; // in real life the back end says what the room shows
  await room.setMedia({ ...mediumOf(GOLDEN_HOUR), keepPosition: true });
  await room.setMedia({ ...mediumOf(GOLDEN_HOUR_GRADED), target: RIGHT, offset: TITLE_S, keepPosition: true });
});

room.on("change", ({ media }) => {
  setText(elementById("title-left"), media?.main?.title ?? GOLDEN_HOUR.title);
  setText(elementById("title-right"), media?.[RIGHT]?.title ?? GOLDEN_HOUR_GRADED.title);
  const offset = media?.[RIGHT]?.offset;
  setText(elementById("offset"), offset === undefined ? "" : `Right = left + ${offset} s`);
});
