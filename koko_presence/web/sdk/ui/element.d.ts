/**
 * The base class of the components: their room, their shadow root with the shared style sheet, their live region, and when
 * they draw.
 */
import type { Person, Room, RoomSnapshot } from "../types.js";
/**
 * Loads the one style sheet of all shadow roots. The components are hidden until it is loaded.
 * @param {URL} url
 */
export declare function loadStyles(url: URL): Promise<void>;
/** Where a server renders, there is no HTMLElement to extend, and no element is made. */
declare const PageElement: {
    new (): HTMLElement;
    prototype: HTMLElement;
};
/** Properties of all components. `room` may be set before or after the element is in the page; null removes it. */
export declare class KokoElement extends PageElement {
    #private;
    constructor();
    get room(): Room<import("../types.js").AppTypes> | null | undefined;
    set room(room: Room<import("../types.js").AppTypes> | null | undefined);
    /**
     * The element is in the page and has a room; what is done here is undone with `keep`.
     * @protected
     * @param {Room} room
     */
    protected attached(room: Room): void;
    /**
     * Shows the snapshot.
     * @protected
     * @returns {boolean | void} True: the next frame is wanted although no event will come.
     */
    protected draw(): boolean | void;
    /**
     * The element that the attribute `for` names.
     * @protected
     */
    protected get target(): HTMLElement | null;
    /**
     * The room's target that the element shows: its attribute `target`.
     * @protected
     */
    protected get roomTarget(): string;
    /**
     * The state of the room to show; empty after it was left, because its state is stale then.
     * @protected
     */
    protected get snapshot(): RoomSnapshot;
    /**
     * All people, the local user first.
     * @protected
     * @returns {readonly Person[]}
     */
    protected get people(): readonly Person[];
    /**
     * @protected
     * @param {string | null} userId
     */
    protected personOf(userId: string | null): Person | undefined;
    /**
     * @protected
     * @param {Person} person
     */
    protected nameOf(person: Person): string;
    /**
     * Announces a text in the live region, at most every 5 s; `makeText` is called then.
     * @protected
     * @param {() => string | undefined} makeText
     */
    protected announce(makeText: () => string | undefined): void;
    /**
     * Keeps a function to call when the room or the element is removed.
     * @protected
     * @param {() => void} undo
     */
    protected keep(undo: () => void): void;
    /**
     * Listens to events until the room or the element is removed.
     * @protected
     * @param {EventTarget | null} target
     * @param {string[]} types
     * @param {(event: any) => void} listener
     */
    protected listen(target: EventTarget | null, types: string[], listener: (event: any) => void): void;
    /** @protected */
    protected connectedCallback(): void;
    /** @protected */
    protected disconnectedCallback(): void;
    /**
     * For the frame loop.
     * @param {number} now
     * @param {number} elapsedS Since the last frame.
     * @returns {boolean} Whether the next frame is wanted.
     */
    frame(now: number, elapsedS: number): boolean;
}
export {};
