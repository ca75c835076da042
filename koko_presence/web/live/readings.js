// Readings of /metrics and the changes between them. The same arithmetic as admin/metrics_parser.py.

const PREFIX = "koko_presence_";
const SAMPLE = /^koko_presence_([a-z_]+)(?:\{(.*)\})? (\S+)$/gm;
const LABEL = /([a-z]+)="([^"]*)"/g;

/** One scrape: `at` in ms. Errors: Error if it has no sample of koko_presence. */
export function read(text, at) {
  const families = new Map();
  for (const [, name, labels, value] of text.matchAll(SAMPLE)) {
    if (!families.has(name)) families.set(name, []);
    const sample = { labels: {}, value: value === "+Inf" ? Infinity : Number(value) };
    for (const [, label, what] of (labels || "").matchAll(LABEL)) sample.labels[label] = what;
    families.get(name).push(sample);
  }
  if (!families.size) throw new Error(`no sample of ${PREFIX}* in the answer`);
  return new Reading(families, at);
}

class Reading {
  constructor(families, at) {
    this.families = families;
    this.at = at;
  }

  of(name, labels = {}) {
    const wanted = Object.entries(labels);
    return (this.families.get(name) || []).filter((one) => wanted.every(([label, what]) => one.labels[label] === what));
  }

  /** The sum of the samples that have these labels. */
  total(name, labels) {
    return this.of(name, labels).reduce((sum, one) => sum + one.value, 0);
  }

  max(name) {
    return this.of(name).reduce((most, one) => Math.max(most, one.value), 0);
  }

  /** Sums by one label. */
  by(name, label) {
    const found = new Map();
    for (const one of this.of(name)) found.set(one.labels[label], (found.get(one.labels[label]) || 0) + one.value);
    return found;
  }
}

export class History {
  constructor(longest = 300) {
    this.longest = longest;
    this.readings = [];
  }

  push(reading) {
    this.readings.push(reading);
    if (this.readings.length > this.longest + 1) this.readings.shift();
  }

  get last() {
    return this.readings[this.readings.length - 1];
  }

  /** The reading of about so many seconds ago, or the oldest there is. */
  ago(seconds) {
    const at = this.last.at - seconds * 1000 - 200;
    return this.readings.find((one) => one.at >= at) || this.last;
  }

  /** Per second, over the last `seconds`; null until there are two readings. A counter that was reset counts as 0. */
  rate(name, labels, seconds = 3) {
    return between(this.ago(seconds), this.last, (one) => one.total(name, labels));
  }

  rates(name, label, seconds = 3) {
    const before = this.ago(seconds);
    const found = [];
    for (const key of this.last.by(name, label).keys()) {
      const rate = between(before, this.last, (one) => one.by(name, label).get(key) || 0);
      if (rate) found.push([key, rate]);
    }
    return found.sort((a, b) => b[1] - a[1]);
  }

  /** `of(reading)` of every reading. */
  values(of) {
    return this.readings.map(of);
  }

  /** Per second from each reading to the next. */
  trail(of) {
    return this.readings.slice(1).map((one, i) => between(this.readings[i], one, of));
  }

  /** Counts per bucket of a histogram over the last `seconds`: [{from, to, count}]. */
  buckets(name, labels = {}, seconds = 10) {
    return bucketsBetween(this.ago(seconds), this.last, name, labels);
  }

  /** The quantile from each reading to the next; null where there was no event. */
  quantiles(share, name, labels, most = this.readings.length) {
    const found = [];
    for (let i = Math.max(1, this.readings.length - most); i < this.readings.length; i++) {
      found.push(quantile(share, bucketsBetween(this.readings[i - 1], this.readings[i], name, labels)));
    }
    return found;
  }

  /** For how many ms, up to the last reading, `holds(reading)` has been true without a break. */
  since(holds) {
    let from = null;
    for (let i = this.readings.length - 1; i >= 0 && holds(this.readings[i], this.readings[i - 1]); i--) {
      from = this.readings[i].at;
    }
    return from === null ? -1 : this.last.at - from;
  }
}

function between(before, now, of) {
  const seconds = (now.at - before.at) / 1000;
  return seconds > 0 ? Math.max(0, of(now) - of(before)) / seconds : null;
}

function bucketsBetween(before, now, name, labels) {
  const counts = (reading) =>
    reading
      .of(`${name}_bucket`, labels)
      .map((one) => ({ to: one.labels.le === "+Inf" ? Infinity : Number(one.labels.le), count: one.value }))
      .sort((a, b) => a.to - b.to);
  const old = counts(before);
  let below = 0;
  let from = 0;
  return counts(now).map((one, i) => {
    const upTo = Math.max(0, one.count - (before === now || !old[i] ? 0 : old[i].count));
    const bucket = { from, to: one.to, count: Math.max(0, upTo - below) };
    from = one.to;
    below = upTo;
    return bucket;
  });
}

/** The value below which `share` of all lie, interpolated within its bucket; null without values. */
export function quantile(share, buckets) {
  const total = buckets.reduce((sum, one) => sum + one.count, 0);
  let left = share * total;
  if (!total) return null;
  for (const { from, to, count } of buckets) {
    if (left <= count && count) return to === Infinity ? Infinity : from + (to - from) * (left / count);
    left -= count;
  }
  return Infinity;
}

// --- formatting -------------------------------------------------------------------------------------------------------

export function amount(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(value >= 1e7 ? 1 : 2)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value >= 1e5 ? 0 : 1)}k`;
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value >= 10 ? value.toFixed(1) : value.toFixed(value >= 0.95 ? 1 : 2);
}

export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === Infinity) return "> 10 s";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (bytes >= 1024 && at < units.length - 1) {
    bytes /= 1024;
    at++;
  }
  return `${at && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
}

export function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
