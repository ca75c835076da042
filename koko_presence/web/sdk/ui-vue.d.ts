/**
 * The elements in Vue's templates: `import type {} from "koko-presence/ui-vue"` once, anywhere in the application. A room is
 * passed as a property: `<koko-avatars :room="room" @koko-person="..." />`. In the build,
 * `isCustomElement: (tag) => tag.startsWith("koko-")`.
 */

import type { HTMLAttributes, PublicProps } from "vue";
import type {} from "./ui.js";
import type { KokoAttributes, KokoEvents } from "./ui/attributes.js";

/** `koko-person` as `KokoPerson`. */
type Pascal<Name extends string> = Name extends `${infer Head}-${infer Tail}` ? `${Capitalize<Head>}${Pascal<Tail>}` : Capitalize<Name>;

type Handlers<Tag> = Tag extends keyof KokoEvents
  ? { [Name in keyof KokoEvents[Tag] & string as `on${Pascal<Name>}`]?: (event: KokoEvents[Tag][Name]) => void }
  : {};

type Emit<Tag> = Tag extends keyof KokoEvents
  ? <Name extends keyof KokoEvents[Tag]>(name: Name, event: KokoEvents[Tag][Name]) => void
  : {};

/** The elements as components: `$props` of a template. */
export type KokoComponents = {
  [Tag in keyof KokoAttributes]: new () => HTMLElementTagNameMap[Tag] & {
    $props: HTMLAttributes & PublicProps & KokoAttributes[Tag] & Handlers<Tag>;
    $emit: Emit<Tag>;
  };
};

declare module "vue" {
  interface GlobalComponents extends KokoComponents {}
}
