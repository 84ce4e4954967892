//! What the agent tells to whoever watches it: events as they happen, and all figures when they are asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use probes::tls::Identity;

use super::{Agent, changes, own, wall};
use crate::export::api::events::KEPT;
use crate::export::collect::{self, Collector, OwnFigures, Scene};
use crate::export::events::{Event, Figures, Happening};
use crate::export::metrics::Metrics;
use crate::mesh::neighbours::Stances;
use crate::mesh::roster::Source;
use crate::mesh::state::Watch;

/// Who asks again sooner gets the same figures, so that asking often costs little.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// A source has to tell for so long without failing before it is said to be back: one that sees a part of what it should tells
/// and fails in turns.
const BACK_AFTER: Duration = Duration::from_secs(60);

/// What is kept for it.
pub(super) struct Telemetry {
    began: SystemTime,
    /// No other agent's, nor that of this one before it was started again.
    life: String,
    collector: Collector,
    collected: Option<(Duration, Arc<Metrics>)>,
    events: BTreeMap<&'static str, u64>,
    told: u64,
    /// The newest first.
    lately: VecDeque<Arc<Event>>,
    pub(super) moves: BTreeMap<String, u64>,
    /// Sources that were said to fail, and when they did so last.
    failing: BTreeMap<Source, Duration>,
    pub(super) reload_is_in_force: bool,
    reloaded: SystemTime,
    certificates: Vec<(&'static str, SystemTime)>,
}

impl Telemetry {
    pub(super) fn new(settings: &super::Settings) -> Self {
        let began = wall();
        let identity = settings.measuring.identity.as_ref();
        Self {
            began,
            life: probes::secret::random_hex(8).unwrap_or_else(|_| started(began)),
            collector: Collector::new(settings.shown),
            collected: None,
            // From zero on, so that the first of each is seen to have been added.
            events: Happening::NAMES.map(|name| (name, 0)).into(),
            told: 0,
            lately: VecDeque::new(),
            moves: BTreeMap::new(),
            failing: BTreeMap::new(),
            reload_is_in_force: true,
            reloaded: began,
            certificates: identity.map(certificates).unwrap_or_default(),
        }
    }

    /// What tells this run of the agent from all others.
    pub(super) fn life(&self) -> &str {
        &self.life
    }

    /// What has happened, the newest first.
    pub(super) fn lately(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.lately.iter()
    }

    /// These are our certificates from now on.
    pub(super) fn certify(&mut self, identity: &Identity) {
        self.certificates = certificates(identity);
        self.collected = None;
    }

    /// Shows so much from now on.
    pub(super) fn show(&mut self, settings: collect::Settings) {
        self.collector.set(settings);
        self.collected = None;
    }
}

/// Those that cannot be read are not told.
fn certificates(identity: &Identity) -> Vec<(&'static str, SystemTime)> {
    probes::tls::expiries(identity).unwrap_or_default()
}

/// Where the system has no random numbers: two agents that begin in the same nanosecond are told apart by their names.
fn started(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", since.as_nanos())
}

impl Agent {
    /// Says what has happened, to all who listen.
    pub(super) fn happened(&mut self, what: &Happening<'_>) {
        let telemetry = &mut self.telemetry;
        telemetry.told += 1;
        *telemetry.events.entry(what.name()).or_default() += 1;
        match what {
            Happening::Reloaded { .. } => (telemetry.reload_is_in_force, telemetry.reloaded) = (true, wall()),
            Happening::Refused { .. } => telemetry.reload_is_in_force = false,
            Happening::Moved(one) => *telemetry.moves.entry(one.database.clone()).or_default() += 1,
            _ => {}
        }
        let id = format!("{}-{}", telemetry.life, telemetry.told);
        let event = what.event(&self.settings.own.name, id, wall());
        changes::log(&self.settings.own.name, what, &event);
        let lately = &mut self.telemetry.lately;
        lately.truncate(KEPT - 1);
        lately.push_front(Arc::new(event.clone()));
        self.handing.tell(event);
    }

    /// A source cannot tell who is there. It is an event only where it was not said already.
    pub(super) fn source_failed(&mut self, source: Source, error: &str, is_news: bool) {
        let now = self.age();
        let known = self.telemetry.failing.contains_key(&source);
        if is_news || known {
            self.telemetry.failing.insert(source, now);
        }
        if is_news {
            self.happened(&Happening::SourceFailed { source: source.as_str(), error });
        }
    }

    /// Says which sources tell again.
    pub(super) fn look_at_sources(&mut self) {
        let now = self.age();
        let all = self.found.sources(now);
        let fails = |source: &Source| all.iter().any(|one| one.source == *source && one.failure.is_some());
        let back: Vec<_> = self
            .telemetry
            .failing
            .iter()
            .filter(|(source, at)| now.saturating_sub(**at) >= BACK_AFTER && !fails(source))
            .map(|(source, _)| *source)
            .collect();
        for source in back {
            self.telemetry.failing.remove(&source);
            self.happened(&Happening::SourceBack { source: source.as_str() });
        }
    }

    /// All figures, at most a second old.
    pub(super) fn metrics(&mut self) -> Arc<Metrics> {
        let now = self.age();
        if let Some((at, metrics)) = &self.telemetry.collected
            && now.saturating_sub(*at) < FRESH_FOR
        {
            return Arc::clone(metrics);
        }
        let figures = OwnFigures {
            timing: self.own.timing(),
            lateness: &self.own.lateness,
            cpu: own::cpu(),
            memory_bytes: own::memory_bytes(),
            descriptors: own::descriptors(),
            reload_is_in_force: self.telemetry.reload_is_in_force && !self.identity_files.is_refused(),
            reloaded: self.telemetry.reloaded,
            certificates: self.telemetry.certificates.clone(),
            handed_over: self.handing.tallies(),
        };
        let members = self.found.members();
        let scene = Scene {
            began: self.telemetry.began,
            taken: wall(),
            now,
            links: &self.links,
            stance: Stances::of(members).stance(&self.identity().sighting()),
            members,
            atlas: &self.settings.book.atlas,
            findings: self.judged.findings.all(),
            sources: self.found.sources(now),
            database: self.found.database.as_ref(),
            moves: &self.telemetry.moves,
            pubsub: &self.pubsub,
            agents: self.letters.whole.agents(now).count(),
            letters_dropped: self.letters.whole.dropped(),
            own: &figures,
            events: &self.telemetry.events,
        };
        let metrics = Arc::new(self.telemetry.collector.collect(&scene));
        self.telemetry.collected = Some((now, Arc::clone(&metrics)));
        metrics
    }
}

/// What a link's window says now.
pub(super) fn figures(watch: &Watch) -> Figures {
    let view = watch.series().window.all();
    let rtt = view.rtt();
    Figures {
        budget: watch.terms().limit,
        p50: rtt.quantile(0.5),
        p95: rtt.quantile(0.95),
        p99: rtt.quantile(0.99),
        samples: view.judged(),
    }
}
