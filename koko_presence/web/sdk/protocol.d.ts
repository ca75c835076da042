/**
 * The models and events of the protocol (docs/protocol.md).
 *
 * Written by `make generate` from koko_presence/protocol.
 */

// --- models ----------------------------------------------------------------------------------------------------------

export type RoomType = "project" | "video" | "comment_thread" | "comparison";
export type Status = "active" | "idle" | "away" | "busy" | "reviewing";
export type Activity = "active" | "idle" | "away";
export type PlaybackAction = "sync" | "play" | "pause" | "seek" | "rate" | "step" | "report" | "resync" | "enable" | "disable";
export type SyncState = "synced" | "behind" | "ahead" | "paused" | "playing" | "buffering" | "ended" | "other_media" | "unknown";
export type ControlMode = "open" | "controller" | "moderators";
export type LeaveReason = "left" | "disconnected" | "timeout" | "kicked";

/** The video of one target of a room: position in it = position of the room + `offset`. */
export interface Medium {
  /** Which video; another version of it has another id. */
  mediaId: string;
  title?: string;
  /** Seconds. */
  duration?: number;
  /** Frames a second: a whole number, or a fraction such as `"24000/1001"`. */
  frameRate?: number | string;
  /** Seconds. */
  offset?: number;
}

/** A cursor: second `timestamp` of the video, and normalised `x` and `y`, both or neither. */
export interface Cursor {
  /** Second of the video; required in `video` and `comparison` rooms. */
  timestamp?: number;
  /** 0 to 1 of the picture; both or neither. */
  x?: number;
  y?: number;
  /** Which of two videos, at most 64 characters. */
  target?: string;
  /** The medium that it is in. */
  mediaId?: string;
}

/** A range of the timeline in seconds of the video; equal ends are allowed. */
export interface Selection {
  /** Seconds of the video; `startTime` is not after `endTime`. */
  startTime: number;
  endTime: number;
  target?: string;
  /** The medium that it is in. */
  mediaId?: string;
}

/** What other users may see of this session, or of all sessions of the user; an absent field changes nothing. */
export interface Privacy {
  invisible?: boolean;
  shareCursor?: boolean;
  shareSelection?: boolean;
  scope?: "session" | "user";
}

/** The state of a viewer's player as last reported; `currentTime` in seconds of the video. */
export interface ViewerState {
  isPlaying: boolean;
  currentTime: number;
  playbackRate: number;
}

/** The room's playback: `currentTime` was right at `anchor`, in ms of the server. */
export interface PlaybackRow {
  isPlaying: boolean;
  currentTime: number;
  playbackRate: number;
  anchor: number;
  version: number;
  /** The end of the room, in seconds. */
  duration?: number;
  target?: string;
  /** The frame that is shown, from 0: in a pause, with a known frame rate. */
  frame?: number;
  /** The target of `frame`, where the room has several media. */
  frameTarget?: string;
  /** The room has stopped at its end. */
  ended?: boolean;
}

/**
 * The playback of a room as a client has it, with the fields of `PlaybackRow`. With a number out of range it is not
 * taken; the join goes on.
 */
export interface KnownPlayback {
  isPlaying: boolean;
  currentTime: number;
  playbackRate: number;
  anchor: number;
  version: number;
  duration?: number;
  target?: string;
}

/** What a client knows of a room that it joins again; it counts after a restart of the whole service. */
export interface Known {
  playback: KnownPlayback;
  /** By target, as in `room.media`. */
  media?: Record<string, Medium>;
  /**
   * Server time in ms of the last message that the client has received. What was playing is taken paused after a
   * minute, and nothing after ten.
   */
  at?: number;
}

/** What a session may do in a room, by its token and the answer of the back end. */
export interface Rights {
  /** Command playback, and have control. */
  control: boolean;
  broadcast: boolean;
  moderate: boolean;
}

/** A viewer's deviation from the room's playback. */
export interface SyncRow {
  state: SyncState;
  /** Reported minus room: behind is negative. */
  driftMs: number;
  /** The same in frames, with a known frame rate. */
  driftFrames?: number;
}

/** One session (a tab, a device) of one user. */
export interface PresenceUser {
  userId: string;
  sessionId: string;
  name: string;
  image?: string;
  color: string;
  status: Status;
  statusMessage?: string;
  activity: Activity;
  connected: boolean;
  lastActiveAt: string;
  roomId: string;
  roomType: RoomType;
  index?: number;
  cursor?: Cursor;
  selection?: Selection;
  isTyping: boolean;
  typingContext?: string;
  isWatching: boolean;
  playbackState?: ViewerState;
  viewerSync?: SyncRow;
  /** `"http"` for a session that has no socket; absent for the others. */
  transport?: "http";
  /** Its presence object; absent while it is empty. */
  presence?: Record<string, unknown>;
}

