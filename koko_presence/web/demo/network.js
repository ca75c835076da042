/** The "slow network" switch: a WebSocket with a delay that can be switched on, and with repeated cuts. */

const LATE_MS = 400;
const CUT_EVERY_MS = 6000;

const CUT = 3001; // any code but 1000: the server keeps the session for the grace period, and the SDK resumes it

let lateMs = 0;
let timer = 0;
const open = new Set();

/** Runs functions in order, each `lateMs` after the call. */
function createDelay() {
  let due = 0;
  return (run) => {
    due = Math.max(due, performance.now() + lateMs);
    const wait = due - performance.now();
    if (wait <= 0) run();
    else setTimeout(run, wait);
  };
}

export class LateSocket extends WebSocket {
  #out = createDelay();
  #in = createDelay();

  constructor(url) {
    super(url);
    this.addEventListener("open", () => open.add(this));
    this.addEventListener("close", () => open.delete(this));
  }

  set onmessage(listener) {
    super.onmessage = listener && ((event) => this.#in(() => super.onmessage && listener(event))); // a closed socket has no listener any more
  }

  send(data) {
    this.#out(() => this.readyState === WebSocket.OPEN && super.send(data));
  }
}

/** Close the open sockets. */
export function cut() {
  for (const socket of open) socket.close(CUT);
}

export function setSlow(slow) {
  lateMs = slow ? LATE_MS : 0;
  clearInterval(timer);
  if (!slow) return;
  cut();
  timer = setInterval(cut, CUT_EVERY_MS);
}
