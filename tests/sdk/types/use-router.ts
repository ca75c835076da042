// Compiled, never run: the router's type, with the codes of refusals.
import type { PresenceErrorData, PresenceEvent, PresenceRouter } from "../../../koko_presence/web/sdk/presence-router.js";

export const isFull = ({ reason }: PresenceErrorData): boolean => reason === "ROOM_FULL";
// @ts-expect-error no such code
export const isFul = ({ reason }: PresenceErrorData): boolean => reason === "ROOM_FUL";
export const userOf = (event: PresenceEvent): string | undefined => ("userId" in event ? event.userId : undefined);
export const refusalOf = (event: PresenceEvent): string | undefined => (event.type === "error" ? event.code : undefined);
export type Join = PresenceRouter["presence"]["join"];
