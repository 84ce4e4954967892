//! Stories of samples and what the mind must say of them: `tests/scenarios/*.toml`, played without a clock.
//!
//! A story has acts; each lasts for a time and says how the path, the server and we ourselves behave. Expectations name
//! an instant and a state, what must never be seen, and how many changes there may be. The player jumps from event to
//! event (slots, replies, the mind's own `next_wake`), so a day takes milliseconds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use probe::mesh::budget::Budgets;
use probe::mesh::peer::{Link, Role};
use probe::mesh::schedule::Schedule;
use probe::mesh::state::{Change, Graces, State, Terms, Watch};
use probes::sample::{Direction, Failure, Outcome, Reason, Sample, Timing};
use probes::target::Kind;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    about: String,
    kind: String,
    #[serde(default = "one_second", with = "humantime_text")]
    interval: Duration,
    acts: Vec<Act>,
    /// How often the acts are played, one after the other.
    #[serde(default = "once")]
    repeat: usize,
    #[serde(default)]
    expect: Vec<Expectation>,
    /// States that must never be seen.
    #[serde(default)]
    never: Vec<String>,
    /// Reasons that must never come first.
    #[serde(default)]
    never_because: Vec<String>,
    /// How often the state may change.
    most_changes: usize,
    /// How often the route must be seen to change.
    #[serde(default)]
    route_changes: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    #[serde(rename = "for", with = "humantime_text")]
    lasts: Duration,
    /// Round trip without queue.
    rtt_ms: f64,
    /// Added to it, evenly between nothing and this.
    #[serde(default)]
    jitter_ms: f64,
    /// Of a thousand samples, so many take `slow_ms` instead.
    #[serde(default)]
    slow_per_mille: u64,
    #[serde(default)]
    slow_ms: f64,
    /// Of a thousand samples, so many get no reply.
    #[serde(default)]
    lost_per_mille: u64,
    /// Nothing answers, with this reason.
    #[serde(default)]
    fails: Option<String>,
    /// But its port accepts connections all the same.
    #[serde(default)]
    still_accepts: bool,
    /// PostgreSQL's execution, a part of the round trip.
    #[serde(default)]
    server_ms: f64,
    /// What a bare connect takes; as long as the round trip where it is not said.
    #[serde(default)]
    connect_ms: Option<f64>,
    /// Of a thousand samples, so many overlap a wait of our own that also adds to the round trip.
    #[serde(default)]
    own_wait_per_mille: u64,
    #[serde(default)]
    own_wait_ms: f64,
    /// We do not run: slots are skipped.
    #[serde(default)]
    frozen: bool,
    /// The clock jumps over this act without anything happening, as when a machine is suspended.
    #[serde(default)]
    jump: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    #[serde(with = "humantime_text")]
    at: Duration,
    state: String,
    /// The first reason.
    #[serde(default)]
    because: Option<String>,
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

fn once() -> usize {
    1
}

