/**
 * The types of the SDK's interface: what the application passes, receives and calls. The modules are checked against them.
 */

import type {
  Activity, ControlRequestRow, Cursor, PlaybackRow, PresenceUser, Privacy, ProtocolEvents, RoomType, Selection, ServerNotice, Status,
  SyncRow,
} from "./protocol.js";

export type { Activity, Cursor, Privacy, RoomEvent, RoomType, Selection, Status } from "./protocol.js";

/** `connecting` until the first snapshot, `reconnecting` after a loss, `closed` for good (see `error`). */
export type ConnectionStatus = "connecting" | "live" | "reconnecting" | "closed";

/** `idle` before the first room is entered. */
export type PresenceStatus = ConnectionStatus | "idle";

/** A viewer's deviation from the room's playback, as the server last computed it. */
export type ViewerSync = SyncRow;

/** The room's playback: `currentTime` was right at `anchor` (server ms). `room.position()` does the arithmetic. */
export interface Playback extends Readonly<PlaybackRow> {}

/** Read-only, and so are its objects. */
type Frozen<Type> = { readonly [Field in keyof Type]: Readonly<Type[Field]> };

/** One session (a tab, a device) of a person. */
export interface Member extends Frozen<Omit<PresenceUser, "roomId" | "roomType">> {
  /** False while the session may still be resumed; it has no cursor then. */
  readonly connected: boolean;
}

/**
 * A person, whatever the number of tabs. The fields are those of their first session, filled up from the others:
 * `isTyping` if any types, `connected` if any is, `status` of one that is connected, `color` of the first session.
 */
export interface Person extends Member {
  /** In the order in which they joined. Cursors are per session: draw these. */
  readonly sessions: readonly Member[];
}

export interface ControlRequest extends Readonly<ControlRequestRow> {}

/** Immutable: a change makes a new one; what did not change keeps its identity, person by person. */
export interface RoomSnapshot {
  readonly roomId: string;
  readonly type?: RoomType;
  readonly status: ConnectionStatus;
  /** Why the room is closed, if not by `leave`. */
  readonly error: PresenceError | null;
  /** You with all your tabs in this room; `sessionId` and `color` are this tab's. Null before the first snapshot. */
  readonly self: Person | null;
  /** The other people, in the order in which they joined. */
  readonly others: readonly Person[];
  readonly playback: Playback | null;
  readonly syncEnabled: boolean;
  /** User id of the controller; null: every user may control playback. */
  readonly controller: string | null;
  readonly controllerSessionId: string | null;
  readonly requests: readonly ControlRequest[];
  /** Viewers in step, as of the last `viewer_sync`; null before it. */
  readonly synced: { readonly synced: number; readonly total: number } | null;
  /** What the attached video follows: the room (true), nothing (false), or a person (user id). */
  readonly following: boolean | string;
}

/** From the server, or `OFFLINE` (no connection or room in time, or a later value replaced it), `TOKEN` (your `auth`
 * failed; it is tried again), `REFUSED` (the server is full, or refuses this page; it is tried again), `KICKED` (from this
 * room), `CLOSED` (the connection is over, see `closeCode`), `REPLACED` (a seek by a later one), `LOAD` (media.js could not
 * be loaded). */
export interface PresenceError {
  readonly code: string;
  readonly message: string;
  readonly roomId?: string;
  readonly retryAfterMs?: number;
  /** With NOT_CONTROLLER and STALE: the room's playback. */
  readonly state?: unknown;
  /** The WebSocket's close code, when that was the end. */
  readonly closeCode?: number;
}

/** Answers are never rejections: see `success`. A refusal also causes the event `error`. */
export type Answer<T = {}> = ({ readonly success: true } & T) | ({ readonly success: false } & PresenceError);

export type PlaybackCommand = {
  /** Your estimate of the server's ms at the user's action; filled in by default. */
  at?: number;
  duration?: number;
  baseVersion?: number;
  target?: string;
} & (
  | { action: "sync"; isPlaying: boolean; currentTime: number; playbackRate: number }
  | { action: "play" | "pause"; currentTime?: number }
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
}

/**
 * The protocol's events (docs/protocol.md) after they were applied to the snapshot, and some of the SDK's own. A
 * `cursor_moved` is also made of each row of compact cursors.
 */
export interface RoomEvents extends ProtocolEvents {
  server_notice: Readonly<ServerNotice>;
  /** A new snapshot has arrived: at the first entry and after each reconnect. */
  joined: { readonly type: "joined"; readonly roomId: string };
  /** The connection's state changed. */
  status: ConnectionStatus;
  /** A request was refused or failed. No exception or rejection is used instead. */
  error: PresenceError;
  /** Any change of the snapshot; at most once per message of the server. */
  change: RoomSnapshot;
  /** What the attached video follows has changed, and why. */
  follow: { readonly following: boolean | string; readonly reason: "asked" | "touch" | "left" | "loop" };
  /** The browser refused to start the attached video: show a play button; a click on it is enough. */
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

export interface AttachOptions {
  /** Keep the video in step with the room; false only reports. Default true. */
  correct?: boolean;
  /**
   * Effect of the local user's play, pause, seek or speed while another user has control. `release` (default): the video
   * stops following until `room.follow(true)`. `snap`: it returns to the room's playback.
   */
  whenNotAllowed?: "release" | "snap";
}

export interface Room {
  readonly id: string;
  readonly status: ConnectionStatus;
  readonly self: Person | null;
  readonly others: readonly Person[];
  readonly clock: Clock;

