/**
 * One room: what the user shows there (cursor, selection, typing, broadcasts), joining, and the object `room` of the
 * application. The presence (presence.js) makes it, passes on what it receives for it, and tells it about the connection.
 */

/**
 * @import { AttachedPlayer } from "./attached-player.js"
 * @import { ServerClock } from "./clock.js"
 * @import { Connection } from "./connection.js"
 * @import { SharedPlayback } from "./media.js"
 * @import { Cursors, Joined, RoomMessage } from "./messages.js"
 * @import { RequestQueue } from "./requests.js"
 * @import {
 *   Answer, AttachOptions, Attachment, ConnectionStatus, Cursor, EnterOptions, MediaElement, PlaybackCommand, PlaybackReport, Player,
 *   PresenceError, Privacy, Room, RoomEvents, RoomSnapshot, Selection, Status,
 * } from "./types.js"
 */

import {
  checkAttach, checkCommand, checkFollowed, checkListener, checkOutputOffset, checkOwnObject, checkShown, checkText,
} from "./arguments.js";
import { Emitter } from "./events.js";
import { OwnPresence, tooLarge } from "./own-presence.js";
import { OwnPrivacy } from "./own-privacy.js";
import { LEFT } from "./requests.js";
import { SendSlot } from "./send-slot.js";
import { inMedium, RoomStore } from "./store.js";

const TYPING_REFRESH_MS = 3000; // sent so often while keys are pressed
const TYPING_LIFE_MS = 5000; // the server ends it after this time [G1]
const JOIN_RETRY_MS = 1000;
const MAX_SECONDS = 1e6;
const DEFAULT_PRESENCE_HZ = 20;
const LOAD_MS = 10_000; // a module that has not come by then does not come

/**
 * What a room uses of its presence.
 * @typedef {object} RoomContext
 * @property {ServerClock} clock
 * @property {Connection} connection
 * @property {RequestQueue} requests
 * @property {number} throttleMs Least time between two cursors.
 * @property {(status: { status: Status, statusMessage?: string | undefined }) => Promise<any>} setStatus
 * @property {(privacy: Privacy) => Promise<any>} setPrivacy
 * @property {(error: PresenceError) => void} warn What the application does not listen to is told to the console.
 * @property {(room: RoomClient) => void} onEnd The room is over.
 */

export class RoomClient {
  /** How often it was entered; with as many leaves it is left. */
  enteredCount = 0;
  /** Whether it is joined on the present connection. */
  isLive = false;

  /** When the last message came before the connection was lost, server ms; 0 before a loss. */
  #awayFrom = 0;
  #roomId;
  #context;
  /** The message that joins the room. */
  #joinMessage;
  /** What the next join says of it. */
  #privacy;
  /** When the room was last live, server ms. */
  #heardAt = 0;
  #store;
  /** @type {Emitter<RoomEvents>} */
  #events = new Emitter();
  /** The snapshot that the listeners of `change` were called with. */
  #notifiedSnapshot;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #joinTimer;

  /** @type {SendSlot<Cursor | null>} */
  #cursor;
  /** @type {SendSlot<Selection | null>} */
  #selection;
  /** @type {SendSlot<{ isTyping: boolean, context?: string | undefined }>} */
  #typing;
  #presence = new OwnPresence();
  /**
   * Sends what has changed in the presence object.
   * @type {SendSlot<true>}
   */
  #presenceSlot;
  /** Server ms at which the last typing is over. */
  #typingUntil = 0;
  /**
   * All slots of the room, those of shared playback included.
   * @type {SendSlot<any>[]}
   */
  #slots = [];

  /** @type {Promise<void> | undefined} */
  #mediaLoading;
  /** Ends the wait for the module. */
  #stopLoading = () => {};
  /** The module could not be loaded: the room was joined without it. */
  #hasMissedMedia = false;
  /** @type {SharedPlayback | undefined} */
  #media;
  /** Ends what waits for the end of the room. */
  #over = new AbortController();

