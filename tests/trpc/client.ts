// The official client against a running server, one scenario per link: node client.js ORIGIN TOKENS, where TOKENS is a
// JSON object of user id to token. Prints a line for each scenario that passed; a failure ends it with an error.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createInterface } from "node:readline";
import {
  createTRPCClient,
  createWSClient,
  httpBatchLink,
  httpBatchStreamLink,
  httpLink,
  httpSubscriptionLink,
  isTRPCClientError,
  splitLink,
  TRPCClientError,
  wsLink,
} from "@trpc/client";
import type { TRPCClient, TRPCLink } from "@trpc/client";
import { EventSource } from "eventsource";
import superjson from "superjson";
import { WebSocket } from "ws";
import type { PresenceEvent, PresenceRouter, PresenceRouterOf, RoomEvent } from "./presence-router.js";

const origin = process.argv[2]!;
const tokens = JSON.parse(process.argv[3]!) as Record<string, string>;
const url = `${origin}/trpc`;
const wsUrl = `${origin.replace("http", "ws")}/trpc`;
const bearer = (user: string) => ({ authorization: `Bearer ${tokens[user]}` });
const video = (name: string) => ({ roomId: `video_${name}`, roomType: "video" }) as const;

type Answered = { status: number; type: string | null };

/** fetch that records the answers. */
function watched() {
  const answers: Answered[] = [];
  const fetching: typeof fetch = async (...given) => {
    const answer = await fetch(...given);
    answers.push({ status: answer.status, type: answer.headers.get("content-type") });
    return answer;
  };
  return { answers, fetching };
}

/** The error of a failed call, with its declared type. */
async function failure(call: Promise<unknown>) {
  try {
    await call;
  } catch (error) {
    assert(isTRPCClientError<PresenceRouter>(error), String(error));
    assert(error.data, String(error));
    return { message: error.message, number: error.shape!.code, ...error.data };
  }
  throw new Error("it should have failed");
}

