/** Where the names of cursors are, so that none hides another one. Uses no DOM. */

const GAP_PX = 2; // between two names
const RIGHT_PX = 14; // from the tip of the cursor
const LEFT_PX = -2;
const BELOW_PX = 18;
const ABOVE_PX = -6;
const ROWS = 4; // above and below

/** @typedef {{ left: number, top: number, width: number, height: number }} Rect */

/**
 * A cursor with a name. `spot` is changed: the number of the place that its name has.
 * @typedef {object} NamedCursor
 * @property {number} x Of the tip, px.
 * @property {number} y
 * @property {number} width Of the name, px.
 * @property {number} height
 * @property {number} spot
 */

/**
 * The place of a name: right below the tip, left below, right above, left above, then the same in the next rows.
 * @param {NamedCursor} cursor
 * @param {number} spot
 * @returns {{ left: number, top: number }} px from the tip.
 */
export function placeOf({ width, height }, spot) {
  const row = (height + GAP_PX) * Math.floor(spot / 4);
  const isLeft = spot % 2 === 1;
  const isAbove = spot % 4 > 1;
  return { left: isLeft ? LEFT_PX - width : RIGHT_PX, top: isAbove ? ABOVE_PX - height - row : BELOW_PX + row };
}

/**
 * Chooses the spots: a name stays where it is as long as it is inside and hides no name of a cursor before it; else it takes the
 * first spot of which both is true, or the first that is inside.
 * @param {readonly NamedCursor[]} cursors
 * @param {{ width: number, height: number }} box Where the names are to be.
 */
export function arrangeNames(cursors, box) {
  /** @type {Rect[]} */
  const taken = [];
  for (const cursor of cursors) {
    const spots = [cursor.spot, ...Array(4 * ROWS).keys()];
    const isInside = (/** @type {number} */ spot) => contains(box, rectAt(cursor, spot));
    const isFree = (/** @type {number} */ spot) => {
      const rect = rectAt(cursor, spot);
      return !taken.some((other) => overlap(rect, other));
    };
    cursor.spot = spots.find((spot) => isInside(spot) && isFree(spot)) ?? spots.find(isInside) ?? 0;
    taken.push(rectAt(cursor, cursor.spot));
  }
}

/**
 * @param {NamedCursor} cursor
 * @param {number} spot
 * @returns {Rect}
 */
function rectAt(cursor, spot) {
  const { left, top } = placeOf(cursor, spot);
  return { left: cursor.x + left, top: cursor.y + top, width: cursor.width, height: cursor.height };
}

/**
 * @param {{ width: number, height: number }} box
 * @param {Rect} rect
 */
function contains(box, { left, top, width, height }) {
  return left >= 0 && top >= 0 && left + width <= box.width && top + height <= box.height;
}

/**
 * @param {Rect} one
 * @param {Rect} other
 */
function overlap(one, other) {
  return one.left < other.left + other.width && other.left < one.left + one.width
    && one.top < other.top + other.height && other.top < one.top + one.height;
}
