/** The table of workers: CPU, memory, loop lag, and how many commands each passes on. */

/** @import { History } from "./readings.js" */

import { make, spark } from "./draw.js";
import { elementById, levelOf, slotsFor } from "./page.js";
import { amount, size, time } from "./readings.js";

const TRAIL = { min: 15, max: 60 }; // slots

/** One row of the table. */
class WorkerRow {
  row = make("tr");
  #worker;
  #fill = make("div", "fill");
  #cpu = make("output");
  #meter = make("div", "meter", make("div", "bed", this.#fill), this.#cpu);
  #memory = make("td", "number");
  #longest = make("td", "number");
  #trail = make("div", "spark");
  #forwards = make("td", "number late");

  /** @param {string} worker The number of its slot. */
  constructor(worker) {
    this.#worker = worker;
    const load = make("td", "", this.#meter);
    const trail = make("td", "trail", this.#trail);
    this.row.append(make("td", "", worker), load, this.#memory, this.#longest, trail, this.#forwards);
  }

  /** It does not answer. */
  showSilent() {
    this.#cpu.textContent = "";
    this.#fill.style.width = "0";
    this.#meter.className = "meter";
    this.#memory.textContent = "";
    this.#longest.textContent = "no answer";
    this.#longest.className = "number bad";
    this.#forwards.textContent = "";
    this.#trail.replaceChildren();
  }

  /** @param {History} history */
  show(history) {
    const worker = this.#worker;
    const cpu = history.rate("cpu_seconds_total", { worker });
    this.#meter.className = `meter ${levelOf(cpu, 0.75, 0.9)}`;
    this.#fill.style.width = `${Math.min(100, Math.round(100 * (cpu ?? 0)))}%`;
    this.#cpu.textContent = cpu === null ? "–" : `${Math.round(100 * cpu)} %`;
    this.#memory.textContent = size(history.last.total("resident_memory_bytes", { worker }));
    const longest = history.last.total("loop_lag_max_seconds", { worker });
    this.#longest.textContent = time(longest);
    this.#longest.className = `number ${levelOf(longest, 0.1, 0.5)}`;
    this.#forwards.textContent = amount(history.rate("shard_forwards_total", { worker }));
    const lags = history.quantiles(0.99, "loop_lag_seconds", { worker }, TRAIL.max);
    const label = `Loop lag of worker ${worker}, the 99th percentile, over a minute`;
    spark(this.#trail, lags, slotsFor(history.readings.length, TRAIL), label);
  }
}

/** Returns the function that draws the table. */
export function createWorkers() {
  /**
   * By the number of the slot.
   * @type {Map<string, WorkerRow>}
   */
  const rows = new Map();

  return (/** @type {History} */ history) => {
    const workers = history.last.of("worker_up")
      .map(({ labels, value }) => ({ worker: labels.worker ?? "", isUp: value !== 0 }))
      .sort((a, b) => Number(a.worker) - Number(b.worker));
    const up = workers.filter(({ isUp }) => isUp).length;
    const note = `${up} of ${workers.length} up${history.last.max("recovering") ? ", rooms are moving" : ""}`;
    elementById("workers-note").textContent = note;
    for (const [worker, row] of rows) {
      if (workers.some((each) => each.worker === worker)) continue;
      row.row.remove();
      rows.delete(worker);
    }
    for (const { worker, isUp } of workers) {
      const row = rows.get(worker) ?? new WorkerRow(worker);
      if (!rows.has(worker)) {
        rows.set(worker, row);
        elementById("workers").append(row.row);
      }
      if (isUp) row.show(history);
      else row.showSilent();
    }
  };
}
