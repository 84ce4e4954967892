//! From how everything stands to all figures of one instant, by the table of instruments.
//!
//! A link's figures are shown under its target's name. Where there are more links than may be shown, or where pairs are not to
//! be shown at all, several are shown together: what can be added up is, of the rest the worst counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use probes::target::Kind;

use super::instruments as table;
use super::instruments::Instrument;
use super::metrics::{Family, Metrics, Point, Value};
use super::otlp::tallies::Tallies;
use super::standing::OwnTiming;
use crate::mesh::database::Known;
use crate::mesh::links::Links;
use crate::mesh::meter::Meter;
use crate::mesh::neighbours::Stance;
use crate::mesh::peer::Role;
use crate::mesh::place::policy::Severity;
use crate::mesh::pubsub::{Pubsub, Trips};
use crate::mesh::region::Atlas;
use crate::mesh::roster::Member;
use crate::mesh::rules::code::Code;
use crate::mesh::rules::gather::{FACTS_COUNT_FOR, LOAD_COUNTS_FOR};
use crate::mesh::rules::held::Held;
use crate::mesh::rules::input::servers;
use crate::mesh::standing::SourceStanding;

mod folded;
mod paths;
mod places;

use folded::Folded;

/// Under this name stands what is above the cap.
pub const OVERFLOW: &str = "__overflow__";

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// So many links at most are shown under their own names.
    pub targets_at_most: usize,
    /// Show links under their targets' names; else by the zones of both ends.
    pub pairs: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { targets_at_most: 64, pairs: true }
    }
}

/// All that is looked at. Times are the agent's age.
pub struct Scene<'a> {
    /// When the agent began, by the wall clock.
    pub began: SystemTime,
    /// Now, by the wall clock.
    pub taken: SystemTime,
    /// Now, by the agent's age.
    pub now: Duration,
    /// The links, and who we are.
    pub links: &'a Links,
    /// Whether a server is beside us.
    pub stance: Stance,
    /// Everybody that is known.
    pub members: &'a [Member],
    /// Where regions are.
    pub atlas: &'a Atlas,
    /// What is wrong with who stands where.
    pub findings: Vec<&'a Held>,
    /// The sources of discovery.
    pub sources: Vec<SourceStanding>,
    /// What Coder's database says of itself.
    pub database: Option<&'a Known>,
    /// How often each database has moved.
    pub moves: &'a BTreeMap<String, u64>,
    /// How long notifications take.
    pub pubsub: &'a Pubsub,
    /// How many other agents have written of late.
    pub agents: usize,
    /// What of that was not taken in.
    pub letters_dropped: u64,
    /// How this process does.
    pub own: &'a OwnFigures<'a>,
    /// How many events there were of each name.
    pub events: &'a BTreeMap<&'static str, u64>,
}

/// How this process does.
pub struct OwnFigures<'a> {
    /// Questions and their lateness.
    pub timing: OwnTiming,
    /// The same in buckets.
    pub lateness: &'a Meter,
    /// User and system time; `None` where the system does not say.
    pub cpu: Option<Duration>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Whether the last change of the configuration is in force.
    pub reload_is_in_force: bool,
    /// When the one in force was taken over.
    pub reloaded: SystemTime,
    /// Our certificates and when they expire.
    pub certificates: Vec<(&'static str, SystemTime)>,
    /// What the OTLP receiver has got, and what not.
    pub handed_over: Tallies,
}

/// Takes one snapshot after another. It remembers what is shown together, so that such a sum never falls when one of its links
/// is gone.
#[derive(Debug, Default)]
pub struct Collector {
    settings: Settings,
    folded: Folded,
}

impl Collector {
    /// Shows so much.
    pub fn new(settings: Settings) -> Self {
        Self { settings, folded: Folded::default() }
    }

    /// Shows so much from now on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// All figures as they are now.
    pub fn collect(&mut self, scene: &Scene<'_>) -> Metrics {
        let mut sheet = Sheet::default();
        let members = places::Places::of(scene.members, scene.atlas);
        paths::collect(&mut sheet, scene, &members, &self.settings, &mut self.folded);
        deployment(&mut sheet, scene, &self.settings);
        places::collect(&mut sheet, scene, &members);
        ourselves(&mut sheet, scene);
        sheet.finish(scene.began, scene.taken)
    }
}

