/** `<koko-fullscreen for="stage">`: a button that shows an element, with all that lies over the film, on the full screen. */

import { createElement, setText } from "./dom.js";
import { KokoElement } from "./element.js";
import { wake } from "./frames.js";

/**
 * Shows an element on the full screen, or ends that. Give it the container of the film and the overlays: the button of the
 * `<video>` itself shows the film without them. Call it in a user's event, as browsers require.
 * @param {Element} container
 * @returns {Promise<boolean>} Whether it is on the full screen now; also false where the browser refuses.
 */
export async function toggleFullscreen(container) {
  try {
    if (isOnFullScreen(container)) await document.exitFullscreen();
    else await container.requestFullscreen();
  } catch {
    return false;
  }
  return isOnFullScreen(container);
}

/**
 * In a shadow root the document names its host: the root itself knows the element.
 * @param {Element | null} container
 */
function isOnFullScreen(container) {
  return container !== null && /** @type {Document | ShadowRoot} */ (container.getRootNode()).fullscreenElement === container;
}

/** `<koko-fullscreen for="stage">`; without `for` the element that contains it. Needs no room. */
export class KokoFullscreen extends KokoElement {
  #button = createElement("button", "button", { type: "button", onclick: () => this.toggle() });

  constructor() {
    super();
    this.shadowRoot?.append(this.#button);
  }

  /** The same as a click on it. */
  async toggle() {
    const { container } = this;
    return container ? toggleFullscreen(container) : false;
  }

  /** @protected */
  get container() {
    return this.target ?? this.parentElement;
  }

  /** @protected */
  connectedCallback() {
    super.connectedCallback();
    this.#button.hidden = !document.fullscreenEnabled; // not on an iPhone, nor in a frame that may not
  }

  /** @protected */
  connected() {
    this.listen(document, ["fullscreenchange"], () => wake(this));
  }

  /** @protected */
  draw() {
    setText(this.#button, isOnFullScreen(this.container) ? this.texts.exitFullScreen : this.texts.fullScreen);
  }
}
