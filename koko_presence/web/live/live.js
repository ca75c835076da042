// The live page: reads the operator port once a second and draws the values. Without the key it shows all but the rooms.

import { ringing } from "./alarms.js";
import { bars, make, spark, trails } from "./draw.js";
import { amount, History, quantile, read, size, span, time } from "./readings.js";

const EVERY_MS = 1000;
const ANSWER_WITHIN_MS = 2500;
const STALE_MS = 4000;
const ROOMS_EVERY_MS = 2000;
const MINUTES = 5;
const TRAIL = 60;
const KEY = "koko-presence-key";
const PAGE = 200;

const $ = (id) => document.getElementById(id);
const history = new History(MINUTES * 60);
const ready = { ok: false, reason: "", since: null };
let heardAt = 0;
let problem = "";
let key = sessionStorage.getItem(KEY) || "";
let chosen = "";

// --- requests -----------------------------------------------------------------------------------------------------------

async function ask(path, withKey = false) {
  const headers = withKey ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(ANSWER_WITHIN_MS), cache: "no-store" });
  return { status: answer.status, text: await answer.text() };
}

async function readOnce() {
  try {
    const [metrics, readyz] = await Promise.all([ask("/metrics"), ask("/readyz")]);
    if (metrics.status !== 200) throw new Error(`/metrics answers ${metrics.status}`);
    history.push(read(metrics.text, performance.now()));
    heardAt = performance.now();
    const ok = readyz.status === 200;
    if (ok || ready.ok || ready.since === null) ready.since = ok ? null : heardAt;
    ready.ok = ok;
    ready.reason = ok ? "" : JSON.parse(readyz.text).reason || "";
    problem = "";
  } catch (error) {
    problem = error.name === "TimeoutError" ? "it takes too long" : error.message === "Failed to fetch" ? "nobody is there" : error.message;
  }
}

async function pulse() {
  const began = performance.now();
  await readOnce();
  draw();
  setTimeout(pulse, Math.max(100, EVERY_MS - (performance.now() - began)));
}

// --- the head and the alarms --------------------------------------------------------------------------------------------

function draw() {
  const now = performance.now();
  const silent = now - (heardAt || 0);
  const stale = heardAt ? silent > STALE_MS : Boolean(problem);
  const state = stale ? "stale" : !heardAt ? "waiting" : ready.ok ? "ready" : "unready";
  document.body.dataset.state = state;
  const words = { stale: "No answer", waiting: "Waiting", ready: "Ready", unready: "Not ready" };
  $("state-word").textContent = words[state];
  $("state-text").textContent = {
    stale: heardAt ? `for ${span(silent / 1000)}: ${problem}. What you see is old.` : `yet: ${problem}`,
    waiting: "for the first answer",
    ready: "every worker serves",
    unready: ready.reason,
  }[state];
  document.title = `${state === "ready" ? "" : `${words[state]} · `}koko presence: live`;
  if (!history.last) {
    return;
  }
  $("clock").textContent = new Date().toLocaleTimeString();
  drawAlarms(stale, silent, now);
  if (stale) return;
  drawHead();
  drawTiles();
  drawPlots();
  drawWorkers();
  drawKinds();
}

function drawAlarms(stale, silent, now) {
  const rings = stale
    ? [{
        level: "bad",
        title: `The server has not answered for ${span(silent / 1000)}`,
        means: "Everything below is as it was then.",
        act: "systemctl status koko-presence; journalctl -u koko-presence -n 50. Or is the way from here to the operator port cut?",
      }]
    : ringing(history, ready, now);
  const said = rings.map((ring) => `${ring.level}${ring.title}${ring.means}`).join("\n");
  if ($("alarms").dataset.said === said) return;
  $("alarms").dataset.said = said;
  $("alarms").replaceChildren(
    ...rings.map((ring) =>
      make("div", `alarm ${ring.level}`, make("strong", "", ring.title), make("span", "", ring.means), make("span", "", ring.act)),
    ),
  );
}

