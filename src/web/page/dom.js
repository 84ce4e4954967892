// Making and changing elements. Names come from the network: they only ever become text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

// An element: el("p", {class: "hint"}, "text", child …).
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svgEl(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

// Writes only what differs: a live region speaks, and a selection is lost, at every write.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// For people who hear the page.
export function hiddenText(text) {
  return el("span", {class: "vh"}, text);
}

// A row of radio buttons in a fieldset that has its legend.
export function radios(fieldset, name, options, chosen, choose) {
  const legend = fieldset.querySelector("legend");
  fieldset.replaceChildren(legend, ...options.map(([value, words]) => el("label", {},
    el("input", {type: "radio", name, value, checked: value === chosen, onchange: () => choose(value)}),
    el("span", {}, words))));
}

// Addresses in data become links only when they are web addresses.
export function docsLink(address, words) {
  if (/^https?:\/\//.test(address ?? "")) {
    return el("a", {href: address, rel: "noopener noreferrer", target: "_blank"}, words);
  }
  return el("code", {}, address ?? words);
}

export function toast(words) {
  const node = byId("toast");
  node.hidden = false;
  setText(node, words);
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { node.hidden = true; }, 2500);
}

// The clipboard's own interface exists on https and localhost only, and agents are often read over plain http.
export async function copyText(text, what) {
  try {
    if (!navigator.clipboard) throw new Error("no clipboard here");
    await navigator.clipboard.writeText(text);
  } catch {
    const had = document.activeElement;
    const field = el("textarea", {class: "offscreen", "aria-hidden": "true", tabindex: "-1"});
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    had?.focus({preventScroll: true});
    if (!done) return toast("The browser does not let this page copy");
  }
  toast(`${what} copied`);
}

// What is remembered by the browser may be switched off there.
export function remembered(storage, key) {
  try { return window[storage].getItem(key); } catch { return null; }
}

export function remember(storage, key, value) {
  try {
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, value);
  } catch { /* it lasts as long as the page then */ }
}
