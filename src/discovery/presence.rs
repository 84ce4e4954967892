//! Presence: agents that share a database tell each other where they answer, by NOTIFY on a channel of their own.
//!
//! It needs no table and no grant. Whoever may log in to the database may send there, so nothing that is heard is believed
//! beyond its form: an address that is dialled has to prove by mutual TLS that it belongs to the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use probes::target::HostPort;
use serde::{Deserialize, Serialize};

use crate::mesh::peer::{Own, Role};
use crate::mesh::region;
use crate::mesh::roster::{Claim, Sighting, Status};

/// The channel.
pub const CHANNEL: &str = "probe_presence";
/// How often an agent says that it is there.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);
/// Three announcements that did not come.
const ALIVE_FOR: Duration = Duration::from_secs(95);
/// A goodbye is remembered for so long.
const LEFT_FOR: Duration = Duration::from_secs(300);
/// More agents than any mesh this is made for; who is heard after that is not noted.
const AT_MOST: usize = 512;
const ADDRESSES_AT_MOST: usize = 8;
const NAME_AT_MOST: usize = 253;

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Version of this form: 1. Others are not understood; fields that are not known are ignored.
    v: u32,
    name: String,
    reflectors: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Its own addresses, where those are not the ones at which it is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ips: Vec<IpAddr>,
    /// It is about to stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    bye: bool,
    /// It answers nowhere itself, and asks who does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    asks: bool,
}

/// What an announcement amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing that was not known.
    Nothing,
    /// An agent that was not there before.
    Agent,
    /// Somebody wants to know who is there.
    Question,
}

impl Announcement {
    /// Of this agent, which has these addresses and answers there, or where `reflectors` say.
    pub fn of(own: &Own, ips: &[IpAddr], reflectors: &[HostPort]) -> Self {
        Self {
            v: 1,
            name: own.name.clone(),
            reflectors: reflectors.iter().take(ADDRESSES_AT_MOST).map(ToString::to_string).collect(),
            role: own.role.map(|role| role.as_str().to_owned()),
            host: own.host_name.clone(),
            node: own.node.clone(),
            zone: own.zone.clone(),
            region: own.region.clone(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ips: ips.iter().copied().take(ADDRESSES_AT_MOST).collect(),
            bye: false,
            asks: reflectors.is_empty(),
        }
    }

    /// Whether it is a mere question.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// The same as a goodbye.
    pub fn goodbye(self) -> Self {
        Self { bye: true, ..self }
    }

    /// As it is sent.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// As it is heard; `None` for what is not one.
    pub fn decode(payload: &str) -> Option<Self> {
        let said: Self = serde_json::from_str(payload).ok()?;
        let words = [&said.role, &said.host, &said.node, &said.zone, &said.region, &said.version];
        let sound = said.v == 1
            && !said.name.is_empty()
            && is_word(&said.name)
            && words.into_iter().flatten().all(|word| is_word(word))
            && said.reflectors.len() <= ADDRESSES_AT_MOST
            && said.reflectors.is_empty() == said.asks
            && said.ips.len() <= ADDRESSES_AT_MOST;
        sound.then_some(said)
    }

    fn sighting(&self, status: Status) -> Option<Sighting> {
        let reflectors: Option<Vec<HostPort>> =
            self.reflectors.iter().map(|text| HostPort::parse(text, None).ok()).collect();
        let reflectors = reflectors?;
        let mut addresses: BTreeSet<IpAddr> = self.ips.iter().copied().collect();
        if addresses.is_empty() {
            addresses.extend(reflectors.iter().filter_map(|r| r.host.parse::<IpAddr>().ok()));
        }
        let claims = self.region.as_ref().map(|region| Claim {
            trust: 2,
            by: "the agent's own word".to_owned(),
            region: region::name(region),
            zone: self.zone.clone(),
        });
        Some(Sighting {
            key: self.name.clone(),
            // A word for a role that this version does not know is no role.
            role: self.role.as_deref().and_then(|role| role.parse::<Role>().ok()),
            agent: Some(self.name.clone()),
            reflectors,
            host_name: self.host.clone(),
            addresses,
            node: self.node.clone(),
            claims: claims.into_iter().collect(),
            version: self.version.clone(),
            status,
            ..Sighting::default()
        })
    }
}

/// Short, and nothing that could move a cursor or end a line.
pub(super) fn is_word(text: &str) -> bool {
    text.len() <= NAME_AT_MOST && !text.chars().any(char::is_control)
}

/// Who has been heard.
#[derive(Debug, Default)]
pub struct Heard {
    agents: BTreeMap<String, (Announcement, Duration)>,
    dropped: u64,
}

impl Heard {
    /// Takes in what was heard at `now`.
    pub fn hear(&mut self, payload: &str, now: Duration) -> News {
        let Some(said) = Announcement::decode(payload).filter(|said| said.sighting(Status::Alive).is_some())
        else {
            self.dropped += 1;
            return News::Nothing;
        };
        if said.asks {
            return News::Question;
        }
        let before = self.agents.get(&said.name).map(|(said, _)| said.bye);
        if before.is_none() && self.agents.len() >= AT_MOST {
            self.dropped += 1;
            return News::Nothing;
        }
        let is_new = !said.bye && before != Some(false);
        // Whoever is there stays where it is until it says goodbye or is silent for long: a name cannot be taken away.
        let stays = self.agents.get(&said.name).is_some_and(|(known, at)| {
            !known.bye && now.saturating_sub(*at) <= ALIVE_FOR && known.reflectors != said.reflectors
        });
        if stays {
            self.dropped += 1;
            return News::Nothing;
        }
        self.agents.insert(said.name.clone(), (said, now));
        if is_new { News::Agent } else { News::Nothing }
    }

