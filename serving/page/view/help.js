/** What mouse, fingers and keys do. */

import { byId, icon, make } from "./dom.js";

const KEYS = [
  ["Include", ["click"]],
  ["Exclude", ["right click", "Shift click"]],
  ["Box", ["drag"]],
  ["Zoom", ["wheel", "pinch"]],
  ["Move the picture", ["middle drag", "H"]],
  ["New object", ["N"]],
  ["Choose an object", ["1", "…", "9"]],
  ["Rename the object", ["F2"]],
  ["Remove the object", ["Delete"]],
  ["Switch include and exclude", ["X"]],
  ["Box tool", ["B"]],
  ["Undo, redo", ["Ctrl Z", "Ctrl Y"]],
  ["Frame before, after", ["←", "→"]],
  ["Ten frames", ["Shift ←", "Shift →"]],
  ["First, last frame", ["Home", "End"]],
  ["Play", ["Space"]],
  ["Track", ["T"]],
  ["Find everything", ["A"]],
  ["Show masks", ["M"]],
  ["Zoom in, out, fit", ["+", "−", "0"]],
  ["Cancel", ["Esc"]],
  ["Without a mouse: to the frame", ["Tab"]],
  ["… move the cross", ["arrows"]],
  ["… include, exclude", ["Enter", "Shift Enter"]],
  ["This help", ["?"]],
];

const FINGERS = [
  ["Include", ["tap"]],
  ["Exclude", ["−", "tap"]],
  ["Box", ["box", "drag"]],
  ["Zoom", ["two fingers"]],
  ["Move the picture", ["drag"]],
];

export function showHelp() {
  const dialog = byId("help");
  if (dialog.open) return;
  const known = matchMedia("(hover: none)").matches ? FINGERS : KEYS;
  const rows = known.map(([what, keys]) =>
    make(
      "div",
      {},
      make("dt", { text: what }),
      make("dd", {}, ...keys.map((key) => make("kbd", { text: key }))),
    ),
  );
  const close = make(
    "button",
    { class: "icon-button", "aria-label": "Close", onclick: () => dialog.close() },
    icon("close"),
  );
  const head = make(
    "div",
    { class: "help-head" },
    make("h2", { id: "help-title", text: "Mouse, fingers, keys" }),
    close,
  );
  dialog.replaceChildren(head, make("dl", { class: "keys" }, ...rows));
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  dialog.showModal();
}
