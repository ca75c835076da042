/**
 * Requests that wait for an answer, or for a connection or a room to be sent at all. The presence has one queue for itself
 * and all its rooms.
 */

/**
 * @import { ClientMessage } from "./messages.js"
 * @import { Answer, ErrorCode, PresenceError } from "./types.js"
 */

/** So many requests may wait; then the oldest is answered with OFFLINE. */
const MAX_REQUESTS = 100;
/** The server reads no larger message. */
const MAX_MESSAGE_BYTES = 16_384;
/** An answer that has not come by then does not come: the worker that owed it has died, or the network. */
const ANSWER_MS = 15_000;
/** A request that could not be sent by then is not sent any more. */
const WAIT_MS = 30_000;

const OFFLINE = failure("OFFLINE", "Not connected.");
/** In a room that is over. */
export const LEFT = failure("NOT_IN_ROOM", "The room has been left, or it is closed.");

/**
 * @param {ErrorCode} code
 * @param {string} message
 * @returns {{ readonly success: false } & PresenceError}
 */
function failure(code, message) {
  return { success: false, code, message };
}

const encoder = new TextEncoder();

/**
 * A copy of a message as it will arrive: what the application changes later in its objects is not sent.
 * @param {ClientMessage} message
 * @returns {{ copy?: ClientMessage, refusal?: ReturnType<typeof failure> }} The copy, or why it cannot be sent.
 */
function copyOf(message) {
  try {
    const text = JSON.stringify(message);
    const bytes = encoder.encode(text).length;
    if (bytes <= MAX_MESSAGE_BYTES) return { copy: JSON.parse(text) };
    return { refusal: failure("TOO_LARGE", `This ${message.type} has ${bytes} bytes; ${MAX_MESSAGE_BYTES} are allowed.`) };
  } catch (error) { // a BigInt, a circle, a toJSON that throws
    return { refusal: failure("INVALID_DATA", `This ${message.type} cannot be sent as JSON: ${error}`) };
  }
}

/**
 * @typedef {object} Request
 * @property {ClientMessage} message With its id.
 * @property {string | undefined} key
 * @property {(answer: Answer<any>) => void} resolve
 * @property {boolean} isSent
 * @property {ReturnType<typeof setTimeout>} timer Its time limit.
 */

export class RequestQueue {
  /** @type {Map<number, Request>} */
  #requests = new Map();
  #lastId = 0;
  #send;
  #maySend;
  #mayWait;
  #onRefused;

  /**
   * @param {object} options
   * @param {(message: ClientMessage) => void} options.send
   * @param {(message: ClientMessage) => boolean} options.maySend Whether there is a connection, and the room is joined.
   * @param {() => boolean} options.mayWait Whether there is a connection, or will be.
   * @param {(error: PresenceError) => void} options.onRefused A message cannot be sent at all.
   */
  constructor({ send, maySend, mayWait, onRefused }) {
    this.#send = send;
    this.#maySend = maySend;
    this.#mayWait = mayWait;
    this.#onRefused = onRefused;
  }

  /**
   * Sends a message as soon as it may be sent. Requests are sent in their order, each once. What is no JSON, or too large, is
   * answered with INVALID_DATA or TOO_LARGE and not sent; without an answer in time the code is TIMEOUT.
   * @param {ClientMessage} message
   * @param {string} [key] Of the requests with the same key that are not sent, only the last one is; others get OFFLINE.
   * @returns {Promise<Answer<any>>} Never rejects, and always settles.
   */
  ask(message, key) {
    const { copy, refusal } = copyOf(message);
    if (refusal) {
      const { code, message: text } = refusal;
      this.#onRefused({ code, message: text, ...(message.roomId !== undefined && { roomId: message.roomId }) });
      return Promise.resolve(refusal);
    }
    if (!this.#mayWait()) return Promise.resolve(OFFLINE);
    return new Promise((resolve) => {
      if (key) this.#settle(OFFLINE, (request) => !request.isSent && request.key === key);
      const id = ++this.#lastId;
      const timer = setTimeout(() => this.answer(id, OFFLINE), WAIT_MS);
      this.#requests.set(id, { message: /** @type {ClientMessage} */ ({ ...copy, id }), key, resolve, isSent: false, timer });
      this.sendWaiting();
      const [oldest] = this.#requests.values();
      if (this.#requests.size > MAX_REQUESTS) this.#settle(OFFLINE, (request) => request === oldest);
    });
  }

  /** Sends what waits and may be sent now. */
  sendWaiting() {
    for (const [id, request] of this.#requests) {
      if (request.isSent || !this.#maySend(request.message)) continue;
      request.isSent = true;
      clearTimeout(request.timer);
      const late = failure("TIMEOUT", `The server has not answered this ${request.message.type} within ${ANSWER_MS / 1000} s.`);
      request.timer = setTimeout(() => this.answer(id, late), ANSWER_MS);
      this.#send(request.message);
    }
  }

  /**
   * @param {number | undefined} id
   * @returns {string | undefined} The room of an open request.
   */
  roomIdOf(id) {
    return this.#find(id)?.message.roomId;
  }

  /**
   * Answers a request; nothing if it is not open.
   * @param {number | undefined} id
   * @param {Answer<any>} answer
   */
  answer(id, answer) {
    const answered = this.#find(id);
    this.#settle(answer, (request) => request === answered);
  }

  /** The connection is lost: what was sent is not sent again [J2]. */
  failSent() {
    this.#settle(OFFLINE, (request) => request.isSent);
  }

  /** @param {string} roomId The room is over. */
  failRoom(roomId) {
    this.#settle(LEFT, (request) => request.message.roomId === roomId);
  }

  failAll() {
    this.#settle(OFFLINE, () => true);
  }

  /** @param {number | undefined} id */
  #find(id) {
    return id === undefined ? undefined : this.#requests.get(id);
  }

  /**
   * @param {Answer<any>} answer
   * @param {(request: Request) => boolean} isMeant
   */
  #settle(answer, isMeant) {
    for (const [id, request] of this.#requests) {
      if (!isMeant(request)) continue;
      this.#requests.delete(id);
      clearTimeout(request.timer);
      request.resolve(answer);
    }
  }
}