mod humantime_text {
    use super::{Deserialize, Duration};

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// A number below 1000 that looks random and is the same in each run.
fn dice(slot: u64, which: u64) -> u64 {
    let mut x = (slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ which.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % 1000
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

/// What a question of this slot meets, and after how long its outcome is known.
fn sample(act: &Act, slot: u64, kind: Kind) -> (Sample, Duration) {
    if act.frozen {
        return (Sample::skipped_self(), Duration::ZERO);
    }
    if let Some(reason) = &act.fails {
        let (reason, after) = match reason.as_str() {
            "timeout" => (Reason::Timeout, ms(2000.0)),
            "refused" => (Reason::Refused, ms(0.5)),
            "closed" => (Reason::Closed, ms(0.5)),
            "left" => (Reason::Left, ms(0.5)),
            "connections_low" => (Reason::ConnectionsLow, ms(0.0)),
            other => panic!("{other} is not a reason of this player"),
        };
        return (Failure::new(reason, "as the story says").into(), after);
    }
    if dice(slot, 1) < act.lost_per_mille {
        let failure = Failure::new(Reason::Timeout, "as the story says");
        return (Sample::new(Outcome::Lost(failure, Direction::There)), ms(2000.0));
    }
    let slow = dice(slot, 2) < act.slow_per_mille;
    let mut rtt = ms(if slow { act.slow_ms } else { act.rtt_ms });
    rtt += ms(act.jitter_ms).mul_f64(dice(slot, 3) as f64 / 1000.0);
    let own_wait = if dice(slot, 4) < act.own_wait_per_mille { ms(act.own_wait_ms) } else { Duration::ZERO };
    rtt += own_wait;
    let server = (kind == Kind::Postgres).then(|| ms(act.server_ms));
    let sample = Sample { own_wait, ..Timing { rtt, server, ..Timing::default() }.into() };
    (sample, rtt)
}

#[derive(Debug)]
enum Next {
    Send(u64),
    Outcome(u64, Box<Sample>),
    Connect,
}

/// What happened, in order.
#[derive(Debug, Default)]
struct Seen {
    states: Vec<(Duration, State, Option<String>)>,
    routes: usize,
}

impl Seen {
    fn at(&self, at: Duration) -> (State, Option<&str>) {
        let before = self.states.iter().rev().find(|(when, ..)| *when <= at);
        before.map_or((State::Unknown, None), |(_, state, reason)| (*state, reason.as_deref()))
    }

    fn note(&mut self, now: Duration, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::State { to, findings, .. } => {
                    self.states.push((now, to, findings.first().map(|f| f.reason.as_str().to_owned())));
                }
                Change::Route(_) => self.routes += 1,
            }
        }
    }
}

fn play(story: &Story) -> Seen {
    let (kind, role) = match story.kind.as_str() {
        "peer" => (Kind::Peer, Role::Coderd),
        "postgres" => (Kind::Postgres, Role::Postgres),
        "http" => (Kind::Http, Role::Coderd),
        other => panic!("{other} is not a kind of this player"),
    };
    let link = Link::to("story", kind, Some(role));
    let budgets = Budgets::default();
    let terms = Terms {
        limit: budgets.limit(Some(Role::Coderd), Some(role)),
        quantile: budgets.quantile,
        interval: story.interval,
        connects: true,
        graces: Graces::default(),
    };
    let mut watch = Watch::new(link, terms, Duration::ZERO);
    let schedule = Schedule::endless(story.interval, "story");
    let length: Duration = story.acts.iter().map(|act| act.lasts).sum();
    let act_at = |at: Duration| {
        let mut end = Duration::ZERO;
        story.acts.iter().find(|act| {
            end += act.lasts;
            at < end
        })
    };
    let mut seen = Seen::default();
    // Ties go to the earlier entry; the second part of the key makes each one its own.
    let mut queue = BTreeMap::from([((schedule.at(0), 0_u64), Next::Send(0))]);
    let mut entries = 1_u64;
    let mut push = |queue: &mut BTreeMap<_, _>, at: Duration, next: Next| {
        queue.insert((at, entries), next);
        entries += 1;
    };
    if kind == Kind::Postgres {
        push(&mut queue, Duration::from_secs(3), Next::Connect);
    }
    let mut now = Duration::ZERO;
    while let Some(((at, _), next)) = queue.pop_first() {
        // The mind asked to be woken before that.
        while let Some(wake) = watch.next_wake(now).filter(|wake| *wake < at) {
            let asleep = act_at(wake).is_some_and(|act| act.frozen || act.jump);
            now = wake;
            if !asleep {
                seen.note(now, watch.tick(now));
            }
        }
        now = at;
        let Some(act) = act_at(now).filter(|_| now < length) else { break };
        match next {
            Next::Send(slot) => {
                push(&mut queue, schedule.at(slot + 1), Next::Send(slot + 1));
                if act.jump {
                    continue;
                }
                let (sample, after) = sample(act, slot, kind);
                if !act.frozen {
                    watch.sent(slot, now);
                }
                push(&mut queue, now + after, Next::Outcome(slot, Box::new(sample)));
            }
            Next::Outcome(slot, sample) => {
                seen.note(now, watch.outcome(slot, &sample, now));
                if watch.wants_connects(now) {
                    (1..=10).for_each(|s| push(&mut queue, now + Duration::from_secs(s), Next::Connect));
                }
            }
            Next::Connect => {
                if queue.values().filter(|next| matches!(next, Next::Connect)).count() == 0 {
                    push(&mut queue, now + Duration::from_secs(30), Next::Connect);
                }
                if (act.fails.is_none() || act.still_accepts) && !act.frozen && !act.jump {
                    let connect = ms(act.connect_ms.unwrap_or(act.rtt_ms));
                    watch.connected(&Timing { rtt: connect, ..Timing::default() }.into(), now);
                }
            }
        }
    }
    seen
}

#[test]
fn every_story_ends_as_it_is_told() {
    let _busy = crate::house::busy();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut faults = Vec::new();
    for path in &files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut story: Story = toml::from_str(&std::fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        story.acts = vec![story.acts; story.repeat].concat();
        let seen = play(&story);
        let mut fault =
            |text: String| faults.push(format!("{name} ({}): {text}\n  {:?}", story.about, seen.states));
        for expected in &story.expect {
            let (state, reason) = seen.at(expected.at);
            if state.as_str() != expected.state {
                fault(format!("at {:?} it is {} and not {}", expected.at, state.as_str(), expected.state));
            } else if expected.because.is_some() && expected.because.as_deref() != reason {
                fault(format!(
                    "at {:?} it is so because of {reason:?}, not {:?}",
                    expected.at, expected.because
                ));
            }
        }
        for (at, state, reason) in &seen.states {
            if story.never.iter().any(|never| never == state.as_str()) {
                fault(format!("{} was seen at {at:?}", state.as_str()));
            }
            if story.never_because.iter().any(|never| Some(never) == reason.as_ref()) {
                fault(format!("{reason:?} was seen at {at:?}"));
            }
        }
        if seen.states.len() > story.most_changes {
            fault(format!("{} changes of state, {} are allowed", seen.states.len(), story.most_changes));
        }
        if seen.routes != story.route_changes {
            fault(format!("{} changes of route, {} were told", seen.routes, story.route_changes));
        }
    }
    assert!(files.len() >= 15, "{} stories", files.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