  /** For useSyncExternalStore: the same object until something changes. */
  getSnapshot(): RoomSnapshot;
  /** Call back after each change; returns its undo. */
  subscribe(callback: () => void): Undo;
  /** Call back for an event; returns its undo. A listener that throws is reported and does not affect others. */
  on<E extends keyof RoomEvents>(event: E, callback: (event: RoomEvents[E]) => void): Undo;
  /** Resolves true when the room is live, false when it is closed. Never rejects. */
  ready(): Promise<boolean>;

  /** Show your cursor; null hides it. At most 20/s are sent, the last one always; none without another session. */
  updateCursor(cursor: Cursor | null): void;
  /** Show a stretch of the timeline; null clears it. */
  updateSelection(selection: Selection | null): void;
  /** Call at every key press with true; it stops by itself 5 s after the last one, or at once with false. */
  typing(isTyping: boolean, context?: string): void;
  setStatus(status: Status, statusMessage?: string): Promise<Answer<{ status: Status; statusMessage?: string }>>;
  setPrivacy(privacy: Privacy): Promise<Answer<Required<Omit<Privacy, "scope">>>>;

  /** Play, pause, seek... for the whole room. The snapshot shows it at once; the server's answer confirms or reverts it. */
  playback(command: PlaybackCommand): Promise<Answer<Partial<Playback>>>;
  playback(report: PlaybackReport): void;
  /** Playback position of the room in seconds, now or at a server time in ms; 0 before the first command. */
  position(serverTime?: number): number;
  /** Whether this user may play, pause and seek, according to the snapshot. */
  readonly mayControl: boolean;
  requestControl(): Promise<Answer<{ granted: boolean; controller: string | null }>>;
  cancelRequest(): Promise<Answer>;
  grantControl(userId: string): Promise<Answer>;
  denyControl(userId: string): Promise<Answer>;
  releaseControl(): Promise<Answer>;

  /** Keep a `<video>` in step, report its position, and send the user's actions on it as commands. Returns its undo. */
  attach(video: HTMLVideoElement, options?: AttachOptions): Undo;
  /** Follow the room (true, also resynchronises), nothing (false), or a person's playhead (user id). Resolves false if the
   * person is not in the room, or follows you, directly or through others. */
  follow(whom: boolean | string): Promise<boolean>;

  /** Send your own JSON object, at most 8 KiB, to all members of the room or to at most 20 users. Not stored. */
  broadcast(data: Record<string, unknown>, to?: readonly string[]): Promise<Answer<{ delivered: number }>>;
  /** Undoes one `enter`. With the last one the room is left, listeners and timers are gone. */
  leave(): void;
}

export interface EnterOptions {
  /** Optional if the id begins with `video_`, `project_`, `comment_thread_` or `comparison_`. */
  type?: RoomType;
  privacy?: Privacy;
  /** Leaves the room when it aborts. */
  signal?: AbortSignal;
}

export interface PresenceOptions {
  /** `wss://host/presence`, or an address relative to the page. */
  url: string | URL;
  /** Returns a token; called at the first connection and whenever the old token is no longer valid. */
  auth: () => Promise<string> | string;
  /** Least time between two cursors of a room, ms. Default 50; the server may ask for more. */
  throttleMs?: number;
  /** The user is idle after this time without interaction, ms. Default 120000. */
  idleMs?: number;
  /** Heartbeats come from a Web Worker, which hidden tabs do not slow down. By default it is made of a data address; where
   * the page's policy forbids that (`worker-src data:`), give the address of the SDK's timer.js, or false for none. */
  worker?: string | URL | false;
  privacy?: Privacy;
  /** Closes everything when it aborts. */
  signal?: AbortSignal;
  /** For Node, where there is none: the class from the package `ws`. */
  WebSocket?: unknown;
}

/** Events of a presence; those of a room are in `RoomEvents`. */
export interface PresenceEvents {
  status: PresenceStatus;
  error: PresenceError;
}

export interface Presence {
  readonly status: PresenceStatus;
  readonly clock: Clock;
  /** Your user id, null before the first connection. */
  readonly userId: string | null;
  /** Enter a room: at once an object, live a moment later. Entering the same room again gives the same object. */
  enter(roomId: string, options?: EnterOptions): Room;
  on<E extends keyof PresenceEvents>(event: E, callback: (event: PresenceEvents[E]) => void): Undo;
  /** Leave all rooms and close the connection. */
  close(): void;
}
