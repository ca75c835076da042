/**
 * Following a user's playhead [N14]. A follower announces it with a broadcast `koko:follow`; the followed user sends its
 * position in `koko:playhead`, only to its followers. Every client stores who follows whom, so no circle is started, and one
 * that several users start at the same moment is broken by the user whose user id sorts last. media.js passes events on, video.js
 * asks for the goal.
 */

/**
 * @import { MediaContext } from "./media-context.js"
 * @import { RoomMessage } from "./messages.js"
 * @import { Timeline } from "./playback-position.js"
 * @import { RoomStore } from "./store.js"
 * @import { Room, RoomEvents } from "./types.js"
 */

const FOLLOW = "koko:follow";
const PLAYHEAD = "koko:playhead";
const MAX_FOLLOWERS = 20; // a broadcast may name so many users [J3]

/** @typedef {ReturnType<typeof createFollow>} Follow */

/**
 * @param {object} context
 * @param {Pick<Room, "others">} context.room
 * @param {Pick<RoomStore, "snapshot" | "patch" | "hasOtherSessions">} context.store
 * @param {MediaContext["notify"]} context.notify
 * @param {MediaContext["emit"]} context.emit
 * @param {MediaContext["send"]} context.send
 */
export function createFollow({ room, store, notify, emit, send }) {
  /**
   * User ids and the user ids that they follow.
   * @type {Map<string, string>}
   */
  const followedBy = new Map();
  /**
   * Position of the followed user.
   * @type {Timeline | null}
   */
  let playhead = null;

  const ownId = () => store.snapshot.self?.userId;
  /** The followed user; "" if none is. */
  const followedUser = () => (typeof store.snapshot.following === "string" ? store.snapshot.following : "");

  /** @param {string[]} [to] */
  function announce(to) {
    if (store.hasOtherSessions) send("broadcast", { type: FOLLOW, user: followedUser() }, to);
  }

  function followers() {
    return [...followedBy].filter(([, followed]) => followed === ownId()).map(([userId]) => userId);
  }

  /**
   * The users from `userId` on, each followed by the one before it.
   * @param {string | undefined} userId
   */
  function chainFrom(userId) {
    /** @type {Set<string>} */
    const chain = new Set();
    let next = userId;
    while (next && !chain.has(next)) {
      chain.add(next);
      next = next === ownId() ? followedUser() : followedBy.get(next);
    }
    return chain;
  }

  /**
   * @param {boolean | string} following
   * @param {RoomEvents["follow"]["reason"]} reason
   */
  function change(following, reason) {
    const before = followedUser();
    playhead = null;
    store.patch({ following });
    if (before !== followedUser()) announce();
    emit("follow", { following, reason });
    notify();
  }

  /**
   * Another user has announced whom it follows.
   * @param {string} userId
   * @param {unknown} followed
   */
  function onFollow(userId, followed) {
    followedBy.set(userId, `${followed}`);
    const own = ownId() ?? "";
    const chain = [...chainFrom(own)];
    const isCircle = followedUser() !== "" && followedBy.get(chain.at(-1) ?? "") === own;
    if (isCircle && chain.every((each) => each <= own)) change(false, "loop");
  }

  /**
   * @param {string} userId
   * @param {{ readonly [field: string]: unknown }} data
   */
  function onPlayhead(userId, { isPlaying, currentTime, playbackRate, anchor }) {
    const isValid = [currentTime, playbackRate, anchor].every(Number.isFinite) && Number(playbackRate) > 0;
    if (userId !== followedUser() || !isValid) return;
    playhead = /** @type {Timeline} */ ({ isPlaying: Boolean(isPlaying), currentTime, playbackRate, anchor });
    emit("change", store.snapshot);
  }

  return {
    followers,

    /**
     * The timeline that the attached video follows; null or false: none.
     * @returns {Timeline | null | false}
     */
    goal() {
      const { following, syncEnabled, playback } = store.snapshot;
      if (following === true) return syncEnabled ? playback : null;
      return following === false ? false : playhead;
    },

    /**
     * False if the user is not in the room, or follows this one.
     * @param {boolean | string} following
     */
    start(following) {
      if (typeof following === "string") {
        const isHere = room.others.some(({ userId }) => userId === following);
        if (!isHere || chainFrom(following).has(ownId() ?? "")) return false;
      }
      if (following !== store.snapshot.following) change(following, "asked");
      return true;
    },

    /** The local user has touched the player. */
    touch() {
      if (store.snapshot.following) change(false, "touch");
    },

    /**
     * Sends the own position to the followers.
     * @param {Timeline} timeline
     */
    lead(timeline) {
      const to = followers().slice(0, MAX_FOLLOWERS);
      if (to.length) send("broadcast", { type: PLAYHEAD, ...timeline }, to);
    },

    /**
     * True if the event is part of following and not for the application.
     * @param {RoomMessage} message
     */
    receive(message) {
      if (message.type === "joined") {
        followedBy.clear();
        if (followedUser()) announce();
      } else if (message.type === "user_joined") {
        if (followedUser()) announce([message.userId]);
      } else if (message.type === "user_left" && !message.data.sessionCount) {
        followedBy.delete(message.userId);
        if (followedUser() === message.userId) change(false, "left");
      } else if (message.type === "broadcast" && message.data.type === FOLLOW) {
        onFollow(message.userId, message.data.user);
        return true;
      } else if (message.type === "broadcast" && message.data.type === PLAYHEAD) {
        onPlayhead(message.userId, message.data);
        return true;
      }
      return false;
    },
  };
}
