/**
 * Losses of a room's connection that are long enough to tell the user about.
 */

/**
 * @import { ConnectionLoss } from "./react-types.js"
 * @import { Room } from "./types.js"
 */

/**
 * Calls `listener`: `lost` when a room that was live has not been for `afterMs`; `restored` when it is live after that;
 * `failed` when it is closed for good, other than by a leave.
 * @param {Room} room
 * @param {number} afterMs
 * @param {(loss: ConnectionLoss) => void} listener
 * @returns {() => void} Its undo.
 */
export function watchLoss(room, afterMs, listener) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let isLost = false;
  const check = () => {
    const { status, error } = room.getSnapshot();
    if ((status === "reconnecting" || status === "lost") && !isLost) {
      timer ??= setTimeout(() => {
        isLost = true;
        listener("lost");
      }, afterMs);
    } else if (status === "live" || status === "closed") {
      clearTimeout(timer);
      timer = undefined;
      if (status === "closed" && error) listener("failed");
      else if (isLost && status === "live") listener("restored"); // not in a room that was left
      isLost = false;
    }
  };
  check();
  const undo = room.on("status", check);
  return () => {
    clearTimeout(timer);
    undo();
  };
}
