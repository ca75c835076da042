/** The hooks with the real React 19 and react-dom, in a small DOM, on the real SDK with fake sockets. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Window } from "happy-dom";
import { createHooks } from "../../koko_presence/web/sdk/react.js";
import { Socket, event, presence, row, snapshot } from "./fake.js";

const window = new Window();
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
for (const name of ["HTMLElement", "HTMLIFrameElement", "Node", "navigator"]) {
  Object.defineProperty(globalThis, name, { value: window[name], configurable: true });
}
const React = (await import("react")).default;
const { createRoot } = await import("react-dom/client");
const { act, createElement: h, StrictMode } = React;
const {
  PresenceProvider, RoomProvider, useRooms, useRoom, useLiveRoom, useOthers, useOther, useSelf, useMyPresence, useStatus, useError, useLostConnection, useEvent, useBroadcast, useCursor,
  useTyping, usePlayback, useSnapshot, useTarget,
} = createHooks(React);

let root;
let made;
let place;
beforeEach(() => {
  made = presence();
  place = window.document.createElement("div");
  root = createRoot(place);
});
afterEach(async () => {
  await act(() => root.unmount());
  made.close();
  Socket.all.length = 0;
});

const turn = () => act(async () => {
  for (let i = 0; i < 6; i++) await new Promise((resolve) => setImmediate(resolve));
});
const say = (message) => act(async () => {
  await Socket.last.say(message);
});
const inRoom = (props, ...children) => h(RoomProvider, { presence: made, id: "video_1", type: "video", ...props }, ...children);
const render = (...children) => act(() => root.render(inRoom({}, ...children)));
async function show(...children) {
  await render(...children);
  await goLive();
}
async function goLive(more) {
  await turn();
  await act(async () => Socket.last.open());
  await turn();
  await say({ ...snapshot([row("jane"), row("tom")], more), id: Socket.last.of("join")[0].id });
  Socket.last.clear();
}

test("others, oneself and the room", async () => {
  const seen = [];
  function Page() {
    const others = useOthers();
    const self = useSelf();
    seen.push(useRoom()?.status ?? "no room");
    return h("p", null, [self?.name ?? "?", ...others.map((person) => person.name)].join(" "));
  }
  await act(() => root.render(h(RoomProvider, { presence: made, id: "video_1", type: "video" }, h(Page))));
  assert.equal(place.textContent, "?");
  await turn();
  await act(async () => Socket.last.open());
  await turn();
  await say({ ...snapshot([row("jane")]), id: Socket.last.of("join")[0].id });
  assert.equal(place.textContent, "ME JANE");
  await say(event("user_left", "jane", { sessionCount: 0 }));
  assert.equal(place.textContent, "ME");
  assert.deepEqual([seen[0], seen.at(-1)], ["no room", "live"]);
});

test("a component renders when what it selects changes, and not else", async () => {
  const renders = { names: 0, typing: 0, self: 0, count: 0 };
  const Names = () => {
    renders.names++;
    return h("b", null, useOthers((others) => others.map((person) => person.name)).join());
  };
  const Typing = () => {
    renders.typing++;
    return h("i", null, useOthers((others) => others.some((person) => person.isTyping)) ? "types" : "");
  };
  const Self = () => {
    renders.self++;
    return h("u", null, useSelf((self) => self.color));
  };
  const Count = () => {
    renders.count++;
    return useOthers((others) => ({ count: others.length }), (a, b) => a.count === b.count).count;
  };
  await show(h(Names), h(Typing), h(Self), h(Count));
  assert.equal(place.querySelector("u").textContent, "#abcdef");
  const before = { ...renders };
  for (let i = 0; i < 20; i++) await say(event("cursor_moved", "jane", { timestamp: i, color: "#123456" }));
  assert.deepEqual(renders, before, "twenty cursors rendered nothing that does not show cursors");
  await say(event("typing_started", "jane", {}));
  assert.equal(place.querySelector("i").textContent, "types");
  assert.deepEqual(renders, { ...before, typing: before.typing + 1 });
});

test("arrays and plain objects of the same values are the same; other objects are not", async () => {
  let renders = 0;
  const Counts = () => {
    renders++;
    const { users, name } = useOthers((others) => ({ users: others.length, name: others[0]?.name }));
    return `${users} ${name} ${useOthers((others) => new Set(others.map(({ userId }) => userId))).size}`;
  };
  const Plain = () => {
    renders++;
    const { users } = useOthers((others) => ({ users: others.length, name: others[0]?.name }));
    return `${users}`;
  };
  await show(h(Plain));
  const before = renders;
  await say(event("typing_started", "jane", {}));
  assert.equal(renders, before, "an equal object renders nothing");
  await say(event("user_left", "tom", { sessionCount: 0 }));
  assert.deepEqual([renders, place.textContent], [before + 1, "1"]);
  await render(h(Counts));
  const other = renders;
  await say(event("typing_stopped", "jane", {}));
  assert.ok(renders > other, "two sets are not compared");
});

/** The frames of a visible page: `next` is the next one. */
function frames() {
  const waiting = [];
  globalThis.requestAnimationFrame = (callback) => waiting.push(callback);
  const next = () => act(async () => {
    for (const callback of waiting.splice(0)) callback(0);
  });
  const end = async () => {
    while (waiting.length) await next();
    delete globalThis.requestAnimationFrame;
  };
  return { next, end };
}

