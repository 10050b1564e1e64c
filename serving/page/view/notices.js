/** Messages of one line that can be dismissed. */

import { byId, icon, make } from "./dom.js";

const SHOWN = 3;
const PASSING = 6000;

/** Shows a line until it is dismissed ("error"), or for some seconds ("info"). */
export function notify(text, kind = "error") {
  const list = byId("notices");
  for (const other of list.children) if (other.dataset.text === text) other.remove();
  const close = make(
    "button",
    { class: "icon-button", "aria-label": "Dismiss", onclick: () => notice.remove() },
    icon("close"),
  );
  const role = kind === "error" ? "alert" : "status";
  const notice = make(
    "div",
    { class: `notice ${kind}`, role, data: { text } },
    make("span", { text }),
    close,
  );
  list.append(notice);
  while (list.children.length > SHOWN) list.firstChild.remove();
  if (kind !== "error") setTimeout(() => notice.remove(), PASSING);
}

export function dismissAll() {
  byId("notices").replaceChildren();
}
