/**
 * Following: the room (by default), nothing, or another user's playhead [N14]. A follower of a user announces it with a broadcast
 * `koko:follow`; the followed user sends its position in `koko:playhead`, only to its followers. Every client stores who follows
 * whom, so no circle is started, and one that several users start at the same moment is broken by the user whose user id sorts
 * last. media.js passes events on, attached players ask for the timeline.
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

/**
 * @typedef {object} FollowContext
 * @property {Pick<Room, "others">} room
 * @property {Pick<RoomStore, "snapshot" | "patch" | "hasOtherSessions">} store
 * @property {MediaContext["notify"]} notify
 * @property {MediaContext["emit"]} emit
 * @property {MediaContext["send"]} send
 */

export class Following {
  #context;
  /**
   * User ids and the user ids that they follow.
   * @type {Map<string, string>}
   */
  #followedBy = new Map();
  /**
   * Position of the followed user.
   * @type {Timeline | null}
   */
  #playhead = null;

  /** @param {FollowContext} context */
  constructor(context) {
    this.#context = context;
  }

  /**
   * The timeline that attached players follow; null: not known, or the room is not synchronised; false: none.
   * @returns {Timeline | null | false}
   */
  get timeline() {
    const { following, syncEnabled, playback } = this.#context.store.snapshot;
    if (following === true) return syncEnabled ? playback : null;
    return following === false ? false : this.#playhead;
  }

  /**
   * Follows the room (true), nothing (false) or a user (user id).
   * @param {boolean | string} following
   * @returns {boolean} False if the user is not in the room, or follows this one.
   */
  start(following) {
    const { room, store } = this.#context;
    if (typeof following === "string") {
      const isHere = room.others.some(({ userId }) => userId === following);
      if (!isHere || this.#chainFrom(following).has(this.#ownId ?? "")) return false;
    }
    if (following !== store.snapshot.following) this.#change(following, "asked");
    return true;
  }

  /** The local user has acted on a player without being permitted to command the room. */
  stopForUser() {
    if (this.#context.store.snapshot.following) this.#change(false, "touch");
  }

  /** Play and pause were reversed too often: only the room's commands count from now on [H23]. */
  reportReversals() {
    this.#context.emit("follow", { following: this.#context.store.snapshot.following, reason: "reversals" });
  }

  /**
   * Sends the own position to the followers.
   * @param {Timeline} timeline
   */
  lead(timeline) {
    const to = this.#followers.slice(0, MAX_FOLLOWERS);
    if (to.length) this.#context.send("broadcast", { type: PLAYHEAD, ...timeline }, to);
  }

  /**
   * @param {RoomMessage} message
   * @returns {boolean} True if the event is part of following and not for the application.
   */
  receive(message) {
    if (message.type === "joined") {
      this.#followedBy.clear();
      if (this.#followedUser) this.#announce();
    } else if (message.type === "user_joined") {
      if (this.#followedUser) this.#announce([message.userId]);
    } else if (message.type === "user_left" && !message.data.sessionCount) {
      this.#followedBy.delete(message.userId);
      if (this.#followedUser === message.userId) this.#change(false, "left");
    } else if (message.type === "broadcast" && message.data.type === FOLLOW) {
      this.#onFollow(message.userId, message.data.user);
      return true;
    } else if (message.type === "broadcast" && message.data.type === PLAYHEAD) {
      this.#onPlayhead(message.userId, message.data);
      return true;
    }
    return false;
  }

  get #ownId() {
    return this.#context.store.snapshot.self?.userId;
  }

  /** The followed user; "" if none is. */
  get #followedUser() {
    const { following } = this.#context.store.snapshot;
    return typeof following === "string" ? following : "";
  }

  get #followers() {
    return [...this.#followedBy].filter(([, followed]) => followed === this.#ownId).map(([userId]) => userId);
  }

  /** @param {string[]} [to] */
  #announce(to) {
    const { store, send } = this.#context;
    if (store.hasOtherSessions) send("broadcast", { type: FOLLOW, user: this.#followedUser }, to);
  }

  /**
   * The users from `userId` on, each followed by the one before it.
   * @param {string | undefined} userId
   */
  #chainFrom(userId) {
    /** @type {Set<string>} */
    const chain = new Set();
    let next = userId;
    while (next && !chain.has(next)) {
      chain.add(next);
      next = next === this.#ownId ? this.#followedUser : this.#followedBy.get(next);
    }
    return chain;
  }

  /**
   * @param {boolean | string} following
   * @param {RoomEvents["follow"]["reason"]} reason
   */
  #change(following, reason) {
    const { store, emit, notify } = this.#context;
    const before = this.#followedUser;
    this.#playhead = null;
    store.patch({ following });
    if (before !== this.#followedUser) this.#announce();
    emit("follow", { following, reason });
    notify();
  }

  /**
   * Another user has announced whom it follows.
   * @param {string} userId
   * @param {unknown} followed
   */
  #onFollow(userId, followed) {
    this.#followedBy.set(userId, `${followed}`);
    const own = this.#ownId ?? "";
    const chain = [...this.#chainFrom(own)];
    const isCircle = this.#followedUser !== "" && this.#followedBy.get(chain.at(-1) ?? "") === own;
    if (isCircle && chain.every((each) => each <= own)) this.#change(false, "loop");
  }

  /**
   * @param {string} userId
   * @param {{ readonly [field: string]: unknown }} data
   */
  #onPlayhead(userId, { isPlaying, currentTime, playbackRate, anchor }) {
    const isValid = [currentTime, playbackRate, anchor].every(Number.isFinite) && Number(playbackRate) > 0;
    if (userId !== this.#followedUser || !isValid) return;
    this.#playhead = /** @type {Timeline} */ ({ isPlaying: Boolean(isPlaying), currentTime, playbackRate, anchor });
    this.#context.emit("change", this.#context.store.snapshot);
  }
}
