/**
 * Watching together: playback commands, control, viewer synchronisation. Loaded by rooms that may need it, before they are
 * entered. video.js keeps a `<video>` in step, follow.js follows a user.
 */

import { createFollow } from "./follow.js";
import { attachVideo } from "./video.js";

const SEEK_MS = 200; // the server's limit [H11]
const REPORT_MS = 1000; // steady; five times as often on a change [H6]
const FRESH_MS = 1500; // the server rejects reports that are older [H4]

/** Second of the video at server ms `now` [H4]. */
export function positionOf(playback, now) {
  if (!playback) return 0;
  const { isPlaying, currentTime, playbackRate, anchor, duration = Infinity } = playback;
  const ran = isPlaying ? (Math.max(0, now - anchor) / 1000) * playbackRate : 0;
  return Math.min(Math.max(0, currentTime + ran), duration);
}

/** Arguments by place: the room object of the application, the maker of slots, the room's slots, the store's set, update and
 * get, notify, emit, say, ask, and the predicates visible, live and company. */
export function createMedia(room, createSlot, slots, set, update, get, notify, emit, say, ask, seen, isLive, company) {
  const { id: roomId, clock } = room;
  const attached = new Set();
  let commands = 0; // of playback, not yet answered

  const report = createSlot((data) => clock.now() - data.at < FRESH_MS && say("playback", data), seen);
  const seek = createSlot(({ data, resolve }) => command(data).then(resolve), isLive);
  slots.push(report, seek);
  const follow = createFollow({ room, set, get, notify, emit, say, company });

  // --- state -------------------------------------------------------------------------------------------------------

  const dropRequest = (userId) => {
    const requests = get().requests.filter((each) => each.userId !== userId);
    if (requests.length < get().requests.length) set({ requests });
  };
  /** Store a playback that is not older than the stored one. */
  const learn = ({ isPlaying, currentTime, playbackRate, anchor, version, duration, target }) => {
    const known = get().playback;
    if (!anchor || version < known?.version) return;
    const more = { duration: duration ?? known?.duration, target: target ?? known?.target };
    set({ playback: { isPlaying, currentTime, playbackRate, anchor, version, ...more } });
  };
  const folds = {
    __proto__: null,
    user_left({ userId, data }) {
      if (!data.sessionCount) dropRequest(userId);
    },
    playback_synced({ sessionId, data }) {
      set({ syncEnabled: data.syncEnabled });
      // own commands are settled by the answer to the last of them [H2]
      if (!commands || sessionId !== get().self?.sessionId) learn({ ...data, anchor: data.serverTime });
    },
    viewer_sync(event) {
      const { state, driftMs, synced, total } = event.data;
      update(event, { viewerSync: { state, driftMs } });
      set({ synced: { synced, total } });
    },
    control_requested({ userId, timestamp: requestedAt, data: { requesterName } }) {
      dropRequest(userId);
      set({ requests: [...get().requests, { userId, requesterName, requestedAt }] });
    },
    control_granted({ data: { toUserId: controller, controllerSessionId } }) {
      dropRequest(controller);
      set({ controller, controllerSessionId });
    },
    control_denied: ({ data }) => dropRequest(data.toUserId),
    control_released: () => set({ controller: null, controllerSessionId: null }),
  };

  // --- commands ----------------------------------------------------------------------------------------------------

  /** The room's playback as it will be if the server agrees. */
  function after({ action, isPlaying, currentTime, playbackRate, at, duration }) {
    const old = get().playback;
    return {
      version: 0,
      ...old,
      anchor: at,
      isPlaying: isPlaying ?? (action === "play" || (action !== "pause" && !!old?.isPlaying)),
      currentTime: currentTime ?? positionOf(old, at),
      playbackRate: playbackRate ?? old?.playbackRate ?? 1,
      duration: duration ?? old?.duration,
    };
  }

  async function command(data) {
    const { isPlaying, currentTime, playbackRate, version } = get().playback ?? {};
    // commands that are late are sent as one state, which counts only if no other user has sent a command since [H16]
    if (!isLive() && playbackRate) data = { action: "sync", isPlaying, currentTime, playbackRate, baseVersion: version || undefined };
    commands++;
    const reply = await ask({ type: "playback", roomId, data }, `playback ${roomId}`);
    if (!--commands && reply.success) {
      learn(reply);
      notify();
    }
    return reply;
  }

  function playback(data) {
    const { action } = data;
    data = { at: clock.now(), ...data };
    if (action === "report") {
      const { isPlaying, buffering, follow: follows } = report.value ?? {};
      const same = isPlaying === data.isPlaying && buffering === data.buffering && follows === data.follow;
      return report.offer(data, same ? REPORT_MS : REPORT_MS / 5);
    }
    if (room.mayControl && ["sync", "play", "pause", "seek", "rate"].includes(action)) {
      set({ playback: after(data) });
      notify();
    }
    if (action !== "seek" || !isLive()) {
      seek.go(0); // never overtaken
      return command(data);
    }
    return new Promise((resolve) => {
      if (seek.waiting) seek.value.resolve({ success: false, code: "REPLACED", message: "A later seek took its place." });
      seek.offer({ data, resolve }, SEEK_MS);
    });
  }

  room.on("error", ({ state }) => {
    if (!state?.anchor) return;
    set({ playback: null }); // the local playback was never confirmed
    learn(state);
    notify();
  });
  room.on("status", (status) => {
    if (status === "closed") for (const detach of attached) detach();
  });
  const control = (verb) => (toUserId) => ask({ type: `control_${verb}`, roomId, data: toUserId && { toUserId } });

  return {
    /** Apply an event; true if it is not for the application. */
    fold(event) {
      folds[event.type]?.(event);
      return follow.hear(event);
    },
    position: (at = clock.now()) => positionOf(get().playback, at),
    playback,
    follow: follow.start,
    requestControl: control("request"),
    cancelRequest: control("cancel"),
    grantControl: control("grant"),
    denyControl: control("deny"),
    releaseControl: control("release"),
    attach(video, options = {}) {
      if (room.status === "closed") return () => {};
      const undo = attachVideo(video, { room, follow, playback, emit, options });
      const detach = () => attached.delete(detach) && undo();
      attached.add(detach);
      return detach;
    },
  };
}
