//! Whatever comes, goes and fails: what arrives adds up to what there was.

use proptest::prelude::*;

use super::*;

/// What a receiver makes of deltas: by series, everything added up.
#[derive(Debug, Default, PartialEq)]
struct Added {
    asked: u64,
    buckets: Vec<u64>,
    exponential: u64,
    ended: u64,
}

proptest! {
    #[test]
    fn the_deltas_that_arrive_add_up_to_what_there_was(
        steps in prop::collection::vec((0_usize..3, 1_u64..100_000_000, 0_u8..5, any::<bool>()), 1..60),
    ) {
        for buckets in [Buckets::Explicit, Buckets::Exponential] {
            let mut ledger = Ledger::new(Temporality::Delta, buckets);
            let mut alive: BTreeMap<usize, Series> = BTreeMap::new();
            let mut hidden = [false; 3];
            // What each series had when somebody looked last; who was never looked at is nobody's loss.
            let mut seen: BTreeMap<(String, Duration), Series> = BTreeMap::new();
            let mut received: BTreeMap<String, Added> = BTreeMap::new();
            let last = steps.len();
            for (step, (which, micros, action, arrives)) in steps.iter().enumerate() {
                let now = S(1 + step as u64);
                match action {
                    0 => drop(alive.remove(which)),
                    // Out of sight for a while, and not gone.
                    1 => hidden[*which] ^= true,
                    _ => alive.entry(*which).or_insert_with(|| Series::new(&format!("s{which}"), now)).ask(*micros),
                }
                let shown = alive.iter().filter(|(which, _)| !hidden[**which]);
                let series: Vec<_> = shown.map(|(_, one)| one.clone()).collect();
                for one in &series {
                    seen.insert((one.name.to_string(), one.born), one.clone());
                }
                let message = ledger.write(&snapshot(&series, now), Resource::default());
                if !arrives && step + 1 < last {
                    continue;
                }
                ledger.accepted();
                if metrics(&message).is_empty() {
                    continue;
                }
                for point in sums(&message, &instruments::JUDGED).1 {
                    let added = received.entry(called(&point.attributes)[0].1.clone()).or_default();
                    added.asked += whole(&point);
                    prop_assert!(point.start_time_unix_nano >= added.ended, "stretches overlap");
                    prop_assert!(point.start_time_unix_nano <= point.time_unix_nano);
                    added.ended = point.time_unix_nano;
                }
                match buckets {
                    Buckets::Explicit => for point in edged(&message) {
                        let added = received.entry(called(&point.attributes)[0].1.clone()).or_default();
                        added.buckets.resize(point.bucket_counts.len(), 0);
                        added.buckets.iter_mut().zip(&point.bucket_counts).for_each(|(all, more)| *all += more);
                    },
                    Buckets::Exponential => for point in exponential(&message) {
                        let added = received.entry(called(&point.attributes)[0].1.clone()).or_default();
                        added.exponential += point.count;
                        prop_assert!(point.positive.unwrap().bucket_counts.len() <= crate::mesh::exponential::BUCKETS_AT_MOST);
                    },
                }
            }
            let mut expected: BTreeMap<String, Added> = BTreeMap::new();
            for ((name, _), one) in &seen {
                let added = expected.entry(name.clone()).or_default();
                added.asked += one.asked;
                match buckets {
                    Buckets::Explicit => {
                        added.buckets.resize(one.histogram.counts().len(), 0);
                        added.buckets.iter_mut().zip(one.histogram.counts()).for_each(|(all, more)| *all += more);
                    }
                    Buckets::Exponential => added.exponential += one.exponential.count(),
                }
            }
            received.values_mut().for_each(|added| added.ended = 0);
            prop_assert_eq!(received, expected);
        }
    }
}
