//! When to send: one slot every interval, one send at a hashed instant within each slot.
//!
//! The loop is open: all instants are fixed before the first answer, so a slow answer cannot delay the next question
//! and hide its own slowness (coordinated omission). The jitter within the slot keeps a periodic disturbance, such as
//! a CPU quota's 100 ms, from being met always or never; a hash instead of a random number keeps a run repeatable.

use std::time::Duration;

/// So many packets a second leave towards one target at most, whatever is asked for.
pub const PER_PAIR_AT_MOST: u32 = 20;
/// And so many leave an agent in all; with more targets than that allows, all intervals are stretched alike.
pub const PER_AGENT_AT_MOST: u32 = 500;

/// The slots of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Length of a slot.
    pub interval: Duration,
    /// How many slots there are; `None` is without an end.
    pub slots: Option<u64>,
    /// What makes this target's jitter its own.
    pub seed: u64,
    /// Each send at the beginning of its slot: for what must not be done more often than once an interval.
    pub steady: bool,
}

impl Schedule {
    /// As many whole slots as fit into `span`, at least one. The seed comes from the link's name: who measures and what.
    pub fn over(span: Duration, interval: Duration, link: &str) -> Self {
        let fitting = span.as_nanos() / interval.as_nanos().max(1);
        let slots = u64::try_from(fitting).unwrap_or(u64::MAX).max(1);
        Self { slots: Some(slots), ..Self::endless(interval, link) }
    }

    /// Slots without an end.
    pub fn endless(interval: Duration, link: &str) -> Self {
        let shortest = Duration::from_secs(1) / PER_PAIR_AT_MOST;
        Self { interval: interval.max(shortest), slots: None, seed: fnv1a(link.as_bytes()), steady: false }
    }

