/**
 * The types of the SDK's interface: what the application passes, receives and calls. The modules are checked against them.
 */

import type {
  Activity, BroadcastSent, ControlRequestRow, Cursor, ErrorCode as ServerErrorCode, Medium as MediumRow, PlaybackRow, PresenceUser,
  Privacy, ProtocolEvents, Rights, RoomEvent, RoomSettings, RoomType, Selection, ServerNotice, Status, SummaryUser, SyncRow,
} from "./protocol.js";

export type { Activity, Cursor, Privacy, RoomEvent, RoomType, Selection, Status } from "./protocol.js";

/**
 * The types of the application's own data, as in `createPresence<{ broadcast: Reaction | Reply }>(...)` and
 * `createHooks<{ broadcast: Reaction | Reply }>(React)`; interfaces and their unions. What is not named has its default.
 */
export interface AppTypes {
  /** What `broadcast` sends, and the event of that name has as `data`. Other clients may send something else. */
  broadcast?: object;
  /** The presence object of a session; every key may be missing. */
  presence?: object;
}

/** The presence object of a session: immutable, and every key may be missing. */
export type PresenceObject<App extends AppTypes = AppTypes> =
  App extends { presence: infer Data extends object } ? Readonly<Partial<Data>> : Readonly<Record<string, unknown>>;

/** What changes in a presence object: null removes a key. */
export type PresencePatch<App extends AppTypes = AppTypes> =
  App extends { presence: infer Data extends object } ? { readonly [Key in keyof Data]?: Data[Key] | null } : Readonly<Record<string, unknown>>;

/** What the event `broadcast` has as `data`. */
export type ReceivedBroadcast<App extends AppTypes = AppTypes> = App extends { broadcast: infer Data extends object } ? Data : BroadcastSent;

/** What `broadcast` accepts: an object that JSON can express, no array. */
export type SentBroadcast<App extends AppTypes = AppTypes> = App extends { broadcast: infer Data extends object } ? Data : object;

/**
 * `connecting` until the first snapshot, `reconnecting` after a loss, `lost` when that has lasted for 5 s, so that others may
 * have seen you leave (it is still tried), `closed` for good. While it is not `live`, `error` has the reason.
 */
export type ConnectionStatus = "connecting" | "live" | "reconnecting" | "lost" | "closed";

/** `sse`: server-sent events, and POST for what is sent; where WebSockets are blocked. */
export type Transport = "websocket" | "sse";

/** `idle` before the first room is entered. */
export type PresenceStatus = ConnectionStatus | "idle";

/** A viewer's deviation from the room's playback, as the server last computed it. */
export type ViewerSync = SyncRow;

/** The room's playback: `currentTime` was right at `anchor` (server ms). `room.position()` does the arithmetic. */
export interface Playback extends Readonly<PlaybackRow> {
  /** The users for whose players the room waits. */
  readonly waitingFor?: readonly string[];
}

/** The film of one target of the room: position in the film = position of the room + `offset`. */
export interface Medium extends Readonly<MediumRow> {}

/** A change of the film of a target; of the film that is there already an absent field keeps its value. */
export interface MediumChange extends Omit<Medium, "mediaId"> {
  /** Default `main`. */
  readonly target?: string;
  /** null removes the target. */
  readonly mediaId: string | null;
  /** Position and play state stay; else the room is paused at 0. */
  readonly keepPosition?: boolean;
  /** Your estimate of the server's ms at the user's action; filled in by default. */
  readonly at?: number;
  /** How long after `at` it may arrive, ms; later it is refused with `STALE`. 2000 by default, from the first join on. */
  readonly maxAgeMs?: number;
}

/** Read-only, and so are its objects. */
type Frozen<Type> = { readonly [Field in keyof Type]: Readonly<Type[Field]> };

/** One session (a tab, a device) of a person. */
export interface Member<App extends AppTypes = AppTypes> extends Frozen<Omit<PresenceUser, "roomId" | "roomType" | "presence">> {
  /** False while the session may still be resumed; it has no cursor then. */
  readonly connected: boolean;
  /** Its presence object, see `room.setPresence`; absent while it is empty. */
  readonly presence?: PresenceObject<App> | undefined;
}

