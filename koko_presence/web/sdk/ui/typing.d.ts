/** `<koko-typing context="comment">`: "Jane is typing..." */
import { KokoElement } from "./element.js";
/** `<koko-typing context="comment">`; without `context` of every kind. */
export declare class KokoTyping extends KokoElement {
    #private;
    constructor();
    /** @protected */
    protected draw(): void;
}
