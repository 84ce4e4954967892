// All that one looks at, in the address's hash: a link shows the same to somebody else.

const DEFAULTS = {q: "p95", view: "", f: "", source: "", target: "", kind: "", span: "6h", tab: "findings"};
const ALLOWED = {
  q: ["p50", "p95", "p99", "loss"],
  view: ["", "all", "zones"],
  span: ["10m", "6h", "48h"],
  tab: ["findings", "placement", "agents", "events"],
};

export function readHash(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const view = {...DEFAULTS};
  for (const name of Object.keys(DEFAULTS)) {
    const value = given.get(name);
    if (value !== null && (ALLOWED[name]?.includes(value) ?? true)) view[name] = value;
  }
  return view;
}

export function writeHash(view) {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (view[name] !== value) told.set(name, view[name]);
  }
  return `#${told}`;
}

// Opening and closing a path is a step that «back» takes back; anything else is not.
export function goTo(view, isStep) {
  const hash = writeHash(view);
  if (hash === writeHash(readHash(location.hash))) return;
  try {
    history[isStep ? "pushState" : "replaceState"](null, "", hash);
  } catch {
    location.hash = hash;
  }
}

export function linkTo(view) {
  return new URL(writeHash(view), location.href).href;
}
