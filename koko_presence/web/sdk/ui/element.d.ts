/**
 * The base class of the components: their room, their shadow root with the shared style sheet, their live region, and when
 * they draw.
 */
import type { Person, Room, RoomSnapshot } from "../types.js";
/** Where a server renders, there is no HTMLElement to extend, and no element is made. */
declare const PageElement: {
    new (): HTMLElement;
    prototype: HTMLElement;
};
/**
 * Properties of all components. `room` may be set before or after the element is in the page; null removes it. The element that
 * `for` names may come later and go away: the component waits for it.
 */
export declare class KokoElement extends PageElement {
    #private;
    static observedAttributes: string[];
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
     * The element is in the page, with or without a room; what is done here is undone with `keep`.
     * @protected
     */
    protected connected(): void;
    /**
     * Shows the snapshot.
     * @protected
     * @returns {boolean | void} True: the next frame is wanted although no event will come.
     */
    protected draw(): boolean | void;
    /**
     * The element that the attribute `for` names, in the shadow root of this element, in those around it, or in the document; null
     * while it is not there.
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
    protected get snapshot(): RoomSnapshot<import("../types.js").AppTypes>;
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
    protected personOf(userId: string | null): Person<import("../types.js").AppTypes> | undefined;
    /**
     * @protected
     * @param {Person} person
     */
    protected nameOf(person: Person): string;
    /**
     * The texts in the language of the element.
     * @protected
     */
    protected get texts(): {
        guest: string;
        you: (name: string) => string;
        active: string;
        idle: string;
        away: string;
        busy: string;
        reviewing: string;
        reconnecting: string;
        viewing: string;
        here: (count: number) => string;
        more: (count: number) => string;
        everybodyHere: string;
        joined: (names: string[]) => string;
        left: (names: string[]) => string;
        typing: (names: string[]) => string;
        titles: (titles: string[]) => string;
        fullScreen: string;
        exitFullScreen: string;
        controller: string;
        nobody: string;
        youHaveControl: string;
        takeControl: string;
        requestControl: string;
        cancelRequest: string;
        releaseControl: string;
        asksForControl: (name: string) => string;
        grant: string;
        deny: string;
        everyoneCanPlay: string;
        moderatorsCanPlay: string;
        takeControlToPlay: string;
        youCanWatch: string;
        control: (name: string) => string;
        nobodyHasControl: string;
        viewers: string;
        viewersSynced: (synced: number, total: number) => string;
        waitingFor: (names: string[]) => string;
        resync: string;
        clickToPlay: string;
        ended: string;
        ready: string;
        synced: string;
        playing: string;
        paused: string;
        buffering: string;
        atTheEnd: string;
        behind: (seconds: number) => string;
        ahead: (seconds: number) => string;
        otherVersion: string;
        controlling: string;
        notWatching: string;
        react: string;
        reactWith: (emoji: string) => string;
        connecting: (reason: string) => string;
        connectionLost: (reason: string) => string;
        connectionClosed: (reason: string) => string;
        youLeft: string;
        backInSession: (seconds: number) => string;
        backInNewSession: (seconds: number) => string;
        errors: Record<string, string>;
    };
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
    /** @protected */
    protected attributeChangedCallback(): void;
    /**
     * For the frame loop.
     * @param {number} now
     * @param {number} elapsedS Since the last frame.
     * @returns {boolean} Whether the next frame is wanted.
     */
    frame(now: number, elapsedS: number): boolean;
}
export {};