/** A pending request for control. */
export interface ControlRequestRow {
  userId: string;
  requesterName: string;
  requestedAt: string;
}

/**
 * What the back end has set for one room. A key that is absent has its default, which `[rooms]` of the configuration
 * holds. Members see a default control mode other than `open` as if it were set.
 */
export interface RoomSettings {
  /** What is looked at, for the people in the room; at most 200 characters. */
  title?: string;
  /** Which members may command playback while no member has control: all, none, or moderators. */
  controlMode?: ControlMode;
  /**
   * Seconds for which the holder of control may be away before it goes to the longest waiting request, or to the next
   * one. 0: any time.
   */
  autoGrantAway?: number;
  /** Seconds, at most 10, for which playback waits for a viewer who buffers. 0: not at all. */
  waitForViewers?: number;
  /** Users who may be in the room. `limits.max_users_per_room` counts where it is lower. */
  maxUsers?: number;
  /** The medium of each target, at most four. While it is set, members may not set media. */
  media?: Record<string, Medium>;
}

/** A room as its members see it. */
export interface PresenceRoom {
  id: string;
  type: RoomType;
  users: PresenceUser[];
  /** Number of users; `sessionCount` counts their tabs and devices. */
  userCount: number;
  sessionCount: number;
  syncEnabled: boolean;
  controller?: string;
  controllerSessionId?: string;
  controlRequests: ControlRequestRow[];
  playback?: PlaybackRow;
  /** By target; absent when there is none. */
  media?: Record<string, Medium>;
  settings?: RoomSettings;
  createdAt: string;
}

/** A user in the summary of a room; `color` is that of the user's first session there. */
export interface SummaryUser {
  userId: string;
  name: string;
  image?: string;
  color: string;
}

/** The visible users of a room: their number, and the first three. */
export interface SummaryRow {
  roomId: string;
  userCount: number;
  users: SummaryUser[];
}

/** A room whose summary is refused, and why. */
export interface RefusedRoom {
  roomId: string;
  code: string;
  message: string;
  retryAfterMs?: number;
}

// --- events ----------------------------------------------------------------------------------------------------------

/** Fields of all events of a room. `timestamp` is ISO 8601; `seq` counts the room's public events. */
export interface RoomEvent<Type extends string, Data> {
  readonly type: Type;
  readonly roomId: string;
  readonly userId: string;
  readonly sessionId: string;
  readonly data: Data;
  readonly timestamp: string;
  readonly seq?: number;
}

/** A session's cursor has moved; `hidden`: it was removed. */
export interface CursorShown {
  timestamp?: number;
  x?: number;
  y?: number;
  color: string;
  target?: string;
  mediaId?: string;
  hidden?: true;
}

/** A session's selection has changed; `cleared`: it was removed. */
export interface SelectionShown {
  startTime?: number;
  endTime?: number;
  color: string;
  target?: string;
  mediaId?: string;
  cleared?: true;
}

/** A status has changed: the first three fields are the user's, the last two the session's. */
export interface StatusShown {
  status: Status;
  statusMessage?: string;
  activity: Activity;
  isWatching: boolean;
  connected: boolean;
}

/** A session has joined; `index` is its number in compact cursors. */
export interface Joined {
  name: string;
  image?: string;
  color: string;
  sessionCount: number;
  status: Status;
  activity: Activity;
  statusMessage?: string;
  index?: number;
  transport?: "http";
  /** Its presence object; absent while it is empty. */
  presence?: Record<string, unknown>;
}

/** A user has another name or image, by a new token, in all sessions; without `image` the user has none. */
export interface UserChanged {
  name: string;
  image?: string;
}

/** A session has left. `sessionCount` 0: it was the user's last session in the room. */
export interface UserLeft {
  reason: LeaveReason;
  sessionCount: number;
}

/** A session types, in the place that `context` names. */
export interface TypingStarted {
  context?: string;
}

/** A session types no more. */
export interface TypingStopped {
  context?: string;
  reason: "stopped" | "timeout" | "changed" | "disconnected";
}

