/** `<koko-marks for="video">`: under a timeline, the position of each person in the video, and the selected ranges. */

import { h, keyed, KokoElement, setText, tint, wake } from "./element.js";
import { playhead } from "./picture.js";
import { initials } from "./words.js";

const REACH_PX = 26; // nearer marks are merged
const APART_PX = 20;
const MOST = 5; // of one position; the last one only shows that there are more

export class KokoMarks extends KokoElement {
  #bands = h("div");
  #flags = h("div");

  constructor() {
    super();
    this.shadowRoot.append(this.#bands, this.#flags);
  }

  attached() {
    this.ariaHidden = "true";
    this.listen(this.target, "timeupdate loadedmetadata", () => wake(this));
    this.listen(globalThis, "resize", () => wake(this));
  }

  draw() {
    const { others, playback } = this.snapshot;
    const { duration } = this.target;
    if (!duration) return false;
    const width = this.clientWidth;
    const position = this.room?.position();
    const x = (seconds) => Math.min(seconds / duration, 1) * width;

    keyed(this.#bands, this.people.filter(({ selection }) => selection), () => h("div", "selection"), (band, person) => {
      const { startTime, endTime } = person.selection;
      tint(band, person);
      band.style.left = `${x(startTime)}px`;
      band.style.width = `${x(endTime) - x(startTime)}px`;
    });

    const placed = [];
    for (const person of others) {
      const { cursor, connected, userId } = person; // a cursor without x and y points at the timeline
      const moment = cursor && cursor.x === undefined ? cursor.timestamp : playhead(person, playback, position) ?? cursor?.timestamp;
      if (connected && moment !== undefined) placed.push({ userId, person, at: x(moment) });
    }
    let rank = MOST;
    let first = -REACH_PX;
    keyed(this.#flags, placed.sort((a, b) => a.at - b.at), () => h("div", "mark", {}, h("b")), (flag, { person, at }) => {
      const label = flag.firstChild;
      if (at - first < REACH_PX) {
        rank++;
      } else {
        rank = 0;
        first = at;
      }
      tint(flag, person);
      flag.hidden = rank >= MOST;
      setText(label, rank === MOST - 1 ? "…" : initials(person.name));
      flag.style.left = `${at}px`;
      label.style.left = `${(at > width / 2 ? -1 : 1) * rank * APART_PX - 9}px`;
    });
    return !!placed[0] && !!playback?.isPlaying;
  }
}
