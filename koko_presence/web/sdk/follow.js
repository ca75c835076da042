/**
 * Following a person's playhead [N14]. Whoever follows says so in a broadcast `koko:follow`; whoever is followed sends
 * where they are in `koko:playhead`, to the followers alone. Everybody knows who follows whom, so a circle is never begun,
 * and one that is begun from several sides in the same moment is broken by the person whose user id sorts last.
 */

const FOLLOW = "koko:follow";
const PLAYHEAD = "koko:playhead";
const MOST = 20; // users whom a broadcast may name [J3]

export function createFollow({ room, set, get, notify, emit, say, company }) {
  const whom = new Map(); // user id -> user id whom they follow
  let head = null; // where the person whom we follow is, shaped as a playback

  const myId = () => get().self?.userId;
  const person = () => (get().following === `${get().following}` ? get().following : "");
  const announce = (to) => company() && say("broadcast", { type: FOLLOW, user: person() }, to);
  const followers = () => [...whom].filter(([, followed]) => followed === myId()).map(([userId]) => userId);

  /** Those behind whom one would be when following `userId`: that person, whom they follow, and so on. */
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
    /** What the attached video goes after; null: nothing. */
    goal() {
      const { following, syncEnabled, playback } = get();
      return following === true ? (syncEnabled ? playback : null) : following && head;
    },
    /** False if the person is not here, or follows us. */
    start(following) {
      if (following === `${following}` && (!room.others.some(({ userId }) => userId === following) || line(following).has(myId()))) return false;
      if (following !== get().following) change(following, "asked");
      return true;
    },
    /** The person's hand is on the player. */
    touch: () => get().following && change(false, "touch"),
    /** Tell the followers where we are; `state` is shaped as a playback. */
    lead(state) {
      const to = followers().slice(0, MOST);
      if (to.length) say("broadcast", { type: PLAYHEAD, ...state }, to);
    },
    /** True if the event is about following, and not the application's. */
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
