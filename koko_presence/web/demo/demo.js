/** The demo page: who is here, where they point, what they say, and one film that all of them watch. */

import { Connection } from "./connection.js";
import { Cursors } from "./cursors.js";
import { $, make, paint, setText, trailing } from "./page.js";
import { DURATION_S, FPS, drawScene, timecode } from "./scene.js";

const CURSOR_MS = 50; // 20 per second, the limit of the protocol
const SEEK_MS = 250; // 4 per second; the limit is 5
const TYPING = { refresh: 3000, stop: 4000 }; // the server stops it by itself after 5 s
const IDLE_MS = 120_000;
const NAMES = ["Ada Lindqvist", "Bruno Reyes", "Chidi Okafor", "Dana Kovac", "Elif Demir", "Farah Haddad", "Goro Tanaka",
  "Hana Novak", "Ines Duarte", "Jonas Weber", "Kira Petrov", "Lior Katz", "Maya Rao", "Nils Berg", "Olu Adeyemi"];
const STATUS = { active: "Active", idle: "Idle", away: "Away", busy: "Busy", reviewing: "Reviewing" };

const shortTime = (t) => timecode(t).slice(3, 8);

// --- who am I -----------------------------------------------------------------------------------------------------

function someone() {
  const [chance] = crypto.getRandomValues(new Uint32Array(1));
  return { user: `guest-${chance.toString(36)}`, name: NAMES[chance % NAMES.length] };
}

const asked = new URLSearchParams(location.search);
const made = JSON.parse(sessionStorage.getItem("me")) ?? someone();
sessionStorage.setItem("me", JSON.stringify(made));
const me = { user: asked.get("user") || made.user, name: asked.get("name") || asked.get("user") || made.name };
const room = asked.get("room") || "video_demo";
const connection = new Connection({ ...me, room, onState, onMessage });
$("room").textContent = room;

// --- people -------------------------------------------------------------------------------------------------------

let mySession = "";
const members = new Map(); // session id -> PresenceUser; a person may have several
const cursors = new Cursors($("cursors"), (member) => paint(make("cursor"), member));
const marks = new Map();

function nameOf(userId) {
  return [...members.values()].find((member) => member.userId === userId)?.name ?? userId;
}

function renderPeople() {
  const people = Map.groupBy(members.values(), (member) => member.userId);
  $("people").replaceChildren(...[...people].map(([userId, sessions]) => {
    const connected = sessions.filter((each) => each.connected);
    const best = connected.find((each) => each.status === "active") ?? connected[0];
    const row = paint(make("person"), sessions[0]);
    row.dataset.user = userId;
    row.dataset.status = best ? best.status : "away";
    const status = best ? STATUS[best.status] : "Reconnecting";
    const notes = [userId === me.user && "you", status, userId === control.holder && "in control"];
    row.querySelector(".note").textContent = notes.filter(Boolean).join(" · ");
    return row;
  }));
  $("count").textContent = people.size;
  const isTyping = ({ isTyping, sessionId }) => isTyping && sessionId !== mySession;
  const names = [...people.values()].filter((sessions) => sessions.some(isTyping)).map(([{ name }]) => name);
  const who = names.length > 2 ? `${names.length} people are` : `${names.join(" and ")} ${names.length > 1 ? "are" : "is"}`;
  setText($("typing"), names.length ? `${who} typing…` : "");
}

function moveCursor(member, cursor) {
  if (cursor?.x === undefined) cursors.hide(member.sessionId);
  else cursors.show(member.sessionId, cursor, member);
  const mark = marks.get(member.sessionId) ?? paint(make("mark"), member);
  marks.set(member.sessionId, mark);
  if (cursor?.timestamp === undefined) return mark.remove();
  mark.style.left = `${(cursor.timestamp / DURATION_S) * 100}%`;
  if (!mark.isConnected) $("marks").append(mark);
}

