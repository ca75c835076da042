/**
 * `<koko-devtools>`: a panel for developers with the connection, the rooms, the messages, the drift of the own player, and the
 * latency from pointer to frame. `import` it once, then `element.presence = presence`. Nothing of it is in the other entries.
 */
/// <reference path="ui/devtools-tag.d.ts" preserve="true" />
import type { Presence } from "./types.js";
import { PointerLatency } from "./pointer-latency.js";
declare const PageElement: {
    new (): HTMLElement;
    prototype: HTMLElement;
};
export declare class KokoDevtools extends PageElement {
    #private;
    constructor();
    get presence(): Presence<any> | null | undefined;
    /** May be set before or after the element is in the page; null removes it. */
    set presence(presence: Presence<any> | null | undefined);
    connectedCallback(): void;
    disconnectedCallback(): void;
}
export { PointerLatency };
