/**
 * Hooks for React 19, made with the page's own React: `createHooks(React)`. Applications import it beside presence.js; it
 * uses the public interface of rooms only.
 */

/**
 * @import { AppTypes, MediaElement, Member, Person, PlaybackCommand, Player, Privacy, Room, RoomEvents, RoomSnapshot } from "./types.js"
 */

import { watchLoss } from "./connection-loss.js";
import { EMPTY_SNAPSHOT } from "./empty-snapshot.js";
import { mediaIn, pointOn } from "./picture-place.js";
import { RenderPace } from "./render-pace.js";
import { isIn, MAIN_TARGET, mediumAt, showsOtherMedium } from "./targets.js";

// The types that applications import from here.
/**
 * @typedef {import("./react-types.js").ReactLike} ReactLike
 * @typedef {import("./react-types.js").PlaybackHook} PlaybackHook
 * @typedef {import("./react-types.js").TargetHook} TargetHook
 * @typedef {import("./react-types.js").ConnectionLoss} ConnectionLoss
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./react-types.js").RoomProviderProps<App>} RoomProviderProps
 */
/**
 * @template {AppTypes} [App=AppTypes]
 * @typedef {import("./react-types.js").PresenceHooks<App>} PresenceHooks
 */

/** What useRooms shows before the first effect. */
const NO_SUMMARIES = Object.freeze({});

/** What a session shows where its privacy says nothing else. */
const DEFAULT_PRIVACY = { invisible: false, shareCursor: true, shareSelection: true };

/** How long a connection has to be away until it is called lost, ms. */
const LOST_AFTER_MS = 5000;

/**
 * Whether a room has become live; one promise a room, as React's `use` needs it.
 * @type {WeakMap<Room, Promise<boolean>>}
 */
const readiness = new WeakMap();

/** @param {Room} room */
function readinessOf(room) {
  const known = readiness.get(room) ?? room.ready();
  readiness.set(room, known);
  return known;
}

/**
 * The same value, or arrays or plain objects of the same values: an equal result of a selector causes no render.
 * @param {any} a
 * @param {any} b
 */
function isSame(a, b) {
  if (Object.is(a, b)) return true;
  if (!a || !b || typeof a !== "object" || typeof b !== "object") return false;
  const prototype = Object.getPrototypeOf(a);
  if (prototype !== Object.getPrototypeOf(b) || (prototype !== Object.prototype && prototype !== Array.prototype)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && Object.is(a[key], b[key]));
}

/**
 * What leads from one privacy to another; null if they are the same. A field that is not named any more has its
 * default.
 * @param {Privacy | undefined} before
 * @param {Privacy | undefined} after
 * @returns {Privacy | null}
 */
function privacyChange(before, after) {
  /** @type {Record<string, unknown>} */
  const change = {};
  for (const [name, usual] of Object.entries(DEFAULT_PRIVACY)) {
    const field = /** @type {keyof typeof DEFAULT_PRIVACY} */ (name);
    if (before?.[field] !== after?.[field]) change[field] = after?.[field] ?? usual;
  }
  return Object.keys(change).length ? { ...change, scope: after?.scope ?? before?.scope } : null;
}

const NO_PROVIDER = 'This hook needs a <RoomProvider presence={presence} id="..."> around its component, made by the same createHooks.';

/** @param {any} value */
const selectAll = (value) => value;

/**
 * The state of usePlayback, at the end what `mayControl` depends on; not the others, whose cursors change.
 * @param {RoomSnapshot} snapshot
 */
function selectPlayback({ playback, controller, requests, synced, following, syncEnabled, self, rights, settings }) {
  return [playback, controller, requests, synced, following, syncEnabled, self?.userId, rights, settings?.controlMode];
}

/**
 * What useTarget shows of a target: its film, whether the player has another one, the sessions with a cursor there, and those
 * with a selection.
 * @param {RoomSnapshot} snapshot
 * @param {string} target
 */
function selectTarget(snapshot, target) {
  /** @param {"cursor" | "selection"} field */
  const sessionsWith = (field) => snapshot.others.flatMap(({ sessions }) => sessions).filter((/** @type {Member} */ session) => {
    const place = session[field];
    return place !== undefined && isIn(snapshot, target, place);
  });
  return [mediumAt(snapshot, target), showsOtherMedium(snapshot, target), sessionsWith("cursor"), sessionsWith("selection")];
}

