// What stands below the matrix: findings, placement, agents, events.

import {byId, docsLink, el, plainTable, setText, signEl} from "./dom.js";
import {STATES, instant, levelOf, placeWords, severityOf, sinceWords, span} from "./words.js";
import {misplaced} from "./shape.js";

const TABS = [["findings", "Findings"], ["placement", "Placement"], ["agents", "Agents"], ["events", "Events"]];

export function severityChip(severity, sign) {
  const known = severityOf(severity);
  return el("span.chip", {"data-level": levelOf(known)}, signEl(sign || known.sign), known.word);
}

function vantageWords(vantage) {
  const list = [vantage ?? []].flat();
  return list.map((one) => (typeof one === "string" ? one : [one.agent, one.node && `on ${one.node}`].filter(Boolean).join(" "))).join(", ");
}

export function sortedFindings(findings) {
  return [...findings].sort((a, b) => Number(b.news !== false) - Number(a.news !== false) || severityOf(b.severity).rank - severityOf(a.severity).rank);
}

function findingCard(finding, now) {
  const seen = [vantageWords(finding.vantage) && `seen by ${vantageWords(finding.vantage)}`, sinceWords(finding.since, now),
    finding.news === false && "not news yet: it has to last a little"].filter(Boolean).join(" · ");
  return el("li.finding", {"data-level": levelOf(severityOf(finding.severity))},
    el("p.finding-head", severityChip(finding.severity), " ", el("b", finding.code), " ", el("span", (finding.subjects ?? []).join(", "))),
    el("p", finding.evidence), el("p.remedy", el("b", "Do: "), finding.remedy),
    el("p.quiet", seen, seen ? " · " : "", docsLink(finding.docs, "documentation")));
}

function findingsTab(store) {
  if (store.findings.length === 0) return el("p.hint", "No findings: nothing is wrong with who stands where, as far as anybody can see.");
  return el("ul.findings", ...sortedFindings(store.findings).map((finding) => findingCard(finding, store.now())));
}

const STANCES = {agrees: "its sources agree", unknown: "nobody said where", differs: "its sources disagree", overruled: "a person was overruled"};

function sourceWords(source) {
  return el("li", source.says ?? `${source.source} says ${source.region} (trust ${source.confidence})`, source.zone ? ` · ${source.zone}` : "");
}

function placementTab(store) {
  const wrong = misplaced(store);
  const placed = store.placement?.placed;
  if (!placed) return el("p.hint", store.placementError ? `Placement could not be read: ${store.placementError}` : "Reading who stands where…");
  if (placed.length === 0) return el("p.hint", "Nobody is known yet.");
  return plainTable("Who stands where, and who says so", ["Name", "Role", "Where", "Node", "Sources"], placed.map((one) => [
    el("span", wrong.has(one.name) ? el("span.flag.wrong", "⚑ wrong region ") : null, one.name),
    [one.role ?? "–", one.is_agent ? " · agent" : ""].join(""), placeWords(one), one.node,
    el("div", el("span", {class: one.stance === "differs" ? "flag wrong" : "quiet"}, STANCES[one.stance] ?? one.stance),
      one.sources?.length ? el("ul", ...one.sources.map(sourceWords)) : null),
  ]));
}

function agentWords(store, agent) {
  const words = [];
  if (agent.name === store.meta?.vantage?.agent) words.push("this page's own");
  if (agent.stale || store.stalled) words.push(`not heard of for ${span(store.silence(agent))}: its figures are history`);
  if (agent.starved) words.push("starved: it gets too little CPU, so its figures decide nothing");
  if (agent.is_idle) words.push("standby: no server beside it; it answers others and keeps a few links");
  return words.length ? words.join(" · ") : "measuring";
}

function agentsTab(store) {
  const agents = [...store.agents.values()];
  if (agents.length === 0) return el("p.hint", "No agent has told anything yet.");
  const trouble = (agent) => Number(agent.stale) * 2 + Number(agent.starved);
  agents.sort((a, b) => trouble(b) - trouble(a) || Number(a.is_idle) - Number(b.is_idle) || a.name.localeCompare(b.name, "en", {numeric: true}));
  return plainTable("Agents", ["Agent", "State", "Role", "Where", "Node", "Links", "Version"], agents.map((agent) => [
    agent.name, el("span", {class: agent.stale || agent.starved ? "flag wrong" : ""}, agent.stale ? "… " : agent.starved ? "◔ " : "", agentWords(store, agent)),
    agent.role ?? (agent.is_idle ? "standby" : "–"), placeWords(agent), agent.node, String(agent.links ?? "–"), agent.version,
  ]));
}

// What the sentence does not say already.
function attributeWords(body, attributes) {
  return Object.entries(attributes).map(([name, value]) => [name, [value].flat().join(", ")])
    .filter(([name, words]) => !["evidence", "target_kind", "from", "to"].includes(name) && !body.includes(words))
    .map(([name, words]) => `${name} ${words}`).join(" · ");
}

export function eventList(events, now, otherwise) {
  if (events.length === 0) return el("p.hint", otherwise);
  return el("ol.events", ...events.map((event) => {
    const {attributes = {}} = event;
    const body = event.body || event.event;
    return el("li", el("time", {datetime: event.at}, instant(event.at, now)), severityChip(event.severity, STATES[attributes.to]?.sign),
      el("span.event-words", body, " ", el("small", attributeWords(body, attributes))));
  }));
}

export class Tabs {
  constructor(store, choose) {
    this.store = store;
    this.body = byId("tab-body");
    this.buttons = new Map(TABS.map(([name, words]) => [name, el("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "tab-body", onclick: () => choose(name),
    }, words, el("span.count"))]));
    const list = byId("tabs");
    list.append(...this.buttons.values());
    list.addEventListener("keydown", (event) => {
      const names = [...this.buttons.keys()];
      const to = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (!to) return;
      const next = names[(names.indexOf(this.tab) + to + names.length) % names.length];
      choose(next);
      this.buttons.get(next).focus();
    });
  }

  show(tab) {
    const {store} = this;
    const counts = {
      findings: store.findings.length, placement: store.placement?.placed?.length ?? "", agents: store.agents.size, events: store.events.length,
    };
    for (const [name, button] of this.buttons) {
      setText(button.lastChild, String(counts[name]));
      button.setAttribute("aria-selected", String(name === tab));
      button.tabIndex = name === tab ? 0 : -1;
    }
    this.tab = tab;
    const about = {
      findings: [store.findings], placement: [store.placement, store.placementError, store.shape],
      agents: [[...store.agents.values()].map(({told_at, heard_ago_us, ...agent}) => agent), store.stalled], events: [store.events.map((event) => event.id)],
    }[tab];
    // Ages are written anew every quarter of a minute, or whenever something else is to be told.
    const seen = JSON.stringify([tab, about, Math.floor(store.now() / 15_000)]);
    if (seen === this.seen || (this.tabShown === tab && this.body.contains(document.activeElement) && document.activeElement !== this.body)) return;
    this.seen = seen;
    this.tabShown = tab;
    this.body.setAttribute("aria-labelledby", `tab-${tab}`);
    const scroll = this.body.querySelector(".box")?.scrollLeft ?? 0;
    this.body.replaceChildren({findings: findingsTab, placement: placementTab, agents: agentsTab,
      events: () => eventList(store.events, store.now(), "None is remembered.")}[tab](store));
    const box = this.body.querySelector(".box");
    if (box) box.scrollLeft = scroll;
  }
}
