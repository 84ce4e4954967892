//! What a link was like over the last two days: the fastest, the median, the 95th percentile, the slowest and the share that got no
//! reply, of each ten seconds of the last six hours and of each two minutes of the last forty-eight.
//!
//! Bins begin at multiples of their width since the agent began, so that those of all its links stand side by side. Memory is taken
//! piece by piece as time goes by, at most 64 KiB a link; the oldest goes first. A long history is the backend's.

use std::collections::VecDeque;
use std::time::Duration;

/// Ten seconds each, six hours of them.
pub const FINE: Resolution = Resolution { width: Duration::from_secs(10), bins: 2160 };
/// Two minutes each, forty-eight hours of them.
pub const COARSE: Resolution = Resolution { width: Duration::from_secs(120), bins: 1440 };
/// Twenty samples a second is the most that any link has; what is more in a bin is counted and is no part of its quantiles.
const SAMPLES_AT_MOST: usize = 2400;
const PIECE: usize = 60;

/// How wide bins are and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Of one bin.
    pub width: Duration,
    /// How many.
    pub bins: usize,
}

impl Resolution {
    fn bin(self, at: Duration) -> u64 {
        u64::try_from(at.as_nanos() / self.width.as_nanos().max(1)).unwrap_or(u64::MAX)
    }
}

/// One bin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// When it began, since the agent did.
    pub begin: Duration,
    /// Fastest, median, 95th percentile and slowest of the replies, each within 0.02 %; `None` where there is none.
    pub rtt: Option<[Duration; 4]>,
    /// Judged outcomes; more than 65,535 are shown as so many.
    pub judged: u32,
    /// Those of them without a reply.
    pub lost: u32,
}

/// A bin in twelve bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Packed {
    rtt: [u16; 4],
    judged: u16,
    lost: u16,
}

impl Packed {
    fn bin(self, begin: Duration) -> Bin {
        let [min, ..] = self.rtt;
        Bin {
            begin,
            rtt: (min != 0).then(|| self.rtt.map(unpack)),
            judged: self.judged.into(),
            lost: self.lost.into(),
        }
    }
}

/// Steps to an octave: 2^36 ns, a minute, is the most.
const STEPS: f64 = 1820.0;

/// The logarithm of a duration in 16 bits; never zero.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1 … 65,535")]
fn pack(ns: u32) -> u16 {
    (f64::from(ns.max(1)).log2() * STEPS).round().clamp(1.0, 65_535.0) as u16
}

fn unpack(packed: u16) -> Duration {
    Duration::from_secs_f64((f64::from(packed) / STEPS).exp2() / 1e9)
}

/// The bins of one resolution.
#[derive(Debug, Clone)]
struct Track {
    resolution: Resolution,
    /// Full pieces but for the last, oldest first.
    pieces: VecDeque<Vec<Packed>>,
    /// The number of the first bin that is kept.
    first: u64,
    /// The bin that is being filled, once there is one.
    open: Option<u64>,
    rtt_ns: Vec<u32>,
    judged: u32,
    lost: u32,
}

impl Track {
    fn new(resolution: Resolution) -> Self {
        Self {
            resolution,
            pieces: VecDeque::new(),
            first: 0,
            open: None,
            rtt_ns: Vec::new(),
            judged: 0,
            lost: 0,
        }
    }

    fn record(&mut self, rtt: Option<Duration>, at: Duration) {
        let bin = self.resolution.bin(at);
        if self.open.is_some_and(|open| open < bin) {
            self.close(bin);
        }
        self.open.get_or_insert(bin);
        self.judged += 1;
        match rtt {
            Some(rtt) if self.rtt_ns.len() < SAMPLES_AT_MOST => {
                self.rtt_ns.push(u32::try_from(rtt.as_nanos()).unwrap_or(u32::MAX));
            }
            Some(_) => {}
            None => self.lost += 1,
        }
    }

    /// Keeps the open bin, and an empty one for each that nothing was in until `next`.
    fn close(&mut self, next: u64) {
        let Some(open) = self.open.take() else { return };
        let packed = self.packed();
        (self.judged, self.lost) = (0, 0);
        self.rtt_ns.clear();
        if self.kept() == 0 {
            self.first = open;
        }
        self.push(packed);
        let gap = usize::try_from(next - open - 1).unwrap_or(usize::MAX);
        if gap >= self.resolution.bins {
            self.pieces.clear();
        } else {
            (0..gap).for_each(|_| self.push(Packed::default()));
        }
    }

    fn packed(&mut self) -> Packed {
        let short = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        self.rtt_ns.sort_unstable();
        let sorted = &self.rtt_ns;
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1));
        let rtt = match (sorted.first(), at(50), at(95), sorted.last()) {
            (Some(min), Some(p50), Some(p95), Some(max)) => [*min, *p50, *p95, *max].map(pack),
            _ => [0; 4],
        };
        Packed { rtt, judged: short(self.judged), lost: short(self.lost) }
    }

    fn push(&mut self, packed: Packed) {
        match self.pieces.back_mut().filter(|piece| piece.len() < PIECE) {
            Some(piece) => piece.push(packed),
            None => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(packed);
                self.pieces.push_back(piece);
            }
        }
        // A piece goes as a whole, so there are up to a piece more than asked for.
        if self.kept() >= self.resolution.bins + PIECE && self.pieces.pop_front().is_some() {
            self.first += PIECE as u64;
        }
    }

    fn kept(&self) -> usize {
        self.pieces.back().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    /// Those that ended after `since`, oldest first, without the one that is being filled.
    fn bins(&self, since: Duration) -> impl Iterator<Item = Bin> {
        let from = self.resolution.bin(since).saturating_sub(self.first);
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        let width = self.resolution.width;
        let begin = move |number: u64| width * u32::try_from(number).unwrap_or(u32::MAX);
        (self.first..).zip(self.pieces.iter().flatten()).skip(skip).map(move |(n, one)| one.bin(begin(n)))
    }

    fn heap_bytes(&self) -> usize {
        self.pieces.capacity() * size_of::<Vec<Packed>>()
            + self.pieces.len() * PIECE * size_of::<Packed>()
            + self.rtt_ns.capacity() * size_of::<u32>()
    }
}

