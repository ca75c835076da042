/**
 * The server's clock as this page knows it. The connection adds a sample per heartbeat; rooms, playback and the application
 * read the time.
 */

/** Local ms since 1970, monotonic unlike Date.now(). */
export function localNow() {
  return performance.timeOrigin + performance.now();
}

/**
 * Estimates the offset of the server's clock from exchanges of messages [D7]. The exchange with the shortest round trip
 * counts. Its weight decreases slowly, because clocks drift. It is dropped at once if it is impossible, as after a sleep of
 * the computer.
 */
export class ServerClock {
  /** Server ms minus local ms. */
  offset = 0;
  /** Round trip of the best sample, ms. */
  rtt = Infinity;

  /** The server's time now, ms since 1970. A property, so that it may be called without its object. */
  now = () => localNow() + this.offset;

  /**
   * Adds an exchange; one without a usable time is ignored.
   * @param {number | undefined} sentAt Local ms.
   * @param {number} receivedAt Local ms.
   * @param {number} serverTime The time in the answer, server ms.
   */
  addSample(sentAt, receivedAt, serverTime) {
    const rtt = receivedAt - (sentAt ?? NaN);
    const offset = serverTime - receivedAt + rtt / 2;
    const worseRtt = this.rtt * 1.25;
    // the error of each sample is at most half its round trip: with a larger difference one of the clocks was set
    const agrees = Math.abs(offset - this.offset) < rtt;
    if (rtt > worseRtt && agrees) {
      this.rtt = worseRtt;
    } else if (rtt >= 0) {
      this.rtt = rtt;
      this.offset = offset;
    }
  }
}
