/**
 * The one connection of a presence: attempts and reconnects, tokens, close codes, heartbeats; by a WebSocket, or where those
 * are blocked by server-sent events (event-stream.js). The presence (presence.js) starts and stops it, sends through it and
 * handles what it receives.
 */

/**
 * @import { ServerClock } from "./clock.js"
 * @import { Authenticated, ClientMessage, RoomMessage, ServerMessage } from "./messages.js"
 * @import { ErrorCode, PresenceError, PresenceOptions, PresenceStatus, Transport } from "./types.js"
 */

import { PageActivity } from "./activity.js";
import { localNow } from "./clock.js";
import { notPresenceServer, refusalOf } from "./refusal.js";
import { Silence } from "./silence.js";
import { tokenFrom } from "./token-route.js";
import { TIMER_ADDRESS, WorkerTimer } from "./worker-timer.js";

const FIRST_WAIT_MS = 250; // full jitter between 0 and this, doubled at each attempt ...
const LONGEST_WAIT_MS = 20_000; // ... up to this
const STABLE_MS = 5000; // a connection that was shorter does not reset the wait
const ATTEMPT_MS = 15_000; // token, handshake and `authenticated` together
const SLOW_MS = 5000; // what the first attempt waits for so long is said, and it goes on
const PONG_MS = 10_000; // no answer and no other message for so long: the connection is dead
const MIN_HEARTBEAT_MS = 5500; // none is answered within 5 s of the one before [D3]; the rest is for a network's jitter
/** After so long a loss others may have seen the user leave: the grace of a server with the default configuration [D2]. */
const GRACE_MS = 5000;
/** A timer that fires so late was held up by the page, and so were the messages that it waits for. */
const HELD_UP_MS = 1000;
const CLOCK_SAMPLES = 4; // so many heartbeats at this distance when the clock has to be exact
const CLOCK_SAMPLE_MS = 6000;
const MAX_REFUSED_TOKENS = 3; // so many refused in a row are final
const RENEWAL_ID = 0; // of an `auth` that renews the token, so that its refusal is told from others: requests have ids from 1
const RENEWAL_DISTANCE_MS = 5000; // between two renewals: the server takes one in this time, after a burst [A4]
const RENEWAL_WAIT_MS = 1000; // a renewal that has failed is repeated after this, doubled at each failure ...
const LONGEST_RENEWAL_WAIT_MS = 10_000; // ... up to this, until the server cuts the connection [A7]
const REASON_MS = 5000; // for the server's reason after a WebSocket that did not open
const MAX_BLOCKED = 2; // so many WebSockets in a row that did not open although the server takes this page: then server-sent events
const BLOCKED_DISTANCE_MS = 5000; // those within this time count as one: a moment's fault of a network or a proxy blocks nothing
const TRANSPORT_KEY = "koko-presence.transport "; // and the address, in the session storage: a reload does not try WebSockets there again
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

/** What `auth` gives, or throws, where the answer of its route is not what it expects. */
const NO_FIELD = "Is it the field `token` of the route's answer?";
const NO_JSON = "The route of `auth` gives no JSON: does a proxy lead to your back end?";
const NO_TEXT = "`auth` gives JSON, or a page, in place of the token: return the field that has it, such as `(await answer.json()).token`.";

/** The meaning of close codes [L7]. After one that is in none of these lists: reconnect at once, with the resume token. */
const FINAL_CODES = [NO_ADDRESS, 1000, 1003, 4403, 4409];
const LATER_CODES = [HANDSHAKE_REFUSED, 1011, 4400, 4429]; // after the server's retryAfterMs, or a long wait