test("a component renders at most once a frame, with the newest state, and its first change at once", async () => {
  const screen = frames();
  try {
    let renders = 0;
    const Cursor = () => {
      renders++;
      return String(useOthers((others) => others[0]?.cursor?.timestamp));
    };
    const Typing = () => String(useOthers((others) => others.some(({ isTyping }) => isTyping)));
    await show(h(Cursor), " ", h(Typing));
    await screen.next();
    const before = renders;
    const move = (timestamp) => say(event("cursor_moved", "jane", { color: "#123456", timestamp }));
    for (const timestamp of [1, 2, 3]) await move(timestamp);
    assert.deepEqual([renders, place.textContent], [before + 1, "1 false"]);
    await say(event("typing_started", "jane", {}));
    assert.equal(place.textContent, "1 true", "a component that has not rendered in this frame does at once");
    await screen.next();
    assert.deepEqual([renders, place.textContent], [before + 2, "3 true"]);
    await move(4);
    assert.equal(renders, before + 2, "it has rendered at the beginning of this frame");
    await screen.next();
    await screen.next();
    assert.deepEqual([renders, place.textContent], [before + 3, "4 true"]);

    await move(5);
    await move(6);
    Object.defineProperty(window.document, "hidden", { value: true, configurable: true });
    await move(7);
    assert.equal(place.textContent, "7 true", "a hidden page has no frames, and no change waits for them");
  } finally {
    delete window.document.hidden;
    await screen.end();
  }
});

test("what a component holds of a frame does not outlive it", async () => {
  const screen = frames();
  try {
    const Count = () => useOthers((others) => others.length);
    await show(h(Count));
    await say(event("user_left", "tom", { sessionCount: 0 }));
    await say(event("user_left", "jane", { sessionCount: 0 }));
    await render();
    await screen.next();
    assert.equal(place.textContent, "");
  } finally {
    await screen.end();
  }
});

test("useStatus and useError: whether the room is live, and why not", async () => {
  const heard = [];
  const Line = () => `${useStatus()} ${useError(({ code }) => heard.push(code))?.code}`;
  await show(h(Line));
  assert.equal(place.textContent, "live undefined");
  await say({ type: "error", code: "RATE_LIMITED", message: "Too many.", roomId: "video_1" });
  assert.deepEqual(heard, ["RATE_LIMITED"]);
  await say({ type: "kicked", roomId: "video_1", reason: "Enough." });
  assert.equal(place.textContent, "closed KICKED");
});