function drawHead() {
  const builds = [...new Set(history.last.of("build_info").map((one) => one.labels.version))];
  $("version").textContent = builds.length ? `version ${builds.join(" and ")}` : "";
  const starts = history.last.of("worker_start_time_seconds").map((one) => one.value).filter(Boolean);
  $("uptime").textContent = starts.length ? `up ${span(Date.now() / 1000 - Math.min(...starts))}` : "";
  $("foot").textContent = `Read once a second; ${amount(history.readings.length)} readings, ${MINUTES} minutes at most.`;
}

// --- tiles --------------------------------------------------------------------------------------------------------------

const total = (name) => (one) => one.total(name);
const TILES = [
  {
    name: "Connections",
    value: () => amount(history.last.total("connections")),
    more: () => `${amount(history.rate("connections_accepted_total"))}/s new`,
    trail: () => history.values(total("connections")),
  },
  {
    name: "People",
    value: () => amount(history.last.total("users")),
    more: () => `${amount(history.last.total("sessions"))} sessions`,
    trail: () => history.values(total("users")),
  },
  {
    name: "Rooms",
    value: () => amount(history.last.total("rooms")),
    more: () => `largest has ${amount(history.last.max("room_members_max"))}`,
    trail: () => history.values(total("rooms")),
  },
  {
    name: "Joins per second",
    value: () => amount(history.rate("joins_total")),
    more: () => `p99 ${time(quantile(0.99, history.buckets("join_duration_seconds", {}, 30)))}`,
    trail: () => history.trail(total("joins_total")),
  },
  {
    name: "Latency p99",
    value: () => time(p99()),
    more: () => `half within ${time(quantile(0.5, history.buckets("broadcast_duration_seconds")))}`,
    trail: () => history.quantiles(0.99, "broadcast_duration_seconds", {}),
    level: () => heat(p99(), 0.025, 0.05),
  },
  {
    name: "Longest loop lag",
    value: () => time(history.last.max("loop_lag_max_seconds")),
    more: () => "in the last minute",
    trail: () => history.values((one) => one.max("loop_lag_max_seconds")),
    level: () => heat(history.last.max("loop_lag_max_seconds"), 0.1, 0.5),
  },
  {
    name: "Sent to clients",
    value: () => (history.readings.length > 1 ? `${size(history.rate("fanout_bytes_total"))}/s` : "–"),
    more: () => `${amount(history.rate("flushes_total"))} flushes/s`,
    trail: () => history.trail(total("fanout_bytes_total")),
  },
  {
    name: "Slow receivers",
    value: () => amount(history.last.total("slow_receivers")),
    more: () => `${size(history.last.total("send_queue_bytes"))} wait to be read`,
    trail: () => history.values(total("slow_receivers")),
    level: () => (history.since((one) => one.total("slow_receivers") > 0) > 30000 ? "warm" : ""),
  },
];

/** Seconds that a drawing spans: it grows with the number of readings, up to `most`. */
const window = (most, least) => Math.min(most, Math.max(least, history.readings.length));
const p99 = () => quantile(0.99, history.buckets("broadcast_duration_seconds"));
const heat = (value, warm, bad) => (value === null || value < warm ? "" : value < bad ? "warm" : "bad");

function makeTiles() {
  for (const tile of TILES) {
    tile.valueBox = make("div", "value", "–");
    tile.moreBox = make("div", "more");
    tile.sparkBox = make("div", "spark");
    tile.box = make("div", "tile", make("div", "name", tile.name), tile.valueBox, tile.moreBox, tile.sparkBox);
    $("tiles").append(tile.box);
  }
}