/**
 * What the owner of a connection is told.
 * @typedef {object} ConnectionHandlers
 * @property {() => object} authFields Further fields of each `auth`.
 * @property {(hello: Authenticated) => void} onOpen At each new connection, before its status is `live`.
 * @property {(message: RoomMessage) => void} onMessage
 * @property {() => void} onLost At each loss, and at each attempt that fails; `error` has the reason.
 * @property {() => void} onSlow The first attempt takes long; `error` has what it waits for.
 * @property {(error: PresenceError | null) => void} onEnd It will not reconnect: with an error for good, with null because of `stop`. It
 *   may be started again by what is called here.
 * @property {(status: PresenceStatus) => void} onStatus
 * @property {(error: PresenceError) => void} onError A failure that the server has not reported in a message.
 * @property {(warning: string) => void} onStreams A stream is live for the first time: what a developer should know of it.
 * @property {(direction: "sent" | "received", message: object) => void} onTraffic At each message over the socket.
 * @property {() => void} onAttentionLost The user looks at something else than the page.
 */

/**
 * What a connection uses of a WebSocket.
 * @typedef {object} Socket
 * @property {(() => void) | null} onopen
 * @property {((event: { data: string }) => void) | null} onmessage
 * @property {((event: { code: number, reason?: string }) => void) | null} onclose
 * @property {(() => void) | null} onerror
 * @property {number} bufferedAmount
 * @property {(text: string) => void} send
 * @property {(code: number) => void} close
 */

/**
 * @typedef {object} FetchedToken
 * @property {string | null} [token] Empty where the cookie of the page signs in; null if there is no user.
 * @property {PresenceError} [failure] Why the application's `auth` has failed. The caller reports it, unless it does not wait for
 *   the token any more.
 */