for (const [what, listener, told] of [["without a listener the console is", undefined, 1], ["with one it is not", () => {}, 0]]) {
  test(`what ends the room, with useError: ${what} told`, async () => {
    const { warn } = console;
    const warned = [];
    console.warn = (text) => warned.push(text);
    try {
      const Line = () => `${useError(listener)?.code}`;
      await show(h(Line));
      await say({ type: "kicked", roomId: "video_1", reason: "Enough." });
      assert.deepEqual([place.textContent, warned.length], ["KICKED", told]);
    } finally {
      console.warn = warn;
    }
  });
}

test("useEvent calls the listener of the last render, subscribed once", async () => {
  const heard = [];
  let subscriptions = 0;
  const Listener = ({ name }) => {
    useEvent("user_left", ({ userId }) => heard.push(`${name} ${userId}`));
    return null;
  };
  await show();
  const room = made.enter("video_1");
  room.leave();
  const { on } = room;
  room.on = (...args) => {
    subscriptions += args[0] === "user_left";
    return on(...args);
  };
  await render(h(Listener, { name: "one" }));
  await render(h(Listener, { name: "two" }));
  await say(event("user_left", "jane", { sessionCount: 0 }));
  await render();
  await say(event("user_left", "tom", { sessionCount: 0 }));
  assert.deepEqual([heard, subscriptions], [["two jane"], 1]);
});

test("useBroadcast: the same function, answers, and what others send", async () => {
  const heard = [];
  const functions = new Set();
  const Reactions = () => {
    functions.add(useBroadcast(({ data }) => heard.push(data.emoji)));
    return null;
  };
  await render(h(Reactions));
  await act(async () => {
    const answers = await Promise.all([...functions].slice(0, 1).map((broadcast) => broadcast({ type: "reaction" })));
    assert.deepEqual(answers.map(({ success, code }) => [success, code]), [[false, "NOT_IN_ROOM"]]);
  });
  await goLive();
  await say(event("broadcast", "jane", { type: "reaction", emoji: "👍" }));
  assert.deepEqual(heard, ["👍"]);
  await render(h(Reactions));
  assert.equal(functions.size, 2, "one before the room is entered, one after it");
  const answer = [...functions].at(-1)({ type: "reaction", emoji: "🎉" }, ["jane"]);
  const [{ id, data, to }] = Socket.last.of("broadcast");
  assert.deepEqual([data, to], [{ type: "reaction", emoji: "🎉" }, ["jane"]]);
  await say({ type: "ack", id, success: true, delivered: 1 });
  assert.equal((await answer).delivered, 1);
});

test("useLostConnection: not at a short loss; lost, restored, failed", async () => {
  const heard = [];
  const realTimeout = globalThis.setTimeout;
  const timers = new Map();
  const Line = () => String(useLostConnection((loss) => heard.push(loss), { afterMs: 4321 }));
  globalThis.setTimeout = (callback, ms, ...args) => {
    const timer = realTimeout(callback, ms === 4321 ? 1e6 : ms, ...args);
    if (ms === 4321) timers.set(timer, callback);
    return timer;
  };
  const clear = globalThis.clearTimeout;
  globalThis.clearTimeout = (timer) => {
    timers.delete(timer);
    clear(timer);
  };
  const pass = () => act(async () => {
    for (const callback of timers.values()) callback();
  });
  try {
    await show(h(Line));
    await act(() => Socket.last.lose());
    assert.deepEqual([timers.size, heard, place.textContent], [1, [], "false"]);
    await pass();
    assert.deepEqual([heard, place.textContent], [["lost"], "true"]);
    const attempts = Socket.all.length;
    while (Socket.all.length === attempts) await act(() => new Promise((resolve) => realTimeout(resolve, 5)));
    await goLive();
    assert.deepEqual([heard, place.textContent, timers.size], [["lost", "restored"], "false", 0]);
    await act(() => Socket.last.lose());
    assert.equal(timers.size, 1);
    await act(() => made.close());
    assert.deepEqual([heard.length, timers.size], [2, 0], "a page that leaves has not failed");
    await render();
    assert.equal(timers.size, 0);
  } finally {
    globalThis.setTimeout = realTimeout;
    globalThis.clearTimeout = clear;
  }
});

