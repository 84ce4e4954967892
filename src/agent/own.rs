//! What the agent knows of its own performance: how late its questions leave, and whether it is being throttled.

use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;

use rustix::param;

use super::Agent;
use crate::export::events::Happening;
use crate::export::standing::OwnTiming;
use crate::mesh::meter::{Meter, Scale};

/// Timers have steps of 1 ms; up to this it is normal.
const LATE: Duration = Duration::from_millis(5);

/// Collects it.
#[derive(Debug)]
pub(super) struct Own {
    sent: u64,
    sent_late: u64,
    lateness_us: Histogram<u32>,
    pub(super) lateness: Meter,
    throttle: Option<Throttle>,
    /// When that was looked at last.
    throttled: Option<u64>,
}

impl Own {
    #[expect(clippy::expect_used, reason = "the bounds are constants")]
    pub(super) fn new(scale: &Scale) -> Self {
        // 1 µs to the 100 ms after which a slot is skipped.
        let lateness_us = Histogram::new_with_bounds(1, 131_071, 1).expect("constant bounds");
        let lateness = Meter::new(scale, Duration::ZERO);
        Self { sent: 0, sent_late: 0, lateness_us, lateness, throttle: Throttle::find(), throttled: None }
    }

    pub(super) fn sent(&mut self, late: Duration) {
        self.sent += 1;
        self.sent_late += u64::from(late > LATE);
        self.lateness.record(late);
        self.lateness_us.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn timing(&self) -> OwnTiming {
        OwnTiming {
            sent: self.sent,
            sent_late: self.sent_late,
            send_late_p50_us: self.lateness_us.value_at_quantile(0.5),
            send_late_p99_us: self.lateness_us.value_at_quantile(0.99),
            throttled: self.throttled(),
        }
    }

    /// How often the CPU limit of our container has throttled us so far.
    pub(super) fn throttled(&self) -> Option<u64> {
        self.throttle.as_ref()?.read()
    }
}

impl Agent {
    pub(super) fn look_at_ourselves(&mut self) {
        let throttled = self.own.throttled();
        let before = std::mem::replace(&mut self.own.throttled, throttled);
        if let (Some(before), Some(now)) = (before, throttled)
            && now > before
        {
            self.happened(&Happening::Throttled { periods: now - before });
        }
    }
}

/// User and system time of this process so far; `None` where the system does not say (proc(5), fields 14 and 15 of stat).
pub(super) fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let a_second = param::clock_ticks_per_second().max(1);
    Some(
        Duration::from_secs(ticks / a_second)
            + Duration::from_secs(ticks % a_second) / u32::try_from(a_second).ok()?,
    )
}

/// Resident memory of this process (proc(5), the second field of statm).
pub(super) fn memory_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(param::page_size()).ok()?)
}

/// Open descriptors of this process, without the one that this takes.
pub(super) fn descriptors() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(open).ok()?.checked_sub(1)
}

/// The cgroup's `cpu.stat`, which is a kilobyte in memory: reading it blocks nobody.
#[derive(Debug)]
struct Throttle(PathBuf);

impl Throttle {
    /// Version 2 has it at the root of what a container sees, version 1 under the controller's name.
    fn find() -> Option<Self> {
        ["/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat", "/sys/fs/cgroup/cpu,cpuacct/cpu.stat"]
            .into_iter()
            .map(|path| Self(PathBuf::from(path)))
            .find(|throttle| throttle.read().is_some())
    }

    fn read(&self) -> Option<u64> {
        nr_throttled(&std::fs::read_to_string(&self.0).ok()?)
    }
}

/// Only a group with a quota has this line.
fn nr_throttled(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_read_from_both_versions_of_cgroups() {
        assert_eq!(nr_throttled("nr_periods 10\nnr_throttled 3\nthrottled_time 4000\n"), Some(3));
        assert_eq!(nr_throttled("usage_usec 9\nuser_usec 5\nnr_periods 2\nnr_throttled 0\n"), Some(0));
        assert_eq!(nr_throttled("usage_usec 9\nuser_usec 5\nsystem_usec 4\n"), None);
    }

    #[test]
    fn a_question_that_leaves_after_its_timers_step_is_not_late() {
        let mut own = Own::new(&Scale::default());
        (0..99).for_each(|_| own.sent(Duration::from_millis(1)));
        own.sent(Duration::from_millis(30));
        let timing = own.timing();
        assert_eq!((timing.sent, timing.sent_late), (100, 1));
        assert!(timing.send_late_p50_us.abs_diff(1000) < 100, "{timing:?}");
    }
}
