/**
 * The connection where WebSockets are blocked: the server's messages come by server-sent events (the subscription
 * `presence.onEvent` of tRPC), and what the client sends goes by POST. It has the part of the interface of a WebSocket that
 * the connection (connection.js) uses, and the same messages. Loaded only where it is needed.
 */

/** @import { ClientMessage, ServerMessage } from "./messages.js" */

const CONNECTION_LOST = 1006;
const LATER = 1013;
const LEAVE = 1000;

const MAX_BATCH = 20; // calls in one request [M6]
/** Between two requests: what comes meanwhile is collected, and of a cursor the newest is sent. */
const BATCH_DISTANCE_MS = 100;
const SUMMARIES_MS = 5000; // between two questions for the summaries of watched rooms, which no stream brings [Q12]
const ANSWER_MS = 10_000; // a request without an answer for so long has failed

/**
 * The procedures of the messages [M5].
 * @type {Record<string, string | undefined>}
 */
export const PROCEDURES = {
  join: "join", leave: "leave", heartbeat: "heartbeat", get_active: "getActive", cursor: "updateCursor", selection: "updateSelection",
  status: "setStatus", privacy: "setPrivacy", playback: "syncPlayback", media: "setMedia", control_request: "requestControl",
  control_grant: "grantControl", control_deny: "denyControl", control_release: "releaseControl", control_cancel: "cancelControl",
  broadcast: "broadcast", presence: "setPresence", watch: "getSummaries",
};

/** Of these the newest value replaces one that waits; a `playback` that asks for no answer is a report. */
const REPLACED = ["cursor", "selection", "heartbeat", "playback", "watch"];

/** Close codes for the errors that end a stream; after any other one it is tried again later. */
const CLOSE_CODES = new Map([["UNAUTHENTICATED", 4401], ["FORBIDDEN", 4403], ["SESSION_REQUIRED", 4409], ["TOO_MANY_SESSIONS", 4429]]);

/**
 * An error of tRPC.
 * @typedef {object} ErrorShape
 * @property {string} message
 * @property {{ reason?: string, code: string, retryAfter?: number, state?: unknown }} data
 */

export class EventStreamSocket {
  bufferedAmount = 0;
  /** @type {(() => void) | null} */
  onopen = null;
  /** @type {((event: { data: string }) => void) | null} */
  onmessage = null;
  /** @type {((event: { code: number }) => void) | null} */
  onclose = null;
  /** @type {(() => void) | null} */
  onerror = null;

  #base;
  #isClosed = false;
  /** @type {unknown} */
  #token;
  #resumeToken = "";
  #sessionId = "";
  /**
   * The stream whose events count.
   * @type {AbortController | undefined}
   */
  #stream;
  /**
   * The one that is to take its place, with a fresh token.
   * @type {AbortController | undefined}
   */
  #nextStream;
  /** Rooms of which a join was sent and no leave. */
  #roomIds = new Set();

  /** @type {ClientMessage[]} */
  #waiting = [];
  /** A request is under way, or the distance to the next one. */
  #isBusy = false;
  /**
   * The last request, unless it has a leave. It ends with the stream: the server refuses calls of a session without one.
   * @type {AbortController | undefined}
   */
  #request;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /**
   * The newest list of watched rooms.
   * @type {unknown}
   */
  #watchedRooms;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #summariesTimer;
  /**
   * The last summary of each watched room, as JSON.
   * @type {Map<string, string>}
   */
  #summaries = new Map();

  /** @param {string} url That of the WebSocket; the procedures are beside it, at `trpc`. */
  constructor(url) {
    this.#base = new URL("trpc/", url.replace(/^ws/, "http"));
    queueMicrotask(() => this.onopen?.());
  }

  /** @param {string} text */
  send(text) {
    /** @type {ClientMessage} */
    const message = JSON.parse(text);
    if (message.type === "auth") this.#listen(message);
    else this.#enqueue(message);
  }

