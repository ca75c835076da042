/**
 * The room's playback as this client knows it: the state that the server has confirmed, and the commands under way, which are shown
 * at once. A command that is refused for whatever reason is taken out again, so that nothing of it stays [H1, H2, H16].
 */

/**
 * @import { MediaContext } from "./media-context.js"
 * @import { RoomMessage } from "./messages.js"
 * @import { SendSlot } from "./send-slot.js"
 * @import { Answer, ErrorCode, Playback, PlaybackCommand } from "./types.js"
 */

import { problemOf } from "./command-check.js";
import { frameAt, middleOfFrame, middleOfFrameAt, parseFrameRate } from "./frames.js";
import { MAIN_TARGET, positionOf } from "./playback-position.js";

const SEEK_MS = 200; // the server's limit [H11]
/** A command that could not be sent for so long is dropped, and the server refuses one that arrives later: the room has moved on. */
export const FRESH_MS = 2000;

/** Commands that change the playback. */
export const CHANGING = ["sync", "play", "pause", "seek", "rate", "step"];

/**
 * A command with the time of the user's action.
 * @typedef {PlaybackCommand & {
 *   at: number, isPlaying?: boolean, currentTime?: number, playbackRate?: number, frames?: number, startDelayMs?: number | "auto",
 * }} TimedCommand
 */

/**
 * A command that is not answered.
 * @typedef {object} OpenCommand
 * @property {TimedCommand} command
 * @property {boolean} isShown Whether the snapshot shows its effect.
 * @property {(answer: Answer<any>) => void} resolve
 */

export class RoomPlayback {
  #context;
  /**
   * As the server last said; null before the first command.
   * @type {Playback | null}
   */
  #confirmed = null;
  /**
   * The state of the last own event that came while a command was open: not every answer has the state.
   * @type {Partial<Playback> | null}
   */
  #ownEvent = null;
  /** @type {Set<OpenCommand>} */
  #open = new Set();
  /**
   * Commands that were given without a connection.
   * @type {OpenCommand[]}
   */
  #waiting = [];
  /** The confirmed version when the first of the waiting commands was given. */
  #baseVersion = 0;
  /** @type {SendSlot<OpenCommand>} */
  #seeks;

  /** @param {MediaContext} context */
  constructor(context) {
    this.#context = context;
    this.#seeks = context.addSlot({ send: (open) => this.#send(open), maySend: context.isLive });
    context.room.on("status", (status) => {
      if (status === "closed") this.#settleAll(LEFT);
      else if (status !== "live") this.#keepSeek();
    });
  }

  /** As the server last said; null before the first command. */
  get playback() {
    return this.#confirmed?.version ? this.#confirmed : null;
  }

  /**
   * Shows a command and sends it.
   * @param {PlaybackCommand} command
   * @returns {Promise<Answer<any>>}
   */
  command(command) {
    const { room, isLive, emit } = this.#context;
    const problem = problemOf(command);
    if (problem) {
      const refusal = failure("INVALID_DATA", problem);
      emit("error", { ...refusal, roomId: room.id });
      return Promise.resolve(refusal);
    }
    const timed = this.#complete(command);
    return new Promise((resolve) => {
      const open = { command: timed, isShown: room.mayControl && CHANGING.includes(timed.action), resolve };
      this.#open.add(open);
      this.#show();
      if (!isLive()) return this.#wait(open);
      if (timed.action === "seek") return this.#offerSeek(open);
      this.#seeks.sendNow(); // never overtaken
      this.#send(open);
    });
  }

  /** @param {RoomMessage} message */
  receive(message) {
    const { store, room, measureClock } = this.#context;
    if (message.type === "joined") {
      this.#confirmed = store.snapshot.playback; // also an older one: the server may have been restarted
      this.#ownEvent = null;
      this.#sendWaiting(); // before showing: a player would follow a command that is too old, and stay behind
      this.#show();
    } else if (message.type === "playback_synced") {
      store.patch({ syncEnabled: message.data.syncEnabled });
      // a network seldom holds an event back for so long: one of the clocks was set
      if (Math.abs(room.clock.now() - Date.parse(message.timestamp)) > FRESH_MS) measureClock();
      // own commands are settled by the answer to the last of them [H2]
      const isOwn = message.sessionId === store.snapshot.self?.sessionId;
      const state = { ...message.data, anchor: message.data.serverTime };
      if (this.#open.size && isOwn) this.#ownEvent = state;
      else this.#learn(state);
    } else if (message.type === "media_changed") {
      this.#learn(message.data.playback);
    } else if (message.type === "error") {
      this.#learnFromRefusal(message.state);
    }
  }

  // --- the state ---------------------------------------------------------------------------------------------------

  /**
   * Takes a state that is not older than the confirmed one.
   * @param {Partial<Playback>} state
   */
  #learn(state) {
    const known = this.#confirmed;
    if (!state.anchor || (known && Number(state.version) < known.version)) return;
    this.#confirmed = /** @type {Playback} */ (/** @type {unknown} */ (playbackFields(state)));
    this.#show();
  }