/**
 * A person, whatever the number of tabs. The fields are those of their first session, filled up from the others:
 * `isTyping` if any types, `connected` if any is, `status` of one that is connected, `color` of the first session, `presence` of the
 * first session that has one.
 */
export interface Person<App extends AppTypes = AppTypes> extends Member<App> {
  /** In the order in which they joined. Cursors are per session: draw these. */
  readonly sessions: readonly Member<App>[];
}

export interface ControlRequest extends Readonly<ControlRequestRow> {}

/** Immutable: a change makes a new one; what did not change keeps its identity, person by person. */
export interface RoomSnapshot<App extends AppTypes = AppTypes> {
  readonly roomId: string;
  readonly type?: RoomType;
  readonly status: ConnectionStatus;
  /** Why the room is not live: the last failure while it is tried, and why it is closed. Null while it is live and after `leave`. */
  readonly error: PresenceError | null;
  /**
   * The last return after a loss. `resumed`: as the same session, nobody saw you leave; else as a new one. `awayMs`: since the
   * last message of the server before the loss. Null before the first one.
   */
  readonly returned: { readonly resumed: boolean; readonly awayMs: number } | null;
  /** How the connection is made. */
  readonly transport: Transport;
  /** You with all your tabs in this room; `sessionId`, `color` and `presence` are this tab's. Null before the first snapshot. */
  readonly self: Person<App> | null;
  /** The other people, in the order in which they joined. */
  readonly others: readonly Person<App>[];
  /** Your own presence object, with what `setPresence` has just changed. */
  readonly presence: PresenceObject<App>;
  readonly playback: Playback | null;
  readonly syncEnabled: boolean;
  /** User id of the controller; null: every user may control playback. */
  readonly controller: string | null;
  readonly controllerSessionId: string | null;
  readonly requests: readonly ControlRequest[];
  /** Viewers in step, as of the last `viewer_sync`; null before it. */
  readonly synced: { readonly synced: number; readonly total: number } | null;
  /** What the attached players follow: the room (true), nothing (false), or a person (user id). */
  readonly following: boolean | string;
  /** What you may do in the room, by your token and your back end; null before the first snapshot. */
  readonly rights: Readonly<Rights> | null;
  /** Settings of the room that your back end has made; absent when there are none. */
  readonly settings?: Readonly<RoomSettings>;
  /** The film of each target; absent when there is none. */
  readonly media?: Readonly<Record<string, Medium>>;
  /** The films that the attached players show, by target, where `attach` was told. Draw no cursor of another film there. */
  readonly shownMedia: Readonly<Record<string, string>>;
  /** The browser requires an interaction before an attached player starts: show "Click to play". Any interaction is enough. */
  readonly isBlocked: boolean;
}

/**
 * Codes of the SDK itself: `INVALID_DATA` (a playback command with a wrong number, or no player to attach), `LIVE` (a live stream
 * is not kept in step), `LOOP` (the `loop` of an attached film was switched off), `OFFLINE` (no connection in time, or
 * a later value replaced it), `TIMEOUT` (no answer in 15 s), `TOKEN` (your `auth` failed; it is tried again), `SIGNED_OUT` (your `auth` gives null), `UNREACHABLE` (no
 * server answers; it is tried again), `REFUSED` (the server is full, refuses this page, or is no presence server; it is tried again), `LOST` (the
 * connection was lost; only in the snapshot), `KICKED` (from this room), `CLOSED` (the connection is over, see `closeCode` and
 * `cause`), `REPLACED` (a seek by a later one), `LOAD` (media.js could not be loaded), `NOT_IN_ROOM` (a hook before the room is
 * entered, a call after it was left).
 */