  /** @param {number} code 1000 leaves the rooms at once; after another one the server holds the session [D2]. */
  close(code) {
    if (this.#isClosed) return;
    this.#stop();
    const left = [...this.#roomIds].map((roomId) => ({ type: "leave", roomId }));
    if (code === LEAVE && left.length) this.#post(left, { keepalive: true }).catch(() => {}); // the page may be gone by then
  }

  #stop() {
    this.#isClosed = true;
    this.#stream?.abort();
    this.#nextStream?.abort();
    this.#request?.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#summariesTimer);
  }

  /** @param {number} code */
  #end(code) {
    if (this.#isClosed) return;
    this.#stop();
    this.onclose?.({ code });
  }

  // --- events ------------------------------------------------------------------------------------------------------

  /**
   * Opens a stream with the session of a token. A second one, with a fresh token, takes the place of the first when it has
   * the session, so that nothing is interrupted.
   * @param {ClientMessage} auth
   */
  async #listen({ id, token, resumeToken = this.#resumeToken, privacy }) {
    const stream = new AbortController();
    if (this.#stream) this.#nextStream = stream;
    else this.#stream = stream;
    const headers = this.#headers(token, { accept: "text/event-stream", "x-presence-resume": `${resumeToken}` });
    /** @param {any} message */
    const onEvent = (message) => {
      if (message.type === "authenticated") {
        if (stream === this.#nextStream) this.#stream?.abort();
        this.#stream = stream;
        this.#nextStream = undefined;
        this.#token = token;
        this.#sessionId = message.sessionId;
        this.#resumeToken = message.resumeToken;
        if (privacy) this.#enqueue({ type: "privacy", data: privacy }); // before the rooms are joined
      }
      if (stream === this.#stream) this.#deliver(message);
    };
    const { code, error } = await this.#read({ headers, signal: stream.signal }, onEvent);
    if (stream === this.#stream && this.#nextStream) {
      this.#stream = this.#nextStream; // the session went over to it already
      this.#nextStream = undefined;
      return;
    }
    if (error) this.#deliver(errorMessage(error, { id }));
    if (stream === this.#stream) this.#end(code);
    else if (stream === this.#nextStream) this.#nextStream = undefined;
  }

  /**
   * Reads a stream to its end.
   * @param {RequestInit} init
   * @param {(message: ServerMessage) => void} onEvent
   * @returns {Promise<{ code: number, error?: ErrorShape }>} The close code, and the error with which it ended.
   */
  async #read(init, onEvent) {
    try {
      const response = await this.#fetch("onEvent", { ...init, cache: "no-store" });
      if (!response.ok) return { code: LATER, error: (await response.json()).error };
      for await (const { event, data } of events(response)) {
        if (event === "message") {
          onEvent(JSON.parse(data));
        } else if (event === "serialized-error") {
          const error = JSON.parse(data);
          return { code: CLOSE_CODES.get(error.data.reason) ?? LATER, error };
        }
      }
    } catch {
      // the network, or an answer that is not the server's
    }
    return { code: CONNECTION_LOST };
  }

  /** @param {object} message */
  #deliver(message) {
    if (!this.#isClosed) this.onmessage?.({ data: JSON.stringify(message) });
  }

  // --- calls -------------------------------------------------------------------------------------------------------

  /** @param {ClientMessage} message */
  #enqueue(message) {
    const { type, roomId, id } = message;
    if (type === "watch" && id !== undefined) this.#onNewList(message.rooms);
    const older = id === undefined && REPLACED.includes(type)
      && this.#waiting.find((each) => each.type === type && each.roomId === roomId && each.id === undefined);
    if (older) Object.assign(older, message);
    else this.#waiting.push(message);
    queueMicrotask(() => this.#sendWaiting()); // what is sent in the same task goes together
  }

  /**
   * Questions for the summaries of an earlier list are not asked any more.
   * @param {unknown} rooms
   */
  #onNewList(rooms) {
    this.#watchedRooms = rooms;
    clearTimeout(this.#summariesTimer);
    this.#waiting = this.#waiting.filter((message) => message.type !== "watch" || message.id !== undefined);
  }

  /** Sends what waits, unless a request is under way or was a moment ago. */
  async #sendWaiting() {
    if (this.#isBusy || this.#isClosed || !this.#waiting.length) return;
    this.#isBusy = true;
    try {
      await this.#post(this.#takeBatch());
    } catch {
      this.#end(CONNECTION_LOST);
    }
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      this.#isBusy = false;
      this.#sendWaiting();
    }, BATCH_DISTANCE_MS);
  }

  /**
   * Takes the next messages, at most one of each room, and one that concerns no room by itself: the calls of a request run
   * at the same time.
   * @returns {ClientMessage[]}
   */
  #takeBatch() {
    /** @type {ClientMessage[]} */
    const batch = [];
    const roomIds = new Set();
    for (const message of this.#waiting) {
      const isAlone = message.roomId === undefined;
      if (batch.length && (isAlone || batch[0].roomId === undefined || batch.length === MAX_BATCH)) break;
      if (!roomIds.has(message.roomId)) batch.push(message);
      roomIds.add(message.roomId);
    }
    this.#waiting = this.#waiting.filter((message) => !batch.includes(message));
    for (const { type, roomId } of batch) {
      if (type === "join") this.#roomIds.add(roomId);
      else if (type === "leave") this.#roomIds.delete(roomId);
    }
    return batch;
  }

  /**
   * @param {ClientMessage[]} messages
   * @param {RequestInit} [init]
   */
  async #post(messages, init) {
    const inputs = messages.map(({ type, id, ...input }) => input);
    const names = messages.map(procedureOf).join(",presence.");
    const fields = { "content-type": "application/json", "x-presence-session": this.#sessionId };
    const headers = this.#headers(this.#token, fields);
    const request = new AbortController();
    if (!messages.some(({ type }) => type === "leave")) this.#request = request; // a leave counts without a stream, too
    const timer = setTimeout(() => request.abort(), ANSWER_MS);
    /** @type {unknown} */
    let answers;
    try {
      const response = await this.#fetch(`${names}?batch=1`, {
        ...init,
        method: "POST",
        signal: request.signal,
        headers,
        body: JSON.stringify({ ...inputs }),
      });
      answers = await response.json();
    } finally {
      clearTimeout(timer);
    }
    messages.forEach((message, i) => this.#answer(message, Array.isArray(answers) ? answers[i] : answers));
  }