test("useLostConnection: a room that is closed for good has failed", async () => {
  const heard = [];
  const Line = () => String(useLostConnection((loss) => heard.push(loss)));
  await show(h(Line));
  await say({ type: "kicked", roomId: "video_1", reason: "Enough." });
  assert.deepEqual([heard, place.textContent], [["failed"], "true"]);
});

class Boundary extends React.Component {
  state = { error: null };
  static getDerivedStateFromError = (error) => ({ error });
  render() {
    return this.state.error ? this.state.error.message : this.props.children;
  }
}

test("useLiveRoom suspends until the room is live, once", async () => {
  const Line = () => `${useLiveRoom().id} ${useSelf()?.name} ${useStatus()}`;
  await act(() => root.render(inRoom({ fallback: "wait" }, h(Line))));
  assert.equal(place.textContent, "wait");
  await goLive();
  await turn();
  assert.equal(place.textContent, "video_1 ME live");
  await act(() => Socket.last.lose());
  assert.equal(place.textContent, "video_1 ME reconnecting", "a loss does not take the page away");
});

test("useLiveRoom: a room that cannot be entered is for the error boundary; a fallback is required", async () => {
  const { error } = console;
  console.error = () => {}; // React reports what a boundary takes
  try {
    const Line = () => useLiveRoom().id;
    await act(() => root.render(inRoom({ fallback: "wait" }, h(Boundary, null, h(Line)))));
    await turn();
    await act(async () => Socket.last.open());
    await turn();
    const [{ id }] = Socket.last.of("join");
    await say({ type: "error", id, roomId: "video_1", code: "ROOM_FULL", message: "Full." });
    await turn();
    assert.equal(place.textContent, "Room video_1: Full. (ROOM_FULL)");
    await act(() => root.render(h(Boundary, { key: 2 }, inRoom({}, h(Line)))));
    assert.match(place.textContent, /give the RoomProvider above it a fallback/);
  } finally {
    console.error = error;
  }
});

test("on a server a provider with a fallback renders it, and waits for nothing", async () => {
  const { renderToString } = await import("react-dom/server");
  const Line = () => useLiveRoom().id;
  assert.equal(renderToString(inRoom({ fallback: "wait" }, h(Line))), "wait");
});

test("a privacy that changes later applies, and what is not named any more has its default", async () => {
  await act(() => root.render(inRoom({ privacy: { shareCursor: false } })));
  await goLive();
  const privacies = () => Socket.last.of("privacy").map(({ data }) => data);
  await act(() => root.render(inRoom({ privacy: { shareCursor: false } })));
  assert.deepEqual(privacies(), [], "an equal object is no change");
  await act(() => root.render(inRoom({ privacy: { invisible: true } })));
  await act(() => root.render(inRoom({})));
  assert.deepEqual(privacies(), [{ invisible: true, shareCursor: true }, { invisible: false }]);
});

test("a composer that is unmounted stops typing at once, and only its own", async () => {
  const set = {};
  const Comment = ({ context }) => {
    [, set[context]] = useTyping(context);
    return null;
  };
  await show(h(Comment, { key: 1, context: "a" }), h(Comment, { key: 2, context: "b" }));
  const typings = () => Socket.last.of("typing").map(({ data }) => `${data.context} ${data.isTyping}`);
  await act(async () => set.a(true));
  await render(h(Comment, { key: 1, context: "a" }));
  assert.deepEqual(typings(), ["a true"], "the other composer did not type");
  await render();
  assert.deepEqual(typings(), ["a true", "a false"]);
  await render(h(Comment, { key: 3, context: "c" }));
  await act(async () => set.c(true));
  await render(h(Comment, { key: 3, context: "d" }));
  assert.deepEqual(typings().slice(2), ["c true", "c false"], "a composer of another thread");
});

