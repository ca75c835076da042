/** The English texts of the components: every text of the kit, and the shape of the tables of other languages. */
/** Every text of the kit. Names are those of users, as shown. */
export declare const ENGLISH: {
    /** A user whose name has nothing to see. */
    guest: string;
    /** The own entry in a list. */
    you: (/** @type {string} */ name: string) => string;
    active: string;
    idle: string;
    away: string;
    busy: string;
    reviewing: string;
    /** A user whose connection is lost and may come back. */
    reconnecting: string;
    /** Before the title of the room. */
    viewing: string;
    here: (/** @type {number} */ count: number) => string;
    more: (/** @type {number} */ count: number) => string;
    everybodyHere: string;
    joined: (/** @type {string[]} */ names: string[]) => string;
    left: (/** @type {string[]} */ names: string[]) => string;
    typing: (/** @type {string[]} */ names: string[]) => string;
    /** The titles of several films. */
    titles: (/** @type {string[]} */ titles: string[]) => string;
    fullScreen: string;
    exitFullScreen: string;
    controller: string;
    nobody: string;
    youHaveControl: string;
    takeControl: string;
    requestControl: string;
    cancelRequest: string;
    releaseControl: string;
    asksForControl: (/** @type {string} */ name: string) => string;
    grant: string;
    deny: string;
    everyoneCanPlay: string;
    moderatorsCanPlay: string;
    takeControlToPlay: string;
    youCanWatch: string;
    /** For screen readers. */
    control: (/** @type {string} */ name: string) => string;
    nobodyHasControl: string;
    viewers: string;
    viewersSynced: (/** @type {number} */ synced: number, /** @type {number} */ total: number) => string;
    waitingFor: (/** @type {string[]} */ names: string[]) => string;
    resync: string;
    clickToPlay: string;
    /** The room has reached the end of its film. */
    ended: string;
    /** The state of a viewer. */
    ready: string;
    synced: string;
    playing: string;
    paused: string;
    buffering: string;
    atTheEnd: string;
    behind: (/** @type {number} */ seconds: number) => string;
    ahead: (/** @type {number} */ seconds: number) => string;
    otherVersion: string;
    controlling: string;
    notWatching: string;
    react: string;
    reactWith: (/** @type {string} */ emoji: string) => string;
    /** The state of the connection; `reason` may be "". */
    connecting: (/** @type {string} */ reason: string) => string;
    connectionLost: (/** @type {string} */ reason: string) => string;
    connectionClosed: (/** @type {string} */ reason: string) => string;
    youLeft: string;
    /** After a loss of the connection: the others saw no leave, or they saw one. */
    backInSession: (/** @type {number} */ seconds: number) => string;
    backInNewSession: (/** @type {number} */ seconds: number) => string;
    /**
     * Texts for errors, by their code; without one an error is shown with the server's message.
     * @type {Record<string, string>}
     */
    errors: {};
};
export type Texts = typeof ENGLISH;
/** @typedef {typeof ENGLISH} Texts */
