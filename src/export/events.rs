//! What happened, as records for people and for whoever collects logs: one event a change of state, placement, roster or
//! configuration. The same record goes to stderr and to the OTLP receiver.
//!
//! Names are closed and have no value in them; what changed is in the attributes. Notifying people is left to Alertmanager,
//! Grafana or the collector.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::mesh::cause::{Finding, ms};
use crate::mesh::failover::Move;
use crate::mesh::floor::RouteChange;
use crate::mesh::peer::{Link, Role};
use crate::mesh::place::policy::Severity;
use crate::mesh::rules::TopologyFinding;
use crate::mesh::state::State;

/// How much it matters; the numbers are OpenTelemetry's severity numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// Good news, or just news.
    Info = 9,
    /// Somebody should look at it.
    Warn = 13,
    /// Somebody may want to be woken.
    Error = 17,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same whenever this event is delivered again, and no other event's: for who wants to see each once.
    pub id: String,
    /// When, by the wall clock.
    pub at: SystemTime,
    /// Which kind of thing: a word out of a closed list.
    pub name: Cow<'static, str>,
    /// How much it matters.
    pub gravity: Gravity,
    /// One sentence for people.
    pub body: String,
    /// What changed, flat, in a fixed order.
    pub attributes: Vec<(Cow<'static, str>, Attribute)>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// A whole number.
    Whole(i64),
    /// Another number.
    Number(f64),
    /// A word or a sentence.
    Text(String),
}

