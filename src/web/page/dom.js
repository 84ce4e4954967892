// Making and changing elements. Names come from the network: they only ever become text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, parts) {
  const hasAttributes = parts[0] && Object.getPrototypeOf(parts[0]) === Object.prototype;
  for (const [name, value] of Object.entries(hasAttributes ? parts[0] : {})) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of parts.slice(hasAttributes ? 1 : 0).flat(Infinity)) {
    if (child != null && child !== false) node.append(child);
  }
  return node;
}

// An element: el("p.hint.small", {id: "x"}, "text", child …); attributes may be left out.
export function el(tag, ...parts) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  if (name === "button") node.type = "button";
  return fill(node, parts);
}

export function svgEl(tag, ...parts) {
  return fill(document.createElementNS(SVG, tag), parts);
}

// A sign beside words or an aria-label that say the same.
export function signEl(sign) {
  return el("i", {"aria-hidden": "true"}, sign);
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
  return el("span.vh", text);
}

// A table in a box of its own, which scrolls; the first cell of a row is its header.
export function plainTable(caption, heads, rows, css = "plain") {
  return el("div.box.small", {tabindex: "0", role: "region", "aria-label": caption}, el(`table.${css}`, el("caption.vh", caption),
    el("thead", el("tr", heads.map((words) => el("th", {scope: "col"}, words)))),
    el("tbody", rows.map(([first, ...rest]) => el("tr", el("th", {scope: "row"}, first), rest.map((cell) => el("td", cell ?? "–")))))));
}

// A row of radio buttons in a fieldset that has its legend.
export function radios(fieldset, name, options, chosen, choose) {
  const legend = fieldset.querySelector("legend");
  fieldset.replaceChildren(legend, ...options.map(([value, words]) => el("label", {},
    el("input", {type: "radio", name, value, checked: value === chosen, onchange: () => choose(value)}),
    el("span", words))));
}

// Addresses in data become links only when they are web addresses.
export function docsLink(address, words) {
  if (/^https?:\/\//.test(address ?? "")) {
    return el("a", {href: address, rel: "noopener noreferrer", target: "_blank"}, words);
  }
  return el("code", address ?? words);
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
    const field = el("textarea.offscreen", {"aria-hidden": "true", tabindex: "-1"});
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
  } catch { /* for this page only, then */ }
}
