//! The sequential test of a bounded look: it may be asked after every sample, and stop whenever it has an answer.
//!
//! For the claim «the quantile q is below the budget» the share of exceedances p is held against p₀ = 1 − q. Two bets
//! run side by side, each a mixture of likelihood ratios over a small grid:
//!
//! ```text
//! E_pass(n,k) = Σ wᵢ (gᵢ/p₀)ᵏ ((1−gᵢ)/(1−p₀))ⁿ⁻ᵏ   gᵢ < p₀     pass when E_pass ≥ 1/α
//! E_fail(n,k) = the same with gᵢ > p₀                            fail when E_fail ≥ m/α
//! ```
//!
//! Under its null hypothesis each is a non-negative supermartingale that starts at 1, so by Ville's inequality it ever
//! reaches 1/α with a probability of α at most, however often one looks and whenever one stops. Any grid keeps that
//! promise; a good one only decides sooner.
//!
//! The promise is for independent slots. Slow spells come in bursts, so n and k are divided by a design effect
//! ([`Dependence`]), which halves the damage and does not remove it; a minimum wall time does the rest, and the report
//! says what it is blind to.

/// The bets on one quantile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bets {
    /// 1 − q: the share of exceedances that is allowed.
    pub allowed: f64,
    pass: [Stake; 4],
    fail: [Stake; 4],
}

/// One bet: what an exceedance and what a good slot add to its logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stake {
    exceeds: f64,
    good: f64,
}

impl Bets {
    /// The bets on this quantile. For p50, p95 and p99 the grids are tuned; for others they follow the same pattern.
    pub fn on(quantile: f64) -> Self {
        let allowed = 1.0 - quantile;
        let is = |other: f64| (quantile - other).abs() < 1e-9;
        let (pass, fail) = if is(0.95) {
            ([0.0005, 0.005, 0.015, 0.03], [0.08, 0.15, 0.35, 0.8])
        } else if is(0.99) {
            ([0.0001, 0.001, 0.003, 0.006], [0.016, 0.03, 0.1, 0.5])
        } else if is(0.5) {
            ([0.02, 0.15, 0.3, 0.4], [0.6, 0.7, 0.85, 0.98])
        } else {
            (
                [0.01, 0.1, 0.3, 0.6].map(|part| part * allowed),
                // Even steps between p₀ and 1 on the scale of logarithms.
                [0.85, 0.65, 0.4, 0.1].map(|power| allowed.powf(power)),
            )
        };
        let stake = |g: f64| Stake { exceeds: (g / allowed).ln(), good: ((1.0 - g) / (1.0 - allowed)).ln() };
        Self { allowed, pass: pass.map(stake), fail: fail.map(stake) }
    }

    /// ln E_pass for n slots with k exceedances; both may be fractions.
    pub fn ln_pass(&self, n: f64, k: f64) -> f64 {
        ln_mixture(&self.pass, n, k)
    }

    /// ln E_fail for n slots with k exceedances; both may be fractions.
    pub fn ln_fail(&self, n: f64, k: f64) -> f64 {
        ln_mixture(&self.fail, n, k)
    }

    /// The fewest slots without an exceedance that pass.
    pub fn fewest_to_pass(&self, alpha: f64) -> u32 {
        (1..100_000).find(|n| self.ln_pass(f64::from(*n), 0.0) >= -alpha.ln()).unwrap_or(u32::MAX)
    }
}

fn ln_mixture(stakes: &[Stake; 4], n: f64, k: f64) -> f64 {
    let terms = stakes.map(|stake| k * stake.exceeds + (n - k) * stake.good);
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + terms.iter().map(|term| (term - largest).exp()).sum::<f64>().ln() - 4_f64.ln()
}

/// How much the exceedances of a series hang together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dependence {
    n: u32,
    k: u32,
    after_one: u32,
    one_after_one: u32,
    last: bool,
}

impl Dependence {
    /// Of a series.
    pub fn of(exceedances: impl Iterator<Item = bool>) -> Self {
        let mut dependence = Self::default();
        exceedances.for_each(|exceeds| dependence.push(exceeds));
        dependence
    }

    /// Takes in the next slot.
    pub fn push(&mut self, exceeds: bool) {
        self.after_one += u32::from(self.last);
        self.one_after_one += u32::from(self.last && exceeds);
        self.n += 1;
        self.k += u32::from(exceeds);
        self.last = exceeds;
    }

    /// By how much the series is worth less than its number of slots says: (1+ρ̂)/(1−ρ̂), at least 1.
    ///
    /// ρ̂ is the correlation of one slot's exceedance with the next one's, plus one standard error, between 0 and 0.95;
    /// it is 0 with fewer than two exceedances, of which nothing can be said.
    pub fn design_effect(&self) -> f64 {
        if self.k < 2 || self.after_one == 0 {
            return 1.0;
        }
        let share = f64::from(self.k) / f64::from(self.n);
        let again = f64::from(self.one_after_one) / f64::from(self.after_one);
        let rho = if self.k == self.n {
            // Without a single good slot there is nothing to correlate; the worst is assumed.
            0.95
        } else {
            let error = (again * (1.0 - again) / f64::from(self.after_one)).sqrt();
            ((again - share + error) / (1.0 - share)).clamp(0.0, 0.95)
        };
        (1.0 + rho) / (1.0 - rho)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALPHA: f64 = 0.05;

    #[test]
    fn the_vectors_of_the_specification_hold() {
        let p95 = Bets::on(0.95);
        let (threshold, strict) = (-ALPHA.ln(), -0.01_f64.ln());
        assert!(p95.ln_pass(70.0, 0.0) < threshold && p95.ln_pass(71.0, 0.0) >= threshold);
        assert!(p95.ln_fail(1.0, 1.0) < threshold && p95.ln_fail(2.0, 2.0) >= threshold);
        assert_eq!(p95.fewest_to_pass(0.01), 106);
        assert!(p95.ln_fail(2.0, 2.0) < strict && p95.ln_fail(3.0, 3.0) >= strict);
        assert_eq!(Bets::on(0.99).fewest_to_pass(ALPHA), 362);
        assert_eq!(Bets::on(0.5).fewest_to_pass(ALPHA), 6);
    }

    #[test]
    fn no_quantile_passes_without_more_slots_than_the_fixed_test_needs() {
        for quantile in [0.5, 0.6, 0.75, 0.9, 0.95, 0.98, 0.99, 0.999] {
            let fewest = Bets::on(quantile).fewest_to_pass(ALPHA);
            let fixed = super::super::binomial::fewest_to_pass(quantile, ALPHA);
            assert!(fewest >= fixed && fewest <= fixed * 3 / 2, "p{quantile}: {fewest} against {fixed}");
        }
    }

    #[test]
    fn independent_slots_are_worth_about_themselves_and_bursts_much_less() {
        let spread = (0..600).map(|i| i % 20 == 0);
        assert!(Dependence::of(spread).design_effect() < 1.01);
        let bursts = (0..600).map(|i| i % 200 < 10);
        assert!(Dependence::of(bursts).design_effect() > 10.0);
        let effect = |series: &mut dyn Iterator<Item = bool>| Dependence::of(series).design_effect();
        assert!((effect(&mut (0..600).map(|i| i == 300)) - 1.0).abs() < 1e-12, "one alone says nothing");
        assert!((effect(&mut std::iter::empty()) - 1.0).abs() < 1e-12);
        assert!((effect(&mut (0..100).map(|_| true)) - 39.0).abs() < 1e-9);
    }
}