/**
 * Whether two results of selectTarget are the same.
 * @param {readonly unknown[]} a
 * @param {readonly unknown[]} b
 */
const isSameTarget = (a, b) => a.every((value, i) => isSame(value, b[i]));

/** @param {RoomSnapshot} snapshot */
const selectStatus = ({ status }) => status;

/** @param {RoomSnapshot} snapshot */
const selectError = ({ error }) => error;

/** @param {RoomSnapshot} snapshot */
const selectPresence = ({ presence }) => presence;

/**
 * Another user, or a session of one, or another of the own sessions; undefined if there is none of that id.
 * @param {RoomSnapshot} snapshot
 * @param {string | null | undefined} id
 * @returns {Member | undefined}
 */
function findOther({ self, others }, id) {
  const sessions = [...others, ...(self ? [self] : [])].flatMap((person) => person.sessions);
  return others.find(({ userId }) => userId === id) ??
    sessions.find(({ sessionId }) => sessionId === id && sessionId !== self?.sessionId);
}

/** The answer to what is asked before the first effect. */
const NOT_ENTERED = /** @type {const} */ ({ success: false, code: "NOT_IN_ROOM", message: "The room is not entered yet." });

/** A room that is not there never changes. */
const subscribeToNothing = () => () => {};

/**
 * @template {AppTypes} [App=AppTypes]
 * @param {ReactLike} React The page's own.
 * @returns {PresenceHooks<App>}
 */
