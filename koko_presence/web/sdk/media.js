/**
 * Watching together: a room (room.js) loads this module before it is joined if its type may need it. It connects the room's
 * playback and commands (room-playback.js), control (control.js), following (follow.js) and the attached players
 * (attached-player.js).
 */

/**
 * @import { MediaContext } from "./media-context.js"
 * @import { RoomMessage } from "./messages.js"
 * @import { SendSlot } from "./send-slot.js"
 * @import { AttachOptions, Cursor, MediaElement, MediumChange, PlaybackCommand, PlaybackReport, Player, Selection } from "./types.js"
 */

import { AttachedPlayer } from "./attached-player.js";
import { problemOf } from "./command-check.js";
import { Control } from "./control.js";
import { Following } from "./follow.js";
import { parseFrameRate } from "./frames.js";
import { playerOf } from "./player.js";
import { MAIN_TARGET, positionOf } from "./playback-position.js";
import { CHANGING, FRESH_MS, RoomPlayback } from "./room-playback.js";

const REPORT_MS = 1000; // steady; five times as often on a change [H6]
/** A change of these is reported sooner. */
const TOLD_AT_ONCE = /** @type {const} */ (["isPlaying", "buffering", "follow", "target", "mediaId"]);
const FRESH_REPORT_MS = 1500; // one that has waited for longer is not sent; the next one is soon due

export class SharedPlayback {
  control;

  #context;
  #playback;
  #following;
  /** @type {SendSlot<PlaybackReport & { at: number }>} */
  #reports;
  /** @type {Set<AttachedPlayer>} */
  #attached = new Set();