    /// How many agents have been heard.
    pub fn count(&self) -> usize {
        self.agents.len()
    }

    /// Who is there at `now`.
    pub fn sightings(&mut self, now: Duration) -> Vec<Sighting> {
        self.agents
            .retain(|_, (said, at)| now.saturating_sub(*at) <= if said.bye { LEFT_FOR } else { ALIVE_FOR });
        let status = |said: &Announcement| if said.bye { Status::Leaving } else { Status::Alive };
        self.agents.values().filter_map(|(said, _)| said.sighting(status(said))).collect()
    }

    /// How many announcements were none, or one too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Own {
        Own { name: name.into(), role: Some(Role::Coderd), node: Some("n1".into()), ..Own::default() }
    }

    fn said(name: &str, last: u8) -> Announcement {
        let reflector = HostPort { host: format!("10.0.0.{last}"), port: 9862 };
        Announcement::of(&own(name), &[], &[reflector])
    }

    #[test]
    fn who_announces_is_there_until_three_announcements_did_not_come() {
        let mut heard = Heard::default();
        assert_eq!(heard.hear(&said("a", 1).encode().unwrap(), Duration::ZERO), News::Agent);
        assert_eq!(heard.hear(&said("a", 1).encode().unwrap(), Duration::from_secs(30)), News::Nothing);
        let seen = heard.sightings(Duration::from_secs(31));
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].agent.as_deref(), Some("a"));
        assert_eq!(seen[0].reflectors[0].to_string(), "10.0.0.1:9862");
        assert_eq!((seen[0].role, seen[0].node.as_deref()), (Some(Role::Coderd), Some("n1")));
        assert_eq!(heard.sightings(Duration::from_secs(126)), []);
    }

    #[test]
    fn who_says_goodbye_is_leaving_and_may_come_back() {
        let mut heard = Heard::default();
        heard.hear(&said("a", 1).encode().unwrap(), Duration::ZERO);
        heard.hear(&said("a", 1).goodbye().encode().unwrap(), Duration::from_secs(5));
        assert_eq!(heard.sightings(Duration::from_secs(6))[0].status, Status::Leaving);
        let back = said("a", 2).encode().unwrap();
        assert_eq!(heard.hear(&back, Duration::from_secs(9)), News::Agent, "elsewhere");
        let other = said("a", 7).encode().unwrap();
        assert_eq!(heard.hear(&other, Duration::from_secs(10)), News::Nothing, "somebody else of that name");
        let seen = heard.sightings(Duration::from_secs(10));
        assert_eq!((seen[0].status, seen[0].reflectors[0].host.as_str()), (Status::Alive, "10.0.0.2"));
        assert_eq!(heard.dropped(), 1);
    }

    #[test]
    fn what_is_no_announcement_is_dropped_and_counted() {
        let mut heard = Heard::default();
        let long = "x".repeat(300);
        for payload in [
            "",
            "hello",
            "{}",
            r#"{"v":2,"name":"a","reflectors":["10.0.0.1:1"]}"#,
            r#"{"v":1,"name":"","reflectors":["10.0.0.1:1"]}"#,
            r#"{"v":1,"name":"a","reflectors":[]}"#,
            r#"{"v":1,"name":"a","reflectors":["10.0.0.1"]}"#,
            r#"{"v":1,"name":"a","reflectors":["user@host:1"]}"#,
            "{\"v\":1,\"name\":\"a\\u001b[2J\",\"reflectors\":[\"10.0.0.1:1\"]}",
            &format!(r#"{{"v":1,"name":"{long}","reflectors":["10.0.0.1:1"]}}"#),
        ] {
            assert_eq!(heard.hear(payload, Duration::ZERO), News::Nothing, "{payload}");
        }
        assert_eq!((heard.dropped(), heard.sightings(Duration::ZERO).len()), (10, 0));
        let later = r#"{"v":1,"name":"a","reflectors":["10.0.0.1:1"],"role":"chief","later":1}"#;
        assert_eq!(heard.hear(later, Duration::ZERO), News::Agent);
        assert_eq!(heard.sightings(Duration::ZERO)[0].role, None, "a role of a later version");
    }

    #[test]
    fn who_answers_nowhere_asks_and_is_nobody() {
        let mut heard = Heard::default();
        let question = Announcement::of(&own("check"), &[], &[]).encode().unwrap();
        assert_eq!(heard.hear(&question, Duration::ZERO), News::Question);
        assert_eq!(heard.sightings(Duration::ZERO), []);
    }

    #[test]
    fn a_flood_of_names_fills_no_memory() {
        let mut heard = Heard::default();
        for i in 0..2000 {
            heard.hear(&said(&format!("a{i}"), 1).encode().unwrap(), Duration::ZERO);
        }
        assert_eq!(heard.sightings(Duration::ZERO).len(), AT_MOST);
    }
}