export function createHooks(React) {
  if (!React?.createContext) throw new TypeError('createHooks(React) needs your React: import * as React from \'react\'.');
  const {
    Suspense, createContext, createElement, useCallback, useContext, useEffect, useRef, useState, useSyncExternalStore,
  } = React;
  const PresenceContext = createContext(null);
  const RoomContext = createContext(undefined);
  /**
   * The hook that last said in a room that the user types: unmounted, it says that this is over.
   * @type {WeakMap<Room, object>}
   */
  const typists = new WeakMap();

  /** @returns {Room | null} */
  function useRoom() {
    const room = useContext(RoomContext);
    if (room === undefined) throw new Error(NO_PROVIDER);
    return room;
  }

  /** @param {RoomProviderProps} props */
  function RoomProvider({ presence, id, type, privacy, initialPresence, fallback, children }) {
    if (!presence?.enter) throw new TypeError("RoomProvider: `presence` is missing: what createPresence returns.");
    const [room, setRoom] = useState(null);
    const shownPrivacy = useRef(privacy);
    useEffect(() => {
      const entered = presence.enter(id, { type, privacy, presence: initialPresence });
      shownPrivacy.current = privacy;
      setRoom(entered);
      return () => {
        setRoom(null);
        queueMicrotask(entered.leave); // StrictMode enters again before that, so no leave is sent
      };
    }, [presence, id, type]);
    useEffect(() => {
      const change = room && privacyChange(shownPrivacy.current, privacy);
      if (!change) return;
      shownPrivacy.current = privacy;
      room.setPrivacy(change);
    }, [room, privacy?.invisible, privacy?.shareCursor, privacy?.shareSelection]);
    // before the first effect, and on a server, nothing suspends: no effect would enter the room, and a server would wait for it
    const suspending = () => (room ? createElement(Suspense, { fallback }, children) : fallback);
    const content = createElement(RoomContext.Provider, { value: room }, fallback === undefined ? children : suspending());
    return createElement(PresenceContext.Provider, { value: presence }, content);
  }

  /** @type {PresenceHooks["PresenceProvider"]} */
  const PresenceProvider = ({ presence, children }) => createElement(PresenceContext.Provider, { value: presence }, children);

  /** @type {PresenceHooks["useRooms"]} */
  function useRooms(roomIds) {
    const presence = useContext(PresenceContext);
    if (!presence) throw new Error("useRooms needs a presence: put a PresenceProvider or a RoomProvider above it.");
    const [watch, setWatch] = useState(null);
    const pace = useRef(null);
    pace.current ??= new RenderPace();
    pace.current.onRender();
    useEffect(() => {
      const started = presence.watchRooms(roomIds);
      setWatch(started);
      return () => {
        setWatch(null);
        started.stop();
      };
    }, [presence]);
    useEffect(() => watch?.setRooms(roomIds), [watch, JSON.stringify(roomIds)]);
    const subscribe = useCallback(
      (/** @type {() => void} */ render) => (watch ? pace.current.follow(watch.subscribe, render) : subscribeToNothing()),
      [watch],
    );
    const getSnapshot = () => watch?.getSnapshot() ?? NO_SUMMARIES;
    return useSyncExternalStore(subscribe, getSnapshot, getSnapshot);
  }

  /** @type {PresenceHooks["useLiveRoom"]} */
  function useLiveRoom() {
    const room = useRoom();
    if (!room) throw new Error("useLiveRoom suspends: give the RoomProvider above it a fallback, as of Suspense.");
    if (React.use(readinessOf(room))) return room;
    const { error } = room.getSnapshot();
    throw new Error(error ? `Room ${room.id}: ${error.message} (${error.code})` : `Room ${room.id} was left.`, { cause: error });
  }

  /**
   * @param {(snapshot: RoomSnapshot) => any} [select]
   * @param {(a: any, b: any) => boolean} [isEqual]
   */
  function useSnapshot(select = selectAll, isEqual = isSame) {
    const room = useRoom();
    const last = useRef({});
    const pace = useRef(null);
    pace.current ??= new RenderPace();
    pace.current.onRender();
    /** The selected value; the last one if it is equal, so that React does not render. */
    const getSelected = () => {
      const snapshot = room?.getSnapshot() ?? EMPTY_SNAPSHOT;
      const before = last.current;
      if (before.snapshot !== snapshot || before.select !== select) {
        const value = select(snapshot);
        const isUnchanged = before.select && isEqual(before.value, value);
        last.current = { snapshot, select, value: isUnchanged ? before.value : value };
      }
      return last.current.value;
    };
    const subscribe = useCallback(
      (/** @type {() => void} */ render) => (room ? pace.current.follow(room.subscribe, render) : subscribeToNothing()),
      [room],
    );
    return useSyncExternalStore(subscribe, getSelected, getSelected);
  }

  /**
   * @param {(others: readonly Person[]) => any} [select]
   * @param {(a: any, b: any) => boolean} [isEqual]
   */
  function useOthers(select = selectAll, isEqual) {
    return useSnapshot(useCallback((/** @type {RoomSnapshot} */ { others }) => select(others), [select]), isEqual);
  }

  /**
   * @param {(self: Person) => any} [select]
   * @param {(a: any, b: any) => boolean} [isEqual]
   */
  function useSelf(select = selectAll, isEqual) {
    return useSnapshot(useCallback((/** @type {RoomSnapshot} */ { self }) => self && select(self), [select]), isEqual);
  }

  /** @type {PresenceHooks<any>["useMyPresence"]} */
  function useMyPresence() {
    const room = useRoom();
    return [useSnapshot(selectPresence), useCallback((/** @type {any} */ patch) => room?.setPresence(patch) ?? false, [room])];
  }

  /**
   * @param {string | null | undefined} id
   * @param {(other: Member) => any} [select]
   * @param {(a: any, b: any) => boolean} [isEqual]
   */
  function useOther(id, select = selectAll, isEqual) {
    const selectOther = useCallback((/** @type {RoomSnapshot} */ snapshot) => {
      const other = findOther(snapshot, id);
      return other ? select(other) : null;
    }, [id, select]);
    return useSnapshot(selectOther, isEqual);
  }

  /** @type {PresenceHooks["useCursor"]} */
  function useCursor(time, target) {
    const room = useRoom();
    const isPointing = useRef(false);
    const latest = useLatest({ time, target });
    useEffect(() => () => room?.updateCursor(null), [room]);
    const onPointerLeave = useCallback(() => {
      if (isPointing.current) room?.updateCursor(null);
      isPointing.current = false;
    }, [room]);
    const onPointerMove = useCallback((/** @type {{ clientX: number, clientY: number, currentTarget: Element }} */ event) => {
      const point = pointOn(mediaIn(event.currentTarget), event);
      if (!point) return onPointerLeave();
      isPointing.current = true;
      const { time: timeNow, target: targetNow } = latest.current;
      room?.updateCursor({ timestamp: timeNow?.(), ...point, target: targetNow });
    }, [room]);
    return { onPointerMove, onPointerLeave };
  }

  /** @type {PresenceHooks["useTyping"]} */
  function useTyping(context) {
    const room = useRoom();
    const typist = useRef(null);
    const people = useOthers((others) => others.filter((person) => person.isTyping && (!context || person.typingContext === context)));
    useEffect(() => {
      typist.current = {};
      return () => {
        if (room && typists.get(room) === typist.current) room.typing(false, context);
      };
    }, [room, context]);
    const setTyping = useCallback((/** @type {boolean} */ isTyping) => {
      if (!room) return;
      if (isTyping) typists.set(room, typist.current);
      else typists.delete(room);
      room.typing(isTyping, context);
    }, [room, context]);
    return [people, setTyping];
  }

  /** @type {PresenceHooks["useEvent"]} */
  function useEvent(type, listener) {
    const room = useRoom();
    const latest = useLatest(listener);
    const isHeard = Boolean(listener); // without it the room is not told of a listener: the console is for errors that have none
    useEffect(() => {
      if (isHeard) return room?.on(type, (/** @type {any} */ event) => latest.current?.(event));
    }, [room, type, isHeard]);
  }

  /**
   * The value of the last render that the page shows, for what is called later.
   * @param {any} value
   */
  function useLatest(value) {
    const latest = useRef(value);
    useEffect(() => {
      latest.current = value;
    });
    return latest;
  }

  /** @type {PresenceHooks["useBroadcast"]} */
  function useBroadcast(listener) {
    const room = useRoom();
    useEvent("broadcast", /** @type {any} */ (listener));
    return useCallback(
      async (/** @type {any} */ data, /** @type {readonly string[] | undefined} */ to) => room?.broadcast(data, to) ?? NOT_ENTERED,
      [room],
    );
  }

  /** @type {PresenceHooks["useStatus"]} */
  const useStatus = () => useSnapshot(selectStatus);

  /** @type {PresenceHooks["useError"]} */
  function useError(listener) {
    useEvent("error", /** @type {any} */ (listener));
    return useSnapshot(selectError);
  }

  /** @type {PresenceHooks["useLostConnection"]} */
  function useLostConnection(listener, { afterMs = LOST_AFTER_MS } = {}) {
    const room = useRoom();
    const latest = useLatest(listener);
    const [isLost, setIsLost] = useState(false);
    useEffect(() => {
      if (!room) return;
      const undo = watchLoss(room, afterMs, (loss) => {
        setIsLost(loss !== "restored");
        latest.current?.(loss);
      });
      return () => {
        undo();
        setIsLost(false);
      };
    }, [room, afterMs]);
    return isLost;
  }

  /** @type {PresenceHooks["usePlayback"]} */
  function usePlayback() {
    const room = useRoom();
    const [playback, controller, requests, synced, following, syncEnabled] = useSnapshot(selectPlayback);
    const attach = useCallback(
      (/** @type {MediaElement | Player | null} */ player) => (player && room ? room.attach(player) : undefined),
      [room],
    );
    const position = useCallback((/** @type {number | undefined} */ serverTime) => room?.position(serverTime) ?? 0, [room]);
    const command = useCallback((/** @type {PlaybackCommand} */ wanted) => room?.playback(wanted), [room]);
    return {
      playback, controller, requests, synced, following, syncEnabled, attach, position, command, mayControl: Boolean(room?.mayControl),
    };
  }

  /** @type {PresenceHooks["useTarget"]} */
  function useTarget(target = MAIN_TARGET, { mediaId } = {}) {
    const room = useRoom();
    const select = useCallback((/** @type {RoomSnapshot} */ snapshot) => selectTarget(snapshot, target), [target]);
    const [medium, isOther, cursors, selections] = useSnapshot(select, isSameTarget);
    const attach = useCallback(
      (/** @type {MediaElement | Player | null} */ player) => (player && room ? room.attach(player, { target, mediaId }) : undefined),
      [room, target, mediaId],
    );
    const position = useCallback((/** @type {number | undefined} */ serverTime) => {
      return room ? room.position(serverTime) + (mediumAt(room.getSnapshot(), target)?.offset ?? 0) : 0;
    }, [room, target]);
    return { medium, isOther, cursors, selections, attach, position };
  }

  return /** @type {PresenceHooks<any>} */ ({
    PresenceProvider, RoomProvider, useRooms, useRoom, useLiveRoom, useSnapshot, useOthers, useOther, useSelf, useMyPresence, useStatus,
    useError, useLostConnection, useEvent, useBroadcast, useCursor, useTyping, usePlayback, useTarget,
  });
}
