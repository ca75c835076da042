/**
 * The entry of the SDK: `createPresence` makes the object with which an application enters rooms. All rooms share one
 * connection. The protocol is in docs/protocol.md, the interface in types.d.ts.
 */

/** @import { ClientMessage, RoomMessage } from "./messages.js" */

// The types that applications import from here.
/**
 * @typedef {import("./types.js").RoomType} RoomType
 * @typedef {import("./types.js").Status} Status
 * @typedef {import("./types.js").Activity} Activity
 * @typedef {import("./types.js").ConnectionStatus} ConnectionStatus
 * @typedef {import("./types.js").PresenceStatus} PresenceStatus
 * @typedef {import("./types.js").Transport} Transport
 * @typedef {import("./types.js").Cursor} Cursor
 * @typedef {import("./types.js").Selection} Selection
 * @typedef {import("./types.js").ViewerSync} ViewerSync
 * @typedef {import("./types.js").Playback} Playback
 * @typedef {import("./types.js").ControlRequest} ControlRequest
 * @typedef {import("./types.js").AppTypes} AppTypes
 * @typedef {import("./types.js").ErrorCode} ErrorCode
 * @typedef {import("./types.js").PresenceError} PresenceError
 * @typedef {import("./types.js").Privacy} Privacy
 * @typedef {import("./types.js").PlaybackCommand} PlaybackCommand
 * @typedef {import("./types.js").PlaybackReport} PlaybackReport
 * @typedef {import("./types.js").Traffic} Traffic
 * @typedef {import("./types.js").Undo} Undo
 * @typedef {import("./types.js").Clock} Clock
 * @typedef {import("./types.js").AttachOptions} AttachOptions
 * @typedef {import("./types.js").Attachment} Attachment
 * @typedef {import("./types.js").MediaElement} MediaElement
 * @typedef {import("./types.js").Medium} Medium
 * @typedef {import("./types.js").MediumChange} MediumChange
 * @typedef {import("./types.js").Player} Player
 * @typedef {import("./types.js").PlayerAbilities} PlayerAbilities
 * @typedef {import("./types.js").PlayerEvent} PlayerEvent
 * @typedef {import("./types.js").PlayerState} PlayerState
 * @typedef {import("./types.js").ShownFrame} ShownFrame
 * @typedef {import("./types.js").RoomSummary} RoomSummary
 * @typedef {import("./types.js").RoomWatch} RoomWatch
 * @typedef {import("./types.js").PresenceEvents} PresenceEvents
 * @typedef {import("./types.js").PresenceOptions} PresenceOptions
 */
/**
 * @template {string} Type
 * @template Data
 * @typedef {import("./types.js").RoomEvent<Type, Data>} RoomEvent
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").Member<App>} Member
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").Person<App>} Person
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").PresenceObject<App>} PresenceObject
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").PresencePatch<App>} PresencePatch
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").RoomSnapshot<App>} RoomSnapshot
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").EnterOptions<App>} EnterOptions
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").RoomEvents<App>} RoomEvents
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").Room<App>} Room
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./types.js").Presence<App>} Presence
 */
/**
 * @template [Result={}]
 * @typedef {import("./types.js").Answer<Result>} Answer
 */

import { checkEnter, checkListener, checkPresenceOptions } from "./arguments.js";
import { localNow, ServerClock } from "./clock.js";
import { Connection } from "./connection.js";
import { Emitter } from "./events.js";
import { OwnPrivacy } from "./own-privacy.js";
import { RequestQueue } from "./requests.js";
import { RoomClient } from "./room.js";
import { WatchedRooms } from "./watched-rooms.js";

/** Fields that a tool need not see, and a picture of its window should not show. */
const SECRETS = ["token", "resumeToken"];

/** Codes that are no refusal: no owner's answer came, or it failed, so that the change may have been made. */
const UNCERTAIN_CODES = ["OFFLINE", "TIMEOUT", "UNAVAILABLE", "INTERNAL"];

