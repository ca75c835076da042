/**
 * Latency where the user feels it: from the sender's pointer to the receiver's frame [N16]. A sender that measures says, beside
 * about one cursor in two seconds, when the pointer was there, in the server's time; a receiver that measures compares that
 * with the frame in which it has drawn this cursor. Both clocks are estimates of the server's, so the result is as exact as
 * they are, some ms.
 */
import type { Presence } from "./types.js";
export type Percentiles = {
    count: number;
    /**
     * ms
     */
    p50: number | null;
    /**
     * ms
     */
    p99: number | null;
};
/**
 * @typedef {object} Percentiles
 * @property {number} count
 * @property {number | null} p50 ms
 * @property {number | null} p99 ms
 */
/** The newest samples of one kind, ms. */
declare class Samples {
    #private;
    /** @param {number} value */
    add(value: number): void;
    /** @returns {Percentiles} */
    get percentiles(): Percentiles;
}
export declare class PointerLatency {
    #private;
    /** From the pointer of others, where they measure too, to the frame here. */
    pointerToFrame: Samples;
    /** From the server's receipt to the frame here, of all others. */
    serverToFrame: Samples;
    /** @param {Presence<any>} presence */
    constructor(presence: Presence<any>);
    stop(): void;
    /** Listens to rooms that are new, and no longer to those that are over. */
    followRooms(): void;
}
export {};
