/** The two large drawings: messages over time, and latency by its buckets. Below them the kinds of messages and their rates. */

/** @import { History, Reading } from "./readings.js" */

import { bars, make, trails } from "./draw.js";
import { elementById, slotsFor } from "./page.js";
import { amount, quantile, time } from "./readings.js";

const TRAFFIC = { min: 60, max: 300 }; // slots

/** @param {History} history */
export function drawTraffic(history) {
  const total = (/** @type {string} */ name) => (/** @type {Reading} */ reading) => reading.total(name);
  const incoming = history.trail(total("messages_received_total"));
  const outgoing = history.trail(total("messages_sent_total"));
  const label = `Messages: now ${amount(incoming.at(-1))} in and ${amount(outgoing.at(-1))} out`;
  const series = [{ className: "out", values: outgoing }, { className: "in", values: incoming }];
  trails(elementById("traffic"), series, slotsFor(history.readings.length, TRAFFIC), label, amount);
}

/** @param {History} history */
export function drawLatency(history) {
  const buckets = history.buckets("broadcast_duration_seconds", {}, 10);
  const count = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  elementById("latency-note").textContent = count
    ? `from event to last write, ${amount(count)} flushes in 10 s`
    : "nothing was sent in the last 10 s";
  const label = `Half within ${time(quantile(0.5, buckets))}, 99 of 100 within ${time(quantile(0.99, buckets))}`;
  bars(elementById("latency"), buckets, label, time, 0.025, 0.05);
}

/** The groups of rates. `isAlways`: it is shown without any rate, too. */
const GROUPS = [
  { title: "In", metric: "messages_received_total", label: "type", className: "", max: 4, isAlways: true },
  { title: "Out", metric: "messages_sent_total", label: "type", className: "out", max: 4, isAlways: true },
  { title: "Refused or replaced", metric: "messages_dropped_total", label: "reason", className: "warm", max: 3, isAlways: false },
  { title: "Connections ended", metric: "disconnects_total", label: "code", className: "end", max: 3, isAlways: false },
];

/** @param {History} history */
export function drawKinds(history) {
  const grid = make("div", "kinds");
  for (const { title, metric, label, className, max, isAlways } of GROUPS) {
    const rates = history.rates(metric, label, 5);
    if (!rates.length && !isAlways) continue;
    grid.append(make("h3", "", title));
    const largest = rates[0]?.[1] ?? 1; // the first one
    for (const [kind, rate] of rates.slice(0, max)) {
      const fill = make("div", `fill ${className}`);
      fill.style.width = `${Math.max(1, (100 * rate) / largest)}%`;
      grid.append(make("span", "", kind.replaceAll("_", " ")), make("div", "bed", fill), make("output", "", amount(rate)));
    }
    if (!rates.length) grid.append(make("span", "none", "nothing just now"));
  }
  elementById("kinds").replaceChildren(grid);
}
