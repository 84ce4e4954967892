// Inside the panel: both directions, other measurements of the pair, and whose time it is.

import {el, hiddenText, plainTable, signEl} from "./dom.js";
import {bareMs, budgetWords, kindWord, levelOf, lossWords, ms, stateOf} from "./words.js";

export function stateChip(state) {
  const known = stateOf(state);
  return el("span.chip", {"data-level": levelOf(known)},
    signEl(known.sign), known.word);
}

export function comparison(cells, chosen, isStale, open) {
  const figure = (us) => (us == null ? "–" : bareMs(us));
  return plainTable("The pair both ways and by every measurement, in milliseconds", ["Path", "By", "State", "min", "p50", "p95", "p99", "Lost"], cells.map((cell) => {
    const words = `${cell.source} → ${cell.target}`;
    return [cell === chosen ? el("b", words, hiddenText(" (shown)")) : el("button.as-link", {onclick: () => open(cell)}, words),
      kindWord(cell.kind), stateChip(isStale(cell) ? "stale" : cell.state),
      figure(cell.min_us), figure(cell.p50_us), figure(cell.p95_us), figure(cell.p99_us), lossWords(cell.loss)];
  }), "plain.figures");
}

function bar(words, parts) {
  const whole = parts.reduce((sum, [, us]) => sum + us, 0);
  if (whole <= 0) return null;
  return el("div.split",
    el("span.split-words", words),
    el("span.split-bar", {"aria-hidden": "true"}, ...parts.map(([name, us, css]) => {
      const part = el("span", {class: css, title: name});
      part.style.setProperty("flex-grow", us / whole);
      return part;
    })),
    el("span.split-figures", parts.map(([name, us], index) => [index ? " · " : "", `${name} ${ms(us)}`])));
}

// Of the agent's own paths only: the network's and the server's part, as far as it knows.
export function splits(detail) {
  if (!detail) return [];
  const {network_us: network, execution_us: execution, hold_us: hold, split_us: split, bare_connects_us: connects} = detail;
  const server = execution ?? hold;
  const name = execution ? "execution" : "held by the peer";
  const bars = [];
  if (split && split.network !== null && split.server_p50 !== null) {
    bars.push(bar("by bare connects", [["network", split.network, "is-network"], ["server", split.server_p50, "is-server"]]));
  }
  if (network?.p50 && server?.p50 !== undefined && server.p50 !== null) {
    bars.push(bar("at p50", [["network", network.p50, "is-network"], [name, server.p50, "is-server"]]));
    if (network.p95 && server.p95) bars.push(bar("at p95", [["network", network.p95, "is-network"], [name, server.p95, "is-server"]]));
  } else if (detail.rtt_us?.p50 && hold?.p50) {
    bars.push(bar("at p50", [["network", detail.rtt_us.p50, "is-network"], [name, hold.p50, "is-server"]]));
  }
  const facts = [];
  if (detail.floor_us) facts.push(["floor", `${ms(detail.floor_us)}: what the route takes when nothing is in the way`]);
  if (detail.hour_us) facts.push(["last hour", `p50 ${ms(detail.hour_us.p50)}, p95 ${ms(detail.hour_us.p95)}`]);
  if (connects?.p50) facts.push(["bare connects", `p50 ${ms(connects.p50)} of ${connects.count}`]);
  if (detail.server) facts.push(["server", detail.server]);
  if (detail.tcp_terminator_suspected) facts.push(["note", "something before the server seems to end TCP: a proxy or a pooler"]);
  const list = facts.length ? el("dl.facts", ...facts.flatMap(([term, words]) => [el("dt", term), el("dd", words)])) : null;
  return [...bars, list].filter(Boolean);
}

// Why it stands so, in the agent's words.
export function reasons(cell, detail) {
  const found = detail?.findings ?? [];
  const isFine = cell.state === "ok";
  if (found.length) return el("ul.reasons", ...found.map(({reason, evidence}) => el("li", el("b", reason), ` ${evidence?.replace(`${reason}: `, "") ?? ""}`)));
  if (isFine || !cell.reason) return null;
  return el("p.reasons", "Reason: ", el("b", cell.reason), cell.budget_us ? `, against a budget of ${budgetWords(cell.budget_us)}` : "");
}
