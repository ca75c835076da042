/**
 * Hooks for React 19, made with the page's own React: `createHooks(React)`. Applications import it beside presence.js; it
 * uses the public interface of rooms only.
 */

/**
 * @import { MediaElement, Member, Person, PlaybackCommand, Player, Room, RoomSnapshot } from "./types.js"
 */

import { isIn, MAIN_TARGET, mediumAt, showsOtherMedium } from "./targets.js";

// The types that applications import from here.
/**
 * @typedef {import("./react-types.js").ReactLike} ReactLike
 * @typedef {import("./react-types.js").RoomProviderProps} RoomProviderProps
 * @typedef {import("./react-types.js").PlaybackHook} PlaybackHook
 * @typedef {import("./react-types.js").TargetHook} TargetHook
 * @typedef {import("./react-types.js").PresenceHooks} PresenceHooks
 */

/**
 * What the hooks show without a room.
 * @type {RoomSnapshot}
 */
const EMPTY_SNAPSHOT = {
  roomId: "", status: "connecting", error: null, self: null, others: [], playback: null, syncEnabled: false, controller: null,
  controllerSessionId: null, requests: [], synced: null, following: true, shownMedia: {}, isBlocked: false, rights: null,
};

/**
 * The same value, or arrays of the same values: an equal result of a selector causes no render.
 * @param {unknown} a
 * @param {unknown} b
 */
function isSame(a, b) {
  if (Object.is(a, b)) return true;
  return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => Object.is(item, b[i]));
}

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

/** A room that is not there never changes. */
const subscribeToNothing = () => () => {};

/**
 * @param {ReactLike} React The page's own.
 * @returns {PresenceHooks}
 */
export function createHooks(React) {
  const { createContext, createElement, useCallback, useContext, useEffect, useRef, useState, useSyncExternalStore } = React;
  const RoomContext = createContext(null);

  /** @returns {Room | null} */
  const useRoom = () => useContext(RoomContext);

  /** @param {RoomProviderProps} props */
  function RoomProvider({ presence, id, type, privacy, children }) {
    const [room, setRoom] = useState(null);
    useEffect(() => {
      const entered = presence.enter(id, { type, privacy });
      setRoom(entered);
      return () => {
        setRoom(null);
        queueMicrotask(entered.leave); // StrictMode enters again before that, so no leave is sent
      };
    }, [presence, id, type]);
    return createElement(RoomContext.Provider, { value: room }, children);
  }

  /**
   * @param {(snapshot: RoomSnapshot) => any} [select]
   * @param {(a: any, b: any) => boolean} [isEqual]
   */
  function useSnapshot(select = selectAll, isEqual = isSame) {
    const room = useRoom();
    const last = useRef({});
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
    return useSyncExternalStore(room?.subscribe ?? subscribeToNothing, getSelected, getSelected);
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

  /** @type {PresenceHooks["useCursor"]} */
  function useCursor(time, target) {
    const room = useRoom();
    useEffect(() => () => room?.updateCursor(null), [room]);
    return {
      onPointerMove({ clientX, clientY, currentTarget }) {
        const { left, top, width, height } = currentTarget.getBoundingClientRect();
        room?.updateCursor({ timestamp: time?.(), x: (clientX - left) / width, y: (clientY - top) / height, target });
      },
      onPointerLeave: () => room?.updateCursor(null),
    };
  }

  /** @type {PresenceHooks["useTyping"]} */
  function useTyping(context) {
    const room = useRoom();
    const people = useOthers((others) => others.filter((person) => person.isTyping && (!context || person.typingContext === context)));
    return [people, useCallback((/** @type {boolean} */ isTyping) => room?.typing(isTyping, context), [room, context])];
  }

  /** @type {PresenceHooks["usePlayback"]} */
  function usePlayback() {
    const room = useRoom();
    const [playback, controller, requests, synced, following, syncEnabled] = useSnapshot(selectPlayback);
    const attach = useCallback(
      (/** @type {MediaElement | Player | null} */ player) => (player && room ? room.attach(player) : undefined),
      [room],
    );
    return {
      playback, controller, requests, synced, following, syncEnabled, attach,
      mayControl: Boolean(room?.mayControl),
      position: (serverTime) => room?.position(serverTime) ?? 0,
      command: (/** @type {PlaybackCommand} */ command) => room?.playback(command),
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
    return {
      medium, isOther, cursors, selections, attach,
      position: (serverTime) => (room?.position(serverTime) ?? 0) + (medium?.offset ?? 0),
    };
  }

  return { RoomProvider, useRoom, useSnapshot, useOthers, useSelf, useCursor, useTyping, usePlayback, useTarget };
}
