/** Status, privacy, network, light and dark. */

/** @import { Answer, Presence, Room, Status } from "../sdk/presence.js" */

import { setSlow } from "./network.js";
import { elementById, elementIn, setText } from "./page.js";

const RETRY_MS = 500;

/**
 * Calls `send`, and again after a refusal with a time to wait; `send` reads the newest state each time.
 * @param {() => Promise<Answer>} send
 */
function untilAccepted(send) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return async function sendNow() {
    clearTimeout(timer);
    const answer = await send();
    if (!answer.success && answer.code === "RATE_LIMITED") timer = setTimeout(sendNow, answer.retryAfterMs ?? RETRY_MS);
  };
}

/**
 * @param {Presence} presence
 * @param {Room} room
 * @param {string} name The user's.
 */
export function startMenu(presence, room, name) {
  const statusMessage = elementById("status-message", HTMLInputElement);
  const isChecked = (/** @type {string} */ id) => elementById(id, HTMLInputElement).checked;
  setText(elementById("my-name"), name);

  const setStatus = untilAccepted(() => {
    const chosen = /** @type {HTMLInputElement} */ (elementIn(document, "[name=status]:checked"));
    return room.setStatus(/** @type {Status} */ (chosen.value), statusMessage.value);
  });
  for (const radio of document.getElementsByName("status")) radio.addEventListener("change", setStatus);
  statusMessage.addEventListener("change", setStatus);

  const setPrivacy = untilAccepted(() => room.setPrivacy({
    invisible: isChecked("invisible"), shareCursor: isChecked("share-cursor"), shareSelection: isChecked("share-selection"),
  }));
  for (const id of ["invisible", "share-cursor", "share-selection"]) elementById(id).addEventListener("change", setPrivacy);

  elementById("slow").addEventListener("change", () => setSlow(isChecked("slow")));

  const dark = elementById("dark", HTMLInputElement);
  dark.checked = matchMedia("(prefers-color-scheme: dark)").matches;
  dark.addEventListener("change", () => (document.documentElement.dataset.theme = dark.checked ? "dark" : "light"));

  elementById("leave").addEventListener("click", () => {
    if (room.status === "closed") return location.reload();
    elementById("menu").hidePopover();
    room.leave();
    presence.close();
  });

  const showStatus = () => setText(elementById("leave"), room.status === "closed" ? "Come back" : "Leave the room");
  room.on("status", showStatus);
  elementById("menu").addEventListener("beforetoggle", () => {
    const { rtt } = presence.clock;
    const text = Number.isFinite(rtt) ? `${Math.max(1, Math.round(rtt))} ms to the server and back` : "";
    setText(elementById("my-round-trip"), text);
  });
  showStatus();
}
