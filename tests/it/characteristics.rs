//! What the one-shot test does to paths of a known quality, exactly and by simulation. The figures of docs/verdict.md are
//! these; `UPDATE_DOCS=1 cargo test --test it characteristics` writes them anew.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use probe::mesh::sequential::{Bets, Dependence};
use probe::mesh::series::Series;
use probe::mesh::verdict::{Progress, Rule, Verdict, judge};
use probe::mesh::window::Window;
use probes::sample::Timing;

const ALPHA: f64 = 0.05;
const SLOTS_A_SECOND: u32 = 10;
const LEAST_SLOTS: u32 = 120;
const LEAST_CLEAN: u32 = 100;
const MOST_SLOTS: u32 = 600;
const HOPELESS_SLOTS: u32 = 30;

/// SplitMix64: the same story in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// P(pass), P(fail) and the mean number of slots of the bare test on independent slots, by dynamic programming over all
/// (n, k) up to `cap`.
fn exact(quantile: f64, p: f64, cap: u32) -> (f64, f64, f64) {
    let bets = Bets::on(quantile);
    let needed = -ALPHA.ln();
    let (mut alive, mut passed, mut failed, mut mean) = (vec![1.0], 0.0, 0.0, 0.0);
    for n in 1..=cap {
        let mut next = vec![0.0; alive.len() + 1];
        for (k, mass) in alive.iter().enumerate() {
            next[k] += mass * (1.0 - p);
            next[k + 1] += mass * p;
        }
        for (k, mass) in next.iter_mut().enumerate().filter(|(_, mass)| **mass > 1e-15) {
            let (nf, kf) = (f64::from(n), k as f64);
            let ended = if bets.ln_pass(nf, kf) >= needed {
                &mut passed
            } else if bets.ln_fail(nf, kf) >= needed {
                &mut failed
            } else {
                continue;
            };
            *ended += *mass;
            mean += *mass * nf;
            *mass = 0.0;
        }
        alive = next;
    }
    mean += alive.iter().sum::<f64>() * f64::from(cap);
    (passed, failed, mean)
}

#[test]
fn the_exact_errors_at_the_border_are_those_of_the_specification() {
    let _busy = crate::house::busy();
    let near = |seen: f64, told: f64| assert!((seen - told).abs() < 5e-5, "{seen} instead of {told}");
    let (passed, failed, _) = exact(0.95, 0.05, 2000);
    near(passed, 0.0488);
    near(failed, 0.0305);
    let (passed, failed, _) = exact(0.5, 0.5, 2000);
    near(passed, 0.0426);
    near(failed, 0.0426);
    let (passed, _, mean) = exact(0.95, 0.01, 2000);
    near(passed, 0.9997);
    assert!((mean - 132.0).abs() < 0.5, "{mean}");
    let (_, failed, mean) = exact(0.95, 0.10, 2000);
    near(failed, 0.9994);
    assert!((mean - 200.0).abs() < 0.5, "{mean}");
}

#[derive(Default)]
struct Outcome {
    passed: u32,
    failed: u32,
    slots: u64,
    runs: u32,
}

impl Outcome {
    fn share(&self, count: u32) -> f64 {
        f64::from(count) / f64::from(self.runs)
    }
}

/// Whole checks as `probe check` runs them: at least 12 s and 100 samples, at most 60 s, the fail beyond doubt after
/// 3 s, and n and k divided by the design effect unless `raw`. Exceedances have the share `p` and the lag-1
/// correlation `rho`.
fn simulate(p: f64, rho: f64, runs: u32, raw: bool) -> Outcome {
    let bets = Bets::on(0.95);
    let needed = -ALPHA.ln();
    let mut dice = Dice(p.to_bits() ^ rho.to_bits().rotate_left(17));
    let mut outcome = Outcome { runs, ..Outcome::default() };
    for _ in 0..runs {
        let (mut dependence, mut k, mut last) = (Dependence::default(), 0_u32, dice.roll() < p);
        for n in 1..=MOST_SLOTS {
            // A two-state chain: stay with probability rho, else draw anew.
            let exceeds = if dice.roll() < rho { last } else { dice.roll() < p };
            last = exceeds;
            dependence.push(exceeds);
            k += u32::from(exceeds);
            outcome.slots += 1;
            if k == n && n >= HOPELESS_SLOTS {
                outcome.failed += 1;
                break;
            }
            if n < LEAST_SLOTS.max(LEAST_CLEAN) {
                continue;
            }
            let worth = if raw { 1.0 } else { 1.0 / dependence.design_effect() };
            let (nf, kf) = (f64::from(n) * worth, f64::from(k) * worth);
            if bets.ln_pass(nf, kf) >= needed {
                outcome.passed += 1;
                break;
            }
            if bets.ln_fail(nf, kf) >= needed {
                outcome.failed += 1;
                break;
            }
        }
    }
    outcome
}

