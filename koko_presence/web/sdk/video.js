/**
 * A `<video>` in step with the room: reports its position [H6], corrects drift [H8], obeys the user's actions. media.js
 * attaches it.
 */

/**
 * @import { Follow } from "./follow.js"
 * @import { MediaContext } from "./media-context.js"
 * @import { Timeline } from "./playback-position.js"
 * @import { Answer, AttachOptions, PlaybackCommand, PlaybackReport, Room, Undo } from "./types.js"
 */

import { positionOf } from "./playback-position.js";

const IGNORE_S = 0.08; // less is not corrected ...
const DONE_S = 0.02; // ... but a correction continues until here, else it would oscillate
const FAST_S = 1; // more is corrected by 10 % instead of 5 %
const SEEK_S = 2; // more is corrected by a seek
const STEP_S = 0.25; // a new command causes a seek if it is farther away than this
const FRAME_S = 0.03; // tolerance of a paused picture
const SETTLE_MS = 3000; // no correction after a seek
const TICK_MS = 250;
const REPORT_MS = 1000;
const REPORT_PAUSED_MS = 5000; // a report is valid for 10 s

/**
 * Correction for `drift` seconds (own minus room, behind is negative): "seek", or a factor for the speed [H8].
 * @param {number} drift
 * @param {boolean} correcting Whether a correction is under way.
 * @returns {number | "seek"}
 */
export function correction(drift, correcting) {
  const off = Math.abs(drift);
  if (off > SEEK_S) return "seek";
  if (off < (correcting ? DONE_S : IGNORE_S)) return 1;
  return 1 - Math.sign(drift) * (off > FAST_S ? 0.1 : 0.05);
}

/**
 * @param {HTMLVideoElement} video
 * @param {object} context
 * @param {Room} context.room
 * @param {Follow} context.follow
 * @param {(command: PlaybackCommand | PlaybackReport) => Promise<Answer<any>> | undefined} context.playback
 * @param {MediaContext["emit"]} context.emit
 * @param {AttachOptions} context.options
 * @returns {Undo}
 */
export function attachVideo(video, { room, follow, playback, emit, options: { correct = true, whenNotAllowed } }) {
  const { document } = globalThis;
  const { clock } = room;
  let seekS = 0.05; // how long a seek takes here, measured
  let seekAt = 0; // local ms at which the own seek began; 0: none is pending
  let aim = 0; // target of that seek, s
  let settleAt = 0;
  let correcting = false;
  let buffering = false;
  let blocked = false; // the browser requires a click before it plays
  /** @type {Timeline | null | false | undefined} */
  let last; // the target at the last tick
  let reportAt = 0;
  let paused = video.paused; // intended state, set by this code or by the user's last action

  const follows = () => room.getSnapshot().following;
  /**
   * @param {number} to
   * @param {number} rate Of the target: it moves on while the video seeks.
   */
  const jump = (to, rate) => {
    seekAt = performance.now();
    settleAt = seekAt + SETTLE_MS;
    correcting = false;
    video.currentTime = aim = to + seekS * rate;
  };
  /** @param {number} rate */
  const setSpeed = (rate) => {
    if (Math.abs(video.playbackRate - rate) > 1e-4) video.playbackRate = rate;
  };

  /** @param {boolean} [changed] */
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
      if (/** @type {Error} */ (error)?.name !== "NotAllowedError") return; // else: a pause came in between
      blocked = true;
      emit("autoplay_blocked", { video });
    }
  }

  /** Move the video to its target. */
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

  /**
   * The user acted on the player itself: send it as a command, or stop following.
   * @param {{ action: "play" | "pause" | "seek" } | { action: "rate", playbackRate: number }} command
   */
  function byHand(command) {
    settleAt = 0;
    if (follows() === true && room.mayControl) {
      playback(/** @type {PlaybackCommand} */ ({ currentTime: video.currentTime, ...command }));
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
      if (blocked) { // the required click: continue at the room's position
        last = undefined;
        settleAt = 0;
      }
      blocked = false;
      if (paused) byHand({ action: "play" });
      paused = false;
      report(true);
    },
    pause() {
      // the browser itself pauses at the end, and while the video is not visible
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
      const rate = (follow.goal() || undefined)?.playbackRate;
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
  for (const [type, listener] of Object.entries(listeners)) video.addEventListener(type, listener, { signal: life.signal });
  const undo = room.on("change", () => follow.goal() !== last && tick());
  const timer = setInterval(tick, TICK_MS);
  tick();
  return () => {
    clearInterval(timer);
    undo();
    life.abort();
    if (correcting) setSpeed((last || undefined)?.playbackRate ?? 1);
  };
}
