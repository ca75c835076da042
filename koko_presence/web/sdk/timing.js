/** When things happen: the server's clock, and slots for what may only be sent so often. Nothing here knows a socket. */

/** Local ms since 1970 that never jump, unlike Date.now(). */
export const localNow = () => performance.timeOrigin + performance.now();

const SAMPLES = 8;

/** The server's clock, from exchanges of heartbeats: the one with the shortest way is the truest [D7]. */
export function createClock() {
  let samples = []; // [round trip, offset]
  const clock = {
    offset: 0,
    rtt: Infinity,
    now: () => localNow() + clock.offset,
    /** Sent and received at these local ms; the answer said `serverTime`. */
    note(sent, received, serverTime) {
      const rtt = received - sent;
      const offset = serverTime - (sent + received) / 2;
      if (!(rtt >= 0) || !Number.isFinite(offset)) return;
      // two truths that exclude each other: one of the clocks was set, or slept; what was known is worth nothing
      samples = samples.filter(([r, o]) => Math.abs(o - offset) <= (r + rtt) / 2 + 20);
      samples = [...samples, [rtt, offset]].slice(-SAMPLES);
      [clock.rtt, clock.offset] = samples.reduce((a, b) => (b[0] < a[0] ? b : a));
    },
  };
  return clock;
}

/**
 * The newest value of one kind. It is sent at most once per `interval` ms, the last one always [E1]; while `may()` says
 * no it waits without a timer, until `go`.
 */
export function createSlot(send, may, interval) {
  let timer;
  let due = 0;
  let sentAt = -Infinity;
  const fire = () => {
    slot.stop();
    if (!slot.waiting || !may()) return;
    slot.waiting = false;
    sentAt = localNow();
    send(slot.value);
  };
  const slot = {
    interval,
    value: null,
    waiting: false,
    /** Send the value as soon as `wait` ms have passed since the last one. */
    offer(value, wait = slot.interval) {
      slot.value = value;
      slot.waiting = true;
      slot.go(wait);
    },
    /** Whatever waits may try again. */
    go(wait = slot.interval) {
      if (!slot.waiting || !may()) return;
      const at = sentAt + wait;
      if (timer && due <= at) return;
      slot.stop();
      if (at <= localNow()) return fire();
      due = at;
      timer = setTimeout(fire, at - localNow());
    },
    /** Send what waits, now. */
    fire,
    stop() {
      clearTimeout(timer);
      timer = 0;
    },
  };
  return slot;
}
