// Compiled, never run: each call as its documentation shows it, and mistakes that must not compile.
import * as React from "react";
import {
  createPresence,
  type Answer,
  type Attachment,
  type ErrorCode,
  type Person,
  type Player,
  type Presence,
  type PresenceError,
  type Room,
  type RoomEvents,
  type RoomSnapshot,
} from "../../../koko_presence/web/sdk/presence.js";
import type { ProtocolEvents } from "../../../koko_presence/web/sdk/protocol.js";
import { createHooks } from "../../../koko_presence/web/sdk/react.js";

const controller = new AbortController();
const presence: Presence = createPresence({
  url: new URL("wss://host/presence"), auth: async () => "token", throttleMs: 50, idleMs: 1000, worker: "/sdk/timer.js",
  privacy: { invisible: true, scope: "user" }, signal: controller.signal, WebSocket,
});
createPresence({ url: "/presence", auth: () => "token", worker: false });
createPresence({ url: "/presence" }); // the cookie signs in
createPresence({ url: "/presence", auth: async () => null });
createPresence({ url: "/presence", auth: "/api/presence-token" });
// @ts-expect-error a token is a string
createPresence({ url: "/presence", auth: async () => 5 });

const room: Room = presence.enter("video_1", { type: "video", privacy: { shareCursor: false }, signal: controller.signal });
presence.enter("video_2");
// @ts-expect-error no such type of room
presence.enter("video_1", { type: "movie" });

const undo: () => void = room.on("cursor_moved", ({ userId, data }) => console.log(userId, data.timestamp, data.hidden, data.color));
undo();
room.on("user_left", ({ data }) => data.reason === "kicked" && data.sessionCount === 0);
room.on("broadcast", ({ data }) => data.type === "reaction");
room.on("error", (error: PresenceError) => error.code + error.retryAfterMs);
room.on("status", (status) => status === "reconnecting");
room.on("change", (snapshot: RoomSnapshot) => snapshot.others.length);
room.on("follow", ({ following, reason }) => reason === "loop" && following === false);
room.on("autoplay_blocked", ({ video }) => (video.controls = true));
room.on("viewer_sync", ({ data }) => data.state === "behind" && data.driftMs < 0 && data.synced < data.total);
// @ts-expect-error no such event
room.on("user_arrived", () => {});
// @ts-expect-error no such field
room.on("typing_started", ({ data }) => data.name);
presence.on("status", (status) => status === "idle");
presence.on("error", ({ closeCode }) => closeCode);

const others: readonly Person[] = room.others;
for (const person of others) {
  console.log(person.name, person.color, person.status === "busy", person.sessions.map(({ cursor, viewerSync }) => [cursor?.x, viewerSync?.driftMs]));
}
// @ts-expect-error snapshots are read-only
room.others.push(others[0]!);
// @ts-expect-error so are people
room.self!.name = "Me";

room.updateCursor({ timestamp: 1, x: 0.5, y: 0.5, target: "left" });
room.updateCursor(null);
// @ts-expect-error numbers are required
room.updateCursor({ x: "left" });
room.updateSelection({ startTime: 1, endTime: 2 });
room.updateSelection(null);
// @ts-expect-error endTime is missing
room.updateSelection({ startTime: 1 });
room.typing(true, "comment");
room.playback({ action: "report", isPlaying: true, currentTime: 1, playbackRate: 1, buffering: false, follow: true });
// @ts-expect-error a seek has a time
room.playback({ action: "seek" });
// @ts-expect-error no such status
room.setStatus("asleep");

async function answers() {
  const played = await room.playback({ action: "play", currentTime: 3 });
  if (played.success) console.log(played.version);
  else console.log(played.code, played.message, played.state);
  const asked: Answer<{ granted: boolean; controller: string | null }> = await room.requestControl();
  if (asked.success) console.log(asked.granted);
  // @ts-expect-error only if it was successful
  asked.granted;
  const { success } = await room.setStatus("reviewing", "scene 4");
  await room.setPrivacy({ invisible: success });
  await room.grantControl("jane");
  await room.denyControl("jane");
  await room.cancelRequest();
  await room.releaseControl();
  await room.broadcast({ type: "reaction", emoji: "👍" }, ["jane"]);
  const live: boolean = (await room.ready()) && (await room.follow("jane"));
  return live;
}
answers();