/// Points by the name of their instrument.
#[derive(Default)]
struct Sheet(BTreeMap<&'static str, Vec<Point>>);

impl Sheet {
    fn put(&mut self, instrument: &Instrument, labels: Vec<Arc<str>>, born: Duration, value: Value) {
        debug_assert_eq!(labels.len(), instrument.labels.len(), "{}", instrument.name);
        self.0.entry(instrument.name).or_default().push(Point { labels, born, value });
    }

    fn gauge(&mut self, instrument: &Instrument, labels: Vec<Arc<str>>, value: f64) {
        self.put(instrument, labels, Duration::ZERO, Value::Number(value));
    }

    fn seconds(&mut self, instrument: &Instrument, labels: Vec<Arc<str>>, value: Duration) {
        self.gauge(instrument, labels, value.as_secs_f64());
    }

    fn count(&mut self, instrument: &Instrument, labels: Vec<Arc<str>>, born: Duration, value: u64) {
        self.put(instrument, labels, born, Value::Count(value));
    }

    fn meter(&mut self, instrument: &Instrument, labels: Vec<Arc<str>>, meter: &Meter) {
        let value = Value::Distribution(meter.histogram.clone(), meter.exponential.clone());
        self.put(instrument, labels, meter.born, value);
    }

    fn finish(mut self, began: SystemTime, taken: SystemTime) -> Metrics {
        let families = table::ALL.iter().filter_map(|instrument| {
            self.0.remove(instrument.name).map(|points| Family { instrument, points })
        });
        Metrics { began, taken, families: families.collect() }
    }
}

fn word(text: &str) -> Arc<str> {
    text.into()
}

/// Numbers of things stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn number(count: usize) -> f64 {
    count as f64
}

fn deployment(sheet: &mut Sheet, scene: &Scene<'_>, settings: &Settings) {
    let own: Arc<str> = word(&scene.links.own().name);
    let source = || Arc::clone(&own);
    let news = scene.findings.iter().filter(|held| held.is_news).map(|held| &held.finding);
    let (mut codes, mut worst) = (BTreeMap::<_, usize>::new(), None);
    for finding in news {
        *codes.entry((finding.code.as_str(), finding.severity.as_str())).or_default() += 1;
        worst = worst.max(Some(finding.severity));
    }
    let is_blind = scene.findings.iter().any(|held| held.finding.code == Code::Blind);
    let placement = match worst {
        Some(Severity::Fail) => "violated",
        // Without anybody there nothing is known, and unknown is never good.
        _ if is_blind || scene.members.is_empty() => "unknown",
        _ => "ok",
    };
    for state in ["ok", "violated", "unknown"] {
        sheet.gauge(&table::PLACEMENT, vec![source(), word(state)], f64::from(u8::from(state == placement)));
    }
    for ((code, severity), count) in codes {
        sheet.gauge(&table::FINDINGS, vec![source(), word(code), word(severity)], number(count));
    }
    for one in &scene.sources {
        let tells = one.told.is_some() && one.failure.is_none();
        let labels = vec![source(), word(one.source.as_str())];
        sheet.gauge(&table::SOURCE_UP, labels, f64::from(u8::from(tells)));
    }
    sheet.gauge(&table::AGENTS, vec![source()], number(scene.agents));
    sheet.count(&table::LETTERS_DROPPED, vec![source()], Duration::ZERO, scene.letters_dropped);
    let mut counted = BTreeMap::<_, usize>::new();
    for server in servers(scene.members) {
        let role = server.role.map_or("unknown", Role::as_str);
        let watched = if server.watched_by.is_empty() { "false" } else { "true" };
        *counted.entry((role, watched)).or_default() += 1;
    }
    for ((role, watched), count) in counted {
        sheet.gauge(&table::SERVERS, vec![source(), word(role), word(watched)], number(count));
    }
    for (_, watch) in scene.links.all().filter(|(_, watch)| watch.link.kind == Kind::Postgres) {
        // From zero on, so that the first move is seen to have been one.
        let moves = scene.moves.get(&watch.link.target).copied().unwrap_or_default();
        sheet.count(&table::MOVES, vec![source(), word(&watch.link.target)], Duration::ZERO, moves);
    }
    if let Some(known) = scene.database {
        database(sheet, &own, known, scene.now);
    }
    let named_at_most = if settings.pairs { settings.targets_at_most } else { 0 };
    for (whose, meter, lost) in scene.pubsub.trips(named_at_most) {
        let target = match whose {
            Trips::Own => source(),
            Trips::Peer(name) => word(name),
            Trips::AllPeers => word(OVERFLOW),
        };
        let labels = || vec![source(), Arc::clone(&target)];
        sheet.meter(&table::NOTIFY, labels(), meter);
        sheet.count(&table::NOTIFY_LOST, labels(), meter.born, lost);
    }
}

