/**
 * Requests that wait for an answer, or for a connection or a room to be sent at all. The presence has one queue for itself
 * and all its rooms.
 */

/**
 * @import { ClientMessage } from "./messages.js"
 * @import { Answer } from "./types.js"
 */

/** So many requests may wait; then the oldest is answered with OFFLINE. */
const MAX_REQUESTS = 100;

/** @type {Answer} */
const OFFLINE = { success: false, code: "OFFLINE", message: "Not connected." };

/**
 * @typedef {object} Request
 * @property {ClientMessage} message With its id.
 * @property {string | undefined} key
 * @property {(answer: Answer<any>) => void} resolve
 * @property {boolean} isSent
 */

export class RequestQueue {
  /** @type {Map<number, Request>} */
  #requests = new Map();
  #lastId = 0;
  #send;
  #maySend;

  /**
   * @param {object} options
   * @param {(message: ClientMessage) => void} options.send
   * @param {(message: ClientMessage) => boolean} options.maySend Whether there is a connection, and the room is joined.
   */
  constructor({ send, maySend }) {
    this.#send = send;
    this.#maySend = maySend;
  }

  /**
   * Sends a message as soon as it may be sent. Requests are sent in their order, each once.
   * @param {ClientMessage} message
   * @param {string} [key] Of the requests with the same key that are not sent, only the last one is; others get OFFLINE.
   * @returns {Promise<Answer<any>>} Never rejects.
   */
  ask(message, key) {
    return new Promise((resolve) => {
      if (key) this.#settle(OFFLINE, (request) => !request.isSent && request.key === key);
      const id = ++this.#lastId;
      this.#requests.set(id, { message: { ...message, id }, key, resolve, isSent: false });
      this.sendWaiting();
      const [oldest] = this.#requests.values();
      if (this.#requests.size > MAX_REQUESTS) this.#settle(OFFLINE, (request) => request === oldest);
    });
  }

  /** Sends what waits and may be sent now. */
  sendWaiting() {
    for (const request of this.#requests.values()) {
      if (request.isSent || !this.#maySend(request.message)) continue;
      request.isSent = true;
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
    this.#settle(OFFLINE, (request) => request.message.roomId === roomId);
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
      request.resolve(answer);
    }
  }
}
