//! The verdict on a running mesh, out of what one of its agents answers, with its dresses.

use std::fmt::{self, Write};

use serde::Serialize;

use super::api::findings::Finding;
use super::api::matrix::{Agent, Cell, Document, Vantage};
use super::json::SCHEMA_VERSION;
use super::text::Colour;
use crate::mesh::state::State;
use crate::mesh::verdict::Verdict;

/// What is told of a running mesh.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Running {
    /// Of the shape.
    pub schema_version: u32,
    /// `pass`, `fail` or `inconclusive`.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub words: String,
    /// Whose answer this is.
    pub vantage: Vantage,
    /// When it was so.
    pub generated_at: String,
    /// How many paths are held against a budget.
    pub judged: usize,
    /// How many of them are within it.
    pub ok: usize,
    /// Those that are not, the worst first.
    pub paths: Vec<Cell>,
    /// What is wrong with who stands where, as far as it has lasted.
    pub findings: Vec<Finding>,
    /// Agents that nobody has heard of lately: what they would say is missing.
    pub silent: Vec<String>,
    /// Agents that get too little CPU to measure.
    pub starved: Vec<String>,
}

impl Running {
    /// What these answers come to.
    pub fn judge(matrix: Document, findings: Vec<Finding>) -> Self {
        let name = |agent: &Agent| agent.name.clone();
        // Nobody misses what an agent beside nothing would measure.
        let silent: Vec<_> =
            matrix.agents.iter().filter(|agent| agent.stale && !agent.is_idle).map(name).collect();
        let starved: Vec<_> = matrix.agents.iter().filter(|agent| agent.starved).map(name).collect();
        let findings: Vec<_> = findings.into_iter().filter(|finding| finding.news).collect();
        let all: Vec<_> =
            matrix.cells.into_iter().filter(|cell| cell.budget_us.is_some() && !cell.stale).collect();
        let judged = all.len();
        let mut paths: Vec<_> = all.into_iter().filter(|cell| cell.state != State::Ok).collect();
        paths.sort_by(|a, b| b.state.cmp(&a.state).then_with(|| a.key().cmp(&b.key())));
        let count = |states: &[State]| paths.iter().filter(|cell| states.contains(&cell.state)).count();
        let failing = count(&[State::Breach, State::Unreachable]);
        let open = count(&[State::Unknown, State::Stale]);
        let wrong = findings.iter().filter(|finding| finding.severity == "fail").count();
        let of = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let (verdict, words) = if failing > 0 || wrong > 0 {
            let mut parts = Vec::new();
            if failing > 0 {
                parts.push(format!(
                    "{failing} of {} over the budget or unreachable",
                    of(judged, "judged path")
                ));
            }
            if wrong > 0 {
                parts.push(format!("{} about who stands where", of(wrong, "finding")));
            }
            (Verdict::Fail, parts.join(", "))
        } else if judged == count(&[State::Left]) {
            // Who said goodbye to everybody is no more known to be well than who has no path at all.
            (Verdict::Inconclusive, "no judged path tells anything: nothing is known".to_owned())
        } else if open > 0 || !silent.is_empty() {
            let mut parts = Vec::new();
            if open > 0 {
                parts.push(format!("nothing is known of {open} of {}", of(judged, "judged path")));
            }
            if !silent.is_empty() {
                parts.push(format!("{} silent: {}", of(silent.len(), "agent"), silent.join(", ")));
            }
            (Verdict::Inconclusive, parts.join(", "))
        } else {
            (
                Verdict::Pass,
                format!("{} of {} within the budget", judged - paths.len(), of(judged, "judged path")),
            )
        };
        Self {
            schema_version: SCHEMA_VERSION,
            verdict,
            words,
            vantage: matrix.vantage,
            generated_at: matrix.generated_at,
            judged,
            ok: judged - paths.len(),
            paths,
            findings,
            silent,
            starved,
        }
    }

    /// 0 pass, 1 fail, 3 inconclusive, as of every check.
    pub fn exit_code(&self, fail_on_warning: bool) -> u8 {
        let warns = !self.paths.is_empty()
            || !self.starved.is_empty()
            || self.findings.iter().any(|finding| finding.severity == "warning");
        match self.verdict {
            Verdict::Fail => 1,
            Verdict::Inconclusive | Verdict::Info => 3,
            Verdict::Pass => u8::from(fail_on_warning && warns),
        }
    }

