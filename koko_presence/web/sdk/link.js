/** The connection and how it comes back: attempts, tokens, close codes, heartbeats with activity. It owns the socket. */

import { localNow } from "./timing.js";

const FIRST_MS = 250; // full jitter between 0 and this, doubled at each attempt ...
const LONGEST_MS = 20_000; // ... up to this
const STABLE_MS = 5000; // a connection that held less long does not make the next wait shorter
const ATTEMPT_MS = 15_000; // token, handshake and `authenticated` together
const PONG_MS = 10_000; // no answer and no other message for so long: the connection is dead
const BEAT_MIN_MS = 5000; // faster heartbeats are not answered [D3]
const TOKENS = 3; // so many refused in a row, and the person is not wanted

/** Close codes that do not mean "at once, with the resume token" [L7]. */
const COME_BACK = { 1000: "no", 1003: "no", 1011: "later", 1013: "later", 4400: "later", 4401: "new_token", 4403: "no", 4409: "no", 4429: "later" };

export const comeBack = (code) => COME_BACK[code] ?? "resume";

/** Ms to wait before attempt number `attempt` (0, 1, ...). */
export function waitFor(how, attempt, retryAfterMs) {
  const jitter = Math.random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
  if (how !== "later") return jitter;
  return retryAfterMs ? retryAfterMs + jitter : LONGEST_MS * (0.5 + Math.random() / 2);
}

const BEAT_IN_WORKER = "let t;onmessage=e=>{clearTimeout(t);if(e.data)t=setTimeout(postMessage,e.data,0)}";

/** A timer that hidden tabs do not slow down where a Web Worker is allowed [D5]. */
function createBeatTimer(fire, worker) {
  let timer;
  let thread;
  let ms = 0;
  const set = (wait) => {
    ms = wait;
    clearTimeout(timer);
    if (thread) thread.postMessage(ms);
    else if (ms) timer = setTimeout(fire, ms);
  };
  try {
    if (worker) {
      const url = worker === true ? URL.createObjectURL(new Blob([BEAT_IN_WORKER], { type: "text/javascript" })) : worker;
      thread = new Worker(url);
      if (worker === true) URL.revokeObjectURL(url);
      thread.onmessage = () => fire();
      thread.onerror = (event) => { // a policy forbids it
        event.preventDefault();
        thread = null;
        set(ms);
      };
    }
  } catch {
    // no workers here
  }
  return {
    set,
    stop() {
      set(0);
      thread?.terminate();
      thread = null;
    },
  };
}

/**
 * `owner` is told: `hello(message)` at each new connection, `message(message)`, `down()` when it is lost,
 * `status(status)`, `error(error)`, `hide()` when the window loses the person's attention.
 */
