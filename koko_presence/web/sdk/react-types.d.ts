/** The types of the React hooks; react.js is checked against them. */

import type {
  Answer, AppTypes, Attachment, ConnectionStatus, MediaElement, Medium, Member, Person, Playback, PlaybackCommand, Player, Presence,
  PresenceError, PresenceObject, PresencePatch, Privacy, Room, RoomEvents, RoomSnapshot, RoomSummary, RoomType,
} from "./types.js";

/** The used part of React; the `React` of your page has it. */
export interface ReactLike {
  Suspense: unknown;
  createContext: Function;
  createElement: Function;
  use: Function;
  useCallback: Function;
  useContext: Function;
  useEffect: Function;
  useRef: Function;
  useState: Function;
  useSyncExternalStore: Function;
}

export interface RoomProviderProps<App extends AppTypes = AppTypes> {
  presence: Presence<App>;
  /** The room's id; a new id leaves this room and enters the other. */
  id: string;
  type?: RoomType;
  /** A change applies at once, as by `room.setPrivacy`; a field that is not named any more has its default. */
  privacy?: Privacy | undefined;
  /** Your presence object at first; a later change of this property changes nothing, see `useMyPresence`. */
  initialPresence?: PresenceObject<App> | undefined;
  /** Shown in place of the children on a server, before the first effect, and while a child suspends (`useLiveRoom`). */
  fallback?: any;
  children?: any;
}

/**
 * `lost`: a room that was live has not been for some seconds; it reconnects. `restored`: it is live after that. `failed`: it is
 * closed for good, see `useError`.
 */
export type ConnectionLoss = "lost" | "restored" | "failed";

export interface PlaybackHook extends Pick<RoomSnapshot, "playback" | "controller" | "requests" | "synced" | "following" | "syncEnabled"> {
  /** For `<video ref={attach}>`: keeps it in step. */
  attach(player: MediaElement | Player | null): Attachment | undefined;
  mayControl: boolean;
  position(serverTime?: number): number;
  command(command: PlaybackCommand): Promise<Answer<Partial<Playback>>> | undefined;
}

export interface TargetHook {
  /** The room's film at the target; undefined without one. */
  medium: Medium | undefined;
  /** The attached player has another film than the room: `mediaId` is not that of `medium`. */
  isOther: boolean;
  /** The sessions of others whose cursor is in this target, and in the film that is shown here: `cursor`, `color`, `name`... */
  cursors: readonly Member[];
  /** The sessions of others with a `selection` there. */
  selections: readonly Member[];
  /** For `<video ref={attach}>`: keeps it in step with this target. */
  attach(player: MediaElement | Player | null): Attachment | undefined;
  /** Second of the film at which the room is, now or at a server time in ms. */
  position(serverTime?: number): number;
}

export interface PresenceHooks<App extends AppTypes = AppTypes> {
  /** Enters the room while it is mounted; all components below it may use the hooks. */
  RoomProvider: (props: RoomProviderProps<App>) => any;
  /** The presence for `useRooms` outside of a RoomProvider. */
  PresenceProvider: (props: { presence: Presence<App>; children?: any }) => any;
  /**
   * Who is in these rooms, without entering them: by room id; a room without a summary yet, or one that you may not enter, is
   * absent. Renders when one of them changes. Throws outside of a PresenceProvider or RoomProvider.
   */
  useRooms(roomIds: readonly string[]): Readonly<Record<string, RoomSummary>>;
  /** The room, or null before the first effect. Like all hooks, an error outside of a RoomProvider. */
  useRoom(): Room<App> | null;
  /**
   * The room, live: suspends until it is, inside a RoomProvider with a `fallback`. `useSelf` has a value then. A room that
   * cannot be entered throws, for an error boundary; a later loss of the connection does neither.
   */
  useLiveRoom(): Room<App>;
  /**
   * Any part of the snapshot. Renders when it changes by `isEqual` (default: the same, or arrays or plain objects of the same),
   * at most once a frame.
   */
  useSnapshot(): RoomSnapshot<App>;
  useSnapshot<T>(select: (snapshot: RoomSnapshot<App>) => T, isEqual?: (a: T, b: T) => boolean): T;
  /** The other people, or the result of `select`. */
  useOthers(): readonly Person<App>[];
  useOthers<T>(select: (others: readonly Person<App>[]) => T, isEqual?: (a: T, b: T) => boolean): T;
  /** Another user by id, or one session by its id, or the result of `select`; null if there is none. */
  useOther(id: string | null | undefined): Member<App> | null;
  useOther<T>(id: string | null | undefined, select: (other: Member<App>) => T, isEqual?: (a: T, b: T) => boolean): T | null;
  /** Your own presence object, and `room.setPresence`, the same function as long as the room is. */
  useMyPresence(): [PresenceObject<App>, (patch: PresencePatch<App> | null) => boolean];
  /** The local user; null before the first snapshot. */
  useSelf(): Person<App> | null;
  useSelf<T>(select: (self: Person<App>) => T, isEqual?: (a: T, b: T) => boolean): T | null;
  /** `connecting` until the room is live for the first time. */
  useStatus(): ConnectionStatus;
  /** Why the room is not live; null while there is no reason. `listener` is called for each error, also for refused requests. */
  useError(listener?: (error: PresenceError) => void): PresenceError | null;
  /**
   * Whether the connection has been away for `afterMs` (default 5000), or for good. `listener` is called when that changes; it
   * may be another one at each render.
   */
  useLostConnection(listener?: (loss: ConnectionLoss) => void, options?: { afterMs?: number }): boolean;
  /** Calls `listener` for an event of the room; it may be another one at each render. */
  useEvent<E extends keyof RoomEvents<App>>(type: E, listener: (event: RoomEvents<App>[E]) => void): void;
  /** The function that sends a broadcast, the same one as long as the room is. `listener` is called for those of others. */
  useBroadcast(listener?: (event: RoomEvents<App>["broadcast"]) => void): Room<App>["broadcast"];
  /** Handlers for the element over which your cursor is shown; `time` returns the second of the video, `target` as in `useTarget`. */
  useCursor(time?: () => number, target?: string): {
    onPointerMove(event: { clientX: number; clientY: number; currentTarget: Element }): void;
    onPointerLeave(): void;
  };
  /**
   * The people who type (in this context), and the function to call at each key press (true) and at the end (false). It also
   * ends when the component is unmounted.
   */
  useTyping(context?: string): [readonly Person[], (isTyping: boolean) => void];
  usePlayback(): PlaybackHook;
  /** One target of the room, by default `main`. Renders when a cursor or selection there changes. `mediaId`: the film in the player. */
  useTarget(target?: string, options?: { mediaId?: string | undefined }): TargetHook;
}