  /**
   * @param {ClientMessage} message
   * @param {{ result?: { data: object }, error?: ErrorShape }} answer
   */
  #answer({ type, roomId, id, rooms }, { result, error }) {
    if (error) {
      this.#deliver(errorMessage(error, { id, roomId }));
      if (type === "watch" && id === undefined) this.#askAgain(rooms);
    } else if (type === "watch") this.#onSummaries(rooms, id, /** @type {any} */ (result?.data));
    else if (type === "heartbeat") this.#deliver({ type: "pong", ...result?.data });
    else if (id !== undefined) this.#deliver({ type: "ack", id, roomId, ...result?.data });
  }

  /**
   * The summaries of watched rooms: those that have changed are delivered, and asked for again later.
   * @param {unknown} rooms The list.
   * @param {unknown} id
   * @param {{ summaries: { roomId: string }[], refused: object[] }} data
   */
  #onSummaries(rooms, id, { summaries, refused }) {
    if (id !== undefined) this.#deliver({ type: "watching", id, rooms: summaries.map(({ roomId }) => roomId), refused });
    if (rooms !== this.#watchedRooms) return; // there is a newer list
    const texts = new Map(summaries.map((row) => [row.roomId, JSON.stringify(row)]));
    for (const row of summaries) {
      const isNew = id !== undefined || texts.get(row.roomId) !== this.#summaries.get(row.roomId);
      if (isNew) this.#deliver({ type: "room_summary", ...row });
    }
    this.#summaries = texts;
    if (summaries.length) this.#askAgain(rooms);
  }

  /** @param {unknown} rooms The list whose summaries are asked for after a while, unless there is a newer one. */
  #askAgain(rooms) {
    if (this.#isClosed || rooms !== this.#watchedRooms) return;
    clearTimeout(this.#summariesTimer);
    this.#summariesTimer = setTimeout(() => this.#enqueue({ type: "watch", rooms }), SUMMARIES_MS);
  }

  /**
   * @param {unknown} token
   * @param {Record<string, string>} headers
   */
  #headers(token, headers) {
    return token ? { ...headers, authorization: `Bearer ${token}` } : headers;
  }

  /**
   * @param {string} procedure
   * @param {RequestInit} init
   */
  #fetch(procedure, init) {
    return fetch(new URL(`presence.${procedure}`, this.#base), { credentials: "include", ...init });
  }
}

/** @param {ClientMessage} message */
function procedureOf({ type, data }) {
  if (type === "typing") return /** @type {{ isTyping: boolean }} */ (data).isTyping ? "startTyping" : "stopTyping";
  return PROCEDURES[type] ?? type;
}

/**
 * An error of tRPC as the error of the protocol.
 * @param {ErrorShape} error
 * @param {{ id?: unknown, roomId?: string | undefined }} request
 */
function errorMessage({ message, data }, request) {
  const { reason = data.code, retryAfter, state } = data;
  return { type: "error", ...request, code: reason, message, state, retryAfterMs: retryAfter && retryAfter * 1000 };
}

/**
 * The events of a response [HTML, section 9.2].
 * @param {Response} response
 */
async function* events({ body }) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (body).getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = `${text}${decoder.decode(value, { stream: true })}`.split(/\n\n+/);
    text = /** @type {string} */ (blocks.pop());
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => /** @type {[string, string]} */ (line.split(/: ?(.*)/s))));
      if (fields.has("data")) yield { event: fields.get("event") ?? "message", data: fields.get("data") ?? "" };
    }
  }
}