function forget(sessionId) {
  cursors.hide(sessionId);
  marks.get(sessionId)?.remove();
  marks.delete(sessionId);
  members.delete(sessionId);
}

// --- my cursor ----------------------------------------------------------------------------------------------------

let pointing = false;
const sendCursor = trailing(CURSOR_MS, (cursor) => connection.send("cursor", cursor));

function point(cursor) {
  if (cursor || pointing) sendCursor(cursor);
  pointing = cursor !== null;
}

const within = (value, from, size) => Math.round(Math.min(1, Math.max(0, (value - from) / size)) * 1e4) / 1e4;

$("picture").addEventListener("pointermove", ({ clientX, clientY }) => {
  const { left, top, width, height } = $("screen").getBoundingClientRect();
  point({ timestamp: filmTime(), x: within(clientX, left, width), y: within(clientY, top, height) });
});
$("timeline").addEventListener("pointermove", ({ clientX }) => {
  const { left, width } = $("marks").getBoundingClientRect();
  point({ timestamp: within(clientX, left, width) * DURATION_S });
});
for (const place of [$("picture"), $("timeline")]) place.addEventListener("pointerleave", () => point(null));
addEventListener("blur", () => point(null));

// --- the film -----------------------------------------------------------------------------------------------------

const AT_START = { isPlaying: false, currentTime: 0, playbackRate: 1, anchor: 0, version: 0 };
let playback = AT_START;
let scrubbing = false;

function position() {
  const { isPlaying, currentTime, playbackRate, anchor } = playback;
  return currentTime + (isPlaying ? Math.max(0, connection.serverNow - anchor) / 1000 * playbackRate : 0);
}

const filmTime = () => position() % DURATION_S; // it runs in a loop
const mayPlay = () => mySession !== "" && (!control.holder || control.holder === me.user);

function showPlayback(state) {
  playback = state;
  $("play").setAttribute("aria-label", state.isPlaying ? "Pause" : "Play");
  $("play").querySelector("use").setAttribute("href", state.isPlaying ? "#i-pause" : "#i-play");
}

const sendPlayback = (data) => connection.send("playback", data);
const sendSeek = trailing(SEEK_MS, sendPlayback);

/** Do it here at once; the server's answer settles it for everybody. */
function command(action, currentTime, send = sendPlayback) {
  if (!mayPlay()) return;
  const at = connection.serverNow;
  const isPlaying = action === "seek" ? playback.isPlaying : action === "play";
  showPlayback({ ...playback, isPlaying, currentTime, anchor: at });
  send({ action, currentTime, at });
}

$("play").addEventListener("click", () => command(playback.isPlaying ? "pause" : "play", filmTime()));
$("seek").addEventListener("input", () => {
  scrubbing = true;
  command("seek", $("seek").valueAsNumber, sendSeek);
});
$("seek").addEventListener("change", () => (scrubbing = false));

let drawn = -1;
let before = 0;

function frame(time) {
  const t = filmTime();
  const number = Math.floor(t * FPS + 1e-6);
  if (number !== drawn) {
    drawn = number;
    drawScene($("screen").getContext("2d"), number / FPS);
    $("time").textContent = shortTime(t);
  }
  if (!scrubbing) $("seek").value = t;
  $("timeline").style.setProperty("--played", t / DURATION_S);
  cursors.frame(Math.min(0.1, (time - before) / 1000));
  before = time;
  requestAnimationFrame(frame);
}

// --- control of the film ------------------------------------------------------------------------------------------

const control = { holder: undefined, requests: new Map() }; // user id -> name

let shownControl = "";

