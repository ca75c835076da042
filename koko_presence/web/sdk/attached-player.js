/**
 * A player in step with the room: it is started, paused, moved and corrected by what the room does [H8, H21, H22], its user's
 * actions become commands [H23], and its position is reported [H6]. media.js attaches it. The decisions are pure functions:
 * steering.js, user-actions.js, frames.js, playback-position.js. Here is the state of one player.
 *
 * `#paused` and `#rate` are what the player should have: set by calls of this module, and by what the user was found to have
 * done. A difference is a change that others have made; it is looked for at each event, and before each own call, so that a
 * call does not undo it unseen. Seeks have no such state: player-seeks.js counts their events.
 */

/**
 * @import { Following } from "./follow.js"
 * @import { Goal, Timeline } from "./playback-position.js"
 * @import { AttachOptions, ErrorCode, PlaybackCommand, PlaybackReport, Player, PlayerEvent, PlayerState, Room, Undo } from "./types.js"
 * @import { UserAction } from "./user-actions.js"
 */

import { MAX_RATE, MAX_SECONDS, MIN_RATE } from "./command-check.js";
import { frameAt, frameOfTimestamp, middleOfFrame, middleOfFrameAt, parseFrameRate } from "./frames.js";
import { endOf, LiveDetector } from "./live-stream.js";
import { goalOf, MAIN_TARGET } from "./playback-position.js";
import { ABOUT_POSITION_S, EFFECT_MS, PlayerSeeks } from "./player-seeks.js";
import { ShownFrames } from "./shown-frames.js";
import { correction, MeasuredTime, median, smallest, tolerance } from "./steering.js";
import { isCommand, ReversalCount, userActionOf } from "./user-actions.js";

const TICK_MS = 250;
const SETTLING_TICK_MS = 50;
/** After a start, a seek or a command the position is brought in step quickly, for so long. */
const SETTLING_MS = 2500;
/** No correction by a seek so soon after a seek. */
const SEEK_PAUSE_MS = 3000;
/** A new command causes a seek if it is farther away than this, s. */
const COMMAND_SEEK_S = 0.25;
/** A correction of the speed is judged anew after this time. */
const MAX_CORRECTION_MS = 2000;
/** A correction that goes on does so until the drift is this part of the tolerance, else it would begin again and again. */
const PART_OF_TOLERANCE = 0.25;

const REPORT_MS = 1000;
const REPORT_PAUSED_MS = 5000; // a report is valid for 10 s
/** A report that is off by less counts as in step; as at the server. */
const IN_STEP_S = 0.25;
/** A shorter wait for data, as at each seek, is not reported. */
const BUFFERING_MS = 250;

/** From the begin of a shown frame to the position that stands for it, where the frame rate is not known [H21]. */
const INTO_FRAME_S = 0.001;
/** Tolerance of a position that was sent as a number. */
const SAME_POSITION_S = 0.0006;
/** Chromium shows no frame anew for a seek to exactly where a paused film stands: a repeated one goes so far aside. */
const ASIDE_S = 0.0005;
/** A shown frame is the present one if its time is so near to the position. */
const NEAR_SHOWN_S = 0.25;
/** Longest time from `seeked` until the frame is shown. */
const SHOW_MS = 150;
/** So near to its end a film is left to end by itself. */
const NEAR_END_S = 0.3;

/** Fewest frames of even motion by which a drift is judged. */
const LEAST_FRAMES = 4;
/** ... by which one of so many frames is: then it does not matter that one of them was shown late. */
const LEAST_FRAMES_FAR = 2;
const FAR_FRAMES = 3;
/** Without a frame for so long, as in a page that is covered, `currentTime` counts. */
const NO_FRAMES_MS = 500;
/** Assumed of exact players that do not tell their frames. */
const USUAL_FRAME_S = 0.04;

/** A play or pause so soon after the opposite call of this module reverses it. */
const REVERSAL_MS = 1000;
/** Commands rest until there were no reversals for so long. */
const REST_MS = 2000;

const SAME_RATE = 1e-4;

const INTERACTIONS = ["pointerup", "touchend", "keydown", "click"];

/**
 * What an attached player uses of its room.
 * @typedef {object} AttachedContext
 * @property {Room} room
 * @property {Following} following
 * @property {(command: PlaybackCommand) => void} command
 * @property {() => void} reportDue What `report` and `outOfStepS` tell has changed, or it is time to send it again.
 * @property {() => void} changed `isBlocked` or `mediaId` has changed.
 * @property {() => void} blocked The browser requires an interaction first.
 * @property {(code: ErrorCode, message: string) => void} failed
 */

export class AttachedPlayer {
  target;
  /**
   * The film in the player; undefined: that of the room.
   * @type {string | undefined}
   */
  mediaId;
  /** Whether the browser requires an interaction before it plays. */
  isBlocked = false;

