/**
 * The presence object of a room with the interface of y-protocols' Awareness, for editor bindings such as
 * y-codemirror.next, y-prosemirror and y-quill. The document itself is synchronised by a provider of yours.
 */
import type { Room } from "./types.js";
export type State = {
    [field: string]: any;
};
export type Changes = {
    added: number[];
    updated: number[];
    removed: number[];
};
export type Shown = {
    clientID: number;
    state: State;
};
export type Listener = (...args: any[]) => void;
export declare class Awareness {
    #private;
    /** The document, of which only the id of the client is used. */
    doc: {
        clientID: number;
    };
    /** @type {number} */
    clientID: number;
    /**
     * The own state, and that of each other session in the room.
     * @type {Map<number, State>}
     */
    states: Map<number, State>;
    /**
     * How often each has changed, and when it did last, in ms since 1970.
     * @type {Map<number, { clock: number, lastUpdated: number }>}
     */
    meta: Map<number, {
        clock: number;
        lastUpdated: number;
    }>;
    /**
     * @param {Room<any>} room
     * @param {{ clientID: number }} doc A Y.Doc.
     * @param {{ key?: string }} [options] The key of the presence object that it uses, where a room has several documents.
     */
    constructor(room: Room<any>, doc: {
        clientID: number;
    }, { key }?: {
        key?: string;
    });
    getStates(): Map<number, State>;
    /** @returns {State | null} Null while the session shows no state. */
    getLocalState(): State | null;
    /** @param {State | null} state Null: others do not see this session's state any more. */
    setLocalState(state: State | null): void;
    /**
     * @param {string} field
     * @param {unknown} value
     */
    setLocalStateField(field: string, value: unknown): void;
    /**
     * `change` when a state has changed, `update` also when it was set to the same: with the changes, and "local" or the room.
     * @param {string} name
     * @param {Listener} listener
     */
    on(name: string, listener: Listener): Listener;
    /**
     * @param {string} name
     * @param {Listener} listener
     */
    once(name: string, listener: Listener): void;
    /**
     * @param {string} name
     * @param {Listener} listener
     */
    off(name: string, listener: Listener): void;
    /**
     * @param {string} name
     * @param {unknown[]} args
     */
    emit(name: string, args: unknown[]): void;
    destroy(): void;
}
