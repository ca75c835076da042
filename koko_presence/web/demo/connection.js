/** One presence connection: token, auth, join, heartbeats, the server's clock, and coming back after a loss. */

const HEARTBEAT_MS = 30_000;
const BACKOFF_MS = { first: 500, longest: 15_000, pause: 10_000 };
const PAUSE_CODES = [1011, 1013, 4400, 4429]; // the server wants to be left alone for a while
const FINAL_CODES = { 4403: "You were removed from the room.", 4409: "This session continues in another window." };

const now = () => performance.timeOrigin + performance.now(); // ms; unlike Date.now() it never jumps

export class Connection {
  #socket = null;
  #token = "";
  #resumeToken; // in memory only: a duplicated tab must not take over this one's session
  #wanted = false;
  #joined = false;
  #attempts = 0;
  #lastError = "";
  #retryTimer = 0;
  #heartbeatTimer = 0;
  #clock = { offset: 0, roundTrip: Infinity };

  /** `onState(state, text)` with connecting, live, waiting or stopped; `onMessage(message)` for events and replies. */
  constructor({ user, name, room, onState, onMessage }) {
    Object.assign(this, { user, name, room, onState, onMessage, activity: "active" });
    addEventListener("online", () => this.#retryTimer && this.open());
  }

  /** The server's clock in ms, as well as we can tell. */
  get serverNow() {
    return now() + this.#clock.offset;
  }

  /** Connect, or connect again. */
  async open() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.#wanted = true;
    this.onState("connecting", "Connecting");
    try {
      this.#token ||= await this.#fetchToken();
    } catch {
      return this.#wanted && this.#retry();
    }
    if (!this.#wanted) return;
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/presence`);
    this.#socket = socket;
    socket.onopen = () => this.#write({ type: "auth", token: this.#token, resumeToken: this.#resumeToken });
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => socket === this.#socket && this.#onClose(code);
  }

  /** Leave for good; `open` would come back as a new session. */
  stop(text) {
    const socket = this.#socket;
    this.#reset();
    this.#resumeToken = undefined;
    this.#wanted = false;
    socket?.close(1000);
    this.onState("stopped", text);
  }

  /** Send a message about the room; nothing while we are not in it. */
  send(type, data) {
    if (this.#joined) this.#write({ type, roomId: this.room, data });
  }

  heartbeat(activity = this.activity) {
    this.activity = activity;
    if (this.#joined) this.#write({ type: "heartbeat", status: activity, clientTime: now() });
  }

  async #fetchToken() {
    const response = await fetch(`/dev/token?${new URLSearchParams({ user: this.user, name: this.name })}`);
    if (!response.ok) throw new Error(`No token: ${response.status}`);
    return (await response.json()).token;
  }

  #write(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #receive(message) {
    if (message.type === "authenticated") {
      this.#resumeToken = message.resumeToken;
      if (!this.#joined) this.#write({ type: "join", id: "join", roomId: this.room, roomType: "video" });
    } else if (message.type === "joined") {
      this.#joined = true;
      this.#attempts = 0;
      this.#clock = { offset: message.serverTime - now(), roundTrip: Infinity };
      this.#heartbeatTimer ||= setInterval(() => this.heartbeat(), HEARTBEAT_MS * (0.9 + Math.random() * 0.2));
      this.heartbeat();
      this.onState("live", "Live");
    } else if (message.type === "pong") {
      this.#setClock(message);
    } else if (message.type === "auth_expiring") {
      this.#renew();
    } else if (message.type === "error") {
      this.#lastError = message.message;
      if (message.id === "join") return this.stop(message.message);
    }
    this.onMessage(message);
  }

  /** Trust the quickest exchange; forget it slowly, because clocks drift. */
  #setClock({ echo, serverTime }) {
    const roundTrip = now() - echo;
    const known = this.#clock.roundTrip * 1.25;
    this.#clock = roundTrip <= known ? { offset: serverTime - echo - roundTrip / 2, roundTrip }
      : { offset: this.#clock.offset, roundTrip: known };
  }

  async #renew() {
    this.#token = await this.#fetchToken().catch(() => "");
    if (this.#token) this.#write({ type: "auth", token: this.#token });
  }

  #reset() {
    clearInterval(this.#heartbeatTimer);
    clearTimeout(this.#retryTimer);
    this.#heartbeatTimer = this.#retryTimer = 0;
    this.#socket = null;
    this.#joined = false;
  }

  #onClose(code) {
    this.#reset();
    if (code in FINAL_CODES) return this.stop(FINAL_CODES[code]);
    if (code === 4401) this.#token = "";
    this.#retry(PAUSE_CODES.includes(code) ? BACKOFF_MS.pause : 0);
  }

  /** Full jitter, so that a thousand clients of a restarted server do not come back in the same second. */
  #retry(pause = 0) {
    const longest = Math.min(BACKOFF_MS.longest, BACKOFF_MS.first * 2 ** this.#attempts++);
    const error = this.#lastError && ` — ${this.#lastError}`;
    this.onState("waiting", `Reconnecting${error}`);
    this.#lastError = "";
    this.#retryTimer = setTimeout(() => this.open(), pause + Math.random() * longest);
  }
}
