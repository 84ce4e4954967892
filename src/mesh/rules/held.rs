//! Findings over time: one has to last for the start-up grace before it is news, for half of them are how a roll-out looks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::TopologyFinding;
use super::code::Code;

/// A finding that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// As it is now.
    pub finding: TopologyFinding,
    /// When it was first seen.
    pub since: Duration,
    /// Whether it has lasted for the grace.
    pub is_news: bool,
}

/// What has become of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has lasted, and counts from now on.
    Raised(TopologyFinding),
    /// It counted, and is no more.
    Cleared(TopologyFinding),
}

/// All findings that last.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    held: BTreeMap<(Code, Vec<String>), Held>,
}

impl Findings {
    /// Takes in all that is found at `now`.
    pub fn update(&mut self, found: Vec<TopologyFinding>, grace: Duration, now: Duration) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.held);
        let mut changes = Vec::new();
        for finding in found {
            let key = (finding.code, finding.subjects.clone());
            if self.held.contains_key(&key) {
                // The same of the same twice at once is said once.
                continue;
            }
            let known = before.remove(&key).map(|held| (held.since, held.is_news));
            let (since, was_news) = known.unwrap_or((now, false));
            let is_news = was_news || now.saturating_sub(since) >= grace;
            if is_news && !was_news {
                changes.push(Change::Raised(finding.clone()));
            }
            self.held.insert(key, Held { finding, since, is_news });
        }
        let gone = before.into_values().filter(|held| held.is_news);
        changes.extend(gone.map(|held| Change::Cleared(held.finding)));
        changes
    }

    /// All of them, the worst first.
    pub fn all(&self) -> Vec<&Held> {
        let mut all: Vec<_> = self.held.values().collect();
        all.sort_by_key(|held| std::cmp::Reverse(held.finding.severity));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(subject: &str) -> TopologyFinding {
        let code = Code::FewCoderd;
        TopologyFinding {
            code,
            severity: code.severity(),
            subjects: vec![subject.to_owned()],
            evidence: "x".into(),
            remedy: code.remedy(),
            anchor: code.anchor(),
            vantage: Vec::new(),
        }
    }

    #[test]
    fn only_what_lasts_is_news_and_what_was_news_is_cleared_aloud() {
        let (mut findings, grace, at) = (Findings::default(), Duration::from_secs(60), Duration::from_secs);
        assert_eq!(findings.update(vec![finding("a"), finding("b")], grace, at(0)), []);
        assert_eq!(findings.update(vec![finding("a")], grace, at(30)), [], "b was a roll-out");
        let twice = vec![finding("a"), finding("a")];
        assert_eq!(findings.update(twice, grace, at(45)), []);
        assert_eq!(findings.update(vec![finding("a")], grace, at(60)), [Change::Raised(finding("a"))]);
        assert_eq!(findings.update(vec![finding("a")], grace, at(65)), [], "said once");
        assert_eq!(findings.all().len(), 1);
        assert_eq!(findings.update(vec![], grace, at(70)), [Change::Cleared(finding("a"))]);
    }
}
