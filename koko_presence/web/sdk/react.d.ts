/**
 * Hooks for React 19, made with the page's own React: `createHooks(React)`. Applications import it beside presence.js; it
 * uses the public interface of rooms only.
 */
import type { AppTypes } from "./types.js";
export type ReactLike = import("./react-types.js").ReactLike;
export type PlaybackHook = import("./react-types.js").PlaybackHook;
export type TargetHook = import("./react-types.js").TargetHook;
export type ConnectionLoss = import("./react-types.js").ConnectionLoss;
export type RoomProviderProps<App extends AppTypes = AppTypes> = import("./react-types.js").RoomProviderProps<App>;
export type PresenceHooks<App extends AppTypes = AppTypes> = import("./react-types.js").PresenceHooks<App>;
/**
 * @template {AppTypes} [App=AppTypes]
 * @param {ReactLike} React The page's own.
 * @returns {PresenceHooks<App>}
 */
export declare function createHooks<App extends AppTypes = AppTypes>(React: ReactLike): PresenceHooks<App>;