/// The same checks by the product's own judge, sample by sample.
fn judged(p: f64, rho: f64, runs: u32) -> Outcome {
    let budget = Duration::from_millis(10);
    let (least, most) = (Duration::from_secs(12), Duration::from_secs(60));
    let rule = Rule { quantile: 0.95, alpha: ALPHA, targets: 1, least, most };
    let mut dice = Dice(p.to_bits() ^ rho.to_bits().rotate_left(17));
    let mut outcome = Outcome { runs, ..Outcome::default() };
    for _ in 0..runs {
        let mut series = Series::new(Window::new(budget, 1000));
        let mut last = dice.roll() < p;
        for n in 1..=MOST_SLOTS {
            last = if dice.roll() < rho { last } else { dice.roll() < p };
            let rtt = Duration::from_millis(if last { 20 } else { 1 });
            let elapsed = Duration::from_millis(100) * n;
            series.window.record(&Timing { rtt, ..Timing::default() }.into(), elapsed);
            outcome.slots += 1;
            let judgement =
                judge(&series, Some(budget), &rule, Progress { elapsed, overdue: 0, ended: false });
            outcome.passed += u32::from(judgement.verdict == Verdict::Pass);
            outcome.failed += u32::from(judgement.verdict == Verdict::Fail);
            if judgement.settled {
                break;
            }
        }
    }
    outcome
}

#[test]
fn the_simulated_check_is_the_one_that_the_product_runs() {
    let _busy = crate::house::busy();
    for (p, rho) in [(0.01, 0.0), (0.12, 0.0), (0.15, 0.6), (1.0, 0.0)] {
        let (real, model) = (judged(p, rho, 12), simulate(p, rho, 12, false));
        assert_eq!(
            (real.passed, real.failed, real.slots),
            (model.passed, model.failed, model.slots),
            "p={p} rho={rho}"
        );
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[test]
fn the_test_errs_as_rarely_as_it_promises_and_the_docs_say_how_rarely() {
    let _busy = crate::house::busy();
    let mut text = String::new();
    let out = &mut text;
    writeln!(out, "### The bare test, exactly").unwrap();
    writeln!(out, "Independent slots, α = 5 %, by dynamic programming; at most 2000 slots (p99: 4000).\n")
        .unwrap();
    writeln!(out, "| quantile | true share over the budget | pass | fail | mean slots |").unwrap();
    writeln!(out, "|---|---|---|---|---|").unwrap();
    for (quantile, cap, shares) in [
        (0.95, 2000, &[0.0, 0.01, 0.025, 0.05, 0.075, 0.10, 0.20][..]),
        (0.5, 2000, &[0.2, 0.4, 0.5, 0.6]),
        (0.99, 4000, &[0.002, 0.01, 0.02]),
    ] {
        for p in shares {
            let (passed, failed, mean) = exact(quantile, *p, cap);
            if (1.0 - quantile - p).abs() < 1e-9 {
                assert!(passed <= ALPHA && failed <= ALPHA, "p{quantile} at its border: {passed} {failed}");
            }
            let name = quantile * 100.0;
            let share = percent(*p);
            writeln!(out, "| p{name:.0} | {share} | {} | {} | {mean:.0} |", percent(passed), percent(failed))
                .unwrap();
        }
    }
    writeln!(out, "\n### Whole checks, simulated").unwrap();
    writeln!(out, "p95, one target, 10 slots a second, all rules in force; 20 000 checks at the border, 2000 elsewhere.\n")
        .unwrap();
    writeln!(out, "| true share over the budget | pass | fail | cannot tell | mean time |").unwrap();
    writeln!(out, "|---|---|---|---|---|").unwrap();
    for p in [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.5, 1.0] {
        let border = p == 0.05;
        let seen = simulate(p, 0.0, if border { 20_000 } else { 2000 }, false);
        let (passed, failed) = (seen.share(seen.passed), seen.share(seen.failed));
        if p >= 0.05 {
            assert!(passed <= ALPHA, "false pass at {p}: {passed}");
        }
        if p <= 0.05 {
            assert!(failed <= ALPHA, "false fail at {p}: {failed}");
        }
        let seconds = seen.slots as f64 / f64::from(seen.runs) / f64::from(SLOTS_A_SECOND);
        let unknown = percent(1.0 - passed - failed);
        let share = percent(p);
        writeln!(out, "| {share} | {} | {} | {unknown} | {seconds:.0} s |", percent(passed), percent(failed))
            .unwrap();
    }
    writeln!(out, "\n### When slow slots come in bursts").unwrap();
    writeln!(out, "True share 5 % (a pass is an error), 2000 checks each. ρ is the correlation of one slot with the next.\n")
        .unwrap();
    writeln!(out, "| ρ | false pass | without the design effect |").unwrap();
    writeln!(out, "|---|---|---|").unwrap();
    for rho in [0.0, 0.3, 0.6, 0.8] {
        let share = |raw| {
            let seen = simulate(0.05, rho, 2000, raw);
            seen.share(seen.passed)
        };
        let (corrected, raw) = (share(false), share(true));
        assert!(corrected <= raw, "the correction does not harm: {corrected} {raw}");
        assert!(rho < 0.5 || corrected < 0.7 * raw, "and at {rho} it helps: {corrected} {raw}");
        writeln!(out, "| {rho} | {} | {} |", percent(corrected), percent(raw)).unwrap();
    }

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/verdict.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once("<!-- figures -->\n").unwrap();
    let (written, after) = rest.split_once("<!-- end of figures -->\n").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let new = format!("{before}<!-- figures -->\n{text}<!-- end of figures -->\n{after}");
        std::fs::write(&path, new).unwrap();
        return;
    }
    assert_eq!(
        written, text,
        "docs/verdict.md is not up to date: UPDATE_DOCS=1 cargo test --test it characteristics"
    );
}
