// What is read first: the verdict, and what stands out.

import {byId, el, setAttribute, setText, signEl} from "./dom.js";
import {bareLoss, budgetWords, instant, kindWord, levelOf, ms, severityOf, sinceWords, span, stateOf} from "./words.js";
import {culprits, homeRegion, misplaced, worstPaths} from "./shape.js";
import {severityChip, sortedFindings} from "./lists.js";
import {stateChip} from "./compare.js";

const LINKS = {
  connecting: "connecting", live: "live", polling: "live, by polling", stalled: "stalled", paused: "paused while hidden",
  locked: "waits for a token", report: "a report, not live",
};
const WORST_SHOWN = 5;
const FINDINGS_SHOWN = 3;

export function drawBanner(store, link) {
  const {meta, verdict} = store;
  const now = store.now();
  setText(byId("connection-words"), link === "stalled" && store.at ? `stalled: nothing came for ${span(now - store.at)}` : LINKS[link]);
  setAttribute(byId("connection"), "data-link", link);
  if (!meta) {
    const words = {stalled: "No answer from the agent", locked: "Locked"}[link] ?? "Connecting…";
    setText(byId("verdict-headline"), words);
    setText(byId("verdict-words"), link === "stalled" ? "It is tried again and again. Is the agent running, and may this browser reach it?" : "");
    return;
  }
  const state = stateOf(verdict?.state);
  setAttribute(byId("banner"), "data-level", store.stalled ? "" : levelOf(state));
  setText(byId("verdict-sign"), store.stalled ? stateOf("stale").sign : state.sign);
  setText(byId("verdict-headline"), store.stalled ? `${state.headline}, when last heard` : state.headline);
  setText(byId("verdict-words"), verdict?.words ?? "");
  const since = verdict?.since ? `${sinceWords(verdict.since, now)} · ` : "";
  setText(byId("verdict-since"), `${since}as of ${instant(meta.generated_at && store.at ? store.at : now, now)}`);
  const {vantage} = meta;
  const where = [vantage?.zone ?? vantage?.region, vantage?.node].filter(Boolean).join(", ");
  setText(byId("vantage"), `as seen by ${vantage?.agent ?? "this agent"}${where ? ` (${where})` : ""}`);
  setText(document.querySelector("title"), `${state.sign} ${state.headline} · ${vantage?.agent ?? "probe"}`);
}

function pathLine(store, cell, open) {
  const figure = cell.state === "unreachable" ? `${bareLoss(cell.loss)} % lost` : `p95 ${ms(cell.p95_us)} of ${budgetWords(cell.budget_us)}`;
  return el("li", el("button.path-line", {onclick: () => open(cell)},
    stateChip(cell.state), el("span.path-name", `${cell.source} → ${cell.target}`), el("small", kindWord(cell.kind)),
    el("span.number", figure), el("small.quiet", cell.state === "ok" ? "" : cell.reason)));
}

// The worst, but of what one sick node explains no more than two.
function varied(cells, sick) {
  const left = new Map(sick.map(({name}) => [name, 2]));
  const found = [];
  for (const cell of cells) {
    if (found.length === WORST_SHOWN) break;
    const ends = [cell.source, cell.target].filter((name) => left.has(name));
    if (ends.some((name) => left.get(name) === 0)) continue;
    ends.forEach((name) => left.set(name, left.get(name) - 1));
    found.push(cell);
  }
  return found;
}

function call(sign, css, ...words) {
  return el("p", {class: `call ${css}`}, signEl(sign), el("span", words));
}

// Loud when something is wrong, one line when nothing is.
export class Attention {
  constructor(store, on) {
    this.store = store;
    this.on = on;
    this.node = byId("attention");
  }

  show() {
    const {store} = this;
    const sick = culprits(store);
    const worst = varied(worstPaths(store), sick);
    const bad = worst.filter((cell) => stateOf(cell.state).rank > 3);
    const findings = sortedFindings(store.findings).filter((finding) => finding.news !== false && severityOf(finding.severity).rank > 1);
    const wrong = [...misplaced(store)];
    const seen = JSON.stringify([worst, findings, wrong, sick]);
    if (seen === this.seen) return;
    this.seen = seen;
    const held = this.node.contains(document.activeElement) ? [...this.node.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    const blocks = [];
    const calls = [wrong.length && this.#wrong(wrong), ...sick.slice(0, 3).map(({name, count, all}) => call("◎", "", el("b", name),
      `: ${count === all ? `all its ${all}` : `${count} of its ${all}`} judged paths are over budget or unanswered.`))].filter(Boolean);
    if (calls.length) blocks.push(el("div.calls", calls));
    if (bad.length) {
      blocks.push(el("div.block", el("h2", "Worst paths"), el("ol.worst", ...bad.map((cell) => pathLine(store, cell, this.on.open)))));
    } else if (worst[0]?.p95_us) {
      blocks.push(el("div.block.quiet-block", el("h2", "Slowest"), el("ol.worst", pathLine(store, worst[0], this.on.open))));
    }
    if (findings.length) blocks.push(this.#findings(findings));
    this.node.hidden = blocks.length === 0;
    this.node.replaceChildren(...blocks);
    if (held >= 0) (this.node.querySelectorAll("button")[held] ?? byId("matrix")).focus({preventScroll: true});
  }

  #wrong(wrong) {
    const shown = wrong.slice(0, 4).map(([name, region]) => `${name} in ${region}`).join(", ");
    const more = wrong.length > 4 ? ` and ${wrong.length - 4} more` : "";
    return call("⚑", "is-wrong", el("b", "Wrong region: "), `${shown}${more}. Most of coderd is in ${homeRegion(this.store)}.`);
  }

  #findings(findings) {
    const rest = findings.length - FINDINGS_SHOWN;
    return el("div.block", el("h2", "Findings"), el("ul.brief",
      ...findings.slice(0, FINDINGS_SHOWN).map((finding) => el("li", severityChip(finding.severity), el("span.brief-words", el("b", finding.code), " ", finding.evidence)))),
    el("button.as-link", {onclick: this.on.findings}, rest > 0 ? `All findings, ${rest} more` : "What to do about it"));
  }
}
