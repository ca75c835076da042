/**
 * The entry of the SDK: `createPresence` makes the object with which an application enters rooms. All rooms share one
 * connection. The protocol is in docs/protocol.md, the interface in types.d.ts.
 */
export type RoomType = import("./types.js").RoomType;
export type Status = import("./types.js").Status;
export type Activity = import("./types.js").Activity;
export type ConnectionStatus = import("./types.js").ConnectionStatus;
export type PresenceStatus = import("./types.js").PresenceStatus;
export type Transport = import("./types.js").Transport;
export type Cursor = import("./types.js").Cursor;
export type Selection = import("./types.js").Selection;
export type ViewerSync = import("./types.js").ViewerSync;
export type Playback = import("./types.js").Playback;
export type ControlRequest = import("./types.js").ControlRequest;
export type AppTypes = import("./types.js").AppTypes;
export type ErrorCode = import("./types.js").ErrorCode;
export type PresenceError = import("./types.js").PresenceError;
export type Privacy = import("./types.js").Privacy;
export type PlaybackCommand = import("./types.js").PlaybackCommand;
export type PlaybackReport = import("./types.js").PlaybackReport;
export type Traffic = import("./types.js").Traffic;
export type Undo = import("./types.js").Undo;
export type Clock = import("./types.js").Clock;
export type AttachOptions = import("./types.js").AttachOptions;
export type Attachment = import("./types.js").Attachment;
export type MediaElement = import("./types.js").MediaElement;
export type Medium = import("./types.js").Medium;
export type MediumChange = import("./types.js").MediumChange;
export type Player = import("./types.js").Player;
export type PlayerAbilities = import("./types.js").PlayerAbilities;
export type PlayerEvent = import("./types.js").PlayerEvent;
export type PlayerState = import("./types.js").PlayerState;
export type ShownFrame = import("./types.js").ShownFrame;
export type RoomSummary = import("./types.js").RoomSummary;
export type RoomWatch = import("./types.js").RoomWatch;
export type PresenceEvents = import("./types.js").PresenceEvents;
export type PresenceOptions = import("./types.js").PresenceOptions;
export type RoomEvent<Type extends string, Data> = import("./types.js").RoomEvent<Type, Data>;
export type Member<App extends AppTypes = AppTypes> = import("./types.js").Member<App>;
export type Person<App extends AppTypes = AppTypes> = import("./types.js").Person<App>;
export type PresenceObject<App extends AppTypes = AppTypes> = import("./types.js").PresenceObject<App>;
export type PresencePatch<App extends AppTypes = AppTypes> = import("./types.js").PresencePatch<App>;
export type RoomSnapshot<App extends AppTypes = AppTypes> = import("./types.js").RoomSnapshot<App>;
export type EnterOptions<App extends AppTypes = AppTypes> = import("./types.js").EnterOptions<App>;
export type RoomEvents<App extends AppTypes = AppTypes> = import("./types.js").RoomEvents<App>;
export type Room<App extends AppTypes = AppTypes> = import("./types.js").Room<App>;
export type Presence<App extends AppTypes = AppTypes> = import("./types.js").Presence<App>;
export type Answer<Result = {}> = import("./types.js").Answer<Result>;
/**
 * Makes a presence. It connects when the first room is entered.
 * @template {AppTypes} [App=AppTypes]
 * @param {PresenceOptions} options
 * @returns {Presence<App>}
 * @throws {TypeError} If an option is missing or wrong.
 */
export declare function createPresence<App extends AppTypes = AppTypes>(options: PresenceOptions): Presence<App>;
