/**
 * Where the picture of an element is in the window, and where a pointer is in that picture. Used by the UI kit and the hooks.
 *
 * The picture is that of a video, an image or a canvas, letter-boxed as its `object-fit` and `object-position` say, or the box of
 * any other element. What the page does to the element and those around it is taken into account: `transform` (scaling,
 * rotation, mirroring; not perspective), `zoom`, borders, padding, full screen.
 */

/**
 * An affine map: x' = a x + c y + e, y' = b x + d y + f.
 * @typedef {{ a: number, b: number, c: number, d: number, e: number, f: number }} Affine
 */

/** @typedef {{ left: number, top: number, width: number, height: number }} Rect */

/** Elements that are shown above the page: a transform of an element around them has no effect. */
const TOP_LAYER = ":is(:fullscreen, :modal, :popover-open)";

/**
 * The rectangle of the picture inside a box of `box` pixels, as CSS object-fit and object-position place it. Media without a
 * size of their own fill the box.
 * @param {{ width: number, height: number }} box
 * @param {{ width?: number | undefined, height?: number | undefined }} media
 * @param {string} [fit]
 * @param {string} [position] The computed value: two lengths, each px, percent, or calc() of both.
 * @returns {Rect}
 */
export function pictureRect(box, { width: mediaWidth = 0, height: mediaHeight = 0 }, fit = "contain", position = "50% 50%") {
  if (!(mediaWidth > 0 && mediaHeight > 0) || fit === "fill") return { left: 0, top: 0, ...box };
  const scales = [box.width / mediaWidth, box.height / mediaHeight];
  let scale = fit === "cover" ? Math.max(...scales) : Math.min(...scales);
  if (fit === "none") scale = 1;
  if (fit === "scale-down") scale = Math.min(scale, 1);
  const width = mediaWidth * scale;
  const height = mediaHeight * scale;
  const [x = "50%", y = "50%"] = position.match(/calc\([^)]*\)|\S+/g) ?? [];
  return { left: offset(x, box.width - width), top: offset(y, box.height - height), width, height };
}

/**
 * @param {string} position Of one axis.
 * @param {number} freePx
 */
function offset(position, freePx) {
  let sum = 0;
  for (const [, sign, number, unit] of position.matchAll(/([-+]?)\s*([\d.]+(?:e[-+]?\d+)?)(%|px)/g)) {
    const px = unit === "%" ? (freePx * Number(number)) / 100 : Number(number);
    sum += sign === "-" ? -px : px;
  }
  return sum;
}

/**
 * Maps the picture of `media`, 0 to 1 in each direction, to px of the window.
 * @param {Element} media
 * @returns {Affine}
 */
export function pictureInWindow(media) {
  const { left, top, width, height } = pictureIn(ownVideoOf(media) ?? media);
  const { a, b, c, d, e, f } = boxInWindow(ownVideoOf(media) ?? media);
  return { a: a * width, b: b * width, c: c * height, d: d * height, e: a * left + c * top + e, f: b * left + d * top + f };
}

/**
 * Position of a pointer, 0 to 1 of the picture of `media`; null outside of it.
 * @param {Element} media
 * @param {{ clientX: number, clientY: number }} event
 * @returns {{ x: number, y: number } | null}
 */
export function pointOn(media, { clientX, clientY }) {
  const toPicture = inverse(pictureInWindow(media));
  const { x, y } = apply(toPicture, clientX, clientY);
  return x >= 0 && x <= 1 && y >= 0 && y <= 1 ? { x, y } : null;
}

/**
 * Maps px of an element, from the corner of its border box, to px of the window.
 * @param {Element} element
 * @returns {Affine}
 */
export function boxInWindow(element) {
  const bounds = element.getBoundingClientRect();
  const { offsetWidth, offsetHeight } = /** @type {Partial<HTMLElement>} */ (element);
  const width = offsetWidth || bounds.width; // SVG has none
  const height = offsetHeight || bounds.height;
  const [a, b, c, d] = linearPart(element);
  // `zoom`, and what offsetWidth has lost by rounding: the ratio of the bounds to those that follow from the transforms
  const stretchX = ratio(bounds.width, Math.abs(a) * width + Math.abs(c) * height);
  const stretchY = ratio(bounds.height, Math.abs(b) * width + Math.abs(d) * height);
  const linear = { a: a * stretchX, b: b * stretchY, c: c * stretchX, d: d * stretchY };
  // the centre of a box is that of its bounds, whatever the transform
  return {
    ...linear,
    e: bounds.left + bounds.width / 2 - (linear.a * width + linear.c * height) / 2,
    f: bounds.top + bounds.height / 2 - (linear.b * width + linear.d * height) / 2,
  };
}

/**
 * @param {Affine} map
 * @param {number} x
 * @param {number} y
 */
export function apply({ a, b, c, d, e, f }, x, y) {
  return { x: a * x + c * y + e, y: b * x + d * y + f };
}

/**
 * The inverse map; with NaN in it if there is none, as for an element that is not shown.
 * @param {Affine} map
 * @returns {Affine}
 */
export function inverse({ a, b, c, d, e, f }) {
  const determinant = a * d - b * c || NaN;
  const [ia, ib, ic, id] = [d / determinant, -b / determinant, -c / determinant, a / determinant];
  return { a: ia, b: ib, c: ic, d: id, e: -(ia * e + ic * f), f: -(ib * e + id * f) };
}

/**
 * The map that applies `inner` first.
 * @param {Affine} outer
 * @param {Affine} inner
 * @returns {Affine}
 */
