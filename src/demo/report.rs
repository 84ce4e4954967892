//! What the demo has shown, as text and as JSON (`schema_version` 1): what happened, what is wrong, and how all paths stood.

use std::fmt::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::layout::{DATABASE, REPLICAS};
use super::story::{Step, Story, Told, seconds};
use crate::export::text::Colour;

/// Whether there was a database.
#[derive(Debug, Clone, Serialize)]
pub struct Database {
    /// A PostgreSQL of its own was measured.
    pub is_real: bool,
    /// Why it was left out.
    pub left_out: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    schema_version: u32,
    version: &'static str,
    story: Story,
    /// How often the story was told to its end.
    pub passes: u32,
    elapsed_us: u64,
    /// `None` where it ended before that was known.
    postgres: Option<Database>,
    steps: Vec<Step>,
    findings: Vec<Value>,
    paths: Vec<Path>,
    #[serde(skip)]
    agents: Vec<&'static str>,
}

/// A path at the end.
#[derive(Debug, Serialize)]
struct Path {
    source: String,
    target: String,
    kind: String,
    state: String,
    budget_us: Option<f64>,
    p50_us: Option<f64>,
    p95_us: Option<f64>,
    reason: Option<String>,
}

impl Report {
    pub(super) fn new(story: Story, told: Told, postgres: Option<Database>, elapsed: Duration) -> Self {
        let Told { steps, picture, passes } = told;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let paths = picture.links().map(|(source, link)| {
            let target = word(&link["name"]);
            Path {
                reason: picture.reason(source, &target),
                source: source.to_owned(),
                target,
                kind: word(&link["kind"]),
                state: word(&link["state"]),
                budget_us: link["budget_us"].as_f64(),
                p50_us: link["rtt_us"]["p50"].as_f64(),
                p95_us: link["rtt_us"]["p95"].as_f64(),
            }
        });
        Self {
            schema_version: 1,
            version: env!("CARGO_PKG_VERSION"),
            story,
            passes,
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            postgres,
            findings: picture.findings(REPLICAS[0].name).cloned().collect(),
            paths: paths.collect(),
            agents: picture.agents().collect(),
            steps,
        }
    }

    /// Whether the agents found everything that happened.
    pub fn worked(&self) -> bool {
        self.steps.iter().all(|step| step.found.is_some())
    }

    /// For programs, with a newline at its end.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// For people, with a newline at its end.
    pub fn to_text(&self, colour: Colour) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text, colour);
        text
    }

    fn write(&self, out: &mut String, colour: Colour) -> fmt::Result {
        let mark = |is_well| if is_well { colour.paint("32", "√") } else { colour.paint("31", "×") };
        title(out, colour, "what happened")?;
        for step in &self.steps {
            writeln!(out, "{} {}", mark(step.found.is_some()), step.what)?;
            let after = step.after_us.map(|us| seconds(Duration::from_micros(us))).unwrap_or_default();
            match &step.found {
                Some(found) => writeln!(out, "    found after {after}: {found}")?,
                None => writeln!(out, "    no agent found it: this machine may be too busy, so try again")?,
            }
        }
        if self.steps.is_empty() {
            writeln!(out, "The time was over before the agents had found anything: 30 s are enough.")?;
        }
        if !self.findings.is_empty() {
            title(out, colour, "who stands where")?;
        }
        for finding in &self.findings {
            let text = |key: &str| finding[key].as_str().unwrap_or_default();
            let sign = match text("severity") {
                "fail" => mark(false),
                "warning" => colour.paint("33", "‼"),
                _ => "·".to_owned(),
            };
            writeln!(out, "{sign} {}: {}", text("code"), text("evidence"))?;
            writeln!(out, "    hint: {}", text("remedy"))?;
        }
        self.write_paths(out, colour)?;
        let found = self.steps.iter().filter(|step| step.found.is_some()).count();
        let (all, worked) = (self.steps.len(), self.worked());
        let elapsed = seconds(Duration::from_micros(self.elapsed_us));
        writeln!(out, "\n{} the agents found {found} of {all} things that happened ({elapsed})", mark(worked))
    }

    fn write_paths(&self, out: &mut String, colour: Colour) -> fmt::Result {
        if self.paths.is_empty() {
            return Ok(());
        }
        title(out, colour, "paths at the end")?;
        let mut targets: Vec<_> = REPLICAS.iter().map(|place| place.name).collect();
        if self.paths.iter().any(|path| path.target == DATABASE.name) {
            targets.push(DATABASE.name);
        }
        let mut table = Table::new();
        let header = std::iter::once("from, p95 in ms").chain(targets.iter().copied());
        table.load_style(presets::NOTHING).set_header(header);
        for source in &self.agents {
            let cell = |target: &&str| match self.path(source, target) {
                Some(path) => path.p95_us.map_or_else(
                    || path.state.clone(),
                    |p95| format!("{} {:.1}", sign(&path.state), p95 / 1000.0),
                ),
                None => String::new(),
            };
            table.add_row(std::iter::once((*source).to_owned()).chain(targets.iter().map(cell)));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(out, "{table}\n")?;
        for path in self.paths.iter().filter(|path| path.state != "ok") {
            let Path { source, target, state, .. } = path;
            let reason = path.reason.as_deref().unwrap_or("no reason yet");
            writeln!(out, "{} {source} → {target} {state}: {reason}", sign(state))?;
        }
        Ok(())
    }

    fn path(&self, source: &str, target: &str) -> Option<&Path> {
        self.paths.iter().find(|path| path.source == source && path.target == target)
    }
}

fn title(out: &mut String, colour: Colour, text: &str) -> fmt::Result {
    if !out.is_empty() {
        writeln!(out)?;
    }
    writeln!(out, "{}", colour.paint("1", text))?;
    writeln!(out, "{}", "-".repeat(text.len()))
}

fn sign(state: &str) -> &'static str {
    match state {
        "ok" => "√",
        "breach" | "unreachable" => "×",
        "at_risk" => "‼",
        _ => "·",
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::Picture;
    use super::*;

    #[test]
    fn a_report_says_what_was_found_what_was_not_and_which_paths_are_not_well() {
        let picture = Picture::of(&[
            ("coderd-a1", "coderd-b1", "ok"),
            ("coderd-a1", "coderd-us", "breach"),
            ("coderd-b1", "coderd-a1", "unknown"),
        ]);
        let step = |what: &str, found: Option<&str>| Step {
            story: Story::Calm,
            step: "x",
            what: what.to_owned(),
            look: String::new(),
            at_us: 0,
            found: found.map(str::to_owned),
            after_us: found.map(|_| 1_500_000),
        };
        let steps = vec![step("this", Some("that")), step("nothing", None)];
        let told = Told { steps, picture, passes: 1 };
        let report = Report::new(Story::Calm, told, None, Duration::from_secs(9));
        let text = report.to_text(Colour::Never);
        for part in [
            "√ this\n    found after 1.5 s: that\n× nothing\n    no agent found it",
            "× coderd-a1 → coderd-us breach: no reason yet\n· coderd-b1 → coderd-a1 unknown: no reason yet\n",
            "× the agents found 1 of 2 things that happened (9.0 s)\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("coderd-b1 ok") && !text.contains("who stands where"), "{text}");
        let json: Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
        assert_eq!(json["steps"][1]["found"], Value::Null);
        assert_eq!(json["paths"][1]["state"], "breach");
    }
}