export type SdkErrorCode =
  | "INVALID_DATA" | "LIVE" | "LOOP" | "OFFLINE" | "TIMEOUT" | "TOKEN" | "SIGNED_OUT" | "UNREACHABLE" | "REFUSED" | "LOST"
  | "KICKED" | "CLOSED" | "REPLACED" | "LOAD" | "NOT_IN_ROOM";

/** Codes of the server (docs/protocol.md) and of the SDK. */
export type ErrorCode = ServerErrorCode | SdkErrorCode;

/** An error of the server or of the SDK. */
export interface PresenceError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly roomId?: string;
  readonly retryAfterMs?: number;
  /** With NOT_CONTROLLER and STALE: the room's playback. */
  readonly state?: unknown;
  /** The WebSocket's close code, when that was the end. */
  readonly closeCode?: number;
  /** With CLOSED: the reason, as the server has given it or as it was found. */
  readonly cause?: PresenceError;
}

/** Answers are never rejections: see `success`. A refusal also causes the event `error`. */
export type Answer<T = {}> = ({ readonly success: true } & T) | ({ readonly success: false } & PresenceError);

export type PlaybackCommand = {
  /** Your estimate of the server's ms at the user's action; filled in by default. */
  at?: number;
  /** How long after `at` it may arrive, ms; later it is refused with `STALE`. 2000 by default. */
  maxAgeMs?: number;
  duration?: number;
  baseVersion?: number;
  target?: string;
  /** The film that is meant, by default the room's; `STALE` if the target has another one by now. */
  mediaId?: string;
} & (
  | { action: "sync"; isPlaying: boolean; currentTime: number; playbackRate: number }
  /** `startDelayMs`: all players start together after so many ms, or as soon as the slowest connection permits. */
  | { action: "play"; currentTime?: number; startDelayMs?: number | "auto" }
  | { action: "pause"; currentTime?: number }
  | { action: "step"; frames: number }
  | { action: "seek"; currentTime: number }
  | { action: "rate"; playbackRate: number; currentTime?: number }
  | { action: "resync" | "enable" | "disable" }
);

/** Position of your own player; `room.attach(video)` sends it automatically. */
export interface PlaybackReport {
  action: "report";
  isPlaying: boolean;
  currentTime: number;
  playbackRate: number;
  buffering?: boolean;
  follow?: boolean;
  target?: string;
  mediaId?: string;
}

/**
 * The protocol's events (docs/protocol.md) after they were applied to the snapshot, and some of the SDK's own. A
 * `cursor_moved` is also made of each row of compact cursors.
 */
export interface RoomEvents<App extends AppTypes = AppTypes> extends Omit<ProtocolEvents, "broadcast" | "presence_changed"> {
  broadcast: RoomEvent<"broadcast", ReceivedBroadcast<App>>;
  /** Keys of another session's presence object have changed: their values, null for a removed one. */
  presence_changed: RoomEvent<"presence_changed", PresencePatch<App>>;
  server_notice: Readonly<ServerNotice>;
  /** A new snapshot has arrived: at the first entry and after each reconnect. */
  joined: { readonly type: "joined"; readonly roomId: string };
  /** The room is live again after a loss; see the field of the snapshot. */
  returned: NonNullable<RoomSnapshot["returned"]>;
  /** The connection's state changed. */
  status: ConnectionStatus;
  /** A request was refused or failed. No exception or rejection is used instead. */
  error: PresenceError;
  /** Any change of the snapshot; at most once per message of the server. */
  change: RoomSnapshot<App>;
  /**
   * What the attached players follow has changed, and why. `reversals`: play and pause were reversed three times within a second,
   * as by a script of the page; the players follow the room and command nothing until that ends.
   */
  follow: { readonly following: boolean | string; readonly reason: "asked" | "touch" | "left" | "loop" | "reversals" };
  /** The browser refused to start an attached player: show a play button; any interaction with the page is enough. */
  autoplay_blocked: { readonly video: HTMLVideoElement };
}

export type Undo = () => void;

export interface Clock {
  /** Estimate of the server's time now, in ms since 1970. */
  now(): number;
  /** Server ms minus local ms. */
  readonly offset: number;
  /** Round trip of the best sample, ms; Infinity before the first. */
  readonly rtt: number;
}

