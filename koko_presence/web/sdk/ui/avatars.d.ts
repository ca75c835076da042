/** `<koko-avatars max="3">`: what the room shows, and the people in it, one entry each; "+2 more" opens the list of all. */
import type { Presence } from "../types.js";
import { KokoElement } from "./element.js";
/**
 * `<koko-avatars max="3" target="film-7">`: with `target` only the people whose cursor or selection is in that target, without
 * the title. Fires `koko-person` when a person is chosen in the list. Without a `room`, but with a `presence` and the attribute
 * `room-id`: who is in that room, which is not entered.
 */
export declare class KokoAvatars extends KokoElement {
    #private;
    constructor();
    get presence(): Presence<any> | null | undefined;
    set presence(presence: Presence<any> | null | undefined);
    /** @protected */
    protected connected(): void;
    /** @protected */
    protected attached(): void;
    /** @protected */
    protected draw(): void;
}
