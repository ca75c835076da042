/**
 * The one WebSocket of a presence: attempts and reconnects, tokens, close codes, heartbeats. The presence (presence.js)
 * starts and stops it, sends through it and handles what it receives.
 */

/**
 * @import { ServerClock } from "./clock.js"
 * @import { Authenticated, ClientMessage, RoomMessage, ServerMessage } from "./messages.js"
 * @import { PresenceError, PresenceOptions, PresenceStatus } from "./types.js"
 */

import { PageActivity } from "./activity.js";
import { localNow } from "./clock.js";
import { TIMER_ADDRESS, WorkerTimer } from "./worker-timer.js";

const FIRST_WAIT_MS = 250; // full jitter between 0 and this, doubled at each attempt ...
const LONGEST_WAIT_MS = 20_000; // ... up to this
const STABLE_MS = 5000; // a connection that was shorter does not reset the wait
const ATTEMPT_MS = 15_000; // token, handshake and `authenticated` together
const PONG_MS = 10_000; // no answer and no other message for so long: the connection is dead
const MIN_HEARTBEAT_MS = 5000; // faster heartbeats are not answered [D3]
const CLOCK_SAMPLES = 4; // so many heartbeats at the least distance when the clock has to be exact
const MAX_REFUSED_TOKENS = 3; // so many refused in a row are final
const RENEWAL_ID = 0; // of an `auth` that renews the token, so that its refusal is told from others: requests have ids from 1
const RENEWAL_DISTANCE_MS = 5000; // between two renewals: the server takes one in this time, after a burst [A4]
const RENEWAL_WAIT_MS = 1000; // a renewal that has failed is repeated after this, doubled at each failure ...
const LONGEST_RENEWAL_WAIT_MS = 10_000; // ... up to this, until the server cuts the connection [A7]
const FULL_BYTES = 16_384; // with more bytes waiting for the network, newer values replace older ones here

/** Codes with which the client closes: 1000 is a leave, another one lets the session be resumed [D2]. */
const CLOSE_AND_LEAVE = 1000;
const CLOSE_AND_RESUME = 3000;

const NO_ADDRESS = 0; // in place of a close code: no socket can be made for the address
const CONNECTION_LOST = 1006;
const HANDSHAKE_REFUSED = 1013; // the code that the server would have sent
const TOKEN_REFUSED = 4401;

/**
 * The application's `auth` gives null.
 * @type {PresenceError}
 */
const SIGNED_OUT = { code: "SIGNED_OUT", message: "`auth` gives null: there is no user. Enter the room again after a sign-in." };

/** The meaning of close codes [L7]. After one that is in none of these lists: reconnect at once, with the resume token. */
const FINAL_CODES = [NO_ADDRESS, 1000, 1003, 4403, 4409];
const LATER_CODES = [HANDSHAKE_REFUSED, 1011, 4400, 4429]; // after the server's retryAfterMs, or a long wait

/**
 * What the owner of a connection is told.
 * @typedef {object} ConnectionHandlers
 * @property {() => object} authFields Further fields of each `auth`.
 * @property {(hello: Authenticated) => void} onOpen At each new connection, before its status is `live`.
 * @property {(message: RoomMessage) => void} onMessage
 * @property {() => void} onLost At each loss, and at each attempt that fails.
 * @property {(error: PresenceError) => void} onEnd It will not reconnect.
 * @property {(status: PresenceStatus) => void} onStatus
 * @property {(error: PresenceError) => void} onError
 * @property {() => void} onAttentionLost The user looks at something else than the page.
 */

export class Connection {
  /** @type {PresenceStatus} */
  status = "idle";
  isOnline = false;
  /**
   * The server's answer to the last `auth` of a new connection.
   * @type {Authenticated | undefined}
   */
  hello;
  /** The last time that the server has told, server ms: this page was awake then. */
  heardAt = 0;

  #url;
  #auth;
  #WebSocket;
  #worker;
  #clock;
  #handlers;
  #activity;

