/**
 * Watching together: playback commands, control, viewer synchronisation. A room (room.js) loads it before it is joined if
 * its type may need it. video.js keeps a `<video>` in step, follow.js follows a user.
 */

/**
 * @import { MediaContext } from "./media-context.js"
 * @import { RoomMessage } from "./messages.js"
 * @import { SendSlot } from "./send-slot.js"
 * @import { Answer, AttachOptions, Playback, PlaybackCommand, PlaybackReport, Undo } from "./types.js"
 */

import { createFollow } from "./follow.js";
import { positionOf } from "./playback-position.js";
import { attachVideo } from "./video.js";

const SEEK_MS = 200; // the server's limit [H11]
const REPORT_MS = 1000; // steady; five times as often on a change [H6]
const FRESH_MS = 1500; // the server rejects reports that are older [H4]

/**
 * A command as it is sent: with the time of the user's action.
 * @typedef {PlaybackCommand & { at: number, isPlaying?: boolean, currentTime?: number, playbackRate?: number }} TimedCommand
 */

/** @typedef {ReturnType<typeof createMedia>} SharedPlayback */

/** @param {MediaContext} context */
export function createMedia({ room, store, notify, emit, send, ask, addSlot, isLive }) {
  const { id: roomId, clock } = room;
  /** @type {Set<Undo>} */
  const attached = new Set();
  let openCommands = 0; // of playback, not yet answered

  /** @type {SendSlot<PlaybackReport & { at: number }>} */
  const reports = addSlot({
    send: (report) => {
      if (clock.now() - report.at < FRESH_MS) send("playback", report);
    },
  });
  /** @type {SendSlot<{ command: TimedCommand, resolve: (answer: Answer<any>) => void }>} */
  const seeks = addSlot({ send: ({ command, resolve }) => sendCommand(command).then(resolve), maySend: isLive });
  const follow = createFollow({ room, store, notify, emit, send });

  // --- state -------------------------------------------------------------------------------------------------------

  /** @param {string} requester A user id. */
  function removeRequest(requester) {
    const requests = store.snapshot.requests.filter(({ userId }) => userId !== requester);
    if (requests.length < store.snapshot.requests.length) store.patch({ requests });
  }

  /**
   * Stores a playback that is not older than the stored one.
   * @param {Playback} playback
   */
  function learn({ isPlaying, currentTime, playbackRate, anchor, version, duration, target }) {
    const known = store.snapshot.playback;
    if (!anchor || (known && version < known.version)) return;
    store.patch({
      playback: {
        isPlaying, currentTime, playbackRate, anchor, version,
        duration: duration ?? known?.duration, target: target ?? known?.target,
      },
    });
  }

  /** @param {RoomMessage} message */
  function apply(message) {
    switch (message.type) {
      case "user_left":
        if (!message.data.sessionCount) removeRequest(message.userId);
        break;
      case "playback_synced":
        store.patch({ syncEnabled: message.data.syncEnabled });
        // own commands are settled by the answer to the last of them [H2]
        if (!openCommands || message.sessionId !== store.snapshot.self?.sessionId) {
          learn({ ...message.data, anchor: message.data.serverTime });
        }
        break;
      case "viewer_sync": {
        const { state, driftMs, synced, total } = message.data;
        store.updateMember(message.sessionId, { viewerSync: { state, driftMs } });
        store.patch({ synced: { synced, total } });
        break;
      }
      case "control_requested": {
        const { userId, timestamp: requestedAt, data: { requesterName } } = message;
        removeRequest(userId);
        store.patch({ requests: [...store.snapshot.requests, { userId, requesterName, requestedAt }] });
        break;
      }
      case "control_granted": {
        const { toUserId: controller, controllerSessionId } = message.data;
        removeRequest(controller);
        store.patch({ controller, controllerSessionId });
        break;
      }
      case "control_denied":
        removeRequest(message.data.toUserId);
        break;
      case "control_released":
        store.patch({ controller: null, controllerSessionId: null });
    }
  }

  // --- commands ----------------------------------------------------------------------------------------------------

  /**
   * The room's playback as it will be if the server agrees.
   * @param {TimedCommand} command
   * @returns {Playback}
   */
  function after({ action, isPlaying, currentTime, playbackRate, at, duration }) {
    const old = store.snapshot.playback;
    return {
      version: 0,
      ...old,
      anchor: at,
      isPlaying: isPlaying ?? (action === "play" || (action !== "pause" && Boolean(old?.isPlaying))),
      currentTime: currentTime ?? positionOf(old, at),
      playbackRate: playbackRate ?? old?.playbackRate ?? 1,
      duration: duration ?? old?.duration,
    };
  }

  /**
   * @param {TimedCommand} command
   * @returns {Promise<Answer<any>>}
   */
  async function sendCommand(command) {
    const known = store.snapshot.playback;
    /** @type {object} */
    let data = command;
    if (!isLive() && known?.playbackRate) {
      // commands that are late are sent as one state, which counts only if no other user has sent a command since [H16]
      const { isPlaying, currentTime, playbackRate, version } = known;
      data = { action: "sync", isPlaying, currentTime, playbackRate, baseVersion: version || undefined };
    }
    openCommands++;
    const answer = await ask("playback", data, `playback ${roomId}`);
    openCommands--;
    if (!openCommands && answer.success) {
      learn(answer);
      notify();
    }
    return answer;
  }

  /** @param {PlaybackReport & { at: number }} report */
  function offerReport(report) {
    const before = reports.value;
    const isSame = before?.isPlaying === report.isPlaying && before.buffering === report.buffering && before.follow === report.follow;
    reports.offer(report, isSame ? REPORT_MS : REPORT_MS / 5);
  }

  /**
   * @param {TimedCommand} command
   * @returns {Promise<Answer<any>>}
   */
  function playCommand(command) {
    const { action } = command;
    if (room.mayControl && ["sync", "play", "pause", "seek", "rate"].includes(action)) {
      store.patch({ playback: after(command) });
      notify();
    }
    if (action !== "seek" || !isLive()) {
      seeks.sendNow(); // never overtaken
      return sendCommand(command);
    }
    return new Promise((resolve) => {
      if (seeks.isWaiting) {
        seeks.value?.resolve({ success: false, code: "REPLACED", message: "A later seek took its place." });
      }
      seeks.offer({ command, resolve }, SEEK_MS);
    });
  }

  /**
   * @param {PlaybackCommand | PlaybackReport} command
   * @returns {Promise<Answer<any>> | undefined} Undefined for a report, which is not answered.
   */
  function playback(command) {
    const timed = { at: clock.now(), ...command };
    if (timed.action !== "report") return playCommand(timed);
    offerReport(timed);
    return undefined;
  }

  room.on("error", ({ state }) => {
    const known = /** @type {Playback | undefined} */ (state);
    if (!known?.anchor) return;
    store.patch({ playback: null }); // the local playback was never confirmed
    learn(known);
    notify();
  });
  room.on("status", (status) => {
    if (status === "closed") for (const detach of attached) detach();
  });

  return {
    /**
     * Applies a message; true if it is not for the application.
     * @param {RoomMessage} message
     */
    receive(message) {
      apply(message);
      return follow.receive(message);
    },
    position: (at = clock.now()) => positionOf(store.snapshot.playback, at),
    playback,
    follow: follow.start,
    requestControl: () => ask("control_request"),
    cancelRequest: () => ask("control_cancel"),
    /** @param {string} toUserId */
    grantControl: (toUserId) => ask("control_grant", { toUserId }),
    /** @param {string} toUserId */
    denyControl: (toUserId) => ask("control_deny", { toUserId }),
    releaseControl: () => ask("control_release"),
    /**
     * @param {HTMLVideoElement} video
     * @param {AttachOptions} [options]
     * @returns {Undo}
     */
    attach(video, options = {}) {
      if (room.status === "closed") return () => {};
      const undo = attachVideo(video, { room, follow, playback, emit, options });
      const detach = () => {
        if (attached.delete(detach)) undo();
      };
      attached.add(detach);
      return detach;
    },
  };
}