function drawTiles() {
  for (const tile of TILES) {
    tile.valueBox.textContent = tile.value();
    tile.moreBox.textContent = tile.more();
    tile.box.className = `tile ${tile.level ? tile.level() : ""}`;
    spark(tile.sparkBox, tile.trail(), window(TRAIL, 15), `${tile.name} over the last minute`);
  }
}

// --- plots --------------------------------------------------------------------------------------------------------------

function drawPlots() {
  const incoming = history.trail(total("messages_received_total"));
  const outgoing = history.trail(total("messages_sent_total"));
  const label = `Messages: now ${amount(incoming.at(-1))} in and ${amount(outgoing.at(-1))} out`;
  trails($("traffic"), [{ className: "out", values: outgoing }, { className: "in", values: incoming }], window(MINUTES * 60, 60), label, amount);
  const buckets = history.buckets("broadcast_duration_seconds", {}, 10);
  const count = buckets.reduce((sum, one) => sum + one.count, 0);
  const [half, most] = [quantile(0.5, buckets), quantile(0.99, buckets)];
  $("latency-note").textContent = count
    ? `from event to last write, ${amount(count)} flushes in 10 s`
    : "nothing was sent in the last 10 s";
  bars($("latency"), buckets, `Half within ${time(half)}, 99 of 100 within ${time(most)}`, time, 0.025, 0.05);
}

// --- workers ------------------------------------------------------------------------------------------------------------

const workerRows = new Map();

function workerRow(slot) {
  const row = { tr: make("tr"), cells: {}, fill: make("div", "fill"), cpu: make("output"), spark: make("div", "spark") };
  row.meter = make("div", "meter", make("div", "bed", row.fill), row.cpu);
  for (const name of ["slot", "load", "memory", "longest", "trail", "forwards"]) {
    row.cells[name] = make("td", { memory: "number", longest: "number", trail: "trail", forwards: "number late" }[name] || "");
    row.tr.append(row.cells[name]);
  }
  row.cells.slot.textContent = slot;
  row.cells.load.append(row.meter);
  row.cells.trail.append(row.spark);
  return row;
}

function drawWorkers() {
  const up = history.last.of("worker_up").sort((a, b) => Number(a.labels.worker) - Number(b.labels.worker));
  const alive = up.filter((one) => one.value).length;
  $("workers-note").textContent = `${alive} of ${up.length} up` + (history.last.max("recovering") ? ", rooms are moving" : "");
  for (const slot of workerRows.keys()) {
    if (!up.some((one) => one.labels.worker === slot)) {
      workerRows.get(slot).tr.remove();
      workerRows.delete(slot);
    }
  }
  for (const { labels, value } of up) {
    const worker = labels.worker;
    if (!workerRows.has(worker)) {
      workerRows.set(worker, workerRow(worker));
      $("workers").append(workerRows.get(worker).tr);
    }
    const row = workerRows.get(worker);
    if (!value) {
      row.cpu.textContent = "";
      row.fill.style.width = "0";
      row.meter.className = "meter";
      row.cells.memory.textContent = "";
      row.cells.longest.textContent = "no answer";
      row.cells.longest.className = "number bad";
      row.cells.forwards.textContent = "";
      row.spark.replaceChildren();
      continue;
    }
    const cpu = history.rate("cpu_seconds_total", { worker });
    row.meter.className = `meter ${heat(cpu, 0.75, 0.9)}`;
    row.fill.style.width = `${Math.min(100, Math.round(100 * (cpu || 0)))}%`;
    row.cpu.textContent = cpu === null ? "–" : `${Math.round(100 * cpu)} %`;
    row.cells.memory.textContent = size(history.last.total("resident_memory_bytes", { worker }));
    const longest = history.last.total("loop_lag_max_seconds", { worker });
    row.cells.longest.textContent = time(longest);
    row.cells.longest.className = `number ${heat(longest, 0.1, 0.5)}`;
    row.cells.forwards.textContent = amount(history.rate("shard_forwards_total", { worker }));
    const lags = history.quantiles(0.99, "loop_lag_seconds", { worker }, TRAIL);
    spark(row.spark, lags, window(TRAIL, 15), `Loop lag of worker ${worker}, the 99th percentile, over a minute`);
  }
}

