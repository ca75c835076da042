/** `<koko-watch reactions="👍 ❤️ 😂">`: the controller, the state of each viewer, and reactions. */

/** @import { Answer, ControlRequest, Person, Room, RoomSnapshot } from "../types.js" */

import { overlays } from "./cursors.js";
import { createElement, setPersonColor, setText, UserList } from "./dom.js";
import { KokoElement } from "./element.js";
import { wake } from "./frames.js";
import { connectionWords, freeControlWords, shownName, viewerWords, waitingSentence } from "./words.js";

const REACTIONS = "👍 ❤️ 😂 🔥";
const RETURN_MS = 8000; // for so long it is shown how the connection came back

/** States of a viewer who needs no help. */
const IN_STEP = ["synced", "ended"];

/**
 * Whether "Resync" would change what this page shows. Other sessions of the user do not count.
 * @param {Pick<RoomSnapshot, "self" | "following" | "playback">} snapshot
 */
export function needsResync({ self, following, playback }) {
  const own = self?.sessions.find(({ sessionId }) => sessionId === self.sessionId);
  const isInStep = following === true && [...IN_STEP, "unknown"].includes(own?.viewerSync?.state ?? "unknown");
  return playback !== null && !isInStep;
}

/** What the user can do about control. */
const CONTROL_ACTIONS = /** @type {const} */ ({
  release: { label: "releaseControl", method: "releaseControl" },
  cancel: { label: "cancelRequest", method: "cancelRequest" },
  request: { label: "requestControl", method: "requestControl" },
  take: { label: "takeControl", method: "requestControl" },
});

/** Where the name is in a sentence; the name itself is an element of its own. */
const NAME_PLACE = "\0";

/** Types of rooms without shared playback. */
const WITHOUT_PLAYBACK = ["project", "comment_thread"];

/** `<koko-watch reactions="👍 ❤️">`. */
export class KokoWatch extends KokoElement {
  /**
   * How the connection came back, for a few seconds.
   * @type {RoomSnapshot["returned"]}
   */
  #returned = null;
  /** The news of the last draw. */
  #news = "";
  /** @type {keyof typeof CONTROL_ACTIONS} */
  #controlAction = "take";

  #who = createElement("bdi", "controller");
  #rule = createElement("small", "rule");
  #connection = createElement("p", "connection");
  #controllerLabel = createElement("small");
  #control = this.#createButton((room) => room[CONTROL_ACTIONS[this.#controlAction].method]());
  #resync = this.#createButton(async (room) => void (await room.follow(true)));
  #requestItems = createElement("ul");
  #requests = new UserList(this.#requestItems, (/** @type {ControlRequest} */ request) => this.#createRequest(request));
  #count = createElement("p", "count");
  #viewerItems = createElement("ul", "viewers", { tabIndex: 0 }); // it scrolls
  #viewers = new UserList(this.#viewerItems, () => this.#createViewer());
  #error = createElement("p", "error", { role: "alert" });
  #faces = createElement("div", "faces", { role: "group" });
  /** @type {HTMLButtonElement[]} */
  #reactionButtons = [];

  #controlHead = createElement(
    "div", "head", {}, createElement("p", "", {}, this.#controllerLabel, this.#who, this.#rule), this.#control,
  );
  #viewersHead = createElement("div", "head", {}, this.#count, this.#resync);

  constructor() {
    super();
    this.shadowRoot?.append(
      this.#connection,
      this.#controlHead,
      this.#requestItems,
      this.#error,
      this.#viewersHead,
      this.#viewerItems,
      this.#faces,
    );
  }

