/** `<koko-watch reactions="👍 ❤️ 😂">`: the controller, the state of each viewer, and reactions. */

import { overlays } from "./cursors.js";
import { h, keyed, KokoElement, setText, tint } from "./element.js";
import { viewerWords } from "./words.js";

export class KokoWatch extends KokoElement {
  #said;
  #act; // the current action of the button
  #who = h("bdi", "controller");
  #control = this.#button("button", "", (room) => room[this.#act]());
  #resync = this.#button("button", "Resync", (room) => void room.follow(true));
  #requests = h("ul");
  #count = h("p", "count");
  #viewers = h("ul", "viewers", { ariaLabel: "Viewers" });
  #error = h("p", "error", { role: "alert" });
  #faces = h("div", "faces", { role: "group", ariaLabel: "React" });

  constructor() {
    super();
    this.shadowRoot.append(h("div", "head", {}, h("p", "", {}, h("small", "", {}, "Controller"), this.#who), this.#control),
      this.#requests, this.#error, h("div", "head", {}, this.#count, this.#resync), this.#viewers, this.#faces);
  }

  /** A button that shows a refusal; the second click of a double click is ignored. */
  #button(part, label, act) {
    const onclick = async ({ detail }) => {
      setText(this.#error, (detail < 2 && (await act(this.room))?.message) || "");
    };
    return h("button", part, { type: "button", onclick }, label);
  }

  attached() {
    const faces = (this.getAttribute("reactions") ?? "👍 ❤️ 😂 🔥").split(" ");
    this.#faces.replaceChildren(...faces.map((emoji) => h("button", "reaction", {
      type: "button", ariaLabel: `React with ${emoji}`, onclick: () => this.react(emoji),
    }, emoji)));
  }

  /** Send a reaction; the overlays of the same room show it here. */
  react(emoji) {
    const { room } = this;
    for (const overlay of overlays) if (overlay.room === room) overlay.float(emoji, room.self);
    return room.broadcast({ type: "reaction", emoji, timestamp: room.position() });
  }

  draw() {
    const { status, self, playback, controller, requests, synced, following } = this.snapshot;
    const me = self?.userId;
    const mine = controller && controller === me;
    const name = mine ? "You" : this.personOf(controller)?.name;
    const [act, label] = mine ? ["releaseControl", "Release control"]
      : requests.some(({ userId }) => userId === me) ? ["cancelRequest", "Cancel request"]
      : ["requestControl", controller ? "Request control" : "Take control"];
    this.#act = act;
    setText(this.#control, label);
    setText(this.#who, name ?? "Nobody: everyone can play");
    for (const button of [this.#control, ...this.#faces.children]) button.disabled = status !== "live";

    keyed(this.#requests, mine ? requests : [], ({ userId, requesterName }) => h("li", "request", {},
      h("span", "", {}, h("bdi", "", {}, requesterName), " asks for control"),
      this.#button("button", "Grant", (room) => room.grantControl(userId)), this.#button("button", "Deny", (room) => room.denyControl(userId)),
    ), () => {});

    // in step, unknown or undefined
    this.#resync.hidden = !playback || (following === true && /^(sync|un)/.test(self?.viewerSync?.state));
    setText(this.#count, synced ? `Viewers synced: ${synced.synced}/${synced.total}` : "Viewers");
    keyed(this.#viewers, this.people, () => h("li", "viewer", {}, h("i"), h("bdi"), h("small")), (item, person) => {
      const [, who, words] = item.children;
      const says = viewerWords(person, person.userId === controller);
      tint(item, person);
      item.classList.toggle("in", /^(contr|sync)/.test(says));
      setText(who, this.nameOf(person));
      setText(words, says);
    });

    const asking = requests.map(({ requesterName }) => `. ${requesterName} asks for control`);
    const news = `Control: ${name ?? "nobody"}${asking.join("")}`;
    if (this.#said && news !== this.#said) this.say(() => this.#said);
    if (status === "live") this.#said = news;
  }
}