function renderControl() {
  renderPeople();
  const { holder, requests } = control;
  const key = JSON.stringify([mySession, holder, nameOf(holder), ...requests]);
  if (key === shownControl) return; // a button that is replaced while it is pressed never gets its click
  shownControl = key;
  const mine = holder === me.user;
  setText($("control"), !mySession ? "You are not in the room." : mine ? "You have control. Only you can play, pause and seek."
    : holder ? `${nameOf(holder)} has control.` : "Everyone can play, pause and seek.");
  const action = mine ? ["Release", "control_release"]
    : !holder ? ["Take control", "control_request"]
    : requests.has(me.user) ? ["Withdraw request", "control_cancel"] : ["Request control", "control_request"];
  const asking = [...requests].map(([toUserId, name]) => line(`${name} asks for control`,
    ["Grant", "control_grant", { toUserId }], ["Deny", "control_deny", { toUserId }]));
  const focused = $("control-actions").contains(document.activeElement);
  $("control-actions").replaceChildren(...(mine ? asking : []), line("", action));
  if (focused) $("control-actions").querySelector("button").focus();
  $("play").disabled = $("seek").disabled = !mayPlay();
}

function line(text, ...actions) {
  const row = document.createElement("p");
  row.append(text, ...actions.map(([label, type, data]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.disabled = mySession === "";
    button.addEventListener("click", () => connection.send(type, data));
    return button;
  }));
  return row;
}

// --- comments, reactions, typing ----------------------------------------------------------------------------------

let typingSentAt = -Infinity;
let typingTimer = 0;

function setTyping(isTyping) {
  clearTimeout(typingTimer);
  if (isTyping) typingTimer = setTimeout(() => setTyping(false), TYPING.stop);
  const due = isTyping ? performance.now() - typingSentAt >= TYPING.refresh : typingSentAt > 0;
  if (!due) return;
  typingSentAt = isTyping ? performance.now() : -Infinity;
  connection.send("typing", { isTyping, context: "comment" });
}

const EMOJI_WITH_ICON = new Set([...document.querySelectorAll("[data-emoji]")].map((button) => button.dataset.emoji));

/** Show what somebody said; what comes from others is text and nothing else. */
function showSaid({ type, text, emoji, timestamp }, member) {
  const said = String((type === "comment" ? text : emoji) ?? "").slice(0, 500);
  if (!said || !["comment", "reaction"].includes(type)) return;
  const float = paint(make("float"), member);
  if (EMOJI_WITH_ICON.has(said)) float.querySelector("use").setAttribute("href", `#i-${said}`);
  else float.querySelector(".text").textContent = said;
  float.classList.add(type);
  float.style.setProperty("--lane", Math.random());
  float.addEventListener("animationend", () => float.remove());
  $(type === "comment" ? "captions" : "floats").append(float);
  if (type === "comment") showComment(said, Math.min(DURATION_S, Math.max(0, Number(timestamp) || 0)), member);
}

function showComment(text, t, member) {
  const comment = paint(make("comment"), member);
  comment.querySelector("p").textContent = text;
  comment.querySelector(".moment").textContent = shortTime(t);
  comment.querySelector(".moment").addEventListener("click", () => command("seek", t));
  $("feed").append(comment);
  if ($("feed").children.length > 200) $("feed").firstChild.remove();
  $("feed").parentElement.scrollTop = $("feed").offsetHeight;
}

function say(data) {
  connection.send("broadcast", data);
  showSaid(data, members.get(mySession));
}

$("words").addEventListener("input", () => setTyping($("words").value !== ""));
$("words").addEventListener("blur", () => setTyping(false));
$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("words").value.trim();
  if (!text || !mySession) return;
  setTyping(false);
  say({ type: "comment", text, timestamp: filmTime() });
  $("words").value = "";
});
for (const button of document.querySelectorAll("[data-emoji]")) {
  const { emoji } = button.dataset;
  button.addEventListener("click", () => mySession && say({ type: "reaction", emoji, timestamp: filmTime() }));
}

// --- the connection -----------------------------------------------------------------------------------------------

function onState(state, text) {
  document.body.dataset.state = state;
  $("connection").textContent = text;
  $("leave").textContent = state === "stopped" ? "Rejoin" : "Leave";
  if (state === "live") return;
  mySession = "";
  pointing = false;
  typingSentAt = -Infinity;
  for (const [sessionId, member] of members) state === "stopped" ? forget(sessionId) : moveCursor(member, null);
  if (state === "stopped") control.holder = undefined;
  renderControl();
}