    /// For people, with a newline at its end.
    pub fn text(&self, colour: Colour) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text, colour);
        text
    }

    fn write(&self, out: &mut String, colour: Colour) -> fmt::Result {
        for cell in &self.paths {
            let mark = match cell.state {
                State::Breach | State::Unreachable => colour.symbol(Verdict::Fail),
                _ => colour.symbol(Verdict::Inconclusive),
            };
            let ms =
                |us: Option<f64>| us.map_or_else(|| "–".to_owned(), |us| format!("{:.2} ms", us / 1000.0));
            let Cell { source, target, kind, reason, since, budget_us, p95_us, samples, lost, .. } = cell;
            writeln!(
                out,
                "{mark} {source} → {target} ({kind}) is {} since {since}: {reason}",
                cell.state.as_str()
            )?;
            writeln!(
                out,
                "    p95 {} of a budget of {}{}",
                ms(*p95_us),
                ms(*budget_us),
                lost.map_or_else(String::new, |lost| format!(", {lost} of {samples} lost"))
            )?;
        }
        for finding in &self.findings {
            let mark = match finding.severity.as_str() {
                "fail" => colour.symbol(Verdict::Fail),
                "warning" => colour.symbol(Verdict::Inconclusive),
                _ => colour.symbol(Verdict::Info),
            };
            writeln!(out, "{mark} {}: {}", finding.code, finding.evidence)?;
            writeln!(out, "    hint: {}", finding.remedy)?;
        }
        for name in &self.starved {
            writeln!(out, "{} {name} gets too little CPU to measure", colour.symbol(Verdict::Inconclusive))?;
        }
        let Vantage { agent, zone, region, .. } = &self.vantage;
        let place: Vec<_> = [zone, region].into_iter().flatten().map(String::as_str).collect();
        let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
        writeln!(out, "{} {}: {}", colour.symbol(self.verdict), self.verdict.as_str(), self.words)?;
        writeln!(out, "measured by the agents, told by {agent}{place} at {}", self.generated_at)
    }

    /// For programs, with a newline at its end.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::matrix::samples::{agent, cell, document};

    fn mesh(states: &[(State, Option<f64>)]) -> Document {
        let cells = states.iter().zip('a'..).map(|((state, budget_us), letter)| Cell {
            budget_us: *budget_us,
            ..cell("coderd-a", "peer", &letter.to_string(), *state, Some(400.0))
        });
        Document { cells: cells.collect(), agents: vec![agent("coderd-a", "a", "r1")], ..document() }
    }

    fn finding(severity: &str, news: bool) -> Finding {
        Finding {
            code: "region_mismatch".into(),
            severity: severity.into(),
            subjects: Vec::new(),
            evidence: "x".into(),
            remedy: "y".into(),
            vantage: Vec::new(),
            news,
            since: "x".into(),
            docs: "x".into(),
        }
    }

    #[test]
    fn the_worst_that_is_known_decides_and_unknown_is_never_good() {
        use State::{AtRisk, Breach, Left, Ok, Stale, Unknown, Unreachable};
        let budget = Some(10_000.0);
        for (states, verdict, code) in [
            (&[(Ok, budget), (Ok, budget)][..], Verdict::Pass, 0),
            (&[(Ok, budget), (AtRisk, budget)], Verdict::Pass, 0),
            (&[(Ok, budget), (Left, budget)], Verdict::Pass, 0),
            (&[(Left, budget), (Left, budget)], Verdict::Inconclusive, 3),
            (&[(Ok, budget), (Unknown, budget)], Verdict::Inconclusive, 3),
            (&[(Ok, budget), (Stale, budget)], Verdict::Inconclusive, 3),
            (&[(Ok, budget), (Unknown, budget), (Breach, budget)], Verdict::Fail, 1),
            (&[(Unreachable, budget)], Verdict::Fail, 1),
            (&[(Unreachable, None), (Ok, budget)], Verdict::Pass, 0),
            (&[(Ok, None)], Verdict::Inconclusive, 3),
            (&[], Verdict::Inconclusive, 3),
        ] {
            let running = Running::judge(mesh(states), Vec::new());
            assert_eq!(
                (running.verdict, running.exit_code(false)),
                (verdict, code),
                "{states:?}: {}",
                running.words
            );
        }
        let risky = Running::judge(mesh(&[(AtRisk, budget)]), Vec::new());
        assert_eq!((risky.exit_code(false), risky.exit_code(true)), (0, 1));
    }

    #[test]
    fn a_finding_that_has_lasted_fails_and_one_that_has_not_does_nothing() {
        let judge = |finding| Running::judge(mesh(&[(State::Ok, Some(10_000.0))]), vec![finding]);
        assert_eq!(judge(finding("fail", true)).exit_code(false), 1);
        assert_eq!(judge(finding("fail", false)).exit_code(true), 0);
        let warned = judge(finding("warning", true));
        assert_eq!((warned.exit_code(false), warned.exit_code(true)), (0, 1));
    }

    #[test]
    fn who_is_silent_leaves_the_answer_open_and_a_silent_bystander_does_not() {
        let mut matrix = mesh(&[(State::Ok, Some(10_000.0))]);
        matrix.agents.push(Agent { stale: true, ..agent("coderd-b", "a", "r1") });
        let open = Running::judge(matrix.clone(), Vec::new());
        assert_eq!((open.verdict, open.words.as_str()), (Verdict::Inconclusive, "1 agent silent: coderd-b"));
        matrix.agents[1].is_idle = true;
        assert_eq!(Running::judge(matrix, Vec::new()).verdict, Verdict::Pass);
    }

    #[test]
    fn what_the_silent_one_told_counts_for_nothing() {
        let mut matrix = mesh(&[(State::Ok, Some(10_000.0)), (State::Breach, Some(10_000.0))]);
        matrix.cells[1].stale = true;
        let running = Running::judge(matrix, Vec::new());
        assert_eq!((running.verdict, running.judged), (Verdict::Pass, 1));
    }

    #[test]
    fn the_text_names_path_figure_remedy_and_vantage() {
        let running = Running::judge(mesh(&[(State::Breach, Some(10_000.0))]), vec![finding("fail", true)]);
        let text = running.text(Colour::Never);
        for part in [
            "× coderd-a → a (peer) is breach since x",
            "p95 0.40 ms of a budget of 10.00 ms, 3 of 300 lost",
            "× region_mismatch: x\n    hint: y",
            "× fail: 1 of 1 judged path over the budget or unreachable, 1 finding about who stands where",
            "told by coderd-a (a, r1) at 2026-01-01",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
