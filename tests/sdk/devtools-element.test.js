/** The panel for developers, in a small DOM. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Window } from "happy-dom";
import { Time, finish, inside } from "./fake.js";

const window = new Window();
const names = ["document", "HTMLElement", "customElements"];
for (const name of names) Object.defineProperty(globalThis, name, { value: window[name], configurable: true, writable: true });
await import("../../koko_presence/web/sdk/devtools.js");

let time;
let panel;
beforeEach(() => {
  globalThis.document = window.document;
  time = new Time();
  globalThis.requestAnimationFrame = () => 0;
  panel = document.createElement("koko-devtools");
  document.body.append(panel);
});
afterEach(async () => {
  panel.remove();
  delete globalThis.requestAnimationFrame;
  globalThis.document = undefined; // a page for the panel only
  await finish(time);
});

const texts = (selector) => [...panel.shadowRoot.querySelectorAll(selector)].map(({ textContent }) => textContent);

test("a presence that is taken away, or exchanged, is not shown any more", async () => {
  const { document } = globalThis;
  globalThis.document = undefined;
  const { presence: first, socket } = await inside();
  globalThis.document = document;
  panel.presence = first;
  await socket.say({ type: "pong" });
  await time.advance(300);
  assert.equal(texts("dd")[0], "live, user me");
  assert.deepEqual(texts("summary").map((text) => text.replace(/^\S+ /, "")), ["← pong"]);
  panel.presence = null;
  assert.deepEqual([texts("dd"), texts("summary"), time.waits.includes(250)], [[], [], false]);
  panel.presence = first;
  assert.deepEqual([texts("dd")[0], texts("summary"), texts("dd")[2]], ["live, user me", [], "0 sent, 0 received"]);
});