/** The full playback state after a command. */
export interface PlaybackSynced {
  isPlaying: boolean;
  currentTime: number;
  playbackRate: number;
  action: string;
  version: number;
  /** ms of the server at which `currentTime` was right. */
  serverTime: number;
  syncEnabled: boolean;
  /** The end of the room, in seconds. */
  duration?: number;
  target?: string;
  /** The frame that is shown, from 0: in a pause, with a known frame rate. */
  frame?: number;
  /** The target of `frame`, where the room has several media. */
  frameTarget?: string;
  /** The room has stopped at its end. */
  ended?: true;
  /** ms of the server at which playing starts; `currentTime` stands until then. */
  effectiveAt?: number;
  /** User ids of the viewers for whom the room waits, the first ten. */
  waitingFor?: string[];
}

/** A target of the room has another medium, or its description has changed; `playback` is the state after it. */
export interface MediaChanged {
  target: string;
  /** null: the target was removed. */
  medium: Medium | null;
  playback: PlaybackRow;
}

/** A viewer's state has changed; `synced` of the `total` users that follow are in step. */
export interface ViewerSync {
  state: SyncState;
  /** Reported minus room: behind is negative. */
  driftMs: number;
  /** The same in frames, with a known frame rate. */
  driftFrames?: number;
  synced: number;
  total: number;
}

/** The application's object: treat it as text, never as HTML. */
export interface BroadcastSent {
  type?: string;
  [key: string]: unknown;
}

/** Keys of a session's presence object have changed: `data` has their new values, null for a removed key. */
export interface PresenceChanged {
  [key: string]: unknown;
}

/** A user requests control. */
export interface ControlRequested {
  requesterName: string;
}

/** A user has control now; `auto`: the room itself granted it. */
export interface ControlGranted {
  toUserId: string;
  toUserName: string;
  /** null: no user had control, the server granted it. */
  fromUserId: string | null;
  controllerSessionId: string;
  version: number;
  auto?: true;
}

/** A request for control has ended without a grant. */
export interface ControlDenied {
  toUserId: string;
  reason: "denied" | "cancelled" | "expired";
}

/** No user has control now. */
export interface ControlReleased {
  reason: string;
  version: number;
}

/** The back end has changed settings of the room: those that changed, null for one that has its default again. */
export interface RoomChanged {
  title?: string | null;
  controlMode?: ControlMode | null;
  autoGrantAway?: number | null;
  waitForViewers?: number | null;
  maxUsers?: number | null;
  media?: Record<string, Medium> | null;
}

/** The events of the protocol, by type. */
export interface ProtocolEvents {
  /** A session's cursor has moved; `hidden`: it was removed. */
  cursor_moved: RoomEvent<"cursor_moved", CursorShown>;
  /** A session's selection has changed; `cleared`: it was removed. */
  selection_changed: RoomEvent<"selection_changed", SelectionShown>;
  /** A status has changed: the first three fields are the user's, the last two the session's. */
  status_changed: RoomEvent<"status_changed", StatusShown>;
  /** A session has joined; `index` is its number in compact cursors. */
  user_joined: RoomEvent<"user_joined", Joined>;
  /** A user has another name or image, by a new token, in all sessions; without `image` the user has none. */
  user_changed: RoomEvent<"user_changed", UserChanged>;
  /** A session has left. `sessionCount` 0: it was the user's last session in the room. */
  user_left: RoomEvent<"user_left", UserLeft>;
  /** A session types, in the place that `context` names. */
  typing_started: RoomEvent<"typing_started", TypingStarted>;
  /** A session types no more. */
  typing_stopped: RoomEvent<"typing_stopped", TypingStopped>;
  /** The full playback state after a command. */
  playback_synced: RoomEvent<"playback_synced", PlaybackSynced>;
  /** A target of the room has another medium, or its description has changed; `playback` is the state after it. */
  media_changed: RoomEvent<"media_changed", MediaChanged>;
  /** A viewer's state has changed; `synced` of the `total` users that follow are in step. */
  viewer_sync: RoomEvent<"viewer_sync", ViewerSync>;
  /** The application's object: treat it as text, never as HTML. */
  broadcast: RoomEvent<"broadcast", BroadcastSent>;
  /** Keys of a session's presence object have changed: `data` has their new values, null for a removed key. */
  presence_changed: RoomEvent<"presence_changed", PresenceChanged>;
  /** A user requests control. */
  control_requested: RoomEvent<"control_requested", ControlRequested>;
  /** A user has control now; `auto`: the room itself granted it. */
  control_granted: RoomEvent<"control_granted", ControlGranted>;
  /** A request for control has ended without a grant. */
  control_denied: RoomEvent<"control_denied", ControlDenied>;
  /** No user has control now. */
  control_released: RoomEvent<"control_released", ControlReleased>;
  /** The back end has changed settings of the room: those that changed, null for one that has its default again. */
  room_changed: RoomEvent<"room_changed", RoomChanged>;
}

