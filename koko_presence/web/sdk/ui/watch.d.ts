/** `<koko-watch reactions="👍 ❤️ 😂">`: the controller, the state of each viewer, and reactions. */
import type { Answer, Room, RoomSnapshot } from "../types.js";
import { KokoElement } from "./element.js";
/**
 * Whether "Resync" would change what this page shows. Other sessions of the user do not count.
 * @param {Pick<RoomSnapshot, "self" | "following" | "playback">} snapshot
 */
export declare function needsResync({ self, following, playback }: Pick<RoomSnapshot, "self" | "following" | "playback">): boolean;
/** `<koko-watch reactions="👍 ❤️">`. */
export declare class KokoWatch extends KokoElement {
    #private;
    constructor();
    /**
     * @protected
     * @param {Room} room
     */
    protected attached(room: Room): void;
    /**
     * Broadcasts `{type: "reaction", emoji, timestamp}` and shows it here: the overlays of the same room let it rise.
     * @param {string} emoji
     * @returns {Promise<Answer<{ delivered: number }>>}
     */
    react(emoji: string): Promise<Answer<{
        delivered: number;
    }>>;
    /** @protected */
    protected draw(): void;
}
