/** `<koko-marks for="video">`: under a timeline, the position of each person in the video, and the selected ranges. */
import type { Person } from "../types.js";
import { KokoElement } from "./element.js";
export type PlacedMark = {
    userId: string;
    person: Person;
    at: number;
    rank: number;
};
/**
 * A mark and its place. `rank` is its number in its group; those beyond the largest are hidden.
 * @typedef {{ userId: string, person: Person, at: number, rank: number }} PlacedMark
 */
/** `<koko-marks for="video">`: under a timeline, as wide as it. */
export declare class KokoMarks extends KokoElement {
    #private;
    constructor();
    /** @protected */
    protected attached(): void;
    /** @protected */
    protected draw(): boolean;
}