/** The used part of HTMLVideoElement; custom elements such as `<hls-video>` and `<youtube-video>` have it. */
export interface MediaElement extends EventTarget {
  currentTime: number;
  playbackRate: number;
  readonly paused: boolean;
  readonly duration: number;
  readonly seeking?: boolean;
  readonly ended?: boolean;
  readonly readyState?: number;
  readonly isConnected?: boolean;
  autoplay?: boolean;
  loop?: boolean;
  play(): Promise<void> | void;
  pause(): void;
  requestVideoFrameCallback?: HTMLVideoElement["requestVideoFrameCallback"];
  cancelVideoFrameCallback?: HTMLVideoElement["cancelVideoFrameCallback"];
}

/** The state of a player; the fields are those of HTMLMediaElement. */
export interface PlayerState {
  paused: boolean;
  currentTime: number;
  playbackRate: number;
  /** NaN or absent: not known; Infinity: a live stream. */
  duration?: number | undefined;
  seeking?: boolean | undefined;
  ended?: boolean | undefined;
  /** 0: no film is loaded. Absent: it is, and `waiting` and `playing` tell whether there is data. */
  readyState?: number | undefined;
  autoplay?: boolean | undefined;
  loop?: boolean | undefined;
  isConnected?: boolean | undefined;
}

/** The events of HTMLMediaElement that matter here. */
export type PlayerEvent =
  | "play" | "pause" | "playing" | "waiting" | "canplay" | "seeking" | "seeked" | "ratechange" | "ended" | "emptied" | "loadedmetadata"
  | "durationchange";

/** A frame that is on the screen. */
export interface ShownFrame {
  /** Its timestamp in the film, s. */
  mediaTime: number;
  /** Local ms (`performance.now()`) at which it is on the screen. */
  shownAt: number;
}

export interface PlayerAbilities {
  /** It plays at any speed from 0.0625 to 16, not only at steps of its own; else a drift is corrected by seeks. Default true. */
  canSetRate?: boolean;
  /** A seek shows the frame of exactly that position. Default false. */
  frameAccurate?: boolean;
}

/** A player of your own: six methods. A `<video>` and elements like it need none of this. */
export interface Player {
  abilities?: PlayerAbilities;
  getState(): PlayerState;
  /** May reject with a `NotAllowedError` if the browser requires an interaction first. */
  play(): Promise<void> | void;
  pause(): void;
  seek(seconds: number): void;
  setRate(rate: number): void;
  /** Call the listener at each of these events, whatever caused it; `seeking` once for each seek. */
  subscribe(listener: (type: PlayerEvent) => void): Undo;
  /** Call the listener for each frame that is shown, as `requestVideoFrameCallback` does. Optional. */
  onFrame?(listener: (frame: ShownFrame) => void): Undo;
  setLoop?(loops: boolean): void;
}

/** The undo of `attach`, and local settings of the attached player. */
export interface Attachment extends Undo {
  /** Seconds by which this device shows the film late (a projector, Bluetooth sound): it plays so much ahead; -10 to 10. Throws a
   * TypeError for what is no such number. */
  setOutputOffset(seconds: number): void;
  /** The film that is in the player now; undefined: that of the room. */
  setMediaId(mediaId: string | undefined): void;
}

export interface AttachOptions {
  /** Keep the video in step with the room; false only reports. Default true. */
  correct?: boolean;
  /**
   * Effect of the local user's play, pause, seek or speed while another user has control. `release` (default): the video
   * stops following until `room.follow(true)`. `snap`: it returns to the room's playback.
   */
  whenNotAllowed?: "release" | "snap";
  /** Which of the room's targets the player shows. Default `main`. */
  target?: string;
  /** The film in the player. While the room has another one there, the player neither follows nor commands. */
  mediaId?: string;
  /** Seconds by which this device shows the film late; see `Attachment`. */
  outputOffset?: number;
  /** Where they are not those that are found for an element. */
  abilities?: PlayerAbilities;
}

