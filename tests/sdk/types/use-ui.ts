// Compiled, never run: the UI kit's elements as its documentation shows them, and mistakes that must not compile.
import { createPresence } from "../../../koko_presence/web/sdk/presence.js";
import { KokoAvatars, KokoCursors, KokoElement, KokoMarks, KokoTyping, KokoWatch, pointOn } from "../../../koko_presence/web/sdk/ui.js";

const room = createPresence({ url: "/presence", auth: () => "token" }).enter("video_1");
const avatars: KokoAvatars | null = document.querySelector("koko-avatars");
avatars!.room = room;
avatars!.addEventListener("koko-person", ({ detail }) => room.follow(detail.userId));
avatars!.room = createPresence<{ broadcast: { type: "note" } }>({ url: "/presence", auth: () => "token" }).enter("video_1");
// @ts-expect-error a room, not its name
avatars!.room = "video_1";
document.createElement("koko-cursors").float("👍", { name: "Jane" });
const watch: KokoWatch = document.createElement("koko-watch");
watch.react("👍").then((answer) => answer.success && answer.delivered);
// @ts-expect-error not for applications
watch.draw();
for (const element of [new KokoCursors(), new KokoMarks(), new KokoTyping()] satisfies KokoElement[]) element.room = null;
const point: { x: number; y: number } | null = pointOn(document.body, { clientX: 1, clientY: 2 });
point?.x;
