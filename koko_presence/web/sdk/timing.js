/** When things happen: the server's clock, and slots for what may only be sent so often. Nothing here knows a socket. */

/** Local ms since 1970 that never jump, unlike Date.now(). */
export const localNow = () => performance.timeOrigin + performance.now();

/** The server's clock, from exchanges of heartbeats [D7]. The one with the shortest way is the truest; it is forgotten
 * slowly, because clocks drift; at once if it cannot be true any more, as after a sleep in which the page's clock stood. */
export function createClock() {
  const clock = {
    offset: 0,
    rtt: Infinity,
    now: () => localNow() + clock.offset,
    /** Sent and received at these local ms; the answer said `serverTime`. */
    note(sent, received, serverTime) {
      const rtt = received - sent;
      const offset = serverTime - received + rtt / 2;
      const known = clock.rtt * 1.25;
      // each is wrong by half its way at most
      if (rtt > known && Math.abs(offset - clock.offset) < rtt) clock.rtt = known;
      else if (rtt >= 0) Object.assign(clock, { rtt, offset });
    },
  };
  return clock;
}

/**
 * The newest value of one kind. It is sent when `wait` ms have passed since the last one, the last value always [E1]; while
 * `may()` says no it waits without a timer, until `go`.
 */
export function createSlot(send, may) {
  let timer;
  let sentAt = -Infinity;
  const slot = {
    wait: 0,
    value: null,
    waiting: false,
    offer(value, wait = slot.wait) {
      Object.assign(slot, { value, wait, waiting: true });
      slot.go();
    },
    /** What waits may try again; now, with `left` 0. */
    go(left = sentAt + slot.wait - localNow()) {
      slot.stop();
      if (!slot.waiting || !may()) return;
      if (left > 0) {
        timer = setTimeout(slot.go, left, 0);
      } else {
        slot.waiting = false;
        sentAt = localNow();
        send(slot.value);
      }
    },
    stop: () => clearTimeout(timer),
  };
  return slot;
}
