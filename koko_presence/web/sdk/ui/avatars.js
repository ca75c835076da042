/** `<koko-avatars max="3">`: the people in the room, one entry each; "+2 more" opens the list of all. */

import { h, keyed, KokoElement, setText, tint } from "./element.js";
import { arrivals, initials } from "./words.js";

/** A photo or initials in the person's colour, with the status as a shape. Images by https only. */
function paint(avatar, person) {
  const [letters, photo, dot] = avatar.children;
  tint(avatar, person);
  setText(letters, initials(person.name));
  dot.className = `status ${person.connected ? person.status : "away"}`;
  const image = /^https:/.test(person.image) ? person.image : "";
  if (photo.image === image) return;
  photo.image = image;
  photo.hidden = !image;
  photo.src = image;
}

const makeAvatar = () => h("span", "avatar", { ariaHidden: "true" }, h("b", "initials"),
  h("img", "photo", { alt: "", referrerPolicy: "no-referrer", hidden: true, onerror: ({ target }) => (target.hidden = true) }),
  h("i", "status"));

const statusOf = ({ status, connected }) => (connected ? status : "reconnecting");

export class KokoAvatars extends KokoElement {
  #known;
  #row = h("ul", "row");
  #more = this.#opener("more");
  #list = h("ul");
  #panel = h("div", "panel", { id: "all", popover: "auto", role: "dialog", ariaLabel: "Everybody here" }, this.#list);

  constructor() {
    super();
    const panel = this.#panel;
    let opener;
    panel.addEventListener("beforetoggle", ({ newState }) => { // under the avatars, inside the window
      if (newState === "open") opener = this.shadowRoot.activeElement;
      else if (panel.matches(":focus-within")) opener?.focus();
      const { left, bottom } = this.getBoundingClientRect();
      panel.style.left = `${Math.max(8, Math.min(left, innerWidth - 296))}px`;
      panel.style.top = `${bottom + 8}px`;
    });
    this.shadowRoot.append(this.#row, this.#more, panel);
  }

  #opener(part, ...children) {
    const button = h("button", part, { type: "button" }, ...children);
    button.setAttribute("popovertarget", "all");
    return button;
  }

  attached() {
    this.#known = undefined;
  }

  draw() {
    const { people } = this;
    const max = +this.getAttribute("max") || 3;
    keyed(this.#row, people.slice(0, max), () => h("li", "", {}, this.#opener("face", makeAvatar())), ({ firstChild }, person) => {
      paint(firstChild.firstChild, person);
      firstChild.title = firstChild.ariaLabel = `${this.nameOf(person)}, ${statusOf(person)}`;
    });
    this.#row.ariaLabel = `Here: ${people.length}`;
    this.#more.hidden = people.length <= max;
    setText(this.#more, `+${people.length - max} more`);
    keyed(this.#list, people, ({ userId }) => h("li", "", {}, h("button", "person", { type: "button", onclick: () => this.#choose(userId) },
      makeAvatar(), h("bdi", "name"), h("small", "note"))), ({ firstChild }, person, i) => {
      const [avatar, name, note] = firstChild.children;
      firstChild.autofocus = !i;
      paint(avatar, person);
      setText(name, this.nameOf(person));
      setText(note, statusOf(person) + (person.statusMessage ? `: ${person.statusMessage}` : ""));
    });
    if (this.snapshot.status !== "live") return;
    const names = () => new Map(this.people.map(({ userId, name }) => [userId, name]));
    this.#known ??= names();
    if (arrivals(this.#known, names())) this.say(() => arrivals(this.#known, (this.#known = names())));
  }

  #choose(userId) {
    this.#panel.hidePopover();
    this.dispatchEvent(new CustomEvent("koko-person", { detail: this.personOf(userId), bubbles: true }));
  }
}
