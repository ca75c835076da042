/** `<koko-watch reactions="👍 ❤️ 😂">`: the controller, the state of each viewer, and reactions. */
import type { Answer, Room } from "../types.js";
import { KokoElement } from "./element.js";
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