/// What an agent has to tell: the closed list, in its own words.
#[derive(Debug, Clone, Copy)]
pub enum Happening<'a> {
    /// The agent answers echoes.
    Started {
        /// So many targets were given.
        targets: usize,
        /// Where, if it does.
        reflector: Option<SocketAddr>,
        /// Where it serves HTTP.
        web: SocketAddr,
    },
    /// It was told to stop.
    Stopping,
    /// A link is in another state.
    State {
        /// Which link.
        link: &'a Link,
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why; the first is the one to act on.
        findings: &'a [Finding],
        /// What is measured.
        figures: Figures,
    },
    /// The fastest round trip of a link is another one.
    Route {
        /// Which link.
        link: &'a Link,
        /// From where to where.
        change: RouteChange,
    },
    /// A finding about who stands where has lasted, or is no more.
    Finding {
        /// Which one.
        finding: &'a TopologyFinding,
        /// Whether it counts from now on.
        raised: bool,
    },
    /// A database is another server now.
    Moved(&'a Move),
    /// A link is measured from now on.
    Added(&'a Link),
    /// It is not any more.
    Removed(&'a Link),
    /// A change of the configuration is in force.
    Reloaded {
        /// Why it was looked at.
        why: &'a str,
        /// What is another one.
        changed: &'a str,
    },
    /// It is not.
    Refused {
        /// Why it was looked at.
        why: &'a str,
        /// What is wrong with it.
        error: &'a str,
    },
    /// A source of discovery cannot tell who is there.
    SourceFailed {
        /// Which one.
        source: &'static str,
        /// Why.
        error: &'a str,
    },
    /// It tells again.
    SourceBack {
        /// Which one.
        source: &'static str,
    },
    /// The CPU limit of this container throttles the agent.
    Throttled {
        /// So many periods since it was said last.
        periods: u64,
    },
}

/// What a link's window says at that moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// What it is held against.
    pub budget: Option<Duration>,
    /// Median.
    pub p50: Option<Duration>,
    /// 95th percentile.
    pub p95: Option<Duration>,
    /// 99th percentile.
    pub p99: Option<Duration>,
    /// Judged outcomes.
    pub samples: u32,
}

impl Happening<'_> {
    /// All names.
    pub const NAMES: [&'static str; 14] = [
        "coder.probe.agent.started",
        "coder.probe.agent.stopping",
        "coder.probe.path.state_changed",
        "coder.probe.path.route_changed",
        "coder.probe.finding.raised",
        "coder.probe.finding.cleared",
        "coder.probe.database.moved",
        "coder.probe.target.added",
        "coder.probe.target.removed",
        "coder.probe.config.reloaded",
        "coder.probe.config.refused",
        "coder.probe.discovery.failed",
        "coder.probe.discovery.recovered",
        "coder.probe.cpu.throttled",
    ];

    /// Its name.
    pub fn name(&self) -> &'static str {
        let place = match self {
            Self::Started { .. } => 0,
            Self::Stopping => 1,
            Self::State { .. } => 2,
            Self::Route { .. } => 3,
            Self::Finding { raised: true, .. } => 4,
            Self::Finding { raised: false, .. } => 5,
            Self::Moved(_) => 6,
            Self::Added(_) => 7,
            Self::Removed(_) => 8,
            Self::Reloaded { .. } => 9,
            Self::Refused { .. } => 10,
            Self::SourceFailed { .. } => 11,
            Self::SourceBack { .. } => 12,
            Self::Throttled { .. } => 13,
        };
        Self::NAMES[place]
    }

    /// How much it matters.
    pub fn gravity(&self) -> Gravity {
        match self {
            Self::State { to: State::Breach | State::Unreachable, .. } => Gravity::Error,
            Self::Finding { finding, raised: true } if finding.severity == Severity::Fail => Gravity::Error,
            Self::State { to: State::AtRisk | State::Stale, .. }
            | Self::Moved(_)
            | Self::SourceFailed { .. }
            | Self::Throttled { .. } => Gravity::Warn,
            Self::Finding { finding, raised: true } if finding.severity == Severity::Warning => Gravity::Warn,
            Self::Refused { .. } => Gravity::Error,
            _ => Gravity::Info,
        }
    }

    /// One sentence for people.
    pub fn body(&self, agent: &str) -> String {
        match self {
            Self::Started { targets, .. } => format!("{agent} measures, {targets} targets were given"),
            Self::Stopping => format!("{agent} stops"),
            Self::State { link, from, to, findings, .. } => {
                let why = findings.first().map_or(String::new(), |finding| format!(": {}", finding.evidence));
                format!("{agent} → {} is {}, was {}{why}", link.target, to.as_str(), from.as_str())
            }
            Self::Route { link, change } => format!(
                "{agent} → {} goes another way: the fastest round trip was {} and is {}",
                link.target,
                ms(change.from),
                ms(change.to)
            ),
            Self::Finding { finding, raised: true } => format!("{}: {}", finding.code, finding.evidence),
            Self::Finding { finding, raised: false } => {
                format!("no longer {}: {}", finding.code, finding.evidence)
            }
            Self::Moved(one) => {
                let [from, to] = one.in_words();
                format!("{} moved from {from} to {to}", one.database)
            }
            Self::Added(link) => format!("{agent} → {} is measured from now on", link.target),
            Self::Removed(link) => format!("{agent} → {} is not measured any more", link.target),
            Self::Reloaded { changed, .. } => format!("the new configuration is in force: {changed}"),
            Self::Refused { error, .. } => format!("the new configuration is not taken over: {error}"),
            Self::SourceFailed { source, error } => format!("{source} cannot tell who is there: {error}"),
            Self::SourceBack { source } => format!("{source} tells again who is there"),
            Self::Throttled { periods } => {
                format!("the CPU limit throttled {agent} in {periods} periods, which spoils its samples")
            }
        }
    }

    /// What changed. The keys are those of the metrics and of the report.
    pub fn attributes(&self, agent: &str) -> Vec<(Cow<'static, str>, Attribute)> {
        let mut all = Attributes(Vec::new());
        all.text("source", agent);
        match self {
            Self::Started { targets, .. } => {
                all.text("version", env!("CARGO_PKG_VERSION"));
                all.whole("targets", *targets);
            }
            Self::Stopping => {}
            Self::State { link, from, to, findings, figures } => {
                all.link(link);
                all.text("from", from.as_str());
                all.text("to", to.as_str());
                if let Some(first) = findings.first() {
                    all.text("reason", first.reason.as_str());
                }
                let evidence: Vec<_> = findings
                    .iter()
                    .map(|finding| format!("{}: {}", finding.reason, finding.evidence))
                    .collect();
                all.text("evidence", evidence.join("; "));
                for (key, value) in [
                    ("budget_seconds", figures.budget),
                    ("p50_seconds", figures.p50),
                    ("p95_seconds", figures.p95),
                    ("p99_seconds", figures.p99),
                ] {
                    all.seconds(key, value);
                }
                all.whole("samples", figures.samples);
            }
            Self::Route { link, change } => {
                all.link(link);
                all.seconds("from_seconds", Some(change.from));
                all.seconds("to_seconds", Some(change.to));
            }
            Self::Finding { finding, .. } => {
                all.text("code", finding.code.as_str());
                all.text("severity", finding.severity.as_str());
                all.text("subjects", finding.subjects.join(", "));
                all.text("evidence", &*finding.evidence);
                all.text("remedy", finding.remedy);
            }
            Self::Moved(one) => {
                let [from, to] = one.in_words();
                all.text("target", &*one.database);
                all.text("from", from);
                all.text("to", to);
                all.seconds("rtt_before_seconds", one.rtt_before);
                all.seconds("rtt_after_seconds", one.rtt_after);
            }
            Self::Added(link) | Self::Removed(link) => all.link(link),
            Self::Reloaded { why, changed } => {
                all.text("why", *why);
                all.text("changed", *changed);
            }
            Self::Refused { why, error } => {
                all.text("why", *why);
                all.text("error", *error);
            }
            Self::SourceFailed { source, error } => {
                all.text("discovery_source", *source);
                all.text("error", *error);
            }
            Self::SourceBack { source } => all.text("discovery_source", *source),
            Self::Throttled { periods } => all.whole("periods", *periods),
        }
        all.0
    }

    /// As a record.
    pub fn event(&self, agent: &str, id: String, at: SystemTime) -> Event {
        Event {
            id,
            at,
            name: Cow::Borrowed(self.name()),
            gravity: self.gravity(),
            body: self.body(agent),
            attributes: self.attributes(agent),
        }
    }
}

