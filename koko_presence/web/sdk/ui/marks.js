/** `<koko-marks for="video">`: under a timeline, the position of each person in a target, and the ranges selected there. */

/** @import { Person, Selection } from "../types.js" */

import { createElement, setPersonColor, setText, UserList } from "./dom.js";
import { KokoElement } from "./element.js";
import { wake } from "./frames.js";
import { playhead } from "./motion.js";
import { isIn, mediumAt } from "../targets.js";
import { initials } from "./words.js";

const GROUP_PX = 26; // nearer marks are one group
const GROUP_STEP_PX = 20; // between the labels of a group
const MAX_IN_GROUP = 5; // the last one only shows that there are more
const LABEL_PX = 20;

/**
 * A mark and its place. `rank` is its number in its group; those beyond the largest are hidden.
 * @typedef {{ userId: string, person: Person, at: number, rank: number }} PlacedMark
 */

/**
 * A selected range of a person.
 * @typedef {{ userId: string, person: Person, selection: Selection }} ShownSelection
 */

/** `<koko-marks for="video" target="main">`: under a timeline, as wide as it. */
export class KokoMarks extends KokoElement {
  #bands = createElement("div");
  #selections = new UserList(this.#bands, () => this.#createSelection());
  #flags = createElement("div");
  #marks = new UserList(this.#flags, () => this.#createMark());
  /** Of the video, s. */
  #duration = 0;
  /** Of this element, read once per draw: reading it between two marks would cost a layout each. */
  #widthPx = 0;

  constructor() {
    super();
    this.shadowRoot?.append(this.#bands, this.#flags);
  }

  /** @protected */
  attached() {
    this.ariaHidden = "true";
    this.listen(this.target, ["timeupdate", "loadedmetadata"], () => wake(this));
    this.listen(globalThis, ["resize"], () => wake(this));
  }

  /** @protected */
  draw() {
    this.#duration = /** @type {HTMLVideoElement | null} */ (this.target)?.duration || 0;
    this.#widthPx = this.clientWidth;
    const isKnown = this.#duration > 0 && this.#duration < Infinity; // not a live stream
    const { others, playback } = this.snapshot;
    this.#selections.show(isKnown ? this.people.flatMap((person) => this.#selectionOf(person)) : []);
    const marks = isKnown ? others.flatMap((person) => this.#place(person)) : [];
    this.#marks.show(inGroups(marks));
    return marks.length > 0 && Boolean(playback?.isPlaying);
  }

  /**
   * Px of a second of the video.
   * @param {number} seconds
   */
  #x(seconds) {
    return Math.min(seconds / this.#duration, 1) * this.#widthPx;
  }

  /**
   * The range that a person has selected in this target, or none.
   * @param {Person} person
   * @returns {ShownSelection[]}
   */
  #selectionOf(person) {
    const { snapshot, roomTarget } = this;
    for (const { selection } of person.sessions) {
      if (selection && isIn(snapshot, roomTarget, selection)) return [{ userId: person.userId, person, selection }];
    }
    return [];
  }

  /**
   * The mark of a person, or none.
   * @param {Person} person
   * @returns {PlacedMark[]}
   */
  #place(person) {
    const { snapshot, roomTarget } = this;
    const { connected, userId } = person;
    const cursors = person.sessions.flatMap((session) => session.cursor ?? []);
    const cursor = cursors.find((each) => isIn(snapshot, roomTarget, each));
    const position = (this.room?.position() ?? 0) + (mediumAt(snapshot, roomTarget)?.offset ?? 0);
    const pointsAtTimeline = cursor && cursor.x === undefined;
    const seconds = pointsAtTimeline ? cursor.timestamp : playhead(person, snapshot.playback, position) ?? cursor?.timestamp;
    if (!connected || seconds === undefined) return [];
    return [{ userId, person, at: this.#x(seconds), rank: 0 }];
  }

  #createSelection() {
    const element = createElement("div", "selection");
    return {
      element,
      update: (/** @type {ShownSelection} */ { person, selection: { startTime, endTime } }) => {
        setPersonColor(element, person);
        element.style.left = `${this.#x(startTime)}px`;
        element.style.width = `${this.#x(endTime) - this.#x(startTime)}px`;
      },
    };
  }

  #createMark() {
    const label = createElement("b");
    const element = createElement("div", "mark", {}, label);
    return {
      element,
      update: (/** @type {PlacedMark} */ { person, at, rank }) => {
        const direction = at > this.#widthPx / 2 ? -1 : 1;
        setPersonColor(element, person);
        element.hidden = rank >= MAX_IN_GROUP;
        setText(label, rank === MAX_IN_GROUP - 1 ? "…" : initials(this.nameOf(person)));
        element.style.left = `${at}px`;
        const left = direction * rank * GROUP_STEP_PX - LABEL_PX / 2;
        label.style.left = `${Math.max(-at, Math.min(left, this.#widthPx - at - LABEL_PX))}px`; // inside, at both ends
      },
    };
  }
}

/**
 * Sorts marks by their place and numbers those that are near to each other.
 * @param {PlacedMark[]} marks
 */
function inGroups(marks) {
  let rank = 0;
  let groupAt = -Infinity;
  for (const mark of marks.sort((a, b) => a.at - b.at)) {
    if (mark.at - groupAt < GROUP_PX) {
      rank++;
    } else {
      rank = 0;
      groupAt = mark.at;
    }
    mark.rank = rank;
  }
  return marks;
}
