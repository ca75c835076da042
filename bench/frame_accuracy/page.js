/** The page of a viewer: films of clips.py attached to a room, and what they display. viewers.py calls `viewer`. */

import { createPresence } from "/sdk/presence.js";

import { numberOf } from "./numbers.js";
import { slowDown } from "./slow_element.js";

const wallNow = () => performance.timeOrigin + performance.now(); // the same clock in all pages, ms
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const STATES = ["play", "pause", "waiting", "playing", "seeking", "seeked"];
const EVENTS = ["error", "follow", "autoplay_blocked"];

const viewer = {
  /** @type {{ type: string, at: number, code?: string, message?: string, reason?: string }[]} */
  events: [],
  films: [], // {video, rate, shown, log, states}
  /** @type {{ resumed: boolean, awayMs: number }[]} */
  returns: [],

  /**
   * Enters the room; `films` are `{clip, rate, startMs, seekMs, options}`, `rate` in frames/s. `token` may be the path of
   * this site at which tokens are issued.
   */
  async enter({ url, token, roomId, films }) {
    const auth = token.startsWith("/") ? async () => (await fetch(token)).text() : () => token;
    viewer.presence = createPresence({ url, auth });
    const room = viewer.room = viewer.presence.enter(roomId);
    room.on("returned", ({ resumed, awayMs }) => viewer.returns.push({ resumed, awayMs }));
    for (const type of EVENTS) {
      room.on(type, ({ code, message, reason }) => viewer.events.push({ type, at: wallNow(), code, message, reason }));
    }
    for (const film of films) await viewer.add(film);
    if (!(await room.ready())) throw new Error(`The room is closed: ${room.getSnapshot().error?.message}`);
  },

  async add({ clip, rate, startMs, seekMs, options }) {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true });
    const data = await (await fetch(clip)).blob(); // all data are here, so that no seek waits for the network
    video.src = URL.createObjectURL(data);
    document.getElementById("films").append(video);
    if (!video.readyState) await new Promise((done) => video.addEventListener("loadeddata", done, { once: true }));
    if (startMs || seekMs) slowDown(video, { startMs, seekMs });
    const film = { video, rate, shown: null, log: [], states: [] };
    for (const type of STATES) video.addEventListener(type, () => film.states.push([wallNow(), type]));
    video.requestVideoFrameCallback(function next(now, { mediaTime, expectedDisplayTime, presentedFrames }) {
      const frame = numberOf(video);
      film.shown = { mediaTime, presentedFrames, frame };
      film.log.push([performance.timeOrigin + expectedDisplayTime, Math.round(mediaTime * rate), frame, presentedFrames]);
      video.requestVideoFrameCallback(next);
    });
    viewer.films.push(film);
    film.detach = viewer.room.attach(video, options);
  },

  /** What is displayed now. */
  shown(index = 0) {
    const { video, shown } = viewer.films[index];
    const { currentTime, paused, seeking, readyState, playbackRate } = video;
    const { playback, status } = viewer.room.getSnapshot();
    return {
      at: wallNow(), frame: numberOf(video), reported: shown, currentTime, paused, seeking, readyState, playbackRate,
      position: viewer.room.position(), playback, status,
    };
  },

  /** What is displayed at a wall time in ms, or as soon after it as this page can. */
  async shownAt(wallMs, index = 0) {
    await sleep(Math.max(0, wallMs - wallNow()));
    return viewer.shown(index);
  },

  /** Does what a person does at the player; returns when, and which frame was displayed then. */
  act({ kind, to, frames, command }, index = 0) {
    const { video } = viewer.films[index];
    const at = wallNow();
    const frame = numberOf(video);
    if (kind === "play") video.play().catch(() => {});
    else if (kind === "pause") video.pause();
    else if (kind === "seek") video.currentTime = to;
    else if (kind === "step") viewer.room.playback({ action: "step", frames });
    else viewer.room.playback(command);
    return { at, frame };
  },

  /**
   * What each film has displayed since the last call: `frames`, each [wall ms, frame by its media time, frame by its picture,
   * count], and `states`, each [wall ms, event of the element].
   */
  takeRecord() {
    return viewer.films.map((film) => {
      const { log, states, video: { paused } } = film;
      film.log = [];
      film.states = [];
      return { frames: log, states, paused, at: wallNow() };
    });
  },
  takeEvents() {
    return viewer.events.splice(0);
  },

  /** Who others see, and what the SDK has said of returns since the last call. */
  takeIdentity() {
    const { status, self } = viewer.room.getSnapshot();
    const { sessionId, color } = self ?? {};
    return { isLive: status === "live", sessionId, color, returns: viewer.returns.splice(0) };
  },

  /** As if the page was hidden behind another tab: what scripts see of it. */
  hide(hidden) {
    for (const [name, value] of [["hidden", hidden], ["visibilityState", hidden ? "hidden" : "visible"]]) {
      Object.defineProperty(document, name, { value, configurable: true });
    }
    document.dispatchEvent(new Event("visibilitychange"));
  },

  setMedia(change) {
    return viewer.room.setMedia(change);
  },

  /** The number on a screenshot of a film. */
  async numberOfPng(base64) {
    const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
    return numberOf(await createImageBitmap(new Blob([bytes], { type: "image/png" })));
  },

  now: wallNow,
};

globalThis.viewer = viewer;
