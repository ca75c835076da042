/**
 * Where the picture of an element is in the window, and where a pointer is in that picture. Used by the UI kit and the hooks.
 *
 * The picture is that of a video, an image or a canvas, letter-boxed as its `object-fit` and `object-position` say, or the box of
 * any other element. What the page does to the element and those around it is taken into account: `transform` (scaling,
 * rotation, mirroring; not perspective), `zoom`, borders, padding, full screen.
 */
export type Affine = {
    a: number;
    b: number;
    c: number;
    d: number;
    e: number;
    f: number;
};
export type Rect = {
    left: number;
    top: number;
    width: number;
    height: number;
};
/**
 * The rectangle of the picture inside a box of `box` pixels, as CSS object-fit and object-position place it. Media without a
 * size of their own fill the box.
 * @param {{ width: number, height: number }} box
 * @param {{ width?: number | undefined, height?: number | undefined }} media
 * @param {string} [fit]
 * @param {string} [position] The computed value: two lengths, each px, percent, or calc() of both.
 * @returns {Rect}
 */
export declare function pictureRect(box: {
    width: number;
    height: number;
}, { width: mediaWidth, height: mediaHeight }: {
    width?: number | undefined;
    height?: number | undefined;
}, fit?: string, position?: string): Rect;
/**
 * Maps the picture of `media`, 0 to 1 in each direction, to px of the window.
 * @param {Element} media
 * @returns {Affine}
 */
export declare function pictureInWindow(media: Element): Affine;
/**
 * Position of a pointer, 0 to 1 of the picture of `media`; null outside of it.
 * @param {Element} media
 * @param {{ clientX: number, clientY: number }} event
 * @returns {{ x: number, y: number } | null}
 */
export declare function pointOn(media: Element, { clientX, clientY }: {
    clientX: number;
    clientY: number;
}): {
    x: number;
    y: number;
} | null;
/**
 * Maps px of an element, from the corner of its border box, to px of the window.
 * @param {Element} element
 * @returns {Affine}
 */
export declare function boxInWindow(element: Element): Affine;
/**
 * @param {Affine} map
 * @param {number} x
 * @param {number} y
 */
export declare function apply({ a, b, c, d, e, f }: Affine, x: number, y: number): {
    x: number;
    y: number;
};
/**
 * The inverse map; with NaN in it if there is none, as for an element that is not shown.
 * @param {Affine} map
 * @returns {Affine}
 */
export declare function inverse({ a, b, c, d, e, f }: Affine): Affine;
/**
 * The map that applies `inner` first.
 * @param {Affine} outer
 * @param {Affine} inner
 * @returns {Affine}
 */
export declare function compose(outer: Affine, inner: Affine): Affine;
/**
 * The element whose picture a pointer over `element` is about: `element` itself, or the only video in it.
 * @param {Element} element
 * @returns {Element}
 */
export declare function mediaIn(element: Element): Element;
export type Linear = [number, number, number, number];