// --- kinds --------------------------------------------------------------------------------------------------------------

const GROUPS = [
  ["In", "messages_received_total", "type", "", 4],
  ["Out", "messages_sent_total", "type", "out", 4],
  ["Refused or replaced", "messages_dropped_total", "reason", "warm", 3],
  ["Connections ended", "disconnects_total", "code", "end", 3],
];

function drawKinds() {
  const grid = make("div", "kinds");
  for (const [title, name, label, className, most] of GROUPS) {
    const rates = history.rates(name, label, 5);
    if (!rates.length && className !== "" && className !== "out") continue;
    grid.append(make("h3", "", title));
    const largest = rates.length ? rates[0][1] : 1;
    for (const [kind, rate] of rates.slice(0, most)) {
      const fill = make("div", `fill ${className}`);
      fill.style.width = `${Math.max(1, (100 * rate) / largest)}%`;
      grid.append(make("span", "", kind.replaceAll("_", " ")), make("div", "bed", fill), make("output", "", amount(rate)));
    }
    if (!rates.length) grid.append(make("span", "none", "nothing just now"));
  }
  $("kinds").replaceChildren(grid);
}

// --- rooms --------------------------------------------------------------------------------------------------------------

const roomRows = new Map();

async function roomsPulse() {
  const began = performance.now();
  if (key) await readRooms();
  setTimeout(roomsPulse, Math.max(200, ROOMS_EVERY_MS - (performance.now() - began)));
}

/** Read the rooms once. Returns the problem with the key, or "". */
async function readRooms() {
  try {
    const prefix = encodeURIComponent($("prefix").value);
    const found = await ask(`/api/rooms?limit=${PAGE}&prefix=${prefix}`, true);
    const answer = JSON.parse(found.text);
    if (found.status === 401 || found.status === 403) {
      forgetKey();
      return answer.error.message;
    }
    if (found.status !== 200) {
      $("rooms-note").textContent = answer.error.message;
      return "";
    }
    drawRooms(answer);
    if (chosen) await readMembers();
  } catch {
    return ""; // the head reports a server without an answer
  }
  return "";
}

function drawRooms({ rooms, nextCursor, missing }) {
  $("rooms-locked").hidden = true;
  $("rooms-open").hidden = false;
  $("key-button").textContent = "Forget key";
  rooms.sort((a, b) => b.userCount - a.userCount || (a.id < b.id ? -1 : 1));
  const note = nextCursor ? `the first ${rooms.length} by id, most people first` : `${amount(rooms.length)} open`;
  $("rooms-note").textContent = missing.length ? `${note}; worker ${missing.join(", ")} does not answer` : note;
  $("rooms-empty").hidden = rooms.length > 0;
  const there = new Set(rooms.map((room) => room.id));
  for (const [id, row] of roomRows) {
    if (!there.has(id)) {
      row.tr.remove();
      roomRows.delete(id);
    }
  }
  rooms.forEach((room, i) => {
    if (!roomRows.has(room.id)) roomRows.set(room.id, roomRow(room.id));
    const row = roomRows.get(room.id);
    const texts = [
      room.type.replace("_", " "), amount(room.userCount), amount(room.sessionCount),
      room.invisibleSessionCount ? amount(room.invisibleSessionCount) : "", room.controller || "",
      span((Date.now() - Date.parse(room.createdAt)) / 1000),
    ];
    texts.forEach((text, at) => {
      if (row.cells[at].textContent !== text) row.cells[at].textContent = text;
    });
    row.tr.classList.toggle("chosen", room.id === chosen);
    if ($("rooms").children[i] !== row.tr) $("rooms").insertBefore(row.tr, $("rooms").children[i] || null);
  });
}

