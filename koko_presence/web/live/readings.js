/**
 * Readings of /metrics and the changes between them, with the arithmetic of admin/metrics_parser.py, and numbers as texts.
 * The page (live.js) keeps a history and draws it; alarms.js judges it.
 */

/**
 * @typedef {Record<string, string | undefined>} Labels
 * @typedef {{ labels: Record<string, string>, value: number }} Sample
 * @typedef {{ from: number, to: number, count: number }} Bucket Of a histogram.
 */

const PREFIX = "koko_presence_";
const SAMPLE = /^koko_presence_([a-z_]+)(?:\{(.*)\})? (\S+)$/gm;
const LABEL = /([a-z]+)="([^"]*)"/g;

/**
 * Parses one scrape. Errors: Error if it has no sample of koko_presence.
 * @param {string} text
 * @param {number} at Ms.
 */
export function read(text, at) {
  /** @type {Map<string, Sample[]>} */
  const families = new Map();
  for (const [, name = "", labels = "", value = ""] of text.matchAll(SAMPLE)) {
    /** @type {Sample} */
    const sample = { labels: {}, value: value === "+Inf" ? Infinity : Number(value) };
    for (const [, label = "", content = ""] of labels.matchAll(LABEL)) sample.labels[label] = content;
    const family = families.get(name);
    if (family) family.push(sample);
    else families.set(name, [sample]);
  }
  if (!families.size) throw new Error(`no sample of ${PREFIX}* in the answer`);
  return new Reading(families, at);
}

/** One scrape: the samples of /metrics at a moment. */
export class Reading {
  #families;

  /**
   * @param {Map<string, Sample[]>} families By the name of the metric, without its prefix.
   * @param {number} at Ms.
   */
  constructor(families, at) {
    this.#families = families;
    this.at = at;
  }

  /**
   * The samples that have these labels.
   * @param {string} name
   * @param {Labels} [labels]
   */
  of(name, labels = {}) {
    const wanted = Object.entries(labels);
    return (this.#families.get(name) ?? []).filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value));
  }

  /**
   * The sum of the samples that have these labels.
   * @param {string} name
   * @param {Labels} [labels]
   */
  total(name, labels) {
    return this.of(name, labels).reduce((sum, sample) => sum + sample.value, 0);
  }

  /** @param {string} name */
  max(name) {
    return this.of(name).reduce((max, sample) => Math.max(max, sample.value), 0);
  }

  /**
   * Sums by one label.
   * @param {string} name
   * @param {string} label
   */
  by(name, label) {
    /** @type {Map<string, number>} */
    const sums = new Map();
    for (const { labels, value } of this.of(name)) {
      const key = labels[label] ?? "";
      sums.set(key, (sums.get(key) ?? 0) + value);
    }
    return sums;
  }
}

/** The readings of the last minutes. All that is asked of it needs one reading at least. */
export class History {
  /** @type {Reading[]} */
  readings = [];
  #maxReadings;

  /** @param {number} [maxReadings] */
  constructor(maxReadings = 300) {
    this.#maxReadings = maxReadings;
  }

