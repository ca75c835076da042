/**
 * Hooks for React 19, made with the page's own React: `createHooks(React)`. Applications import it beside presence.js; it
 * uses the public interface of rooms only.
 */
export type ReactLike = import("./react-types.js").ReactLike;
export type RoomProviderProps = import("./react-types.js").RoomProviderProps;
export type PlaybackHook = import("./react-types.js").PlaybackHook;
export type TargetHook = import("./react-types.js").TargetHook;
export type ConnectionLoss = import("./react-types.js").ConnectionLoss;
export type PresenceHooks = import("./react-types.js").PresenceHooks;
/**
 * @param {ReactLike} React The page's own.
 * @returns {PresenceHooks}
 */
export declare function createHooks(React: ReactLike): PresenceHooks;
