/** Other people's cursors over the picture: one critically damped spring each, drawn once per frame. */

const STIFFNESS = 28; // 1/s; nine tenths of the way in 140 ms
const SILENCE_MS = 300; // after a longer pause the last place says nothing about the way

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Cursors {
  #layer;
  #make;
  #shown = new Map();

  constructor(layer, make) {
    this.#layer = layer;
    this.#make = make;
  }

  /** Show someone's cursor at `x`, `y`, 0 to 1 of the picture. */
  show(id, { x, y }, member) {
    let cursor = this.#shown.get(id);
    if (!cursor) {
      cursor = { element: this.#make(member), x, y, vx: 0, vy: 0, heardAt: -Infinity };
      this.#shown.set(id, cursor);
      this.#layer.append(cursor.element);
    }
    const jump = calm.matches || performance.now() - cursor.heardAt > SILENCE_MS;
    Object.assign(cursor, { to: { x, y }, heardAt: performance.now() }, jump && { x, y, vx: 0, vy: 0 });
    cursor.element.classList.toggle("left", x > 0.75);
    cursor.element.classList.toggle("above", y > 0.88);
  }

  hide(id) {
    this.#shown.get(id)?.element.remove();
    this.#shown.delete(id);
  }

  /** Move everything on by `dt` seconds. */
  frame(dt) {
    const { clientWidth: width, clientHeight: height } = this.#layer;
    const decay = Math.exp(-STIFFNESS * dt);
    for (const cursor of this.#shown.values()) {
      for (const [axis, speed] of [["x", "vx"], ["y", "vy"]]) {
        const away = cursor[axis] - cursor.to[axis];
        const push = cursor[speed] + STIFFNESS * away; // the exact solution, stable for any dt
        cursor[axis] = cursor.to[axis] + (away + push * dt) * decay;
        cursor[speed] = (cursor[speed] - STIFFNESS * push * dt) * decay;
      }
      cursor.element.style.transform = `translate3d(${cursor.x * width}px, ${cursor.y * height}px, 0)`;
    }
  }
}
