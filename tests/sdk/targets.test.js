import assert from "node:assert/strict";
import { test } from "node:test";
import { isIn, mediumAt, showsOtherMedium } from "../../koko_presence/web/sdk/targets.js";

const CUT_1 = { mediaId: "cut-1" };
const CUT_2 = { mediaId: "cut-2", offset: 2.4 };

test("a cursor is in the target that it names, without a name in main", () => {
  const snapshot = { media: { main: CUT_1, right: CUT_2 }, shownMedia: {} };
  assert.deepEqual(["main", "right"].map((target) => isIn(snapshot, target, {})), [true, false]);
  assert.deepEqual(["main", "right"].map((target) => isIn(snapshot, target, { target: "main" })), [true, false]);
  assert.deepEqual(["main", "right"].map((target) => isIn(snapshot, target, { target: "right" })), [false, true]);
  assert.equal(isIn({ shownMedia: {} }, "film-7", { target: "film-7" }), true, "also in a room without films");
});

test("a cursor in another film is not in the target [H19]", () => {
  const same = { media: { main: CUT_1 }, shownMedia: { main: "cut-1" } };
  const other = { media: { main: CUT_1 }, shownMedia: { main: "cut-2" } };
  const unknown = { media: { main: CUT_1 }, shownMedia: {} };
  const cursors = [{}, { mediaId: "cut-1" }, { mediaId: "cut-2" }];
  const seenBy = (snapshot) => cursors.map((cursor) => isIn(snapshot, "main", cursor));
  assert.deepEqual(seenBy(same), [true, true, false]);
  assert.deepEqual(seenBy(other), [false, false, true]);
  assert.deepEqual(seenBy(unknown), [true, true, false]);
  assert.deepEqual(seenBy({ shownMedia: { main: "cut-1" } }), [true, true, false], "a room that has no film");
  assert.deepEqual(seenBy({ shownMedia: {} }), [true, true, true], "where nothing is known of films");
});

test("whether the own player has another film than the room", () => {
  const media = { main: CUT_1, right: CUT_2 };
  assert.equal(showsOtherMedium({ media, shownMedia: { main: "cut-2" } }, "main"), true);
  assert.equal(showsOtherMedium({ media, shownMedia: { main: "cut-1" } }, "main"), false);
  assert.equal(showsOtherMedium({ media, shownMedia: { main: "cut-2" } }, "right"), false);
  assert.equal(showsOtherMedium({ shownMedia: { main: "cut-2" } }, "main"), false);
  assert.deepEqual([mediumAt({ media }, "right"), mediumAt({ media }, "up"), mediumAt({}, "main")], [CUT_2, undefined, undefined]);
});