  #isStarted = false;
  /** The page is in the back/forward cache. */
  #isSuspended = false;
  /** @type {WebSocket | null} */
  #socket = null;
  /** Number of the present attempt; callbacks of an earlier one are ignored. */
  #attempt = 0;
  /** Attempts since the last stable connection. */
  #failures = 0;
  /**
   * That of the last `auth`; empty where the cookie of the page signs in.
   * @type {string | undefined}
   */
  #token;
  #refusedTokens = 0;
  /** Number of the present renewal of the token; what an earlier one brings is ignored. */
  #renewal = 0;
  /** @type {string | undefined} */
  #renewalToken;
  /** Renewals that failed since the last one that did not. */
  #failedRenewals = 0;
  #renewedAt = -Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #renewalTimer;
  /**
   * In memory only: a duplicated tab must not resume this tab's session.
   * @type {string | undefined}
   */
  #resumeToken;
  #authSentAt = 0;
  #onlineAt = 0;
  /**
   * From the server's last notice, or from an error before `authenticated`.
   * @type {number | undefined}
   */
  #retryAfterMs;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** Whether the present wait was asked for by the server, so that nothing shortens it. */
  #isWaitFixed = false;
  /**
   * A message of the server must arrive before it fires.
   * @type {ReturnType<typeof setTimeout> | undefined}
   */
  #deadline;

  /** @type {WorkerTimer | undefined} */
  #heartbeatTimer;
  #heartbeatIntervalMs = 0;
  #heartbeatAt = -Infinity;
  /** Heartbeats that are sent at the least distance, to measure the server's clock. */
  #clockSamplesDue = 0;
  /** @type {string | undefined} */
  #reportedActivity;

