/** A `<video>` in step with the room: reports where it is [H6], corrects drift [H8], never fights the person's hand. */

import { positionOf } from "./store.js";
import { localNow } from "./timing.js";

export const DRIFT = { ignore: 0.08, seek: 2, settle: 3000, done: 0.02, step: 0.25, frame: 0.03 };
const TICK_MS = 250;

/**
 * What to do about `drift` seconds (own minus room; behind is negative): "seek", or a factor for the speed. `correcting`
 * says that the speed is being corrected already: then it goes on until the drift is gone, else it would flutter at 80 ms.
 */
export function correction(drift, correcting) {
  const off = Math.abs(drift);
  if (off > DRIFT.seek) return "seek";
  if (off < (correcting ? DRIFT.done : DRIFT.ignore)) return 1;
  return 1 - Math.sign(drift) * (off > 1 ? 0.1 : 0.05);
}

export function attachVideo(video, { room, store, follow, say, tell, options }) {
  const { document } = globalThis;
  const { clock } = room;
  let seekS = 0.05; // how long a seek takes here, measured
  let seekAt; // local ms at which our own seek began
  let settleUntil = 0;
  let correcting = false;
  let buffering = false;
  let blocked = false; // the browser wants a click first
  let last; // the goal as it was at the last tick
  let toldAt = 0;
  let ours = 0; // own play() calls that are not settled yet

  const position = () => video.currentTime;
  const jump = (to, moving, rate) => {
    seekAt = localNow();
    settleUntil = seekAt + DRIFT.settle;
    correcting = false;
    video.currentTime = Math.max(0, to + (moving ? seekS * rate : 0));
  };
  const speed = (rate) => {
    if (Math.abs(video.playbackRate - rate) > 1e-4) video.playbackRate = rate;
  };

  function report(changed) {
    const playing = !video.paused && !video.ended;
    const now = localNow();
    if (!changed && now - toldAt < (playing ? 1000 : 5000)) return; // a report is good for 10 s
    toldAt = now;
    const state = { isPlaying: playing, currentTime: position(), playbackRate: video.playbackRate };
    say({ ...state, buffering, follow: store.get().following === true });
    follow.lead({ ...state, anchor: clock.now(), playbackRate: video.defaultPlaybackRate || 1 });
  }

  async function play() {
    if (blocked) return;
    ours++;
    try {
      await video.play();
    } catch (error) {
      if (error?.name === "NotAllowedError") {
        blocked = true;
        tell("autoplay_blocked", { video });
      }
    }
    ours--;
  }

  /** Bring the video to its goal. */
  function steer() {
    const goal = follow.goal();
    const news = goal !== last;
    last = goal;
    if (!goal || options.correct === false) return;
    const { isPlaying, playbackRate } = goal;
    if (isPlaying === video.paused && !video.ended) {
      if (isPlaying) play();
      else video.pause();
    }
    const to = positionOf({ ...goal, duration: Math.min(goal.duration ?? Infinity, video.duration || Infinity) }, clock.now());
    const drift = position() - to;
    if (!isPlaying) {
      speed(playbackRate);
      if (Math.abs(drift) > DRIFT.frame && seekAt === undefined) jump(to, false);
      return;
    }
    if (buffering || video.seeking || document?.hidden) return;
    if (news && Math.abs(drift) > DRIFT.step) return jump(to, true, playbackRate);
    if (localNow() < settleUntil) return speed(playbackRate);
    const what = correction(drift, correcting);
    if (what === "seek") return jump(to, true, playbackRate);
    correcting = what !== 1;
    speed(playbackRate * what);
  }

  /** The person did something to the player itself. */
  function byHand(command) {
    const following = store.get().following;
    if (following === true && room.mayControl) {
      room.playback({ at: clock.now(), currentTime: position(), ...command });
      last = follow.goal();
    } else if (following === true && options.whenNotAllowed === "snap") {
      last = undefined;
      settleUntil = 0;
    } else {
      follow.touch();
    }
  }

  const on = {
    play() {
      blocked = false;
      if (!ours && follow.goal()?.isPlaying !== true) byHand({ action: "play" });
      report(true);
    },
    pause() {
      // the browser itself pauses at the end, and what nobody sees
      if (follow.goal()?.isPlaying && !video.ended && !document?.hidden) byHand({ action: "pause" });
      report(true);
    },
    seeking() {
      if (seekAt === undefined) byHand({ action: "seek" });
    },
    seeked() {
      if (seekAt !== undefined) seekS = Math.min(1, seekS * 0.5 + ((localNow() - seekAt) / 1000) * 0.5);
      seekAt = undefined;
      report(true);
    },
    ratechange() {
      const rate = follow.goal()?.playbackRate;
      if (rate && Math.abs(video.playbackRate / rate - 1) > 0.101) byHand({ action: "rate", playbackRate: video.playbackRate });
    },
    waiting() {
      buffering = true;
      report(true);
    },
    playing() {
      buffering = false;
      report(true);
    },
    loadedmetadata: () => tick(),
  };

  function tick() {
    steer();
    report(false);
  }

  const undo = Object.entries(on).map(([type, listener]) => {
    video.addEventListener(type, listener);
    return () => video.removeEventListener(type, listener);
  });
  undo.push(room.on("change", () => follow.goal() !== last && tick()));
  const timer = setInterval(tick, TICK_MS);
  tick();
  return () => {
    clearInterval(timer);
    for (const each of undo) each();
    say({ isPlaying: false, currentTime: position(), playbackRate: 1, follow: false });
  };
}
