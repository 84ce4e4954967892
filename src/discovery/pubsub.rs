//! What agents ask and answer each other through PostgreSQL, to time the way that a message of coderd takes there.
//!
//! A question is one NOTIFY on a channel that all agents listen to. Whoever sent it hears it too, on another connection:
//! that is one trip. Whom it is for answers at once and says for how long it held it: that makes two trips and no clock
//! has to agree with another. Whoever may log in to the database may send here, so nothing is believed beyond its form,
//! an answer counts only for the question that waits for it, and no flood of questions makes a flood of answers.

use std::time::Duration;

use probes::stopwatch::Stopwatch;
use serde::{Deserialize, Serialize};

use super::presence::is_word;

/// The channel.
pub const CHANNEL: &str = "probe_pubsub";
/// An agent asks at most this often, and less often in a mesh of more than ten: all of them together ask once a second.
pub const ASK_EVERY: Duration = Duration::from_secs(10);
const ASK_APART: Duration = Duration::from_secs(1);
/// What has not come back after this is lost.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// However many ask.
const ANSWERS_A_SECOND: u32 = 5;
/// The longest question that there is has two names of 253 bytes.
const BYTES_AT_MOST: usize = 1024;
const NONCE_BYTES_AT_MOST: usize = 32;

/// A question or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Version of this form: 1. Others are not understood; fields that are not known are ignored.
    v: u32,
    /// Who sends it.
    pub from: String,
    /// Whom it is for; a question may be for nobody but its sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What makes a question the only one of its kind; its answer repeats it.
    pub nonce: String,
    /// An answer: for how long the question was held, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_us: Option<u64>,
}

impl Letter {
    /// A question.
    pub fn question(from: &str, to: Option<&str>, nonce: &str) -> Self {
        Self {
            v: 1,
            from: from.to_owned(),
            to: to.map(str::to_owned),
            nonce: nonce.to_owned(),
            held_us: None,
        }
    }

    /// The answer to this one, after this time.
    pub fn answer(&self, from: &str, held: Duration) -> Self {
        let held_us = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
        Self {
            v: 1,
            from: from.to_owned(),
            to: Some(self.from.clone()),
            nonce: self.nonce.clone(),
            held_us: Some(held_us),
        }
    }

    /// How long the question was held; `None` of a question.
    pub fn held(&self) -> Option<Duration> {
        self.held_us.map(Duration::from_micros)
    }

    /// As it is sent.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// As it is heard; `None` for what is not one.
    pub fn decode(payload: &str) -> Option<Self> {
        if payload.len() > BYTES_AT_MOST {
            return None;
        }
        let letter: Self = serde_json::from_str(payload).ok()?;
        let names = std::iter::once(&letter.from).chain(&letter.to);
        let sound = letter.v == 1
            && names.into_iter().all(|name| !name.is_empty() && is_word(name))
            && !letter.nonce.is_empty()
            && letter.nonce.len() <= NONCE_BYTES_AT_MOST
            && is_word(&letter.nonce);
        sound.then_some(letter)
    }
}

/// How often an agent asks that has so many others to ask.
pub fn ask_every(others: usize) -> Duration {
    let agents = u32::try_from(others.saturating_add(1)).unwrap_or(u32::MAX);
    ASK_EVERY.max(ASK_APART.saturating_mul(agents))
}

/// How many answers there may still be in this second.
#[derive(Debug, Default)]
pub struct Allowance {
    second: Option<Stopwatch>,
    answered: u32,
}

impl Allowance {
    /// Whether one more may be sent; if so, it counts.
    pub fn take(&mut self) -> bool {
        if self.second.is_none_or(|second| second.elapsed() >= Duration::from_secs(1)) {
            (self.second, self.answered) = (Some(Stopwatch::start()), 0);
        }
        let may = self.answered < ANSWERS_A_SECOND;
        self.answered += u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use probes::postgres::notify::CHANNEL_AT_MOST;

    use super::*;

    #[test]
    fn a_question_and_its_answer_are_read_back() {
        let question = Letter::question("a", Some("b"), "17");
        assert_eq!(Letter::decode(&question.encode().unwrap()), Some(question.clone()));
        assert_eq!(question.held(), None);
        let answer = question.answer("b", Duration::from_micros(250));
        let read = Letter::decode(&answer.encode().unwrap()).unwrap();
        assert_eq!((read.from.as_str(), read.to.as_deref(), read.nonce.as_str()), ("b", Some("a"), "17"));
        assert_eq!(read.held(), Some(Duration::from_micros(250)));
        assert!(CHANNEL.len() <= CHANNEL_AT_MOST);
    }

    #[test]
    fn what_is_no_letter_of_this_version_is_none() {
        let long = "x".repeat(254);
        for payload in [
            "",
            "ping",
            "{}",
            r#"{"v":2,"from":"a","nonce":"1"}"#,
            r#"{"v":1,"from":"","nonce":"1"}"#,
            r#"{"v":1,"from":"a","nonce":""}"#,
            r#"{"v":1,"from":"a","to":"","nonce":"1"}"#,
            "{\"v\":1,\"from\":\"a\\u001b[2J\",\"nonce\":\"1\"}",
            &format!(r#"{{"v":1,"from":"{long}","nonce":"1"}}"#),
            &format!(r#"{{"v":1,"from":"a","nonce":"{}"}}"#, &long[..33]),
            &format!(r#"{{"v":1,"from":"a","nonce":"1","later":"{}"}}"#, "x".repeat(1000)),
            r#"{"v":1,"from":"a","to":"b","nonce":"1","held_us":-3}"#,
        ] {
            assert_eq!(Letter::decode(payload), None, "{payload}");
        }
        assert!(Letter::decode(r#"{"v":1,"from":"a","nonce":"1","later":7}"#).is_some());
    }

    #[test]
    fn a_flood_of_questions_makes_no_flood_of_answers() {
        let mut allowance = Allowance::default();
        let answered = (0..1000).filter(|_| allowance.take()).count();
        assert!((5..100).contains(&answered), "{answered}");
    }

    #[test]
    fn all_agents_together_ask_once_a_second_at_most() {
        assert_eq!(ask_every(0), ASK_EVERY);
        assert_eq!(ask_every(9), ASK_EVERY);
        assert_eq!(ask_every(299), Duration::from_secs(300));
    }
}
