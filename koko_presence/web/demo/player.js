/** The player: buttons and keys send commands to the room, or move only the local video if another user has control. */

import { $, setText, timecode } from "./page.js";

const video = $("video");
const seek = $("seek");
const icon = (button, name) => button.querySelector("use").setAttribute("href", name);

export function startPlayer(room) {
  let scrubbing = false;
  const together = () => room.getSnapshot().following === true && room.mayControl && room.status === "live";
  const duration = () => video.duration || undefined;

  function toggle() {
    const atEnd = video.ended || video.currentTime >= video.duration - 0.05;
    if (!together()) {
      if (atEnd) video.currentTime = 0;
      return video.paused ? video.play() : video.pause();
    }
    if (atEnd) return room.playback({ action: "sync", isPlaying: true, currentTime: 0, playbackRate: 1, duration: duration() });
    room.playback({ action: video.paused ? "play" : "pause", currentTime: video.currentTime, duration: duration() });
  }

  function go(seconds) {
    const currentTime = Math.min(Math.max(seconds, 0), video.duration || 0);
    if (together()) room.playback({ action: "seek", currentTime, duration: duration() });
    else video.currentTime = currentTime;
  }

  function show() {
    const t = scrubbing ? seek.valueAsNumber : video.currentTime;
    if (!scrubbing) seek.value = t;
    seek.style.setProperty("--played", t / (video.duration || 1));
    setText($("time"), timecode(t));
    seek.ariaValueText = `${Math.floor(t)} seconds`;
  }

  function showState() {
    const { playback, following, controller, others, status } = room.getSnapshot();
    icon($("play"), video.paused ? "#i-play" : "#i-pause");
    $("play").ariaLabel = video.paused ? "Play" : "Pause";
    $("big-play").hidden = !!playback?.isPlaying || !video.paused || !together();
    $("rate").value = String(playback?.playbackRate ?? 1);
    $("rate").disabled = !together();
    const name = (id) => others.find(({ userId }) => userId === id)?.name ?? "somebody";
    $("alone").hidden = following === true || status === "closed";
    setText($("alone-text"), following ? `Following ${name(following)}` : `Watching on your own${controller ? "" : ","}`);
    setText($("rejoin"), following ? "Stop" : "Back to the others");
    show();
  }

  const frame = () => {
    show();
    if (!video.paused) requestAnimationFrame(frame);
  };
  video.addEventListener("play", frame);
  for (const type of ["play", "pause", "ended", "loadedmetadata", "seeked", "timeupdate"]) video.addEventListener(type, showState);
  const length = () => {
    if (!video.duration) return;
    seek.max = video.duration;
    setText($("length"), ` / ${timecode(video.duration)}`);
  };
  video.addEventListener("loadedmetadata", length);
  length();

  for (const id of ["play", "big-play", "video"]) $(id).addEventListener("click", toggle);
  seek.addEventListener("input", () => {
    scrubbing = true;
    go(seek.valueAsNumber);
    show();
  });
  seek.addEventListener("change", () => (scrubbing = false));
  $("rate").addEventListener("change", ({ target }) => room.playback({ action: "rate", playbackRate: +target.value, currentTime: video.currentTime }));
  $("rejoin").addEventListener("click", () => room.follow(true));

  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea, button, [popover], koko-avatars, koko-watch") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { " ": toggle, k: toggle, ArrowLeft: () => go(video.currentTime - 1), ArrowRight: () => go(video.currentTime + 1) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  const detach = room.attach(video);
  const undo = [detach, room.on("change", showState)];
  showState();
  return { go, stop: () => undo.forEach((each) => each()) };
}
