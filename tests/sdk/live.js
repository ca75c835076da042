/**
 * Scenarios of the SDK against a real server: node live.js NAME URL TOKEN_OF_ANN TOKEN_OF_BOB [FOLDER_OF_THE_SDK]. Ends with 0
 * when all is well.
 */

import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";

const [name, url, annToken, bobToken, folder = "sdk"] = process.argv.slice(2);
const { createPresence } = await import(`../../koko_presence/web/${folder}/presence.js`);
process.on("unhandledRejection", (error) => {
  console.error("unhandled:", error);
  process.exit(1);
});

const all = [];
function person(token, options) {
  const presence = createPresence({ url, auth: async () => token, WebSocket, ...options });
  const room = presence.enter("video_123", { type: "video" });
  const errors = [];
  room.on("error", (error) => errors.push(error));
  all.push(presence);
  return { presence, room, errors };
}
/** Wait until a change makes the condition true. */
const until = (room, true_) => new Promise((resolve, reject) => {
  const check = () => {
    if (!true_(room.getSnapshot())) return;
    undo();
    clearTimeout(timer);
    resolve();
  };
  const timer = setTimeout(() => reject(new Error(`never: ${true_}\n${JSON.stringify(room.getSnapshot(), null, 1)}`)), 50_000);
  const undo = room.subscribe(check);
  check();
});
const event = (room, type) => new Promise((resolve) => room.on(type, resolve));
const other = ({ others }) => others[0];