/** The rooms of one page, and what they share: connection, clock, requests, status and privacy. */
class PresenceClient {
  clock = new ServerClock();
  /** @type {Emitter<PresenceEvents>} */
  events = new Emitter();
  connection;

  /** @type {Set<(traffic: Traffic) => void>} */
  #inspectors = new Set();
  #signal;
  #throttleMs;
  #requests;
  #watched;
  #close = () => this.close();
  /** @type {Map<string, RoomClient>} */
  #rooms = new Map();
  /**
   * Set by the user; a new session is told of it.
   * @type {{ status: Status, statusMessage?: string | undefined } | undefined}
   */
  #status;
  #privacy;
  /** Codes of which the console was told. */
  #warned = new Set();

  /** @param {PresenceOptions} options */
  constructor(options) {
    const { signal, throttleMs = 50, privacy } = options;
    this.#signal = signal;
    this.#throttleMs = throttleMs;
    this.#privacy = new OwnPrivacy(privacy);
    this.connection = new Connection({
      options,
      clock: this.clock,
      handlers: {
        authFields: () => ({ privacy: this.#privacy.value }),
        onOpen: (hello) => this.#onOpen(hello),
        onMessage: (message) => this.#onMessage(message),
        onLost: () => this.#onLost(),
        onSlow: () => {
          console.info(`koko-presence: still connecting: ${this.connection.error?.message}`);
          for (const room of this.#allRooms) room.onConnectionError();
        },
        onEnd: (error) => this.#onEnd(error),
        onStreams: (warning) => console.warn(`koko-presence: ${warning}`),
        onTraffic: (direction, message) => this.#showTraffic(direction, message),
        onStatus: (status) => {
          if (status !== "idle") for (const room of this.#allRooms) room.onConnectionStatus(status);
          this.events.emit("status", status);
        },
        onError: (error) => {
          this.#report(error);
          for (const room of this.#allRooms) room.reportError(error);
        },
        onAttentionLost: () => {
          for (const room of this.#allRooms) room.hideCursor();
        },
      },
    });
    this.#requests = new RequestQueue({
      send: (message) => this.connection.send(message),
      maySend: (message) => this.#maySend(message),
      mayWait: () => this.connection.status !== "closed",
      onRefused: (error) => this.#onRefused(error),
    });
    this.#watched = new WatchedRooms({
      ask: (message) => this.#requests.ask(message, "watch"),
      isOnline: () => this.connection.isOnline,
      onError: (error) => this.#report(error),
      onChange: () => this.#connectIfUsed(),
    });
  }

  /**
   * @param {string} roomId
   * @param {EnterOptions} [options]
   * @returns {Room}
   */
  enter(roomId, options = {}) {
    checkEnter(roomId, options);
    const known = this.#rooms.get(roomId);
    known?.applyOptions(options);
    const entered = known ?? this.#createRoom(roomId, options);
    const { room } = entered;
    entered.enteredCount++;
    if (entered.enteredCount === 1) {
      this.#rooms.set(roomId, entered);
      if (this.connection.isOnline) entered.join();
      else this.#connect();
    }
    if (options.signal) entered.leaveAt(options.signal);
    if (this.#signal?.aborted) room.leave();
    return room;
  }

  /** Ends all rooms and the connection. */
  close() {
    this.connection.stop();
  }

  /** The rooms that are entered. */
  get rooms() {
    return this.#allRooms.map(({ room }) => room);
  }

  /**
   * @param {(traffic: Traffic) => void} listener
   * @returns {() => void} Its undo.
   */
  inspect(listener) {
    this.#inspectors.add(listener);
    return () => void this.#inspectors.delete(listener);
  }

  /**
   * @param {"sent" | "received"} direction
   * @param {object} message
   */
  #showTraffic(direction, message) {
    if (!this.#inspectors.size) return;
    const shown = /** @type {Traffic["message"]} */ ({ ...message });
    for (const name of SECRETS) if (shown[name]) shown[name] = "...";
    for (const listener of this.#inspectors) listener({ direction, at: localNow(), message: shown });
  }

  /** A copy: a room that ends is taken out. */
  get #allRooms() {
    return [...this.#rooms.values()];
  }

  /**
   * @param {string} roomId
   * @param {EnterOptions} options
   */
  #createRoom(roomId, options) {
    return new RoomClient(roomId, options, {
      clock: this.clock,
      connection: this.connection,
      requests: this.#requests,
      throttleMs: this.#throttleMs,
      setStatus: (status) => this.#setStatus(status),
      setPrivacy: (privacy) => this.#setPrivacy(privacy),
      warn: (error) => this.#warn(error),
      onEnd: (room) => this.#onRoomEnd(room),
    });
  }

  /**
   * @param {readonly string[]} roomIds
   * @returns {RoomWatch}
   */
  watchRooms(roomIds) {
    return this.#watched.watch(roomIds);
  }

  #connect() {
    this.#signal?.addEventListener("abort", this.#close);
    this.connection.start();
  }

  /** Connects while a room is entered or watched. */
  #connectIfUsed() {
    const { status } = this.connection;
    if (this.#rooms.size > 0 || this.#watched.isUsed) {
      if (!this.#signal?.aborted) this.#connect();
    } else if (status !== "idle" && status !== "closed") {
      this.connection.stop();
    }
  }

  /** @param {RoomClient} room */
  #onRoomEnd(room) {
    const { id } = room.room;
    if (this.#rooms.get(id) === room) { // else it was taken out by the end of the connection, and perhaps entered again
      this.#rooms.delete(id);
      this.#requests.failRoom(id);
    }
    // after the caller's task: a change from room to room keeps the connection
    queueMicrotask(() => this.#connectIfUsed());
  }

  /**
   * Whether there is a connection, and the room of the message is joined on it.
   * @param {ClientMessage} message
   * @returns {boolean}
   */
  #maySend({ type, roomId }) {
    if (!this.connection.isOnline) return false;
    return roomId === undefined || type === "join" || Boolean(this.#rooms.get(roomId)?.isLive);
  }

  /** @param {{ status: Status, statusMessage?: string | undefined }} status */
  #setStatus(status) {
    this.#status = status;
    return this.#requests.ask({ type: "status", data: status }, "status");
  }

  /**
   * The next connection sends a change again, and so do the joins of rooms that were entered with a privacy, unless the
   * server refuses it.
   * @param {Privacy} change
   */
  async #setPrivacy(change) {
    // a scope applies to its own message only: in the next auth it would apply later settings of this tab to the others
    const remembered = { ...change, scope: undefined };
    const rooms = this.#allRooms;
    for (const room of rooms) room.rememberPrivacy(remembered);
    this.#privacy.add(remembered);
    const answer = await this.#requests.ask({ type: "privacy", data: change }, "privacy");
    const isRefused = !answer.success && !UNCERTAIN_CODES.includes(answer.code);
    for (const room of rooms) room.settlePrivacy(remembered, isRefused);
    this.#privacy.settle(remembered, isRefused);
    return answer;
  }

