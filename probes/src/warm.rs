//! A connection that is kept open: used while it stands, opened again in the background after it broke.
//!
//! Measuring never waits for a connection. While there is none, every slot gets the reason why, so that an outage is
//! counted in full instead of being answered late by the first good reply after it. Attempts back off from 250 ms to
//! 5 s, and to 30 s where the other side said no to who we are or no password could be had, so that a wrong password is
//! not tried in a loop.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sample::{Failure, Phases, Reason, Reopened, Sample, Timing};
use crate::stopwatch::Stopwatch;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const PAUSE_AFTER_NO: Duration = Duration::from_secs(30);
/// So many openings in the background wait to be told. Slots come more often than attempts.
const UNTOLD: usize = 16;
/// How long an attempt in the background may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How a connection of one kind is opened.
pub(crate) trait Open: Send + Sync + 'static {
    type Connection: Send + Sync + 'static;

    /// Opens a connection, or says why not. Gives up by itself when the deadline has passed.
    fn open(
        &self,
        deadline: Duration,
    ) -> impl Future<Output = Result<(Self::Connection, Phases), Failure>> + Send;

    /// What is told of a connection that was opened.
    fn opened(connection: &Self::Connection, phases: Phases) -> Timing;
}

/// One connection of that kind, kept warm.
pub(crate) struct Warm<O: Open> {
    opener: O,
    state: Mutex<State<O::Connection>>,
    reopened: Mutex<VecDeque<(Stopwatch, Sample)>>,
}

enum State<C> {
    Up(Arc<C>),
    Down(Down),
}

struct Down {
    failure: Failure,
    since: Stopwatch,
    pause: Duration,
    trying: bool,
}

impl<O: Open> Warm<O> {
    pub(crate) fn new(opener: O) -> Self {
        let failure = Failure::new(Reason::Closed, "no connection was opened yet");
        let down = Down { failure, since: Stopwatch::start(), pause: Duration::ZERO, trying: false };
        Self { opener, state: Mutex::new(State::Down(down)), reopened: Mutex::default() }
    }

    pub(crate) fn opener(&self) -> &O {
        &self.opener
    }

    /// Opens now and keeps what it got; the answer is the phases or the reason.
    pub(crate) async fn open(&self, deadline: Duration) -> Sample {
        let opened = self.opener.open(deadline).await;
        self.keep(opened, false)
    }

    /// Keeps what came of an attempt. One in the background is told later, and no sample of the new connection before it.
    fn keep(&self, opened: Result<(O::Connection, Phases), Failure>, in_background: bool) -> Sample {
        let (state, sample) = match opened {
            Ok((connection, phases)) => {
                let sample = Sample::from(O::opened(&connection, phases));
                (Ok(State::Up(Arc::new(connection))), sample)
            }
            Err(failure) => (Err(failure.clone()), failure.into()),
        };
        if in_background {
            let mut untold = self.reopened.lock().unwrap_or_else(PoisonError::into_inner);
            if untold.len() == UNTOLD {
                untold.pop_front();
            }
            untold.push_back((Stopwatch::start(), sample.clone()));
        }
        match state {
            Ok(up) => *self.lock() = up,
            // Where one stands, an attempt beside it that failed takes nothing away.
            Err(failure) => {
                if self.standing().is_none() {
                    self.fail(failure);
                }
            }
        }
        sample
    }

    /// What was opened in the background since this was asked last, oldest first.
    pub(crate) fn reopened(&self) -> Vec<Reopened> {
        let mut untold = self.reopened.lock().unwrap_or_else(PoisonError::into_inner);
        untold.drain(..).map(|(since, sample)| Reopened { ago: since.elapsed(), sample }).collect()
    }

