//! When to send: one slot every interval, one send at a hashed instant within each slot.
//!
//! The loop is open: all instants are fixed before the first answer, so a slow answer cannot delay the next question
//! and hide its own slowness (coordinated omission). The jitter within the slot keeps a periodic disturbance, such as
//! a CPU quota's 100 ms, from being met always or never; a hash instead of a random number keeps a run repeatable.

use std::time::Duration;

/// The slots of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Length of a slot.
    pub interval: Duration,
    /// How many slots there are.
    pub slots: u32,
    /// What makes this target's jitter its own.
    pub seed: u64,
}

impl Schedule {
    /// As many whole slots as fit into `span`, at least one; the seed comes from the target's name.
    pub fn over(span: Duration, interval: Duration, name: &str) -> Self {
        let fitting = span.as_nanos() / interval.as_nanos().max(1);
        let slots = u32::try_from(fitting).unwrap_or(u32::MAX).max(1);
        Self { interval, slots, seed: fnv1a(name.as_bytes()) }
    }

    /// The instant of a slot's send, counted from the start of the schedule: within
    /// `[slot·interval, (slot+1)·interval)`.
    pub fn at(&self, slot: u32) -> Duration {
        let within = mix(self.seed ^ u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // The top 32 bits as a fraction of the slot.
        let fraction = f64::from(u32::try_from(within >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        self.interval * slot + self.interval.mul_f64(fraction * 0.999_999)
    }

    /// The time that all slots take together.
    pub fn span(&self) -> Duration {
        self.interval * self.slots
    }
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
        assert_eq!(Schedule::over(Duration::from_secs(12), SLOT, "a").slots, 120);
        assert_eq!(Schedule::over(Duration::from_millis(10), SLOT, "a").slots, 1);
    }

    #[test]
    fn offsets_within_the_slot_are_spread_evenly() {
        // Kolmogorov–Smirnov against the uniform distribution, n = 2000: 1.63/√n is the 1 % bound.
        let schedule = Schedule::over(SLOT * 2000, SLOT, "coderd-1:9862");
        let mut offsets: Vec<f64> = (0..schedule.slots)
            .map(|slot| (schedule.at(slot) - SLOT * slot).as_secs_f64() / SLOT.as_secs_f64())
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
    fn targets_do_not_send_in_step() {
        let a = Schedule::over(SLOT * 50, SLOT, "coderd-1:9862");
        let b = Schedule::over(SLOT * 50, SLOT, "coderd-2:9862");
        let close = (0..50).filter(|slot| a.at(*slot).abs_diff(b.at(*slot)) < SLOT / 20).count();
        assert!(close < 15, "{close} of 50 slots within 5 ms of each other; about 5 are expected");
    }

    proptest! {
        #[test]
        fn each_send_falls_into_its_own_slot(name in ".*", slot in 0_u32..1_000_000, interval_ms in 1_u64..10_000) {
            let interval = Duration::from_millis(interval_ms);
            let at = Schedule { interval, slots: u32::MAX, ..Schedule::over(interval, interval, &name) }.at(slot);
            prop_assert!(at >= interval * slot && at < interval * (slot + 1));
        }
    }
}