// errors: unions of codes
room.on("error", ({ code }) => code === "ROOM_FULL" || code === "OFFLINE");
// @ts-expect-error no such code
room.on("error", ({ code }) => code === "ROOM_FUL");
const codes = { ROOM_FULL: 1, TOKEN: 2 } satisfies Partial<Record<ErrorCode, number>>;

// an interface has no implicit index signature; it is accepted where data are taken
interface Reaction {
  type: "reaction";
  emoji: string;
}
interface Reply {
  type: "reply";
  id: number;
}
declare const reaction: Reaction;
room.broadcast(reaction);
room.broadcast({ type: "reaction", emoji: "👍" });
// @ts-expect-error an object
room.broadcast("👍");

// the application's own types
const typed = createPresence<{ broadcast: Reaction | Reply }>({ url: "/presence", auth: () => "token" });
const typedRoom: Room<{ broadcast: Reaction | Reply }> = typed.enter("video_1");
typedRoom.broadcast(reaction);
// @ts-expect-error no emoji
typedRoom.broadcast({ type: "reaction" });
typedRoom.on("broadcast", ({ data }) => (data.type === "reply" ? data.id.toFixed() : data.emoji.length));
// @ts-expect-error a number
typedRoom.on("broadcast", ({ data }) => data.type === "reply" && data.id.trim());
typedRoom.on("user_left", ({ data }) => data.reason === "left");
interface Mine {
  view: { x: number; zoom: number };
  tool?: "pen" | "hand";
}
const own = createPresence<{ presence: Mine }>({ url: "/presence", auth: () => "token" });
const ownRoom: Room<{ presence: Mine }> = own.enter("video_1", { presence: { tool: "pen" } });
// @ts-expect-error no such tool
own.enter("video_1", { presence: { tool: "brush" } });
ownRoom.setPresence({ tool: null, view: { x: 1, zoom: 2 } });
ownRoom.setPresence(null);
// @ts-expect-error a value is replaced as a whole
ownRoom.setPresence({ view: { x: 1 } });
// @ts-expect-error no such key
ownRoom.setPresence({ cursor: 1 });
const zoom: number | undefined = ownRoom.others[0]?.presence?.view?.zoom;
const mine: { readonly view?: { x: number; zoom: number } } = ownRoom.getSnapshot().presence;
ownRoom.on("presence_changed", ({ data }) => data.view?.zoom ?? (data.tool === null));
// @ts-expect-error immutable
ownRoom.self!.presence!.tool = "pen";
room.setPresence({ anything: [1, { nested: true }] });
const unknownValue: unknown = room.others[0]?.presence?.["anything"];
console.log(zoom, mine.view?.x, unknownValue);
const anyPresence: Presence<any> = typed;
const anyRoom: Room<any> = typedRoom;
console.log(codes, anyPresence.userId, anyRoom.id);

const detach: () => void = room.attach(document.createElement("video"), { correct: true, whenNotAllowed: "snap" });
detach();
const player: Player = {
  abilities: { canSetRate: false },
  getState: () => ({ paused: true, currentTime: 0, playbackRate: 1 }),
  play() {}, pause() {}, seek(seconds) { seconds.toFixed(); }, setRate(rate) { rate.toFixed(); },
  subscribe(listener) { listener("seeking"); return () => {}; },
};
const attachment: Attachment = room.attach(player, { target: "right", mediaId: "cut-7", outputOffset: 0.1, abilities: { frameAccurate: true } });
attachment.setOutputOffset(0.2);
attachment.setMediaId(undefined);
attachment();
// @ts-expect-error a player has six methods
room.attach({ play() {}, pause() {} });
// @ts-expect-error no such event
player.subscribe((type) => type === "volumechange");
room.step(-1).then((answer) => answer.success && answer.frame);
room.setMedia({ mediaId: "cut-7", frameRate: "24000/1001", offset: 2.4, target: "right" });
room.setMedia({ mediaId: null });
// @ts-expect-error mediaId is missing
room.setMedia({ frameRate: 25 });
room.playback({ action: "play", startDelayMs: "auto" });
room.on("media_changed", ({ data }) => data.medium?.title ?? data.target);
room.on("follow", ({ reason }) => reason === "reversals");
const { media, shownMedia, isBlocked, rights, settings } = room.getSnapshot();
console.log(media?.main?.frameRate, shownMedia.right, isBlocked, rights?.moderate, settings?.controlMode);
const second: number = room.position() + room.position(room.clock.now()) + room.clock.offset + room.clock.rtt;
const { playback, controller: holder, requests, synced, following, error, self } = room.getSnapshot();
console.log(second, playback?.anchor, holder, requests[0]?.requesterName, synced?.total, following, error?.code, self?.sessionId);
room.leave();
presence.close();