  /**
   * @protected
   * @param {Room} room
   */
  attached(room) {
    this.#returned = null;
    this.keep(room.on("returned", (returned) => this.#showReturn(returned)));
    const emojis = (this.getAttribute("reactions") ?? REACTIONS).split(" ");
    this.#reactionButtons = emojis.filter(Boolean).map((emoji) => createElement("button", "reaction", {
      type: "button", value: emoji, onclick: () => this.react(emoji),
    }, emoji));
    this.#faces.replaceChildren(...this.#reactionButtons);
  }

  /** @param {NonNullable<RoomSnapshot["returned"]>} returned */
  #showReturn(returned) {
    this.#returned = returned;
    const timer = setTimeout(() => {
      if (this.#returned !== returned) return;
      this.#returned = null;
      wake(this);
    }, RETURN_MS);
    this.keep(() => clearTimeout(timer));
    wake(this);
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
    const { texts, snapshot, room } = this;
    const { status, type = "", requests, isBlocked, rights } = snapshot;
    const { status: connection, error } = room?.getSnapshot() ?? { status: "live", error: null };
    const isLive = status === "live";
    const hasPlayback = !WITHOUT_PLAYBACK.includes(type);
    setText(this.#connection, connectionWords({ status: connection, error, returned: this.#returned }, texts));
    this.#connection.hidden = !this.#connection.textContent;
    this.#controlHead.hidden = this.#viewersHead.hidden = this.#viewerItems.hidden = !hasPlayback;
    this.#drawControl();
    for (const button of this.#reactionButtons) {
      button.disabled = !isLive;
      button.ariaLabel = texts.reactWith(button.value);
    }
    this.#resync.hidden = !isBlocked && !needsResync(snapshot);
    setText(this.#resync, isBlocked ? texts.clickToPlay : texts.resync);
    this.#keepFocus(() => this.#requests.show(this.#hasControl || rights?.moderate ? requests : []));
    this.#faces.hidden = status === "closed" || rights?.broadcast === false;
    this.#faces.ariaLabel = texts.react;
    this.#viewerItems.ariaLabel = texts.viewers;
    setText(this.#count, this.#countWords);
    this.#viewers.show(this.people);
    if (isLive) this.#announceNews();
  }

  /** What is above the viewers: for whom the room waits, that the film has ended, how many are in step. */
  get #countWords() {
    const { texts } = this;
    const { synced, playback } = this.snapshot;
    if (this.#waiting) return this.#waiting;
    if (playback?.ended) return texts.ended;
    return synced && playback ? texts.viewersSynced(synced.synced, synced.total) : texts.viewers;
  }

  /**
   * Changes the list of requests. When the one with the focus is gone, the focus goes to the same button of the next one, or else
   * to the nearest control.
   * @param {() => void} change
   */
  #keepFocus(change) {
    const focused = /** @type {HTMLElement | null} */ (this.shadowRoot?.activeElement ?? null);
    const item = focused?.closest(".request");
    const rows = () => [...this.#requestItems.children];
    const index = item ? rows().indexOf(item) : -1;
    const column = item && focused ? [...item.querySelectorAll("button")].indexOf(/** @type {HTMLButtonElement} */ (focused)) : -1;
    change();
    if (!item || item.isConnected) return;
    const next = rows()[Math.min(index, rows().length - 1)]?.querySelectorAll("button")[column];
    const rest = [this.#control, this.#resync, this.#viewerItems].find((each) => each.checkVisibility() && !each.matches(":disabled"));
    (next ?? rest)?.focus({ preventScroll: true });
  }

  get #hasControl() {
    const { self, controller } = this.snapshot;
    return controller !== null && controller === self?.userId;
  }

  /** The name of the controller; undefined if there is none. */
  get #controllerName() {
    const controller = this.personOf(this.snapshot.controller);
    return this.#hasControl ? this.texts.youHaveControl : controller && shownName(controller.name, this.texts);
  }

  /** For whom the room waits, as text. */
  get #waiting() {
    const people = this.snapshot.playback?.waitingFor?.flatMap((userId) => this.personOf(userId) ?? []) ?? [];
    return waitingSentence(people.map(({ name }) => shownName(name, this.texts)), this.texts);
  }

  #drawControl() {
    const { texts } = this;
    const { status, self, controller, requests, rights, settings } = this.snapshot;
    const hasAsked = requests.some(({ userId }) => userId === self?.userId);
    const mayTake = !controller && (settings?.controlMode !== "moderators" || Boolean(rights?.moderate));
    if (this.#hasControl) this.#controlAction = "release";
    else if (hasAsked) this.#controlAction = "cancel";
    else this.#controlAction = mayTake ? "take" : "request";
    this.#control.hidden = status === "closed" || rights?.control === false;
    this.#control.disabled = status !== "live";
    setText(this.#control, texts[CONTROL_ACTIONS[this.#controlAction].label]);
    setText(this.#controllerLabel, texts.controller);
    setText(this.#who, this.#controllerName ?? texts.nobody);
    setText(this.#rule, controller || status === "closed" ? "" : freeControlWords(this.snapshot, texts));
  }

  #announceNews() {
    const { texts } = this;
    const { requests, isBlocked } = this.snapshot;
    const asked = requests.map(({ requesterName }) => texts.asksForControl(shownName(requesterName, texts)));
    const control = this.#controllerName === undefined ? texts.nobodyHasControl : texts.control(this.#controllerName);
    const news = [this.#connection.textContent, control, ...asked, this.#waiting, isBlocked ? texts.clickToPlay : ""].filter(Boolean).join(". ");
    const isFirst = !this.#news;
    if (news === this.#news) return;
    this.#news = news;
    if (!isFirst) this.announce(() => this.#news);
  }

  /** @param {ControlRequest} request */
  #createRequest({ userId, requesterName }) {
    const [before, name, after] = [createElement("span"), createElement("bdi"), createElement("span")];
    const grant = this.#createButton((room) => room.grantControl(userId));
    const deny = this.#createButton((room) => room.denyControl(userId));
    return {
      element: createElement("li", "request", {}, createElement("p", "", {}, before, name, after), grant, deny),
      update: () => {
        const { texts } = this;
        const [start = "", end = ""] = texts.asksForControl(NAME_PLACE).split(NAME_PLACE);
        setText(before, start);
        setText(name, shownName(requesterName, texts));
        setText(after, end);
        setText(grant, texts.grant);
        setText(deny, texts.deny);
      },
    };
  }

  #createViewer() {
    const name = createElement("bdi");
    const state = createElement("small");
    const element = createElement("li", "viewer", {}, createElement("i"), name, state);
    return {
      element,
      update: (/** @type {Person} */ person) => {
        const { controller, playback } = this.snapshot;
        const hasControl = person.userId === controller;
        const words = viewerWords(person, hasControl, { texts: this.texts, isStarted: playback !== null });
        setPersonColor(element, person);
        element.classList.toggle("in", words === this.texts.controlling || IN_STEP.includes(person.viewerSync?.state ?? ""));
        setText(name, this.nameOf(person));
        setText(state, words);
      },
    };
  }

  /**
   * A button that shows a refusal; the second click of a double click is ignored.
   * @param {(room: Room) => Promise<Answer | void>} act
   */
  #createButton(act) {
    const onclick = async (/** @type {MouseEvent} */ { detail }) => {
      const answer = detail < 2 ? await act(/** @type {Room} */ (this.room)) : undefined;
      setText(this.#error, answer && !answer.success ? this.texts.errors[answer.code] ?? answer.message : "");
    };
    return createElement("button", "button", { type: "button", onclick });
  }
}
