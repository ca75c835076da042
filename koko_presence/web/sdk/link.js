/** The connection and its reconnects: attempts, tokens, close codes, heartbeats with activity. Owns the socket. */

import { localNow } from "./timing.js";

const page = globalThis;

const FIRST_MS = 250; // full jitter between 0 and this, doubled at each attempt ...
const LONGEST_MS = 20_000; // ... up to this
const STABLE_MS = 5000; // a connection that was shorter does not reset the wait
const ATTEMPT_MS = 15_000; // token, handshake and `authenticated` together
const PONG_MS = 10_000; // no answer and no other message for so long: the connection is dead
const BEAT_MIN_MS = 5000; // faster heartbeats are not answered [D3]
const TOKENS = 3; // so many refused in a row are final
const LOST = 1006;
const REFUSED = 1013; // the code that the server would have sent
const KEEP = 3000; // closed by the client, which may resume: 1000 or no code would be a leave [D2]

/** Meaning of a close code [L7]. A code in none of these lists: reconnect at once, jittered, with the resume token. */
const OVER = [0, 1000, 1003, 4403, 4409]; // stop; 0 is an address that no socket can be made for
const LATER = [1011, 1013, 4400, 4429]; // after retryAfterMs of the last notice, or a long wait
const NEW_TOKEN = 4401;

/** timer.js as text, for pages whose policy allows workers from data addresses. */
const TIMER = "data:text/javascript,onmessage=e=>{clearTimeout(self.t);if(e.data)t=setTimeout(postMessage,e.data,0)}";

/** A timer in a Web Worker, which hidden tabs do not slow down [D5]; the page's own timer where workers are forbidden. */
function createBeat(fire, worker) {
  let timer;
  let thread;
  const set = (ms) => {
    clearTimeout(timer);
    if (thread) thread.postMessage(ms);
    else if (ms) timer = setTimeout(fire, ms);
  };
  try {
    thread = worker && new Worker(worker);
    thread.onmessage = fire;
    thread.onerror = () => { // the page's policy forbids it
      thread = null;
      fire();
    };
  } catch {
    // no workers here
  }
  return (ms) => {
    set(ms);
    if (ms === undefined && thread) thread.terminate();
  };
}

/**
 * Callbacks of the owner, in this order (by place, so that a minifier may shorten their names): more fields for `auth`; at
 * each new connection, at each message, at a loss, at the end, at a change of the status, for errors, and when the page
 * loses the user's attention. Returns start, stop, send, status, online, full.
 */