  /** @param {unknown} state Of an error; absent in many. */
  #learnFromRefusal(state) {
    const known = /** @type {Playback | null | undefined} */ (state);
    if (!known?.anchor) return;
    this.#confirmed = this.#ownEvent = null; // the server's word, also if its count began anew
    this.#learn({ ...known });
    this.#context.notify();
  }

  /** Shows the confirmed state with the open commands applied to it. */
  #show() {
    const { store } = this.#context;
    const shown = [...this.#open].filter(({ isShown }) => isShown);
    const playback = shown.reduce((/** @type {Playback | null} */ state, { command }) => this.#after(state, command), this.#confirmed);
    if (isSame(playback, store.snapshot.playback)) return;
    store.patch({ playback });
    this.#context.notify();
  }

  /**
   * A playback as it will be if the server agrees.
   * @param {Playback | null} before
   * @param {TimedCommand} command
   * @returns {Playback | null}
   */
  #after(before, command) {
    const { action, isPlaying, playbackRate, at, duration, startDelayMs } = command;
    if (startDelayMs === "auto") return before; // only the server knows it
    const playback = {
      version: 0,
      ...before,
      frame: undefined,
      frameTarget: undefined,
      ended: undefined,
      waitingFor: undefined,
      isPlaying: isPlaying ?? (action === "play" || (action !== "pause" && action !== "step" && Boolean(before?.isPlaying))),
      playbackRate: playbackRate ?? before?.playbackRate ?? 1,
      duration: before?.duration ?? duration,
      currentTime: command.currentTime ?? positionOf(before, at),
      anchor: Math.max(at, before?.anchor ?? 0) + (startDelayMs ?? 0),
    };
    if (action === "rate") playback.currentTime = positionOf(before, at);
    if (action === "play" && before?.ended && command.currentTime === undefined) playback.currentTime = 0;
    const { frameRate, offset = 0 } = this.#context.store.snapshot.media?.[command.target ?? MAIN_TARGET] ?? {};
    const rate = parseFrameRate(frameRate);
    if (rate && !playback.isPlaying) {
      const frame = Math.max(0, frameAt(playback.currentTime + offset, rate) + (command.frames ?? 0));
      const position = middleOfFrameAt(middleOfFrame(frame, rate), rate, (playback.duration ?? Infinity) + offset);
      playback.currentTime = Math.max(0, position - offset);
    }
    return /** @type {Playback} */ (playback);
  }

  // --- sending -----------------------------------------------------------------------------------------------------

  /**
   * With the time, the film that is meant, and without a duration that is not known yet.
   * @param {PlaybackCommand} command
   * @returns {TimedCommand}
   */
  #complete(command) {
    const { room, store } = this.#context;
    const timed = /** @type {TimedCommand} */ ({ at: room.clock.now(), maxAgeMs: FRESH_MS, ...command });
    if (!((timed.duration ?? 0) > 0 && Number.isFinite(timed.duration))) delete timed.duration;
    const mediaId = store.snapshot.media?.[timed.target ?? MAIN_TARGET]?.mediaId;
    if (mediaId !== undefined && CHANGING.includes(timed.action)) timed.mediaId ??= mediaId;
    return timed;
  }

  /** @param {OpenCommand} open */
  #offerSeek(open) {
    if (this.#seeks.isWaiting && this.#seeks.value) {
      this.#settle(this.#seeks.value, failure("REPLACED", "A later seek took its place."));
    }
    this.#seeks.offer(open, SEEK_MS);
  }

  /**
   * @param {OpenCommand} open
   * @param {object} [data] Sent in place of the command.
   */
  async #send(open, data = open.command) {
    const answer = await this.#context.ask("playback", data);
    this.#settle(open, answer);
  }

  /**
   * @param {OpenCommand} open
   * @param {Answer<any>} answer
   */
  #settle(open, answer) {
    this.#open.delete(open);
    if (answer.success) this.#learn(answer);
    else if (answer.code === "STALE") this.#context.measureClock(); // it may be wrong, as after a sleep of the computer
    if (this.#ownEvent && !this.#open.size) {
      this.#learn(this.#ownEvent);
      this.#ownEvent = null;
    }
    this.#show(); // without a refused command nothing of it is left
    open.resolve(answer);
  }

  /** A seek that waits for its turn when the connection is lost is kept like a command that is given later. */
  #keepSeek() {
    if (!this.#seeks.isWaiting || !this.#seeks.value) return;
    this.#seeks.isWaiting = false;
    this.#wait(this.#seeks.value);
  }

  /**
   * Keeps a command for the next connection. It is answered when it is too old to be sent; what it shows stays until then.
   * @param {OpenCommand} open
   */
  #wait(open) {
    const { resolve } = open;
    const timer = setTimeout(() => resolve(TOO_OLD), FRESH_MS);
    open.resolve = (answer) => {
      clearTimeout(timer);
      resolve(answer);
    };
    if (!this.#waiting.length) this.#baseVersion = this.#confirmed?.version ?? 0;
    this.#waiting.push(open);
  }

  /**
   * Sends what was given without a connection as one state, which counts only if no other user has sent a command since [H16].
   * Commands that are old are dropped, each by its own time, and the player follows the room.
   */
  #sendWaiting() {
    const oldest = this.#context.room.clock.now() - FRESH_MS;
    const waiting = this.#waiting.filter(({ command }) => command.at >= oldest);
    this.#drop(this.#waiting.filter(({ command }) => command.at < oldest));
    this.#waiting = [];
    const changing = waiting.filter(({ isShown }) => isShown);
    for (const open of waiting) if (!open.isShown) this.#send(open);
    const last = changing.at(-1);
    if (!last) return;
    const playback = /** @type {Playback} */ (changing.reduce(
      // a start that was to be delayed is late enough
      (/** @type {Playback | null} */ state, { command }) => this.#after(state, { ...command, startDelayMs: 0 }),
      this.#confirmed,
    ));
    for (const open of changing) this.#open.delete(open);
    const { isPlaying, currentTime, playbackRate, anchor: at } = playback;
    const { target, mediaId } = last.command;
    const ofTarget = changing.filter(({ command }) => command.duration && command.target === target);
    const duration = ofTarget.at(-1)?.command.duration;
    const baseVersion = this.#baseVersion || undefined;
    const one = {
      command: this.#complete({ action: "sync", isPlaying, currentTime, playbackRate, at, baseVersion, target, mediaId, duration }),
      isShown: true,
      resolve: (/** @type {Answer<any>} */ answer) => {
        for (const { resolve } of changing) resolve(answer);
      },
    };
    this.#open.add(one);
    this.#show();
    this.#send(one);
  }

  /**
   * Takes back commands that are too old to be sent.
   * @param {readonly OpenCommand[]} late
   */
  #drop(late) {
    for (const open of late) this.#open.delete(open); // all of them before the state is shown
    for (const open of late) this.#settle(open, TOO_OLD);
  }

  /** @param {Answer<any>} answer */
  #settleAll(answer) {
    const unanswered = [...this.#open];
    this.#seeks.isWaiting = false;
    this.#waiting = [];
    this.#ownEvent = null;
    this.#open.clear(); // without showing what is taken back: the players stay as they are
    for (const { resolve } of unanswered) resolve(answer);
  }
}

const LEFT = failure("NOT_IN_ROOM", "The room has been left, or it is closed.");
const TOO_OLD = failure("OFFLINE", "There was no connection in time: the player follows the room again.");

/**
 * @param {ErrorCode} code
 * @param {string} message
 * @returns {{ success: false, code: ErrorCode, message: string }}
 */
function failure(code, message) {
  return { success: false, code, message };
}

/**
 * The fields of a state, wherever it came in.
 * @param {Partial<Playback>} state
 */
function playbackFields(state) {
  const { isPlaying, currentTime, playbackRate, anchor, version, duration, target, frame, frameTarget, ended, waitingFor } = state;
  return { isPlaying, currentTime, playbackRate, anchor, version, duration, target, frame, frameTarget, ended, waitingFor };
}

/**
 * @param {object | null} a
 * @param {object | null} b
 */
function isSame(a, b) {
  return a === b || (Boolean(a && b) && JSON.stringify(a) === JSON.stringify(b));
}