/** Calls of a user in a room over HTTP, with any link. */
async function aroundARoom(client: TRPCClient<PresenceRouter>, room: ReturnType<typeof video>) {
  const joined = await client.presence.join.mutate(room);
  assert.equal(joined.room.id, room.roomId);
  assert.match(joined.assignedColor, /^#[0-9A-F]{6}$/);
  const active = await client.presence.getActive.query(room);
  assert.equal(active.totalCount, 1);
  assert.equal(active.users[0]!.sessionId, joined.sessionId);
  const status = await client.presence.setStatus.mutate({ status: "busy", statusMessage: "in a call 👍" });
  assert.equal(status.statusMessage, "in a call 👍");
  await client.presence.updateCursor.mutate({ ...room, timestamp: 1.5, x: 0.5, y: 0.25 });
  const moved = await client.presence.getActive.query(room);
  assert.deepEqual(moved.users[0]!.cursor, { timestamp: 1.5, x: 0.5, y: 0.25 });
  const left = await client.presence.leave.mutate({ roomId: room.roomId });
  assert.equal(left.left, 1);
}

async function plainHttp() {
  const { answers, fetching } = watched();
  const client = createTRPCClient<PresenceRouter>({
    links: [httpLink({ url, headers: bearer("ann"), fetch: fetching })],
  });
  await aroundARoom(client, video("plain"));
  assert(answers.every(({ status, type }) => status === 200 && type === "application/json"));
  // @ts-expect-error a type that does not exist is a compile error
  const wrong = await failure(client.presence.join.mutate({ roomId: "r", roomType: "cinema" }));
  assert.deepEqual([wrong.number, wrong.httpStatus, wrong.path], [-32600, 400, "presence.join"]);
  assert.equal(wrong.reason, "INVALID_MESSAGE");
  const outside = await failure(client.presence.broadcast.mutate({ roomId: "video_other", data: {} }));
  assert.deepEqual([outside.number, outside.httpStatus, outside.reason], [-32012, 412, "NOT_IN_ROOM"]);
  const nobody = createTRPCClient<PresenceRouter>({ links: [httpLink({ url })] });
  const unknown = await failure(nobody.presence.getActive.query(video("plain")));
  assert.deepEqual([unknown.httpStatus, unknown.reason], [401, "UNAUTHENTICATED"]);
  const longer = createTRPCClient<PresenceRouter>({
    links: [httpLink({ url, headers: bearer("ann"), methodOverride: "POST" })],
  });
  assert.equal((await longer.presence.getActive.query(video("plain"))).totalCount, 0);
}

/** Two calls of one loop iteration are sent in one request; one of them fails and the other does not. */
async function together(link: (fetching: typeof fetch) => TRPCLink<PresenceRouter>, status: number) {
  const { answers, fetching } = watched();
  const client = createTRPCClient<PresenceRouter>({ links: [link(fetching)] });
  await aroundARoom(client, video("batch"));
  answers.length = 0;
  const [good, bad] = await Promise.allSettled([
    client.presence.getActive.query(video("batch")),
    client.presence.getActive.query({ roomId: "", roomType: "video" }),
  ]);
  assert.equal(good.status, "fulfilled");
  assert.equal(bad.status, "rejected");
  assert(isTRPCClientError<PresenceRouter>(bad.reason));
  assert.equal(bad.reason.data!.httpStatus, 400);
  assert.deepEqual(answers, [{ status, type: "application/json" }]);
}

/** Limits are reported over HTTP as over the socket. */
async function limited() {
  const client = createTRPCClient<PresenceRouter>({ links: [httpBatchLink({ url, headers: bearer("tom") })] });
  await client.presence.join.mutate(video("limited"));
  const calls = Array.from({ length: 12 }, () => client.presence.setStatus.mutate({ status: "busy" }));
  const refused = (await Promise.allSettled(calls)).filter((each) => each.status === "rejected");
  assert(refused.length > 0);
  const error = refused[0]!.reason;
  assert(isTRPCClientError<PresenceRouter>(error));
  assert.equal(error.data!.reason, "RATE_LIMITED");
  assert.equal(error.data!.httpStatus, 429);
  assert(error.data!.retryAfter! > 0);
}

/** All messages of every socket, to debug a scenario that does not end. */
const history: string[] = [];

/** A queue of events. */
function queue() {
  const seen: PresenceEvent[] = [];
  const waiting: (() => void)[] = [];

  function add(event: PresenceEvent) {
    seen.push(event);
    waiting.splice(0).forEach((wake) => wake());
  }

  /** The next event of this type; earlier events are dropped. */
  async function next<Type extends PresenceEvent["type"]>(type: Type): Promise<Extract<PresenceEvent, { type: Type }>> {
    for (;;) {
      const event = seen.shift();
      if (event?.type === type) return event as Extract<PresenceEvent, { type: Type }>;
      if (!event) await new Promise<void>((wake) => waiting.push(wake));
    }
  }
  return { add, next, seen };
}

/** A socket of `user`, and a queue of its subscription's events. */
function socket(user: string, input?: { roomId: string }) {
  let resumeToken: string | undefined;
  const wsClient = createWSClient({
    url: wsUrl,
    WebSocket: WebSocket as unknown as typeof globalThis.WebSocket,
    keepAlive: { enabled: true, intervalMs: 100, pongTimeoutMs: 2_000 },
    connectionParams: () => ({ token: tokens[user]!, ...(resumeToken ? { resumeToken } : {}) }),
  });
  const client = createTRPCClient<PresenceRouter>({ links: [wsLink({ client: wsClient })] });
  const { add, next, seen } = queue();
  let starts = 0;
  const subscription = client.presence.onEvent.subscribe(input, {
    onStarted: () => void (starts += 1),
    onData(event) {
      if (event.type === "authenticated") resumeToken = event.resumeToken;
      history.push(`${user} ${event.type}`);
      add(event);
    },
    onError: (error) => assert.fail(error),
  });
  return { client, wsClient, subscription, next, seen, starts: () => starts };
}

async function overWebSocket() {
  const room = video("socket");
  const ann = socket("ann"), bob = socket("bob");
  const me = await ann.next("authenticated");
  assert.equal(me.userId, "ann");
  assert.equal(me.resumed, false);
  const [joined, snapshot] = await Promise.all([ann.client.presence.join.mutate(room), ann.next("joined")]);
  assert.equal(joined.sessionId, me.sessionId);
  assert.equal(joined.leaseSeconds, undefined);
  assert.deepEqual(snapshot.room, joined.room);

  await bob.client.presence.join.mutate(room);
  const came = await ann.next("user_joined");
  assert.deepEqual([came.userId, came.data.name, came.roomId], ["bob", "bob", room.roomId]);

  await bob.client.presence.updateCursor.mutate({ ...room, timestamp: 15.5, x: 0.45, y: 0.62 });
  const cursor: RoomEvent = await ann.next("cursor_moved");
  assert(cursor.type === "cursor_moved");
  assert.deepEqual([cursor.data.timestamp, cursor.data.x, cursor.data.y], [15.5, 0.45, 0.62]);
  const sent = await bob.client.presence.broadcast.mutate({ roomId: room.roomId, data: { type: "reaction", emoji: "👍" } });
  assert.equal(sent.delivered, 1);
  assert.deepEqual((await ann.next("broadcast")).data, { type: "reaction", emoji: "👍" });

  const asked = await bob.client.presence.requestControl.mutate({ roomId: room.roomId });
  assert.deepEqual([asked.granted, asked.controller], [true, "bob"]);
  const played = await bob.client.presence.syncPlayback.mutate({ ...room, action: "play", currentTime: 12 });
  assert.equal(played.isPlaying, true);
  assert.equal((await ann.next("playback_synced")).data.isPlaying, true);
  const refused = await failure(ann.client.presence.syncPlayback.mutate({ ...room, action: "pause" }));
  assert.deepEqual([refused.reason, refused.httpStatus, refused.state?.isPlaying], ["NOT_CONTROLLER", 403, true]);

  // a call over HTTP for the session of the socket
  const beside = createTRPCClient<PresenceRouter>({
    links: [httpBatchLink({ url, headers: { ...bearer("ann"), "x-presence-session": me.sessionId } })],
  });
  await beside.presence.startTyping.mutate({ roomId: room.roomId, context: "comment" });
  const typing = await bob.next("typing_started");
  assert.deepEqual([typing.sessionId, typing.data.context], [me.sessionId, "comment"]);

  const other = video("elsewhere");
  const filtered = socket("tom", { roomId: other.roomId });
  await filtered.client.presence.join.mutate(room);
  await filtered.client.presence.join.mutate(other);
  await bob.client.presence.broadcast.mutate({ roomId: room.roomId, data: { n: 1 } });
  await ann.next("broadcast");
  await filtered.client.presence.leave.mutate({ roomId: other.roomId });
  assert.equal((await filtered.next("left")).roomId, other.roomId);
  assert(filtered.seen.every((event) => !("roomId" in event) || event.roomId === other.roomId));

  await bob.client.presence.leave.mutate({ roomId: room.roomId });
  assert.deepEqual((await ann.next("user_left")).data, { reason: "left", sessionCount: 0 });
  ann.subscription.unsubscribe();
  await Promise.all([ann, bob, filtered].map(({ wsClient }) => wsClient.close()));
}

/** An event stream of `user` beside calls over HTTP for its session. `asked` are the requests for streams. */
function eventStream(user: string) {
  let sessionId = "";
  const asked: Headers[] = [];
  const states: string[] = [];
  const client = createTRPCClient<PresenceRouter>({
    links: [
      splitLink({
        condition: (op) => op.type === "subscription",
        true: httpSubscriptionLink({
          url,
          EventSource,
          eventSourceOptions: () => ({
            fetch: (input, init) => {
              const headers = new Headers({ ...init.headers, ...bearer(user) });
              asked.push(headers);
              return fetch(input, { ...init, headers });
            },
          }),
        }),
        false: httpBatchLink({
          url,
          headers: () => ({ ...bearer(user), ...(sessionId ? { "x-presence-session": sessionId } : {}) }),
        }),
      }),
    ],
  });
  const events = queue();
  let fail: (error: unknown) => void;
  const failed = new Promise<unknown>((resolve) => (fail = resolve));
  const subscription = client.presence.onEvent.subscribe(undefined, {
    onData(event) {
      if (event.type === "authenticated") sessionId = event.sessionId;
      history.push(`${user} ${event.type}`);
      events.add(event);
    },
    onConnectionStateChange: ({ state }) => void states.push(state),
    onError: (error) => fail(error),
  });
  return { client, subscription, asked, states, failed, ...events };
}

async function overEvents() {
  const room = video("stream");
  const ann = eventStream("ann"), bob = socket("bob");
  const me = await ann.next("authenticated");
  assert.deepEqual([me.userId, me.resumed], ["ann", false]);
  const [joined, snapshot] = await Promise.all([ann.client.presence.join.mutate(room), ann.next("joined")]);
  assert.deepEqual([joined.sessionId, joined.leaseSeconds], [me.sessionId, undefined]);
  assert.deepEqual(snapshot.room, joined.room);
  await bob.client.presence.join.mutate(room);
  assert.equal((await ann.next("user_joined")).userId, "bob");
  await bob.client.presence.updateCursor.mutate({ ...room, timestamp: 15.5, x: 0.45, y: 0.62 });
  assert.deepEqual((await ann.next("cursor_moved")).data.timestamp, 15.5);
  const sent = await ann.client.presence.broadcast.mutate({ roomId: room.roomId, data: { still: "here" } });
  assert.equal(sent.delivered, 1);
  assert.deepEqual((await bob.next("broadcast")).data, { still: "here" });
  assert.equal((await ann.client.presence.requestControl.mutate({ roomId: room.roomId })).granted, true);
  assert.deepEqual(ann.states, ["connecting", "pending"]);
  await ann.client.presence.leave.mutate({ roomId: room.roomId });
  await bob.next("user_left");
  ann.subscription.unsubscribe();
  await bob.wsClient.close();
}

/** A refused token ends the subscription with the reason, and the client does not ask again. */
async function refusedStream() {
  tokens.stranger = "nonsense";
  const it = eventStream("stranger");
  const error = await it.failed;
  assert(error instanceof TRPCClientError);
  assert.match(error.message, /^The token was refused/);
  assert.deepEqual([error.data.code, error.data.reason], ["UNAUTHORIZED", "UNAUTHENTICATED"]);
  await new Promise((later) => setTimeout(later, 1_500));
  assert.equal(it.asked.length, 1);
}

/**
 * A refused token over wsLink: every request gets the reason, and one socket is opened. Clients before 11.25 begin their
 * pauses anew with each socket that opens, hence no pause here.
 */
async function refusedSocket() {
  let sockets = 0;
  class Counted extends WebSocket {
    constructor(...given: ConstructorParameters<typeof WebSocket>) {
      super(...given);
      sockets += 1;
    }
  }
  const wsClient = createWSClient({
    url: wsUrl,
    WebSocket: Counted as unknown as typeof globalThis.WebSocket,
    connectionParams: () => ({ token: "nonsense" }),
    retryDelayMs: () => 0,
  });
  const client = createTRPCClient<PresenceRouter>({ links: [wsLink({ client: wsClient })] });
  const subscribed = new Promise<unknown>((resolve) => {
    client.presence.onEvent.subscribe(undefined, { onError: resolve });
  });
  const errors = [await subscribed, await failure(client.presence.getActive.query(video("refused")))];
  for (const error of errors) assert.match((error as Error).message, /^The token was refused/);
  await new Promise((later) => setTimeout(later, 1_500));
  const later = await failure(client.presence.join.mutate(video("refused")));
  assert.deepEqual([later.code, later.reason], ["UNAUTHORIZED", "UNAUTHENTICATED"]);
  assert.equal(sockets, 1);
  await wsClient.close();
}

async function withSuperjson() {
  type Router = PresenceRouterOf<true>;
  const transformer = superjson;
  const headers = bearer("eve");
  const links = [
    httpLink<Router>({ url, headers, transformer }),
    httpBatchLink<Router>({ url, headers, transformer }),
    httpBatchStreamLink<Router>({ url, headers, transformer }),
  ];
  for (const link of links) {
    const client = createTRPCClient<Router>({ links: [link] });
    const joined = await client.presence.join.mutate({ ...video("super"), privacy: undefined });
    assert.equal(joined.room.users[0]!.userId, "eve");
    assert.equal((await client.presence.heartbeat.mutate()).renewed, 1);
    const error = await client.presence.leave.mutate({ roomId: "video_no" }).then(
      () => null,
      (caught: unknown) => caught,
    );
    assert(error === null || isTRPCClientError<Router>(error));
    const bad = await client.presence.getActive.query({ roomId: "" }).catch((caught: unknown) => caught);
    assert(isTRPCClientError<Router>(bad));
    assert.equal(bad.data?.reason, "INVALID_MESSAGE");
    await client.presence.leave.mutate({ roomId: "video_super" });
  }
  const wsClient = createWSClient({
    url: wsUrl,
    WebSocket: WebSocket as unknown as typeof globalThis.WebSocket,
    connectionParams: { token: tokens.eve! },
  });
  const client = createTRPCClient<Router>({ links: [wsLink({ client: wsClient, transformer })] });
  const first = await new Promise<PresenceEvent>((resolve, reject) => {
    client.presence.onEvent.subscribe(undefined, { onData: resolve, onError: reject });
  });
  assert.equal(first.type, "authenticated");
  assert.equal((await client.presence.join.mutate(video("super"))).room.userCount, 1);
  const wrong = await client.presence.getActive.query({ roomId: "" }).catch((caught: unknown) => caught);
  assert(isTRPCClientError<Router>(wrong) && wrong.data?.path === "presence.getActive");
  await wsClient.close();
}

/** The worker of a socket is replaced: the socket gets a reconnect request, keeps its session, and misses no event. */
async function throughARestart() {
  const room = video("restart");
  const ann = socket("ann"), bob = socket("bob");
  const [before] = await Promise.all([ann.next("authenticated"), bob.next("authenticated")]);
  await ann.client.presence.join.mutate(room);
  await bob.client.presence.join.mutate(room);
  await ann.next("user_joined");
  console.log("restart me");
  await once(createInterface({ input: process.stdin }), "line");
  const after = await ann.next("authenticated");
  assert.deepEqual([after.resumed, after.sessionId, after.rooms], [true, before.sessionId, [room.roomId]]);
  const again = await ann.next("joined");
  assert.equal(again.room.userCount, 2);
  await bob.next("authenticated");
  await bob.next("joined");
  // a broadcast is delivered at most once, and the sockets may still be reconnecting to another worker
  let heard = false;
  const hearing = ann.next("broadcast").then((event) => {
    heard = true;
    return event;
  });
  while (!heard) {
    await bob.client.presence.broadcast.mutate({ roomId: room.roomId, data: { still: "here" } }).catch(() => null);
    await new Promise((later) => setTimeout(later, 100));
  }
  assert.deepEqual((await hearing).data, { still: "here" });
  await Promise.all([ann.wsClient.close(), bob.wsClient.close()]);
}

/** The worker of a stream is replaced: the client opens another one, which has the same session. */
async function streamThroughARestart() {
  const room = video("moving");
  const ann = eventStream("ann"), bob = eventStream("bob");
  const [before] = await Promise.all([ann.next("authenticated"), bob.next("authenticated")]);
  await ann.client.presence.join.mutate(room);
  await bob.client.presence.join.mutate(room);
  await ann.next("user_joined");
  console.log("restart me");
  await once(createInterface({ input: process.stdin }), "line");
  const after = await ann.next("authenticated");
  assert.deepEqual([after.resumed, after.sessionId, after.rooms], [true, before.sessionId, [room.roomId]]);
  assert.equal((await ann.next("joined")).room.userCount, 2);
  await bob.next("authenticated");
  await bob.next("joined");
  let heard = false;
  const hearing = ann.next("broadcast").then(() => (heard = true));
  while (!heard) {
    await bob.client.presence.broadcast.mutate({ roomId: room.roomId, data: { still: "here" } }).catch(() => null);
    await new Promise((later) => setTimeout(later, 100));
  }
  await hearing;
  assert(ann.asked.slice(1).every((headers) => headers.get("last-event-id")));
}

const headers = bearer("bob");
const scenarios: Record<string, () => Promise<void>> = {
  httpLink: plainHttp,
  httpBatchLink: () => together((fetching) => httpBatchLink({ url, headers, fetch: fetching }), 207),
  httpBatchStreamLink: () => together((fetching) => httpBatchStreamLink({ url, headers, fetch: fetching }), 200),
  limits: limited,
  wsLink: overWebSocket,
  httpSubscriptionLink: overEvents,
  "refused stream": refusedStream,
  "refused socket": refusedSocket,
  superjson: withSuperjson,
  restart: throughARestart,
  "restart of streams": streamThroughARestart,
};
for (const name of process.argv.slice(4)) {
  const late = setTimeout(() => {
    console.error(`${name} takes too long: ${history.join(", ")}`);
    process.exit(1);
  }, 60_000);
  await scenarios[name]!();
  clearTimeout(late);
  console.log(`ok ${name}`);
}
process.exit(0);
