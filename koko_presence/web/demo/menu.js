/** Status, privacy, network, light and dark; the users in the room and the state of the connection. */

import { setSlow } from "./network.js";
import { $, notify, setText } from "./page.js";

const SAYS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", closed: "You left" };

/** Calls `send`, and again after a refusal with a time to wait; `send` reads the newest state each time. */
function insist(send) {
  let timer;
  return async function now() {
    clearTimeout(timer);
    const { code, retryAfterMs = 500 } = await send();
    if (code === "RATE_LIMITED") timer = setTimeout(now, retryAfterMs);
  };
}

export function startMenu(presence, room, name) {
  let lost = false;
  setText($("my-name"), name);

  const status = () => document.querySelector("[name=status]:checked").value;
  const setStatus = insist(() => room.setStatus(status(), $("status-message").value));
  for (const radio of document.getElementsByName("status")) radio.addEventListener("change", setStatus);
  $("status-message").addEventListener("change", setStatus);

  const privacy = insist(() => room.setPrivacy({
    invisible: $("invisible").checked, shareCursor: $("share-cursor").checked, shareSelection: $("share-selection").checked,
  }));
  for (const id of ["invisible", "share-cursor", "share-selection"]) $(id).addEventListener("change", privacy);

  $("slow").addEventListener("change", ({ target }) => setSlow(target.checked));

  const dark = $("dark");
  dark.checked = matchMedia("(prefers-color-scheme: dark)").matches;
  dark.addEventListener("change", () => (document.documentElement.dataset.theme = dark.checked ? "dark" : "light"));

  $("leave").addEventListener("click", () => {
    if (room.status === "closed") return location.reload();
    $("menu").hidePopover();
    room.leave();
    presence.close();
  });

  function show() {
    const { status: state, error } = room.getSnapshot();
    document.body.dataset.state = state;
    setText($("connection"), state === "closed" && error ? "Closed" : SAYS[state]);
    if (state === "closed" && error) notify(error.message);
    if (lost && state === "live") notify("Back in the same session. Nobody saw you leave.");
    if (state !== "connecting") lost = state === "reconnecting";
    setText($("leave"), state === "closed" ? "Come back" : "Leave the room");
  }
  room.on("status", show);
  $("menu").addEventListener("beforetoggle", () => {
    const { rtt } = presence.clock;
    setText($("my-round-trip"), Number.isFinite(rtt) ? `${Math.max(1, Math.round(rtt))} ms to the server and back` : "");
  });
  show();
}
