/** Keys, where no field, list or dialog takes them. */

/** Calls `actions[name](event)` for keys; those that `actions` lacks are left alone. */
export function listenToKeys(actions) {
  const listen = (event) => {
    if (document.querySelector("dialog[open]") || typing(event.target)) return;
    const name = nameOf(event);
    if (!name || !actions[name]) return;
    event.preventDefault();
    actions[name](event);
  };
  document.addEventListener("keydown", listen);
  return () => document.removeEventListener("keydown", listen);
}

function typing(target) {
  return target.matches("select, input:not([type=range]):not([type=file])");
}

const PLAIN = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
  Home: "first",
  End: "last",
  n: "newObject",
  x: "switchSign",
  b: "box",
  h: "hand",
  t: "track",
  a: "automatic",
  m: "masks",
  0: "fit",
  "+": "zoomIn",
  "=": "zoomIn",
  "-": "zoomOut",
  "?": "help",
  Delete: "remove",
  Backspace: "remove",
  Escape: "cancel",
  F2: "rename",
};

function nameOf(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey) {
    const letter = key.toLowerCase();
    if (letter === "z") return event.shiftKey ? "redo" : "undo";
    return letter === "y" ? "redo" : undefined;
  }
  if (event.altKey) return undefined;
  // a focused button is pressed by these
  if ((key === " " || key === "Enter") && target.matches("button, a, label")) return undefined;
  if (key === " ") return "play";
  if (key === "Enter") return "enter";
  if (/^[1-9]$/.test(key)) return "choose";
  return PLAIN[key] ?? PLAIN[key.toLowerCase()];
}
