/** What is known of a room: a snapshot of the server's and every event folded into it, shown as immutable objects. */

/** Second of the video at server ms `now` [H4]. */
export function positionOf(playback, now) {
  if (!playback) return 0;
  const { isPlaying, currentTime, playbackRate, anchor, duration = Infinity } = playback;
  const ran = isPlaying ? (Math.max(0, now - anchor) / 1000) * playbackRate : 0;
  return Math.min(Math.max(0, currentTime + ran), duration);
}

/** One person from their sessions: the first that is connected counts, the others fill up. */
function merge(sessions) {
  const person = {};
  for (const session of [...sessions].sort((a, b) => b.connected - a.connected)) {
    for (const key in session) person[key] ??= session[key];
  }
  person.color = sessions[0].color;
  for (const key of ["isTyping", "isWatching"]) person[key] = sessions.some((session) => session[key]);
  return Object.assign(person, { sessions });
}

const same = (a, b) => a.length === b.length && a.every((each, i) => each === b[i]);

export function createStore(roomId) {
  let members = new Map(); // session id -> member
  let numbers = new Map(); // number in compact cursors -> session id
  let people = new Map(); // user id -> person
  let stale = new Set(); // user ids whose person is out of date
  let changed = false;
  let me = {};
  let snapshot = {
    roomId, status: "connecting", error: null, self: null, others: [], playback: null, syncEnabled: false, controller: null,
    controllerSessionId: null, requests: [], synced: null, following: true,
  };

  const set = (patch) => {
    changed = true;
    snapshot = { ...snapshot, ...patch };
  };
  const put = (member) => {
    members.set(member.sessionId, member);
    if (member.index >= 0) numbers.set(member.index, member.sessionId);
    stale.add(member.userId);
  };
  const update = (sessionId, patch) => {
    const member = members.get(sessionId);
    if (member) put({ ...member, ...patch });
  };
  const dropRequest = (userId) => {
    if (snapshot.requests.some((each) => each.userId === userId)) {
      set({ requests: snapshot.requests.filter((each) => each.userId !== userId) });
    }
  };

  const folds = {
    joined({ room, sessionId, assignedColor }) {
      members = new Map();
      numbers = new Map();
      people = new Map();
      room.users.forEach(put);
      me = { sessionId, color: assignedColor };
      stale.add(members.get(sessionId)?.userId);
      set({
        type: room.type, playback: room.playback ?? null, syncEnabled: room.syncEnabled, synced: null,
        controller: room.controller ?? null, controllerSessionId: room.controllerSessionId ?? null,
        requests: room.controlRequests ?? [],
      });
    },
    user_joined({ userId, sessionId, data, timestamp }) {
      const { sessionCount, ...shown } = data;
      put({
        userId, sessionId, connected: true, isTyping: false, isWatching: false, lastActiveAt: timestamp, roomId,
        roomType: snapshot.type, ...shown,
      });
    },
    user_left({ userId, sessionId, data }) {
      const member = members.get(sessionId);
      members.delete(sessionId);
      if (member && numbers.get(member.index) === sessionId) numbers.delete(member.index);
      stale.add(userId);
      if (!data.sessionCount) dropRequest(userId);
    },
    cursor_moved({ sessionId, data, timestamp }) {
      const { color, hidden, ...cursor } = data;
      update(sessionId, { cursor: hidden ? undefined : cursor, lastActiveAt: timestamp });
    },
    selection_changed({ sessionId, data, timestamp }) {
      const { color, cleared, ...selection } = data;
      update(sessionId, { selection: cleared ? undefined : selection, lastActiveAt: timestamp });
    },
    typing_started: ({ sessionId, data }) => update(sessionId, { isTyping: true, typingContext: data.context }),
    typing_stopped: ({ sessionId }) => update(sessionId, { isTyping: false, typingContext: undefined }),
    status_changed({ userId, sessionId, data }) {
      const { status, statusMessage, activity, connected, isWatching } = data;
      const gone = connected ? {} : { cursor: undefined, isTyping: false, typingContext: undefined };
      update(sessionId, { connected, isWatching, ...gone });
      for (const member of members.values()) {
        if (member.userId !== userId) continue;
        // a session in its grace is shown as away, which is not what the person's other sessions show [D2]
        const shown = member.sessionId === sessionId || (connected && member.connected) ? { status, activity } : {};
        update(member.sessionId, { statusMessage, ...shown });
      }
    },
    playback_synced({ data }) {
      const { serverTime: anchor, syncEnabled, action, ...state } = data;
      if (syncEnabled !== snapshot.syncEnabled) set({ syncEnabled });
      store.learn({ ...state, anchor });
    },
    viewer_sync({ sessionId, data }) {
      const { state, driftMs, synced, total } = data;
      update(sessionId, { viewerSync: { state, driftMs } });
      set({ synced: { synced, total } });
    },
    control_requested({ userId, data, timestamp }) {
      dropRequest(userId);
      set({ requests: [...snapshot.requests, { userId, requesterName: data.requesterName, requestedAt: timestamp }] });
    },
    control_granted({ data }) {
      dropRequest(data.toUserId);
      set({ controller: data.toUserId, controllerSessionId: data.controllerSessionId });
    },
    control_denied: ({ data }) => dropRequest(data.toUserId),
    control_released: () => set({ controller: null, controllerSessionId: null }),
  };

  const store = {
    set,
    /** The other sessions here, one's own tabs included. */
    get company() {
      return members.size - members.has(me.sessionId);
    },
    /** Take an event over. */
    fold: (message) => Object.hasOwn(folds, message.type) && folds[message.type](message),
    /** A row of compact cursors as the `cursor_moved` that it stands for; undefined if nobody has that number. */
    expand([index, timestamp, x, y, target], { type, ...envelope }) {
      const { userId, sessionId, color } = members.get(numbers.get(index)) ?? {};
      if (!sessionId) return;
      const data = { color };
      if (timestamp === undefined) data.hidden = true;
      for (const [key, value] of Object.entries({ timestamp, x, y, target })) if (value != null) data[key] = value;
      return { ...envelope, type: "cursor_moved", userId, sessionId, data };
    },
    /** Take over a playback that is not older than what is known. */
    learn(playback) {
      const known = snapshot.playback;
      if (Number.isFinite(playback?.anchor) && !(playback.version < known?.version)) set({ playback });
    },
    get() {
      if (stale.size) {
        const groups = new Map();
        for (const member of members.values()) {
          if (!groups.has(member.userId)) groups.set(member.userId, []);
          groups.get(member.userId).push(member);
        }
        const old = people;
        people = new Map();
        for (const [userId, sessions] of groups) {
          people.set(userId, (!stale.has(userId) && old.get(userId)) || merge(sessions));
        }
        const myId = members.get(me.sessionId)?.userId;
        const mine = people.get(myId);
        const others = [...people.values()].filter((person) => person !== mine);
        set({
          self: !mine ? null : stale.has(myId) ? { ...mine, ...me } : snapshot.self,
          others: same(others, snapshot.others) ? snapshot.others : others,
        });
        stale = new Set();
      }
      changed = false;
      return snapshot;
    },
    /** Has anything changed since the last `get`? */
    get dirty() {
      return changed || stale.size > 0;
    },
  };
  return store;
}
