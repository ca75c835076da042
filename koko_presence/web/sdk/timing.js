/** Time: the server's clock, and slots for values with a limited rate. Independent of the socket. */

/** Local ms since 1970, monotonic unlike Date.now(). */
export const localNow = () => performance.timeOrigin + performance.now();

/** The server's clock, from exchanges of heartbeats [D7]. The one with the shortest round trip counts. Its weight
 * decreases slowly, because clocks drift. It is dropped at once if it is impossible, as after a sleep of the computer. */
export function createClock() {
  const clock = {
    offset: 0,
    rtt: Infinity,
    now: () => localNow() + clock.offset,
    /** Sent and received at these local ms; the answer had `serverTime`. */
    note(sent, received, serverTime) {
      const rtt = received - sent;
      const offset = serverTime - received + rtt / 2;
      const known = clock.rtt * 1.25;
      // the error of each is at most half its round trip
      if (rtt > known && Math.abs(offset - clock.offset) < rtt) clock.rtt = known;
      else if (rtt >= 0) Object.assign(clock, { rtt, offset });
    },
  };
  return clock;
}

/**
 * The newest value of one kind. It is sent when `wait` ms have passed since the last one, and the last value always is [E1].
 * While `may()` is false it waits without a timer, until `go`.
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
    /** Try again to send a waiting value; now if `left` is 0. */
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