  /**
   * @param {string} roomId
   * @param {EnterOptions} options
   * @param {RoomContext} context
   */
  constructor(roomId, { type, privacy, presence }, context) {
    this.#roomId = roomId;
    this.#context = context;
    this.#joinMessage = { type: "join", roomId, roomType: type };
    this.#privacy = new OwnPrivacy(privacy);
    this.#store = new RoomStore(roomId);
    this.#notifiedSnapshot = this.#store.snapshot;
    this.#cursor = this.#addSlot((cursor) => this.#send("cursor", cursor));
    this.#selection = this.#addSlot((selection) => this.#send("selection", selection));
    this.#typing = this.#addSlot((typing) => {
      if (context.clock.now() < this.#typingUntil) this.#send("typing", typing);
    });
    // also without another session: a session that comes later has to see it
    this.#presenceSlot = this.#addSlot(
      () => {
        const patch = this.#presence.takeUnsent();
        if (patch) this.#send("presence", patch);
      },
      () => this.isLive && !context.connection.isFull,
    );
    /** The room's object for the application. */
    this.room = this.#createRoom();
    if (presence) this.#setPresence(presence);
  }

  // --- for the presence --------------------------------------------------------------------------------------------

  /** Joins on a new connection, and tries again later if the server asks for that. */
  async join() {
    clearTimeout(this.#joinTimer);
    // an id begins with its type
    if (/^(video|comp)/.test(this.#joinMessage.roomType ?? this.#roomId)) await this.#loadMedia(); // it applies the events of the room from the first one on
    if (this.#isOver) return; // left meanwhile
    const known = this.#media?.known;
    const data = known && { known: { ...known, at: this.#heardAt } };
    this.#checkPresenceSize();
    const { value } = this.#presence;
    const presence = Object.keys(value).length ? value : undefined;
    const privacy = this.#privacy.value;
    const answer = await this.#context.requests.ask({ ...this.#joinMessage, privacy, presence, data });
    if (answer.success || this.#isOver) return;
    const { code, retryAfterMs } = answer;
    if (code !== "OFFLINE") this.#context.warn(answer);
    // FORBIDDEN has a retry time if access could not be checked
    if (retryAfterMs || code === "RATE_LIMITED" || code === "INTERNAL" || code === "TIMEOUT") {
      this.#showError(answer);
      this.#joinTimer = setTimeout(() => this.join(), (retryAfterMs || JOIN_RETRY_MS) * (1 + Math.random()));
    } else if (code !== "OFFLINE") {
      this.#finish(answer); // it was reported as an event
    }
  }

  /**
   * Applies a message of the server and calls the listeners.
   * @param {RoomMessage} message
   */
  receive(message) {
    if (!this.isLive && message.type !== "joined" && message.type !== "error") return;
    if (message.type === "cursors") return this.#onCursors(message);
    const { media } = this.#store.snapshot;
    this.#store.apply(message);
    if (message.type === "joined" || message.type === "media_changed") this.#keepShown(media);
    if (message.type === "joined") this.#onJoined(message);
    else if (message.type === "server_notice" && message.sendIntervalMs) this.#limitRate(message.sendIntervalMs);
    else if (message.type === "kicked") this.#onKicked(message.reason);
    for (const slot of this.#slots) slot.trySend();
    const isInternal = this.#media?.receive(message);
    if (!isInternal) this.#events.emit(/** @type {any} */ (message.type), message);
    this.#notify();
  }

  /** @param {PresenceError} error */
  reportError(error) {
    this.#events.emit("error", error);
  }

  /** Whether the application listens to the errors of this room. */
  get hasErrorListener() {
    return this.#events.has("error");
  }

  /** While it is not live: the connection has failed once more. */
  onConnectionError() {
    const { status } = this.#store.snapshot;
    if (status !== "live" && status !== "closed") this.#showError(this.#context.connection.error);
  }

  /**
   * What a second `enter` asks for.
   * @param {EnterOptions} options
   * @throws {TypeError} If the room was entered as one of another type.
   */
  applyOptions({ type, privacy, presence }) {
    const { roomId, roomType = this.#store.snapshot.type } = this.#joinMessage;
    if (type !== undefined && roomType !== undefined && type !== roomType) {
      throw new TypeError(`enter: the room ${roomId} is entered as "${roomType}" and cannot be "${type}" too.`);
    }
    this.#joinMessage.roomType ??= type;
    const missing = Object.entries(presence ?? {}).filter(([key]) => !Object.hasOwn(this.#presence.value, key));
    if (missing.length) this.#setPresence(Object.fromEntries(missing));
    if (!privacy) return;
    if (this.isLive) {
      if (!this.#privacy.value) this.#privacy = new OwnPrivacy({}); // from now on the joins of this room have a privacy
      this.#context.setPrivacy(privacy);
    } else {
      const change = { ...privacy };
      this.#privacy.add(change);
      this.#privacy.settle(change, false); // the join says it
    }
  }

  /** The user looks at something else. */
  hideCursor() {
    this.#show(this.#cursor, null);
  }

  /**
   * The next join has the current privacy, or a reconnect would undo this change.
   * @param {Privacy} change
   */
  rememberPrivacy(change) {
    if (this.#privacy.value) this.#privacy.add(change);
  }

  /**
   * A change is answered.
   * @param {Privacy} change
   * @param {boolean} isRefused The next join is without it.
   */
  settlePrivacy(change, isRefused) {
    this.#privacy.settle(change, isRefused);
  }

  /** @param {ConnectionStatus} status Of the connection. */
  onConnectionStatus(status) {
    // the room is live when it is joined, and its presence ends it
    if (status === "live" || status === "closed" || this.#isOver) return;
    this.#setStatus(status, this.#context.connection.error);
  }

  onConnectionLost() {
    if (this.isLive) {
      this.#heardAt = this.#context.connection.heardAt;
      this.#awayFrom = this.#context.connection.receivedAt;
    }
    this.isLive = false;
    clearTimeout(this.#joinTimer); // the next connection joins
    for (const slot of this.#slots) slot.stop();
  }

  /** @param {string} reason */
  #onKicked(reason) {
    const error = /** @type {PresenceError} */ ({ code: "KICKED", message: reason });
    this.#context.warn(error);
    this.end(error);
  }

  /**
   * Ends the room: listeners are told once more, then nothing happens any more.
   * @param {PresenceError | null} [error] Null: it was left.
   */
  end(error = null) {
    this.#finish(error, () => {
      if (error) this.reportError(error);
    });
  }

  /**
   * Leaves once when a signal aborts.
   * @param {AbortSignal} signal
   */
  leaveAt(signal) {
    if (signal.aborted) this.#leave();
    else signal.addEventListener("abort", () => this.#leave(), { signal: this.#over.signal });
  }

  // --- joining and ending ------------------------------------------------------------------------------------------

  get #isOver() {
    return this.#store.snapshot.status === "closed";
  }

  /** @param {Joined} message */
  #onJoined(message) {
    const returned = this.isLive ? null : this.#returnNow();
    this.isLive = true;
    this.#limitRate(message.sendIntervalMs);
    if (this.#presence.compare(this.#store.ownPresenceIn(message))) this.#store.setOwnPresence(this.#presence.value);
    if (this.#presence.hasUnsent) this.#presenceSlot.offer(true);
    // the server has forgotten what was shown on an earlier connection
    for (const slot of [this.#cursor, this.#selection]) if (slot.value) slot.offer(/** @type {any} */ (slot.value));
    this.#context.requests.sendWaiting();
    if (returned) this.#store.patch({ returned });
    this.#setStatus("live");
    if (returned) this.#events.emit("returned", returned);
  }

  /**
   * Others have seen no leave if the session was resumed and is in the room still [D2].
   * @returns {RoomSnapshot["returned"]} Null at the first time.
   */
  #returnNow() {
    if (!this.#awayFrom) return null;
    const { hello } = this.#context.connection;
    const resumed = Boolean(hello?.resumed && hello.rooms.includes(this.#roomId));
    return { resumed, awayMs: Math.max(0, Math.round(this.#context.clock.now() - this.#awayFrom)) };
  }

  /** @param {Cursors} message */
  #onCursors(message) {
    for (const row of message.data) {
      const event = this.#store.expandCursor(row, message);
      if (!event) continue;
      this.#store.apply(event);
      this.#events.emit("cursor_moved", event);
    }
    this.#notify();
  }

  /**
   * @param {PresenceError | null} error
   * @param {() => void} [report]
   */
  #finish(error, report) {
    this.onConnectionLost();
    this.#over.abort();
    this.#stopLoading();
    this.#context.onEnd(this);
    report?.();
    this.#setStatus("closed", error);
  }

  /**
   * @param {ConnectionStatus} status
   * @param {PresenceError | null} [error]
   */
  #setStatus(status, error = null) {
    this.#store.patch({ status, error, transport: this.#context.connection.transport });
    this.#events.emit("status", status);
    this.#notify();
  }

  /** @param {PresenceError | null} error Why the room is not live. */
  #showError(error) {
    this.#store.patch({ error });
    this.#notify();
  }

  /** Calls the listeners of `change` if there is one. */
  #notify() {
    const { snapshot } = this.#store;
    if (snapshot === this.#notifiedSnapshot) return;
    this.#notifiedSnapshot = snapshot;
    this.#events.emit("change", snapshot);
  }

  // --- showing -----------------------------------------------------------------------------------------------------

  /**
   * @param {string} type
   * @param {unknown} [data]
   * @param {readonly string[]} [to]
   */
  #send(type, data, to) {
    this.#context.connection.send({ type, roomId: this.#roomId, data, to });
  }

  /**
   * Adds a slot that sends while another session is in the room and the network takes it.
   * @template Value
   * @param {(value: Value) => void} send
   * @param {() => boolean} [maySend]
   * @returns {SendSlot<Value>}
   */
  #addSlot(send, maySend = () => this.isLive && this.#store.hasOtherSessions && !this.#context.connection.isFull) {
    const slot = new SendSlot({ send, maySend });
    this.#slots.push(slot);
    return slot;
  }

  /** @param {number} [advisedMs] Least time between two cursors that the server asks for. */
  #limitRate(advisedMs = 0) {
    const { connection, throttleMs } = this.#context;
    const allowedMs = 1000 / (connection.hello?.limits.cursorHz ?? Infinity);
    const intervalMs = Math.max(throttleMs, advisedMs, allowedMs);
    this.#cursor.intervalMs = intervalMs;
    this.#selection.intervalMs = intervalMs;
    this.#presenceSlot.intervalMs = 1000 / (connection.hello?.limits.presenceHz ?? DEFAULT_PRESENCE_HZ);
  }

  /**
   * @template {Cursor | Selection} Value
   * @param {SendSlot<Value | null>} slot
   * @param {Value | null} value
   */
  #show(slot, value) {
    if (value) slot.offer(clamp(this.#media?.withMedium(value) ?? value));
    else if (slot.value) slot.offer(null); // what is cleared is not cleared again
  }

  /**
   * What the user shows stays in the film in which it was made, also when it is sent again after a reconnect [H19].
   * @param {RoomSnapshot["media"]} before The films before the last message.
   */
  #keepShown(before = {}) {
    const { media } = this.#store.snapshot;
    for (const [target, { mediaId }] of Object.entries(before)) {
      if (media?.[target]?.mediaId === mediaId) continue;
      for (const slot of /** @type {SendSlot<any>[]} */ ([this.#cursor, this.#selection])) {
        const value = inMedium(slot.value, target, mediaId);
        if (value !== slot.value) slot.amend(value); // the server does the same for what has arrived
      }
    }
  }

  /**
   * @param {unknown} patch
   * @returns {boolean} False if it was refused.
   */
  #setPresence(patch) {
    if (this.#isOver) return false;
    const before = this.#presence.value;
    const fault = this.#presence.merge(patch, this.#context.connection.hello?.limits.maxPresenceBytes);
    if (fault) {
      this.reportError({ ...fault, roomId: this.#roomId });
    } else if (this.#presence.value !== before) {
      this.#store.setOwnPresence(this.#presence.value);
      this.#notify();
      queueMicrotask(() => this.#presenceSlot.offer(true)); // all calls of one turn are one message
    }
    return !fault;
  }

  /**
   * The server's limit is known once there is a connection: an object that is larger is taken back, and the room is joined without
   * it. The server would refuse the join.
   */
  #checkPresenceSize() {
    const { bytes } = this.#presence;
    const { maxPresenceBytes = Infinity } = this.#context.connection.hello?.limits ?? {};
    if (bytes <= maxPresenceBytes) return;
    this.#presence.merge(null);
    this.#store.setOwnPresence(this.#presence.value);
    this.#tell({ ...tooLarge(bytes, maxPresenceBytes), roomId: this.#roomId });
    this.#notify();
  }

  /**
   * @param {boolean} isTyping
   * @param {string} [context]
   */
  #showTyping(isTyping, context) {
    const now = this.#context.clock.now();
    const before = now < this.#typingUntil ? this.#typing.value : null;
    if (!isTyping && !before?.isTyping) return;
    const isRefresh = isTyping && before?.isTyping && before.context === context;
    this.#typingUntil = now + TYPING_LIFE_MS;
    this.#typing.offer({ isTyping, context }, isRefresh ? TYPING_REFRESH_MS : 0);
  }

  // --- shared playback ---------------------------------------------------------------------------------------------

  /**
   * Playback, control and video are in a module of their own; rooms that may need it load it before they are joined. A failure, or
   * a module that does not come, is told, and loaded again when it is needed next.
   * @returns {Promise<void>} It never rejects, and settles within LOAD_MS, and at the end of the room.
   */
  async #loadMedia() {
    if (this.#isOver) return;
    this.#mediaLoading ??= this.#importMedia();
    await this.#mediaLoading;
  }

  async #importMedia() {
    /** @type {Promise<undefined>} */
    const stopped = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`media.js has not come within ${LOAD_MS / 1000} s.`)), LOAD_MS);
      this.#stopLoading = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
    try {
      const module = await Promise.race([import("./media.js"), stopped]);
      if (module && !this.#isOver) this.#useMedia(module);
    } catch (error) {
      this.#mediaLoading = undefined;
      this.#hasMissedMedia = true;
      this.#tell({ code: "LOAD", message: `${error}`, roomId: this.#roomId });
    }
    this.#stopLoading();
    if (this.#media && this.#hasMissedMedia && this.isLive) this.join(); // for the playback of the room as it is now
  }

  /** @param {{ SharedPlayback: typeof SharedPlayback }} module */
  #useMedia(module) {
    this.#media = new module.SharedPlayback({
      room: this.room,
      store: this.#store,
      notify: () => this.#notify(),
      emit: (type, event) => this.#events.emit(type, event),
      send: (type, data, to) => this.#send(type, data, to),
      ask: (type, data, key) => this.#ask(type, data, { key }),
      addSlot: (slot) => this.#addSlot(slot.send, slot.maySend),
      isLive: () => this.isLive,
      measureClock: () => this.#context.connection.measureClock(),
    });
  }

  /**
   * Tells what is wrong with the room in all places: as an event, in the snapshot while it is not live, and to the console if
   * nothing listens.
   * @param {PresenceError} error
   */
  #tell(error) {
    this.#context.warn(error);
    if (!this.isLive) this.#showError(error);
    this.reportError(error);
  }

  /**
   * @template Result
   * @param {(media: SharedPlayback) => Result} use
   * @returns {Promise<Awaited<Result>>} Undefined if the module cannot be loaded, which is reported.
   */
  async #withMedia(use) {
    await this.#loadMedia();
    return /** @type {Awaited<Result>} */ (this.#media && (await use(this.#media)));
  }

  /**
   * @param {(media: SharedPlayback) => any} use
   * @returns {Promise<Answer<any>>}
   */
  async #askMedia(use) {
    await this.#loadMedia();
    if (this.#isOver) return LEFT;
    return this.#media ? use(this.#media) : { success: false, code: "LOAD", message: "media.js could not be loaded." };
  }

  /**
   * @param {string} type
   * @param {unknown} [data]
   * @param {{ to?: readonly string[] | undefined, key?: string | undefined }} [options]
   * @returns {Promise<Answer<any>>}
   */
  #ask(type, data, { to, key } = {}) {
    return this.#isOver ? Promise.resolve(LEFT) : this.#context.requests.ask({ type, roomId: this.#roomId, data, to }, key);
  }

  /**
   * @param {MediaElement | Player} player
   * @param {AttachOptions | undefined} options
   * @returns {Attachment}
   */
  #attach(player, options) {
    const attached = this.#withMedia((media) => media.attach(player, options));
    attached.catch(({ message }) => this.reportError({ code: "INVALID_DATA", message, roomId: this.#roomId }));
    /** @param {(attachedPlayer: AttachedPlayer) => void} use */
    const later = (use) => void attached.then((attachedPlayer) => attachedPlayer && use(attachedPlayer), () => {});
    return Object.assign(() => later((attachedPlayer) => this.#media?.detach(attachedPlayer)), {
      setOutputOffset: (/** @type {number} */ seconds) => {
        checkOutputOffset("setOutputOffset: it", seconds);
        later((attachedPlayer) => attachedPlayer.setOutputOffset(seconds));
      },
      setMediaId: (/** @type {string | undefined} */ mediaId) => {
        const shown = checkText("setMediaId: the id", mediaId);
        later((attachedPlayer) => attachedPlayer.setMediaId(shown));
      },
    });
  }

  // --- for the application -----------------------------------------------------------------------------------------

  /**
   * A plain object, so that its functions may be called without it, and by way of a proxy.
   * @returns {Room}
   */
  #createRoom() {
    const { clock, setStatus, setPrivacy } = this.#context;
    const store = this.#store;
    const roomId = this.#roomId;
    return {
      id: roomId,
      clock,
      on: (type, listener) => this.#events.on(type, checkListener("on", listener)),
      get status() {
        return store.snapshot.status;
      },
      get self() {
        return store.snapshot.self;
      },
      get others() {
        return store.snapshot.others;
      },
      get mayControl() {
        const { controller, self, rights, settings } = store.snapshot;
        if (rights && !rights.control) return false;
        if (controller) return controller === self?.userId;
        const mode = settings?.controlMode ?? "open";
        return mode === "open" || (mode === "moderators" && Boolean(rights?.moderate));
      },
      getSnapshot: () => store.snapshot,
      subscribe: (callback) => this.#events.on("change", checkListener("subscribe", callback)),
      ready: () => new Promise((resolve) => {
        const check = () => {
          if (!this.isLive && !this.#isOver) return;
          undo();
          resolve(this.isLive);
        };
        const undo = this.#events.on("status", check);
        check();
      }),
      updateCursor: (cursor) => this.#show(this.#cursor, checkShown("updateCursor", cursor)),
      updateSelection: (selection) => this.#show(this.#selection, checkShown("updateSelection", selection)),
      typing: (isTyping, context) => this.#showTyping(Boolean(isTyping), checkText("typing: the context", context)),
      setPresence: (patch) => this.#setPresence(checkOwnObject("setPresence", patch)),
      setStatus: (status, statusMessage) => setStatus({ status, statusMessage }),
      setPrivacy,
      broadcast: (data, to) => this.#ask("broadcast", data, { to }),
      leave: () => this.#leave(),

      position: (serverTime) => this.#media?.position(serverTime) ?? 0,
      playback: (/** @type {PlaybackCommand | PlaybackReport} */ command) => this.#playback(command),
      step: (frames) => this.#askMedia((media) => media.playback({ action: "step", frames })),
      setMedia: (change) => this.#askMedia((media) => media.setMedia(change)),
      follow: (whom) => this.#follow(whom),
      requestControl: () => this.#askMedia((media) => media.control.request()),
      cancelRequest: () => this.#askMedia((media) => media.control.cancelRequest()),
      grantControl: (userId) => this.#askMedia((media) => media.control.grant(userId)),
      denyControl: (userId) => this.#askMedia((media) => media.control.deny(userId)),
      releaseControl: () => this.#askMedia((media) => media.control.release()),
      attach: (player, options) => this.#attach(player, checkAttach(options)),
    };
  }

  /**
   * @param {PlaybackCommand | PlaybackReport} command
   * @returns {any} Of a command an answer; of a report nothing.
   */
  #playback(command) {
    checkCommand(command);
    if (command.action === "report") return void this.#withMedia((media) => media.playback(command));
    return this.#askMedia((media) => media.playback(command));
  }

  /** @param {boolean | string} whom */
  #follow(whom) {
    checkFollowed(whom);
    return this.#withMedia((media) => !this.#isOver && media.follow(whom)).then((isDone) => isDone ?? false);
  }

  #leave() {
    if (--this.enteredCount > 0 || this.#isOver) return;
    if (this.isLive) this.#send("leave");
    this.end();
  }
}

/**
 * Numbers in their range, rounded to a visible precision [E5].
 * @template {Cursor | Selection} Value
 * @param {Value} value
 * @returns {Value}
 */
function clamp(value) {
  /** @type {Record<string, unknown>} */
  const clamped = { ...value };
  for (const field in clamped) {
    const number = Number(clamped[field]);
    if (field === "target" || field === "mediaId" || !(number > -Infinity)) continue;
    const max = field === "x" || field === "y" ? 1 : MAX_SECONDS;
    clamped[field] = Number(Math.min(Math.max(number, 0), max).toFixed(4));
  }
  return /** @type {Value} */ (clamped);
}
