/** The "slow network" switch: a WebSocket with a delay that can be switched on, and with repeated cuts. */

const LATE_MS = 400;
const CUT_EVERY_MS = 6000;
const CUT_CODE = 3001; // any code but 1000: the server keeps the session for the grace period, and the SDK resumes it

let lateMs = 0;
/** @type {ReturnType<typeof setInterval> | undefined} */
let cutTimer;
/** @type {Set<LateSocket>} */
const openSockets = new Set();

/** Runs functions in order, each `lateMs` after the call. */
function createDelay() {
  let due = 0;
  return (/** @type {() => void} */ run) => {
    due = Math.max(due, performance.now() + lateMs);
    const wait = due - performance.now();
    if (wait <= 0) run();
    else setTimeout(run, wait);
  };
}

export class LateSocket extends WebSocket {
  #out = createDelay();
  #in = createDelay();

  /** @param {string | URL} url */
  constructor(url) {
    super(url);
    this.addEventListener("open", () => openSockets.add(this));
    this.addEventListener("close", () => openSockets.delete(this));
  }

  /** @param {((event: MessageEvent) => void) | null} listener */
  set onmessage(listener) {
    const hear = (/** @type {MessageEvent} */ event) => {
      if (super.onmessage) listener?.(event); // a closed socket has no listener any more
    };
    super.onmessage = listener && ((event) => this.#in(() => hear(event)));
  }

  /** @param {string} data */
  send(data) {
    this.#out(() => {
      if (this.readyState === WebSocket.OPEN) super.send(data);
    });
  }
}

/** Closes the open sockets. */
export function cut() {
  for (const socket of openSockets) socket.close(CUT_CODE);
}

/** @param {boolean} slow */
export function setSlow(slow) {
  lateMs = slow ? LATE_MS : 0;
  clearInterval(cutTimer);
  if (!slow) return;
  cut();
  cutTimer = setInterval(cut, CUT_EVERY_MS);
}