test("useTyping: who types where, and saying so", async () => {
  let setTyping;
  function Comment() {
    const [people, set] = useTyping("reply");
    setTyping = set;
    return people.map((person) => person.name).join(" and ");
  }
  await show(h(Comment));
  await say(event("typing_started", "jane", { context: "other" }));
  assert.equal(place.textContent, "");
  await say(event("typing_started", "tom", { context: "reply" }));
  assert.equal(place.textContent, "TOM");
  setTyping(true);
  assert.deepEqual(Socket.last.of("typing").map(({ data }) => data), [{ isTyping: true, context: "reply" }]);
});

test("useCursor: pointer events become cursors of the element, and go with it", async () => {
  function Picture() {
    return h("div", { id: "picture", ...useCursor(() => 7.5) });
  }
  await show(h(Picture));
  const picture = place.querySelector("#picture");
  picture.getBoundingClientRect = () => ({ left: 100, top: 50, width: 200, height: 100 });
  const pointer = (type, more) => act(() => void picture.dispatchEvent(Object.assign(new window.Event(type, { bubbles: true }), more)));
  window.document.body.append(place);
  await pointer("pointermove", { clientX: 150, clientY: 75 });
  assert.deepEqual(Socket.last.of("cursor").map(({ data }) => data), [{ timestamp: 7.5, x: 0.25, y: 0.25 }]);
  await act(() => root.render(h(RoomProvider, { presence: made, id: "video_1", type: "video" })));
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(Socket.last.of("cursor").at(-1).data, null);
});

test("what hooks return as functions is the same until the room or the target changes, and of the last render", async () => {
  const seen = [];
  function Player({ time, target }) {
    const { onPointerMove, onPointerLeave } = useCursor(() => time, target);
    const { attach, position, command } = usePlayback();
    const film = useTarget(target);
    seen.push([onPointerMove, onPointerLeave, attach, position, command, film.attach, film.position, useTyping()[1], useMyPresence()[1]]);
    return null;
  }
  const media = { main: { target: "main", mediaId: "a" }, right: { target: "right", mediaId: "b", offset: 2 } };
  await render(h(Player, { time: 1, target: "main" }));
  await goLive({ media, playback: { version: 1, isPlaying: false, currentTime: 40, playbackRate: 1, anchor: 0 } });
  const first = seen.at(-1);
  const picture = window.document.createElement("div");
  picture.getBoundingClientRect = () => ({ left: 0, top: 0, width: 100, height: 100 });
  const move = async () => {
    seen.at(-1)[0]({ clientX: 25, clientY: 75, currentTarget: picture });
    await new Promise((resolve) => setTimeout(resolve, 60));
    return Socket.last.of("cursor").at(-1).data;
  };
  assert.deepEqual([(await move()).timestamp, first[6]()], [1, 40]);
  await render(h(Player, { time: 2, target: "main" }));
  assert.deepEqual(seen.at(-1).map((fn, i) => fn === first[i]), first.map(() => true));
  assert.equal((await move()).timestamp, 2);
  await render(h(Player, { time: 3, target: "right" }));
  assert.deepEqual(seen.at(-1).flatMap((fn, i) => (fn === first[i] ? [] : [i])), [5, 6]);
  assert.deepEqual([(await move()).target, seen.at(-1)[6]()], ["right", 42]);
});

test("usePlayback: the state, commands, and a video that is attached by its ref and detached with it", async () => {
  let hook;
  const attached = [];
  function Player() {
    hook = usePlayback();
    return h("video", { ref: hook.attach });
  }
  await show();
  const room = made.enter("video_1");
  room.leave();
  room.attach = (video) => {
    attached.push(video.tagName);
    return () => attached.push("detached");
  };
  await act(() => root.render(h(RoomProvider, { presence: made, id: "video_1", type: "video" }, h(Player))));
  assert.deepEqual([attached, hook.mayControl, hook.playback, hook.position()], [["VIDEO"], true, null, 0]);
  await act(async () => void hook.command({ action: "play", currentTime: 5 }));
  await turn();
  assert.equal(Socket.last.of("playback")[0].data.action, "play");
  assert.equal(hook.playback.isPlaying, true);
  await act(() => root.render(h(RoomProvider, { presence: made, id: "video_1", type: "video" })));
  assert.deepEqual(attached, ["VIDEO", "detached"]);
});

