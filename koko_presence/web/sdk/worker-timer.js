/**
 * A timer that keeps its pace in hidden pages, where browsers slow down the page's own timers [D5]. The connection times its
 * heartbeats with it.
 */

/** The program of the worker: timer.js as text. */
export const TIMER_PROGRAM = `let timer;
onmessage = ({ data: ms }) => {
  clearTimeout(timer);
  if (ms) timer = setTimeout(postMessage, ms, 0);
};
`;

/** Address of the worker for pages whose policy allows workers from data addresses. */
export const TIMER_ADDRESS = `data:text/javascript,${encodeURIComponent(TIMER_PROGRAM)}`;

/** Runs in a Web Worker; with the page's own timer where there is no worker or the page's policy forbids it. */
export class WorkerTimer {
  /** @type {() => void} */
  #onFire;
  /** @type {Worker | null} */
  #worker = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pageTimer;

  /**
   * @param {object} options
   * @param {string | URL | false} options.worker Address of the worker's program; false: no worker.
   * @param {() => void} options.onFire
   */
  constructor({ worker, onFire }) {
    this.#onFire = onFire;
    if (!worker) return;
    try {
      this.#worker = new Worker(worker);
      this.#worker.onmessage = onFire;
      this.#worker.onerror = () => { // the page's policy forbids it
        this.#worker = null;
        onFire();
      };
    } catch {
      // there are no workers here
    }
  }

  /**
   * Fires once after so many ms, in place of an earlier call.
   * @param {number} ms
   */
  start(ms) {
    clearTimeout(this.#pageTimer);
    if (this.#worker) this.#worker.postMessage(ms);
    else this.#pageTimer = setTimeout(this.#onFire, ms);
  }

  /** Does not fire any more, until the next `start`. */
  cancel() {
    clearTimeout(this.#pageTimer);
    this.#worker?.postMessage(0);
  }

  /** Ends the worker. */
  close() {
    this.cancel();
    this.#worker?.terminate();
  }
}
