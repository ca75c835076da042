/**
 * Following a user's playhead [N14]. A follower announces it with a broadcast `koko:follow`; the followed user sends its
 * position in `koko:playhead`, only to its followers. Every client stores who follows whom, so no circle is started, and one
 * that several users start at the same moment is broken by the user whose user id sorts last.
 */

const FOLLOW = "koko:follow";
const PLAYHEAD = "koko:playhead";
const MOST = 20; // users whom a broadcast may name [J3]

export function createFollow({ room, set, get, notify, emit, say, company }) {
  const whom = new Map(); // user id -> user id that it follows
  let head = null; // position of the followed user, shaped as a playback

  const myId = () => get().self?.userId;
  const person = () => (get().following === `${get().following}` ? get().following : "");
  const announce = (to) => company() && say("broadcast", { type: FOLLOW, user: person() }, to);
  const followers = () => [...whom].filter(([, followed]) => followed === myId()).map(([userId]) => userId);

  /** The chain that starts at `userId`: that user, the user that it follows, and so on. */
  function line(userId) {
    const found = new Set();
    while (userId && !found.has(userId)) {
      found.add(userId);
      userId = userId === myId() ? person() : whom.get(userId);
    }
    return found;
  }

  function change(following, reason) {
    const before = person();
    head = null;
    set({ following });
    if (before !== person()) announce();
    emit("follow", { following, reason });
    notify();
  }

  return {
    followers,
    /** The playback that the attached video follows; null: none. */
    goal() {
      const { following, syncEnabled, playback } = get();
      return following === true ? (syncEnabled ? playback : null) : following && head;
    },
    /** False if the user is not in the room, or follows this one. */
    start(following) {
      if (following === `${following}` && (!room.others.some(({ userId }) => userId === following) || line(following).has(myId()))) return false;
      if (following !== get().following) change(following, "asked");
      return true;
    },
    /** The local user has touched the player. */
    touch: () => get().following && change(false, "touch"),
    /** Send the own position to the followers; `state` is shaped as a playback. */
    lead(state) {
      const to = followers().slice(0, MOST);
      if (to.length) say("broadcast", { type: PLAYHEAD, ...state }, to);
    },
    /** True if the event is part of following and not for the application. */
    hear({ type, userId, data }) {
      if (type === "joined") {
        whom.clear();
        if (person()) announce();
      } else if (type === "user_joined") {
        if (person()) announce([userId]);
      } else if (type === "user_left" && !data.sessionCount) {
        whom.delete(userId);
        if (person() === userId) change(false, "left");
      } else if (type === "broadcast" && data.type === FOLLOW) {
        whom.set(userId, `${data.user}`);
        const circle = [...line(myId())];
        if (person() && whom.get(circle.at(-1)) === myId() && circle.every((each) => each <= myId())) change(false, "loop");
        return true;
      } else if (type === "broadcast" && data.type === PLAYHEAD) {
        const { isPlaying, currentTime, playbackRate, anchor } = data;
        const sound = [currentTime, playbackRate, anchor].every(Number.isFinite) && playbackRate > 0;
        if (userId === person() && sound) {
          head = { isPlaying: !!isPlaying, currentTime, playbackRate, anchor };
          emit("change", get());
        }
        return true;
      }
    },
  };
}