test("usePlayback does not render when others move their cursors, but when control goes from hand to hand", async () => {
  const seen = [];
  function Player() {
    seen.push(usePlayback().mayControl);
    return null;
  }
  await show(h(Player));
  const before = seen.length;
  for (let i = 0; i < 5; i++) await say(event("cursor_moved", "jane", { color: "#123456", timestamp: i, x: 0.5, y: 0.5 }));
  assert.equal(seen.length, before);
  await say(event("control_granted", "jane", { toUserId: "jane", toUserName: "Jane", controllerSessionId: "jane-1", version: 1 }));
  assert.deepEqual(seen.slice(before), [false]);
});

test("useTarget: the film, the cursors and selections of that target, and a player attached to it", async () => {
  const hooks = {};
  const renders = { main: 0, right: 0 };
  const attached = [];
  function Film({ target, mediaId }) {
    renders[target]++;
    hooks[target] = useTarget(target, { mediaId });
    return h("video", { ref: hooks[target].attach });
  }
  await show();
  const room = made.enter("video_1");
  room.leave();
  room.attach = (video, options) => {
    attached.push(options);
    return () => attached.push("detached");
  };
  const films = [h(Film, { key: 1, target: "main" }), h(Film, { key: 2, target: "right", mediaId: "cut-2" })];
  const render = (...children) => act(() => root.render(h(RoomProvider, { presence: made, id: "video_1", type: "video" }, ...children)));
  await render(...films);
  assert.deepEqual(attached, [{ target: "main", mediaId: undefined }, { target: "right", mediaId: "cut-2" }]);
  assert.deepEqual([hooks.main.medium, hooks.main.isOther, hooks.main.cursors, hooks.right.position()], [undefined, false, [], 0]);

  const medium = { mediaId: "cut-2", offset: 2.4 };
  const playback = { isPlaying: false, currentTime: 0, playbackRate: 1, anchor: 1, version: 1 };
  await say(event("media_changed", "jane", { target: "right", medium, playback }));
  assert.deepEqual([hooks.right.medium, hooks.right.position(), hooks.main.medium], [medium, 2.4, undefined]);

  const before = { ...renders };
  await say(event("cursor_moved", "jane", { color: "#123456", timestamp: 1, x: 0.5, y: 0.5, target: "right" }));
  assert.deepEqual(hooks.right.cursors.map(({ name, cursor }) => [name, cursor.x]), [["JANE", 0.5]]);
  assert.deepEqual(renders, { ...before, right: before.right + 1 }, "a cursor renders the components of its target only");
  await say(event("cursor_moved", "tom", { color: "#123456", timestamp: 1, x: 0.5, y: 0.5, target: "right", mediaId: "cut-3" }));
  assert.equal(hooks.right.cursors.length, 1, "that film is not shown here");
  await say(event("selection_changed", "tom", { color: "#123456", startTime: 1, endTime: 2 }));
  assert.deepEqual(hooks.main.selections.map(({ userId, selection }) => [userId, selection.endTime]), [["tom", 2]]);
  await render();
  assert.deepEqual(attached.slice(2), ["detached", "detached"]);
});

test("useCursor names its target", async () => {
  const Picture = () => h("div", { id: "right", ...useCursor(() => 1, "right") });
  await show(h(Picture));
  const picture = place.querySelector("#right");
  picture.getBoundingClientRect = () => ({ left: 0, top: 0, width: 200, height: 100 });
  window.document.body.append(place);
  await act(() => void picture.dispatchEvent(Object.assign(new window.Event("pointermove", { bubbles: true }), { clientX: 50, clientY: 50 })));
  assert.deepEqual(Socket.last.of("cursor").map(({ data }) => data), [{ timestamp: 1, x: 0.25, y: 0.5, target: "right" }]);
});