  /**
   * @param {object} init
   * @param {PresenceOptions} init.options
   * @param {ServerClock} init.clock
   * @param {ConnectionHandlers} init.handlers
   */
  constructor({ options, clock, handlers }) {
    const { url, auth, WebSocket = globalThis.WebSocket, worker = TIMER_ADDRESS, idleMs = 120_000 } = options;
    this.#url = url;
    this.#auth = auth;
    this.#WebSocket = /** @type {typeof globalThis.WebSocket} */ (WebSocket);
    this.#worker = worker;
    this.#clock = clock;
    this.#handlers = handlers;
    this.#activity = new PageActivity({
      idleMs,
      handlers: {
        onChange: () => this.#sendHeartbeat(),
        onReturn: () => this.#onReturn(),
        onAttentionLost: handlers.onAttentionLost,
        onPageClosed: () => this.#drop(CLOSE_AND_LEAVE),
        onPageKept: () => this.#suspend(),
        onPageBack: () => this.#resume(),
      },
    });
  }

  /** Too many bytes wait for the network. */
  get isFull() {
    return (this.#socket?.bufferedAmount ?? 0) > FULL_BYTES;
  }

  /** Connects, and reconnects until `stop` or a final close code. Nothing if it is started. */
  start() {
    if (this.#isStarted) return;
    this.#isStarted = true;
    this.#failures = 0;
    this.#refusedTokens = 0;
    this.#heartbeatTimer = new WorkerTimer({
      worker: globalThis.document ? this.#worker : false, // without a page no timer is slowed down
      onFire: () => this.#sendHeartbeat(),
    });
    this.#activity.start();
    this.#setStatus("connecting");
    this.#open();
  }

  /** Leaves and closes; the session cannot be resumed. */
  stop() {
    this.#drop(CLOSE_AND_LEAVE);
    this.#activity.stop();
    this.#heartbeatTimer?.close();
    this.#heartbeatTimer = undefined;
    this.#resumeToken = undefined;
    this.#isStarted = this.#isSuspended = false;
    this.#setStatus("closed");
  }

  /**
   * Sends a message; without a connection it is dropped.
   * @param {ClientMessage} message
   */
  send(message) {
    if (this.isOnline) this.#write(message);
  }

  /** Measures the server's clock some times soon: a film is to be in step, and a heartbeat in 30 s is too few [H22]. */
  measureClock() {
    this.#clockSamplesDue = CLOCK_SAMPLES;
    this.#sendHeartbeat();
  }

  // --- attempts ----------------------------------------------------------------------------------------------------

  async #open() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    const attempt = ++this.#attempt;
    this.#expectMessage(ATTEMPT_MS);
    const token = this.#token ?? (await this.#fetchToken());
    if (attempt !== this.#attempt) return;
    if (token === null) return this.#end(SIGNED_OUT);
    if (token === undefined) return this.#onLost(CONNECTION_LOST);
    this.#token = token;
    try {
      const page = new URL(this.#url, globalThis.location?.href);
      this.#listen(new this.#WebSocket(page.href.replace(/^http/, "ws")), page, attempt);
    } catch (error) { // not an address, or one that the page's policy forbids
      this.#onLost(NO_ADDRESS, error);
    }
  }

  /**
   * @param {WebSocket} socket
   * @param {URL} address
   * @param {number} attempt
   */
  #listen(socket, address, attempt) {
    let isOpen = false;
    this.#socket = socket;
    socket.onopen = () => {
      isOpen = true;
      this.#authSentAt = localNow();
      this.#write({
        type: "auth", token: this.#token || undefined, resumeToken: this.#resumeToken, caps: ["cursors"],
        ...this.#handlers.authFields(),
      });
    };
    socket.onmessage = ({ data }) => this.#onMessage(JSON.parse(data));
    socket.onclose = async ({ code }) => {
      if (isOpen) return this.#onLost(code);
      const isRefused = await answersHealthCheck(address);
      if (attempt !== this.#attempt) return;
      if (isRefused) this.#handlers.onError({ code: "REFUSED", message: "The server is full, or refuses this page." });
      this.#onLost(isRefused ? HANDSHAKE_REFUSED : code);
    };
    socket.onerror = () => {}; // its close follows
  }

  /**
   * @returns {Promise<string | null | undefined>} Empty where the cookie of the page signs in; null if there is no user;
   *   undefined if the application's `auth` has failed, which is reported.
   */
  async #fetchToken() {
    if (!this.#auth) return "";
    try {
      const token = await this.#auth();
      if (token === null || (token && typeof token === "string")) return token;
      this.#handlers.onError({ code: "TOKEN", message: `\`auth\` gives ${typeof token} in place of a token, or null if there is no user.` });
    } catch (error) {
      this.#handlers.onError({ code: "TOKEN", message: `${error}` });
    }
  }

  /**
   * The connection or the attempt has failed: reconnect later, or end.
   * @param {number} closeCode
   * @param {unknown} [reason]
   */
  #onLost(closeCode, reason) {
    if (this.isOnline && localNow() - this.#onlineAt >= STABLE_MS) this.#failures = 0;
    this.#drop(CLOSE_AND_RESUME);
    this.#handlers.onLost();
    if (closeCode === TOKEN_REFUSED) {
      this.#token = undefined;
      this.#refusedTokens++;
    }
    if (FINAL_CODES.includes(closeCode) || this.#refusedTokens > MAX_REFUSED_TOKENS) {
      return this.#end({ code: "CLOSED", message: `Closed: ${reason ?? closeCode}`, closeCode });
    }
    this.#setStatus(this.#resumeToken ? "reconnecting" : "connecting");
    this.#isWaitFixed = LATER_CODES.includes(closeCode);
    const fixedMs = this.#isWaitFixed ? this.#retryAfterMs || LONGEST_WAIT_MS * (0.5 + Math.random() / 2) : 0;
    const jitterMs = Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
    this.#retryTimer = setTimeout(() => this.#open(), jitterMs + fixedMs);
    this.#retryAfterMs = 0;
  }

  /** @param {PresenceError} error Why it will not reconnect. */
  #end(error) {
    this.#handlers.onEnd(error);
    this.stop();
  }

  /**
   * Closes the socket, if any, and forgets what was due on it.
   * @param {number} closeCode
   */
  #drop(closeCode) {
    this.#attempt++;
    this.isOnline = false;
    clearTimeout(this.#deadline);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    this.#stopRenewal();
    this.#heartbeatTimer?.cancel();
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(closeCode);
    this.#socket = null;
  }

  /** Something has come back that may have been the cause of a loss. */
  #onReturn() {
    this.#sendHeartbeat();
    if (this.#retryTimer && !this.#isWaitFixed) this.#open();
  }

  /**
   * The page goes into the back/forward cache, where nothing runs: others see at once that it is not connected, and it
   * comes back as the same session if that is within the grace period.
   */
  #suspend() {
    this.#isSuspended = true;
    this.#drop(CLOSE_AND_RESUME);
    this.#token = undefined; // it may have ended when the page comes back
    this.#handlers.onLost();
    this.#setStatus(this.#resumeToken ? "reconnecting" : "connecting");
  }

  #resume() {
    if (!this.#isSuspended) return;
    this.#isSuspended = false;
    this.#open();
  }

  // --- renewal of the token ------------------------------------------------------------------------------------------

  /** The token ends soon. */
  #onTokenExpiring() {
    this.#token = undefined; // the next connection begins with a fresh one
    const waitMs = this.#renewedAt + RENEWAL_DISTANCE_MS - localNow();
    if (waitMs > 0) this.#renewLater(waitMs); // `auth` gave one that ends soon, perhaps from a cache
    else this.#renewToken(); // not by a timer, which is late in a hidden page
  }

  /** @param {number} ms */
  #renewLater(ms) {
    this.#stopRenewal();
    this.#renewalTimer = setTimeout(() => this.#renewToken(), ms);
  }

  /** Sends a fresh token over the connection; it is repeated until one is taken, or the connection is lost [A7]. */
  async #renewToken() {
    this.#stopRenewal();
    const renewal = this.#renewal;
    this.#renewalTimer = setTimeout(() => this.#onRenewalFailed(), ATTEMPT_MS);
    const token = await this.#fetchToken();
    if (renewal !== this.#renewal) return;
    if (token === null) return this.#end(SIGNED_OUT);
    if (token === undefined) return this.#onRenewalFailed();
    this.#renewalToken = token;
    this.#write({ type: "auth", id: RENEWAL_ID, token: token || undefined });
  }

  #onTokenRenewed() {
    this.#stopRenewal();
    this.#failedRenewals = 0;
    this.#renewedAt = localNow();
    this.#token = this.#renewalToken;
  }

  /** @param {number} [retryAfterMs] Asked for by the server. */
  #onRenewalFailed(retryAfterMs = 0) {
    const waitMs = Math.min(LONGEST_RENEWAL_WAIT_MS, RENEWAL_WAIT_MS * 2 ** this.#failedRenewals++);
    this.#renewLater(Math.max(retryAfterMs, waitMs) * (0.75 + Math.random() / 2));
  }

  #stopRenewal() {
    this.#renewal++;
    clearTimeout(this.#renewalTimer);
  }

  // --- messages ----------------------------------------------------------------------------------------------------

  /** @param {ServerMessage} message */
  #onMessage(message) {
    clearTimeout(this.#deadline);
    if (message.type === "authenticated") {
      this.#resumeToken = message.resumeToken;
      this.#refusedTokens = 0;
      if (this.isOnline) this.#onTokenRenewed();
      else this.#onAuthenticated(message);
    } else if (message.type === "pong") {
      this.heardAt = message.serverTime;
      this.#clock.addSample(message.echo, localNow(), message.serverTime);
    } else if (message.type === "auth_expiring") {
      this.#onTokenExpiring();
    } else {
      if (message.type === "error" && message.id === RENEWAL_ID) {
        this.#onRenewalFailed(message.retryAfterMs);
        if (message.code === "RATE_LIMITED") return;
      }
      if (message.type === "server_notice" || !this.isOnline) {
        this.#retryAfterMs = /** @type {{ retryAfterMs?: number }} */ (message).retryAfterMs;
      }
      this.#handlers.onMessage(message);
    }
  }

  /** @param {Authenticated} hello */
  #onAuthenticated(hello) {
    this.isOnline = true;
    this.hello = hello;
    this.heardAt = hello.serverTime;
    this.#onlineAt = localNow();
    this.#clock.addSample(this.#authSentAt, this.#onlineAt, hello.serverTime);
    this.#heartbeatIntervalMs = hello.heartbeatInterval * 1000;
    this.#heartbeatAt = -Infinity;
    this.#handlers.onOpen(hello);
    this.#setStatus("live");
    this.#sendHeartbeat();
  }

  /** Sends a heartbeat if one is due or the activity has changed, and sets the timer for the next one. */
  #sendHeartbeat() {
    if (!this.isOnline) return;
    const intervalMs = this.#clockSamplesDue > 0 ? MIN_HEARTBEAT_MS : this.#heartbeatIntervalMs * (0.9 + Math.random() / 5);
    this.#heartbeatTimer?.start(intervalMs);
    const clientTime = localNow();
    const status = this.#activity.current;
    const isDue = clientTime - this.#heartbeatAt >= MIN_HEARTBEAT_MS;
    if (!isDue && status === this.#reportedActivity) return;
    this.#reportedActivity = status;
    this.#write({ type: "heartbeat", status, clientTime });
    if (!isDue) return; // it will not be answered
    this.#heartbeatAt = clientTime;
    if (this.#clockSamplesDue > 0) this.#clockSamplesDue--;
    this.#expectMessage(PONG_MS);
  }

  /**
   * Gives the connection up if no message arrives in so many ms.
   * @param {number} ms
   */
  #expectMessage(ms) {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#onLost(CONNECTION_LOST), ms);
  }

  /** @param {ClientMessage} message */
  #write(message) {
    this.#socket?.send(JSON.stringify(message));
  }

  /** @param {PresenceStatus} status */
  #setStatus(status) {
    if (status === this.status) return;
    this.status = status;
    this.#handlers.onStatus(status);
  }
}

/**
 * Whether the server answers beside the address of the WebSocket. A browser reports a refused handshake like a server that
 * cannot be reached; only the former answers.
 * @param {URL} address
 */
async function answersHealthCheck(address) {
  try {
    return (await fetch(new URL("healthz", address.href.replace(/^ws/, "http")))).ok;
  } catch {
    return false;
  }
}