    /// The standing connection, or at once the reason why there is none; then a new attempt may start behind the scene.
    pub(crate) fn current(self: &Arc<Self>) -> Result<Arc<O::Connection>, Failure> {
        let failure = match &mut *self.lock() {
            State::Up(connection) => return Ok(Arc::clone(connection)),
            State::Down(down) => {
                if down.trying || down.since.elapsed() < down.pause {
                    return Err(down.failure.clone());
                }
                down.trying = true;
                down.failure.clone()
            }
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // The slots that ask meanwhile are told the reason that stands in the state.
            let opened = this.opener.open(ATTEMPT).await;
            this.keep(opened, true);
        });
        Err(failure)
    }

    /// The standing connection, without trying for one.
    pub(crate) fn standing(&self) -> Option<Arc<O::Connection>> {
        match &*self.lock() {
            State::Up(connection) => Some(Arc::clone(connection)),
            State::Down(_) => None,
        }
    }

    /// The given connection is no good any more. Ignored when another one has taken its place.
    pub(crate) fn broke(&self, connection: &Arc<O::Connection>, failure: Failure) {
        let stands = match &*self.lock() {
            State::Up(current) => Arc::ptr_eq(current, connection),
            State::Down(_) => false,
        };
        if stands {
            self.fail(failure);
        }
    }

    fn fail(&self, failure: Failure) {
        let mut state = self.lock();
        let pause = match (failure.reason, &*state) {
            (Reason::Auth | Reason::Database | Reason::ConnectionsLow | Reason::Password, _) => {
                PAUSE_AFTER_NO
            }
            (_, State::Down(down)) if down.pause > Duration::ZERO => (down.pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        *state = State::Down(Down { failure, since: Stopwatch::start(), pause, trying: false });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<O::Connection>> {
        // Nothing is left half done under this lock, so a panic elsewhere does not spoil the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Scripted {
        attempts: AtomicUsize,
        fails: usize,
        reason: Reason,
    }

    impl Open for Scripted {
        type Connection = usize;

        async fn open(&self, _: Duration) -> Result<(usize, Phases), Failure> {
            let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
            if attempt < self.fails {
                return Err(Failure::new(self.reason, format!("attempt {attempt}")));
            }
            Ok((attempt, Phases::default()))
        }

        fn opened(attempt: &usize, phases: Phases) -> Timing {
            let rtt = Duration::from_secs(u64::try_from(*attempt).unwrap());
            Timing { rtt, phases: Some(phases), ..Timing::default() }
        }
    }

    fn warm(fails: usize, reason: Reason) -> Arc<Warm<Scripted>> {
        Arc::new(Warm::new(Scripted { attempts: AtomicUsize::new(0), fails, reason }))
    }

    #[tokio::test]
    async fn a_broken_connection_gives_its_reason_at_once_and_comes_back_by_itself() {
        let warm = warm(0, Reason::Closed);
        warm.open(ATTEMPT).await;
        let first = warm.current().unwrap();
        warm.broke(&first, Failure::new(Reason::Closed, "cut"));
        assert_eq!(warm.current().unwrap_err().detail, "cut");
        let mut asked = 0;
        let second = loop {
            asked += 1;
            match warm.current() {
                Ok(connection) => break connection,
                Err(failure) => assert_eq!(failure.detail, "cut"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(*second, 1, "one attempt, although {asked} slots asked");
        let told: Vec<_> = warm.reopened().into_iter().map(|reopened| reopened.sample).collect();
        let expected = Sample::from(Scripted::opened(&1, Phases::default()));
        assert_eq!(told, [expected], "what was opened in the background is told, and once");
        assert_eq!(warm.reopened(), []);
        warm.broke(&first, Failure::new(Reason::Closed, "stale news"));
        assert!(warm.current().is_ok(), "news of an old connection does not touch the new one");
    }

    #[tokio::test]
    async fn an_attempt_that_fails_beside_a_standing_connection_takes_nothing_away() {
        let warm = warm(0, Reason::Closed);
        warm.open(ATTEMPT).await;
        let refused = Failure::new(Reason::ConnectionsLow, "no room");
        assert!(warm.keep(Err(refused), false).outcome.failure().is_some());
        assert_eq!(*warm.current().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_no_to_who_we_are_is_not_tried_in_a_loop() {
        let warm = warm(9, Reason::Auth);
        assert!(warm.open(ATTEMPT).await.outcome.failure().is_some());
        for _ in 0..20 {
            assert_eq!(warm.current().unwrap_err().detail, "attempt 0");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(warm.opener.attempts.load(Ordering::SeqCst), 1);
    }
}
