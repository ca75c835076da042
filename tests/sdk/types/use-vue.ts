// Compiled, never run: the UI kit's elements as Vue's template compiler sees them, and mistakes that must not compile.
import type { GlobalComponents } from "vue";
import { createPresence } from "../../../koko_presence/web/sdk/presence.js";
import type {} from "../../../koko_presence/web/sdk/ui-vue.js";

type Props<Tag extends keyof GlobalComponents> = GlobalComponents[Tag] extends new () => { $props: infer Each } ? Each : never;
const room = createPresence({ url: "/presence", auth: () => "token" }).enter("video_1");

export const avatars: Props<"koko-avatars"> = { room, max: 5, onKokoPerson: ({ detail }) => room.follow(detail.userId), class: "people" };
export const cursors: Props<"koko-cursors"> = { room, for: "film", target: "right" };
// @ts-expect-error a room, not its name
export const wrong: Props<"koko-marks"> = { room: "video_1" };
// @ts-expect-error no such element
export type Unknown = Props<"koko-people">;
