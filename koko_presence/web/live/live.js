/**
 * The live page: reads the operator port once a second and draws the values. Without the key it shows all but the rooms.
 */

/** @import { Alarm } from "./alarms.js" */

import { raisedAlarms } from "./alarms.js";
import { make } from "./draw.js";
import { elementById } from "./page.js";
import { drawKinds, drawLatency, drawTraffic } from "./plots.js";
import { amount, History, read, span } from "./readings.js";
import { request } from "./requests.js";
import { startRooms } from "./rooms.js";
import { createTiles } from "./tiles.js";
import { createWorkers } from "./workers.js";

const EVERY_MS = 1000;
const STALE_MS = 4000;
const MINUTES = 5;

const history = new History(MINUTES * 60);
/** The answer of /readyz, and since when it is not ok. */
const ready = { ok: false, reason: "", since: /** @type {number | null} */ (null) };
let lastAnswerAt = 0; // 0: none yet
let problem = ""; // of the last reading

const drawTiles = createTiles();
const drawWorkers = createWorkers();

async function pulse() {
  const began = performance.now();
  await readOnce();
  draw();
  setTimeout(pulse, Math.max(100, EVERY_MS - (performance.now() - began)));
}

async function readOnce() {
  try {
    const [metrics, readyz] = await Promise.all([request("/metrics"), request("/readyz")]);
    if (metrics.status !== 200) throw new Error(`/metrics answers ${metrics.status}`);
    history.push(read(metrics.text, performance.now()));
    lastAnswerAt = performance.now();
    const ok = readyz.status === 200;
    if (ok || ready.ok || ready.since === null) ready.since = ok ? null : lastAnswerAt;
    ready.ok = ok;
    ready.reason = ok ? "" : JSON.parse(readyz.text).reason || "";
    problem = "";
  } catch (error) {
    problem = wordsFor(/** @type {Error} */ (error));
  }
}

/** @param {Error} error */
function wordsFor({ name, message }) {
  if (name === "TimeoutError") return "it takes too long";
  return message === "Failed to fetch" ? "nobody is there" : message;
}

function draw() {
  const silentMs = performance.now() - lastAnswerAt;
  const isStale = lastAnswerAt ? silentMs > STALE_MS : problem !== "";
  showState(isStale, silentMs);
  if (history.isEmpty) return;
  elementById("clock").textContent = new Date().toLocaleTimeString();
  showAlarms(isStale ? [silenceAlarm(silentMs)] : raisedAlarms(history, ready, performance.now()));
  if (isStale) return;
  showHead();
  drawTiles(history);
  drawTraffic(history);
  drawLatency(history);
  drawWorkers(history);
  drawKinds(history);
}

/**
 * @param {boolean} isStale
 * @param {number} silentMs
 */
function showState(isStale, silentMs) {
  const state = stateOf(isStale, silentMs);
  document.body.dataset.state = state.name;
  elementById("state-word").textContent = state.word;
  elementById("state-text").textContent = state.text;
  document.title = `${state.name === "ready" ? "" : `${state.word} · `}koko presence: live`;
}

/**
 * @param {boolean} isStale
 * @param {number} silentMs
 */
function stateOf(isStale, silentMs) {
  if (isStale && lastAnswerAt) {
    return { name: "stale", word: "No answer", text: `for ${span(silentMs / 1000)}: ${problem}. What you see is old.` };
  }
  if (isStale) return { name: "stale", word: "No answer", text: `yet: ${problem}` };
  if (!lastAnswerAt) return { name: "waiting", word: "Waiting", text: "for the first answer" };
  if (ready.ok) return { name: "ready", word: "Ready", text: "every worker serves" };
  return { name: "unready", word: "Not ready", text: ready.reason };
}

/**
 * @param {number} silentMs
 * @returns {Omit<Alarm, "row">}
 */
function silenceAlarm(silentMs) {
  return {
    level: "bad",
    title: `The server has not answered for ${span(silentMs / 1000)}`,
    means: "Everything below is as it was then.",
    act: "systemctl status koko-presence; journalctl -u koko-presence -n 50. Or is the way from here to the operator port cut?",
  };
}

/** @param {Omit<Alarm, "row">[]} alarms */
function showAlarms(alarms) {
  const list = elementById("alarms");
  const shown = alarms.map(({ level, title, means }) => `${level}${title}${means}`).join("\n");
  if (list.dataset.said === shown) return;
  list.dataset.said = shown;
  list.replaceChildren(...alarms.map(({ level, title, means, act }) => {
    return make("div", `alarm ${level}`, make("strong", "", title), make("span", "", means), make("span", "", act));
  }));
}

function showHead() {
  const versions = [...new Set(history.last.of("build_info").map(({ labels }) => labels.version))];
  elementById("version").textContent = versions.length ? `version ${versions.join(" and ")}` : "";
  const starts = history.last.of("worker_start_time_seconds").map(({ value }) => value).filter(Boolean);
  elementById("uptime").textContent = starts.length ? `up ${span(Date.now() / 1000 - Math.min(...starts))}` : "";
  elementById("foot").textContent = `Read once a second; ${amount(history.readings.length)} readings, ${MINUTES} minutes at most.`;
}

addEventListener("resize", draw);
pulse();
startRooms();
