//! What agents write to each other: who they are, and how their links stand. JSON, version 1.
//!
//! Fields that are not known are ignored and rows that are not understood are dropped one by one, so older and newer
//! agents understand of each other what they have in common. Every five seconds only what has changed is written.

use std::net::IpAddr;
use std::time::Duration;

use probes::quic::letter::LENGTH_AT_MOST;
use probes::target::{HostPort, Kind};
use serde::{Deserialize, Serialize};

use crate::mesh::peer::Role;
use crate::mesh::proxies::{self, Proxy};
use crate::mesh::roster::{Claim, RegionName};
use crate::mesh::state::State;
use crate::mesh::whole::{Identity, Letter, Row};

const VERSION: u32 = 1;
const WORD_AT_MOST: usize = 253;
const CLAIMS_AT_MOST: usize = 8;
const REFLECTORS_AT_MOST: usize = 8;

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claims: Vec<WrittenClaim>,
    #[serde(default)]
    ips: Vec<IpAddr>,
    #[serde(default)]
    reflectors: Vec<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    full: bool,
    /// Each on its own, so that one that is not understood costs no other.
    #[serde(default)]
    rows: Vec<serde_json::Value>,
    /// The workspace proxies that it knows from Coder's database; nothing where it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxies: Option<Vec<serde_json::Value>>,
}

#[derive(Serialize, Deserialize)]
struct WrittenProxy {
    name: String,
    url: String,
}

#[derive(Serialize, Deserialize)]
struct WrittenClaim {
    trust: u8,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    region: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WrittenRow {
    target: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    state: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p50_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p95_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p99_us: Option<u64>,
    n: u32,
    #[serde(default)]
    lost: u32,
    #[serde(default)]
    for_ms: u64,
    #[serde(default)]
    span_us: u64,
}

/// As bytes, at `now`. Rows that find no room are left out; with as many links as that, all letters are full ones of a part.
pub fn encode(
    identity: &Identity,
    full: bool,
    rows: &[&Row],
    now: Duration,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut written = Written::of(identity, full);
    let mut room = LENGTH_AT_MOST.saturating_sub(serde_json::to_vec(&written)?.len() + 16);
    for row in rows {
        let value = serde_json::to_value(WrittenRow::of(row, now))?;
        let length = serde_json::to_vec(&value)?.len() + 1;
        let Some(left) = room.checked_sub(length) else { break };
        room = left;
        written.rows.push(value);
    }
    serde_json::to_vec(&written)
}

/// As bytes: the proxies that this agent knows from Coder's database, and nothing else.
pub fn encode_proxies(identity: &Identity, proxies: &[Proxy]) -> Result<Vec<u8>, serde_json::Error> {
    let proxies = proxies.iter().take(proxies::AT_MOST).map(|proxy| {
        serde_json::to_value(WrittenProxy { name: proxy.name().to_owned(), url: proxy.url().to_owned() })
    });
    let proxies = Some(proxies.collect::<Result<_, _>>()?);
    serde_json::to_vec(&Written { proxies, ..Written::of(identity, false) })
}

impl Written {
    fn of(identity: &Identity, full: bool) -> Self {
        Self {
            v: VERSION,
            name: identity.name.clone(),
            role: identity.role.map(|role| role.as_str().to_owned()),
            host: identity.host_name.clone(),
            node: identity.node.clone(),
            claims: identity.claims.iter().take(CLAIMS_AT_MOST).map(WrittenClaim::of).collect(),
            ips: identity.addresses.iter().copied().take(REFLECTORS_AT_MOST).collect(),
            reflectors: identity
                .reflectors
                .iter()
                .take(REFLECTORS_AT_MOST)
                .map(ToString::to_string)
                .collect(),
            version: identity.version.clone(),
            full,
            rows: Vec::new(),
            proxies: None,
        }
    }
}

/// From bytes; `None` for what is no letter of this version.
pub fn decode(bytes: &[u8]) -> Option<Letter> {
    let written: Written = serde_json::from_slice(bytes).ok()?;
    if written.v != VERSION || written.name.is_empty() {
        return None;
    }
    let words = [Some(&written.name), written.host.as_ref(), written.node.as_ref(), Some(&written.version)];
    if !words.into_iter().flatten().all(|word| is_word(word)) {
        return None;
    }
    let count = written.rows.len();
    let rows: Vec<Row> = written.rows.into_iter().filter_map(row).collect();
    let reflectors = written.reflectors.iter().take(REFLECTORS_AT_MOST);
    let proxies =
        written.proxies.map(|all| all.into_iter().filter_map(proxy).take(proxies::AT_MOST).collect());
    Some(Letter {
        from: Identity {
            name: written.name,
            role: written.role.and_then(|role| role.parse().ok()),
            host_name: written.host,
            node: written.node,
            claims: written.claims.into_iter().take(CLAIMS_AT_MOST).filter_map(WrittenClaim::read).collect(),
            addresses: written.ips.into_iter().take(REFLECTORS_AT_MOST).collect(),
            reflectors: reflectors.filter_map(|text| HostPort::parse(text, None).ok()).collect(),
            version: written.version,
        },
        full: written.full,
        dropped: u32::try_from(count - rows.len()).unwrap_or(u32::MAX),
        rows,
        proxies,
    })
}

fn proxy(value: serde_json::Value) -> Option<Proxy> {
    let proxy: WrittenProxy = serde_json::from_value(value).ok()?;
    Proxy::new(&proxy.name, &proxy.url)
}

fn row(value: serde_json::Value) -> Option<Row> {
    let row: WrittenRow = serde_json::from_value(value).ok()?;
    if row.target.is_empty() || ![&row.target, &row.reason].into_iter().all(|word| is_word(word)) {
        return None;
    }
    let micros = |us: Option<u64>| us.map(Duration::from_micros);
    let (min, p50, p95) = (micros(row.min_us), micros(row.p50_us), micros(row.p95_us));
    let p99 = micros(row.p99_us);
    // Figures that contradict each other were not measured.
    if min > p50.or(min) || p50 > p95.or(p50) || p95 > p99.or(p95) {
        return None;
    }
    Some(Row {
        kind: Kind::ALL.into_iter().find(|k| k.as_str() == row.kind)?,
        // A state of a later version is nothing that we know.
        state: State::ALL.into_iter().find(|state| state.as_str() == row.state).unwrap_or(State::Unknown),
        role: row.role.and_then(|role| role.parse::<Role>().ok()),
        target: row.target,
        reason: row.reason,
        budget: micros(row.budget_us),
        min,
        p50,
        p95,
        p99,
        samples: row.n,
        lost: row.lost,
        since: Duration::from_millis(row.for_ms),
        span: Duration::from_micros(row.span_us),
    })
}

impl WrittenRow {
    fn of(row: &Row, now: Duration) -> Self {
        let micros = |duration: Option<Duration>| duration.and_then(|d| u64::try_from(d.as_micros()).ok());
        Self {
            target: row.target.clone(),
            kind: row.kind.as_str().to_owned(),
            role: row.role.map(|role| role.as_str().to_owned()),
            state: row.state.as_str().to_owned(),
            reason: row.reason.clone(),
            budget_us: micros(row.budget),
            min_us: micros(row.min),
            p50_us: micros(row.p50),
            p95_us: micros(row.p95),
            p99_us: micros(row.p99),
            n: row.samples,
            lost: row.lost,
            for_ms: u64::try_from(now.saturating_sub(row.since).as_millis()).unwrap_or(u64::MAX),
            span_us: micros(Some(row.span)).unwrap_or(0),
        }
    }
}

impl WrittenClaim {
    fn of(claim: &Claim) -> Self {
        Self {
            trust: claim.trust,
            by: claim.by.clone(),
            provider: claim.region.provider.clone(),
            region: claim.region.region.clone(),
            zone: claim.zone.clone(),
        }
    }

