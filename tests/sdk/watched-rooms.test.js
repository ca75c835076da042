/** Rooms that a page watches without entering them. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { finish, presence, settle, Socket, snapshot, Time } from "./fake.js";

let time;
let made;
let errors;
beforeEach(() => {
  time = new Time();
  made = presence();
  errors = [];
  made.on("error", (error) => errors.push(error));
});
afterEach(() => finish(time));

const summary = (roomId, ...users) => ({
  type: "room_summary", roomId, userCount: users.length, users: users.map((userId) => ({ userId, name: userId, color: "#123456" })),
});
const lists = () => Socket.last.of("watch").map(({ rooms }) => rooms);
const answer = (rooms, refused = []) => Socket.last.say({ type: "watching", id: Socket.last.of("watch").at(-1).id, rooms, refused });

async function online() {
  await settle();
  Socket.last.open();
  await settle();
}

test("a watch connects, sends its list, and has a summary by room id", async () => {
  const watch = made.watchRooms(["video_1", "video_2"]);
  let changes = 0;
  watch.subscribe(() => changes++);
  await online();
  assert.deepEqual(lists(), [["video_1", "video_2"]]);
  await answer(["video_1", "video_2"]);
  assert.deepEqual(watch.getSnapshot(), {});
  await Socket.last.say(summary("video_1", "jane"));
  assert.deepEqual(watch.getSnapshot(), { video_1: { roomId: "video_1", userCount: 1, users: [{ userId: "jane", name: "jane", color: "#123456" }] } });
  const before = watch.getSnapshot();
  assert.equal(watch.getSnapshot(), before);
  await Socket.last.say(summary("video_2"));
  assert.equal(watch.getSnapshot().video_1, before.video_1);
  assert.equal(changes, 2);
});

test("all watches of a page are one list, sent at most once a second", async () => {
  const first = made.watchRooms(["video_1"]);
  const second = made.watchRooms(["video_2", "video_1"]);
  await online();
  assert.deepEqual(lists(), [["video_1", "video_2"]]);
  second.setRooms(["video_3"]);
  await settle();
  first.stop();
  await settle();
  assert.equal(lists().length, 1);
  await time.advance(1000);
  assert.deepEqual(lists().at(-1), ["video_3"]);
  second.setRooms(["video_3"]);
  await time.advance(5000);
  assert.equal(lists().length, 2);
});

test("each watch has its own rooms, and is told of changes there only", async () => {
  const first = made.watchRooms(["video_1"]);
  const second = made.watchRooms(["video_2"]);
  let changes = 0;
  second.subscribe(() => changes++);
  await online();
  await answer(["video_1", "video_2"]);
  await Socket.last.say(summary("video_1", "jane"));
  assert.equal(first.getSnapshot().video_1.userCount, 1);
  assert.deepEqual(second.getSnapshot(), {});
  assert.equal(changes, 0);
});

test("the list is sent again on each connection; until then the last summaries stay", async () => {
  const watch = made.watchRooms(["video_1"]);
  await online();
  await answer(["video_1"]);
  await Socket.last.say(summary("video_1", "jane"));
  await Socket.last.lose();
  await time.advance(1000);
  await online();
  assert.deepEqual(lists(), [["video_1"]]);
  assert.equal(watch.getSnapshot().video_1.userCount, 1);
  await answer(["video_1"]);
  await Socket.last.say(summary("video_1"));
  assert.equal(watch.getSnapshot().video_1.userCount, 0);
});

test("a refused room is an error of the presence, told once, and has no summary", async () => {
  const watch = made.watchRooms(["video_1", "video_2"]);
  await online();
  await answer(["video_1", "video_2"]);
  await Socket.last.say(summary("video_2", "jane"));
  const refused = [{ roomId: "video_2", code: "FORBIDDEN", message: "Not open." }];
  await Socket.last.say({ type: "watching", rooms: ["video_1"], refused }); // taken away
  assert.deepEqual(watch.getSnapshot(), {});
  watch.setRooms(["video_2", "video_1", "video_3"]);
  await time.advance(1000);
  await answer(["video_1", "video_3"], refused);
  assert.deepEqual(errors.map(({ code, roomId }) => [code, roomId]), [["FORBIDDEN", "video_2"]]);
});

test("a list is sent again where access could not be checked, and where it came too early", async () => {
  made.watchRooms(["video_1"]);
  await online();
  await answer([], [{ roomId: "video_1", code: "FORBIDDEN", message: "Not checked.", retryAfterMs: 2000 }]);
  await time.advance(2900);
  assert.equal(lists().length, 1);
  await time.advance(200); // the random number is one half
  assert.equal(lists().length, 2);
  const { id } = Socket.last.of("watch").at(-1);
  await Socket.last.say({ type: "error", id, code: "RATE_LIMITED", message: "Slow.", retryAfterMs: 1000 });
  await time.advance(1600);
  assert.equal(lists().length, 3);
});

test("the connection ends with the last watch, unless a room is entered", async () => {
  const watch = made.watchRooms(["video_1"]);
  await online();
  const room = made.enter("video_2");
  watch.stop();
  await settle();
  assert.equal(Socket.last.closedWith, null);
  await time.advance(1000);
  assert.deepEqual(lists().at(-1), []);
  room.leave();
  await settle();
  assert.equal(Socket.last.closedWith, 1000);
});

test("a room that is watched and entered gets its own messages", async () => {
  const watch = made.watchRooms(["video_1"]);
  const room = made.enter("video_1");
  await online();
  await Socket.last.say({ ...snapshot(), id: Socket.last.of("join")[0].id });
  await Socket.last.say(summary("video_1", "me"));
  assert.equal(room.status, "live");
  assert.equal(watch.getSnapshot().video_1.userCount, 1);
});

test("wrong arguments throw, and more than 200 rooms are told", async () => {
  assert.throws(() => made.watchRooms("video_1"), TypeError);
  assert.throws(() => made.watchRooms([""]), TypeError);
  assert.equal(made.status, "idle");
  const empty = made.watchRooms([]);
  await settle();
  assert.equal(made.status, "idle");
  empty.setRooms(Array.from({ length: 201 }, (_, n) => `video_${n}`));
  await online();
  assert.equal(lists()[0].length, 200);
  assert.equal(errors[0].code, "TOO_LARGE");
});

for (const [what, end] of [
  ["an end for good", () => Socket.last.lose(4403)],
  ["a close", () => made.close()],
]) {
  test(`after ${what} nothing is known of watched rooms, which is told; another list connects again`, async () => {
    const watch = made.watchRooms(["video_1"]);
    const other = made.watchRooms(["video_2"]);
    const seen = [];
    await online();
    await answer(["video_1", "video_2"]);
    await Socket.last.say(summary("video_1", "jane"));
    watch.subscribe(() => seen.push(watch.getSnapshot()));
    other.subscribe(() => seen.push("nothing has changed here"));
    await end();
    await time.advance(5000);
    assert.deepEqual([made.status, seen, Socket.all.length], ["closed", [{}], 1]);
    watch.setRooms(["video_3"]);
    await online();
    assert.deepEqual([made.status, Socket.all.length, lists()], ["live", 2, [["video_3", "video_2"]]]);
    await answer(["video_3", "video_2"]);
    await Socket.last.say(summary("video_3", "jane"));
    assert.equal(watch.getSnapshot().video_3.userCount, 1);
  });
}

test("watches go on with the next room that is entered", async () => {
  const watch = made.watchRooms(["video_1"]);
  await online();
  made.close();
  await settle();
  assert.equal(made.status, "closed");
  made.enter("video_2");
  await online();
  assert.deepEqual(lists(), [["video_1"]]);
  await Socket.last.say(summary("video_1", "jane"));
  assert.equal(watch.getSnapshot().video_1.userCount, 1);
});

test("a list whose answer has not come, or that the server could not take, is sent again", async () => {
  made.watchRooms(["video_1"]);
  await online();
  await Socket.last.say({ type: "error", id: Socket.last.of("watch")[0].id, code: "INTERNAL", message: "A fault." });
  await time.advance(2000);
  assert.equal(lists().length, 2);
});
