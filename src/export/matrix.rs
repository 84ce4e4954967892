//! The whole mesh as a table, for a terminal and as Markdown: rows measure, columns are measured.
//!
//! Every cell has a sign beside its number, so that it can be read without colours and on paper.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::api::matrix::{Agent, Cell, Document, Zone, ZonePair};
use super::text::Colour;
use crate::mesh::state::State;

mod layout;
mod markdown;

use layout::{Column, Grid, Row, columns};
pub use markdown::{render as markdown, safe};

/// Which figure stands in the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Median.
    P50,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
    /// Share without a reply.
    Loss,
}

impl Figure {
    /// What the numbers are.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::P50 => "p50 in ms",
            Self::P95 => "p95 in ms",
            Self::P99 => "p99 in ms",
            Self::Loss => "loss in %",
        }
    }

    fn of_cell(self, cell: &Cell) -> Option<f64> {
        match self {
            Self::P50 => cell.p50_us,
            Self::P95 => cell.p95_us,
            Self::P99 => cell.p99_us,
            Self::Loss => cell.loss,
        }
    }

    /// Zones have no 99th percentile: their 95th stands for it.
    fn of_pair(self, pair: &ZonePair) -> Option<f64> {
        match self {
            Self::P50 => pair.p50_us,
            Self::P95 | Self::P99 => pair.p95_us,
            Self::Loss => pair.loss,
        }
    }

    /// Three significant digits.
    fn write(self, value: f64) -> String {
        let value = if self == Self::Loss { value * 100.0 } else { value / 1000.0 };
        match value {
            0.0 => "0".to_owned(),
            value if value < 1.0 => format!("{value:.3}"),
            value if value < 10.0 => format!("{value:.2}"),
            value if value < 100.0 => format!("{value:.1}"),
            value => format!("{value:.0}"),
        }
    }
}

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// In the cells.
    pub figure: Figure,
    /// Zone by zone even where there is room for all agents.
    pub zones: bool,
    /// So many characters fit into a line.
    pub width: usize,
    /// Escape sequences.
    pub colour: Colour,
}

/// The sign of a state, and the colour in which it is shown.
fn sign(state: State, stale: bool) -> (char, Option<&'static str>) {
    match state {
        _ if stale => ('~', Some("2")),
        State::Ok => (' ', None),
        State::AtRisk => ('◆', Some("33")),
        State::Breach => ('▲', Some("31")),
        State::Unreachable => ('×', Some("31")),
        State::Stale => ('~', Some("2")),
        State::Unknown => ('?', Some("2")),
        State::Left => ('»', Some("2")),
    }
}

/// The whole mesh with a newline at its end.
pub fn render(document: &Document, view: View) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut text, document, view);
    text
}

fn write_all(out: &mut String, document: &Document, view: View) -> fmt::Result {
    let Document { verdict, vantage, .. } = document;
    let colour = view.colour;
    let (mark, code) = match verdict.state {
        State::Ok => ("√", "32"),
        State::Breach | State::Unreachable => ("×", "31"),
        _ => ("‼", "33"),
    };
    writeln!(out, "{} {}", colour.paint(code, mark), colour.paint("1", &verdict.words))?;
    let since = verdict.since.as_ref().map_or_else(String::new, |since| format!(" since {since},"));
    let place = [vantage.zone.as_deref(), vantage.region.as_deref()];
    let place: Vec<_> = place.into_iter().flatten().collect();
    let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
    writeln!(
        out,
        "{}{since} seen by {}{place} at {}",
        verdict.state.as_str(),
        vantage.agent,
        document.generated_at
    )?;
    let grid = Grid::of(document);
    let fits = grid.kinds().all(|(_, columns)| grid.width(columns) <= view.width);
    for (kind, columns) in grid.kinds() {
        writeln!(out)?;
        if view.zones || !fits {
            write_zones(out, document, kind, view)?;
        } else {
            write_agents(out, &grid, kind, columns, view)?;
        }
    }
    write_others(out, document, &grid)?;
    write_silent(out, &document.agents)?;
    let signs = "▲ over the budget  ◆ at risk  × unreachable  ~ stale  ? unknown  » left  – itself";
    writeln!(out, "\n{}; {}", view.figure.in_words(), signs)
}

