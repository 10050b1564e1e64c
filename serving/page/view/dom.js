/** Small helpers for the page's elements. Text is set as text, never as markup. */

export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element "${id}"`);
  return element;
}

/** An element with properties (class, text, on<event>, data, others as attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/**
 * A group of buttons of which one is chosen; arrow keys move the choice. `attribute` is the data
 * attribute that holds a button's value. Gives a function that shows a choice.
 */
export function choice(group, attribute, chosen) {
  const buttons = [...group.querySelectorAll("button")];
  const show = (value) => {
    for (const button of buttons) {
      const checked = button.dataset[attribute] === value;
      button.setAttribute("aria-checked", String(checked));
      button.tabIndex = checked ? 0 : -1;
    }
  };
  const choose = (button) => {
    show(button.dataset[attribute]);
    chosen(button.dataset[attribute]);
  };
  for (const button of buttons) button.addEventListener("click", () => choose(button));
  group.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const shown = buttons.filter((button) => button.offsetParent);
    const next = shown.at((shown.indexOf(document.activeElement) + step) % shown.length);
    next.focus();
    choose(next);
  });
  show(buttons.find((button) => button.getAttribute("aria-checked") === "true").dataset[attribute]);
  return show;
}
