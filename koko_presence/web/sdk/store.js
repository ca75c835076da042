/** The state of a room: a snapshot of the server with every later event applied, as immutable objects. Events of playback
 * and control are applied by media.js. */

/** One person from its sessions: fields of the first connected session, completed from the others. */
function merge(sessions) {
  const person = {};
  for (const session of [...sessions].sort((a, b) => b.connected - a.connected)) {
    for (const key in session) person[key] ||= session[key];
  }
  return { ...person, color: sessions[0].color, sessions };
}

/** Returns set, update, fold, expand, company, get: by place, so that a minifier may shorten their names. */
export function createStore(roomId) {
  const members = new Map(); // session id -> member
  const numbers = new Map(); // number in compact cursors -> session id
  const stale = new Set(); // user ids whose person has to be built again
  let people = new Map(); // user id -> person
  let me = {};
  const watching = { playback: null, controller: null, controllerSessionId: null, synced: null };
  let snapshot = {
    roomId, status: "connecting", error: null, self: null, others: [], syncEnabled: false, requests: [], following: true, ...watching,
  };

  const set = (patch) => {
    snapshot = { ...snapshot, ...patch };
  };
  const put = (member) => {
    members.set(member.sessionId, member);
    numbers.set(member.index, member.sessionId);
    stale.add(member.userId);
  };
  const update = ({ sessionId }, patch) => {
    const member = members.get(sessionId);
    if (member) put({ ...member, ...patch });
  };
  const showing = (field, end) => (event) => {
    const { color, [end]: over, ...value } = event.data;
    update(event, { [field]: over ? undefined : value, lastActiveAt: event.timestamp });
  };
  const folds = {
    __proto__: null,
    joined({ room: { users, controlRequests: requests = [], id, userCount, sessionCount, ...room }, sessionId, assignedColor: color }) {
      for (const map of [members, numbers, people]) map.clear();
      me = { sessionId, color };
      users.forEach(put);
      set({ ...watching, ...room, requests });
      stale.add(); // users that have left
    },
    user_joined({ userId, sessionId, timestamp, data: { sessionCount, ...shown } }) {
      put({ userId, sessionId, connected: true, isTyping: false, isWatching: false, lastActiveAt: timestamp, ...shown });
    },
    user_left({ userId, sessionId }) {
      members.delete(sessionId);
      stale.add(userId);
    },
    cursor_moved: showing("cursor", "hidden"),
    selection_changed: showing("selection", "cleared"),
    typing_started: (event) => update(event, { isTyping: true, typingContext: event.data.context }),
    typing_stopped: (event) => update(event, { isTyping: false, typingContext: undefined }),
    status_changed(event) {
      const { connected, isWatching, ...shown } = event.data;
      update(event, { connected, isWatching });
      for (const member of members.values()) {
        // a session in its grace period is shown as away, independently of the person's other sessions [D2]
        const meant = member.sessionId === event.sessionId || (connected && member.connected);
        if (meant && member.userId === event.userId) update(member, { statusMessage: undefined, ...shown });
      }
    },
  };

  return [
    set,
    update,
    // fold: apply an event
    (event) => folds[event.type]?.(event),
    // expand: the `cursor_moved` of a row of compact cursors; undefined if no session has that number
    (row, envelope) => {
      const [index, timestamp, x, y, target] = row.map((value) => value ?? undefined);
      const { userId, sessionId, color } = members.get(numbers.get(index)) ?? {};
      const data = row.length > 1 ? { color, timestamp, x, y, target } : { color, hidden: true };
      return userId && { ...envelope, type: "cursor_moved", userId, sessionId, data };
    },
    // company: whether there are other sessions, including own tabs
    () => members.size > members.has(me.sessionId),
    // get
    () => {
      if (stale.size) {
        const groups = new Map();
        for (const member of members.values()) {
          groups.get(member.userId)?.push(member) ?? groups.set(member.userId, [member]);
        }
        const myId = members.get(me.sessionId)?.userId;
        people = new Map([...groups].map(([userId, sessions]) => {
          const known = !stale.has(userId) && people.get(userId);
          return [userId, known || (userId === myId ? { ...merge(sessions), ...me } : merge(sessions))];
        }));
        stale.clear();
        const self = people.get(myId) ?? null;
        const others = [...people.values()].filter((person) => person !== self);
        const same = others.length === snapshot.others.length && others.every((each, i) => each === snapshot.others[i]);
        set(same ? { self } : { self, others });
      }
      return snapshot;
    },
  ];
}
