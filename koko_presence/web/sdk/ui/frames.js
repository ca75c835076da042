/**
 * One requestAnimationFrame for all components of a page; it stops while nothing moves.
 */

/**
 * @typedef {object} Animated
 * @property {boolean} isConnected
 * @property {(now: number, elapsedS: number) => boolean} frame Draws; returns whether it wants the next frame, too.
 */

const LONGEST_STEP_MS = 50;

/**
 * Components with a fault that was reported.
 * @type {WeakSet<object>}
 */
const reported = new WeakSet();

/** @type {Set<Animated>} */
const awake = new Set();
let request = 0;
let lastFrameAt = 0;

/**
 * Calls `component.frame` at the next frame, and again as long as it returns true.
 * @param {Animated} component
 */
export function wake(component) {
  awake.add(component);
  request ||= requestAnimationFrame(run);
}

/** @param {number} now */
function run(now) {
  request = 0;
  const elapsedS = Math.min(now - lastFrameAt, LONGEST_STEP_MS) / 1000;
  lastFrameAt = now;
  const components = [...awake];
  awake.clear();
  for (const component of components) {
    attempt(component, () => {
      if (component.isConnected && component.frame(now, elapsedS)) wake(component);
    });
  }
}

/**
 * Calls `act`. What it throws is reported as an unhandled error of the page, once for each component, and stops nothing else.
 * @param {object} component
 * @param {() => void} act
 */
export function attempt(component, act) {
  try {
    act();
  } catch (error) {
    if (!reported.has(component)) reportError(error);
    reported.add(component);
  }
}
