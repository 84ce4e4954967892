//! What the mind costs: to take in one outcome, and to judge one link.
//!
//! `cargo bench --bench window`. The targets are 200 ns and 20 µs; since machines differ and are shared, the bench fails
//! only at ten times that, and prints what it saw.

use std::io::Write;
use std::time::Duration;

use probe::mesh::budget::Budgets;
use probe::mesh::peer::{Link, Role};
use probe::mesh::series::Series;
use probe::mesh::state::{Graces, Terms, Watch};
use probe::mesh::verdict::{Progress, Rule, judge};
use probe::mesh::window::Window;
use probes::sample::{Sample, Timing};
use probes::stopwatch::Stopwatch;
use probes::target::Kind;

const ROUNDS: u32 = 41;

fn sample(i: u64) -> Sample {
    let slow = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 100 < 3;
    let rtt = Duration::from_micros(if slow { 14_000 } else { 400 + i * 7919 % 300 });
    Timing { rtt, server: Some(Duration::from_micros(40)), ..Timing::default() }.into()
}

/// The median over rounds of what one of `count` pieces of work takes, in nanoseconds.
fn median_ns(count: u64, mut work: impl FnMut(u64)) -> f64 {
    let mut rounds: Vec<f64> = (0..u64::from(ROUNDS))
        .map(|round| {
            let watch = Stopwatch::start();
            (0..count).for_each(|i| work(round * count + i));
            watch.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    let budget = Duration::from_millis(10);
    let mut window = Window::continuous(budget);
    let samples: Vec<Sample> = (0..1000).map(sample).collect();
    let of = |i: u64| &samples[usize::try_from(i % 1000).unwrap_or(0)];
    let record = median_ns(10_000, |i| window.record(of(i), Duration::from_millis(i)));

    let link = Link::to("bench", Kind::Peer, Some(Role::Coderd));
    let budgets = Budgets::default();
    let terms = Terms {
        limit: budgets.other,
        quantile: budgets.quantile,
        interval: Duration::from_secs(1),
        connects: true,
        graces: Graces::default(),
    };
    let mut watch = Watch::new(link, terms, Duration::ZERO);
    let mut state = median_ns(300, |i| drop(watch.outcome(i, of(i), Duration::from_secs(i))));
    // Once more with the windows full.
    state = state.max(median_ns(300, |i| drop(watch.outcome(i, of(i), Duration::from_secs(100_000 + i)))));

    let mut series = Series::new(Window::new(budget, 600));
    samples[..600].iter().for_each(|sample| series.window.record(sample, Duration::ZERO));
    let (least, most) = (Duration::from_secs(12), Duration::from_secs(60));
    let rule = Rule { quantile: 0.95, alpha: 0.05, targets: 12, least, most };
    let progress = Progress { elapsed: least, overdue: 0, ended: false };
    let one_shot = median_ns(200, |_| {
        std::hint::black_box(judge(&series, Some(budget), &rule, progress));
    });

    let table = format!(
        "| work | median | target |\n|---|---|---|\n\
         | take one outcome into a window | {record:.0} ns | 200 ns |\n\
         | take one outcome in and judge the link, continuously | {:.1} µs | 20 µs |\n\
         | judge a one-shot look at 600 outcomes | {:.1} µs | – |\n",
        state / 1000.0,
        one_shot / 1000.0
    );
    // A reader that went away is nobody's fault.
    let _ = std::io::stdout().write_all(table.as_bytes());
    assert!(record < 2000.0 && state < 200_000.0, "ten times over the target: something is wrong");
}