  #player;
  #context;
  #corrects;
  #snapsBack;
  #outputOffset;
  #canSetRate;
  #isFrameAccurate;
  /** @type {ShownFrames | null} */
  #frames = null;
  /** @type {Undo[]} */
  #undo = [];
  /** @type {Undo | undefined} */
  #stopAwaitingInteraction;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #nextUpdateAt = Infinity;
  #isStopped = false;
  #isCalling = false;

  #paused;
  #rate;
  /** A rate that the player does not take. */
  #refusedRate = 0;
  /** Local ms until which a difference may be an own call that has not taken effect. */
  #playEffectUntil = 0;
  #rateEffectUntil = 0;
  /** Local ms of the last own play or pause, as long as the user has done neither since. */
  #calledAt = -Infinity;
  #seeks;
  #evenMotionSince = 0;
  /** Where the player was last seen, for the distance of a seek. */
  #seen = { position: 0, at: 0, speed: 0, isConnected: true };

  #isLoaded = false;
  /** Between two films, of which not every player tells by its state. */
  #isEmptied = false;
  #isFirstStart = true;
  #isWaiting = false;
  /** Local ms; 0: it has data. */
  #bufferingSince = 0;
  #reportedBuffering = false;
  /** The room was told once that this player does not follow. */
  #isReportedLive = false;
  /** The browser has paused the player of a hidden page. */
  #isSuspended = false;
  #live = new LiveDetector();
  #isLooping = false;
  /** It loops again when it is detached. */
  #hasStoppedLoop = false;
  /** Local ms; 0: the page is visible. */
  #hiddenAt = 0;
  /** How long a start takes here, s. */
  #startS = new MeasuredTime(0.03, 0.5);
  /** @type {{ at: number, position: number } | null} */
  #start = null;

  /** @type {Timeline | null | false | undefined} */
  #timeline;
  #settlingUntil = 0;
  #maySeekAt = 0;
  /** Local ms at which the present correction of the speed is over; 0: there is none. */
  #correctedAt = 0;
  /** The last correction was too short to be complete. */
  #isIncomplete = false;
  #reversals = new ReversalCount();
  #restUntil = 0;
  #reportAt = 0;

  /**
   * @param {Player} player
   * @param {AttachOptions} options
   * @param {AttachedContext} context
   */
  constructor(player, options, context) {
    const { correct = true, whenNotAllowed, target = MAIN_TARGET, mediaId, outputOffset = 0 } = options;
    const { canSetRate = true, frameAccurate = false } = { ...player.abilities, ...options.abilities };
    this.#player = player;
    this.#context = context;
    this.#corrects = correct;
    this.#snapsBack = whenNotAllowed === "snap";
    this.#outputOffset = outputOffset;
    this.#canSetRate = canSetRate;
    this.#isFrameAccurate = frameAccurate;
    this.#seeks = new PlayerSeeks(frameAccurate);
    this.target = target;
    this.mediaId = mediaId;
    const { paused, playbackRate } = player.getState();
    this.#paused = paused;
    this.#rate = playbackRate;
  }

  // --- for media.js --------------------------------------------------------------------------------------------------