export function createLink({ url, auth, WebSocket: Socket = globalThis.WebSocket, idleMs = 120_000, worker = true }, clock, owner) {
  let status = "idle";
  let socket;
  let online = false;
  let onlineAt = 0;
  let life = 0; // number of the attempt; what belongs to an earlier one is ignored
  let attempts = 0;
  let refused = 0;
  let token;
  let resumeToken; // in memory only: a duplicated tab must not take over this one's session
  let retryAfterMs;
  let retryTimer;
  let obeying = false; // the server said when to come back
  let attemptTimer;
  let pongTimer;
  let idleTimer;
  let beat;
  let beatMs = 30_000;
  let beatAt = -Infinity;
  let activity = "active";
  let touchedAt = localNow();
  let undo = [];

  const setStatus = (next) => {
    if (next === status) return;
    status = next;
    owner.status(next);
  };
  const write = (message) => socket.send(JSON.stringify(message));

  async function open() {
    clearTimeout(retryTimer);
    retryTimer = 0;
    const mine = ++life;
    attemptTimer = setTimeout(lost, ATTEMPT_MS, 1006);
    try {
      token ??= await auth();
    } catch (error) {
      if (mine === life) {
        owner.error({ code: "TOKEN", message: String(error?.message ?? error) });
        lost(1006);
      }
      return;
    }
    if (mine !== life) return;
    const address = new URL(url, globalThis.location?.href);
    const ws = (socket = new Socket(address.href.replace(/^http/, "ws")));
    let sentAt;
    ws.onopen = () => {
      if (mine !== life) return;
      sentAt = localNow();
      write({ type: "auth", token, resumeToken, caps: ["cursors"], privacy: owner.privacy });
    };
    ws.onmessage = ({ data }) => {
      if (mine !== life) return;
      clearTimeout(pongTimer);
      let message;
      try {
        message = JSON.parse(data);
      } catch {
        return owner.error({ code: "PROTOCOL", message: "A message of the server is not JSON." });
      }
      receive(message, sentAt);
    };
    ws.onerror = () => {}; // `close` follows
    ws.onclose = ({ code }) => mine === life && lost(code);
  }

  function receive(message, sentAt) {
    const { type } = message;
    if (type === "authenticated") {
      resumeToken = message.resumeToken;
      refused = 0;
      if (online) return; // the answer to a fresh token
      clearTimeout(attemptTimer);
      online = true;
      onlineAt = localNow();
      clock.note(sentAt, onlineAt, message.serverTime);
      beatMs = message.heartbeatInterval * 1000 || beatMs;
      beatAt = -Infinity;
      owner.hello(message);
      setStatus("live");
      return online && heartbeat();
    }
    if (type === "pong") {
      clock.note(message.echo, localNow(), message.serverTime);
    } else if (type === "auth_expiring") {
      renew();
    } else {
      if (message.retryAfterMs && (type === "server_notice" || !online)) retryAfterMs = message.retryAfterMs;
      owner.message(message);
    }
  }

  async function renew() {
    const mine = life;
    try {
      token = await auth();
      if (mine === life && online) write({ type: "auth", token });
    } catch (error) {
      owner.error({ code: "TOKEN", message: String(error?.message ?? error) });
    }
  }

  function drop(code) {
    life++;
    const ws = socket;
    socket = undefined;
    online = false;
    for (const timer of [attemptTimer, pongTimer, retryTimer]) clearTimeout(timer);
    beat?.set(0);
    try {
      ws?.close(code); // no code, or 1000, would be a leave [D2]
    } catch {
      // it was never open
    }
  }

  function lost(code) {
    const wasOnline = online;
    drop(3000);
    if (wasOnline && localNow() - onlineAt >= STABLE_MS) attempts = 0;
    owner.down(wasOnline);
    const how = comeBack(code);
    if (how === "new_token") {
      token = undefined;
      refused++;
    }
    if (how === "no" || refused > TOKENS) {
      stop();
      return owner.over(code);
    }
    setStatus(resumeToken ? "reconnecting" : "connecting");
    obeying = how === "later";
    retryTimer = setTimeout(open, waitFor(how, attempts++, retryAfterMs));
    retryAfterMs = undefined;
  }

  // --- heartbeats and activity ------------------------------------------------------------------------------------

  function heartbeat() {
    if (!online) return;
    const now = localNow();
    write({ type: "heartbeat", status: activity, clientTime: now });
    if (now - beatAt >= BEAT_MIN_MS) {
      beatAt = now;
      clearTimeout(pongTimer);
      pongTimer = setTimeout(lost, PONG_MS, 1006);
    }
    beat.set(beatMs * (0.9 + Math.random() * 0.2));
  }

  function assess() {
    clearTimeout(idleTimer);
    const { document } = globalThis;
    const left = touchedAt + idleMs - localNow();
    const next = !document ? "active" : document.hidden ? "away" : left > 0 ? "active" : "idle";
    if (next === "active" && document) idleTimer = setTimeout(assess, left);
    if (next === activity) return false;
    activity = next;
    heartbeat();
    return true;
  }

  const touch = () => {
    touchedAt = localNow();
    if (activity !== "active") assess();
  };

  /** The person, the page or the network is back: is the connection still there? */
  const wake = () => {
    if (!globalThis.document?.hidden) touchedAt = localNow();
    const told = assess();
    if (online && !told && localNow() - beatAt >= BEAT_MIN_MS) heartbeat();
    if (retryTimer && !obeying) open();
  };

  function start() {
    if (status !== "idle" && status !== "closed") return;
    attempts = refused = 0;
    beat = createBeatTimer(heartbeat, worker && globalThis.Worker && globalThis.document && worker);
    const listen = (target, types, listener) => {
      for (const type of types) {
        const options = { passive: true, capture: true };
        target?.addEventListener?.(type, listener, options);
        undo.push(() => target?.removeEventListener?.(type, listener, options));
      }
    };
    listen(globalThis, ["pointermove", "pointerdown", "keydown", "wheel"], touch);
    listen(globalThis, ["focus", "online", "pageshow"], wake);
    listen(globalThis.document, ["visibilitychange"], () => {
      if (globalThis.document.hidden) owner.hide();
      wake();
    });
    listen(globalThis, ["blur"], (event) => event.target === globalThis && owner.hide());
    // a page that the browser keeps for "back" may return; any other that goes has left
    listen(globalThis, ["pagehide"], ({ persisted }) => persisted || drop(1000));
    setStatus("connecting");
    assess();
    open();
  }

  function stop() {
    drop(1000);
    clearTimeout(idleTimer);
    beat?.stop();
    for (const each of undo) each();
    undo = [];
    resumeToken = undefined;
    setStatus("closed");
  }

  return {
    start,
    stop,
    /** Send a message; false when there is no connection. */
    send(message) {
      if (online && socket.readyState === 1) {
        write(message);
        return true;
      }
      return false;
    },
    get online() {
      return online;
    },
    get status() {
      return status;
    },
    /** So many bytes wait for the network that newer values had better replace older ones here. */
    get full() {
      return socket?.bufferedAmount > 16_384;
    },
  };
}