    fn read(self) -> Option<Claim> {
        let words = [Some(&self.by), self.provider.as_ref(), Some(&self.region), self.zone.as_ref()];
        let sound = words.into_iter().flatten().all(|word| is_word(word)) && !self.region.is_empty();
        sound.then_some(Claim {
            trust: self.trust.min(4),
            by: self.by,
            region: RegionName { provider: self.provider, region: self.region },
            zone: self.zone,
        })
    }
}

/// Short, and nothing that could move a cursor or end a line.
fn is_word(text: &str) -> bool {
    text.len() <= WORD_AT_MOST && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity() -> Identity {
        let region = RegionName { provider: Some("aws".into()), region: "us-east-1".into() };
        Identity {
            name: "a".into(),
            role: Some(Role::Coderd),
            host_name: Some("pod-a".into()),
            node: Some("n1".into()),
            claims: vec![Claim { trust: 4, by: "IMDS".into(), region, zone: Some("use1-az1".into()) }],
            addresses: std::collections::BTreeSet::from([IpAddr::from([10, 0, 0, 1])]),
            reflectors: vec![HostPort { host: "10.0.0.1".into(), port: 9862 }],
            version: "0.1.0".into(),
        }
    }

    fn row(target: &str) -> Row {
        Row {
            target: target.into(),
            kind: Kind::Postgres,
            role: Some(Role::Postgres),
            state: State::Breach,
            reason: "placement".into(),
            budget: Some(Duration::from_millis(10)),
            min: Some(Duration::from_micros(900)),
            p50: Some(Duration::from_micros(1000)),
            p95: None,
            p99: None,
            samples: 300,
            lost: 7,
            since: Duration::from_secs(42),
            span: Duration::from_secs(300),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = encode(&identity(), true, &[&row("db")], Duration::from_secs(84)).unwrap();
        let letter = decode(&bytes).unwrap();
        assert_eq!(
            letter,
            Letter { from: identity(), full: true, rows: vec![row("db")], dropped: 0, proxies: None }
        );
    }

    #[test]
    fn an_older_agent_says_neither_p99_nor_losses_and_is_understood_and_understands() {
        let older = br#"{"v":1,"name":"old","full":true,"rows":[
            {"target":"x","kind":"peer","state":"ok","reason":"r","min_us":1,"p50_us":2,"p95_us":3,"n":300}]}"#;
        let letter = decode(older).unwrap();
        let row = &letter.rows[0];
        assert_eq!(
            (row.p95, row.p99, row.lost, letter.dropped),
            (Some(Duration::from_micros(3)), None, 0, 0)
        );

        /// As it was before.
        #[derive(Deserialize)]
        struct OlderRow {
            p95_us: Option<u64>,
            n: u32,
        }
        let row = Row {
            p95: Some(Duration::from_millis(2)),
            p99: Some(Duration::from_millis(3)),
            ..self::row("db")
        };
        let bytes = encode(&identity(), true, &[&row], Duration::from_secs(84)).unwrap();
        let written: Written = serde_json::from_slice(&bytes).unwrap();
        let read: OlderRow = serde_json::from_value(written.rows[0].clone()).unwrap();
        assert_eq!((read.p95_us, read.n), (Some(2000), 300));
    }