const scenarios = {
  async meet() {
    const ann = person(annToken);
    assert.equal(await ann.room.ready(), true);
    const bob = person(bobToken);
    await bob.room.ready();
    await until(ann.room, (snapshot) => other(snapshot)?.name === "Bob");
    ann.room.updateCursor({ timestamp: 15.5, x: 0.45, y: 0.62 });
    ann.room.updateSelection({ startTime: 10, endTime: 25.5 });
    ann.room.typing(true, "comment");
    await until(bob.room, (snapshot) => other(snapshot).isTyping && other(snapshot).cursor && other(snapshot).selection);
    const seen = bob.room.others[0];
    assert.deepEqual([seen.cursor.x, seen.selection.endTime, seen.typingContext, seen.color], [0.45, 25.5, "comment", ann.room.self.color]);
    ann.room.updateCursor(null);
    ann.room.typing(false);
    await until(bob.room, (snapshot) => !other(snapshot).isTyping && !other(snapshot).cursor);

    assert.equal((await ann.room.setStatus("reviewing", "scene 4")).success, true);
    await until(bob.room, (snapshot) => other(snapshot).status === "reviewing" && other(snapshot).statusMessage === "scene 4");

    assert.equal((await bob.room.requestControl()).granted, true);
    await until(ann.room, ({ controller }) => controller === "bob");
    assert.equal(ann.room.mayControl, false);
    const refused = await ann.room.playback({ action: "play" });
    assert.equal(refused.code, "NOT_CONTROLLER");
    assert.equal((await ann.room.requestControl()).granted, false);
    await until(bob.room, ({ requests }) => requests.length === 1 && requests[0].requesterName === "Ann");
    assert.equal((await bob.room.grantControl("ann")).success, true);
    await until(ann.room, ({ controller, requests }) => controller === "ann" && !requests.length);

    const heard = event(bob.room, "broadcast");
    assert.equal((await ann.room.broadcast({ type: "reaction", emoji: "👍" })).delivered, 1);
    assert.deepEqual((await heard).data, { type: "reaction", emoji: "👍" });
    assert.ok(Math.abs(ann.presence.clock.offset) <= ann.presence.clock.rtt / 2 + 20, "one machine has one clock");

    const left = event(bob.room, "user_left");
    ann.room.leave();
    assert.deepEqual((await left).data, { reason: "left", sessionCount: 0 });
    assert.deepEqual([bob.room.others.length, bob.room.getSnapshot().controller], [0, null]);
    assert.deepEqual([ann.errors.map(({ code }) => code), bob.errors], [["NOT_CONTROLLER"], []]);
  },

  async resume() {
    const ann = person(annToken);
    const bob = person(bobToken);
    await Promise.all([ann.room.ready(), bob.room.ready()]);
    await until(bob.room, (snapshot) => other(snapshot));
    await until(ann.room, (snapshot) => other(snapshot));
    ann.room.updateCursor({ timestamp: 3, x: 0.5, y: 0.5 });
    await until(bob.room, (snapshot) => other(snapshot).cursor);
    const session = ann.room.self.sessionId;
    const gone = [];
    for (const { room } of [ann, bob]) room.on("user_left", ({ userId }) => gone.push(userId));
    const lines = createInterface({ input: process.stdin });
    console.log("cut me");
    await new Promise((resolve) => lines.once("line", resolve));
    lines.close();
    await until(ann.room, ({ status }) => status === "reconnecting");
    ann.room.updateCursor({ timestamp: 4, x: 0.6, y: 0.6 });
    const answer = ann.room.broadcast({ type: "while away" });
    const heard = event(bob.room, "broadcast");
    await until(ann.room, ({ status }) => status === "live");
    await until(bob.room, (snapshot) => snapshot.status === "live" && other(snapshot)?.cursor?.timestamp === 4);
    assert.equal(ann.room.self.sessionId, session);
    assert.deepEqual(gone, []);
    await answer;
    if (bob.room.status === "live") await Promise.race([heard, until(bob.room, (snapshot) => other(snapshot)?.connected)]);
    assert.deepEqual([ann.room.others.length, bob.room.others.length, bob.room.others[0].connected], [1, 1, true]);
  },

  async late() {
    const ann = person(annToken);
    await ann.room.ready();
    const command = await ann.room.playback({ action: "sync", isPlaying: true, currentTime: 45.5, playbackRate: 2 });
    assert.equal(command.version, 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const bob = person(bobToken);
    await bob.room.ready();
    const expected = () => 45.5 + ((bob.presence.clock.now() - command.anchor) / 1000) * 2;
    const [before, at, after] = [expected(), bob.room.position(), expected()];
    assert.ok(before - 0.001 <= at && at <= after + 0.001 && at > 46, `${before} ${at} ${after}`);
    const [earlier, others, later] = [bob.room.position(), ann.room.position(), bob.room.position()];
    const apart = 2 * (ann.presence.clock.rtt + bob.presence.clock.rtt) / 2000 + 0.05; // at twice the speed
    assert.ok(earlier - apart <= others && others <= later + apart, "both clocks agree");
    await ann.room.playback({ action: "pause", currentTime: 60 });
    await until(bob.room, ({ playback }) => !playback.isPlaying);
    assert.equal(bob.room.position(), 60);
    bob.room.playback({ action: "report", isPlaying: true, currentTime: 50, playbackRate: 1 });
    await until(ann.room, (snapshot) => other(snapshot).viewerSync?.state === "playing" && snapshot.synced);
  },

  async cursors() {
    const ann = person(annToken, { throttleMs: 0 });
    const bob = person(bobToken);
    await Promise.all([ann.room.ready(), bob.room.ready()]);
    await until(ann.room, (snapshot) => other(snapshot));
    const seen = [];
    bob.room.on("cursor_moved", ({ userId, data }) => seen.push([userId, data.timestamp, data.x, data.y, data.hidden]));
    const began = performance.now();
    for (let i = 0; i < 100; i++) {
      ann.room.updateCursor({ timestamp: i, x: i / 100, y: 0.25 });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await until(bob.room, (snapshot) => other(snapshot).cursor?.timestamp === 99);
    ann.room.updateCursor(null);
    await until(bob.room, (snapshot) => !other(snapshot).cursor);
    const seconds = (performance.now() - began) / 1000;
    assert.ok(seen.length > 2 && seen.length <= 20 * seconds + 4, `${seen.length} of 100 in ${seconds} s`);
    assert.deepEqual(seen.at(-1), ["ann", undefined, undefined, undefined, true]);
    assert.deepEqual(seen.at(-2), ["ann", 99, 0.99, 0.25, undefined]);
    assert.deepEqual([ann.errors, bob.errors], [[], []]);
  },

  async invisible() {
    const bob = person(bobToken);
    await bob.room.ready();
    const ann = person(annToken, { privacy: { invisible: true } });
    await ann.room.ready();
    assert.deepEqual([ann.room.others.length, bob.room.others.length], [1, 0]);
    assert.equal((await ann.room.broadcast({ type: "boo" })).code, "INVISIBLE");
    await ann.room.setPrivacy({ invisible: false });
    await until(bob.room, (snapshot) => other(snapshot)?.userId === "ann");
    await ann.room.setPrivacy({ invisible: true });
    await until(bob.room, (snapshot) => !other(snapshot));
    assert.equal(ann.room.status, "live");
  },
};

await scenarios[name]();
for (const presence of all) presence.close();
// a timer or socket that is left keeps this process running, and the waiting test fails
