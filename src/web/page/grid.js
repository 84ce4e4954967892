// The matrix as a table: built when rows or columns change, else changed cell by cell, so focus and scrolling stay.

import {byId, el, hiddenText, setAttribute, setText, signEl} from "./dom.js";
import {STATES, bareLoss, bareMs, kindTitle, kindWord, many, placeWords, sinceWords, stateOf} from "./words.js";
import {buildGrid, cellAt, pathWords, summary} from "./shape.js";
import {cellKey} from "./store.js";

const HORIZONTAL_NAMES = 8;
const PAGE_ROWS = 10;

// What stands alone below its region needs room for that word.
const isWide = (line) => line.kind === "postgres" || Boolean(line.wrong);

// Neighbours with the same words under one header.
function runs(lines, words) {
  const found = [];
  for (const line of lines) {
    const word = words(line);
    if (found.at(-1)?.word === word) found.at(-1).lines.push(line);
    else found.push({word, lines: [line]});
  }
  return found;
}

export class Matrix {
  // on: open(source, target, kind), drill(filter)
  constructor(store, on) {
    this.store = store;
    this.on = on;
    this.body = byId("matrix-body");
    this.readout = byId("readout");
    this.at = [0, 0];
    this.built = null;
  }

  // All of it, or what has changed since the last time.
  show(view) {
    const {store} = this;
    const wanted = JSON.stringify([store.shape, view.view, view.f, store.findings.map((finding) => [finding.code, finding.subjects])]);
    const zones = this.grid?.mode === "zones";
    if (wanted !== this.built || zones) this.#build(view, wanted);
    const anew = this.q !== view.q || this.stalled !== store.stalled || zones;
    [this.q, this.stalled] = [view.q, store.stalled];
    this.#fill(anew ? null : store.changed);
    store.changed.clear();
    if (this.told) this.#tell(...this.told);
  }

  #build(view, wanted) {
    const grid = buildGrid(this.store, view);
    const outline = JSON.stringify([grid.mode, grid.rows, grid.columns, grid.hidden]);
    this.grid = grid;
    this.built = wanted;
    if (outline === this.outline) return;
    this.outline = outline;
    this.q = null;
    const held = this.#held();
    const box = this.body.querySelector(".box");
    const scroll = box ? [box.scrollLeft, box.scrollTop] : [0, 0];
    this.body.replaceChildren(...(grid.rows.length && grid.columns.length ? this.#table() : [this.#nothing(view)]));
    const next = this.body.querySelector(".box");
    if (next) [next.scrollLeft, next.scrollTop] = scroll;
    this.#restore(held);
  }

  // The cell that has the focus, by its names.
  #held() {
    const cell = document.activeElement?.closest?.("td[data-r]");
    const isOurs = cell && this.body.contains(cell);
    return {name: this.name ?? null, focused: Boolean(isOurs)};
  }

