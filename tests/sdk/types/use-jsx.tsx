// Compiled, never run: the UI kit's elements in JSX, and mistakes that must not compile.
import * as React from "react";
import { createPresence } from "../../../koko_presence/web/sdk/presence.js";
import { createHooks } from "../../../koko_presence/web/sdk/react.js";
import type {} from "../../../koko_presence/web/sdk/ui-react.js";
import type { KokoWatch } from "../../../koko_presence/web/sdk/ui.js";

const { RoomProvider, useRoom } = createHooks(React);
const presence = createPresence({ url: "/presence", auth: () => "token" });

function Kit() {
  const room = useRoom();
  const watch = React.useRef<KokoWatch>(null);
  return (
    <div className="stage">
      <koko-avatars room={room} max={5} class="people" onkoko-person={({ detail }) => room?.follow(detail.userId)} />
      <koko-cursors room={room} for="film" target="right" receive-only />
      <koko-marks room={room} for="film" style={{ width: 640 }} />
      <koko-typing room={room} context="comment" />
      <koko-watch ref={watch} room={room} reactions="👍 🎉" onClick={() => watch.current?.react("👍")} />
      <koko-fullscreen for="stage" />
      <koko-devtools presence={presence} />
      {/* @ts-expect-error a room, not its name */}
      <koko-avatars room="video_1" />
      {/* @ts-expect-error no such attribute */}
      <koko-watch emoji="👍" />
      {/* @ts-expect-error no such element */}
      <koko-people />
    </div>
  );
}

export const page = <RoomProvider presence={presence} id="video_1" privacy={{ invisible: true }} fallback={<p />}><Kit /></RoomProvider>;
