/**
 * The messages between SDK and server (docs/protocol.md), as far as the SDK reads and writes them, without the models and
 * events, which protocol.d.ts has. Not part of the SDK's interface.
 */

import type { PlaybackRow, PresenceRoom, ProtocolEvents } from "./protocol.js";

export interface Authenticated {
  type: "authenticated";
  userId: string;
  sessionId: string;
  resumeToken: string;
  resumed: boolean;
  /** Rooms of the resumed session. */
  rooms: string[];
  serverTime: number;
  /** Seconds. */
  heartbeatInterval: number;
  limits: { cursorHz: number };
}

export interface Pong {
  type: "pong";
  serverTime: number;
  /** `clientTime` of the heartbeat. */
  echo?: number;
}

export interface AuthExpiring {
  type: "auth_expiring";
  expiresAt: string;
}

export interface Joined {
  type: "joined";
  id?: number;
  roomId: string;
  sessionId: string;
  assignedColor: string;
  sendIntervalMs?: number;
  room: PresenceRoom;
}

/** A row of compact cursors: index of the member, then timestamp, x, y and target; the index alone hides the cursor. */
export type CursorRow = [index: number, timestamp?: number | null, x?: number | null, y?: number | null, target?: string | null];

export interface Cursors {
  type: "cursors";
  roomId: string;
  timestamp: string;
  data: CursorRow[];
}

/** The answer to a request; its further fields depend on the request. */
export interface Ack {
  type: "ack";
  id?: number;
  roomId?: string;
  success: boolean;
  [field: string]: unknown;
}

export interface ErrorMessage {
  type: "error";
  id?: number;
  code: string;
  message: string;
  roomId?: string;
  retryAfterMs?: number;
  /** The room's playback. */
  state?: PlaybackRow;
}

export interface ServerNotice {
  type: "server_notice";
  code: string;
  message: string;
  roomId?: string;
  retryAfterMs?: number;
  sendIntervalMs?: number;
}

/** Removed from the room, or from all rooms if it names none. */
export interface Kicked {
  type: "kicked";
  roomId?: string;
  reason: string;
}

/** What belongs to a room and is handled there. */
export type RoomMessage = Joined | ProtocolEvents[keyof ProtocolEvents] | Cursors | Ack | ErrorMessage | ServerNotice | Kicked;

export type ServerMessage = Authenticated | Pong | AuthExpiring | RoomMessage;

export interface ClientMessage {
  type: string;
  roomId?: string;
  data?: unknown;
  [field: string]: unknown;
}
