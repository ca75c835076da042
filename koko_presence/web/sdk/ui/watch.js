/** `<koko-watch reactions="👍 ❤️ 😂">`: the controller, the state of each viewer, and reactions. */

/** @import { Answer, ControlRequest, Person, Room } from "../types.js" */

import { overlays } from "./cursors.js";
import { createElement, setPersonColor, setText, UserList } from "./dom.js";
import { KokoElement } from "./element.js";
import { freeControlWords, viewerWords, waitingSentence } from "./words.js";

const REACTIONS = "👍 ❤️ 😂 🔥";

/** States of a viewer who needs no help. */
const IN_STEP = ["synced", "ended"];

/** What the user can do about control. */
const CONTROL_ACTIONS = /** @type {const} */ ({
  release: { label: "Release control", method: "releaseControl" },
  cancel: { label: "Cancel request", method: "cancelRequest" },
  request: { label: "Request control", method: "requestControl" },
  take: { label: "Take control", method: "requestControl" },
});

/** `<koko-watch reactions="👍 ❤️">`. */
export class KokoWatch extends KokoElement {
  /** The news of the last draw. */
  #news = "";
  /** @type {keyof typeof CONTROL_ACTIONS} */
  #controlAction = "take";

  #who = createElement("bdi", "controller");
  #rule = createElement("small", "rule");
  #control = this.#createButton("", (room) => room[CONTROL_ACTIONS[this.#controlAction].method]());
  #resync = this.#createButton("Resync", async (room) => void (await room.follow(true)));
  #requestItems = createElement("ul");
  #requests = new UserList(this.#requestItems, (/** @type {ControlRequest} */ request) => this.#createRequest(request));
  #count = createElement("p", "count");
  #viewerItems = createElement("ul", "viewers", { ariaLabel: "Viewers" });
  #viewers = new UserList(this.#viewerItems, () => this.#createViewer());
  #error = createElement("p", "error", { role: "alert" });
  #faces = createElement("div", "faces", { role: "group", ariaLabel: "React" });
  /** @type {HTMLButtonElement[]} */
  #reactionButtons = [];

  constructor() {
    super();
    const controller = createElement("p", "", {}, createElement("small", "", {}, "Controller"), this.#who, this.#rule);
    this.shadowRoot?.append(
      createElement("div", "head", {}, controller, this.#control),
      this.#requestItems,
      this.#error,
      createElement("div", "head", {}, this.#count, this.#resync),
      this.#viewerItems,
      this.#faces,
    );
  }

  /** @protected */
  attached() {
    const emojis = (this.getAttribute("reactions") ?? REACTIONS).split(" ");
    this.#reactionButtons = emojis.map((emoji) => createElement("button", "reaction", {
      type: "button", ariaLabel: `React with ${emoji}`, onclick: () => this.react(emoji),
    }, emoji));
    this.#faces.replaceChildren(...this.#reactionButtons);
  }

  /**
   * Broadcasts `{type: "reaction", emoji, timestamp}` and shows it here: the overlays of the same room let it rise.
   * @param {string} emoji
   * @returns {Promise<Answer<{ delivered: number }>>}
   */
  react(emoji) {
    const room = /** @type {Room} */ (this.room);
    for (const overlay of overlays) if (overlay.room === room) overlay.float(emoji, room.self);
    return room.broadcast({ type: "reaction", emoji, timestamp: room.position() });
  }

  /** @protected */
  draw() {
    const { status, self, playback, requests, synced, following, isBlocked, rights } = this.snapshot;
    this.#drawControl();
    for (const button of [this.#control, ...this.#reactionButtons]) button.disabled = status !== "live";
    const isInStep = following === true && [...IN_STEP, "unknown", undefined].includes(self?.viewerSync?.state);
    this.#resync.hidden = !isBlocked && (!playback || isInStep);
    setText(this.#resync, isBlocked ? "Click to play" : "Resync");
    this.#requests.show(this.#hasControl || rights?.moderate ? requests : []);
    this.#faces.hidden = rights?.broadcast === false;
    setText(this.#count, this.#waiting || (synced ? `Viewers synced: ${synced.synced}/${synced.total}` : "Viewers"));
    this.#viewers.show(this.people);
    if (status === "live") this.#announceNews();
  }

  get #hasControl() {
    const { self, controller } = this.snapshot;
    return controller !== null && controller === self?.userId;
  }

  /** The name of the controller; undefined if there is none. */
  get #controllerName() {
    return this.#hasControl ? "You" : this.personOf(this.snapshot.controller)?.name;
  }

  /** For whom the room waits, as text. */
  get #waiting() {
    const waitingFor = this.snapshot.playback?.waitingFor ?? [];
    return waitingSentence(waitingFor.flatMap((userId) => this.personOf(userId)?.name ?? []));
  }

  #drawControl() {
    const { self, controller, requests, rights, settings } = this.snapshot;
    const hasAsked = requests.some(({ userId }) => userId === self?.userId);
    const mayTake = !controller && (settings?.controlMode !== "moderators" || Boolean(rights?.moderate));
    if (this.#hasControl) this.#controlAction = "release";
    else if (hasAsked) this.#controlAction = "cancel";
    else this.#controlAction = mayTake ? "take" : "request";
    this.#control.hidden = rights?.control === false;
    setText(this.#control, CONTROL_ACTIONS[this.#controlAction].label);
    setText(this.#who, this.#controllerName ?? "Nobody");
    setText(this.#rule, controller ? "" : freeControlWords(this.snapshot));
  }

  #announceNews() {
    const { requests, isBlocked } = this.snapshot;
    const asked = requests.map(({ requesterName }) => `. ${requesterName} asks for control`);
    const hints = [this.#waiting, isBlocked ? "Click to play" : ""].flatMap((text) => (text ? `. ${text}` : []));
    const news = `Control: ${this.#controllerName ?? "nobody"}${[...asked, ...hints].join("")}`;
    const isFirst = !this.#news;
    if (news === this.#news) return;
    this.#news = news;
    if (!isFirst) this.announce(() => this.#news);
  }

  /** @param {ControlRequest} request */
  #createRequest({ userId, requesterName }) {
    const text = createElement("span", "", {}, createElement("bdi", "", {}, requesterName), " asks for control");
    const grant = this.#createButton("Grant", (room) => room.grantControl(userId));
    const deny = this.#createButton("Deny", (room) => room.denyControl(userId));
    return { element: createElement("li", "request", {}, text, grant, deny), update() {} };
  }

  #createViewer() {
    const name = createElement("bdi");
    const state = createElement("small");
    const element = createElement("li", "viewer", {}, createElement("i"), name, state);
    return {
      element,
      update: (/** @type {Person} */ person) => {
        const words = viewerWords(person, person.userId === this.snapshot.controller);
        setPersonColor(element, person);
        element.classList.toggle("in", words === "controlling" || IN_STEP.includes(person.viewerSync?.state ?? ""));
        setText(name, this.nameOf(person));
        setText(state, words);
      },
    };
  }

  /**
   * A button that shows a refusal; the second click of a double click is ignored.
   * @param {string} label
   * @param {(room: Room) => Promise<Answer | void>} act
   */
  #createButton(label, act) {
    const onclick = async (/** @type {MouseEvent} */ { detail }) => {
      const answer = detail < 2 ? await act(/** @type {Room} */ (this.room)) : undefined;
      setText(this.#error, answer && !answer.success ? answer.message : "");
    };
    return createElement("button", "button", { type: "button", onclick }, label);
  }
}