const HANDLERS = {
  joined({ sessionId, room }) {
    [...members.keys()].forEach(forget);
    mySession = sessionId;
    for (const member of room.users) {
      members.set(member.sessionId, member);
      if (member.sessionId !== sessionId) moveCursor(member, member.cursor);
    }
    control.holder = room.controller;
    control.requests = new Map(room.controlRequests.map(({ userId, requesterName }) => [userId, requesterName]));
    showPlayback(room.playback ?? AT_START);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (!room.playback && room.userCount === 1 && !still) command("play", 0);
  },
  user_joined({ userId, sessionId, data }) {
    members.set(sessionId, { userId, sessionId, connected: true, isTyping: false, ...data });
    if (data.sessionCount === 1) notice(`${data.name} joined`);
  },
  user_left({ userId, sessionId, data }) {
    if (data.sessionCount === 0) {
      notice(`${nameOf(userId)} left`);
      control.requests.delete(userId);
    }
    forget(sessionId);
  },
  status_changed({ userId, sessionId, data }) {
    for (const member of members.values()) {
      if (member.sessionId === sessionId) Object.assign(member, data);
      else if (member.userId === userId && data.connected) member.status = data.status;
    }
  },
  cursor_moved({ sessionId, data }, member) {
    if (member) moveCursor(member, data);
  },
  typing_started(_, member) {
    if (member) member.isTyping = true;
  },
  typing_stopped(_, member) {
    if (member) member.isTyping = false;
  },
  playback_synced({ userId, sessionId, data }) {
    if (sessionId === mySession && scrubbing) return; // the thumb is ahead of its own echo
    showPlayback({ ...data, anchor: data.serverTime });
    const pressed = sessionId !== mySession && ["play", "pause"].includes(data.action);
    if (pressed) notice(`${nameOf(userId)} pressed ${data.action}`);
  },
  control_requested({ userId, data }) {
    control.requests.set(userId, data.requesterName);
  },
  control_granted({ data }) {
    control.holder = data.toUserId;
    control.requests.delete(data.toUserId);
  },
  control_denied({ data }) {
    control.requests.delete(data.toUserId);
    if (data.toUserId === me.user && data.reason === "denied") notice("Your request was declined");
  },
  control_released() {
    control.holder = undefined;
  },
  broadcast({ data }, member) {
    if (member) showSaid(data, member);
  },
  error({ message, state }) {
    if (state?.anchor) showPlayback(state); // snap back to where the room is
    notice(message);
  },
  kicked: ({ reason }) => connection.stop(`You were removed: ${reason}`),
  server_notice: ({ message }) => notice(message),
};

function onMessage(message) {
  HANDLERS[message.type]?.(message, members.get(message.sessionId));
  if (message.type !== "cursor_moved") renderControl();
}

let noticeTimer = 0;

function notice(text) {
  clearTimeout(noticeTimer);
  $("notice").textContent = text;
  noticeTimer = setTimeout(() => ($("notice").textContent = ""), 4000);
}

$("leave").addEventListener("click", () => {
  if (document.body.dataset.state === "stopped") connection.open();
  else connection.stop("You left");
});
$("invite").addEventListener("click", () => {
  const query = new URLSearchParams({ ...someone(), room });
  open(`/demo?${query}`, "_blank", "popup,noopener,width=1180,height=860");
});

let idleTimer = 0;

function awake() {
  clearTimeout(idleTimer);
  idleTimer = setTimeout(() => connection.heartbeat("idle"), IDLE_MS);
  if (connection.activity !== "active") connection.heartbeat("active");
}

for (const sign of ["pointermove", "pointerdown", "keydown"]) addEventListener(sign, awake, { passive: true });
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return awake();
  point(null);
  connection.heartbeat("idle");
});

awake();
connection.open();
requestAnimationFrame(frame);
