//! The only reader of the monotonic clock among the hands: it yields durations, never a time of day.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A running measurement of elapsed real time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock room of the hands")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Real time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Nanoseconds on this process's monotonic clock, counted from its first use. They mean nothing to another process.
pub fn monotonic_ns() -> u64 {
    static EPOCH: OnceLock<Stopwatch> = OnceLock::new();
    // 64 bits of nanoseconds last for 584 years.
    u64::try_from(EPOCH.get_or_init(Stopwatch::start).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
