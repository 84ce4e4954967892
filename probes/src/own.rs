//! What this process did to a sample: how long its own measuring thread waited for a CPU, or did not run at all.
//!
//! Two witnesses. The kernel counts the time a thread was runnable without running (`/proc/thread-self/schedstat`, second
//! field); it is exact, but knows nothing of a stopped process or a paused machine. So a ticker looks, once a millisecond
//! while a sample is on its way, how much later than asked it was woken. Whichever saw more is believed.

use std::cell::Cell;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::sample::Sample;
use crate::stopwatch::Stopwatch;
use crate::{Order, Probe};

/// Timers have steps of 1 ms.
const TICK: Duration = Duration::from_millis(1);
/// After this long a millisecond more or less matters no more.
const EAGER: Duration = Duration::from_millis(100);
const LAZY_TICK: Duration = Duration::from_millis(20);
/// A timer that is this much late is only a timer: one step to round up to, and one until it is seen.
const TIMER_STEPS: Duration = Duration::from_millis(2);

thread_local! {
    static SCHEDSTAT: Option<File> = File::open("/proc/thread-self/schedstat").ok();
    static AT_PARK_NS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// How long this thread has waited in run queues since it began, in nanoseconds; `None` where the platform does not
/// count it. The file stays open: reading it takes about a microsecond.
pub fn run_queue_wait_ns() -> Option<u64> {
    SCHEDSTAT.with(|file| {
        let mut text = [0; 80];
        let length = file.as_ref()?.read_at(&mut text, 0).ok()?;
        parse(text.get(..length)?)
    })
}

/// `<time on cpu> <time waiting> <timeslices>`, all in one line.
fn parse(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// To be called whenever this thread is about to sleep, so that [`wait_since_park`] tells what the last wake-up cost.
pub fn note_park() {
    AT_PARK_NS.set(run_queue_wait_ns());
}

/// How long this thread has waited for a CPU since it slept last; `None` where nobody knows.
pub fn wait_since_park() -> Option<Duration> {
    let (now, then) = (run_queue_wait_ns()?, AT_PARK_NS.get()?);
    now.checked_sub(then).map(Duration::from_nanos)
}

/// Takes a sample and notes in it how long we ourselves did not run meanwhile.
pub async fn sample(probe: &impl Probe, order: Order) -> Sample {
    let before = run_queue_wait_ns();
    let (mut sample, lag) = with_ticker(probe.sample(order)).await;
    let waited = match (before, run_queue_wait_ns()) {
        (Some(before), Some(after)) => Duration::from_nanos(after.saturating_sub(before)),
        _ => Duration::ZERO,
    };
    sample.own_wait = waited.max(lag);
    sample
}

/// Runs `work` beside a ticker; the answer has by how much the ticker was late in all.
async fn with_ticker<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let (mut lag, mut since, whole) = (Duration::ZERO, Stopwatch::start(), Stopwatch::start());
    let mut tick = TICK;
    let mut ticker = interval(tick);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker.reset();
    loop {
        tokio::select! {
            biased;
            _ = ticker.tick() => lag += late(since.elapsed(), tick),
            result = &mut work => return (result, lag + late(since.elapsed(), tick)),
        }
        since = Stopwatch::start();
        if tick == TICK && whole.elapsed() > EAGER {
            tick = LAZY_TICK;
            ticker = interval(tick);
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticker.reset();
        }
    }
}

fn late(took: Duration, asked: Duration) -> Duration {
    let late = took.saturating_sub(asked);
    if late > TIMER_STEPS { late } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Step;
    use crate::sample::Timing;

    #[test]
    fn the_second_field_is_the_wait() {
        assert_eq!(parse(b"123456789 42 7\n"), Some(42));
        assert_eq!(parse(b"123456789"), None);
        assert_eq!(parse(b"a b c"), None);
    }

    struct Sleeper(Duration, bool);

    impl Probe for Sleeper {
        async fn sample(&self, _: Order) -> Sample {
            if self.1 {
                // The thread itself is held, as by a stopped process.
                let watch = Stopwatch::start();
                while watch.elapsed() < self.0 {
                    std::hint::spin_loop();
                }
            } else {
                tokio::time::sleep(self.0).await;
            }
            Timing::default().into()
        }
    }

    const ORDER: Order = Order { step: Step::Measure, deadline: Duration::from_secs(2) };

    #[tokio::test]
    async fn a_thread_that_is_held_is_seen_by_the_ticker_although_the_kernel_counts_no_wait() {
        let held = sample(&Sleeper(Duration::from_millis(60), true), ORDER).await;
        assert!(held.own_wait > Duration::from_millis(50), "{:?}", held.own_wait);
    }

    #[tokio::test]
    async fn a_slow_answer_alone_is_no_wait_of_ours() {
        // On a busy machine some of the runs are disturbed; most are not.
        let mut quiet = 0;
        for _ in 0..15 {
            let slow = sample(&Sleeper(Duration::from_millis(30), false), ORDER).await;
            quiet += u32::from(slow.own_wait < Duration::from_millis(10));
        }
        assert!(quiet >= 8, "{quiet} of 15");
    }
}