export interface Room<App extends AppTypes = AppTypes> {
  readonly id: string;
  readonly status: ConnectionStatus;
  readonly self: Person<App> | null;
  readonly others: readonly Person<App>[];
  readonly clock: Clock;

  /** For useSyncExternalStore: the same object until something changes. */
  getSnapshot(): RoomSnapshot<App>;
  /** Call back after each change; returns its undo. */
  subscribe(callback: () => void): Undo;
  /** Call back for an event; returns its undo. A listener that throws is reported and does not affect others. */
  on<E extends keyof RoomEvents<App>>(event: E, callback: (event: RoomEvents<App>[E]) => void): Undo;
  /** Resolves true when the room is live, false when it is closed. Never rejects. */
  ready(): Promise<boolean>;

  /** Show your cursor; null hides it. At most 20/s are sent, the last one always; none without another session. */
  updateCursor(cursor: Cursor | null): void;
  /** Show a stretch of the timeline; null clears it. */
  updateSelection(selection: Selection | null): void;
  /** Call at every key press with true; it stops by itself 5 s after the last one, or at once with false. */
  typing(isTyping: boolean, context?: string): void;
  /**
   * Change your presence object, which the others see as `presence` of your session: keys are set, null removes one, or as the
   * patch all. The snapshot has it at once; the calls of one turn are sent together, at most 20 times a second, and after a
   * reconnection what the server lacks. False, with the event `error`, for what JSON cannot express and for more than 1 KiB; what
   * is no object throws.
   */
  setPresence(patch: PresencePatch<App> | null): boolean;
  setStatus(status: Status, statusMessage?: string): Promise<Answer<{ status: Status; statusMessage?: string }>>;
  setPrivacy(privacy: Privacy): Promise<Answer<Required<Omit<Privacy, "scope">>>>;

  /** Play, pause, seek... for the whole room. The snapshot shows it at once; the server's answer confirms or reverts it. */
  playback(command: PlaybackCommand): Promise<Answer<Partial<Playback>>>;
  playback(report: PlaybackReport): void;
  /** Pause, and move by frames, -1000 to 1000. Needs the frame rate in `media`, or an attached player that tells its frames. */
  step(frames: number): Promise<Answer<Partial<Playback>>>;
  /** Set the film of a target, if the back end has not and you may control; the event is `media_changed`. */
  setMedia(change: MediumChange): Promise<Answer<{ playback?: Playback }>>;
  /** Playback position of the room in seconds, now or at a server time in ms; 0 before the first command. */
  position(serverTime?: number): number;
  /** Whether this user may play, pause and seek, by the controller, the rights and the room's settings. */
  readonly mayControl: boolean;
  requestControl(): Promise<Answer<{ granted: boolean; controller: string | null }>>;
  cancelRequest(): Promise<Answer>;
  grantControl(userId: string): Promise<Answer>;
  denyControl(userId: string): Promise<Answer>;
  releaseControl(): Promise<Answer>;

  /** Keep a `<video>`, or another player, in step, report its position, and send the user's actions on it as commands. Returns
   * its undo, with settings. */
  attach(player: MediaElement | Player, options?: AttachOptions): Attachment;
  /** Follow the room (true, also resynchronises), nothing (false), or a person's playhead (user id). Resolves false if the
   * person is not in the room, or follows you, directly or through others. */
  follow(whom: boolean | string): Promise<boolean>;

  /** Send your own JSON object, at most 8 KiB, to all members of the room or to at most 20 users. Not stored. */
  broadcast(data: SentBroadcast<App>, to?: readonly string[]): Promise<Answer<{ delivered: number }>>;
  /** Undoes one `enter`. With the last one the room is left, listeners and timers are gone. */
  leave(): void;
}

