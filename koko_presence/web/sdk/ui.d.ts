/** The UI kit of koko_presence: web components that show a room of the SDK. docs/ui-kit.md has the parts and properties. */

import type { Person, Room } from "./presence.js";

/** Properties of all components. `room` may be set before or after the element is in the page; null removes it. */
export declare class KokoElement extends HTMLElement {
  room: Room | null | undefined;
}

/** `<koko-avatars max="3">`. Fires `koko-person` when a person is chosen in the list. */
export declare class KokoAvatars extends KokoElement {}

/** `<koko-cursors for="video" receive-only>`: above the picture of the element that `for` names. */
export declare class KokoCursors extends KokoElement {
  /** Let a reaction rise over the picture, with or without a person. */
  float(emoji: string, person?: Pick<Person, "name">): void;
}

/** `<koko-marks for="video">`: under a timeline, as wide as it. */
export declare class KokoMarks extends KokoElement {}

/** `<koko-typing context="comment">`; without `context` of every kind. */
export declare class KokoTyping extends KokoElement {}

/** `<koko-watch reactions="👍 ❤️">`. */
export declare class KokoWatch extends KokoElement {
  /** Broadcast `{type: "reaction", emoji, timestamp}` and show it here. */
  react(emoji: string): ReturnType<Room["broadcast"]>;
}

/** Position of a mouse event, 0 to 1 of the letter-boxed picture of `media`; null outside of it. */
export declare function pointOn(media: Element, event: { clientX: number; clientY: number }): { x: number; y: number } | null;

declare global {
  interface HTMLElementTagNameMap {
    "koko-avatars": KokoAvatars;
    "koko-cursors": KokoCursors;
    "koko-marks": KokoMarks;
    "koko-typing": KokoTyping;
    "koko-watch": KokoWatch;
  }
  interface HTMLElementEventMap {
    "koko-person": CustomEvent<Person>;
  }
}
