/** The tiles at the top of the page: one number each, with a line over the last minute. */

/** @import { History, Reading } from "./readings.js" */

import { make, spark } from "./draw.js";
import { elementById, levelOf, slotsFor } from "./page.js";
import { amount, quantile, size, time } from "./readings.js";

const TRAIL = { min: 15, max: 60 }; // slots
const SLOW_MS = 30_000;

/**
 * @typedef {object} Tile
 * @property {string} name
 * @property {(history: History) => string} value
 * @property {(history: History) => string} more A second line.
 * @property {(history: History) => (number | null)[]} trail
 * @property {(history: History) => string} [level]
 */

const total = (/** @type {string} */ name) => (/** @type {Reading} */ reading) => reading.total(name);
const latencyP99 = (/** @type {History} */ history) => quantile(0.99, history.buckets("broadcast_duration_seconds"));

/** @type {Tile[]} */
const TILES = [
  {
    name: "Connections",
    value: (history) => amount(history.last.total("connections")),
    more: (history) => `${amount(history.rate("connections_accepted_total"))}/s new`,
    trail: (history) => history.values(total("connections")),
  },
  {
    name: "People",
    value: (history) => amount(history.last.total("users")),
    more: (history) => `${amount(history.last.total("sessions"))} sessions`,
    trail: (history) => history.values(total("users")),
  },
  {
    name: "Rooms",
    value: (history) => amount(history.last.total("rooms")),
    more: (history) => `largest has ${amount(history.last.max("room_members_max"))}`,
    trail: (history) => history.values(total("rooms")),
  },
  {
    name: "Joins per second",
    value: (history) => amount(history.rate("joins_total")),
    more: (history) => `p99 ${time(quantile(0.99, history.buckets("join_duration_seconds", {}, 30)))}`,
    trail: (history) => history.trail(total("joins_total")),
  },
  {
    name: "Latency p99",
    value: (history) => time(latencyP99(history)),
    more: (history) => `half within ${time(quantile(0.5, history.buckets("broadcast_duration_seconds")))}`,
    trail: (history) => history.quantiles(0.99, "broadcast_duration_seconds", {}),
    level: (history) => levelOf(latencyP99(history), 0.025, 0.05),
  },
  {
    name: "Longest loop lag",
    value: (history) => time(history.last.max("loop_lag_max_seconds")),
    more: () => "in the last minute",
    trail: (history) => history.values((reading) => reading.max("loop_lag_max_seconds")),
    level: (history) => levelOf(history.last.max("loop_lag_max_seconds"), 0.1, 0.5),
  },
  {
    name: "Sent to clients",
    value: (history) => {
      const rate = history.rate("fanout_bytes_total");
      return rate === null ? "–" : `${size(rate)}/s`;
    },
    more: (history) => `${amount(history.rate("flushes_total"))} flushes/s`,
    trail: (history) => history.trail(total("fanout_bytes_total")),
  },
  {
    name: "Slow receivers",
    value: (history) => amount(history.last.total("slow_receivers")),
    more: (history) => `${size(history.last.total("send_queue_bytes"))} wait to be read`,
    trail: (history) => history.values(total("slow_receivers")),
    level: (history) => (history.since((reading) => reading.total("slow_receivers") > 0) > SLOW_MS ? "warm" : ""),
  },
];

/** Adds the tiles to the page; returns the function that draws them. */
export function createTiles() {
  const tiles = TILES.map((tile) => {
    const value = make("div", "value", "–");
    const more = make("div", "more");
    const line = make("div", "spark");
    const box = make("div", "tile", make("div", "name", tile.name), value, more, line);
    elementById("tiles").append(box);
    return { ...tile, elements: { value, more, line, box } };
  });
  return (/** @type {History} */ history) => {
    for (const { elements, name, value, more, trail, level } of tiles) {
      elements.value.textContent = value(history);
      elements.more.textContent = more(history);
      elements.box.className = `tile ${level?.(history) ?? ""}`;
      spark(elements.line, trail(history), slotsFor(history.readings.length, TRAIL), `${name} over the last minute`);
    }
  };
}
