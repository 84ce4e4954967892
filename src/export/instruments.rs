//! The one table of all metrics: their names, units, labels and meaning, for Prometheus, for OTLP and for `docs/metrics.md`.
//!
//! Names are OpenTelemetry's, `coder.probe.…`; Prometheus' name of one is what every OTLP receiver makes of it:
//! points to underscores, the unit at the end, `_total` for what only rises. Only the process's own figures have two names,
//! since both worlds have a convention of their own for them.
//!
//! Labels are bounded: `source` is this agent, `target` one of at most as many as the settings allow, the others come from
//! closed lists. Addresses, nodes, zones and regions are on `coder_probe_target_info` and `coder_probe_agent_info` alone;
//! a node is `node_name` there, since scraping pods mostly adds a `node` of its own, which would be the agent's.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It only rises, from the start of the agent or of the link on.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Durations in buckets, each of which only rises.
    Histogram,
}

/// What it is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share, from 0 to 1.
    Ratio,
    /// Things of this name.
    Of(&'static str),
    /// A 1 that says that the labels are so, or 1 for yes and 0 for no.
    Fact,
}

impl Unit {
    /// In OTLP (UCUM, with a name for what is counted).
    pub fn ucum(self) -> String {
        match self {
            Self::Seconds => "s".to_owned(),
            Self::Bytes => "By".to_owned(),
            Self::Ratio => "1".to_owned(),
            Self::Of(what) => format!("{{{what}}}"),
            Self::Fact => String::new(),
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instrument {
    /// OpenTelemetry's name.
    pub name: &'static str,
    /// What it is.
    pub shape: Shape,
    /// What it is counted in.
    pub unit: Unit,
    /// Its labels, the same in Prometheus and in OTLP.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
    /// Prometheus' name, where convention has another one than the rule gives.
    other_name: Option<&'static str>,
}

const fn new(
    name: &'static str,
    shape: Shape,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Instrument {
    Instrument { name, shape, unit, labels, help, other_name: None }
}

impl Instrument {
    const fn also(mut self, prometheus: &'static str) -> Self {
        self.other_name = Some(prometheus);
        self
    }

    /// Prometheus' name, without `_bucket`, `_sum` or `_count`.
    pub fn prometheus(&self) -> String {
        if let Some(name) = self.other_name {
            return name.to_owned();
        }
        let mut name = self.name.replace('.', "_");
        name.push_str(match self.unit {
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
            Unit::Ratio => "_ratio",
            Unit::Of(_) | Unit::Fact => "",
        });
        if self.shape == Shape::Counter {
            name.push_str("_total");
        }
        name
    }
}

use Shape::{Counter, Gauge, Histogram};
use Unit::{Bytes, Fact, Of, Ratio, Seconds};

/// A link: who measures, whom, and how (`peer`, `postgres`, `tcp`, `http`, `relay`, `nats`).
const PATH: &[&str] = &["source", "target", "target_kind"];

macro_rules! table {
    ($($(#[$doc:meta])* $id:ident = $instrument:expr;)*) => {
        $($(#[$doc])* pub static $id: Instrument = $instrument;)*
        /// All of them, in the order in which they are shown.
        pub static ALL: &[&Instrument] = &[$(&$id),*];
    };
}

table! {
    /// Verdicts first: they are what most people look at.
    STATE = new("coder.probe.path.state", Gauge, Fact, &["source", "target", "target_kind", "state"],
        "1 for the state that the path is in and 0 for all others.");
    /// How often it came to each state.
    TRANSITIONS = new("coder.probe.path.transitions", Counter, Of("transition"), &["source", "target", "target_kind", "state"],
        "How often the path came to this state.");
    /// What it is held against.
    BUDGET = new("coder.probe.path.budget", Gauge, Seconds, PATH,
        "What the path is held against; absent where it is measured for information.");
    /// Exact quantiles of the window.
    RTT = new("coder.probe.path.rtt", Gauge, Seconds, &["source", "target", "target_kind", "percentile"],
        "Round trips of the last 300 outcomes, exact: p50, p95, p99 or max of those with a reply.");
    /// Lost in the window.
    LOSS = new("coder.probe.path.loss", Gauge, Ratio, PATH,
        "Share of the last 300 outcomes that got no reply.");
    /// n of the verdict.
    JUDGED = new("coder.probe.path.judged", Counter, Of("sample"), PATH,
        "Outcomes that say something about the path: all but those that this machine's or the peer's own noise made useless.");
    /// k of the verdict.
    EXCEEDED = new("coder.probe.path.exceeded", Counter, Of("sample"), PATH,
        "Judged outcomes that took the budget or longer, or got no reply.");
    /// Every slot of the schedule.
    SAMPLES = new("coder.probe.path.samples", Counter, Of("sample"), &["source", "target", "target_kind", "outcome"],
        "Slots of the schedule by what came of them: ok, lost, refused, error or skipped_self.");
    /// On which side.
    LOST = new("coder.probe.path.lost", Counter, Of("sample"), &["source", "target", "target_kind", "direction"],
        "Losses that are known to have happened on the way there or on the way back.");
    /// Spoilt by noise of our own.
    SELF_NOISE = new("coder.probe.path.self_noise", Counter, Of("sample"), PATH,
        "Outcomes during which this machine or the peer's waited for a CPU, and which therefore say nothing about the path.");
    /// After the deadline.
    LATE = new("coder.probe.path.late_replies", Counter, Of("reply"), PATH,
        "Replies that came after their deadline, when they were lost already.");
    /// Kept connections.
    RECONNECTS = new("coder.probe.path.reconnects", Counter, Of("connection"), &["source", "target", "target_kind", "outcome"],
        "Attempts to open the kept connection again, by whether there was one then: ok or error.");
    /// The echo.
    PEER_RTT = new("coder.probe.peer.rtt", Histogram, Seconds, PATH,
        "Echoes over QUIC, from our send to our receive less the time that the peer held them.");
    /// The query.
    QUERY = new("coder.probe.postgres.query.duration", Histogram, Seconds, PATH,
        "SELECT on a kept connection, as coderd feels it.");
    /// Bare connects.
    CONNECT = new("coder.probe.tcp.connect.duration", Histogram, Seconds, PATH,
        "TCP handshakes: of TCP targets, and of bare connects beside PostgreSQL and the relay.");
    /// GETs on a fresh connection.
    HTTP = new("coder.probe.http.request.duration", Histogram, Seconds, PATH,
        "GET on a fresh connection, from resolving the name to the last byte of the body.");
    /// GETs of the relay.
    RELAY = new("coder.probe.relay.request.duration", Histogram, Seconds, &["source", "target", "target_kind", "connection"],
        "GET of coderd's relay, on a kept connection until the first byte, and on a fresh one, as coderd's own pings do, until the last.");
    /// NATS.
    NATS = new("coder.probe.nats.greeting.duration", Histogram, Seconds, PATH,
        "Connect to the NATS port of a replica until its greeting was read.");
    /// LISTEN and NOTIFY.
    NOTIFY = new("coder.probe.postgres.notify.duration", Histogram, Seconds, &["source", "target"],
        "Notifications through PostgreSQL: to itself (source = target) one trip, to another agent there and back.");
    /// How often one was lost.
    NOTIFY_LOST = new("coder.probe.postgres.notify.lost", Counter, Of("notification"), &["source", "target"],
        "Notifications through PostgreSQL that did not come.");
    /// The database's share.
    EXECUTION = new("coder.probe.postgres.execution", Gauge, Seconds, &["source", "target", "target_kind", "percentile"],
        "PostgreSQL's own time for the query, by its clock.");
    /// The rest.
    NETWORK = new("coder.probe.postgres.network", Gauge, Seconds, &["source", "target", "target_kind", "percentile"],
        "The query less PostgreSQL's own time.");
    /// Bare connects of late.
    BARE_CONNECT = new("coder.probe.postgres.bare_connect", Gauge, Seconds, PATH,
        "Median of the last bare connects to PostgreSQL: the network alone, up to whatever ends TCP.");
    /// Sent again.
    RETRANSMITS = new("coder.probe.postgres.retransmits", Counter, Of("segment"), PATH,
        "TCP segments that this kernel had to send again on PostgreSQL's connection.");
    /// Taken.
    CONNECTIONS_USED = new("coder.probe.postgres.connections.used", Gauge, Of("connection"), &["source", "target"],
        "Connections to the server that are taken.");
    /// All.
    CONNECTIONS_USABLE = new("coder.probe.postgres.connections.usable", Gauge, Of("connection"), &["source", "target"],
        "Connections that ordinary roles may have in all.");
    /// Coder's own alert asks this.
    QUEUE = new("coder.probe.postgres.notification_queue", Gauge, Ratio, &["source", "target"],
        "Share of the queue of NOTIFY that is full.");
    /// From primary to standby.
    LAG = new("coder.probe.postgres.replication.lag", Gauge, Seconds, &["source", "target", "standby", "stage"],
        "How long after the primary a standby has written, flushed and replayed; absent where nothing is to be replayed.");
    /// Where it went.
    MOVES = new("coder.probe.postgres.moves", Counter, Of("move"), &["source", "target"],
        "How often the connection string led to another server than before.");
    /// Who stands where.
    PLACEMENT = new("coder.probe.placement.state", Gauge, Fact, &["source", "state"],
        "1 for how the deployment stands by who is where: ok, violated (a finding of severity fail) or unknown.");
    /// Each code.
    FINDINGS = new("coder.probe.findings", Gauge, Of("finding"), &["source", "code", "severity"],
        "Findings that have lasted for the start-up grace, by code (docs/findings.md); absent where there is none.");
    /// How many there are.
    TARGETS = new("coder.probe.targets", Gauge, Of("target"), &["source", "target_kind"],
        "Links that are measured.");
    /// More than may be shown.
    TARGETS_FOLDED = new("coder.probe.targets.folded", Gauge, Of("target"), &["source"],
        "Links above the cap of exported targets, which are shown together as target=\"__overflow__\".");
    /// Where it stands.
    TARGET_INFO = new("coder.probe.target.info", Gauge, Fact, &["source", "target", "target_kind", "role", "node_name", "zone", "region", "region_by"],
        "What is known of a target.");
    /// Who we are.
    AGENT_INFO = new("coder.probe.agent.info", Gauge, Fact, &["source", "role", "stance", "node_name", "zone", "region"],
        "What this agent is.");
    /// Which one we are.
    BUILD_INFO = new("coder.probe.build.info", Gauge, Fact, &["version"],
        "The version of this agent.");
    /// Discovery.
    SOURCE_UP = new("coder.probe.discovery.source.up", Gauge, Fact, &["source", "discovery_source"],
        "1 where the source of discovery tells who is there, 0 where it cannot.");
    /// How many others we hear of.
    AGENTS = new("coder.probe.agents", Gauge, Of("agent"), &["source"],
        "Other agents that have written of late.");
    /// Servers by whether an agent stands beside them.
    SERVERS = new("coder.probe.servers", Gauge, Of("server"), &["source", "role", "watched"],
        "Servers of the deployment that are known, by whether an agent stands beside them.");
    /// Not taken in.
    LETTERS_DROPPED = new("coder.probe.letters.dropped", Counter, Of("letter"), &["source"],
        "Letters of other agents, and rows of them, that were not taken in.");
    /// Our own lateness.
    LAG_OF_OURS = new("coder.probe.scheduler.lag", Histogram, Seconds, &["source"],
        "From a slot's instant to its send: timers have steps of 1 ms, more is this machine's noise.");
    /// The CPU limit.
    THROTTLED = new("coder.probe.cpu.throttled_periods", Counter, Of("period"), &["source"],
        "Periods in which the CPU limit of this container throttled the agent; absent where there is no limit.");
    /// The configuration.
    RELOAD_OK = new("coder.probe.config.last_reload_successful", Gauge, Fact, &["source"],
        "1 where the last change of the configuration is in force, 0 where it was refused.");
    /// When.
    RELOAD_AT = new("coder.probe.config.last_reload_success_timestamp", Gauge, Seconds, &["source"],
        "When the configuration in force was taken over, in Unix time.");
    /// Until when.
    CERTIFICATE = new("coder.probe.tls.certificate_not_after_timestamp", Gauge, Seconds, &["source", "certificate"],
        "When a certificate of this agent expires, in Unix time; absent with a mesh secret, whose certificates do not.");
    /// OTLP.
    EXPORTS = new("coder.probe.otlp.exports", Counter, Of("export"), &["source", "signal", "outcome"],
        "Attempts to hand metrics or logs to the OTLP receiver: ok, partial, retryable or refused.");
    /// Events.
    EVENTS = new("coder.probe.events", Counter, Of("event"), &["source", "event"],
        "Events since the start, by name.");
    /// Waiting.
    EVENTS_WAITING = new("coder.probe.otlp.events.waiting", Gauge, Of("event"), &["source"],
        "Events that wait for the OTLP receiver.");
    /// Gone.
    EVENTS_DROPPED = new("coder.probe.otlp.events.dropped", Counter, Of("event"), &["source", "reason"],
        "Events that the OTLP receiver never got: full (the spool), refused (by the receiver) or unreadable (on the disk).");
    /// Series.
    SERIES_FORGOTTEN = new("coder.probe.otlp.series.forgotten", Counter, Of("series"), &["source"],
        "Series whose last figures the OTLP receiver will never get: they went away before it took them, or it refused them.");
    /// CPU.
    CPU = new("process.cpu.time", Counter, Seconds, &[],
        "User and system CPU time of this process.").also("process_cpu_seconds_total");
    /// Memory.
    MEMORY = new("process.memory.usage", Gauge, Bytes, &[],
        "Resident memory of this process.").also("process_resident_memory_bytes");
    /// Descriptors.
    DESCRIPTORS = new("process.unix.file_descriptor.count", Gauge, Of("file_descriptor"), &[],
        "Open file descriptors of this process.").also("process_open_fds");
    /// When it began.
    STARTED = new("process.start_time", Gauge, Seconds, &[],
        "When this process began, in Unix time.").also("process_start_time_seconds");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_both_worlds() {
        let names: BTreeSet<_> = ALL.iter().map(|instrument| instrument.name).collect();
        let prometheus: BTreeSet<_> = ALL.iter().map(|instrument| instrument.prometheus()).collect();
        assert_eq!((names.len(), prometheus.len()), (ALL.len(), ALL.len()), "each once");
        for instrument in ALL {
            let name = instrument.prometheus();
            let ours = name.starts_with("coder_probe_") && instrument.name.starts_with("coder.probe.");
            assert!(ours || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), instrument.shape == Shape::Counter, "{name}");
            assert!(instrument.help.ends_with('.') && !instrument.help.contains('\n'), "{name}");
            let labels: BTreeSet<_> = instrument.labels.iter().collect();
            assert_eq!(labels.len(), instrument.labels.len(), "{name}");
        }
    }

    #[test]
    fn places_and_addresses_are_labels_of_information_alone() {
        for instrument in ALL.iter().filter(|instrument| !instrument.name.ends_with(".info")) {
            for label in ["node", "node_name", "zone", "region", "address", "ip"] {
                assert!(!instrument.labels.contains(&label), "{}: {label}", instrument.name);
            }
        }
    }
}
