/** `<koko-marks for="video">`: under a timeline, the position of each person in a target, and the ranges selected there. */
import type { Person, Selection } from "../types.js";
import { KokoElement } from "./element.js";
export type PlacedMark = {
    userId: string;
    person: Person;
    at: number;
    rank: number;
};
export type ShownSelection = {
    userId: string;
    person: Person;
    selection: Selection;
};
/**
 * A mark and its place. `rank` is its number in its group; those beyond the largest are hidden.
 * @typedef {{ userId: string, person: Person, at: number, rank: number }} PlacedMark
 */
/**
 * A selected range of a person.
 * @typedef {{ userId: string, person: Person, selection: Selection }} ShownSelection
 */
/** `<koko-marks for="video" target="main">`: under a timeline, as wide as it. */
export declare class KokoMarks extends KokoElement {
    #private;
    constructor();
    /** @protected */
    protected attached(): void;
    /** @protected */
    protected draw(): boolean;
}
