/** `<koko-fullscreen for="stage">`: a button that shows an element, with all that lies over the film, on the full screen. */
import { KokoElement } from "./element.js";
/**
 * Shows an element on the full screen, or ends that. Give it the container of the film and the overlays: the button of the
 * `<video>` itself shows the film without them. Call it in a user's event, as browsers require.
 * @param {Element} container
 * @returns {Promise<boolean>} Whether it is on the full screen now; also false where the browser refuses.
 */
export declare function toggleFullscreen(container: Element): Promise<boolean>;
/** `<koko-fullscreen for="stage">`; without `for` the element that contains it. Needs no room. */
export declare class KokoFullscreen extends KokoElement {
    #private;
    constructor();
    /** The same as a click on it. */
    toggle(): Promise<boolean>;
    /** @protected */
    protected get container(): HTMLElement | null;
    /** @protected */
    protected connectedCallback(): void;
    /** @protected */
    protected connected(): void;
    /** @protected */
    protected draw(): void;
}
