/** `<koko-avatars max="3">`: the people in the room, one entry each; "+2 more" opens the list of all. */
import { KokoElement } from "./element.js";
/** `<koko-avatars max="3">`. Fires `koko-person` when a person is chosen in the list. */
export declare class KokoAvatars extends KokoElement {
    #private;
    constructor();
    /** @protected */
    protected attached(): void;
    /** @protected */
    protected draw(): void;
}
