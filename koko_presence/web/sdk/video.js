/** A `<video>` in step with the room: reports where it is [H6], corrects drift [H8], never fights the person's hand. */

import { positionOf } from "./media.js";

const IGNORE_S = 0.08; // less is not corrected ...
const DONE_S = 0.02; // ... but what is being corrected goes on until here, else it would flutter
const FAST_S = 1; // more is corrected by 10 % instead of 5 %
const SEEK_S = 2; // more is jumped over
const STEP_S = 0.25; // a new command is jumped to if it is farther than this
const FRAME_S = 0.03; // a paused picture is the right one within this
const SETTLE_MS = 3000; // after a jump nothing is corrected
const TICK_MS = 250;
const REPORT_MS = 1000;
const REPORT_PAUSED_MS = 5000; // a report is good for 10 s

/** What to do about `drift` seconds (own minus room, behind is negative): "seek", or a factor for the speed [H8]. */
export function correction(drift, correcting) {
  const off = Math.abs(drift);
  if (off > SEEK_S) return "seek";
  if (off < (correcting ? DONE_S : IGNORE_S)) return 1;
  return 1 - Math.sign(drift) * (off > FAST_S ? 0.1 : 0.05);
}

export function attachVideo(video, { room, follow, playback, emit, options: { correct = true, whenNotAllowed } }) {
  const { document } = globalThis;
  const { clock } = room;
  let seekS = 0.05; // how long a seek takes here, measured
  let seekAt = 0; // local ms at which our own seek began, 0: none is under way
  let aim; // where to
  let settleAt = 0;
  let correcting = false;
  let buffering = false;
  let blocked = false; // the browser wants a click first
  let last; // the goal at the last tick
  let reportAt = 0;
  let paused = video.paused; // as it should be, by us or by the last hand

  const follows = () => room.getSnapshot().following;
  const jump = (to, rate) => {
    seekAt = performance.now();
    settleAt = seekAt + SETTLE_MS;
    correcting = false;
    video.currentTime = aim = to + seekS * rate;
  };
  const setSpeed = (rate) => {
    if (Math.abs(video.playbackRate - rate) > 1e-4) video.playbackRate = rate;
  };

  function report(changed) {
    const now = performance.now();
    if (!changed && now < reportAt) return;
    const isPlaying = !video.paused && !video.ended;
    reportAt = now + (isPlaying ? REPORT_MS : REPORT_PAUSED_MS) - TICK_MS / 2;
    const { currentTime, playbackRate } = video;
    playback({ action: "report", isPlaying, currentTime, playbackRate, buffering, follow: follows() === true });
    follow.lead({ isPlaying: isPlaying && !buffering, currentTime, playbackRate, anchor: clock.now() });
  }

  async function play() {
    try {
      await video.play();
    } catch (error) {
      if (error?.name !== "NotAllowedError") return; // else: a pause came in between
      blocked = true;
      emit("autoplay_blocked", { video });
    }
  }

  /** Bring the video to where its goal is. */
  function steer() {
    const goal = follow.goal();
    const news = goal !== last;
    last = goal;
    if (!goal || !correct) return;
    const { isPlaying, playbackRate } = goal;
    const to = positionOf({ ...goal, duration: Math.min(goal.duration ?? Infinity, video.duration || Infinity) }, clock.now());
    const drift = video.currentTime - to;
    if (!isPlaying) {
      paused = true;
      if (!video.paused) video.pause();
      setSpeed(playbackRate);
      if (Math.abs(drift) > FRAME_S && !seekAt) jump(to, 0);
      return;
    }
    if (blocked) return;
    if (video.paused && !(video.ended && drift > -STEP_S)) {
      paused = false;
      play();
    }
    if (buffering || video.seeking || document?.hidden) return;
    if (news && Math.abs(drift) > STEP_S) return jump(to, playbackRate);
    if (performance.now() < settleAt) return setSpeed(playbackRate);
    const how = correction(drift, correcting);
    if (how === "seek") return jump(to, playbackRate);
    correcting = how !== 1;
    setSpeed(playbackRate * how);
  }

  /** The person did something to the player itself: it becomes a command, or the end of following. */
  function byHand(command) {
    settleAt = 0;
    if (follows() === true && room.mayControl) {
      playback({ currentTime: video.currentTime, ...command });
      last = follow.goal();
    } else if (follows() === true && whenNotAllowed === "snap") {
      last = null;
      steer();
    } else {
      follow.touch();
    }
  }

  const listeners = {
    play() {
      if (blocked) last = settleAt = 0; // the click that was wanted: on, from where the others are
      blocked = false;
      if (paused) byHand({ action: "play" });
      paused = false;
      report(true);
    },
    pause() {
      // the browser itself pauses at the end, and what nobody sees
      if (!paused && !video.ended && !document?.hidden) {
        paused = true;
        byHand({ action: "pause" });
      }
      report(true);
    },
    seeking() {
      if (!seekAt || Math.abs(video.currentTime - aim) > STEP_S) byHand({ action: "seek" });
    },
    seeked() {
      if (seekAt) seekS = Math.min(1, (seekS + (performance.now() - seekAt) / 1000) / 2);
      seekAt = 0;
      report(true);
    },
    ratechange() {
      const rate = follow.goal()?.playbackRate;
      const { playbackRate } = video;
      if (rate && Math.abs(playbackRate / rate - 1) > 0.11) byHand({ action: "rate", playbackRate });
    },
    waiting() {
      buffering = true;
      report(true);
    },
    playing() {
      buffering = false;
      report(true);
    },
  };
  const tick = () => {
    steer();
    report();
  };
  const life = new AbortController();
  for (const type in listeners) video.addEventListener(type, listeners[type], { signal: life.signal });
  const undo = room.on("change", () => follow.goal() !== last && tick());
  const timer = setInterval(tick, TICK_MS);
  tick();
  return () => {
    clearInterval(timer);
    undo();
    life.abort();
    if (correcting) setSpeed(last?.playbackRate ?? 1);
  };
}
