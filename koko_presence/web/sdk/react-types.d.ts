/** The types of the React hooks; react.js is checked against them. */

import type {
  Answer, Attachment, MediaElement, Medium, Member, Person, Playback, PlaybackCommand, Player, Presence, Privacy, Room, RoomSnapshot,
  RoomType,
} from "./types.js";

/** The used part of React; the `React` of your page has it. */
export interface ReactLike {
  createContext: Function;
  createElement: Function;
  useCallback: Function;
  useContext: Function;
  useEffect: Function;
  useRef: Function;
  useState: Function;
  useSyncExternalStore: Function;
}

export interface RoomProviderProps {
  presence: Presence;
  /** The room's id; a new id leaves this room and enters the other. */
  id: string;
  type?: RoomType;
  privacy?: Privacy;
  children?: any;
}

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

export interface PresenceHooks {
  /** Enters the room while it is mounted; all components below it may use the hooks. */
  RoomProvider: (props: RoomProviderProps) => any;
  /** The room, or null before the first effect. */
  useRoom(): Room | null;
  /** Any part of the snapshot. Renders when it changes by `isEqual` (default: the same, or arrays of the same). */
  useSnapshot(): RoomSnapshot;
  useSnapshot<T>(select: (snapshot: RoomSnapshot) => T, isEqual?: (a: T, b: T) => boolean): T;
  /** The other people, or the result of `select`. */
  useOthers(): readonly Person[];
  useOthers<T>(select: (others: readonly Person[]) => T, isEqual?: (a: T, b: T) => boolean): T;
  /** The local user; null before the first snapshot. */
  useSelf(): Person | null;
  useSelf<T>(select: (self: Person) => T, isEqual?: (a: T, b: T) => boolean): T | null;
  /** Handlers for the element over which your cursor is shown; `time` returns the second of the video, `target` as in `useTarget`. */
  useCursor(time?: () => number, target?: string): {
    onPointerMove(event: { clientX: number; clientY: number; currentTarget: Element }): void;
    onPointerLeave(): void;
  };
  /** The people who type (in this context), and the function to call at each key press (true) and at the end (false). */
  useTyping(context?: string): [readonly Person[], (isTyping: boolean) => void];
  usePlayback(): PlaybackHook;
  /** One target of the room, by default `main`. Renders when a cursor or selection there changes. `mediaId`: the film in the player. */
  useTarget(target?: string, options?: { mediaId?: string | undefined }): TargetHook;
}