    /// The instant of a slot's send, counted from the start of the schedule: within
    /// `[slot·interval, (slot+1)·interval)`.
    pub fn at(&self, slot: u64) -> Duration {
        let within = mix(self.seed ^ slot.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // The top 32 bits as a fraction of the slot.
        let fraction = f64::from(u32::try_from(within >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        // Slots count for longer than 32 bits last: a century at ten a second.
        let whole = self.interval.as_nanos().saturating_mul(u128::from(slot));
        let start = Duration::from_nanos(u64::try_from(whole).unwrap_or(u64::MAX));
        if self.steady { start } else { start + self.interval.mul_f64(fraction * 0.999_999) }
    }

    /// The time that all slots take together; nothing for a schedule without an end.
    pub fn span(&self) -> Duration {
        self.interval * u32::try_from(self.slots.unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

/// By how much all intervals have to be stretched so that so many slots a second become few enough for one agent; 1 where
/// they are.
pub fn stretch(intervals: impl Iterator<Item = Duration>) -> f64 {
    let per_second: f64 = intervals.map(|interval| 1.0 / interval.as_secs_f64().max(1e-9)).sum();
    (per_second / f64::from(PER_AGENT_AT_MOST)).max(1.0)
}

/// FNV-1a, 64 bits: short names come out well apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finalizer of SplitMix64: neighbouring inputs come out independent of each other.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOT: Duration = Duration::from_millis(100);

    #[test]
    fn twelve_seconds_at_ten_a_second_are_120_slots() {
        assert_eq!(Schedule::over(Duration::from_secs(12), SLOT, "a").slots, Some(120));
        assert_eq!(Schedule::over(Duration::from_millis(10), SLOT, "a").slots, Some(1));
    }

    #[test]
    fn offsets_within_the_slot_are_spread_evenly() {
        // Kolmogorov–Smirnov against the uniform distribution, n = 2000: 1.63/√n is the 1 % bound.
        let schedule = Schedule::over(SLOT * 2000, SLOT, "coderd-1:9862");
        let mut offsets: Vec<f64> = (0..2000_u32)
            .map(|slot| (schedule.at(u64::from(slot)) - SLOT * slot).as_secs_f64() / SLOT.as_secs_f64())
            .collect();
        offsets.sort_by(f64::total_cmp);
        let distance = offsets
            .iter()
            .enumerate()
            .map(|(i, x)| (x - i as f64 / 2000.0).abs().max((x - (i + 1) as f64 / 2000.0).abs()))
            .fold(0.0, f64::max);
        assert!(distance < 1.63 / 2000_f64.sqrt(), "{distance}");
    }

    #[test]
    fn two_sends_of_a_steady_schedule_are_never_closer_than_an_interval() {
        let schedule = Schedule { steady: true, ..Schedule::endless(SLOT, "coderd-1:6222") };
        assert!((0..50).all(|slot| schedule.at(slot + 1) - schedule.at(slot) == SLOT));
    }

    #[test]
    fn targets_do_not_send_in_step() {
        let a = Schedule::over(SLOT * 50, SLOT, "coderd-1:9862");
        let b = Schedule::over(SLOT * 50, SLOT, "coderd-2:9862");
        let close = (0..50).filter(|slot| a.at(*slot).abs_diff(b.at(*slot)) < SLOT / 20).count();
        assert!(close < 15, "{close} of 50 slots within 5 ms of each other; about 5 are expected");
    }

    /// Round trips of 1 ms but for one stall of 5 s in 100 s, ten questions a second.
    #[test]
    fn an_open_loop_sees_the_stall_that_a_closed_one_hides() {
        let (stall_begins, stall_ends) = (Duration::from_secs(50), Duration::from_secs(55));
        let answered = |sent: Duration| {
            let held = if (stall_begins..stall_ends).contains(&sent) { stall_ends } else { sent };
            held + Duration::from_millis(1)
        };
        let p99 = |mut rtts: Vec<Duration>| {
            rtts.sort();
            rtts[(rtts.len() * 99).div_ceil(100) - 1]
        };
        let interval = Duration::from_millis(100);
        let open = (0..1000).map(|slot| answered(interval * slot) - interval * slot).collect();
        let (mut closed, mut at) = (Vec::new(), Duration::ZERO);
        while at < interval * 1000 {
            let answer = answered(at);
            closed.push(answer - at);
            // The next question waits for the answer.
            at = answer.max(at + interval);
        }
        assert_eq!(p99(closed), Duration::from_millis(1));
        assert_eq!(p99(open), Duration::from_millis(4001));
    }

    proptest! {
        #[test]
        fn each_send_falls_into_its_own_slot(name in ".*", slot in 0_u32..1_000_000, interval_ms in 50_u64..10_000) {
            let interval = Duration::from_millis(interval_ms);
            let at = Schedule::endless(interval, &name).at(u64::from(slot));
            prop_assert!(at >= interval * slot && at < interval * (slot + 1));
        }

        #[test]
        fn it_never_starves_and_never_bursts(name in ".*", from in 0_u64..1_000_000, interval_ms in 1_u64..10_000) {
            let schedule = Schedule::endless(Duration::from_millis(interval_ms), &name);
            let sends: Vec<_> = (from..from + 200).map(|slot| schedule.at(slot)).collect();
            for pair in sends.windows(2) {
                prop_assert!(pair[1] - pair[0] < 2 * schedule.interval);
            }
            // Whatever is asked for, no second holds more than the cap allows, give or take the slots at its edges.
            for (index, send) in sends.iter().enumerate() {
                let within = sends[index..].iter().take_while(|at| **at < *send + Duration::from_secs(1)).count();
                prop_assert!(within <= PER_PAIR_AT_MOST as usize + 2);
            }
        }

        #[test]
        fn all_links_together_keep_the_cap_of_the_agent(intervals_ms in proptest::collection::vec(50_u64..60_000, 1..2000)) {
            let intervals: Vec<_> = intervals_ms.into_iter().map(Duration::from_millis).collect();
            let stretch = stretch(intervals.iter().copied());
            let sum: f64 = intervals.iter().map(|interval| 1.0 / interval.mul_f64(stretch).as_secs_f64()).sum();
            prop_assert!(sum <= f64::from(PER_AGENT_AT_MOST) * 1.001);
        }
    }
}