export interface EnterOptions<App extends AppTypes = AppTypes> {
  /** Optional if the id begins with `video_`, `project_`, `comment_thread_` or `comparison_`. */
  type?: RoomType;
  privacy?: Privacy;
  /**
   * Your presence object at first, see `room.setPresence`: the others see you with it from the first moment. In a room that is
   * entered already only its keys that are not set yet.
   */
  presence?: PresenceObject<App>;
  /** Leaves the room when it aborts. */
  signal?: AbortSignal;
}

export interface PresenceOptions {
  /** `wss://host/presence`, or an address relative to the page. */
  url: string | URL;
  /**
   * The address of a route of your back end that answers with a token, `{ "token": "..." }` or the text alone, and with status 401
   * if there is no user; or a function that returns a token, or null. It is asked at the first connection, before a token ends and
   * when one is refused. Without a user the presence closes (error `SIGNED_OUT`) and does not come back by itself. Absent: the
   * cookie of the page signs in.
   */
  auth?: string | (() => Promise<string | null> | string | null);
  /** Least time between two cursors of a room, ms. Default 50; the server may ask for more. */
  throttleMs?: number;
  /** The user is idle after this time without interaction, ms. Default 120000. */
  idleMs?: number;
  /** Heartbeats come from a Web Worker, which hidden tabs do not slow down. By default it is made of a data address; where
   * the page's policy forbids that (`worker-src data:`), give the address of the SDK's timer.js, or false for none. */
  worker?: string | URL | false;
  privacy?: Privacy;
  /** Logs the connection and all messages to the console, readably; the module for it is loaded only then. */
  debug?: boolean;
  /** Closes everything when it aborts. */
  signal?: AbortSignal;
  /** For Node, where there is none: the class from the package `ws`. */
  WebSocket?: unknown;
}

/** Who is in a room that one has not entered. Invisible people are not in it. */
export interface RoomSummary {
  readonly roomId: string;
  readonly userCount: number;
  /** The first three, by when they came. */
  readonly users: readonly Readonly<SummaryUser>[];
}

/** Rooms that are watched without entering them; you are not seen there. */
export interface RoomWatch {
  /**
   * By room id; a room without a summary yet, or one that is refused, is absent; all are after the end of the connection (not while
   * it is only lost). The same object until something changes.
   */
  getSnapshot(): Readonly<Record<string, RoomSummary>>;
  /** Call back after each change; returns its undo. */
  subscribe(callback: () => void): Undo;
  /** Watch these rooms instead. It connects again after the end of the connection, as `enter` does. */
  setRooms(roomIds: readonly string[]): void;
  stop(): void;
}

/** A message over the socket, as tools see it. Tokens are not shown. */
export interface Traffic {
  readonly direction: "sent" | "received";
  /** Local ms (`performance.now()`). */
  readonly at: number;
  readonly message: Record<string, unknown> & { type: string };
}

/** Events of a presence; those of a room are in `RoomEvents`. */
export interface PresenceEvents {
  status: PresenceStatus;
  error: PresenceError;
}

export interface Presence<App extends AppTypes = AppTypes> {
  readonly status: PresenceStatus;
  readonly clock: Clock;
  /** Why it is not live; null while it is, and after `close`. */
  readonly error: PresenceError | null;
  /** Your user id, null before the first connection. */
  readonly userId: string | null;
  /** The rooms that are entered. */
  readonly rooms: readonly Room<App>[];
  /** Enter a room: at once an object, live a moment later. Entering the same room again gives the same object, with the privacy
   * of the last `enter`; another type throws. */
  enter(roomId: string, options?: EnterOptions<App>): Room<App>;
  /**
   * Watch rooms without entering them: how many people are there, and who. At most 200 in all watches together. A room that you
   * may not enter is an `error` of the presence. Throws TypeError for what is no array of ids.
   */
  watchRooms(roomIds: readonly string[]): RoomWatch;
  on<E extends keyof PresenceEvents>(event: E, callback: (event: PresenceEvents[E]) => void): Undo;
  /** For tools: call back for each message that is sent or received; returns its undo. */
  inspect(listener: (traffic: Traffic) => void): Undo;
  /** Leave all rooms, watch none, and close the connection. */
  close(): void;
}
