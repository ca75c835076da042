/** The demo's slow network: delayed messages arrive late, and not at all once the socket has no listener. */

import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { Time, finish, settle } from "./fake.js";

const realSocket = globalThis.WebSocket;
globalThis.WebSocket = class extends EventTarget {
  static OPEN = 1;
  #listener = null;
  get onmessage() {
    return this.#listener;
  }
  set onmessage(listener) {
    this.#listener = listener;
  }
  hear(data) {
    this.#listener?.({ data });
  }
};
const { LateSocket, setSlow } = await import("../../koko_presence/web/demo/network.js");

let time;
beforeEach(() => (time = new Time()));
after(() => (globalThis.WebSocket = realSocket));

test("a message is 0.4 s late, in order, and lost when the socket was given up meanwhile", async () => {
  const socket = new LateSocket("ws://server");
  const heard = [];
  socket.onmessage = ({ data }) => heard.push(data);
  setSlow(true);
  socket.hear(1);
  await time.advance(399);
  assert.deepEqual(heard, []);
  socket.hear(2);
  await time.advance(1);
  assert.deepEqual(heard, [1]);
  socket.onmessage = null;
  socket.hear(3);
  await time.advance(1000);
  assert.deepEqual(heard, [1]);
  setSlow(false);
  await settle();
  await finish(time);
});