/// What it said too long ago says nothing about now.
fn database(sheet: &mut Sheet, own: &Arc<str>, known: &Known, now: Duration) {
    let name: Arc<str> = word(&known.facts.name);
    let labels = || vec![Arc::clone(own), Arc::clone(&name)];
    if let Some((_, load)) = known.load.filter(|(at, _)| now.saturating_sub(*at) < LOAD_COUNTS_FOR) {
        sheet.gauge(&table::CONNECTIONS_USED, labels(), f64::from(load.used));
        sheet.gauge(&table::CONNECTIONS_USABLE, labels(), f64::from(load.usable));
        if let Some(queue) = load.queue_usage() {
            sheet.gauge(&table::QUEUE, labels(), queue);
        }
    }
    if now.saturating_sub(known.heard) >= FACTS_COUNT_FOR {
        return;
    }
    // Of those of one name, as `walreceiver` is for all that nobody named, the one that is farthest behind.
    let mut lags = BTreeMap::<(String, &str), Duration>::new();
    for standby in &known.facts.standbys {
        let address = standby.address.map(|ip| ip.to_string());
        let called = match (&*standby.name, address) {
            ("", Some(address)) => address,
            (name, _) => name.to_owned(),
        };
        let stages =
            [("write", standby.write_lag), ("flush", standby.flush_lag), ("replay", standby.replay_lag)];
        for (stage, lag) in stages {
            let Some(lag) = lag else { continue };
            let worst = lags.entry((called.clone(), stage)).or_default();
            *worst = lag.max(*worst);
        }
    }
    for ((called, stage), lag) in lags {
        let labels = vec![Arc::clone(own), Arc::clone(&name), word(&called), word(stage)];
        sheet.seconds(&table::LAG, labels, lag);
    }
}

fn ourselves(sheet: &mut Sheet, scene: &Scene<'_>) {
    let own: Arc<str> = word(&scene.links.own().name);
    let source = || vec![Arc::clone(&own)];
    let figures = scene.own;
    let unix = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    sheet.meter(&table::LAG_OF_OURS, source(), figures.lateness);
    if let Some(throttled) = figures.timing.throttled {
        sheet.count(&table::THROTTLED, source(), Duration::ZERO, throttled);
    }
    sheet.gauge(&table::RELOAD_OK, source(), f64::from(u8::from(figures.reload_is_in_force)));
    sheet.seconds(&table::RELOAD_AT, source(), unix(figures.reloaded));
    for (certificate, expires) in &figures.certificates {
        sheet.seconds(&table::CERTIFICATE, vec![Arc::clone(&own), word(certificate)], unix(*expires));
    }
    for (name, count) in scene.events {
        sheet.count(&table::EVENTS, vec![Arc::clone(&own), word(name)], Duration::ZERO, *count);
    }
    handed_over(sheet, &own, &figures.handed_over);
    sheet.gauge(&table::BUILD_INFO, vec![word(env!("CARGO_PKG_VERSION"))], 1.0);
    if let Some(cpu) = figures.cpu {
        sheet.put(&table::CPU, Vec::new(), Duration::ZERO, Value::Sum(cpu.as_secs_f64()));
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    for (instrument, value) in
        [(&table::MEMORY, figures.memory_bytes), (&table::DESCRIPTORS, figures.descriptors)]
    {
        value.into_iter().for_each(|value| sheet.gauge(instrument, Vec::new(), value as f64));
    }
    sheet.seconds(&table::STARTED, Vec::new(), unix(scene.began));
}

/// Absent where nobody asks for an export.
fn handed_over(sheet: &mut Sheet, own: &Arc<str>, tallies: &Tallies) {
    for (signal, outcome, count) in &tallies.exports {
        let labels = vec![Arc::clone(own), word(signal), word(outcome)];
        sheet.count(&table::EXPORTS, labels, Duration::ZERO, *count);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    if let Some(waiting) = tallies.waiting {
        sheet.gauge(&table::EVENTS_WAITING, vec![Arc::clone(own)], waiting as f64);
    }
    for (reason, count) in &tallies.dropped {
        sheet.count(&table::EVENTS_DROPPED, vec![Arc::clone(own), word(reason)], Duration::ZERO, *count);
    }
    if let Some(count) = tallies.forgotten {
        sheet.count(&table::SERIES_FORGOTTEN, vec![Arc::clone(own)], Duration::ZERO, count);
    }
}