  // --- the connection ----------------------------------------------------------------------------------------------

  /** @param {{ resumed: boolean, rooms: string[] }} hello */
  #onOpen({ resumed, rooms }) {
    if (this.#status && !resumed) this.connection.send({ type: "status", data: this.#status });
    for (const roomId of rooms) {
      if (!this.#rooms.has(roomId)) this.connection.send({ type: "leave", roomId }); // left meanwhile
    }
    for (const room of this.#allRooms) room.join();
    this.#watched.onOpen();
    this.#requests.sendWaiting();
  }

  #onLost() {
    this.#requests.failSent();
    this.#watched.onLost();
    for (const room of this.#allRooms) {
      room.onConnectionLost();
      room.onConnectionError();
    }
  }

  /**
   * The connection has ended. What is entered by a listener that is called here is not of those that end.
   * @param {PresenceError | null} error Null: the application closes it.
   */
  #onEnd(error) {
    this.#signal?.removeEventListener("abort", this.#close); // it may outlive many presences
    const ended = this.#allRooms;
    if (error) this.#warn(error); // while it is known which rooms have listeners
    this.#rooms.clear();
    this.#requests.failAll();
    if (error) this.events.emit("error", error);
    for (const room of ended) room.end(error);
    this.#watched.onEnd();
  }

