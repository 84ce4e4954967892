//! One variable's value. What is malformed counts as not set, and is said.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Reader, TIMEOUT_AT_MOST};

impl Reader<'_> {
    pub(super) fn truth(&mut self, name: &str) -> bool {
        let Some(value) = self.get(name) else { return false };
        if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") {
            self.warn(name, &value, "neither true nor false; false is used");
        }
        value.eq_ignore_ascii_case("true")
    }

    pub(super) fn timeout(&mut self, name: &str, value: &str) -> Option<Duration> {
        self.milliseconds(name, value, &(Duration::from_millis(1)..=TIMEOUT_AT_MOST))
    }

    /// What is less or more than it may be counts as the least or the most.
    pub(super) fn milliseconds(
        &mut self,
        name: &str,
        value: &str,
        within: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        match value.parse::<u64>() {
            Ok(count) if count > 0 => {
                let given = Duration::from_millis(count);
                let used = given.clamp(*within.start(), *within.end());
                if used != given {
                    self.warn(name, value, &format!("{} is used", used.as_millis()));
                }
                Some(used)
            }
            Ok(_) => {
                self.warn(name, value, "there is always a limit; the default is used");
                None
            }
            Err(_) => {
                self.warn(name, value, "not a whole number of milliseconds; the default is used");
                None
            }
        }
    }

    pub(super) fn word<T>(&mut self, name: &str, known: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.get(name)?;
        let word = known(&value.to_ascii_lowercase());
        if word.is_none() {
            self.warn(name, &value, "not a known word; the default is used");
        }
        word
    }
}
