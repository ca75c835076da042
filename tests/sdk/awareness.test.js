/** `koko-presence/awareness` behaves as the Awareness of y-protocols does, and carries states in presence objects. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Awareness as Reference } from "y-protocols/awareness";
import * as Y from "yjs";
import { Awareness } from "../../koko_presence/web/sdk/awareness.js";
import { Socket, Time, event, finish, inside, row, settle, snapshot } from "./fake.js";

let time;
beforeEach(() => (time = new Time()));
afterEach(() => finish(time));

const shown = (clientID, state) => ({ presence: { awareness: { clientID, state } } });

/** Collect the events of an awareness, origins named. */
function listen(awareness, names = ["change", "update"]) {
  const events = [];
  for (const name of names) awareness.on(name, (changes, origin) => events.push([name, changes, origin === "local" ? "local" : "remote"]));
  return events;
}

test("the own state: the same values and events as with y-protocols", async () => {
  const { room } = await inside();
  const doc = new Y.Doc();
  const ours = new Awareness(room, doc);
  const reference = new Reference(doc);
  assert.deepEqual([ours.clientID, ours.doc, ours.getLocalState()], [reference.clientID, reference.doc, reference.getLocalState()]);
  const events = [listen(ours), listen(reference)];
  const steps = [
    (awareness) => awareness.setLocalStateField("user", { name: "Ann" }),
    (awareness) => awareness.setLocalStateField("user", { name: "Ann" }), // an update, no change
    (awareness) => awareness.setLocalState({ cursor: { anchor: 1, head: 2 } }),
    (awareness) => awareness.setLocalState(null),
    (awareness) => awareness.setLocalStateField("user", 1), // of no state
    (awareness) => awareness.setLocalState({ again: true }),
  ];
  for (const step of steps) {
    for (const each of [ours, reference]) step(each);
    assert.deepEqual(ours.getLocalState(), reference.getLocalState());
    assert.deepEqual([...ours.getStates()], [...reference.getStates()]);
    assert.deepEqual(events[0], events[1]);
    assert.equal(ours.meta.get(doc.clientID).clock, reference.meta.get(doc.clientID).clock);
  }
  assert.equal(events[0].length, 9);
  reference.destroy();
  ours.destroy();
});

test("the own state is a key of the presence object", async () => {
  const { room, socket } = await inside();
  room.setPresence({ tool: "pen" });
  const awareness = new Awareness(room, { clientID: 7 }, { key: "notes" });
  awareness.setLocalStateField("user", { name: "Ann" });
  await settle();
  assert.deepEqual(socket.of("presence").map(({ data }) => data), [
    { tool: "pen", notes: { clientID: 7, state: { user: { name: "Ann" } } } },
  ]);
  awareness.destroy();
  await time.advance(100);
  assert.deepEqual(socket.of("presence").at(-1).data, { notes: null });
});

test("others come, change and go, whatever of the room tells it", async () => {
  const { room, socket } = await inside([row("jane", "jane-1", shown(1, { n: 1 })), row("tom")]);
  const awareness = new Awareness(room, { clientID: 7 });
  const events = listen(awareness);
  assert.deepEqual([...awareness.getStates()], [[7, {}], [1, { n: 1 }]]);
  await socket.say(event("presence_changed", "tom", shown(2, { n: 2 }).presence));
  await socket.say(event("presence_changed", "jane", shown(1, { n: 3 }).presence));
  await socket.say(event("presence_changed", "jane", { other: 1 }));
  await socket.say(event("cursor_moved", "jane", { timestamp: 1, color: "#1" }));
  await socket.say(event("user_left", "tom", { sessionCount: 0 }));
  await socket.say(event("presence_changed", "jane", { awareness: null }));
  const changes = [
    { added: [2], updated: [], removed: [] },
    { added: [], updated: [1], removed: [] },
    { added: [], updated: [], removed: [2] },
    { added: [], updated: [], removed: [1] },
  ];
  assert.deepEqual(events, changes.flatMap((each) => [["change", each, "remote"], ["update", each, "remote"]]));
  assert.deepEqual([...awareness.getStates().keys()], [7]);
});

test("a snapshot with the same states is no change; another tab of the user is another client", async () => {
  const users = [row("jane", "jane-1", shown(1, { n: 1 })), row("me", "s9", shown(9, { tab: 2 }))];
  const { room, socket } = await inside(users);
  const awareness = new Awareness(room, { clientID: 7 });
  assert.deepEqual([...awareness.getStates().keys()].sort(), [1, 7, 9]);
  const events = listen(awareness);
  await socket.say(snapshot(users));
  assert.deepEqual(events, []);
});

test("what other programs put there is no state", async () => {
  const wrong = ["text", 5, null, {}, { clientID: "1", state: {} }, { clientID: 1 }, { clientID: 7, state: { mine: false } }];
  const { room } = await inside(wrong.map((awareness, i) => row(`u${i}`, `u${i}-1`, { presence: { awareness } })));
  const awareness = new Awareness(room, { clientID: 7 });
  assert.deepEqual([...awareness.getStates()], [[7, {}]]);
});

test("it is sent again with a new session, and others stay during a short loss", async () => {
  const { room, socket } = await inside([row("jane", "jane-1", shown(1, { n: 1 }))]);
  const awareness = new Awareness(room, { clientID: 7 });
  const events = listen(awareness);
  await socket.lose();
  awareness.setLocalStateField("n", 5);
  assert.deepEqual([...awareness.getStates().keys()].sort(), [1, 7]);
  await time.advance(time.waits[0]);
  Socket.last.open();
  await settle();
  assert.deepEqual(Socket.last.of("join")[0].presence, { awareness: { clientID: 7, state: { n: 5 } } });
  assert.deepEqual(events.map(([, , origin]) => origin), ["local", "local"]);
});

test("off, once and destroy; a room that was left has no other states", async () => {
  const { room, socket } = await inside([row("jane", "jane-1", shown(1, { n: 1 }))]);
  const awareness = new Awareness(room, { clientID: 7 });
  const calls = [];
  const each = awareness.on("change", () => calls.push("on"));
  awareness.once("change", () => calls.push("once"));
  awareness.on("destroy", () => calls.push("destroy"));
  awareness.setLocalState({ n: 1 });
  awareness.setLocalState({ n: 2 });
  awareness.off("change", each);
  awareness.setLocalState({ n: 3 });
  assert.deepEqual(calls, ["on", "once", "on"]);
  room.leave();
  assert.deepEqual([...awareness.getStates().keys()], [7]);
  awareness.destroy();
  assert.deepEqual([calls.at(-1), awareness.getLocalState()], ["destroy", null]);
  assert.deepEqual(socket.of("presence"), []);
});
