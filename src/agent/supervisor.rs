//! What the service manager that started us is told (sd_notify(3)): ready, reloading, stopping, how it goes in a line, and that we
//! still measure. Without one all of it is nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Agent;
use crate::mesh::state::State;

/// Where nobody watches over us.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) struct Supervisor {
    /// When the measuring thread is to say that it lives.
    beat: Interval,
    is_watched: bool,
    status: String,
}

impl Supervisor {
    /// Twice within the time that the manager grants.
    pub(super) fn new() -> Self {
        let granted = sd_notify::watchdog_enabled();
        let mut beat = interval(granted.map_or(NEVER, |granted| granted / 2).max(Duration::from_millis(1)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { beat, is_watched: granted.is_some(), status: String::new() }
    }

    /// When it is time for a sign of life.
    pub(super) async fn beats(&mut self) {
        self.beat.tick().await;
        if !self.is_watched {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn ready() {
        tell(&[NotifyState::Ready]);
    }

    pub(super) fn reloading() {
        // Without the clock's time the manager would end a service that reloads.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell(&[NotifyState::Reloading, now]);
        }
    }

    pub(super) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }

    fn status(&mut self, status: String) {
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

/// A manager that does not listen is nobody's loss.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

impl Agent {
    /// A sign of life, which only a measuring thread that does its work can give.
    pub(super) fn beat(&self) {
        let lives = self.measuring.lives();
        tokio::spawn(async move {
            if lives.await {
                tell(&[NotifyState::Watchdog]);
            }
        });
    }

    /// How it goes.
    pub(super) fn say_how(&self, supervisor: &mut Supervisor) {
        let mut states = BTreeMap::<State, usize>::new();
        let judged = self.links.all().filter(|(_, watch)| watch.terms().limit.is_some());
        judged.for_each(|(_, watch)| *states.entry(watch.standing().0).or_default() += 1);
        supervisor.status(in_words(&states));
    }
}

/// The worst first.
fn in_words(states: &BTreeMap<State, usize>) -> String {
    let parts: Vec<_> =
        states.iter().rev().map(|(state, count)| format!("{count} {}", state.as_str())).collect();
    match states.values().sum::<usize>() {
        0 => "no path is judged".to_owned(),
        1 => format!("1 judged path: {}", parts.join(", ")),
        all => format!("{all} judged paths: {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_goes_is_a_line_with_the_worst_first() {
        assert_eq!(in_words(&BTreeMap::new()), "no path is judged");
        assert_eq!(in_words(&BTreeMap::from([(State::Ok, 1)])), "1 judged path: 1 ok");
        let many = BTreeMap::from([(State::Ok, 5), (State::Unknown, 1), (State::Breach, 2)]);
        assert_eq!(in_words(&many), "8 judged paths: 2 breach, 1 unknown, 5 ok");
    }
}