    #[test]
    fn newer_agents_are_understood_as_far_as_they_say_what_we_know() {
        let letter = decode(
            br#"{"v":1,"name":"new","mood":"good","role":"chief","full":true,"rows":[
                {"target":"x","kind":"peer","state":"enlightened","reason":"r","n":3,"more":1},
                {"target":"y","kind":"telepathy","state":"ok","reason":"r","n":3},
                {"target":"z"}]}"#,
        )
        .unwrap();
        assert_eq!((letter.from.role, letter.rows.len(), letter.dropped), (None, 1, 2));
        assert_eq!(letter.rows[0].state, State::Unknown);
        assert_eq!(decode(br#"{"v":2,"name":"a"}"#), None);
    }

    #[test]
    fn hostile_rows_are_dropped_one_by_one() {
        let long = "x".repeat(1000);
        let letter = decode(
            format!(
                r#"{{"v":1,"name":"a","rows":[
                {{"target":"{long}","kind":"peer","state":"ok","reason":"r","n":3}},
                {{"target":"a\u001b[2J","kind":"peer","state":"ok","reason":"r","n":3}},
                {{"target":"a","kind":"peer","state":"ok","reason":"r","n":3,"min_us":9,"p50_us":3}},
                {{"target":"a","kind":"peer","state":"ok","reason":"r","n":-3}},
                {{"target":"good","kind":"peer","state":"ok","reason":"r","n":3}}]}}"#
            )
            .as_bytes(),
        )
        .unwrap();
        assert_eq!((letter.rows.len(), letter.dropped), (1, 4));
        assert_eq!(decode(format!(r#"{{"v":1,"name":"{long}"}}"#).as_bytes()), None);
    }

    #[test]
    fn proxies_are_told_and_those_that_are_none_are_not_taken_over() {
        let told: Vec<_> = ["eu", "us"].iter().map(|name| Proxy::new(name, "https://x").unwrap()).collect();
        let letter = decode(&encode_proxies(&identity(), &told).unwrap()).unwrap();
        assert_eq!((letter.proxies, letter.rows.len()), (Some(told), 0));
        let none = decode(&encode_proxies(&identity(), &[]).unwrap()).unwrap();
        assert_eq!(none.proxies, Some(Vec::new()), "to know that there is none is to know");
        let hostile = br#"{"v":1,"name":"a","proxies":[
            {"name":"x","url":"http://user:secret@10.0.0.1"}, {"name":"x","url":"http://10.0.0.1/admin?x"},
            {"name":"x","url":"gopher://10.0.0.1"}, {"name":"x"}, 7, {"name":"eu","url":"https://eu","more":1}]}"#;
        let urls = decode(hostile).unwrap().proxies.unwrap();
        assert_eq!(urls.iter().map(Proxy::url).collect::<Vec<_>>(), ["https://eu"]);
        let many: Vec<_> = (0..99).map(|i| format!(r#"{{"name":"p{i}","url":"http://p{i}"}}"#)).collect();
        let many = format!(r#"{{"v":1,"name":"a","proxies":[{}]}}"#, many.join(","));
        assert_eq!(decode(many.as_bytes()).unwrap().proxies.unwrap().len(), proxies::AT_MOST);
    }

    #[test]
    fn a_letter_is_never_longer_than_it_may_be() {
        let rows: Vec<_> = (0..1000).map(|i| row(&format!("{i}-{}", "t".repeat(200)))).collect();
        let bytes = encode(&identity(), true, &rows.iter().collect::<Vec<_>>(), Duration::ZERO).unwrap();
        assert!(bytes.len() <= LENGTH_AT_MOST, "{}", bytes.len());
        assert!(decode(&bytes).unwrap().rows.len() > 100);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
