/**
 * The state of a room: the server's snapshot with every later event applied, as immutable objects. The room (room.js)
 * applies events and hands out snapshots; media.js applies the events of playback and control with `patch`.
 */

/**
 * @import { Cursors, CursorRow, Joined, RoomMessage } from "./messages.js"
 * @import { Cursor, Member, Person, RoomEvents, RoomSnapshot, Selection } from "./types.js"
 */

import { EMPTY_SNAPSHOT } from "./empty-snapshot.js";

/** The target of what names none [H17]; playback-position.js, which has it too, is loaded only where films are shown. */
const MAIN_TARGET = "main";

/** State of shared playback before anything is known of it. */
const NO_PLAYBACK = {
  playback: null, controller: null, controllerSessionId: null, synced: null, media: undefined, settings: undefined,
};

/**
 * A cursor or selection with the film that it is in, if it is in that target and names none.
 * @template {Cursor | Selection | null | undefined} Place
 * @param {Place} place
 * @param {string} target
 * @param {string} mediaId
 * @returns {Place}
 */
export function inMedium(place, target, mediaId) {
  return !place || place.mediaId !== undefined || (place.target || MAIN_TARGET) !== target ? place : { ...place, mediaId };
}

export class RoomStore {
  /**
   * By session id, in the order in which they joined.
   * @type {Map<string, Member>}
   */
  #members = new Map();
  /**
   * Session ids by the number of the session in compact cursors.
   * @type {Map<number | undefined, string>}
   */
  #sessionIds = new Map();
  /**
   * By user id, as in the last snapshot.
   * @type {Map<string, Person>}
   */
  #people = new Map();
  /** User ids whose person has to be built again. */
  #changedUsers = new Set();
  /** Whether people may have to be built or removed although no user has changed. */
  #isStale = false;
  /**
   * This session, its colour and its presence object.
   * @type {{ sessionId?: string, color?: string, presence?: Readonly<Record<string, unknown>> }}
   */
  #own = {};
  /** @type {RoomSnapshot} */
  #snapshot;

  /** @param {string} roomId */
  constructor(roomId) {
    this.#snapshot = { ...EMPTY_SNAPSHOT, ...NO_PLAYBACK, roomId };
  }

