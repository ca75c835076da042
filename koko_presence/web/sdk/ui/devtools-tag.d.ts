/** The tag of the developer panel. */

import type { KokoDevtools } from "../devtools.js";

declare global {
  interface HTMLElementTagNameMap {
    "koko-devtools": KokoDevtools;
  }
}
