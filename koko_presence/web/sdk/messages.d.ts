/**
 * The messages over the socket as the SDK reads and writes them: those of protocol.d.ts, and what that leaves open. Not part
 * of the SDK's interface.
 */

import type * as protocol from "./protocol.js";

/** Repeated from the request, if it is an answer. */
interface WithRequestId {
  id?: number;
}

export interface Authenticated extends protocol.Authenticated {
  limits: { cursorHz: number; presenceHz?: number; maxPresenceBytes?: number };
}

export interface Joined extends protocol.JoinedReply, WithRequestId {}

/** A row of compact cursors: index of the member, then timestamp, x, y, target and mediaId; the index alone hides the cursor. */
export type CursorRow = [
  index: number, timestamp?: number | null, x?: number | null, y?: number | null, target?: string | null, mediaId?: string | null,
];

export interface Cursors extends protocol.Cursors {
  data: CursorRow[];
}

/** The answer to a request; its further fields depend on the request. */
export interface Ack extends protocol.Ack, WithRequestId {
  roomId?: string;
}

export interface ErrorReply extends protocol.ErrorReply, WithRequestId {}

export interface Left extends protocol.LeftReply, WithRequestId {}

export interface Watching extends protocol.Watching, WithRequestId {
  roomId?: undefined;
}

export interface WatchedSummary extends protocol.RoomSummary {}

/** What belongs to a room, or to all rooms, and is handled there. */
export type RoomMessage =
  | protocol.ProtocolEvents[keyof protocol.ProtocolEvents] | Joined | Left | Cursors | Ack | ErrorReply | protocol.ServerNotice
  | protocol.Kicked | Watching | WatchedSummary;

export type ServerMessage = Authenticated | protocol.Pong | protocol.AuthExpiring | RoomMessage;

export interface ClientMessage {
  type: string;
  roomId?: string;
  data?: unknown;
  [field: string]: unknown;
}
