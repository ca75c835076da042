/** What shared playback (media.js and its parts) uses of its room (room.js), which passes it as an object. */

import type { SendSlot } from "./send-slot.js";
import type { RoomStore } from "./store.js";
import type { Answer, Room, RoomEvents } from "./types.js";

export interface MediaContext {
  /** The room's object for the application. */
  room: Room;
  store: RoomStore;
  /** Call the listeners of `change` if the snapshot has changed. */
  notify: () => void;
  /** Call the application's listeners. */
  emit: <Type extends keyof RoomEvents>(type: Type, event: RoomEvents[Type]) => void;
  /** Send a message of this room; without a connection it is dropped. */
  send: (type: string, data: object, to?: readonly string[]) => void;
  /** Send a request of this room when it is joined. Of the waiting ones with one key only the last is sent. */
  ask: (type: string, data?: object, key?: string) => Promise<Answer<any>>;
  /** Add a send slot. Without `maySend` it sends while another session is in the room and the network takes it. */
  addSlot: <Value>(slot: { send: (value: Value) => void; maySend?: () => boolean }) => SendSlot<Value>;
  /** Whether the room is joined. */
  isLive: () => boolean;
  /** Measure the server's clock again soon: a player is attached. */
  measureClock: () => void;
}
