/** The player: buttons and keys send commands to the room, or move only the local video if another user has control. */

/** @import { AttachOptions, Room } from "../sdk/presence.js" */

import { elementById, setText, timecode } from "./page.js";

const END_S = 0.05; // so near to its end the film begins anew
const KEY_STEP_S = 1;

/** Where a key belongs to the element and not to the player. */
const WITH_OWN_KEYS = "input, select, textarea, button, a, [popover], koko-avatars, koko-watch, koko-fullscreen";

/**
 * @param {Room} room
 * @param {AttachOptions} [options] For the video.
 */
export function startPlayer(room, options) {
  const video = elementById("video", HTMLVideoElement);
  const seek = elementById("seek", HTMLInputElement);
  const rate = elementById("rate", HTMLSelectElement);
  const playButton = elementById("play");
  let isScrubbing = false;

  /** Whether a command is for all. */
  const isTogether = () => room.getSnapshot().following === true && room.mayControl && room.status === "live";

  function toggle() {
    const isAtEnd = video.ended || video.currentTime >= video.duration - END_S;
    if (!isTogether()) {
      if (isAtEnd) video.currentTime = 0;
      if (video.paused) video.play();
      else video.pause();
    } else if (isAtEnd) {
      room.playback({ action: "sync", isPlaying: true, currentTime: 0, playbackRate: 1 });
    } else {
      room.playback({ action: video.paused ? "play" : "pause", currentTime: video.currentTime });
    }
  }

  /** @param {number} seconds */
  function go(seconds) {
    const currentTime = Math.min(Math.max(seconds, 0), video.duration || 0);
    if (isTogether()) room.playback({ action: "seek", currentTime });
    else video.currentTime = currentTime;
  }

  function showTime() {
    const seconds = isScrubbing ? seek.valueAsNumber : video.currentTime;
    if (!isScrubbing) seek.value = String(seconds);
    seek.style.setProperty("--played", String(seconds / (video.duration || 1)));
    setText(elementById("time"), timecode(seconds));
    seek.ariaValueText = `${Math.floor(seconds)} seconds`;
  }

  function showLength() {
    if (!video.duration) return;
    seek.max = String(video.duration);
    setText(elementById("length"), ` / ${timecode(video.duration)}`);
  }

  function showState() {
    const { playback, following, controller, others, status } = room.getSnapshot();
    playButton.querySelector("use")?.setAttribute("href", video.paused ? "#i-play" : "#i-pause");
    playButton.ariaLabel = video.paused ? "Play" : "Pause";
    elementById("big-play").hidden = Boolean(playback?.isPlaying) || !video.paused || !isTogether();
    rate.value = String(playback?.playbackRate ?? 1);
    rate.disabled = !isTogether();
    const followed = others.find(({ userId }) => userId === following)?.name ?? "another viewer";
    elementById("alone").hidden = following === true || status === "closed";
    setText(elementById("alone-text"), following ? `Following ${followed}` : `Watching on your own${controller ? "" : ","}`);
    setText(elementById("rejoin"), following ? "Stop" : "Back to the others");
    showTime();
  }

  const showFrames = () => {
    showTime();
    if (!video.paused) requestAnimationFrame(showFrames);
  };
  video.addEventListener("play", showFrames);
  for (const type of ["play", "pause", "ended", "loadedmetadata", "seeked", "timeupdate"]) video.addEventListener(type, showState);
  video.addEventListener("loadedmetadata", showLength);
  showLength();

  for (const id of ["play", "big-play", "video"]) elementById(id).addEventListener("click", toggle);
  seek.addEventListener("input", () => {
    isScrubbing = true;
    go(seek.valueAsNumber);
    showTime();
  });
  seek.addEventListener("change", () => (isScrubbing = false));
  rate.addEventListener("change", () => {
    room.playback({ action: "rate", playbackRate: Number(rate.value), currentTime: video.currentTime });
  });
  elementById("rejoin").addEventListener("click", () => room.follow(true));

  /** @type {Record<string, () => void>} */
  const keys = {
    " ": toggle,
    k: toggle,
    ArrowLeft: () => go(video.currentTime - KEY_STEP_S),
    ArrowRight: () => go(video.currentTime + KEY_STEP_S),
  };
  document.addEventListener("keydown", (event) => {
    const hasOwnKeys = event.target instanceof Element && event.target.closest(WITH_OWN_KEYS);
    if (hasOwnKeys || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]?.();
  });

  const attachment = room.attach(video, options);
  room.on("change", showState);
  showState();
  return { go, attachment };
}
