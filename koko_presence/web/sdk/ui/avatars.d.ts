/** `<koko-avatars max="3">`: what the room shows, and the people in it, one entry each; "+2 more" opens the list of all. */
import { KokoElement } from "./element.js";
/**
 * `<koko-avatars max="3" target="film-7">`: with `target` only the people whose cursor or selection is in that target, without
 * the title. Fires `koko-person` when a person is chosen in the list.
 */
export declare class KokoAvatars extends KokoElement {
    #private;
    constructor();
    /** @protected */
    protected attached(): void;
    /** @protected */
    protected draw(): void;
}