test("StrictMode enters once and leaves once", async () => {
  const Names = () => useOthers((others) => others.map((person) => person.name)).join();
  await act(() => root.render(h(StrictMode, null, h(RoomProvider, { presence: made, id: "video_1", type: "video" }, h(Names)))));
  await turn();
  await act(async () => Socket.last.open());
  await turn();
  const sent = () => Socket.all.flatMap((socket) => socket.sent.map(({ type }) => type)).filter((type) => type !== "heartbeat");
  assert.deepEqual(sent(), ["auth", "join"]);
  await say({ ...snapshot([row("jane")]), id: Socket.last.of("join")[0].id });
  assert.equal(place.textContent, "JANE");
  await act(() => root.render(null));
  await turn();
  assert.deepEqual(sent(), ["auth", "join", "leave"]);
  assert.equal(made.status, "closed");
});

test("another id leaves one room and enters the other, on the same connection", async () => {
  const Status = () => useSnapshot(({ roomId, status }) => `${roomId} ${status}`);
  await show(h(Status));
  assert.equal(place.textContent, "video_1 live");
  await act(() => root.render(h(RoomProvider, { presence: made, id: "project_2" }, h(Status))));
  await turn();
  assert.equal(place.textContent, "project_2 connecting");
  assert.deepEqual(Socket.last.sent.map(({ type, roomId }) => [type, roomId]).sort(), [["join", "project_2"], ["leave", "video_1"]]);
  assert.equal(Socket.all.length, 1);
});

test("on a server the hooks render an empty room", async () => {
  const { renderToString } = await import("react-dom/server");
  const Page = () => `${useOthers().length} ${useTarget("right").cursors.length} ${usePlayback().mayControl} ${useSnapshot(({ status }) => status)}`;
  const html = renderToString(h(RoomProvider, { presence: made, id: "video_1", type: "video" }, h(Page)));
  assert.equal(html, "0 0 false connecting");
  assert.equal(Socket.all.length, 0, "nothing connects");
});

for (const [name, use] of Object.entries({ useRoom, useOthers, useSelf, useSnapshot, useCursor, useTyping, usePlayback, useTarget })) {
  test(`${name} outside of a provider throws with what to do`, async () => {
    const { error: log } = console;
    console.error = () => {}; // React reports it as well
    try {
      await assert.rejects(async () => act(() => root.render(h(() => String(use())))), /This hook needs a <RoomProvider/);
    } finally {
      console.error = log;
    }
  });
}

test("a provider without a presence throws with what is missing", async () => {
  const { error: log } = console;
  console.error = () => {};
  try {
    await assert.rejects(async () => act(() => root.render(h(RoomProvider, { id: "video_1" }))), { name: "TypeError", message: /`presence` is missing/ });
  } finally {
    console.error = log;
  }
});

test("what a return was is in the snapshot of the hooks", async () => {
  let returned;
  const Page = () => {
    returned = useSnapshot((shot) => shot.returned);
    return null;
  };
  await show(h(Page));
  assert.equal(returned, null);
  await act(() => Socket.last.lose());
  const sockets = Socket.all.length;
  while (Socket.all.length === sockets) await act(() => new Promise((resolve) => setTimeout(resolve, 10)));
  await act(async () => Socket.last.open({ resumed: true, rooms: ["video_1"] }));
  await turn();
  await say(snapshot([row("jane")]));
  assert.equal(returned.resumed, true);
});

test("useRooms: rooms that are not entered, with a list that changes, in StrictMode", async () => {
  const List = ({ ids }) => {
    const rooms = useRooms(ids);
    return ids.map((id) => `${id} ${rooms[id]?.userCount ?? "?"}`).join();
  };
  const renderList = (ids) => act(() => root.render(h(StrictMode, null, h(PresenceProvider, { presence: made }, h(List, { ids })))));
  await renderList(["video_1", "video_2"]);
  await turn();
  await act(async () => Socket.last.open());
  await turn();
  assert.equal(Socket.all.length, 1);
  assert.deepEqual(Socket.last.of("watch").map(({ rooms }) => rooms), [["video_1", "video_2"]]);
  await say({ type: "watching", id: Socket.last.of("watch")[0].id, rooms: ["video_1", "video_2"], refused: [] });
  await say({ type: "room_summary", roomId: "video_1", userCount: 2, users: [] });
  assert.equal(place.textContent, "video_1 2,video_2 ?");
  await renderList(["video_1"]);
  assert.equal(place.textContent, "video_1 2");
  await act(() => root.render(null));
  await turn();
  assert.equal(made.status, "closed");
});