// --- replies and notices ---------------------------------------------------------------------------------------------

/** The codes of refusals (docs/protocol.md). */
export type ErrorCode =
  | "UNAUTHENTICATED"
  | "FORBIDDEN"
  | "NOT_IN_ROOM"
  | "ROOM_FULL"
  | "ROOM_TYPE_MISMATCH"
  | "TOO_MANY_ROOMS"
  | "TOO_MANY_SESSIONS"
  | "RATE_LIMITED"
  | "INVALID_JSON"
  | "INVALID_MESSAGE"
  | "INVALID_DATA"
  | "UNKNOWN_TYPE"
  | "TOO_LARGE"
  | "NOT_CONTROLLER"
  | "TARGET_NOT_IN_ROOM"
  | "SYNC_DISABLED"
  | "SESSION_REQUIRED"
  | "ALREADY_AUTHENTICATED"
  | "BINARY_NOT_SUPPORTED"
  | "SLOW_CONSUMER"
  | "INVISIBLE"
  | "STALE"
  | "METHOD_NOT_SUPPORTED"
  | "UNAVAILABLE"
  | "INTERNAL";

/** The answer to `heartbeat`; `echo` is its `clientTime`. */
export interface Pong {
  type: "pong";
  timestamp: string;
  serverTime: number;
  echo?: number;
}

/** A message with an `id` was done; the result that M5 defines for it is beside the id. */
export interface Ack {
  type: "ack";
  success: boolean;
}

/** A message was refused. */
export interface ErrorReply {
  type: "error";
  code: ErrorCode;
  message: string;
  roomId?: string;
  retryAfterMs?: number;
  state?: unknown;
}

/** The answer to `auth`, and the first event of every subscription: the session of this socket. */
export interface Authenticated {
  type: "authenticated";
  userId: string;
  sessionId: string;
  /** Pass it in connectionParams to resume the session. */
  resumeToken: string;
  resumed: boolean;
  rooms: string[];
  serverTime: number;
  /** Seconds. */
  heartbeatInterval: number;
  limits: Record<string, unknown>;
  caps: string[];
}

/** This session has joined: `room` at `seq`, plus the events after it, is the complete state of the room. */
export interface JoinedReply {
  type: "joined";
  roomId: string;
  room: PresenceRoom;
  assignedColor: string;
  sessionId: string;
  rights: Rights;
  seq: number;
  serverTime: number;
  /** Send cursors and selections no more often than this. */
  sendIntervalMs: number;
}

/** This session has left the room. */
export interface LeftReply {
  type: "left";
  roomId: string;
}

/** The answer to `get_active`: one row per session; `totalCount` counts distinct users. */
export interface ActiveReply {
  type: "active";
  roomId: string;
  users: PresenceUser[];
  totalCount: number;
  sessionCount: number;
}

/**
 * The rooms that this session watches, all of them: the answer to `watch`, which names the refused rooms of its list,
 * or without an `id` the news that access to some was withdrawn.
 */
export interface Watching {
  type: "watching";
  rooms: string[];
  refused: RefusedRoom[];
}

/** The visible users of a watched room: their number, and the first three. */
export interface RoomSummary {
  type: "room_summary";
  roomId: string;
  userCount: number;
  users: SummaryUser[];
}

/** How the client should behave from now on, for example `SEND_INTERVAL`. */
export interface ServerNotice {
  type: "server_notice";
  code: string;
  message: string;
  roomId?: string;
  retryAfterMs?: number;
  sendIntervalMs?: number;
}

/** The token ends soon: send `auth` with a new one. */
export interface AuthExpiring {
  type: "auth_expiring";
  expiresAt: string;
}

/** This session was removed from the room; without a `roomId` it was removed from the server. */
export interface Kicked {
  type: "kicked";
  roomId?: string;
  reason: string;
}

/** Compact cursors: rows of [index, timestamp, x, y, target, mediaId]. `_fastpath/fanout.pyx` writes the same bytes. */
export interface Cursors {
  type: "cursors";
  roomId: string;
  timestamp: string;
  data: unknown[][];
}

/** Anything that the server sends. */
export type ServerMessage =
  | ProtocolEvents[keyof ProtocolEvents]
  | Pong
  | Ack
  | ErrorReply
  | Authenticated
  | JoinedReply
  | LeftReply
  | ActiveReply
  | Watching
  | RoomSummary
  | ServerNotice
  | AuthExpiring
  | Kicked
  | Cursors;