/// Both resolutions of one link.
#[derive(Debug, Clone)]
pub struct History {
    fine: Track,
    coarse: Track,
}

impl Default for History {
    fn default() -> Self {
        Self { fine: Track::new(FINE), coarse: Track::new(COARSE) }
    }
}

impl History {
    /// Takes in a judged outcome: how long it took, or that there was no reply; `at` since the agent began.
    pub fn record(&mut self, rtt: Option<Duration>, at: Duration) {
        self.fine.record(rtt, at);
        self.coarse.record(rtt, at);
    }

    /// The bins of ten seconds that ended after `since`, oldest first.
    pub fn fine(&self, since: Duration) -> impl Iterator<Item = Bin> {
        self.fine.bins(since)
    }

    /// Those of two minutes.
    pub fn coarse(&self, since: Duration) -> impl Iterator<Item = Bin> {
        self.coarse.bins(since)
    }

    /// What it takes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.fine.heap_bytes() + self.coarse.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn near(seen: Duration, told: Duration) -> bool {
        (seen.as_secs_f64() / told.as_secs_f64() - 1.0).abs() < 2e-4
    }

    #[test]
    fn a_bin_has_the_quantiles_of_its_own_samples_and_their_losses() {
        let mut history = History::default();
        for i in 0..10 {
            history.record((i != 3).then(|| ms(i + 1)), ms(20_000 + i * 1000));
        }
        assert_eq!(history.fine(Duration::ZERO).count(), 0, "it is being filled");
        history.record(Some(ms(1)), ms(30_000));
        let bins: Vec<_> = history.fine(Duration::ZERO).collect();
        assert_eq!(bins.len(), 1);
        assert_eq!((bins[0].begin, bins[0].judged, bins[0].lost), (ms(20_000), 10, 1));
        let rtt = bins[0].rtt.unwrap();
        assert!(rtt.into_iter().zip([1, 6, 10, 10]).all(|(seen, told)| near(seen, ms(told))), "{rtt:?}");
        assert_eq!(history.coarse(Duration::ZERO).count(), 0);
    }

    #[test]
    fn a_gap_is_empty_and_a_long_one_forgets_all() {
        let mut history = History::default();
        history.record(Some(ms(5)), ms(0));
        history.record(None, ms(45_000));
        history.record(None, ms(55_000));
        let rtt: Vec<_> =
            history.fine(Duration::ZERO).map(|bin| (bin.begin, bin.rtt.is_some(), bin.judged)).collect();
        let expected = [(0, true, 1), (10, false, 0), (20, false, 0), (30, false, 0), (40, false, 1)];
        assert_eq!(rtt, expected.map(|(s, some, judged)| (Duration::from_secs(s), some, judged)));
        assert_eq!(history.fine(ms(30_000)).next().unwrap().begin, ms(30_000));
        history.record(Some(ms(1)), Duration::from_secs(100_000));
        history.record(Some(ms(1)), Duration::from_secs(100_010));
        let begins: Vec<_> = history.fine(Duration::ZERO).map(|bin| bin.begin.as_secs()).collect();
        assert_eq!(begins, [100_000]);
        assert!(history.coarse(Duration::ZERO).count() > 800, "the coarse one reaches back for longer");
    }

    #[test]
    fn two_days_at_twenty_a_second_take_at_most_64_kib_and_the_oldest_goes_first() {
        let mut history = History::default();
        assert_eq!(history.heap_bytes(), 0, "what is not used is not taken");
        let two_days = 48 * 3600;
        for second in 0..two_days + 4000 {
            (0..20).for_each(|i| history.record(Some(ms(3)), ms(second * 1000 + i * 50)));
        }
        let bytes = history.heap_bytes() + size_of::<History>();
        assert!(bytes <= 64 * 1024, "{bytes} bytes");
        for (first, count, resolution) in [
            (history.fine(Duration::ZERO).next().unwrap().begin, history.fine(Duration::ZERO).count(), FINE),
            (
                history.coarse(Duration::ZERO).next().unwrap().begin,
                history.coarse(Duration::ZERO).count(),
                COARSE,
            ),
        ] {
            assert!((resolution.bins..=resolution.bins + PIECE).contains(&count), "{count}");
            let reach = Duration::from_secs(two_days + 4000) - first;
            assert!(reach >= resolution.width * u32::try_from(resolution.bins).unwrap(), "{reach:?}");
        }
    }

    #[test]
    fn every_duration_is_kept_within_two_hundredths_of_a_percent() {
        for ns in [1000, 75_432, 300_001, 9_999_999, 10_000_001, 1_999_999_999, u32::MAX] {
            assert!(near(unpack(pack(ns)), Duration::from_nanos(ns.into())), "{ns}");
        }
    }
}