test("useRooms inside a RoomProvider uses its presence, and throws a sentence without one", async () => {
  const Count = () => String(useRooms(["video_9"]).video_9?.userCount);
  await show(h(Count));
  assert.deepEqual(Socket.last.of("watch").concat(Socket.last.of("join")), []);
  await say({ type: "room_summary", roomId: "video_9", userCount: 4, users: [] });
  assert.equal(place.textContent, "4");
  const { renderToString } = await import("react-dom/server");
  assert.throws(() => renderToString(h(Count)), /PresenceProvider or a RoomProvider/);
  assert.equal(renderToString(h(PresenceProvider, { presence: made }, h(Count))), "undefined");
});

test("useMyPresence: the own object at once, and one function", async () => {
  const functions = new Set();
  let set;
  let renders = 0;
  function Mine() {
    const [mine, setMine] = useMyPresence();
    functions.add(setMine);
    set = setMine;
    renders++;
    return h("p", null, JSON.stringify(mine));
  }
  await act(() => root.render(inRoom({ initialPresence: { tool: "pen" } }, h(Mine))));
  await turn();
  await act(async () => Socket.last.open());
  await turn();
  const [join] = Socket.last.of("join");
  assert.deepEqual(join.presence, { tool: "pen" });
  await say({ ...snapshot([row("jane")]), id: join.id });
  assert.equal(place.textContent, '{"tool":"pen"}');
  const before = renders;
  await act(async () => set({ tool: "hand", n: 1 }));
  assert.equal(place.textContent, '{"tool":"hand","n":1}');
  await act(async () => set({ n: 1 }));
  assert.equal(renders, before + 1);
  assert.ok(functions.size <= 2, "one without a room and one with it");
});

test("useOther: a user or a session, by what is selected; one render per change", async () => {
  let renders = 0;
  function Other({ id }) {
    renders++;
    const view = useOther(id, (other) => other.presence?.view);
    return h("p", null, JSON.stringify(view));
  }
  await show(h(Other, { id: "jane" }));
  assert.equal(place.textContent, "");
  await say(event("presence_changed", "jane", { view: { x: 1 } }));
  assert.equal(place.textContent, '{"x":1}');
  const before = renders;
  await say(event("presence_changed", "jane", { other: 1 }));
  await say(event("presence_changed", "jane", { view: { x: 1 } }));
  await say(event("cursor_moved", "jane", { timestamp: 1, color: "#1" }));
  await say(event("presence_changed", "tom", { view: { x: 9 } }));
  assert.equal(renders, before, "nothing that it shows has changed");
  await say(event("presence_changed", "jane", { view: { x: 2 } }));
  assert.equal(renders, before + 1);
  await render(h(Other, { id: "tom-1" }));
  assert.equal(place.textContent, '{"x":9}');
  await render(h(Other, { id: "nobody" }));
  assert.equal(place.textContent, "null");
  await render(h(Other, { id: undefined }));
  assert.equal(place.textContent, "null");
});

test("useOther finds another own session, and not this one", async () => {
  const Other = ({ id }) => h("p", null, useOther(id)?.sessionId ?? "none");
  await render(h(Other, { id: "s0" }));
  await turn();
  await act(async () => Socket.last.open());
  await turn();
  await say({ ...snapshot([row("me", "s9")]), id: Socket.last.of("join")[0].id });
  assert.equal(place.textContent, "none");
  await render(h(Other, { id: "s9" }));
  assert.equal(place.textContent, "s9");
});
