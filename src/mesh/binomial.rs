//! The binomial distribution, exactly: how likely k exceedances in n slots are when their true share is p.
//!
//! The Clopper–Pearson interval and the order-statistic test of a quantile are the same thing seen from two sides;
//! both come down to these sums. n is a few thousand at most, so the terms are added up one by one, from the largest
//! of the tail in logarithms, instead of through an incomplete beta function.

/// P(X ≤ k) for X ~ Binomial(n, p).
pub fn at_most(k: u32, n: u32, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    sum(0, k, n, p)
}

/// P(X ≥ k) for X ~ Binomial(n, p).
pub fn at_least(k: u32, n: u32, p: f64) -> f64 {
    if k == 0 || p >= 1.0 {
        return 1.0;
    }
    if k > n || p <= 0.0 {
        return 0.0;
    }
    sum(k, n, n, p)
}

/// The upper Clopper–Pearson bound: the largest true share under which k or fewer of n have probability `alpha`.
pub fn upper_bound(k: u32, n: u32, alpha: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    bisect(|p| at_most(k, n, p) > alpha)
}

/// The lower Clopper–Pearson bound: the smallest true share under which k or more of n have probability `alpha`.
pub fn lower_bound(k: u32, n: u32, alpha: f64) -> f64 {
    if k == 0 {
        return 0.0;
    }
    bisect(|p| at_least(k, n, p) < alpha)
}

/// The fewest slots that can pass at all: with no exceedance among them, the upper bound is within 1 − quantile.
pub fn fewest_to_pass(quantile: f64, alpha: f64) -> u32 {
    whole((alpha.ln() / quantile.ln()).ceil()).max(1)
}

/// The ranks (from 1) between which the quantile of n values lies, with at most `alpha` beyond each: the largest rank
/// that is below it with that confidence, and the smallest that is above; `None` where no rank is.
pub fn ranks(n: u32, quantile: f64, alpha: f64) -> (Option<u32>, Option<u32>) {
    // P(X ≤ rank − 1) with X ~ Binomial(n, q) rises with the rank, so both edges are found by halving.
    let below = |rank: u32| at_most(rank - 1, n, quantile);
    let first = |wanted: &dyn Fn(u32) -> bool| {
        let (mut low, mut high) = (1, n + 1);
        while low < high {
            let middle = low.midpoint(high);
            if wanted(middle) { high = middle } else { low = middle + 1 }
        }
        low
    };
    let low = first(&|rank| rank > n || below(rank) > alpha) - 1;
    let high = first(&|rank| rank > n || below(rank) >= 1.0 - alpha);
    ((low > 0).then_some(low), (high <= n && n > 0).then_some(high))
}

/// A whole number from a non-negative float; what does not fit becomes the nearest bound, and NaN 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is meant"
)]
pub(super) fn whole(value: f64) -> u32 {
    value as u32
}

/// Σ over i in from..=to of C(n,i)·p^i·(1−p)^(n−i).
fn sum(from: u32, to: u32, n: u32, p: f64) -> f64 {
    let (ln_p, ln_q) = (p.ln(), (-p).ln_1p());
    let mut ln_choose = ln_choose(n, from);
    let mut total = 0.0;
    for i in from..=to {
        let term = (ln_choose + f64::from(i) * ln_p + f64::from(n - i) * ln_q).exp();
        total += term;
        if f64::from(i) > f64::from(n) * p && term < total * 1e-18 {
            // Beyond the mode the terms only get smaller.
            break;
        }
        ln_choose += (f64::from(n - i) / f64::from(i + 1)).ln();
    }
    f64::min(total, 1.0)
}

fn ln_choose(n: u32, k: u32) -> f64 {
    (0..k.min(n - k)).map(|i| (f64::from(n - i) / f64::from(i + 1)).ln()).sum()
}

/// The point in 0..1 where `below` turns false, to within 1e-12.
fn bisect(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while high - low > 1e-12 {
        let middle = f64::midpoint(low, high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-7, "{a} is not {b}");
    }

    #[test]
    fn the_bounds_are_those_of_the_incomplete_beta_function() {
        close(upper_bound(0, 60, 0.05), 0.048_702_9);
        close(upper_bound(3, 200, 0.05), 0.038_309_7);
        close(lower_bound(17, 200, 0.05), 0.054_883_3);
        close(upper_bound(5, 5, 0.05), 1.0);
        close(lower_bound(0, 5, 0.05), 0.0);
    }

    #[test]
    fn the_tails_add_up() {
        for (n, p) in [(1, 0.3), (60, 0.05), (300, 0.5), (3000, 0.05), (3000, 0.999)] {
            for k in [0, 1, n / 3, n / 2, n - 1] {
                close(at_most(k, n, p) + at_least(k + 1, n, p), 1.0);
            }
        }
    }

    #[test]
    fn the_ranks_around_a_quantile_are_those_of_the_table() {
        for (n, quantile, low, high) in [
            (20, 0.5, 6, Some(15)),
            (100, 0.5, 40, Some(61)),
            (100, 0.95, 90, Some(100)),
            (300, 0.95, 277, Some(293)),
            (300, 0.99, 293, None),
            (1000, 0.95, 936, Some(964)),
            (3000, 0.99, 2959, Some(2981)),
        ] {
            assert_eq!(ranks(n, quantile, 0.025), (Some(low), high), "n={n} q={quantile}");
        }
        assert_eq!(ranks(300, 0.99, 0.05).1, Some(300), "one-sided");
        assert_eq!(ranks(0, 0.5, 0.025), (None, None));
    }

    #[test]
    fn the_fewest_slots_that_can_pass_are_known() {
        for (quantile, alpha, fewest) in
            [(0.95, 0.05, 59), (0.95, 0.01, 90), (0.99, 0.05, 299), (0.99, 0.01, 459), (0.5, 0.05, 5)]
        {
            assert_eq!(fewest_to_pass(quantile, alpha), fewest, "p{quantile}");
            assert!(at_most(0, fewest, 1.0 - quantile) <= alpha);
            assert!(at_most(0, fewest - 1, 1.0 - quantile) > alpha);
        }
    }
}