fn write_agents(
    out: &mut String,
    grid: &Grid<'_>,
    kind: &str,
    columns: &[Column<'_>],
    view: View,
) -> fmt::Result {
    let label = grid.label_width();
    let mut line = view.colour.paint("1", &pad(kind, label));
    columns.iter().for_each(|column| line += &pad_left(&column.head, column.width));
    writeln!(out, "{line}")?;
    let mut zone = None;
    for Row { label: name, agent, zone: here } in &grid.rows {
        if zone != Some(here) {
            writeln!(out, "{}", view.colour.paint("2", here))?;
            zone = Some(here);
        }
        let mut line = pad(&format!("  {name}"), label);
        for column in columns {
            let cell = grid.cell(agent, kind, column.target);
            let (text, code) = cell_text(cell, *agent == column.target, view.figure);
            let padding = " ".repeat(column.width.saturating_sub(layout::columns(&text)));
            line += &format!(
                "{padding}{}",
                code.map_or_else(|| text.clone(), |code| view.colour.paint(code, &text))
            );
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    for column in columns.iter().filter(|column| column.is_lettered) {
        writeln!(out, "  {} = {}", column.head, column.target)?;
    }
    Ok(())
}

fn cell_text(cell: Option<&Cell>, is_itself: bool, figure: Figure) -> (String, Option<&'static str>) {
    let Some(cell) = cell else { return (if is_itself { "–" } else { "" }.to_owned(), None) };
    let (sign, code) = sign(cell.state, cell.stale);
    let number = figure.of_cell(cell).map(|value| figure.write(value)).unwrap_or_default();
    let lopsided = if cell.lopsided { "!" } else { "" };
    (format!("{sign}{number}{lopsided}").trim_start().to_owned(), code)
}

fn write_zones(out: &mut String, document: &Document, kind: &str, view: View) -> fmt::Result {
    let pairs: Vec<_> = document.zone_pairs.iter().filter(|pair| pair.kind == kind).collect();
    writeln!(out, "{}", view.colour.paint("1", &format!("{kind}, zone by zone: the worst of each")))?;
    let name = |zone: &Zone| zone_name(zone.region.as_deref(), zone.zone.as_deref());
    let lines: Vec<_> = pairs
        .iter()
        .map(|pair| (format!("  {} → {}", name(&pair.source), name(&pair.target)), *pair))
        .collect();
    let width = lines.iter().map(|(line, _)| columns(line)).max().unwrap_or_default() + 2;
    for (line, pair) in lines {
        let (sign, code) = sign(pair.state, false);
        let number =
            view.figure.of_pair(pair).map_or_else(|| "–".to_owned(), |value| view.figure.write(value));
        let text = pad_left(&format!("{sign}{number}"), 8);
        let text = code.map_or_else(|| text.clone(), |code| view.colour.paint(code, &text));
        let paths = if pair.paths == 1 { "path" } else { "paths" };
        writeln!(out, "{}{text}  {} {paths}", pad(&line, width), pair.paths)?;
    }
    Ok(())
}

/// Kinds that have no table: how many there are in which state.
fn write_others(out: &mut String, document: &Document, grid: &Grid<'_>) -> fmt::Result {
    let shown: Vec<_> = grid.kinds().map(|(kind, _)| kind).collect();
    let mut others = BTreeMap::<&str, BTreeMap<State, usize>>::new();
    for cell in document.cells.iter().filter(|cell| !shown.contains(&cell.kind.as_str())) {
        let state = if cell.stale { State::Stale } else { cell.state };
        *others.entry(&cell.kind).or_default().entry(state).or_default() += 1;
    }
    if !others.is_empty() {
        writeln!(out)?;
    }
    for (kind, states) in others {
        let states = states.iter().rev().map(|(state, count)| format!("{count} {}", state.as_str()));
        writeln!(out, "{kind}: {}", states.collect::<Vec<_>>().join(", "))?;
    }
    Ok(())
}

/// Who is not heard of, and who cannot measure.
fn write_silent(out: &mut String, agents: &[Agent]) -> fmt::Result {
    for agent in agents.iter().filter(|agent| agent.stale || agent.starved) {
        let ago = agent.heard_ago_us.map_or_else(String::new, |us| format!(" for {:.0} s", us / 1e6));
        let what = match (agent.stale, agent.starved) {
            (true, _) => format!("has not been heard of{ago}: what it told is history"),
            (false, _) => "gets too little CPU to measure".to_owned(),
        };
        writeln!(out, "‼ {} {what}", agent.name)?;
    }
    Ok(())
}

/// Region and zone in a line.
fn zone_name(region: Option<&str>, zone: Option<&str>) -> String {
    match (region, zone) {
        (Some(region), Some(zone)) => format!("{region} {zone}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "where nobody said".to_owned(),
    }
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

fn pad_left(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(columns(text))))
}

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