export class Connection {
  /** @type {PresenceStatus} */
  status = "idle";
  /**
   * By which the present connection, or attempt, is made.
   * @type {Transport}
   */
  transport;
  isOnline = false;
  /**
   * Why it is not live: the last failure while it tries, and why it has ended. Null while it is live, and before the first failure.
   * @type {PresenceError | null}
   */
  error = null;
  /** When the last message came, server ms. */
  receivedAt = 0;
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
  /** @type {Socket | null} */
  #socket = null;
  #isSocketOpen = false;
  /** WebSockets in a row that did not open although the server takes this page. */
  #blockedSockets = 0;
  #blockedAt = -Infinity;
  /** A stream for this address was live in this session of the page. */
  #usesStreams;
  /** That streams are used was told. */
  #isStreamsTold = false;
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
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #slowTimer;
  /**
   * After it others may have seen the user leave.
   * @type {ReturnType<typeof setTimeout> | undefined}
   */
  #graceTimer;
  /**
   * The last message on this connection, if it is a refusal: the reason when the server closes.
   * @type {PresenceError | undefined}
   */
  #lastRefusal;
  #silence;

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
    this.#usesStreams = this.#didUseStreams();
    this.transport = this.#usesStreams ? "sse" : "websocket";
    this.#silence = new Silence({ onSilence: () => this.#probe() });
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
    this.error = null;
    this.#heartbeatTimer = new WorkerTimer({
      worker: globalThis.document ? this.#worker : false, // without a page no timer is slowed down
      onFire: () => this.#sendHeartbeat(),
    });
    this.#activity.start();
    const attempt = this.#attempt;
    this.#setStatus("connecting");
    if (attempt === this.#attempt) this.#open(); // unless a listener has stopped it
  }

  /**
   * Leaves and closes; the session cannot be resumed.
   * @param {PresenceError | null} [error] Null: the application does.
   */
  stop(error = null) {
    const wasClosed = this.status === "closed";
    this.error = error;
    this.#drop(CLOSE_AND_LEAVE);
    this.#activity.stop();
    this.#heartbeatTimer?.close();
    this.#heartbeatTimer = undefined;
    this.#resumeToken = undefined;
    this.#isStarted = this.#isSuspended = false;
    clearTimeout(this.#graceTimer);
    this.status = "closed";
    this.#handlers.onEnd(error);
    if (!wasClosed && this.status === "closed") this.#handlers.onStatus("closed");
  }

  /**
   * Sends a message; without a connection it is dropped.
   * @param {ClientMessage} message
   */
  send(message) {
    if (!this.isOnline) return;
    this.#write(message);
    this.#silence.onSent();
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
    this.#expectMessage(ATTEMPT_MS, () => this.#onAttemptTimeout());
    if (!this.error) this.#slowTimer = setTimeout(() => this.#onSlowAttempt(), SLOW_MS);
    const { token, failure } = await this.#presentToken();
    if (attempt !== this.#attempt) return;
    if (failure) return this.#onAttemptFailed(CONNECTION_LOST, failure);
    if (token === null) return this.stop(SIGNED_OUT);
    this.#token = token;
    const address = this.#address;
    if (!this.#usesStreams) this.transport = this.#blockedSockets < MAX_BLOCKED ? "websocket" : "sse";
    try {
      const Socket = this.transport === "sse" ? (await import("./event-stream.js")).EventStreamSocket : this.#WebSocket;
      if (attempt !== this.#attempt) return;
      if (!Socket) throw new Error("There is no WebSocket here: pass the class of the package ws as `WebSocket`.");
      const socket = /** @type {Socket} */ (/** @type {unknown} */ (new Socket(address.href.replace(/^http/, "ws"))));
      this.#listen(socket, address);
    } catch (error) { // one that the page's policy forbids, or there is no class
      if (attempt !== this.#attempt) return;
      if (this.transport === "sse") this.#onAttemptFailed(CONNECTION_LOST, { code: "LOAD", message: `${error}` });
      else this.#onLost(NO_ADDRESS, { code: "REFUSED", message: `${error}` });
    }
  }

  /** @returns {URL} That of the WebSocket. */
  get #address() {
    return new URL(this.#url, globalThis.location?.href);
  }

  /**
   * @param {number} ms
   * @returns {PresenceError} What the present attempt has waited for so long.
   */
  #missingFor(ms) {
    const isToken = this.#token === undefined;
    const missing = isToken ? "`auth`" : this.#address.href;
    return { code: isToken ? "TOKEN" : "UNREACHABLE", message: `${missing} has not answered within ${ms / 1000} s.` };
  }

  /** Says what the first attempt waits for. It has not failed, so this is no event. */
  #onSlowAttempt() {
    this.error = this.#missingFor(SLOW_MS);
    this.#handlers.onSlow();
  }

  #onAttemptTimeout() {
    const error = this.#missingFor(ATTEMPT_MS);
    if (!this.#socket || this.#isSocketOpen || this.transport === "sse") return this.#onAttemptFailed(CONNECTION_LOST, error);
    this.#closeSocket(CLOSE_AND_RESUME);
    this.#onUnopened(CONNECTION_LOST, error);
  }

  /**
   * The socket of this attempt has not opened: asks the server why, before it is tried again.
   * @param {number} closeCode
   * @param {PresenceError} unreachable The error if the server does not answer either.
   */
  async #onUnopened(closeCode, unreachable) {
    const attempt = this.#attempt;
    clearTimeout(this.#slowTimer);
    const question = new AbortController();
    this.#expectMessage(REASON_MS, () => question.abort());
    const refusal = await refusalOf(this.#address, question.signal);
    if (attempt !== this.#attempt) return;
    const isBlocked = Boolean(refusal?.mayConnect) && this.transport === "websocket";
    if (!isBlocked) {
      this.#blockedSockets = 0;
    } else if (localNow() - this.#blockedAt >= BLOCKED_DISTANCE_MS) {
      this.#blockedSockets++;
      this.#blockedAt = localNow();
      if (this.#blockedSockets === MAX_BLOCKED) this.#failures = 0; // a stream is next, which has not failed yet
    }
    const isRefused = refusal?.error.code === "REFUSED" && !isBlocked;
    this.#onAttemptFailed(isRefused ? HANDSHAKE_REFUSED : closeCode, refusal?.error ?? unreachable);
  }

  /**
   * Reports why the attempt has failed, and goes on with the next one.
   * @param {number} closeCode
   * @param {PresenceError} error
   */
  #onAttemptFailed(closeCode, error) {
    const attempt = this.#attempt;
    this.#onFailure(error);
    if (attempt === this.#attempt) this.#onLost(closeCode, error); // unless a listener has stopped it
  }

  /**
   * @param {Socket} socket
   * @param {URL} address
   */
  #listen(socket, address) {
    this.#socket = socket;
    this.#isSocketOpen = false;
    socket.onopen = () => {
      this.#isSocketOpen = true;
      this.#blockedSockets = 0;
      this.#authSentAt = localNow();
      this.#write({
        type: "auth", token: this.#token || undefined, resumeToken: this.#resumeToken, caps: ["cursors"],
        ...this.#handlers.authFields(),
      });
    };
    socket.onmessage = ({ data }) => {
      const message = parse(data);
      if (message) return this.#onMessage(message);
      this.#onAttemptFailed(HANDSHAKE_REFUSED, { code: "REFUSED", message: notPresenceServer(address) });
    };
    socket.onclose = ({ code, reason }) => {
      const isAnswered = this.transport === "sse" ? this.isOnline || code !== CONNECTION_LOST : this.#isSocketOpen;
      if (isAnswered) this.#onLost(code, this.#reasonOf(code, reason));
      else this.#onUnopened(code, { code: "UNREACHABLE", message: `No server answers at ${address.href}.` });
    };
    socket.onerror = () => {}; // its close follows
  }

  /** WebSockets to this address are not tried any more in this session of the page. */
  #useStreams() {
    const { href } = this.#address;
    this.#usesStreams = true;
    try {
      sessionStorage.setItem(TRANSPORT_KEY + href, "sse");
    } catch {
      // not in Node, nor where the page may not store anything
    }
    if (this.#isStreamsTold) return;
    this.#isStreamsTold = true;
    this.#handlers.onStreams(`No WebSocket opens at ${href}, so this tab uses server-sent events, which send ten cursors a second at `
      + "most. Does a proxy on the way pass WebSockets on (in Vite `ws: true`)? Another tab tries them again.");
  }

  /** Whether this page, before a reload, used server-sent events for the address. */
  #didUseStreams() {
    try {
      return sessionStorage.getItem(TRANSPORT_KEY + this.#address.href) === "sse";
    } catch {
      return false;
    }
  }

  /** @returns {Promise<FetchedToken>} The one of the last connection, while it is not refused and does not end soon. */
  async #presentToken() {
    return this.#token === undefined ? this.#fetchToken() : { token: this.#token };
  }

  /** @returns {Promise<FetchedToken>} */
  async #fetchToken() {
    if (!this.#auth) return { token: "" };
    try {
      const token = await (typeof this.#auth === "string" ? tokenFrom(this.#auth) : this.#auth());
      if (token === null) return { token };
      if (!token || typeof token !== "string") {
        return failedToken(`\`auth\` gives ${typeof token} in place of a token, or null if there is no user. ${NO_FIELD}`);
      }
      return /^\s*[{"<]/.test(token) ? failedToken(NO_TEXT) : { token };
    } catch (error) {
      return failedToken(error instanceof SyntaxError ? `${error}. ${NO_JSON}` : `${error}`);
    }
  }

  /**
   * Reports what the server has not said in a message. It is the reason why there is no connection, if there is none.
   * @param {PresenceError} error
   */
  #onFailure(error) {
    if (!this.isOnline) this.error = error;
    this.#handlers.onError(error);
  }

  /**
   * Why an open connection was closed: what the server said last, or the reason in the close frame.
   * @param {number} closeCode
   * @param {string | undefined} reason
   * @returns {PresenceError}
   */
  #reasonOf(closeCode, reason) {
    if (closeCode !== CONNECTION_LOST && this.#lastRefusal) return { ...this.#lastRefusal, closeCode };
    const message = reason ? `The server closed the connection: ${reason.replace(/[^.?!]$/, "$&.")}` : "The connection was lost.";
    return { code: "LOST", message, closeCode };
  }

  /**
   * The connection or the attempt has failed: reconnect later, or end.
   * @param {number} closeCode
   * @param {PresenceError | null} error
   */
  #onLost(closeCode, error) {
    const wasOnline = this.isOnline;
    if (wasOnline && localNow() - this.#onlineAt >= STABLE_MS) this.#failures = 0;
    // unless a stream was live, WebSockets are tried again
    if (this.transport === "sse" && closeCode !== TOKEN_REFUSED) this.#blockedSockets = 0;
    this.#drop(CLOSE_AND_RESUME);
    const attempt = this.#attempt; // another one after a call of listeners: one of them has stopped it
    this.error = error;
    if (wasOnline) this.#graceTimer = setTimeout(() => this.#setStatus("lost"), GRACE_MS);
    this.#handlers.onLost();
    if (attempt !== this.#attempt) return;
    if (closeCode === TOKEN_REFUSED) {
      this.#token = undefined;
      this.#refusedTokens++;
    }
    if (FINAL_CODES.includes(closeCode) || this.#refusedTokens > MAX_REFUSED_TOKENS) {
      const cause = error && { cause: error };
      return this.stop({ code: "CLOSED", message: error?.message ?? "The connection is closed.", closeCode, ...cause });
    }
    if (this.status !== "lost") this.#setStatus(this.#resumeToken ? "reconnecting" : "connecting");
    if (attempt !== this.#attempt) return;
    this.#isWaitFixed = LATER_CODES.includes(closeCode);
    const fixedMs = this.#isWaitFixed ? this.#retryAfterMs || LONGEST_WAIT_MS * (0.5 + Math.random() / 2) : 0;
    this.#retryTimer = setTimeout(() => this.#open(), this.#nextWaitMs() + fixedMs);
    this.#retryAfterMs = 0;
  }

  /** The wait before the next attempt, with full jitter; while WebSockets seem to be blocked it is no longer than it takes to be sure. */
  #nextWaitMs() {
    const jitterMs = Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
    const untilSureMs = this.#blockedAt + BLOCKED_DISTANCE_MS - localNow();
    const isUnsure = this.#blockedSockets > 0 && this.#blockedSockets < MAX_BLOCKED && untilSureMs > 0;
    return isUnsure ? Math.min(jitterMs, untilSureMs) : jitterMs;
  }

  /**
   * Closes the socket, if any, and forgets what was due on it.
   * @param {number} closeCode
   */
  #drop(closeCode) {
    this.#attempt++;
    this.isOnline = false;
    clearTimeout(this.#deadline);
    clearTimeout(this.#slowTimer);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    this.#stopRenewal();
    this.#lastRefusal = undefined;
    this.#silence.stop();
    this.#heartbeatTimer?.cancel();
    this.#closeSocket(closeCode);
  }

  /** @param {number} closeCode */
  #closeSocket(closeCode) {
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
    this.error = { code: "LOST", message: "The browser keeps the page for its button \"back\"." };
    const attempt = this.#attempt;
    this.#handlers.onLost();
    if (attempt === this.#attempt) this.#setStatus(this.#resumeToken ? "reconnecting" : "connecting");
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
    const { token, failure } = await this.#fetchToken();
    if (renewal !== this.#renewal) return;
    if (token === null) return this.stop(SIGNED_OUT);
    if (failure) this.#onFailure(failure);
    if (renewal !== this.#renewal) return; // a listener has stopped it
    if (failure) return this.#onRenewalFailed();
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
    this.#handlers.onTraffic("received", message);
    if (!this.#socket) return; // a listener has stopped it
    if (this.isOnline || message.type === "authenticated") clearTimeout(this.#deadline); // an attempt ends with nothing else
    this.#silence.onReceived(message.type === "pong");
    this.#lastRefusal = refusalIn(message);
    if (!this.isOnline && this.#lastRefusal) this.error = this.#lastRefusal;
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
    this.receivedAt = this.#clock.now();
  }

  /** @param {Authenticated} hello */
  #onAuthenticated(hello) {
    this.isOnline = true;
    this.hello = hello;
    if (this.transport === "sse") this.#useStreams();
    this.error = null;
    clearTimeout(this.#slowTimer);
    clearTimeout(this.#graceTimer);
    this.heardAt = hello.serverTime;
    this.#onlineAt = localNow();
    this.#clock.addSample(this.#authSentAt, this.#onlineAt, hello.serverTime);
    this.#heartbeatIntervalMs = hello.heartbeatInterval * 1000;
    this.#heartbeatAt = -Infinity;
    this.#handlers.onOpen(hello);
    if (this.isOnline) this.#setStatus("live"); // unless a listener has stopped it
    this.#sendHeartbeat();
  }

  /** Sends a heartbeat if one is due or the activity has changed, and sets the timer for the next one. */
  #sendHeartbeat() {
    if (!this.isOnline) return;
    const intervalMs = this.#clockSamplesDue > 0 ? CLOCK_SAMPLE_MS : this.#heartbeatIntervalMs * (0.9 + Math.random() / 5);
    this.#heartbeatTimer?.start(intervalMs);
    if (this.#isWatched) this.#silence.start();
    else this.#silence.stop();
    const clientTime = localNow();
    const status = this.#activity.current;
    const isDue = clientTime - this.#heartbeatAt >= MIN_HEARTBEAT_MS;
    if (!isDue && status === this.#reportedActivity) return;
    this.#reportedActivity = status;
    this.#write({ type: "heartbeat", status, clientTime });
    if (!isDue) return; // it will not be answered
    this.#heartbeatAt = clientTime;
    if (this.#clockSamplesDue > 0) this.#clockSamplesDue--;
    this.#expectAnswer();
  }

  /** A page that the user sees notices a dead connection early: a network may swallow all messages and report nothing. */
  get #isWatched() {
    return Boolean(globalThis.document) && this.#activity.current !== "away";
  }

  /** Nothing has come for a while: asks for a sign of life. It says nothing of the user's activity [D12]. */
  #probe() {
    const clientTime = localNow();
    if (clientTime - this.#heartbeatAt < MIN_HEARTBEAT_MS) return; // the answer to the last one is still to come
    this.#heartbeatAt = clientTime;
    this.#write({ type: "heartbeat", clientTime });
    this.#expectAnswer();
  }

  /** The connection is dead if nothing comes after a heartbeat. */
  #expectAnswer() {
    const answerMs = this.#silence.onAsked();
    /** @type {PresenceError} */
    const lost = { code: "LOST", message: "The server does not answer any more." };
    this.#expectMessage(this.#isWatched ? answerMs : PONG_MS, () => this.#onLost(CONNECTION_LOST, lost));
  }

  /**
   * Calls `onSilence` if no message arrives in so many ms.
   * @param {number} ms
   * @param {() => void} onSilence
   */
  #expectMessage(ms, onSilence) {
    clearTimeout(this.#deadline);
    const dueAt = localNow() + ms;
    this.#deadline = setTimeout(() => {
      if (localNow() - dueAt > HELD_UP_MS) this.#expectMessage(HELD_UP_MS, onSilence);
      else onSilence();
    }, ms);
  }

  /** @param {ClientMessage} message */
  #write(message) {
    if (!this.#socket) return;
    this.#socket.send(JSON.stringify(message));
    this.#handlers.onTraffic("sent", message);
  }

  /** @param {PresenceStatus} status */
  #setStatus(status) {
    if (status === this.status) return;
    this.status = status;
    this.#handlers.onStatus(status);
  }
}

/**
 * @param {string} data
 * @returns {ServerMessage | undefined} Undefined if it is none.
 */
function parse(data) {
  try {
    const message = JSON.parse(data);
    return typeof message?.type === "string" ? message : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {ServerMessage} message
 * @returns {PresenceError | undefined} What the server refuses by this message; undefined if it is about something else.
 */
function refusalIn(message) {
  if (message.type === "kicked") return { code: "KICKED", message: message.reason };
  if (message.type !== "error" && message.type !== "server_notice") return undefined;
  const { code, message: text, retryAfterMs } = message;
  return { code: /** @type {ErrorCode} */ (code), message: text, ...(retryAfterMs && { retryAfterMs }) };
}

/**
 * @param {string} message
 * @returns {FetchedToken}
 */
function failedToken(message) {
  return { failure: { code: "TOKEN", message } };
}
