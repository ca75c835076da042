/** `<koko-cursors for="video">`: the cursors in a target, and reactions, over its picture; sends the own cursor. */
import type { Member, Person, Playback, Room } from "../types.js";
import { KokoElement } from "./element.js";
/** The overlays in the page, so that <koko-watch> can show the own reactions, which the server does not send back. */
export declare const overlays: Set<KokoCursors>;
/**
 * Position of a mouse event, 0 to 1 of the letter-boxed picture of `media`; null outside of it.
 * @param {Element} media
 * @param {{ clientX: number, clientY: number }} event
 * @returns {{ x: number, y: number } | null}
 */
export declare function pointOn(media: Element, { clientX, clientY }: {
    clientX: number;
    clientY: number;
}): {
    x: number;
    y: number;
} | null;
export type ShownCursor = {
    element: HTMLElement;
    /**
     * The last one that was heard.
     */
    cursor: Member["cursor"];
    /**
     * Time of the frame in which it was heard first.
     */
    heardAt: number;
    /**
     * Time of the last frame in which it was drawn.
     */
    drawnAt: number;
    springs: {
        x: {
            at: number;
            speed: number;
        };
        y: {
            at: number;
            speed: number;
        };
    } | undefined;
};
export type Frame = {
    now: number;
    elapsedS: number;
    /**
     * Of the picture, px of this element.
     */
    rect: {
        left: number;
        top: number;
        width: number;
        height: number;
    };
    /**
     * Whether cursors jump to their position.
     */
    jump: boolean;
    playback: Playback | null;
};
/**
 * A cursor in the page.
 * @typedef {object} ShownCursor
 * @property {HTMLElement} element
 * @property {Member["cursor"]} cursor The last one that was heard.
 * @property {number} heardAt Time of the frame in which it was heard first.
 * @property {number} drawnAt Time of the last frame in which it was drawn.
 * @property {{ x: { at: number, speed: number }, y: { at: number, speed: number } } | undefined} springs
 */
/**
 * What all cursors of one frame have in common.
 * @typedef {object} Frame
 * @property {number} now
 * @property {number} elapsedS
 * @property {{ left: number, top: number, width: number, height: number }} rect Of the picture, px of this element.
 * @property {boolean} jump Whether cursors jump to their position.
 * @property {Playback | null} playback
 */
/** `<koko-cursors for="video" target="main" receive-only>`: above the picture of the element that `for` names. */
export declare class KokoCursors extends KokoElement {
    #private;
    constructor();
    /**
     * @protected
     * @param {Room} room
     */
    protected attached(room: Room): void;
    /**
     * For the frame loop.
     * @param {number} now
     * @param {number} elapsedS
     */
    frame(now: number, elapsedS: number): boolean;
    /**
     * Lets a reaction rise over the picture, with or without a person.
     * @param {string} emoji
     * @param {Pick<Person, "name"> | null} [person]
     */
    float(emoji: string, person?: Pick<Person, "name"> | null): void;
}
