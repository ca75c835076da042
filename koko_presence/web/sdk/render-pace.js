/**
 * How often a component renders for changes of a room: at once, and then once a frame. A hundred cursors in one frame are one
 * render; the user's own change, in a component that has not rendered in this frame, is shown within the same event, as
 * controlled inputs need it.
 */

/**
 * Called at the next frame.
 * @type {Set<RenderPace>}
 */
const waiting = new Set();
let isRequested = false;

function onFrame() {
  isRequested = false;
  const due = [...waiting];
  waiting.clear();
  for (const pace of due) pace.onFrame();
}

/** Frames come while the page is visible; without them, as on a server, each change is passed on at once. */
const hasFrames = () => globalThis.requestAnimationFrame !== undefined && !globalThis.document?.hidden;

/** The pace of one use of a hook. */
export class RenderPace {
  /** Whether the component has rendered in this frame. */
  #hasRendered = false;
  /** Whether there was a change since then. */
  #isDue = false;
  /** @type {(() => void) | null} */
  #render = null;

  /** The component renders. */
  onRender() {
    if (!this.#render || this.#hasRendered || !hasFrames()) return;
    this.#hasRendered = true;
    waiting.add(this);
    if (isRequested) return;
    isRequested = true;
    requestAnimationFrame(onFrame);
  }

  /** The frame in which the component has rendered is over. */
  onFrame() {
    this.#hasRendered = false;
    if (!this.#isDue) return;
    this.#isDue = false;
    this.#render?.();
  }

  /**
   * Calls `render` after changes.
   * @param {(callback: () => void) => () => void} subscribe
   * @param {() => void} render Renders if the selected value has changed.
   * @returns {() => void} Its undo.
   */
  follow(subscribe, render) {
    this.#render = render;
    const undo = subscribe(() => {
      if (this.#hasRendered && hasFrames()) this.#isDue = true;
      else render();
    });
    return () => {
      undo();
      this.#render = null;
    };
  }
}
