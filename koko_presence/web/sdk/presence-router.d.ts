/**
 * The type of the server's tRPC router, for `createTRPCClient<PresenceRouter>` of @trpc/client 11.
 *
 * Types only: no code of @trpc/server is added to your bundle. Written by `make generate` from koko_presence/protocol.
 * How to call it: docs/http.md.
 */
import type {
  TRPCBuiltRouter,
  TRPCDefaultErrorData,
  TRPCDefaultErrorShape,
  TRPCMutationProcedure,
  TRPCQueryProcedure,
  TRPCSubscriptionProcedure,
} from "@trpc/server";

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
export interface Event<Type extends string, Data> {
  type: Type;
  roomId: string;
  userId: string;
  sessionId: string;
  data: Data;
  timestamp: string;
  seq?: number;
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

export type RoomEvent =
  | Event<"cursor_moved", CursorShown>
  | Event<"selection_changed", SelectionShown>
  | Event<"status_changed", StatusShown>
  | Event<"user_joined", Joined>
  | Event<"user_changed", UserChanged>
  | Event<"user_left", UserLeft>
  | Event<"typing_started", TypingStarted>
  | Event<"typing_stopped", TypingStopped>
  | Event<"playback_synced", PlaybackSynced>
  | Event<"media_changed", MediaChanged>
  | Event<"viewer_sync", ViewerSync>
  | Event<"broadcast", BroadcastSent>
  | Event<"presence_changed", PresenceChanged>
  | Event<"control_requested", ControlRequested>
  | Event<"control_granted", ControlGranted>
  | Event<"control_denied", ControlDenied>
  | Event<"control_released", ControlReleased>
  | Event<"room_changed", RoomChanged>;

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

/**
 * The events of `presence.onEvent`: narrow them by `type`. `error` comes over event streams only, and answers no call.
 */
export type PresenceEvent =
  | RoomEvent
  | ErrorReply
  | Authenticated
  | JoinedReply
  | LeftReply
  | ServerNotice
  | AuthExpiring
  | Kicked;

// --- inputs ----------------------------------------------------------------------------------------------------------

/**
 * Which session a call is for: `sessionId` names one that is connected (the header `x-presence-session` does the same;
 * over wsLink the socket's own is meant). Without one it is the session held over HTTP; `clientKey` distinguishes
 * several.
 */
export interface Target {
  sessionId?: string;
  clientKey?: string;
}

/** The session that a call is for, and the room. */
export interface RoomTarget extends Target {
  roomId: string;
}

export interface JoinInput extends RoomTarget {
  /** May be left out where the room is live, or its name begins with `video_`, `project_` and so on. */
  roomType?: RoomType;
  privacy?: Privacy;
  known?: Known;
  /** The session's presence object at first; a member that joins again keeps the one it has. */
  presence?: Record<string, unknown>;
}

/** The room to leave. */
export interface LeaveInput extends RoomTarget {
  /** Every session of the user in the room. */
  all?: boolean;
}

/** Without a room it renews every lease of the user; `clientTime` is returned as `echo`. */
export interface HeartbeatInput extends Target {
  roomId?: string;
  status?: Activity;
  clientTime?: number;
}

export interface GetActiveInput extends RoomTarget {
  roomType?: RoomType;
}

export interface GetSummariesInput extends Target {
  /** An empty list ends watching. */
  rooms: string[];
}

export interface UpdateCursorInput extends RoomTarget, Cursor {
  /** The same under `data`; null hides the cursor. */
  data?: Cursor | null;
}

export interface UpdateSelectionInput extends RoomTarget, Partial<Selection> {
  /** The same under `data`; null clears the selection. */
  data?: Selection | null;
}

export interface SetStatusInput extends Target {
  status: Status;
  /** At most 100 characters; the empty text clears it. */
  statusMessage?: string;
}

export interface TypingInput extends RoomTarget {
  context?: string;
}

export interface SetPresenceInput extends RoomTarget {
  /**
   * The keys to set; a key with null is removed, and null alone removes all. The merged object has at most 1 KiB as
   * compact JSON.
   */
  data: Record<string, unknown> | null;
}

export interface SyncPlaybackInput extends RoomTarget {
  /** `sync` when it is left out. */
  action?: PlaybackAction;
  isPlaying?: boolean;
  currentTime?: number;
  playbackRate?: number;
  at?: number;
  /** How long after `at` it may arrive: later a report is ignored, and a command is `STALE` and changes nothing. */
  maxAgeMs?: number;
  baseVersion?: number;
  /** How far a step goes; not 0. */
  frames?: number;
  duration?: number;
  buffering?: boolean;
  follow?: boolean;
  target?: string;
  /** The medium that is meant; `STALE` when the target has another one by now. */
  mediaId?: string;
  /**
   * With `play`: all players start so much later, together. "auto": as the slowest connection needs, at most 500. Other
   * actions ignore it.
   */
  startDelayMs?: number | "auto";
}

export interface SetMediaInput extends RoomTarget {
  target?: string;
  /** null removes the target. */
  mediaId: string | null;
  title?: string;
  /** Seconds. */
  duration?: number;
  /** Frames a second: a number, or a fraction such as `"24000/1001"`. */
  frameRate?: number | string;
  /** Seconds: position in it = position of the room + offset. */
  offset?: number;
  /** Position and play state stay; else the room is paused at 0. */
  keepPosition?: boolean;
  at?: number;
  /** How long after `at` it may arrive: later it is `STALE` and changes nothing. */
  maxAgeMs?: number;
  baseVersion?: number;
}

export interface ToUserInput extends RoomTarget {
  toUserId: string;
}

export interface BroadcastInput extends RoomTarget {
  /** Yours, carried unchanged; at most 8 KiB. */
  data: Record<string, unknown>;
  /** At most 20 user ids. */
  to?: string[];
}

export interface SetPrivacyInput extends Target, Privacy {}

export interface OnEventInput {
  /** Only this room's events, and those without a room. NOT_IN_ROOM if the session does not join the room in 2 s. */
  roomId?: string;
}

// --- outputs ---------------------------------------------------------------------------------------------------------

/** The room at `seq`, and the session that has joined it. */
export interface JoinResult {
  room: PresenceRoom;
  assignedColor: string;
  sessionId: string;
  rights: Rights;
  /** There when the session is held over HTTP: renew it within this time. */
  leaseSeconds?: number;
  seq: number;
  serverTime: number;
  sendIntervalMs: number;
}

/** One row for each session; `totalCount` counts users. */
export interface ActiveResult {
  users: PresenceUser[];
  totalCount: number;
  sessionCount: number;
}

/** One row for each room that the caller may enter, in the order of the input. */
export interface SummariesResult {
  summaries: SummaryRow[];
  refused: RefusedRoom[];
}

/** The number of renewed leases, and the fields of `pong`. */
export interface HeartbeatResult {
  success: boolean;
  renewed: number;
  leaseSeconds?: number;
  timestamp?: string;
  serverTime?: number;
  echo?: number;
}

export interface Success {
  success: true;
}

export interface LeaveResult extends Success {
  /** How many sessions have left. */
  left: number;
}

export interface StatusResult extends Success {
  status: Status;
  /** Empty when there is none. */
  statusMessage: string;
}

/** The room's state after the command; `syncEnabled` alone after `enable` and `disable`, nothing after a report. */
export interface PlaybackResult extends Success {
  isPlaying?: boolean;
  currentTime?: number;
  playbackRate?: number;
  anchor?: number;
  version?: number;
  duration?: number;
  target?: string;
  frame?: number;
  frameTarget?: string;
  ended?: boolean;
  syncEnabled?: boolean;
}

/** The room's playback after the change. */
export interface MediaResult extends Success {
  playback?: PlaybackRow;
}

export interface RequestControlResult extends Success {
  granted: boolean;
  controller: string | null;
}

export interface GrantControlResult extends Success {
  controller: string;
}

export interface BroadcastResult extends Success {
  /** Sessions that received it, without invisible ones. */
  delivered: number;
}

export interface PresenceResult extends Success {
  /** The whole object after the change. */
  presence: Record<string, unknown>;
}

export interface PrivacyResult extends Success {
  invisible: boolean;
  shareCursor: boolean;
  shareSelection: boolean;
}

// --- the router ------------------------------------------------------------------------------------------------------

/** Fields of `error.data` besides those of tRPC. */
export interface PresenceErrorData extends TRPCDefaultErrorData {
  /** The server's own code, for example ROOM_FULL: docs/protocol.md lists them. */
  reason?: ErrorCode;
  /** Seconds to wait, for RATE_LIMITED and UNAVAILABLE. */
  retryAfter?: number;
  /** The room's playback, to which a client returns. */
  state?: PlaybackRow;
}

export interface PresenceErrorShape extends TRPCDefaultErrorShape {
  data: PresenceErrorData;
}

type Query<Input, Output> = TRPCQueryProcedure<{ meta: object; input: Input; output: Output }>;
type Mutation<Input, Output> = TRPCMutationProcedure<{ meta: object; input: Input; output: Output }>;
type Subscription<Input, Output> = TRPCSubscriptionProcedure<{
  meta: object;
  input: Input;
  output: AsyncIterable<Output, void, unknown>;
}>;

/** Set `transformer` to true for a client that uses superjson: the server answers as it is asked. */
export type PresenceRouterOf<Transformer extends boolean> = TRPCBuiltRouter<
  { ctx: object; meta: object; errorShape: PresenceErrorShape; transformer: Transformer },
  {
    presence: {
      join: Mutation<JoinInput, JoinResult>;
      leave: Mutation<LeaveInput, LeaveResult>;
      heartbeat: Mutation<HeartbeatInput | void, HeartbeatResult>;
      getActive: Query<GetActiveInput, ActiveResult>;
      getSummaries: Query<GetSummariesInput, SummariesResult>;
      updateCursor: Mutation<UpdateCursorInput, Success>;
      updateSelection: Mutation<UpdateSelectionInput, Success>;
      setStatus: Mutation<SetStatusInput, StatusResult>;
      startTyping: Mutation<TypingInput, Success>;
      stopTyping: Mutation<TypingInput, Success>;
      setPresence: Mutation<SetPresenceInput, PresenceResult>;
      syncPlayback: Mutation<SyncPlaybackInput, PlaybackResult>;
      setMedia: Mutation<SetMediaInput, MediaResult>;
      requestControl: Mutation<RoomTarget, RequestControlResult>;
      grantControl: Mutation<ToUserInput, GrantControlResult>;
      denyControl: Mutation<ToUserInput, Success>;
      releaseControl: Mutation<RoomTarget, Success>;
      cancelControl: Mutation<RoomTarget, Success>;
      broadcast: Mutation<BroadcastInput, BroadcastResult>;
      setPrivacy: Mutation<SetPrivacyInput, PrivacyResult>;
      onEvent: Subscription<OnEventInput | void, PresenceEvent>;
    };
  }
>;

export type PresenceRouter = PresenceRouterOf<false>;
