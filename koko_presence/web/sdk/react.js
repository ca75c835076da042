/** Hooks for React 19, made with the page's own React: `createHooks(React)`. The types are in react.d.ts. */

const EMPTY = {
  status: "connecting", error: null, self: null, others: [], playback: null, syncEnabled: false, controller: null,
  controllerSessionId: null, requests: [], synced: null, following: true,
};

/** The same value, or arrays of the same values: an equal result of a selector causes no render. */
const same = (a, b) =>
  Object.is(a, b) || (Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((each, i) => Object.is(each, b[i])));
const all = (value) => value;
/** The state of usePlayback, the local user last because of `mayControl`; not the others, whose cursors change. */
const watching = ({ playback, controller, requests, synced, following, syncEnabled, self }) =>
  [playback, controller, requests, synced, following, syncEnabled, self?.userId];
const never = () => () => {};

export function createHooks(React) {
  const { createContext, createElement, useCallback, useContext, useEffect, useRef, useState, useSyncExternalStore } = React;
  const Context = createContext(null);
  const useRoom = () => useContext(Context);

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
    return createElement(Context.Provider, { value: room }, children);
  }

  function useSnapshot(select = all, isEqual = same) {
    const room = useRoom();
    const last = useRef({});
    const get = () => {
      const snapshot = room?.getSnapshot() ?? EMPTY;
      const { current } = last;
      if (current.snapshot !== snapshot || current.select !== select) {
        const value = select(snapshot);
        last.current = { snapshot, select, value: current.select && isEqual(current.value, value) ? current.value : value };
      }
      return last.current.value;
    };
    return useSyncExternalStore(room?.subscribe ?? never, get, get);
  }

  const useOthers = (select = all, isEqual) => useSnapshot(useCallback(({ others }) => select(others), [select]), isEqual);
  const useSelf = (select = all, isEqual) => useSnapshot(useCallback(({ self }) => self && select(self), [select]), isEqual);

  function useCursor(time) {
    const room = useRoom();
    useEffect(() => () => room?.updateCursor(null), [room]);
    return {
      onPointerMove({ clientX, clientY, currentTarget }) {
        const { left, top, width, height } = currentTarget.getBoundingClientRect();
        room?.updateCursor({ timestamp: time?.(), x: (clientX - left) / width, y: (clientY - top) / height });
      },
      onPointerLeave: () => room?.updateCursor(null),
    };
  }

  function useTyping(context) {
    const room = useRoom();
    const people = useOthers((others) => others.filter((person) => person.isTyping && (!context || person.typingContext === context)));
    return [people, useCallback((isTyping) => room?.typing(isTyping, context), [room, context])];
  }

  function usePlayback() {
    const room = useRoom();
    const [playback, controller, requests, synced, following, syncEnabled] = useSnapshot(watching);
    const attach = useCallback((video) => (video && room ? room.attach(video) : undefined), [room]);
    return {
      playback, controller, requests, synced, following, syncEnabled, attach,
      mayControl: !!room?.mayControl,
      position: (at) => room?.position(at) ?? 0,
      command: (command) => room?.playback(command),
    };
  }

  return { RoomProvider, useRoom, useSnapshot, useOthers, useSelf, useCursor, useTyping, usePlayback };
}
