/** What the elements take in a page's markup, for the declarations of frameworks: ui-react.d.ts, ui-vue.d.ts. */

import type {} from "../devtools.js";
import type { Person, Presence, Room } from "../types.js";

interface Shared {
  /** Set as a property; null removes it. */
  room?: Room<any> | null | undefined;
}

/** Attributes, and properties that templates set, by tag. docs/ui-kit.md explains them. */
export interface KokoAttributes {
  "koko-avatars": Shared & {
    max?: number | string;
    target?: string;
    /** A room that is not entered; `presence` is set as a property. */
    "room-id"?: string;
    presence?: Presence<any> | null | undefined;
  };
  "koko-cursors": Shared & { for?: string; target?: string; "receive-only"?: boolean | "" };
  "koko-devtools": { presence?: Presence<any> | null | undefined };
  "koko-fullscreen": { for?: string };
  "koko-marks": Shared & { for?: string; target?: string };
  "koko-typing": Shared & { context?: string };
  "koko-watch": Shared & { reactions?: string };
}

/** The events that an element fires, by tag. */
export interface KokoEvents {
  "koko-avatars": { "koko-person": CustomEvent<Person> };
}
