/** The list of objects: choose, rename, hide, remove. */

import { css, ink } from "../masks/colour.js";
import { byId, icon, make } from "./dom.js";

export class ObjectList {
  #renaming = null;
  #shown = "";

  /** `actions`: choose(object), rename(object, name), remove(object), toggle(object). */
  constructor(actions) {
    this.actions = actions;
    this.list = byId("objects");
  }

  /**
   * `rows`: [{object, name, own, text, active, hidden, waiting}], `own` the name it was given;
   * `simple`: they can be chosen and removed alone.
   */
  render(rows, { simple = false } = {}) {
    Object.assign(this, { rows, simple });
    const shown = JSON.stringify([rows, simple, this.#renaming]);
    // an unchanged list keeps its elements, and with them the focus
    if (shown === this.#shown) return;
    // nor is a name that is being typed taken away
    const typing =
      this.list.querySelector("input") && rows.some((row) => row.object === this.#renaming);
    if (typing) return;
    this.#shown = shown;
    const focused = this.list.contains(document.activeElement)
      ? document.activeElement.dataset.key
      : null;
    this.list.replaceChildren(...rows.map((row) => this.#row(row)));
    if (focused) this.list.querySelector(`[data-key="${focused}"]`)?.focus();
    byId("no-objects").hidden = rows.length > 0;
    this.#reveal();
  }

  /** Scrolls the list, and nothing but the list, to the chosen object. */
  #reveal() {
    const item = this.list.querySelector(".active");
    if (!item) return;
    const [list, row] = [this.list.getBoundingClientRect(), item.getBoundingClientRect()];
    if (row.top < list.top || row.bottom > list.bottom) this.list.scrollTop += row.top - list.top;
    if (row.left < list.left || row.right > list.right)
      this.list.scrollLeft += row.left - list.left;
  }

  /** Turns the name of an object into a field. */
  rename(object) {
    this.#renaming = object;
    this.render(this.rows, this);
    this.list.querySelector("input")?.select();
  }

  #row(row) {
    const { object, name, active, waiting } = row;
    const swatch = make("span", {
      class: "swatch",
      text: object,
      style: `background:${css(object)};color:${ink(object)}`,
    });
    const item = make("li", {
      class: `object${active ? " active" : ""}${waiting ? " waiting" : ""}`,
    });
    if (this.#renaming === object) {
      item.append(swatch, this.#field(row));
      return item;
    }
    const text = make(
      "span",
      { class: "object-text" },
      make("strong", { text: name }),
      make("span", { text: row.text }),
    );
    item.append(
      make(
        "button",
        {
          class: "object-main",
          "aria-pressed": String(active),
          data: { key: `choose-${object}` },
          onclick: () => this.actions.choose(object),
          ondblclick: () => waiting || this.simple || this.rename(object),
        },
        swatch,
        text,
      ),
    );
    if (waiting) return item;
    const button = (key, label, symbol, act, more = {}) =>
      make(
        "button",
        {
          class: "icon-button",
          "aria-label": `${label} ${name}`,
          title: label,
          data: { key: `${key}-${object}` },
          onclick: act,
          ...more,
        },
        icon(symbol),
      );
    if (!this.simple) {
      item.append(
        button("rename", "Rename", "pencil", () => this.rename(object)),
        button("hide", "Show", "eye", () => this.actions.toggle(object), {
          "aria-pressed": String(!row.hidden),
        }),
      );
    }
    item.append(button("remove", "Remove", "close", () => this.actions.remove(object)));
    return item;
  }

  #field({ object, name, own }) {
    const end = (keep) => {
      if (this.#renaming !== object) return;
      this.#renaming = null;
      const value = input.value.trim();
      if (keep && value !== own) this.actions.rename(object, value);
      this.render(this.rows, this);
      this.list.querySelector(`[data-key="choose-${object}"]`)?.focus();
    };
    const input = make("input", {
      "aria-label": `Name of object ${object}`,
      maxlength: 100,
      value: own,
      placeholder: name,
      onblur: () => end(true),
    });
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    return input;
  }
}
