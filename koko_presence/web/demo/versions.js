/** Which film the page shows: the room's, or another version that this user looks at alone. */

/** @import { Attachment, Room } from "../sdk/presence.js" */

import { GOLDEN_HOUR, GOLDEN_HOUR_GRADED, mediumOf, PROJECT } from "./films.js";
import { elementById, setText } from "./page.js";

const VERSIONS = [GOLDEN_HOUR, GOLDEN_HOUR_GRADED];

/**
 * @param {Room} room
 * @param {Attachment} attachment The page's player.
 */
export function startVersions(room, attachment) {
  const video = elementById("video", HTMLVideoElement);
  const select = elementById("version", HTMLSelectElement);
  const ofProject = PROJECT.find(({ roomId }) => roomId === room.id);
  const films = ofProject ? [...VERSIONS, ofProject] : VERSIONS;
  select.append(...VERSIONS.map(({ mediaId }, i) => new Option(`Cut ${i + 1}`, mediaId)));
  /** The film of the page. */
  let shown = GOLDEN_HOUR;
  /** The room's film when it was looked at last. */
  let roomMediaId = "";

  /** @param {typeof shown} film */
  function load(film) {
    if (shown.mediaId === film.mediaId) return;
    shown = film;
    video.src = film.src;
    attachment.setMediaId(film.mediaId);
    showState();
  }

  /** @param {string | undefined} mediaId */
  const loadById = (mediaId) => load(films.find((film) => film.mediaId === mediaId) ?? shown);
  const setForAll = () => room.setMedia({ ...mediumOf(shown), keepPosition: true });

  function followRoom() {
    const mediaId = room.getSnapshot().media?.main?.mediaId;
    if (mediaId !== undefined && mediaId !== roomMediaId) loadById(mediaId);
    roomMediaId = mediaId ?? "";
    showState();
  }

  function showState() {
    const medium = room.getSnapshot().media?.main;
    select.value = shown.mediaId;
    elementById("other").hidden = !medium || medium.mediaId === shown.mediaId;
    setText(elementById("other-text"), `You watch ${shown.title}, the others ${medium?.title ?? "another film"}`);
    elementById("show-all").hidden = !room.mayControl;
  }

  attachment.setMediaId(shown.mediaId);
  if (ofProject) loadById(ofProject.mediaId);
  select.addEventListener("change", () => loadById(select.value));
  elementById("show-all").addEventListener("click", setForAll);
  elementById("show-theirs").addEventListener("click", () => loadById(roomMediaId));
  room.on("change", followRoom);
  room.on("joined", () => {
    if (!room.getSnapshot().media && room.mayControl) setForAll(); // in real life the back end says what the room shows
  });
}