  start() {
    const { room } = this.#context;
    const player = this.#player;
    if (player.onFrame) this.#frames = new ShownFrames({ onFrame: player.onFrame.bind(player) }, () => this.#onFrame());
    this.#undo.push(
      player.subscribe((type) => {
        if (this.#isCalling) queueMicrotask(() => this.#onEvent(type));
        else this.#onEvent(type);
      }),
      room.on("change", () => {
        if (this.#context.following.timeline !== this.#timeline) this.#update();
      }),
      room.on("status", (status) => {
        if (status === "live") this.#isReportedLive = false; // perhaps as another session
      }),
      listen(globalThis, ["visibilitychange"], () => this.#onVisibility()),
    );
    if (globalThis.document?.hidden) this.#hiddenAt = performance.now();
    this.#update();
  }

  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#frames?.stop();
    this.#stopAwaitingInteraction?.();
    for (const undo of this.#undo) undo();
    if (this.#correctedAt) this.#setRate(this.#timeline ? this.#timeline.playbackRate : 1);
    if (this.#hasStoppedLoop) this.#player.setLoop?.(true);
  }

  /** The user asks for the room's state: nothing rests, and a start that was refused is tried again. */
  resync() {
    this.#maySeekAt = this.#restUntil = 0;
    this.#isSuspended = false;
    this.#restart();
    this.#retryStart();
  }

  /**
   * @param {number} seconds By which this device shows the film late.
   */
  setOutputOffset(seconds) {
    this.#outputOffset = seconds;
    this.#restart();
  }

  /** @param {string | undefined} mediaId The film that is in the player now. */
  setMediaId(mediaId) {
    this.mediaId = mediaId;
    this.#context.changed();
    this.#restart();
  }

  /**
   * The state of this player [H6]. One that cannot be in step does not follow.
   * @returns {PlaybackReport | null} Null without a film.
   */
  get report() {
    if (!this.#isLoaded) return null;
    const state = this.#player.getState();
    const { paused, ended, playbackRate } = state;
    return {
      action: "report", isPlaying: !paused && !ended,
      currentTime: Math.min(this.#toRoom(state.currentTime, this.#isAhead(state)), MAX_SECONDS),
      playbackRate: Math.min(Math.max(playbackRate, MIN_RATE), MAX_RATE),
      buffering: this.#reportedBuffering,
      follow: this.#context.room.getSnapshot().following === true && !this.#live.isLive,
      ...(this.target !== MAIN_TARGET && { target: this.target }),
      ...(this.mediaId !== undefined && { mediaId: this.mediaId }),
    };
  }

  /**
   * Seconds by which it is out of step; 0: it is in step; -1: it has no film that could be. A player that buffers is farther out
   * than any drift, one with another film than the room still farther [H7, H19].
   */
  get outOfStepS() {
    if (!this.#isLoaded || this.#live.isLive) return -1;
    if (this.#showsOther) return Infinity;
    if (this.#reportedBuffering) return Number.MAX_VALUE;
    const { playback } = this.#context.room.getSnapshot();
    if (!playback) return 0;
    const state = this.#player.getState();
    const drift = Math.abs(state.currentTime - this.#goalAt(playback, state).position);
    return drift > IN_STEP_S ? drift : 0;
  }

  /**
   * The position that stands for the shown frame, s of the room, if a pause of the room means it.
   * @param {number} [near] The position that the application gives with the pause.
   * @returns {number | undefined}
   */
  pausedPosition(near) {
    const state = this.#player.getState();
    const shown = this.#isInRoom && !state.paused ? this.#shownPosition(state) : undefined;
    const position = shown === undefined ? undefined : this.#toRoom(shown, true);
    const isMeant = position !== undefined && Math.abs((near ?? this.#context.room.position()) - position) < NEAR_SHOWN_S;
    return isMeant ? position : undefined;
  }

  /**
   * The position so many frames after the present one, s of the room.
   * @param {number} frames
   * @returns {number | undefined} Undefined if too few frames have been seen.
   */
  positionAfter(frames) {
    const { last, interval = 0 } = this.#frames ?? {};
    if (!last || !interval || !Number.isInteger(frames) || frames === 0) return undefined;
    const state = this.#player.getState();
    const goal = this.#timeline ? this.#goalAt(this.#timeline, state) : null;
    const isShown = !goal || goal.isPlaying || (!this.#seeks.own && isFrameOf(last.mediaTime, goal.position, null, interval));
    const isSeek = goal && !goal.isPlaying && Math.abs(last.mediaTime - goal.position) < SAME_POSITION_S; // as Firefox tells it
    // otherwise the position of a step before this one
    const position = isShown && !isSeek ? last.mediaTime + interval / 2 : goal.position;
    return this.#toRoom(position + frames * interval, this.#isAhead(state));
  }

  /**
   * The film in the player, for commands; undefined if that is none that the room could go by.
   * @returns {Pick<PlaybackCommand, "duration" | "target" | "mediaId"> | undefined}
   */
  get film() {
    return this.#showsOther || this.#live.isLive ? undefined : this.#filmIn(this.#player.getState());
  }

  /** @param {PlayerState} state */
  #filmIn(state) {
    return {
      ...(endOf(state.duration) !== undefined && { duration: endOf(state.duration) }),
      ...(this.target !== MAIN_TARGET && { target: this.target }),
      ...(this.mediaId !== undefined && { mediaId: this.mediaId }),
    };
  }

  // --- what the room does ----------------------------------------------------------------------------------------------

  get #medium() {
    return this.#context.room.getSnapshot().media?.[this.target];
  }

  get #frameRate() {
    return parseFrameRate(this.#medium?.frameRate);
  }

  get #offset() {
    return this.#medium?.offset ?? 0;
  }

  /** Whether the player shows another film than the room; then it neither commands nor follows [H19]. */
  get #showsOther() {
    const { mediaId } = this.#medium ?? {};
    return this.mediaId !== undefined && mediaId !== undefined && mediaId !== this.mediaId;
  }

  /** Whether the user's actions on the player concern the room. */
  get #isInRoom() {
    const { following, syncEnabled } = this.#context.room.getSnapshot();
    return following === true && syncEnabled && !this.#showsOther && !this.#live.isLive;
  }

  /**
   * @param {Timeline} timeline
   * @param {PlayerState} state
   * @param {number} [at] Local ms.
   * @returns {Goal}
   */
  #goalAt(timeline, state, at = performance.now()) {
    const serverMs = this.#context.room.clock.now() + at - performance.now();
    return goalOf(timeline, { offset: this.#offset, duration: endOf(state.duration), outputOffset: this.#outputOffset }, serverMs);
  }

  /**
   * A position of this player as one of the room, s.
   * @param {number} position
   * @param {boolean} isAhead Whether the player is, or was there, ahead by the output offset, as one that plays.
   */
  #toRoom(position, isAhead) {
    return Math.max(0, position - this.#offset - (isAhead ? this.#outputOffset * this.#roomRate : 0));
  }

  /** The rate without a correction that is under way. */
  get #roomRate() {
    return (this.#timeline || this.#player.getState()).playbackRate;
  }

  /** @param {PlayerState} state */
  #isAhead({ paused }) {
    return !(paused && this.#paused);
  }

  /**
   * Calls the player. One of the application may tell its events before the call returns; they are handled afterwards.
   * @template Result
   * @param {(player: Player) => Result} call
   * @returns {Result}
   */
  #call(call) {
    this.#isCalling = true;
    try {
      return call(this.#player);
    } finally {
      this.#isCalling = false;
    }
  }

  // --- events ----------------------------------------------------------------------------------------------------------

  /** @param {PlayerEvent} type */
  #onEvent(type) {
    switch (type) {
      case "emptied":
        return this.#onEmptied();
      case "seeking":
        this.#seeks.onSeeking(this.#player.getState());
        break;
      case "seeked":
        this.#seeks.onSeeked(this.#player.getState(), performance.now());
        this.#onSeekEnd();
        break;
      case "loadedmetadata":
        this.#isEmptied = false;
        break;
      case "waiting":
        this.#isWaiting = true;
        break;
      case "playing":
      case "canplay":
        if (this.#isWaiting) this.#settle();
        this.#isWaiting = this.#isEmptied = false;
        break;
      case "pause":
        this.#isWaiting &&= this.#roomWaits;
    }
    this.#update(true);
  }

  /** The film is exchanged: until the next one is loaded nothing that the player does is a command. */
  #onEmptied() {
    this.#isEmptied = true;
    this.#isLoaded = this.#isWaiting = false;
    this.#seeks.forget();
    this.#start = null;
    this.#correctedAt = 0;
    this.#frames?.forget();
    this.#live.forget();
  }

  #onSeekEnd() {
    this.#isWaiting = false;
    this.#settle();
  }

  #onFrame() {
    const [first, second] = this.#frames?.motion ?? [];
    if (this.#start && first && second) {
      const takenS = (second.shownAt - this.#start.at) / 1000 - (second.mediaTime - this.#start.position) / this.#rate;
      this.#startS.add(takenS);
      this.#start = null;
    }
    if (this.#paused) this.#update(); // the frame that stands may be another one
  }

  #onVisibility() {
    this.#hiddenAt = globalThis.document?.hidden ? performance.now() : 0;
    if (!this.#hiddenAt) this.#isSuspended = false;
    this.#settle();
    this.#update();
  }

  /**
   * Compares the player with what it should do, acts, and reports.
   * @param {boolean} [isEvent]
   */
  #update(isEvent = false) {
    if (this.#isStopped) return;
    const now = performance.now();
    this.#schedule(now < this.#settlingUntil ? SETTLING_TICK_MS : TICK_MS);
    if (!this.#isReady()) return;
    this.#noticeChange(now);
    if (!isEvent || now >= this.#restUntil) this.#steer(now);
    this.#look(now);
    this.#report(now, isEvent);
  }

  /** From now on everything counts as new. */
  #restart() {
    this.#timeline = undefined;
    this.#update();
  }

  /** @param {number} ms From now; an earlier update that is due stays. */
  #schedule(ms) {
    const now = performance.now();
    if (this.#nextUpdateAt > now && this.#nextUpdateAt <= now + ms) return;
    clearTimeout(this.#timer);
    this.#nextUpdateAt = now + ms;
    this.#timer = setTimeout(() => {
      this.#nextUpdateAt = Infinity;
      this.#update();
    }, ms);
  }

  /** Whether a film is loaded. */
  #isReady() {
    const state = this.#player.getState();
    // without a duration the film is being exchanged, before the event that tells it
    const isEmpty = state.readyState === 0 || Number.isNaN(state.duration) || !Number.isFinite(state.currentTime);
    if (isEmpty || (this.#isEmptied && !state.readyState)) return false;
    if (!this.#isLoaded) {
      this.#isLoaded = this.#isFirstStart = true;
      this.#paused = state.paused;
      this.#rate = state.playbackRate;
      this.#timeline = undefined;
      this.#look(performance.now());
    }
    this.#judgeLive(state);
    this.#judgeLoop(state);
    return true;
  }

  /**
   * A film that is in step does not loop; while it does, its begin after its end is no command.
   * @param {PlayerState} state
   */
  #judgeLoop({ loop = false }) {
    const isNew = loop && !this.#isLooping;
    this.#isLooping = loop;
    if (!isNew || !this.#corrects) return;
    if (this.#player.setLoop) {
      this.#hasStoppedLoop = true;
      this.#call((player) => player.setLoop?.(false));
      this.#context.failed("LOOP", "A film that is in step with a room does not loop: its `loop` is switched off while it is attached.");
    } else {
      this.#context.failed("LOOP", "A film that is in step with a room does not loop: switch the loop of this player off.");
    }
  }

  /**
   * A live stream is not kept in step.
   * @param {PlayerState} state
   */
  #judgeLive({ duration, paused }) {
    const wasLive = this.#live.isLive;
    this.#live.see(duration, !paused, performance.now());
    if (this.#live.isLive === wasLive) return;
    if (wasLive) {
      this.#timeline = undefined; // its end is known now
    } else {
      if (this.#correctedAt && this.#timeline) this.#endCorrection(this.#timeline.playbackRate);
      this.#context.failed("LIVE", "A live stream has no common timeline: it is not kept in step.");
    }
  }

  /**
   * Remembers where the player is.
   * @param {number} now
   */
  #look(now) {
    const { currentTime, paused, playbackRate, seeking, isConnected = true } = this.#player.getState();
    if (isConnected && !this.#seen.isConnected) this.#isSuspended = false; // it is in the page again
    this.#seen = { position: currentTime, at: now, speed: paused || seeking ? 0 : playbackRate, isConnected };
    if (!paused) this.#isFirstStart = false;
  }

  // --- the user --------------------------------------------------------------------------------------------------------

  /**
   * Finds what others than this module have done to the player.
   * @param {number} now
   */
  #noticeChange(now) {
    const state = this.#player.getState();
    this.#noticeEffects(state, now);
    const paused = now < this.#playEffectUntil ? state.paused : this.#paused;
    const playbackRate = now < this.#rateEffectUntil ? state.playbackRate : this.#rate;
    const hasJumped = this.#seeks.isOthers(state);
    const isSameRate = Math.abs(state.playbackRate - playbackRate) < SAME_RATE;
    if (state.paused === paused && isSameRate && !hasJumped) return;

    const { position, at, speed, isConnected } = this.#seen;
    const seekedByS = hasJumped ? state.currentTime - (position + (speed * (now - at)) / 1000) : 0;
    const hiddenForMs = this.#hiddenAt ? Math.max(1, now - this.#hiddenAt) : 0;
    const action = userActionOf({ paused, playbackRate: isSameRate ? state.playbackRate : playbackRate, seekedByS, state }, {
      isFirstStart: this.#isFirstStart, isBlocked: this.isBlocked, hasInteracted: hasInteracted(),
      isRemoved: isConnected && state.isConnected === false, hiddenForMs,
    });
    if (state.paused && !paused && !action.pauses && !state.ended) this.#isSuspended = true;
    this.#adopt(state, hasJumped);
    if (isCommand(action)) this.#act(action, state, now);
    else this.#settle();
  }

  /**
   * Own calls that have taken effect now, or never will.
   * @param {PlayerState} state
   * @param {number} now
   */
  #noticeEffects(state, now) {
    const { paused, playbackRate } = state;
    if (paused === this.#paused) this.#playEffectUntil = 0;
    if (Math.abs(playbackRate - this.#rate) < SAME_RATE) this.#rateEffectUntil = 0;
    if (this.#rateEffectUntil && now >= this.#rateEffectUntil) {
      this.#rateEffectUntil = 0;
      this.#canSetRate = false;
      this.#refusedRate = this.#rate;
      this.#rate = playbackRate;
    }
    if (this.#seeks.noticeEnd(state, now)) this.#onSeekEnd();
  }

  /**
   * What others have done is now what the player should have.
   * @param {PlayerState} state
   * @param {boolean} hasJumped
   */
  #adopt(state, hasJumped) {
    this.#paused = state.paused;
    this.#rate = state.playbackRate;
    if (this.isBlocked && !state.paused) this.#unblock();
    this.#correctedAt = 0;
    this.#evenMotion();
    if (hasJumped) this.#seeks.adopt(state);
  }

  /**
   * The user's action becomes a command, or ends the following.
   * @param {UserAction} action
   * @param {PlayerState} state
   * @param {number} now
   */
  #act(action, state, now) {
    if (!this.#corrects) return; // it only reports
    const { room, following } = this.#context;
    const snapshot = room.getSnapshot();
    const ownCallAt = this.#calledAt;
    if (action.plays || action.pauses) this.#calledAt = -Infinity;
    if (now < this.#restUntil) {
      this.#restUntil = now + REST_MS; // it goes on
    } else if (snapshot.following !== true) {
      following.stopForUser();
    } else if (!this.#isInRoom) {
      return; // the player is the user's own
    } else if (!room.mayControl) {
      if (!this.#snapsBack) return following.stopForUser();
      this.#maySeekAt = 0;
      this.#timeline = undefined;
    } else if ((action.plays || action.pauses) && this.#reversals.add(now, now - ownCallAt < REVERSAL_MS)) {
      this.#restUntil = now + REST_MS;
      this.#timeline = undefined;
      following.reportReversals();
    } else {
      this.#maySeekAt = 0;
      this.#settle();
      this.#context.command(this.#commandOf(action, state));
      this.#timeline = following.timeline || undefined;
    }
  }

  /**
   * Everything that was done in one turn is one command.
   * @param {UserAction} action
   * @param {PlayerState} state
   * @returns {PlaybackCommand}
   */
  #commandOf({ plays, pauses, seeks, changesRate }, state) {
    const shown = pauses && !seeks ? this.#shownPosition(state) : undefined;
    // a pause ends where it played, ahead; a play, or a seek of a player that stands then, begins at the room's position
    const isAhead = (pauses && !seeks) || !(plays || state.paused);
    const currentTime = this.#toRoom(shown ?? state.currentTime, isAhead);
    const playbackRate = changesRate ? state.playbackRate : this.#roomRate;
    const film = { currentTime, ...this.#filmIn(state) };
    const isPlaying = !state.paused;
    if (Number(plays || pauses) + Number(seeks) + Number(changesRate) > 1) return { ...film, action: "sync", isPlaying, playbackRate };
    if (seeks) return { ...film, action: "seek" };
    if (changesRate) return { ...film, action: "rate", playbackRate };
    return { ...film, action: plays ? "play" : "pause" };
  }

  // --- starts that the browser refuses -----------------------------------------------------------------------------------

  async #play() {
    const now = performance.now();
    this.#paused = false;
    this.#calledAt = now;
    this.#playEffectUntil = now + EFFECT_MS;
    this.#start = { at: now, position: this.#player.getState().currentTime };
    this.#evenMotion();
    this.#settle();
    try {
      await this.#call((player) => player.play());
      if (this.isBlocked) this.#unblock();
    } catch (error) {
      // else a pause came in between, or there is no film
      if (/** @type {Error} */ (error)?.name === "NotAllowedError") this.#block();
    }
  }

  #block() {
    this.#paused = true;
    this.#playEffectUntil = 0;
    if (this.isBlocked || this.#isStopped) return;
    this.isBlocked = true;
    this.#stopAwaitingInteraction = listen(globalThis, INTERACTIONS, () => this.#retryStart());
    this.#context.blocked();
    this.#context.changed();
  }

  #unblock() {
    this.isBlocked = false;
    this.#stopAwaitingInteraction?.();
    this.#timeline = undefined; // it joins the room where that is now
    this.#maySeekAt = 0;
    this.#context.changed();
    this.#update();
  }

  #retryStart() {
    if (!this.isBlocked || !this.#timeline) return;
    if (this.#goalAt(this.#timeline, this.#player.getState()).isPlaying) this.#play();
  }

  // --- steering ----------------------------------------------------------------------------------------------------------

  /** @param {number} now */
  #steer(now) {
    const { timeline } = this.#context.following;
    const isNew = timeline !== this.#timeline;
    this.#timeline = timeline;
    if (!timeline || !this.#corrects || this.#showsOther || this.#live.isLive) return;
    const state = this.#player.getState();
    if (this.#seeks.isOthers(state)) return; // the user's; its event is due
    if (isNew) {
      this.#maySeekAt = 0; // only a correction waits after a seek, a command does not
      this.#settle();
    }
    const goal = this.#goalAt(timeline, state);
    if (goal.isPlaying && goal.startsInMs > this.#startS.value * 1000) {
      this.#stand(goal, state, now);
      this.#schedule(goal.startsInMs - this.#startS.value * 1000);
    } else if (goal.isPlaying) {
      this.#run(timeline, goal, state, now, isNew);
    } else {
      this.#stand(goal, state, now);
    }
  }

  /**
   * Brings the player to the frame of a pause.
   * @param {Goal} goal
   * @param {PlayerState} state
   * @param {number} now
   */
  #stand({ position, playbackRate, isAtEnd }, state, now) {
    const duration = endOf(state.duration) ?? Infinity;
    const endsByItself = isAtEnd && !state.loop && position >= duration && (state.ended || duration - state.currentTime < NEAR_END_S);
    if (endsByItself && (state.ended || !state.paused)) return;
    if (!this.#paused) {
      this.#paused = true;
      this.#calledAt = now;
      this.#playEffectUntil = now + EFFECT_MS;
      this.#call((player) => player.pause());
    }
    this.#endCorrection(playbackRate);
    const rate = this.#frameRate;
    const to = rate && position < duration ? middleOfFrameAt(position, rate, duration) : position;
    const { own, stood } = this.#seeks;
    if ((own && isSameFrame(own.to, to, rate)) || this.#standsAt(to, state, now)) return;
    const isRepeated = stood !== null && isSameFrame(stood.to, to, rate);
    this.#seekTo(isRepeated ? to + ASIDE_S : to, now, isRepeated);
  }

  /**
   * Whether the frame of a position is on the screen, which is certain after a seek only: at a pause, Firefox may show the frame
   * after the last one that it has told, and Chromium does not tell one that comes between two callbacks. A seek that landed
   * beside is repeated once.
   * @param {number} to s
   * @param {PlayerState} state
   * @param {number} now
   */
  #standsAt(to, { currentTime, seeking }, now) {
    if (!this.#isFrameAccurate) return Math.abs(currentTime - to) < ABOUT_POSITION_S;
    const shown = this.#hiddenAt ? undefined : this.#frames?.last?.mediaTime;
    const rate = this.#frameRate;
    const { own, isUnderWay } = this.#seeks;
    if ((seeking || isUnderWay) && !own && isSameFrame(currentTime, to, rate)) return true; // the user's seek to it is under way
    const stood = this.#seeks.stood && isSameFrame(this.#seeks.stood.to, to, rate) ? this.#seeks.stood : null;
    if (shown === undefined) return stood !== null || Math.abs(currentTime - to) < SAME_POSITION_S;
    if (!stood) return false;
    // Firefox tells the position of the seek in place of the frame's begin
    const isTold = isFrameOf(shown, to, rate, this.#frames?.interval) || Math.abs(shown - stood.to) < SAME_POSITION_S;
    if (stood.isRepeated || isTold) return true;
    const shownInMs = this.#evenMotionSince + SHOW_MS - now;
    if (shownInMs > 0) this.#schedule(shownInMs);
    return shownInMs > 0;
  }

  /**
   * Lets the player run, in step.
   * @param {Timeline} timeline
   * @param {Goal} goal
   * @param {PlayerState} state
   * @param {number} now
   * @param {boolean} isNew
   */
  #run(timeline, goal, state, now, isNew) {
    if (this.isBlocked) {
      if (isNew) this.#retryStart();
      return;
    }
    const isEnding = state.ended && goal.position > state.currentTime - COMMAND_SEEK_S; // the room ends in a moment
    if (this.#isSuspended || isEnding) return;
    const isFar = Math.abs(state.currentTime - goal.position) > COMMAND_SEEK_S;
    if (isNew && isFar && !this.#isBuffering(state)) this.#jump(goal, now);
    if (this.#paused) {
      if (!isNew && isFar) this.#jump(goal, now);
      this.#seeks.stood = null;
      this.#play();
      return;
    }
    this.#seeks.stood = null;
    if (this.#seeks.own || state.seeking || this.#isBuffering(state)) return this.#endCorrection(goal.playbackRate);
    if (now < this.#correctedAt) return;
    this.#endCorrection(goal.playbackRate);
    this.#correct(timeline, goal, state, now);
  }

  /**
   * @param {Timeline} timeline
   * @param {Goal} goal
   * @param {PlayerState} state
   * @param {number} now
   */
  #correct(timeline, goal, state, now) {
    const found = this.#drift(timeline, state, now);
    if (!found) return;
    const toleranceS = tolerance(found.frameS) * (this.#isIncomplete ? PART_OF_TOLERANCE : 1);
    const { seek, factor, durationS } = correction(found.drift, {
      toleranceS, isSettling: now < this.#settlingUntil, canSetRate: this.#canSetRate,
      maySeek: now >= this.#maySeekAt,
    });
    this.#isIncomplete = false;
    if (seek) return this.#jump(goal, now);
    if (factor === 1 || this.#hiddenAt) return; // a hidden page rests
    const neededMs = (durationS / goal.playbackRate) * 1000;
    const ms = Math.min(MAX_CORRECTION_MS, neededMs);
    this.#isIncomplete = ms < neededMs;
    this.#setRate(goal.playbackRate * factor);
    this.#correctedAt = now + ms;
    this.#schedule(ms);
  }

  /**
   * Own minus room, by the shown frames where they are known.
   * @param {Timeline} timeline
   * @param {PlayerState} state
   * @param {number} now
   * @returns {{ drift: number, frameS: number } | null} Null: not enough frames were shown yet. `frameS`: seconds of a frame.
   */
  #drift(timeline, state, now) {
    const motion = this.#frames?.motion ?? [];
    const latest = motion.at(-1);
    if (!this.#hiddenAt && latest && motion.length >= LEAST_FRAMES_FAR && now - latest.shownAt < NO_FRAMES_MS) {
      const drifts = motion.map(({ mediaTime, shownAt }) => mediaTime - this.#goalAt(timeline, state, shownAt).position);
      const frameS = this.#frames?.interval || USUAL_FRAME_S;
      if (motion.length >= LEAST_FRAMES) return { drift: median(drifts), frameS };
      const isFar = drifts.every((drift) => Math.abs(drift) > FAR_FRAMES * frameS);
      return isFar ? { drift: smallest(drifts), frameS } : null;
    }
    if (this.#frames && !this.#hiddenAt && now - this.#evenMotionSince < NO_FRAMES_MS) return null;
    const drift = state.currentTime - this.#goalAt(timeline, state).position;
    return { drift, frameS: this.#isFrameAccurate ? USUAL_FRAME_S : 0 };
  }

  /**
   * Goes to where the room will be when the seek is over.
   * @param {Goal} goal
   * @param {number} now
   */
  #jump({ position, playbackRate }, now) {
    this.#endCorrection(playbackRate);
    this.#maySeekAt = now + SEEK_PAUSE_MS;
    this.#seekTo(position + this.#seeks.timeS * playbackRate, now);
  }

  /**
   * @param {number} to s
   * @param {number} now
   * @param {boolean} [isRepeated]
   */
  #seekTo(to, now, isRepeated = false) {
    this.#seeks.begin(to, now, isRepeated);
    this.#evenMotion();
    this.#call((player) => player.seek(to));
  }

  /** @param {number} rate The room's. */
  #endCorrection(rate) {
    this.#correctedAt = 0;
    this.#setRate(rate);
  }

  /** @param {number} wanted */
  #setRate(wanted) {
    const rate = Math.min(Math.max(wanted, MIN_RATE), MAX_RATE);
    if (Math.abs(rate - this.#rate) < SAME_RATE || Math.abs(rate - this.#refusedRate) < SAME_RATE) return;
    this.#rate = rate;
    this.#evenMotion();
    try {
      this.#call((player) => player.setRate(rate));
    } catch { // out of the range of this player
      this.#canSetRate = false;
      this.#refusedRate = rate;
      this.#rate = this.#player.getState().playbackRate;
    }
    this.#rateEffectUntil = performance.now() + EFFECT_MS;
  }

  #settle() {
    this.#settlingUntil = performance.now() + SETTLING_MS;
    this.#evenMotion();
  }

  /** The motion is even from here on. */
  #evenMotion() {
    this.#evenMotionSince = performance.now();
    this.#frames?.restart();
  }

  // --- reports -----------------------------------------------------------------------------------------------------------

  /**
   * @param {number} now
   * @param {boolean} isEvent
   */
  #report(now, isEvent) {
    const state = this.#player.getState();
    const { isLive } = this.#live;
    if (isLive || !this.#isBuffering(state)) this.#bufferingSince = 0;
    else this.#bufferingSince ||= now;
    const buffering = this.#bufferingSince > 0 && now - this.#bufferingSince >= BUFFERING_MS;
    if (this.#bufferingSince && !buffering) this.#schedule(this.#bufferingSince + BUFFERING_MS - now);
    const isDue = isLive ? !this.#isReportedLive : isEvent || now >= this.#reportAt || buffering !== this.#reportedBuffering;
    if (!isDue) return;
    this.#reportedBuffering = buffering;
    this.#isReportedLive = isLive;
    this.#reportAt = now + (state.paused || state.ended ? REPORT_PAUSED_MS : REPORT_MS) - TICK_MS / 2;
    this.#context.reportDue();
  }

  /** @param {PlayerState} state */
  #isBuffering({ paused, ended, readyState, currentTime, duration = Infinity }) {
    if (ended || duration - currentTime < NEAR_END_S) return false;
    const needsFuture = !paused || this.#roomWaits;
    if (readyState === undefined) return this.#isWaiting && needsFuture;
    return readyState < (needsFuture ? 3 : 2); // HAVE_FUTURE_DATA, HAVE_CURRENT_DATA
  }

  /** Whether the room stands until all players have data [H9]: then a pause ends no wait for them. */
  get #roomWaits() {
    return Boolean(this.#context.room.getSnapshot().playback?.waitingFor);
  }

  /**
   * The position that stands for the shown frame, s of this player [H21].
   * @param {PlayerState} state
   * @returns {number | undefined} Undefined where it is not known.
   */
  #shownPosition({ currentTime }) {
    const shown = this.#hiddenAt ? undefined : this.#frames?.last?.mediaTime;
    if (shown === undefined || Math.abs(shown - currentTime) > NEAR_SHOWN_S) return undefined;
    const rate = this.#frameRate;
    return rate ? middleOfFrame(frameOfTimestamp(shown, rate), rate) : shown + INTO_FRAME_S;
  }
}

/**
 * Whether a player that goes to either position shows the same frame.
 * @param {number} one s
 * @param {number} other s
 * @param {import("./frames.js").FrameRate | null} rate Null: the positions have to be the same.
 */
function isSameFrame(one, other, rate) {
  return rate ? frameAt(one, rate) === frameAt(other, rate) : Math.abs(one - other) < SAME_POSITION_S;
}

/**
 * Whether the shown frame is that of a position.
 * @param {number} shown Its media time.
 * @param {number} position s
 * @param {import("./frames.js").FrameRate | null} rate
 * @param {number} [interval] Between frames as seen, s; 0: not known.
 */
function isFrameOf(shown, position, rate, interval = 0) {
  if (rate) return frameOfTimestamp(shown, rate) === frameAt(position, rate);
  const before = position - shown;
  return before > -SAME_POSITION_S && before < (interval || NEAR_SHOWN_S) + SAME_POSITION_S;
}

/** Whether the user has interacted with the page, so that a start can be the user's. */
function hasInteracted() {
  return globalThis.navigator?.userActivation?.hasBeenActive ?? true;
}

/**
 * @param {{ addEventListener?: (type: string, listener: () => void, options: AddEventListenerOptions) => void }} target
 * @param {readonly string[]} types
 * @param {() => void} listener
 * @returns {Undo}
 */
function listen(target, types, listener) {
  const life = new AbortController();
  for (const type of types) target.addEventListener?.(type, listener, { capture: true, signal: life.signal });
  return () => life.abort();
}