struct Attributes(Vec<(Cow<'static, str>, Attribute)>);

impl Attributes {
    fn text(&mut self, key: &'static str, value: impl Into<String>) {
        self.0.push((Cow::Borrowed(key), Attribute::Text(value.into())));
    }

    fn whole(&mut self, key: &'static str, value: impl TryInto<i64>) {
        self.0.push((Cow::Borrowed(key), Attribute::Whole(value.try_into().unwrap_or(i64::MAX))));
    }

    fn seconds(&mut self, key: &'static str, value: Option<Duration>) {
        if let Some(value) = value {
            self.0.push((Cow::Borrowed(key), Attribute::Number(value.as_secs_f64())));
        }
    }

    fn link(&mut self, link: &Link) {
        self.text("target", &*link.target);
        self.text("target_kind", link.kind.as_str());
        if let Some(role) = link.role {
            self.text("role", Role::as_str(role));
        }
    }
}

#[cfg(test)]
mod tests {
    use probes::target::Kind;

    use super::*;
    use crate::mesh::cause::Reason;
    use crate::mesh::rules::code::Code;

    fn finding(code: Code) -> TopologyFinding {
        TopologyFinding {
            code,
            severity: code.severity(),
            subjects: vec!["a".into(), "b".into()],
            evidence: "because".into(),
            remedy: code.remedy(),
            anchor: code.anchor(),
            vantage: Vec::new(),
        }
    }

    #[test]
    fn a_change_of_state_carries_all_that_one_wants_to_know_at_night() {
        let link = Link::to("coderd-2", Kind::Peer, Some(Role::Coderd));
        let findings = [Finding::new(Reason::Placement, "p50 30.5 ms")];
        let figures = Figures {
            budget: Some(Duration::from_millis(10)),
            p50: Some(Duration::from_micros(30_500)),
            samples: 25,
            ..Figures::default()
        };
        let what = Happening::State {
            link: &link,
            from: State::Ok,
            to: State::Breach,
            findings: &findings,
            figures,
        };
        let event = what.event("coderd-1", "life-7".into(), SystemTime::UNIX_EPOCH);
        assert_eq!((&*event.name, event.gravity), ("coder.probe.path.state_changed", Gravity::Error));
        assert_eq!(event.body, "coderd-1 → coderd-2 is breach, was ok: p50 30.5 ms");
        let text = |text: &str| Attribute::Text(text.to_owned());
        let expected = [
            ("source", text("coderd-1")),
            ("target", text("coderd-2")),
            ("target_kind", text("peer")),
            ("role", text("coderd")),
            ("from", text("ok")),
            ("to", text("breach")),
            ("reason", text("placement")),
            ("evidence", text("placement: p50 30.5 ms")),
            ("budget_seconds", Attribute::Number(0.01)),
            ("p50_seconds", Attribute::Number(0.0305)),
            ("samples", Attribute::Whole(25)),
        ];
        assert_eq!(event.attributes, expected.map(|(key, value)| (Cow::Borrowed(key), value)));
    }

    #[test]
    fn gravity_follows_what_it_means_for_coder() {
        let link = Link::to("b", Kind::Peer, None);
        let (fail, warning) = (finding(Code::CoderdCrossRegion), finding(Code::SharedNode));
        let state = |to| Happening::State {
            link: &link,
            from: State::Unknown,
            to,
            findings: &[],
            figures: Figures::default(),
        };
        for (what, gravity) in [
            (state(State::Ok), Gravity::Info),
            (state(State::Left), Gravity::Info),
            (state(State::AtRisk), Gravity::Warn),
            (state(State::Stale), Gravity::Warn),
            (state(State::Unreachable), Gravity::Error),
            (Happening::Finding { finding: &fail, raised: true }, Gravity::Error),
            (Happening::Finding { finding: &fail, raised: false }, Gravity::Info),
            (Happening::Finding { finding: &warning, raised: true }, Gravity::Warn),
            (Happening::Refused { why: "x", error: "y" }, Gravity::Error),
            (Happening::Added(&link), Gravity::Info),
        ] {
            assert_eq!(what.gravity(), gravity, "{what:?}");
        }
    }

    #[test]
    fn an_event_comes_back_from_a_file_as_it_was() {
        let one = finding(Code::FewCoderd);
        let event = Happening::Finding { finding: &one, raised: true }.event(
            "a",
            "life-1".into(),
            SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_580_351_799_951_801),
        );
        let written = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&written).unwrap(), event);
    }

    #[test]
    fn the_docs_list_every_event() {
        let docs = include_str!("../../docs/events.md");
        let listed: Vec<_> =
            docs.lines().filter_map(|line| line.strip_prefix("| `coder.")?.split('`').next()).collect();
        let names = Happening::NAMES.map(|name| name.strip_prefix("coder.").unwrap());
        assert_eq!(listed, names, "in the same order");
    }
}
