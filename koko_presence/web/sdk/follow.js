/**
 * Following a person's playhead [N14]. Whoever follows says so in a broadcast `koko:follow`; whoever is followed sends
 * where they are in `koko:playhead`, to the followers alone. Everybody knows who follows whom, so a circle is never begun,
 * and one that two people begin in the same moment is broken by the one whose user id sorts last.
 */

const FOLLOW = "koko:follow";
const PLAYHEAD = "koko:playhead";

export function createFollow({ hub, room, store, notify, tell }) {
  const chain = new Map(); // user id -> whom they follow
  let head = null; // where the person whom we follow is, shaped as a playback

  const mine = () => store.get().following;
  const announce = (to) => hub.send({ type: "broadcast", roomId: room.id, data: { type: FOLLOW, user: mine() }, to });
  const myId = () => store.get().self?.userId;

  /** The people from `userId` on, each following the next; it ends with someone who follows nobody, or is here twice. */
  function line(userId) {
    const found = [];
    while (userId && !found.includes(userId)) {
      found.push(userId);
      userId = userId === myId() ? mine() : chain.get(userId);
      if (typeof userId === "boolean") break;
    }
    return found;
  }

  function set(following, reason) {
    const told = typeof mine() === "string" || typeof following === "string";
    head = null;
    store.set({ following });
    if (told && store.company) announce();
    tell("follow", { following, reason });
    notify();
  }

  const followers = () => [...chain].filter(([, whom]) => whom === myId()).map(([userId]) => userId);

  return {
    /** What the attached video goes after; null: nothing. */
    goal() {
      const following = mine();
      return following === true ? (store.get().syncEnabled ? store.get().playback : null) : following && head;
    },
    start(whom) {
      if (typeof whom === "string" && (!room.others.some(({ userId }) => userId === whom) || line(whom).includes(myId()))) {
        return false;
      }
      if (whom !== mine()) set(whom, "asked");
      return true;
    },
    /** The person's hand is on the player. */
    touch() {
      if (mine()) set(false, "touch");
    },
    /** Tell the followers where we are; `state` is shaped as a playback. */
    lead(state) {
      const to = followers().slice(0, 20);
      if (to.length) hub.send({ type: "broadcast", roomId: room.id, data: { type: PLAYHEAD, ...state }, to });
    },
    isOwn: ({ type, data }) => type === "broadcast" && (data.type === FOLLOW || data.type === PLAYHEAD),
    hear({ type, userId, data }) {
      const whom = mine();
      if (type === "joined") {
        chain.clear();
        if (typeof whom === "string") announce();
      } else if (type === "user_joined") {
        if (typeof whom === "string") announce([userId]);
      } else if (type === "user_left" && !data.sessionCount) {
        chain.delete(userId);
        if (whom === userId) set(false, "left");
      } else if (type === "broadcast" && data.type === FOLLOW) {
        chain.set(userId, data.user);
        const circle = line(myId());
        const closed = circle.length > 1 && chain.get(circle.at(-1)) === myId();
        if (closed && circle.every((each) => each <= myId())) set(false, "loop");
        return data.user === myId();
      } else if (type === "broadcast" && data.type === PLAYHEAD && userId === whom) {
        const { isPlaying, currentTime, playbackRate, anchor } = data;
        if ([currentTime, playbackRate, anchor].every(Number.isFinite)) head = { isPlaying: !!isPlaying, currentTime, playbackRate, anchor };
      }
    },
  };
}