export function createLink(options, clock, greeting, onHello, onMessage, onDown, onOver, onStatus, onError, onHide) {
  const { url, auth, WebSocket: Socket = page.WebSocket, idleMs = 120_000, worker = TIMER } = options;
  let status = "idle";
  let socket;
  let online = false;
  let sentAt; // of `auth`
  let onlineAt;
  let life = 0; // number of the attempt; callbacks of an earlier one are ignored
  let attempts = 0;
  let refused = 0;
  let token;
  let resumeToken; // in memory only: a duplicated tab must not resume this tab's session
  let retryAfterMs;
  let retryTimer;
  let obeying; // ms to wait as requested by the server, or false
  let deadline; // a message of the server must arrive before it
  let idleTimer;
  let beat;
  let beatMs;
  let beatAt;
  let activity = "active";
  let told; // the activity that was sent to the server
  let touchedAt;
  let document;
  let listening;

  const setStatus = (next) => {
    if (next !== status) onStatus((status = next));
  };
  const write = (message) => socket.send(JSON.stringify(message));
  const expect = (ms) => {
    clearTimeout(deadline);
    deadline = setTimeout(lost, ms, LOST);
  };
  const fetchToken = async () => {
    try {
      return await auth();
    } catch (error) {
      onError({ code: "TOKEN", message: `${error}` });
    }
  };

  async function open() {
    clearTimeout(retryTimer);
    retryTimer = 0;
    const mine = ++life;
    expect(ATTEMPT_MS);
    token ??= await fetchToken();
    if (mine !== life) return;
    if (!token) return lost(LOST);
    let address;
    try {
      address = new URL(url, page.location).href;
      socket = new Socket(address.replace(/^http/, "ws"));
    } catch (error) { // not an address, or one that the page's policy forbids
      return lost(0, error);
    }
    socket.onopen = () => {
      socket.onopen = null;
      sentAt = localNow();
      write({ type: "auth", token, resumeToken, caps: ["cursors"], ...greeting() });
    };
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = async ({ code }) => {
      // a browser reports a refused handshake like a server that cannot be reached: 1006. The former answers
      const answer = socket.onopen && (await fetch(new URL("healthz", address.replace(/^ws/, "http"))).catch(() => {}));
      if (mine !== life) return;
      if (answer?.ok) onError({ code: "REFUSED", message: "The server is full, or refuses this page." });
      lost(answer?.ok ? REFUSED : code);
    };
    socket.onerror = () => {}; // its close follows
  }

  function receive(message) {
    const { type, serverTime } = message;
    clearTimeout(deadline);
    if (type === "authenticated") {
      resumeToken = message.resumeToken;
      refused = 0;
      if (online) return; // the answer to a fresh token
      online = true;
      onlineAt = localNow();
      clock.note(sentAt, onlineAt, serverTime);
      beatMs = message.heartbeatInterval * 1000;
      beatAt = -Infinity;
      onHello(message);
      setStatus("live");
      heartbeat();
    } else if (type === "pong") {
      clock.note(message.echo, localNow(), serverTime);
    } else if (type === "auth_expiring") {
      renew(life);
    } else {
      if (type === "server_notice" || !online) ({ retryAfterMs } = message);
      onMessage(message);
    }
  }

  async function renew(mine) {
    const fresh = await fetchToken();
    if (fresh && mine === life) write({ type: "auth", token: (token = fresh) });
  }

  function drop(code) {
    life++;
    online = false;
    clearTimeout(deadline);
    clearTimeout(retryTimer);
    retryTimer = 0;
    beat?.(0);
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
    socket = null;
  }

  function lost(code, error) {
    if (online && localNow() - onlineAt >= STABLE_MS) attempts = 0;
    drop(KEEP);
    onDown();
    if (code === NEW_TOKEN) {
      token = undefined;
      refused++;
    }
    if (OVER.includes(code) || refused > TOKENS) {
      onOver(code, error);
      return stop();
    }
    setStatus(resumeToken ? "reconnecting" : "connecting");
    obeying = LATER.includes(code) && (retryAfterMs || (LONGEST_MS * (1 + Math.random())) / 2);
    retryTimer = setTimeout(open, Math.random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** attempts++) + +obeying);
    retryAfterMs = 0;
  }

  // --- heartbeats and activity ------------------------------------------------------------------------------------

  function heartbeat() {
    if (!online) return;
    beat(beatMs * (0.9 + Math.random() / 5));
    const clientTime = localNow();
    const due = clientTime - beatAt >= BEAT_MIN_MS;
    if (!due && activity === told) return;
    write({ type: "heartbeat", status: (told = activity), clientTime });
    if (!due) return;
    beatAt = clientTime;
    expect(PONG_MS);
  }

  /** Determine whether the user is active, idle or away, and report it to the server. */
  function assess() {
    clearTimeout(idleTimer);
    const left = touchedAt + idleMs - localNow();
    if (document) activity = document.hidden ? "away" : left > 0 ? "active" : "idle";
    if (document && left > 0) idleTimer = setTimeout(assess, left);
    heartbeat();
  }

  function touch() {
    touchedAt = localNow();
    if (activity !== "active") assess();
  }

  /** The user, the page or the network is back, or gone: check the connection. */
  function wake() {
    touchedAt = localNow();
    assess();
    if (retryTimer && !obeying) open();
  }

  function start() {
    if (listening) return;
    attempts = refused = 0;
    touchedAt = localNow();
    document = page.document;
    beat = createBeat(heartbeat, document && worker);
    listening = new AbortController();
    const listen = (types, listener, capture) => {
      for (const type of types) page.addEventListener?.(type, listener, { capture, signal: listening.signal });
    };
    listen(["pointermove", "pointerdown", "keydown", "wheel"], touch, true);
    listen(["blur", "visibilitychange"], onHide);
    listen(["focus", "online", "pageshow", "visibilitychange"], wake);
    // a page that the browser keeps for "back" may return; any other page that is hidden has left
    listen(["pagehide"], ({ persisted }) => persisted || drop(1000));
    setStatus("connecting");
    assess();
    open();
  }

  function stop() {
    drop(1000);
    clearTimeout(idleTimer);
    beat?.();
    listening?.abort();
    listening = beat = resumeToken = undefined;
    setStatus("closed");
  }

  return [
    start,
    stop,
    // send a message, or nothing when there is no connection
    (message) => online && write(message),
    () => status,
    () => online,
    // too many bytes wait for the network: newer values replace older ones here
    () => socket?.bufferedAmount > 16_384,
  ];
}