  /** @param {PresenceError} error */
  #report(error) {
    this.#warn(error);
    this.events.emit("error", error);
  }

  /**
   * Tells the console of each code once, if the application listens to errors nowhere.
   * @param {PresenceError} error What keeps a room from being live.
   */
  #warn({ code, message, roomId, retryAfterMs }) {
    const isHeard = this.events.has("error") || this.#allRooms.some((room) => room.hasErrorListener);
    if (isHeard || this.#warned.has(code)) return;
    this.#warned.add(code);
    const isClosed = code === "FORBIDDEN" && roomId !== undefined && !retryAfterMs;
    const hint = isClosed ? ` Has the token's claim \`rooms\`, or your back end's answer, "join" for ${roomId}?` : "";
    console.warn(`koko-presence: ${code}: ${message}${hint} (Said once; presence.on("error", ...) gets all.)`);
  }

  /** @param {PresenceError} error A request that was not sent. */
  #onRefused(error) {
    const room = error.roomId === undefined ? undefined : this.#rooms.get(error.roomId);
    if (room) room.reportError(error);
    else this.events.emit("error", error);
  }

  /** @param {RoomMessage} message */
  #onMessage(message) {
    const requestId = "id" in message ? message.id : undefined;
    const roomId = message.roomId ?? this.#requests.roomIdOf(requestId);
    const room = roomId === undefined ? undefined : this.#rooms.get(roomId);
    const answer = /** @type {Answer<any>} */ ({ success: message.type !== "error", ...message });
    this.#requests.answer(requestId, answer);
    if (this.#watched.receive(message)) return;
    if (message.type === "joined" && !room) {
      this.connection.send({ type: "leave", roomId: message.roomId }); // left meanwhile
    } else if (room) {
      room.receive(message);
    } else if (message.roomId === undefined) {
      for (const each of this.#allRooms) each.receive(message);
    }
    if (message.type !== "error") return;
    // an error that is the answer to no request may be the reason why the connection does not become live
    if (!this.connection.isOnline) this.#report(message);
    else if (!room) this.events.emit("error", message);
  }
}

/**
 * Makes a presence. It connects when the first room is entered.
 * @template {AppTypes} [App=AppTypes]
 * @param {PresenceOptions} options
 * @returns {Presence<App>}
 * @throws {TypeError} If an option is missing or wrong.
 */
export function createPresence(options) {
  checkPresenceOptions(options);
  const client = new PresenceClient(options);
  const { clock, connection, events } = client;
  // a plain object, so that its functions may be called without it, and by way of a proxy
  /** @type {Presence<App>} */
  const presence = {
    clock,
    on: (type, listener) => events.on(type, checkListener("on", listener)),
    close: () => client.close(),
    get status() {
      return connection.status;
    },
    get error() {
      return connection.error;
    },
    get userId() {
      return connection.hello?.userId ?? null;
    },
    watchRooms: (roomIds) => client.watchRooms(roomIds),
    get rooms() {
      return /** @type {Room<any>[]} */ (client.rooms);
    },
    enter: (roomId, enterOptions) => /** @type {Room<any>} */ (client.enter(roomId, enterOptions)),
    inspect: (listener) => client.inspect(listener),
  };
  if (options.debug) {
    logTraffic(presence).catch(({ message }) => events.emit("error", { code: "LOAD", message }));
  }
  return presence;
}

/**
 * Logs what happens from now on, once the module for it is loaded.
 * @param {Presence<any>} presence
 */
async function logTraffic(presence) {
  /** @type {Traffic[]} */
  const early = [];
  const undo = presence.inspect((traffic) => early.push(traffic));
  const { DebugLog } = await import("./debug.js");
  undo();
  const log = new DebugLog(presence);
  for (const traffic of early) log.write(traffic);
}
