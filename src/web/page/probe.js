// The page's own loop: what comes in goes to the store, and one drawing a frame shows it.

import {byId, copyText, radios, remember, remembered, setText} from "./dom.js";
import {Attention, drawBanner} from "./banner.js";
import {Matrix, drawLegend} from "./grid.js";
import {PathPanel} from "./panel.js";
import {Tabs} from "./lists.js";
import {Feed, getJson} from "./feed.js";
import {Store} from "./store.js";
import {QUANTILES} from "./words.js";
import {asJson, asMarkdown} from "./copy.js";
import {goTo, linkTo, readHash} from "./route.js";
import {gridMode} from "./shape.js";

const store = new Store();
const report = byId("probe-data") ? JSON.parse(byId("probe-data").textContent) : null;
let view = readHash(location.hash);
let link = report ? "report" : "connecting";
let drawing = 0;

const matrix = new Matrix(store, {open: openPath, drill: (filter) => look({view: "all", f: filter})});
const panel = new PathPanel(store, {
  read: readPath, close: closePath, open: (cell) => openPath(cell.source, cell.target, cell.kind), span: (word) => look({span: word}),
});
const tabs = new Tabs(store, (tab) => look({tab}));
const attention = new Attention(store, {
  open: (cell) => openPath(cell.source, cell.target, cell.kind),
  findings: () => { look({tab: "findings"}); byId("tab-findings").focus(); },
});

function drawLater() {
  drawing ||= requestAnimationFrame(draw);
}

function draw() {
  drawing = 0;
  drawBanner(store, link);
  if (!store.meta) return;
  attention.show();
  matrix.show(view);
  tabs.show(view.tab);
  panel.update();
  drawScope();
}

// The choice between agents and zones is only there where zones are.
function drawScope() {
  const mode = gridMode(store, view);
  if (drawScope.mode === mode) return;
  drawScope.mode = mode;
  radios(byId("scope"), "scope", [["all", "Agents"], ["zones", "Zones"]], mode, (value) => look({view: value, f: ""}));
}

// Another look at the same: in the address first, then on the page.
function look(change, isStep = false) {
  view = {...view, ...change};
  goTo(view, isStep);
  follow();
}

function follow() {
  for (const input of document.querySelectorAll("input[name=quantile]")) input.checked = input.value === view.q;
  const filter = byId("filter");
  if (filter.value.trim() !== view.f) filter.value = view.f;
  if (view.source && view.target) panel.show(view.source, view.target, view.kind || "peer", view.span);
  else panel.hide();
  drawScope.mode = null;
  drawLater();
}

function openPath(source, target, kind) {
  openPath.from ??= document.activeElement;
  look({source, target, kind}, true);
}

function closePath() {
  const {source, target, kind} = view;
  look({source: "", target: "", kind: ""}, true);
  const from = openPath.from;
  openPath.from = null;
  if (from?.isConnected && from !== document.body && !from.closest("td")) from.focus();
  else matrix.focusPath(source, target, kind);
}

async function readPath(source, target, kind, span) {
  if (report) {
    const found = [report.paths ?? []].flat().find(({cell}) => cell && cell.source === source && cell.target === target && cell.kind === kind);
    return found ?? {generated_at: null, measured_here: null, cell: store.cell(source, target, kind) ?? null, back: null, beside: [], detail: null, history: null, events: [], command: null};
  }
  return getJson(`api/v1/path?${new URLSearchParams({source, target, kind, span})}`);
}

async function readPlacement() {
  try {
    [store.placement, store.placementError] = [await getJson("api/v1/placement"), null];
  } catch (error) {
    store.placementError = error.message;
  }
  drawLater();
}

function takeSnapshot(snapshot) {
  const had = store.findings;
  store.takeSnapshot(snapshot);
  if (had !== store.findings) readPlacement();
  drawLater();
}

function takeDelta(delta) {
  store.takeDelta(delta);
  if (delta.findings || delta.agents?.length) {
    clearTimeout(takeDelta.timer);
    takeDelta.timer = setTimeout(readPlacement, 1000);
  }
  drawLater();
}

function linkIs(word) {
  link = word;
  const isFresh = word === "live" || word === "polling";
  if (isFresh) store.resume();
  else if (word !== "connecting") store.breakOff();
  // What was last heard is history once nothing comes any more.
  store.stalled = word === "stalled" || word === "locked" && store.meta !== null || store.stalled && !isFresh;
  drawLater();
}

function askToken(wasWrong) {
  byId("token").hidden = false;
  setText(byId("token-hint"), wasWrong ? "The agent refused that token. Try another one." : "It stays in this tab and is sent to this agent only.");
  const field = byId("token-field");
  field.value = "";
  field.focus();
  return new Promise((resolve) => {
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      byId("token").hidden = true;
      resolve(field.value.trim());
      field.value = "";
    };
  });
}

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  const known = THEMES.includes(theme) ? theme : "auto";
  document.documentElement.dataset.theme = known;
  setText(byId("theme"), `Theme: ${known}`);
  remember("localStorage", "probe-theme", known === "auto" ? null : known);
}

function wire() {
  setTheme(remembered("localStorage", "probe-theme") ?? "auto");
  byId("theme").addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
  });
  radios(byId("quantile"), "quantile", QUANTILES, view.q, (q) => look({q}));
  drawLegend(byId("legend"));
  const filter = byId("filter");
  filter.addEventListener("input", () => {
    clearTimeout(wire.timer);
    wire.timer = setTimeout(() => look({f: filter.value.trim()}), 120);
  });
  // The hash belongs to the view, so the skip link is not one to the browser.
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    (document.querySelector("td[tabindex='0']") ?? byId("matrix")).focus();
  });
  const shownPanel = () => (panel.isOpen ? panel : null);
  byId("copy-link").addEventListener("click", () => copyText(linkTo(view), "Link"));
  byId("copy-markdown").addEventListener("click", () => copyText(asMarkdown(store, view, shownPanel(), linkTo(view)), "Markdown"));
  byId("copy-json").addEventListener("click", () => copyText(asJson(store, view, shownPanel()), "JSON"));
  const readAddress = () => { view = readHash(location.hash); follow(); };
  window.addEventListener("popstate", readAddress);
  window.addEventListener("hashchange", readAddress);
  window.addEventListener("resize", () => { panel.shownAs = null; drawLater(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel.isOpen && document.activeElement !== filter) closePath();
  });
}

wire();
if (report) {
  store.placement = report.placement ?? null;
  store.takeSnapshot(report.snapshot);
  // A report is as old as it is: ages are told as of its own time.
  store.now = () => store.at ?? Date.now();
  follow();
} else {
  follow();
  new Feed({snapshot: takeSnapshot, delta: takeDelta, link: linkIs, locked: askToken}).start();
  setInterval(drawLater, 1000);
}