  #restore({name, focused}) {
    if (!this.cells) return;
    const found = this.cells.flat().find((cell) => cell.name === name) ?? this.cells[0]?.[0];
    if (!found) return;
    this.#moveTo(found.r, found.c, false);
    if (focused) found.td.focus({preventScroll: true});
  }

  #nothing(view) {
    this.cells = null;
    const {store} = this;
    const words = view.f && store.cells.size ? [`Nothing matches «${view.f}»`, "Clear the filter to see all paths."]
      : store.agents.size > 1 ? ["Nothing is measured yet", "Agents are known; their first round trips are on their way."]
      : store.agents.size === 1 ? ["This agent is alone", "It knows nobody to measure: name a peer or a database, or let it discover them."]
      : ["No agent has told anything", "Start probe agent beside each replica of coderd."];
    return el("div.empty", el("p.empty-title", words[0]), el("p", words[1]));
  }

  #table() {
    const {grid} = this;
    const isTall = grid.columns.length > HORIZONTAL_NAMES;
    const unit = el("caption", grid.mode === "zones" ? "Slowest round trips from zone to zone. "
      : "Round trips from each agent to what it measures. ", el("span", {id: "caption-figure"}));
    this.caption = unit.lastChild;
    const table = el("table", {class: `grid${isTall ? " tall" : ""}`, role: "grid", "aria-labelledby": "matrix-title"}, unit,
      el("colgroup", el("col.c-name"), el("col.c-sum", {span: "2"})),
      ...runs(grid.columns, (column) => column.kind).map(({lines}) => el("colgroup", ...lines.map((line) => el("col", {class: isWide(line) ? "c-wide" : "c-cell"})))),
      this.#head(), ...this.#bodies());
    table.style.setProperty("--columns", grid.columns.length);
    table.style.setProperty("--wide", grid.columns.filter(isWide).length);
    table.addEventListener("keydown", (event) => this.#key(event));
    table.addEventListener("click", (event) => this.#click(event));
    table.addEventListener("focusin", (event) => this.#see(event));
    table.addEventListener("mouseover", (event) => this.#see(event));
    const hidden = grid.hidden ? el("p.hint", `${many(grid.hidden, "standby agent is", "standby agents are")} left out here; a filter that matches shows them.`) : null;
    return [el("div.box", table), hidden].filter(Boolean);
  }

  #head() {
    const {columns, mode} = this.grid;
    const spanning = (words, lines, css) => el("th", {scope: "colgroup", colspan: lines.length, class: css}, el("span", words));
    const tall = (words, css) => el("th", {scope: "col", rowspan: mode === "zones" ? 3 : 4, class: css}, el("span", words));
    const kinds = runs(columns, (column) => column.kind);
    const within = (words) => kinds.flatMap(({lines}) => runs(lines, words).map((run, index) => ({...run, first: index === 0})));
    const edge = (run) => (run.first ? "edge" : "");
    const regions = within((column) => column.region ?? "region not known");
    const levels = [
      el("tr.kinds", tall("from ↓   to →", "corner"), tall("worst", "sum-head"), tall("median", "sum-head"),
        ...kinds.map(({word, lines}) => spanning(kindTitle(word), lines, "kind edge"))),
      el("tr.regions", ...regions.map((run) => spanning(run.word, run.lines, `region ${edge(run)}`))),
    ];
    if (mode !== "zones") {
      const zones = within((column) => `${column.region}\u0000${column.zone ?? ""}`);
      levels.push(el("tr.zones", ...zones.map((run) => spanning(run.lines[0].zone ?? "–", run.lines, `zone ${edge(run)}`))));
    }
    this.heads = columns.map((column, index) => this.#name("col", column, column.kind === columns[index - 1]?.kind ? "" : "edge"));
    levels.push(el("tr.names", ...this.heads));
    return el("thead", ...levels);
  }

  #name(scope, line, className = "") {
    const flags = [
      line.wrong && ["wrong", "⚑", `wrong region: ${line.wrong}`],
      line.stale && ["old", "…", "not heard of"],
      line.starved && ["old", "◔", "gets too little CPU"],
    ].filter(Boolean);
    return el("th", {scope, class: `name ${className}${line.wrong ? " is-wrong" : ""}${line.stale ? " is-old" : ""}`},
      el("span.name-words", {title: `${line.name} (${placeWords(line)})`},
        flags.map(([css, sign, said]) => el("span", {class: `flag ${css}`}, signEl(sign), hiddenText(`${said} `))),
        el("b", line.name)));
  }

  #bodies() {
    const {rows, columns, mode} = this.grid;
    const kindEdges = columns.map((column, index) => column.kind !== columns[index - 1]?.kind);
    this.cells = [];
    this.byKey = new Map();
    this.rowSums = [];
    const sum = () => el("td.sum", {tabindex: "-1"});
    const total = (words) => {
      const cells = columns.map((_, index) => el("td", {class: `sum${kindEdges[index] ? " edge" : ""}`, tabindex: "-1"}));
      return {cells, row: el("tr.totals", el("th", {scope: "row", class: "name"}, words), el("td.sum"), el("td.sum"), ...cells)};
    };
    const [worst, median] = [total("worst"), total("median")];
    this.columnSums = columns.map((_, index) => [worst.cells[index], median.cells[index]]);
    const groups = runs(rows, (row) => JSON.stringify([row.region ?? null, mode === "zones" ? null : row.zone ?? null, row.idle ?? false, row.wrong]));
    return [el("tbody.totals", worst.row, median.row), ...groups.map(({lines}) => el("tbody", {},
      el("tr.group", el("th", {scope: "rowgroup", colspan: columns.length + 3},
        el("span", {class: lines[0].wrong ? "flag wrong" : null}, `${mode === "zones" ? lines[0].region ?? "region not known" : placeWords(lines[0])}${lines[0].idle ? " · standby" : ""}${lines[0].wrong ? " · wrong region" : ""}`))),
      ...lines.map((row) => {
        const r = this.cells.length;
        const sums = [sum(), sum()];
        this.rowSums.push(sums);
        const cells = columns.map((column, c) => {
          const td = el("td", {tabindex: "-1", class: kindEdges[c] ? "edge" : null});
          td.dataset.r = r;
          td.dataset.c = c;
          const cell = {td, r, c, name: `${row.id}\u0001${column.id}`, view: null};
          if (mode !== "zones") this.byKey.set(cellKey(row.name, column.name, column.kind), cell);
          return cell;
        });
        this.cells.push(cells);
        return el("tr", this.#name("row", row), ...sums, ...cells.map((cell) => cell.td));
      })))];
  }

  #fill(changed) {
    if (!this.cells) return;
    const {grid} = this;
    const names = {p50: "Median (p50) in milliseconds.", p95: "95th percentile in milliseconds.", p99: "99th percentile in milliseconds.", loss: "Share without a reply, in percent."};
    setText(this.caption, names[this.q]);
    const some = changed ? [...changed].map((key) => this.byKey.get(key)).filter(Boolean) : this.cells.flat();
    if (changed && some.length === 0) return;
    for (const cell of some) this.#draw(cell, cellAt(this.store, grid, this.q, grid.rows[cell.r], grid.columns[cell.c]));
    const [rows, columns] = changed ? [new Set(some.map((cell) => cell.r)), new Set(some.map((cell) => cell.c))] : [this.cells.keys(), this.heads.keys()];
    for (const r of rows) this.#sum(this.rowSums[r], summary(this.cells[r].map((cell) => cell.view)));
    for (const c of columns) {
      this.#sum(this.columnSums[c], summary(this.cells.map((row) => row[c].view)));
    }
  }

  #draw(cell, view) {
    const before = cell.view;
    cell.view = view;
    if (before && before.text === view.text && before.label === view.label && before.band === view.band
      && before.mark === view.mark && before.hatch === view.hatch) return;
    this.#write(cell.td, view);
    const {td} = cell;
    setAttribute(td, "data-open", view.self || view.absent ? null : "");
  }

  #write(td, view) {
    const marks = (view.mark ?? "") + (view.lopsided ? "⇄" : "");
    if (marks) td.replaceChildren(signEl(marks), ...(view.text ? [view.text] : []));
    else setText(td, view.text);
    const look = view.self ? "self" : view.absent ? "absent" : view.hatch ? "hatch" : view.silent ? "silent" : view.band === null ? "plain" : `b${view.band}`;
    setAttribute(td, "data-look", look);
    const isPlain = look[0] === "b" && !marks;
    setAttribute(td, "aria-label", isPlain ? null : view.label);
  }

  #sum([worst, median], found) {
    if (found) this.#write(worst, {...found.worst, lopsided: false});
    else setText(worst, "");
    const value = found?.median;
    setText(median, value == null ? "" : this.q === "loss" ? bareLoss(value) : bareMs(value));
  }

  #moveTo(r, c, focus = true) {
    const before = this.cells[this.at[0]]?.[this.at[1]]?.td;
    if (before) before.tabIndex = -1;
    this.at = [r, c];
    const cell = this.cells[r][c];
    this.name = cell.name;
    cell.td.tabIndex = 0;
    if (focus) cell.td.focus();
  }

  #key(event) {
    const cell = event.target.closest("td[data-r]");
    if (!cell || event.altKey || event.metaKey) return;
    const [r, c] = [Number(cell.dataset.r), Number(cell.dataset.c)];
    const [bottom, right] = [this.cells.length - 1, this.cells[0].length - 1];
    const moves = {
      ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
      Home: [event.ctrlKey ? 0 : r, 0], End: [event.ctrlKey ? bottom : r, right],
      PageUp: [r - PAGE_ROWS, c], PageDown: [r + PAGE_ROWS, c],
    };
    if (moves[event.key]) {
      event.preventDefault();
      const [row, column] = moves[event.key];
      this.#moveTo(Math.min(bottom, Math.max(0, row)), Math.min(right, Math.max(0, column)));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#open(r, c);
    }
  }

  #click(event) {
    const cell = event.target.closest("td[data-r]");
    if (!cell) return;
    this.#moveTo(Number(cell.dataset.r), Number(cell.dataset.c));
    this.#open(...this.at);
  }

  #open(r, c) {
    const {grid} = this;
    const [row, column] = [grid.rows[r], grid.columns[c]];
    const {view} = this.cells[r][c];
    if (!view || view.self || view.absent) return;
    if (grid.mode === "zones") this.on.drill(`${row.zone ?? row.region ?? ""} > ${column.zone ?? column.region ?? ""}`);
    else this.on.open(row.name, column.name, column.kind);
  }

  // The focus comes back to the cell whose path was shown.
  focusPath(source, target, kind) {
    const cell = this.byKey?.get(cellKey(source, target, kind)) ?? this.cells?.[this.at[0]]?.[this.at[1]];
    if (cell) this.#moveTo(cell.r, cell.c);
    else byId("matrix").focus();
  }

  #see(event) {
    const td = event.target.closest("td[data-r]");
    if (!td) return;
    const [r, c] = [Number(td.dataset.r), Number(td.dataset.c)];
    if (event.type === "focusin" && (this.at[0] !== r || this.at[1] !== c)) this.#moveTo(r, c, false);
    this.hot?.forEach((head) => head.classList.remove("hot"));
    this.hot = [this.heads[c], td.parentNode.firstChild];
    this.hot.forEach((head) => head.classList.add("hot"));
    this.#tell(r, c);
  }

  #tell(r, c) {
    const [row, column] = [this.grid.rows[r], this.grid.columns[c]];
    if (!row || !column || !this.cells) return;
    this.told = [r, c];
    const {view} = this.cells[r][c];
    const names = `${row.name} → ${column.name} (${kindWord(column.kind)}): `;
    const cell = this.grid.mode === "zones" ? this.grid.pairs.get(`${row.id}\u0001${column.id}`)
      : this.store.cell(row.name, column.name, column.kind);
    if (!cell || view.self) return setText(this.readout, names + view.label);
    const {store} = this;
    if (this.grid.mode === "zones") {
      return setText(this.readout, `${names}${many(cell.paths, "path", "paths")}, slowest ${view.label}`);
    }
    const state = stateOf(store.isStale(cell) ? "stale" : cell.state).word;
    const why = cell.reason ? ` (${cell.reason})` : "";
    setText(this.readout, `${names}${state}${why} · ${pathWords(cell, sinceWords(cell.since, store.now()))}`);
  }
}

export function drawLegend(node) {
  const steps = ["≤ 10 %", "25 %", "50 %", "80 %", "budget", "2×", "5×", "more"];
  const signs = [
    [STATES.breach.mark, "over budget"], [STATES.at_risk.mark, "at risk"], [STATES.unreachable.mark, "unreachable"],
    ["", "unknown or stale", "hatch"], ["–", "itself"], ["·", "not measured"], ["⇄", "the other way differs"], ["⚑", "wrong region"],
  ];
  node.replaceChildren(
    el("ul.scale", {"aria-label": "Colour: share of the budget"}, ...steps.map((words, index) => el("li", {"data-look": `b${index}`}, words))),
    el("ul.signs", {"aria-label": "Signs"}, ...signs.map(([sign, words, look]) =>
      el("li", el("i", {"aria-hidden": "true", "data-look": look ?? null}, sign), words))));
}
