/** `<koko-cursors for="video">`: the cursors in a target, and reactions, over its picture; sends the own cursor. */
import type { Affine } from "../picture-place.js";
import type { Member, Person, Playback, Room } from "../types.js";
import { KokoElement } from "./element.js";
/** The overlays in the page, so that <koko-watch> can show the own reactions, which the server does not send back. */
export declare const overlays: Set<KokoCursors>;
export type ShownCursor = {
    element: HTMLElement;
    /**
     * The name.
     */
    tag: HTMLElement;
    /**
     * As last shown.
     */
    person: Person | undefined;
    /**
     * Of the name, px; 0 until it is measured.
     */
    width: number;
    height: number;
    /**
     * See name-places.js.
     */
    spot: number;
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
     * Of the picture: 0 to 1 in each direction to px of this element.
     */
    place: Affine;
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
 * @property {HTMLElement} tag The name.
 * @property {Person | undefined} person As last shown.
 * @property {number} width Of the name, px; 0 until it is measured.
 * @property {number} height
 * @property {number} spot See name-places.js.
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
 * @property {Affine} place Of the picture: 0 to 1 in each direction to px of this element.
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
