/**
 * Makes a `<video>` as slow as one whose data, decoder or sound device need time: starting and seeking take longer by a
 * fixed time, with the events and values that an element has meanwhile.
 */

/**
 * @param {HTMLVideoElement} video Before other listeners are added to it.
 * @param {{ startMs?: number, seekMs?: number }} delays
 */
export function slowDown(video, { startMs = 0, seekMs = 0 }) {
  const native = Object.getOwnPropertyDescriptors(HTMLMediaElement.prototype);
  const say = (type) => setTimeout(() => video.dispatchEvent(new Event(type)));
  const swallowed = { play: 0, seeking: 0 }; // the element's own events, for which others were sent already
  for (const type of Object.keys(swallowed)) {
    video.addEventListener(type, (event) => {
      if (!event.isTrusted || !swallowed[type]) return;
      swallowed[type]--;
      event.stopImmediatePropagation();
    }, { capture: true });
  }

  let start; // what waits: {timer, resolve, reject}
  function play() {
    if (!startMs || !native.paused.get.call(video)) return native.play.value.call(video);
    if (!start) {
      start = { waiting: [] };
      say("play");
      start.timer = setTimeout(() => {
        const { waiting } = start;
        start = undefined;
        swallowed.play++;
        native.play.value.call(video).then(() => waiting.forEach(([yes]) => yes()), (why) => waiting.forEach(([, no]) => no(why)));
      }, startMs);
    }
    return new Promise((...each) => start.waiting.push(each));
  }
  function pause() {
    if (!start) return native.pause.value.call(video);
    clearTimeout(start.timer);
    start.waiting.forEach(([, no]) => no(new DOMException("interrupted by a call to pause()", "AbortError")));
    start = undefined;
    say("pause");
  }

  let seek; // what waits: {to, timer}
  function seekTo(to) {
    if (!seekMs) return native.currentTime.set.call(video, to);
    clearTimeout(seek?.timer);
    say("seeking");
    seek = { to, timer: setTimeout(() => {
      seek = undefined;
      swallowed.seeking++;
      native.currentTime.set.call(video, to);
    }, seekMs) };
  }

  Object.defineProperties(video, {
    play: { value: play, configurable: true },
    pause: { value: pause, configurable: true },
    paused: { get: () => !start && native.paused.get.call(video), configurable: true },
    currentTime: { get: () => seek?.to ?? native.currentTime.get.call(video), set: seekTo, configurable: true },
    seeking: { get: () => Boolean(seek) || native.seeking.get.call(video), configurable: true },
  });
}