  /** @param {Reading} reading */
  push(reading) {
    this.readings.push(reading);
    if (this.readings.length > this.#maxReadings + 1) this.readings.shift();
  }

  get isEmpty() {
    return !this.readings.length;
  }

  /** @returns {Reading} */
  get last() {
    return this.#at(this.readings.length - 1);
  }

  /**
   * The reading of about so many seconds ago, or the oldest there is.
   * @param {number} seconds
   */
  ago(seconds) {
    const at = this.last.at - seconds * 1000 - 200;
    return this.readings.find((reading) => reading.at >= at) ?? this.last;
  }

  /**
   * Per second, over the last `seconds`; null until there are two readings. A counter that was reset counts as 0.
   * @param {string} name
   * @param {Labels} [labels]
   * @param {number} [seconds]
   */
  rate(name, labels, seconds = 3) {
    return rateBetween(this.ago(seconds), this.last, (reading) => reading.total(name, labels));
  }

  /**
   * Rates by one label, the largest first; without those that are 0.
   * @param {string} name
   * @param {string} label
   * @param {number} [seconds]
   */
  rates(name, label, seconds = 3) {
    const before = this.ago(seconds);
    /** @type {[string, number][]} */
    const rates = [];
    for (const key of this.last.by(name, label).keys()) {
      const rate = rateBetween(before, this.last, (reading) => reading.by(name, label).get(key) ?? 0);
      if (rate) rates.push([key, rate]);
    }
    return rates.sort((a, b) => b[1] - a[1]);
  }

  /**
   * The value of every reading.
   * @param {(reading: Reading) => number} valueOf
   */
  values(valueOf) {
    return this.readings.map(valueOf);
  }

  /**
   * Per second from each reading to the next.
   * @param {(reading: Reading) => number} valueOf
   */
  trail(valueOf) {
    return this.readings.slice(1).map((reading, i) => rateBetween(this.#at(i), reading, valueOf));
  }

  /**
   * Counts per bucket of a histogram over the last `seconds`.
   * @param {string} name
   * @param {Labels} [labels]
   * @param {number} [seconds]
   */
  buckets(name, labels = {}, seconds = 10) {
    return bucketsBetween(this.ago(seconds), this.last, name, labels);
  }

  /**
   * The quantile from each reading to the next; null where there was no event.
   * @param {number} share 0 to 1.
   * @param {string} name
   * @param {Labels} labels
   * @param {number} [count] So many of them, the last ones.
   */
  quantiles(share, name, labels, count = this.readings.length) {
    const first = Math.max(1, this.readings.length - count);
    return this.readings.slice(first).map((reading, i) => {
      return quantile(share, bucketsBetween(this.#at(first + i - 1), reading, name, labels));
    });
  }

  /**
   * For how many ms, up to the last reading, `holds(reading)` has been true without a break; -1: it is not.
   * @param {(reading: Reading) => boolean} holds
   */
  since(holds) {
    let first = this.readings.length;
    while (first > 0 && holds(this.#at(first - 1))) first--;
    return first === this.readings.length ? -1 : this.last.at - this.#at(first).at;
  }

  /** @param {number} index */
  #at(index) {
    return /** @type {Reading} */ (this.readings[index]);
  }
}

/**
 * @param {Reading} before
 * @param {Reading} now
 * @param {(reading: Reading) => number} valueOf
 */
function rateBetween(before, now, valueOf) {
  const seconds = (now.at - before.at) / 1000;
  return seconds > 0 ? Math.max(0, valueOf(now) - valueOf(before)) / seconds : null;
}

/**
 * @param {Reading} before
 * @param {Reading} now
 * @param {string} name
 * @param {Labels} labels
 * @returns {Bucket[]}
 */
function bucketsBetween(before, now, name, labels) {
  /** @param {Reading} reading */
  const cumulativeCounts = (reading) =>
    reading
      .of(`${name}_bucket`, labels)
      .map((sample) => ({ to: sample.labels.le === "+Inf" ? Infinity : Number(sample.labels.le), count: sample.value }))
      .sort((a, b) => a.to - b.to);
  const countsBefore = before === now ? [] : cumulativeCounts(before);
  let below = 0;
  let from = 0;
  return cumulativeCounts(now).map(({ to, count }, i) => {
    const upTo = Math.max(0, count - (countsBefore[i]?.count ?? 0));
    const bucket = { from, to, count: Math.max(0, upTo - below) };
    from = to;
    below = upTo;
    return bucket;
  });
}

/**
 * The value below which `share` of all lie, interpolated within its bucket; null without values.
 * @param {number} share 0 to 1.
 * @param {Bucket[]} buckets
 */
export function quantile(share, buckets) {
  const total = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  let left = share * total;
  if (!total) return null;
  for (const { from, to, count } of buckets) {
    if (left <= count && count) return to === Infinity ? Infinity : from + (to - from) * (left / count);
    left -= count;
  }
  return Infinity;
}

// --- formatting -------------------------------------------------------------------------------------------------------

/** @param {number | null | undefined} value */
export function amount(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(value >= 1e7 ? 1 : 2)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value >= 1e5 ? 0 : 1)}k`;
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value >= 10 ? value.toFixed(1) : value.toFixed(value >= 0.95 ? 1 : 2);
}

/** @param {number | null | undefined} seconds */
export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === Infinity) return "> 10 s";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** @param {number} seconds */
export function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