export function compose(outer, inner) {
  const origin = apply(outer, inner.e, inner.f);
  const [a, b, c, d] = multiply([outer.a, outer.b, outer.c, outer.d], [inner.a, inner.b, inner.c, inner.d]);
  return { a, b, c, d, e: origin.x, f: origin.y };
}

/**
 * The element whose picture a pointer over `element` is about: `element` itself, or the only video in it.
 * @param {Element} element
 * @returns {Element}
 */
export function mediaIn(element) {
  if (naturalSize(element)) return element;
  const [video, another] = element.querySelectorAll("video");
  return video && !another ? video : element;
}

/**
 * The picture in its element, px from the corner of the border box.
 * @param {Element} element
 * @returns {Rect}
 */
function pictureIn(element) {
  const { clientLeft: left, clientTop: top, clientWidth, clientHeight } = element;
  const { offsetWidth = 0, offsetHeight = 0 } = /** @type {Partial<HTMLElement>} */ (element);
  const bounds = element.getBoundingClientRect(); // for what has no box of its own: inline elements, SVG
  const box = { width: clientWidth || offsetWidth || bounds.width, height: clientHeight || offsetHeight || bounds.height };
  const size = naturalSize(element);
  if (!size) return { left, top, ...box };
  const style = styleOf(element);
  const [paddingLeft, paddingTop, paddingRight, paddingBottom] = [style.paddingLeft, style.paddingTop, style.paddingRight, style.paddingBottom]
    .map((px) => parseFloat(px) || 0);
  const content = {
    width: box.width - Number(paddingLeft) - Number(paddingRight),
    height: box.height - Number(paddingTop) - Number(paddingBottom),
  };
  const rect = pictureRect(content, size, style.objectFit || undefined, style.objectPosition || undefined);
  return { ...rect, left: rect.left + left + Number(paddingLeft), top: rect.top + top + Number(paddingTop) };
}

/**
 * The size of the film, the image or the canvas, px; undefined for other elements.
 * @param {Element} element
 */
function naturalSize(element) {
  const { videoWidth, videoHeight, naturalWidth, naturalHeight } = /** @type {Partial<HTMLVideoElement & HTMLImageElement>} */ (element);
  if (videoWidth !== undefined) return { width: videoWidth, height: videoHeight };
  if (naturalWidth !== undefined) return { width: naturalWidth, height: naturalHeight };
  if (element.localName !== "canvas") return undefined;
  const { width, height } = /** @type {HTMLCanvasElement} */ (element);
  return { width, height };
}

/**
 * The `<video>` inside a player element such as <hls-video>, which letter-boxes the picture; null for other elements.
 * @param {Element} element
 */
function ownVideoOf(element) {
  if (!element.localName.includes("-")) return null;
  return element.shadowRoot?.querySelector("video") ?? element.querySelector("video");
}

/**
 * A map without its translation: a, b, c, d.
 * @typedef {[number, number, number, number]} Linear
 */

/**
 * What the transforms of an element and of all around it do, without moving it.
 * @param {Element} element
 * @returns {Linear}
 */
function linearPart(element) {
  /** @type {Linear} */
  let linear = [1, 0, 0, 1];
  for (let each = /** @type {Element | null} */ (element); each; each = parentOf(each)) {
    const { transform, rotate, scale } = styleOf(each);
    // CSS applies the property `transform` first, then `scale`, then `rotate`
    if (isSet(transform)) linear = multiply(/** @type {Linear} */ (linearOf(transform)), linear);
    if (isSet(scale)) {
      const [x = 1, y = x] = scale.split(" ").map(Number);
      linear = multiply([x, 0, 0, y], linear);
    }
    const angle = isSet(rotate) ? /^(?:z )?(-?[\d.e-]+)deg$/.exec(rotate) : null;
    if (angle) {
      const radians = (Number(angle[1]) * Math.PI) / 180;
      linear = multiply([Math.cos(radians), Math.sin(radians), -Math.sin(radians), Math.cos(radians)], linear);
    }
    if (isInTopLayer(each)) break;
  }
  return linear;
}

/** @param {Element} element */
const styleOf = (element) => /** @type {Window} */ (element.ownerDocument.defaultView).getComputedStyle(element);

/** @param {string | undefined} value */
const isSet = (value) => Boolean(value) && value !== "none";

/**
 * @param {string} transform matrix(...) or matrix3d(...).
 * @returns {number[]}
 */
function linearOf(transform) {
  const numbers = transform.slice(transform.indexOf("(") + 1, -1).split(",").map(Number);
  const at = numbers.length === 16 ? [0, 1, 4, 5] : [0, 1, 2, 3];
  return at.map((index) => numbers[index] ?? NaN);
}

/**
 * @param {Linear} outer
 * @param {Linear} inner
 * @returns {Linear}
 */
function multiply([a, b, c, d], [ia, ib, ic, id]) {
  return [a * ia + c * ib, b * ia + d * ib, a * ic + c * id, b * ic + d * id];
}

/**
 * The element around an element as it is shown: through slots and shadow roots.
 * @param {Element} element
 * @returns {Element | null}
 */
function parentOf(element) {
  const root = element.getRootNode();
  return element.assignedSlot ?? element.parentElement ?? (/** @type {Partial<ShadowRoot>} */ (root).host ?? null);
}

/** @param {Element} element */
function isInTopLayer(element) {
  try {
    return element.matches(TOP_LAYER);
  } catch { // a browser that does not know one of them
    return false;
  }
}

/**
 * @param {number} measured
 * @param {number} expected
 */
const ratio = (measured, expected) => (expected > 0 ? measured / expected : 1);
