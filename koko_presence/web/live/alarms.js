/** Which alarms of docs/operations.md are raised. The page (live.js) shows them after each reading. */

/** @import { History } from "./readings.js" */

import { amount, span, time } from "./readings.js";

const bad = "bad";
const warm = "warm";

/**
 * @typedef {object} Alarm
 * @property {string} row The first cell of its row in the table of docs/operations.md; a test compares.
 * @property {"bad" | "warm"} level
 * @property {string} title
 * @property {string} means
 * @property {string} act
 */

/**
 * The raised alarms, the worst first.
 * @param {History} history
 * @param {{ ok: boolean, reason: string, since: number | null }} ready The answer of /readyz, and since when it is not ok, ms.
 * @param {number} now Ms.
 * @returns {Alarm[]}
 */
export function raisedAlarms(history, ready, now) {
  /** @type {Alarm[]} */
  const found = [];
  if (history.isEmpty) return found;
  const { last } = history;

  const down = last.of("worker_up").filter((one) => !one.value).map((one) => one.labels.worker);
  if (down.length) {
    found.push({
      row: "koko_presence_worker_up",
      level: bad,
      title: `Worker ${down.join(", ")} does not answer`,
      means: "It did not answer within a second.",
      act: "Hung for 3 s, it is replaced by itself. If it comes back and goes again, its core may be full.",
    });
  }
  if (!ready.ok && ready.since !== null && !down.length) {
    const ms = now - ready.since;
    found.push({
      row: "/readyz",
      level: ms > 30000 ? bad : warm,
      title: `Not ready for ${span(ms / 1000)}`,
      means: ready.reason || "A worker is missing or silent.",
      act: "It is replaced by itself; the log says why: “a worker died”. If it dies again and again, exit 1 follows.",
    });
  }
  const full = last.of("loop_lag_max_seconds").filter((one) => one.value > 0.1);
  if (full.length) {
    const ms = history.since((one) => one.max("loop_lag_max_seconds") > 0.1);
    const worst = full.reduce((a, b) => (a.value >= b.value ? a : b));
    found.push({
      row: "koko_presence_loop_lag_max_seconds",
      level: ms > 120000 ? bad : warm,
      title: `Worker ${worst.labels.worker} was late by ${time(worst.value)}`,
      means: ms > 120000 ? `For ${span(ms / 1000)}: its core is full.` : "Once in the last minute. A core is full when it goes on for minutes.",
      act: "More CPUs and workers, or fewer people. Does one worker have all the load? Then one room is to blame.",
    });
  }
  const replaced = last.total("worker_restarts_total") - history.ago(300).total("worker_restarts_total");
  if (replaced > 0) {
    found.push({
      row: "koko_presence_worker_restarts_total",
      level: bad,
      title: replaced === 1 ? "A worker was replaced" : `${amount(replaced)} workers were replaced`,
      means: "In the last five minutes workers died or hung. Their rooms went on with the others.",
      act: "The log says how: a signal, or a traceback, which is a bug of ours. Signal 9 is the kernel’s memory killer: journalctl -k.",
    });
  }
  const refused = history.rate("connections_refused_total", {}, 30);
  if (refused !== null && refused > 0.5) {
    found.push({
      row: "koko_presence_connections_refused_total",
      level: warm,
      title: `${amount(refused)} connections a second are refused`,
      means: "403 are origins, 503 files, other 4xx scanners.",
      act: "A new page that is not in server.origins? Connections near LimitNOFILE?",
    });
  }
  const auth = history.rates("auth_total", "result", 30);
  const told = auth.reduce((sum, [, rate]) => sum + rate, 0);
  const denied = auth.reduce((sum, [result, rate]) => sum + (["accepted", "resumed", "refreshed"].includes(result) ? 0 : rate), 0);
  if (denied > 0.2 && denied > told * 0.2) {
    found.push({
      row: "koko_presence_auth_total",
      level: denied > told * 0.5 ? bad : warm,
      title: `${Math.round((100 * denied) / told)} % of logins fail`,
      means: `Tokens are refused: ${auth.filter(([result]) => !["accepted", "resumed", "refreshed"].includes(result)).map(([result]) => result.replace("_", " ")).join(", ")}.`,
      act: "Look at the clocks. Is the application’s secret the server’s?",
    });
  }
  const slowFor = history.since((one) => one.total("slow_receivers") > 0);
  if (slowFor > 30000) {
    found.push({
      row: "koko_presence_slow_receivers",
      level: warm,
      title: `${amount(last.total("slow_receivers"))} clients do not read`,
      means: `For ${span(slowFor / 1000)}. They get only the newest cursors.`,
      act: "It is their network. They are cut off by themselves and resume.",
    });
  }
  const recovering = history.since((one) => one.max("recovering") > 0);
  if (recovering > 5000) {
    found.push({
      row: "koko_presence_recovering",
      level: bad,
      title: `Rooms are without an owner for ${span(recovering / 1000)}`,
      means: "After a worker’s end its rooms have not been taken over.",
      act: "The log; a rolling reload if it stays: koko-presence reload --rolling.",
    });
  }
  const most = Math.max(...history.readings.slice(-60).map((one) => one.total("connections")));
  const here = last.total("connections");
  if (most >= 20 && here < most / 2) {
    found.push({
      row: "connections fall to a fraction at once",
      level: bad,
      title: `Connections fell from ${amount(most)} to ${amount(here)}`,
      means: "Within a minute: the proxy was reloaded, the network is gone, or this is a restart.",
      act: "The proxy’s log. Clients come back by themselves, with jitter.",
    });
  }
  return found.sort((a, b) => (a.level === b.level ? 0 : a.level === bad ? -1 : 1));
}
