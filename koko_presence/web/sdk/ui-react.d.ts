/**
 * The elements in JSX, for React 19: `import type {} from "koko-presence/ui-react"` once, anywhere in the application. A room is
 * passed as a property: `<koko-avatars room={room} onkoko-person={({ detail }) => ...} />`.
 */

import type { ClassAttributes, HTMLAttributes } from "react";
import type {} from "./ui.js";
import type { KokoAttributes, KokoEvents } from "./ui/attributes.js";

/** Handlers as React 19 takes them: `on` and the event's name. */
type Handlers<Tag> = Tag extends keyof KokoEvents
  ? { [Name in keyof KokoEvents[Tag] & string as `on${Name}`]?: (event: KokoEvents[Tag][Name]) => void }
  : {};

/** The elements, with `slot`, `class` and all other attributes of HTML. */
export type KokoElements = {
  [Tag in keyof KokoAttributes]:
    & ClassAttributes<HTMLElementTagNameMap[Tag]>
    & HTMLAttributes<HTMLElementTagNameMap[Tag]>
    & KokoAttributes[Tag]
    & Handlers<Tag>
    & { class?: string };
};

declare module "react" {
  namespace JSX {
    interface IntrinsicElements extends KokoElements {}
  }
}