  /** The same object until something changes; persons that did not change are the same objects in the next one. */
  get snapshot() {
    if (this.#isStale) this.#rebuildPeople();
    return this.#snapshot;
  }

  /** Whether there are other sessions, including own tabs. */
  get hasOtherSessions() {
    const { sessionId } = this.#own;
    return this.#members.size > (sessionId !== undefined && this.#members.has(sessionId) ? 1 : 0);
  }

  /**
   * Replaces fields of the snapshot.
   * @param {Partial<RoomSnapshot>} fields
   */
  patch(fields) {
    this.#snapshot = { ...this.#snapshot, ...fields };
  }

  /**
   * Replaces fields of a member; nothing if it is not known.
   * @param {string} sessionId
   * @param {Partial<Member>} fields
   */
  updateMember(sessionId, fields) {
    const member = this.#members.get(sessionId);
    if (member) this.#put({ ...member, ...fields });
  }

  /**
   * Shows another presence object of this session.
   * @param {Readonly<Record<string, unknown>>} presence
   */
  setOwnPresence(presence) {
    const shown = { presence: Object.keys(presence).length ? presence : undefined }; // as the server shows it
    this.#own = { ...this.#own, ...shown };
    this.patch({ presence });
    if (this.#own.sessionId !== undefined) this.updateMember(this.#own.sessionId, shown);
  }

  /**
   * The presence object of this session as the server has it after a join.
   * @param {Joined} message
   */
  ownPresenceIn({ room, sessionId }) {
    return room.users.find((user) => user.sessionId === sessionId)?.presence;
  }

  /**
   * Applies a message; those that change nothing here, and unknown ones, have no effect.
   * @param {RoomMessage} message
   */
  apply(message) {
    switch (message.type) {
      case "joined": return this.#applyJoined(message);
      case "user_joined": return this.#applyUserJoined(message);
      case "user_changed": return this.#applyUserChanged(message);
      case "user_left": return this.#removeMember(message.sessionId, message.userId);
      case "cursor_moved": return this.#applyCursor(message);
      case "selection_changed": return this.#applySelection(message);
      case "typing_started":
        return this.updateMember(message.sessionId, { isTyping: true, typingContext: message.data.context });
      case "typing_stopped":
        return this.updateMember(message.sessionId, { isTyping: false, typingContext: undefined });
      case "presence_changed": return this.#applyPresence(message);
      case "status_changed": return this.#applyStatus(message);
      case "media_changed": return this.#applyMedia(message);
      case "room_changed": return this.#applySettings(message);
    }
  }

  /**
   * The event that a row of compact cursors stands for [B12].
   * @param {CursorRow} row
   * @param {Cursors} message The message with the row.
   * @returns {RoomEvents["cursor_moved"] | undefined} Undefined if no session has that number.
   */
  expandCursor(row, message) {
    const [index, timestamp, x, y, target, mediaId] = row.map((value) => value ?? undefined);
    const sessionId = this.#sessionIds.get(/** @type {number} */ (index));
    const member = sessionId === undefined ? undefined : this.#members.get(sessionId);
    if (!member) return undefined;
    const { userId, color } = member;
    const data = row.length > 1 ? { color, timestamp, x, y, target, mediaId } : { color, hidden: true };
    const event = { ...message, type: "cursor_moved", userId, sessionId, data };
    return /** @type {RoomEvents["cursor_moved"]} */ (event);
  }

  // --- events ------------------------------------------------------------------------------------------------------

  /** @param {Joined} message */
  #applyJoined({ room, sessionId, assignedColor, rights }) {
    const { users, controlRequests = [], id, userCount, sessionCount, ...fields } = room;
    this.#members.clear();
    this.#sessionIds.clear();
    this.#people.clear();
    this.#own = { ...this.#own, sessionId, color: assignedColor };
    for (const member of users) this.#put(member);
    this.#isStale = true; // also without users: others may have left
    this.patch({ ...NO_PLAYBACK, ...fields, rights: rights ?? null, requests: controlRequests });
  }

  /** @param {RoomEvents["user_joined"]} event */
  #applyUserJoined({ userId, sessionId, timestamp, data }) {
    const { sessionCount, ...profile } = data;
    this.#put({
      userId, sessionId, connected: true, isTyping: false, isWatching: false, lastActiveAt: timestamp, ...profile,
    });
  }

  /**
   * Another name or image of a user, in all sessions.
   * @param {RoomEvents["user_changed"]} event
   */
  #applyUserChanged({ userId, data: { name, image } }) {
    for (const member of this.#members.values()) {
      if (member.userId === userId) this.#put({ ...member, name, image });
    }
    const { requests } = this.#snapshot;
    if (!requests.some((request) => request.userId === userId)) return;
    this.patch({
      requests: requests.map((request) => request.userId === userId ? { ...request, requesterName: name } : request),
    });
  }

  /** @param {RoomEvents["cursor_moved"]} event */
  #applyCursor({ sessionId, timestamp, data }) {
    const { color, hidden, ...cursor } = data;
    this.updateMember(sessionId, { cursor: hidden ? undefined : cursor, lastActiveAt: timestamp });
  }

  /** @param {RoomEvents["selection_changed"]} event */
  #applySelection({ sessionId, timestamp, data }) {
    const { color, cleared, ...selection } = data;
    const shown = /** @type {Member["selection"]} */ (selection);
    this.updateMember(sessionId, { selection: cleared ? undefined : shown, lastActiveAt: timestamp });
  }

  /** @param {RoomEvents["presence_changed"]} event */
  #applyPresence({ sessionId, data }) {
    const before = this.#members.get(sessionId)?.presence;
    const presence = Object.entries({ ...before, ...data }).filter(([, value]) => value !== null);
    this.updateMember(sessionId, { presence: presence.length ? Object.fromEntries(presence) : undefined });
  }

  /** @param {RoomEvents["status_changed"]} event */
  #applyStatus({ userId, sessionId, data }) {
    const { connected, isWatching, ...status } = data;
    this.updateMember(sessionId, { connected, isWatching });
    for (const member of this.#members.values()) {
      // a session in its grace period is shown as away, independently of the person's other sessions [D2]
      const isMeant = member.sessionId === sessionId || (connected && member.connected);
      if (isMeant && member.userId === userId) this.updateMember(member.sessionId, { statusMessage: undefined, ...status });
    }
  }

  /** @param {RoomEvents["media_changed"]} event */
  #applyMedia({ data: { target, medium } }) {
    const { [target]: before, ...others } = this.#snapshot.media ?? {};
    if (before && before.mediaId !== medium?.mediaId) this.#keepPlaces(target, before.mediaId);
    this.patch({ media: medium ? { ...others, [target]: medium } : others });
  }

  /**
   * The film of a target is replaced: what is shown there without a film was made in that one, and stays in it [H19].
   * @param {string} target
   * @param {string} mediaId
   */
  #keepPlaces(target, mediaId) {
    for (const member of this.#members.values()) {
      const cursor = inMedium(member.cursor, target, mediaId);
      const selection = inMedium(member.selection, target, mediaId);
      if (cursor !== member.cursor || selection !== member.selection) this.#put({ ...member, cursor, selection });
    }
  }

  /** @param {RoomEvents["room_changed"]} event */
  #applySettings({ data }) {
    const settings = Object.entries({ ...this.#snapshot.settings, ...data }).filter(([, value]) => value !== null);
    this.patch({ settings: settings.length ? Object.fromEntries(settings) : undefined });
  }

  /** @param {Member} member */
  #put(member) {
    this.#members.set(member.sessionId, member);
    this.#sessionIds.set(member.index, member.sessionId);
    this.#markChanged(member.userId);
  }

  /**
   * @param {string} sessionId
   * @param {string} userId
   */
  #removeMember(sessionId, userId) {
    this.#members.delete(sessionId);
    this.#markChanged(userId);
  }

  /** @param {string} userId */
  #markChanged(userId) {
    this.#changedUsers.add(userId);
    this.#isStale = true;
  }

  // --- people ------------------------------------------------------------------------------------------------------

  /** Builds the persons that have changed, and from them `self` and `others`; keeps the identity of what is equal. */
  #rebuildPeople() {
    const { sessionId: ownSessionId = "" } = this.#own;
    const ownUserId = this.#members.get(ownSessionId)?.userId;
    /** @type {Map<string, Person>} */
    const people = new Map();
    for (const [userId, sessions] of this.#sessionsByUser()) {
      const known = this.#changedUsers.has(userId) ? undefined : this.#people.get(userId);
      people.set(userId, known ?? { ...personOf(sessions), ...(userId === ownUserId ? this.#own : {}) });
    }
    this.#people = people;
    this.#changedUsers.clear();
    this.#isStale = false;

    const self = (ownUserId !== undefined && people.get(ownUserId)) || null;
    const others = [...people.values()].filter((person) => person !== self);
    const before = this.#snapshot.others;
    const areSame = others.length === before.length && others.every((person, i) => person === before[i]);
    this.patch({ self, others: areSame ? before : others });
  }

  /** @returns {Map<string, Member[]>} In the order in which the users joined. */
  #sessionsByUser() {
    /** @type {Map<string, Member[]>} */
    const sessionsByUser = new Map();
    for (const member of this.#members.values()) {
      const sessions = sessionsByUser.get(member.userId);
      if (sessions) sessions.push(member);
      else sessionsByUser.set(member.userId, [member]);
    }
    return sessionsByUser;
  }
}

/**
 * One person from its sessions: the fields of the first connected session, completed from the others.
 * @param {Member[]} sessions In the order in which they joined.
 * @returns {Person}
 */
function personOf(sessions) {
  /** @type {Record<string, unknown>} */
  const person = {};
  for (const session of [...sessions].sort((a, b) => Number(b.connected) - Number(a.connected))) {
    for (const [field, value] of Object.entries(session)) person[field] ||= value;
  }
  return /** @type {any} */ ({ ...person, color: sessions[0]?.color, sessions });
}