  /** @param {MediaContext} context */
  constructor(context) {
    this.#context = context;
    this.control = new Control(context);
    this.#following = new Following(context);
    this.#reports = context.addSlot({ send: (report) => this.#sendReport(report), maySend: context.isLive });
    this.#playback = new RoomPlayback(context);
    context.room.on("status", (status) => {
      if (status === "closed") for (const attached of [...this.#attached]) this.detach(attached);
    });
  }

  /** What a server that was restarted may want to know [H24]. */
  get known() {
    const { playback } = this.#playback;
    const { media } = this.#context.store.snapshot;
    return playback ? { playback, media } : undefined;
  }

  /**
   * Applies a message.
   * @param {RoomMessage} message
   * @returns {boolean} True if it is not for the application.
   */
  receive(message) {
    const { store } = this.#context;
    if (message.type === "viewer_sync") {
      const { synced, total, ...viewerSync } = message.data;
      store.updateMember(message.sessionId, { viewerSync });
      store.patch({ synced: { synced, total } });
    }
    this.control.receive(message);
    this.#playback.receive(message);
    return this.#following.receive(message);
  }

  position(at = this.#context.room.clock.now()) {
    return positionOf(this.#context.store.snapshot.playback, at);
  }

  /**
   * Says in which film a cursor or selection is, if the attached player shows another one than the room [H19].
   * @template {Cursor | Selection} Value
   * @param {Value} value
   * @returns {Value}
   */
  withMedium(value) {
    const { media, shownMedia } = this.#context.store.snapshot;
    const target = value.target || MAIN_TARGET;
    const mediaId = shownMedia[target];
    return mediaId === undefined || mediaId === media?.[target]?.mediaId ? value : { mediaId, ...value };
  }

  // --- commands ----------------------------------------------------------------------------------------------------

  /**
   * @param {PlaybackCommand | PlaybackReport} command
   * @returns {ReturnType<RoomPlayback["command"]> | undefined} Undefined for a report, which is not answered.
   */
  playback(command) {
    if (command.action === "report") {
      const problem = problemOf(command);
      if (problem) this.#context.emit("error", { code: "INVALID_DATA", message: problem, roomId: this.#context.room.id });
      else this.#offerReport(command);
      return undefined;
    }
    return this.#playback.command(this.#aboutFilm(this.#byShownFrame(command)));
  }

  /**
   * With what the attached player knows of its film, where the command does not say it: how long it is, so that the room ends
   * where the players do [H20].
   * @param {PlaybackCommand} command
   * @returns {PlaybackCommand}
   */
  #aboutFilm(command) {
    if (!CHANGING.includes(command.action) || command.duration !== undefined) return command;
    const { target, mediaId } = command;
    const player = target ? [...this.#attached].find((each) => each.target === target) : this.#mainPlayer;
    const film = player?.film;
    const isOther = mediaId !== undefined && film?.mediaId !== undefined && film.mediaId !== mediaId;
    return isOther ? command : { ...command, ...film };
  }

  /**
   * A pause means the frame that is shown. So does a step where the room does not know the frame rate [H21].
   * @param {PlaybackCommand} command
   * @returns {PlaybackCommand}
   */
  #byShownFrame(command) {
    const player = this.#mainPlayer;
    if (!player) return command;
    if (command.action === "pause") {
      const currentTime = player.pausedPosition(command.currentTime);
      return currentTime === undefined ? command : { ...command, currentTime };
    }
    const isRateKnown = parseFrameRate(this.#context.store.snapshot.media?.[player.target]?.frameRate);
    if (command.action !== "step" || isRateKnown) return command;
    const currentTime = player.positionAfter(command.frames);
    const { frames, ...fields } = command;
    return currentTime === undefined ? command : { ...fields, action: "pause", currentTime };
  }

  /**
   * Before the first join it waits for that, however long it takes; later an old one would change the film of a room that
   * has moved on [H4].
   * @param {MediumChange} change
   */
  async setMedia(change) {
    const { room, ask, measureClock } = this.#context;
    const answer = await ask("media", { at: room.clock.now(), ...(room.self && { maxAgeMs: FRESH_MS }), ...change });
    if (!answer.success && answer.code === "STALE") measureClock(); // it may be wrong, as after a sleep of the computer
    return answer;
  }

  /**
   * @param {boolean | string} whom
   * @returns {boolean}
   */
  follow(whom) {
    const isDone = this.#following.start(whom);
    if (whom === true) for (const attached of this.#attached) attached.resync();
    return isDone;
  }

  // --- attached players --------------------------------------------------------------------------------------------

  /**
   * @param {MediaElement | Player} source
   * @param {AttachOptions} [options]
   * @returns {AttachedPlayer | null} Null in a room that is over.
   * @throws {TypeError} If `source` is no player.
   */
  attach(source, options = {}) {
    const { room, emit, measureClock } = this.#context;
    if (room.status === "closed") return null;
    const attached = new AttachedPlayer(playerOf(source), options, {
      room,
      following: this.#following,
      command: (command) => void this.#playback.command(command),
      reportDue: () => this.#onReportDue(attached),
      changed: () => this.#showAttached(),
      blocked: () => emit("autoplay_blocked", { video: /** @type {HTMLVideoElement} */ (source) }),
      failed: (code, message) => emit("error", { code, message, roomId: room.id }),
    });
    this.#attached.add(attached);
    measureClock();
    attached.start();
    this.#showAttached();
    return attached;
  }

  /** @param {AttachedPlayer} attached */
  detach(attached) {
    if (!this.#attached.delete(attached)) return;
    attached.stop();
    this.#showAttached();
    this.#reportWorst();
  }

  /** The player whose frames and position stand for this session: that of the target `main`, else the first. */
  get #mainPlayer() {
    const players = [...this.#attached];
    return players.find(({ target }) => target === MAIN_TARGET) ?? players[0];
  }

  /** Shows what the attached players tell of themselves. */
  #showAttached() {
    const { store, notify } = this.#context;
    const players = [...this.#attached];
    const shownMedia = Object.fromEntries(players.flatMap(({ target, mediaId }) => (mediaId ? [[target, mediaId]] : [])));
    const isBlocked = players.some((player) => player.isBlocked);
    const before = store.snapshot;
    if (JSON.stringify(shownMedia) !== JSON.stringify(before.shownMedia)) store.patch({ shownMedia });
    if (isBlocked !== before.isBlocked) store.patch({ isBlocked });
    notify();
  }

  // --- reports -----------------------------------------------------------------------------------------------------

  /** @param {AttachedPlayer} attached */
  #onReportDue(attached) {
    this.#reportWorst();
    const { report } = attached;
    if (attached !== this.#mainPlayer || !report) return;
    const { isPlaying, buffering, currentTime, playbackRate } = report;
    const anchor = this.#context.room.clock.now();
    this.#following.lead({ isPlaying: isPlaying && !buffering, currentTime, playbackRate, anchor });
  }

  /** A session has one report: that of the player which is farthest from the room, the main one where all are in step. */
  #reportWorst() {
    const main = this.#mainPlayer;
    if (!main) return;
    const worst = [...this.#attached].reduce((one, other) => (other.outOfStepS > one.outOfStepS ? other : one), main);
    if (worst.report) this.#offerReport(worst.report);
  }

  /** @param {PlaybackReport} report */
  #offerReport(report) {
    const before = this.#reports.value;
    const isSame = TOLD_AT_ONCE.every((field) => before?.[field] === report[field]);
    this.#reports.offer({ at: this.#context.room.clock.now(), ...report }, isSame ? REPORT_MS : REPORT_MS / 5);
  }

  /** @param {PlaybackReport & { at: number }} report */
  #sendReport(report) {
    if (this.#context.room.clock.now() - report.at >= FRESH_REPORT_MS) return;
    this.#context.send("playback", { maxAgeMs: FRESH_MS, ...report });
  }
}