function roomRow(id) {
  const open = make("button", "open", id);
  open.type = "button";
  open.title = id;
  open.addEventListener("click", () => {
    chosen = chosen === id ? "" : id;
    showMembers(null);
    readRooms();
  });
  const classes = ["late", "number", "number", "number late", "controller late", "number"];
  const cells = classes.map((name) => make("td", name));
  return { tr: make("tr", "", make("td", "", open), ...cells), cells };
}

async function readMembers() {
  const id = chosen;
  const found = await ask(`/api/rooms/${encodeURIComponent(id)}`, true);
  if (id !== chosen) return;
  if (found.status === 404) chosen = "";
  showMembers(found.status === 200 ? JSON.parse(found.text).room : null);
}

function showMembers(room) {
  $("members").hidden = !room;
  $("rooms-open").classList.toggle("two", Boolean(room));
  if (!room) {
    $("members").replaceChildren();
    return;
  }
  const close = make("button", "quiet", "Close");
  close.type = "button";
  close.addEventListener("click", () => {
    chosen = "";
    showMembers(null);
    readRooms();
  });
  const playback = room.playback ? `, video ${room.playback.isPlaying ? "plays" : "is paused"} at ${clockOf(room.playback.currentTime)}` : "";
  const note = `${amount(room.userCount)} people, ${amount(room.sessionCount)} sessions${playback}`;
  const scrolled = $("members").querySelector("ul")?.scrollTop || 0;
  const focused = $("members").contains(document.activeElement);
  const list = make("ul", "", ...room.members.map(memberRow));
  $("members").replaceChildren(make("div", "head", make("h2", "", room.id), make("p", "note", note), close), list);
  list.scrollTop = scrolled;
  if (focused) close.focus();
}

function clockOf(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

function memberRow(member) {
  const face = make("span", "face", [...member.name].slice(0, 1).join("").toUpperCase() || "?");
  if (/^#[0-9a-f]{6}$/i.test(member.color)) face.style.background = member.color;
  const who = make("span", "who", member.name);
  if (member.isController) who.append(make("span", "flag", "controls"));
  if (member.invisible) who.append(make("span", "flag hides", member.presenceOff ? "presence off" : "invisible"));
  if (!member.connected) who.append(make("span", "flag", "in its grace"));
  if (member.transport === "http") who.append(make("span", "flag", "over HTTP"));
  const does = [member.status, member.isTyping ? "typing" : "", member.isWatching ? "watching" : ""].filter(Boolean);
  const idle = span((Date.now() - Date.parse(member.lastActiveAt)) / 1000);
  const what = make("span", "what", `${does.join(", ")} · ${member.userId} · active ${idle} ago`);
  return make("li", "", face, who, what);
}

// --- the key ------------------------------------------------------------------------------------------------------------

function forgetKey() {
  key = "";
  chosen = "";
  sessionStorage.removeItem(KEY);
  $("rooms-locked").hidden = false;
  $("rooms-open").hidden = true;
  $("rooms-note").textContent = "";
  $("key-button").textContent = "Enter key";
  roomRows.clear();
  $("rooms").replaceChildren();
  showMembers(null);
}

function askForKey() {
  $("key-problem").textContent = "";
  $("key-input").value = "";
  $("key-dialog").showModal();
}

$("unlock").addEventListener("click", askForKey);
$("key-button").addEventListener("click", () => (key ? forgetKey() : askForKey()));
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = $("key-input").value.trim();
  const wrong = /[^ -~]/.test(key) ? "A key is made of plain ASCII characters; this one is not." : await readRooms();
  if (wrong) {
    $("key-problem").textContent = wrong;
    return;
  }
  sessionStorage.setItem(KEY, key);
  $("key-dialog").close();
});
$("prefix").addEventListener("input", () => key && readRooms());
addEventListener("resize", draw);

makeTiles();
pulse();
roomsPulse();