const {
  PresenceProvider, RoomProvider, useRooms, useRoom, useLiveRoom, useOthers, useSelf, useStatus, useError, useLostConnection, useEvent, useBroadcast, useCursor,
  useTyping, usePlayback, useSnapshot,
} = createHooks(React);
function Page() {
  const names: string[] = useOthers((people) => people.map((person) => person.name));
  const count: { n: number } = useOthers((people) => ({ n: people.length }), (a, b) => a.n === b.n);
  const everyone: readonly Person[] = useOthers();
  const me: string | null = useSelf((person) => person.name);
  const status = useSnapshot((snapshot) => snapshot.status);
  const [people, setTyping] = useTyping("comment");
  const { attach, command, position, mayControl } = usePlayback();
  const pointer = useCursor(() => 5);
  setTyping(true);
  const isLive: boolean = useStatus() === "live" && useLiveRoom().status === "live" && useError(({ code }) => code) === null;
  const isLost: boolean = useLostConnection((loss) => loss === "failed", { afterMs: 1000 });
  useEvent("user_left", ({ data }) => data.reason === "left");
  // @ts-expect-error no such event
  useEvent("user_arrived", () => {});
  const broadcast = useBroadcast(({ userId, data }) => console.log(userId, data.type, isLive, isLost));
  broadcast({ type: "reaction" }, ["jane"]).then((answer) => answer.success && answer.delivered);
  // @ts-expect-error a name is a string
  const wrong: number = useSelf((person) => person.name);
  return React.createElement("div", pointer, names, count.n, everyone.length, me, status, people.length, mayControl, position(), wrong,
    React.createElement("video", { ref: attach, onClick: () => command({ action: "pause" }) }), useRoom()?.id);
}
React.createElement(RoomProvider, { presence, id: "video_1", type: "video" }, React.createElement(Page));
React.createElement(RoomProvider, { presence, id: "video_1", privacy: { invisible: true }, fallback: "..." });

const typedHooks = createHooks<{ broadcast: Reaction | Reply }>(React);
function TypedPage() {
  const broadcast = typedHooks.useBroadcast(({ data }) => data.type === "reaction" && data.emoji.length);
  typedHooks.useEvent("broadcast", ({ data }) => data.type === "reply" && data.id.toFixed());
  // @ts-expect-error no emoji
  broadcast({ type: "reaction" });
  return String(typedHooks.useLiveRoom().id);
}
const ownHooks = createHooks<{ presence: Mine }>(React);
function OwnPage() {
  const [presence, setPresence] = ownHooks.useMyPresence();
  setPresence({ tool: presence.tool === "pen" ? null : "pen" });
  // @ts-expect-error no such tool
  setPresence({ tool: "brush" });
  const x: number | null | undefined = ownHooks.useOther("jane", (other) => other.presence?.view?.x);
  const name: string | undefined = ownHooks.useOther("jane")?.name;
  const views = ownHooks.useOthers((others) => others.map((other) => other.presence?.view?.zoom ?? 1));
  return String(x) + name + views.reduce((sum, each) => sum + each, 0);
}
React.createElement(ownHooks.RoomProvider, { presence: own, id: "video_1", initialPresence: { tool: "hand" } }, React.createElement(OwnPage));
React.createElement(typedHooks.RoomProvider, { presence: typed, id: "video_1" }, React.createElement(TypedPage));

function ProjectPage() {
  const rooms = useRooms(["video_1"]);
  const count: number | undefined = rooms.video_1?.userCount;
  return React.createElement("p", null, count, rooms.video_1?.users.map(({ name, image, color }) => `${name} ${image} ${color}`));
}
React.createElement(PresenceProvider, { presence }, React.createElement(ProjectPage));
const watch = presence.watchRooms(["video_1", "video_2"]);
watch.subscribe(() => console.log(watch.getSnapshot().video_2?.roomId));
watch.setRooms([]);
watch.stop();
// @ts-expect-error an array of ids
presence.watchRooms("video_1");

// every event of the protocol is an event of a room
const unknownEvents: Exclude<keyof ProtocolEvents, keyof RoomEvents>[] = [];
console.log(unknownEvents satisfies never[]);
