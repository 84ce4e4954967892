// One path in depth, beside the matrix.

import {byId, copyText, el, hiddenText, radios, signEl} from "./dom.js";
import {comparison, reasons, splits, stateChip} from "./compare.js";
import {eventList} from "./lists.js";
import {figureWords, smokeChart, trailHistory} from "./chart.js";
import {KINDS, budgetWords, kindWord, placeWords, sinceWords, span} from "./words.js";
import {keyOf} from "./store.js";

const REFRESH_MS = 10_000;
const SPANS = [["10m", "Last 10 min"], ["6h", "6 h"], ["48h", "48 h"]];
const SPAN_MS = {"10m": 600_000, "6h": 21_600_000, "48h": 172_800_000};

export class PathPanel {
  // on: read(source, target, kind, span) → promise of the document, close(), open(cell), span(word)
  constructor(store, on) {
    this.store = store;
    this.on = on;
    this.node = byId("panel");
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.on.close();
    });
  }

  get isOpen() {
    return !this.node.hidden;
  }

  show(source, target, kind, spanWord) {
    const same = this.isOpen && this.source === source && this.target === target && this.kind === kind;
    if (same && this.span === spanWord) return;
    Object.assign(this, {source, target, kind, span: spanWord});
    if (!same) {
      this.document = null;
      this.error = null;
      this.shownAs = null;
      this.#frame();
      this.node.hidden = false;
      document.documentElement.classList.add("has-panel");
      byId("panel-title").focus({preventScroll: true});
    }
    this.refresh();
  }

  hide() {
    if (!this.isOpen) return;
    clearTimeout(this.timer);
    this.asked = null;
    this.node.hidden = true;
    this.node.replaceChildren();
    document.documentElement.classList.remove("has-panel");
  }

  async refresh() {
    clearTimeout(this.timer);
    const asked = this.asked = {};
    try {
      const found = await this.on.read(this.source, this.target, this.kind, this.span === "48h" ? "48h" : "6h");
      if (this.asked !== asked) return;
      [this.document, this.error] = [found, null];
    } catch (error) {
      if (this.asked !== asked) return;
      this.error = error.message;
    }
    this.update();
    this.timer = setTimeout(() => {
      if (document.visibilityState === "visible") this.refresh();
      else this.timer = setTimeout(() => this.refresh(), REFRESH_MS);
    }, REFRESH_MS);
  }

  #frame() {
    const part = (name) => (this[name] = el("div", {class: `part-${name}`}));
    const spans = el("fieldset.switch", el("legend.vh", "Time shown"));
    this.spans = spans;
    this.node.replaceChildren(
      el("div.panel-head",
        el("h2", {id: "panel-title", tabindex: "-1"}, el("span", this.source), " ", signEl("→"), hiddenText("to "), " ", el("span", this.target),
          " ", el("small", kindWord(this.kind))),
        el("button.close", {"aria-label": "Close (Escape)", onclick: () => this.on.close()}, "×")),
      part("status"), spans, part("picture"), part("pairs"), part("parts"), part("command"), part("events"));
  }

  // What the store knows now, and what was read at last.
  update() {
    if (!this.isOpen) return;
    const {store, document: found} = this;
    const cell = store.cell(this.source, this.target, this.kind) ?? found?.cell ?? null;
    this.cell = cell;
    const others = new Map();
    for (const kind of Object.keys(KINDS)) {
      for (const one of [store.cell(this.source, this.target, kind), store.cell(this.target, this.source, kind)]) {
        if (one && one !== cell) others.set(keyOf(one), one);
      }
    }
    const now = store.now();
    // Drawn again only when something else is to be read: buttons inside keep the focus.
    const spots = [store.spot(this.source, "peer"), store.spot(this.target, this.kind)].map(placeWords);
    const seen = JSON.stringify([cell, spots, store.meta?.version, [...others.values()], found?.generated_at, this.error, this.span, store.stalled, cell ? null : now]);
    if (seen === this.shownAs) return;
    this.shownAs = seen;
    this.#keeping(() => this.#draw(cell, found, [...others.values()], spots, now));
  }

  // The focus survives a new drawing by its place among what can be focused.
  #keeping(draw) {
    const stops = () => [...this.node.querySelectorAll("button, input, [tabindex]")];
    const at = stops().indexOf(document.activeElement);
    draw();
    if (at >= 0 && !this.node.contains(document.activeElement)) stops()[at]?.focus({preventScroll: true});
  }

  #draw(cell, found, others, spots, now) {
    const {store} = this;
    if (!cell) {
      this.status.replaceChildren(el("p.hint", this.error ?? (found ? "Nobody measures this path now." : "Reading…")));
      for (const part of [this.picture, this.pairs, this.parts, this.events, this.command]) part.replaceChildren();
      this.spans.hidden = true;
      return;
    }
    this.spans.hidden = false;
    if (this.spansFor !== `${this.span}${keyOf(cell)}`) {
      this.spansFor = `${this.span}${keyOf(cell)}`;
      radios(this.spans, "span", SPANS, this.span, (word) => this.on.span(word));
    }
    this.status.replaceChildren(...[el("p.path-state", stateChip(store.isStale(cell) ? "stale" : cell.state), " ",
      el("span", sinceWords(cell.since, now)), el("span.quiet", cell.budget_us ? ` · budget ${budgetWords(cell.budget_us)}` : " · for information, no budget")),
    el("p.quiet", spots.join(" → ")), reasons(cell, found?.detail)].filter(Boolean));
    this.#picture(cell, found, now);
    this.pairs.replaceChildren(el("h3", "Both ways, and beside it"),
      comparison([cell, ...others], cell, (one) => store.isStale(one), this.on.open));
    const parts = splits(found?.detail);
    this.parts.replaceChildren(...(parts.length ? [el("h3", "Whose time it is"), ...parts] : []));
    const command = found?.command;
    this.command.replaceChildren(...(command ? [el("h3", "See it yourself"),
      el("div.command", el("code", command), el("button", {onclick: () => copyText(command, "Command")}, "Copy", hiddenText(" the command")))] : []));
    this.events.replaceChildren(el("h3", "Last events"), eventList((found?.events ?? []).slice(0, 12), now, "None is remembered."));
  }

  #picture(cell, found, now) {
    const {store} = this;
    const to = found?.history || !store.at ? now : Math.max(now, store.at);
    const from = to - SPAN_MS[this.span];
    const history = found?.history;
    const isOurs = Boolean(history);
    const drawn = isOurs
      ? {begin: Date.parse(history.begin), width: history.width_us / 1000, bins: history.bins}
      : trailHistory(store.trails.get(keyOf(cell)), store.breaks, Math.max(from, store.openedAt ?? from), to);
    const isDatabase = cell.role === "postgres" || cell.kind === "postgres";
    const start = performance.now();
    const since = isOurs ? from : drawn.begin;
    const {chart, figures} = smokeChart(drawn, {
      width: Math.max(320, this.picture.clientWidth), from: since, to: isOurs ? to : Math.max(to, since + 60_000), now: to, budgetUs: cell.budget_us, top: isOurs ? "max" : "p99",
      coderUs: isDatabase ? store.meta?.coder_warns_at_us ?? null : null,
    });
    const note = isOurs || !found ? null : found.measured_here === null ? "This report holds no history of this path." : found.measured_here === false
      ? `History is kept by the agent that measures: open this path at ${cell.source}. Drawn here is what came in since this page was opened, ${span(now - (store.openedAt ?? now))} ago.`
      : "No history yet: drawn here is what came in since this page was opened.";
    this.picture.replaceChildren(...[el("figure", chart, el("figcaption", figureWords(figures, now))),
      note ? el("p.hint", note) : null, this.error ? el("p.hint", `Not refreshed: ${this.error}`) : null].filter(Boolean));
    this.node.dataset.drawnMs = (performance.now() - start).toFixed(1);
  }
}
