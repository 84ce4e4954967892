//! What is said of a receiver in the log: a failure once, until it is another one or over.

use std::hash::{BuildHasher, RandomState};

use crate::export::otlp::send::{Answer, Fault};
use crate::export::otlp::settings::Signal;

#[derive(Debug)]
pub(super) struct Voice {
    signal: &'static str,
    trouble: Option<String>,
}

impl Voice {
    pub(super) fn of(signal: Signal) -> Self {
        Self { signal: signal.as_str(), trouble: None }
    }

    pub(super) fn tell(&mut self, answer: &Answer) {
        let signal = self.signal;
        match answer {
            Answer::Accepted => {
                if self.trouble.take().is_some() {
                    tracing::info!(signal, "the OTLP receiver takes what it is sent again");
                }
            }
            Answer::Partial { rejected, why } => {
                if self.is_new(why) {
                    tracing::warn!(signal, rejected, says = %why, "the OTLP receiver took a part only, and wants the rest never again");
                }
            }
            Answer::Retryable { why, .. } => {
                if self.is_new(why) {
                    tracing::warn!(signal, %why, "the OTLP receiver does not take what it is sent; it is sent again until it does");
                }
            }
            Answer::Refused { why, fault } => {
                if self.is_new(why) {
                    let what = match fault {
                        Fault::Content => "what was sent is dropped",
                        Fault::Size => "less is sent at a time",
                        Fault::Room => "it is tried again now and then, with less at a time",
                        Fault::Place => "it is tried again now and then",
                    };
                    tracing::warn!(signal, %why, "the OTLP receiver refuses what it is sent; {what}");
                }
            }
        }
    }

    fn is_new(&mut self, why: &str) -> bool {
        let is_new = self.trouble.as_deref() != Some(why);
        if is_new {
            self.trouble = Some(why.to_owned());
        } else {
            tracing::debug!(signal = self.signal, %why, "the OTLP receiver still does not take what it is sent");
        }
        is_new
    }
}

/// Between 0 and 1; good enough to keep agents apart.
pub(super) fn random() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or_default())
        / f64::from(u32::MAX)
}
