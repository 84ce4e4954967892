//! Why a link stands as it does, in figures.

use std::time::Duration;

use super::{SHORT, State, Watch};
use crate::mesh::cause::{self, Finding, Reason, ms};

/// A change of route explains a breach for as long as the long window remembers.
const ROUTE_EXPLAINS_FOR: Duration = Duration::from_secs(600);

impl Watch {
    /// Why it stands as it does, with the evidence of this moment; never empty.
    pub fn findings(&self, now: Duration) -> Vec<Finding> {
        let all = self.series.window.all();
        let failure = || self.series.window.last_failure().map_or_else(String::new, ToString::to_string);
        let quantile = |quantile| all.judged_quantile(quantile).map_or_else(|| "lost".to_owned(), ms);
        let of = |evidence: String| vec![Finding::new(self.reason, evidence)];
        match (self.state, self.terms.limit) {
            (State::Breach, Some(budget)) => {
                let route = self.route.filter(|(at, _)| now.saturating_sub(*at) < ROUTE_EXPLAINS_FOR);
                let age = now.saturating_sub(self.born);
                let route = route.map(|(_, change)| change);
                cause::of(&self.series, budget, 1.0 - self.terms.quantile, route, age)
            }
            (State::Unreachable, _) => {
                let row = all.failures_in_a_row();
                let mut findings =
                    of(format!("no reply to the last {row} of {}: {}", all.slots(), failure()));
                if let Some(connect) = self.series.connect(now.saturating_sub(self.born)) {
                    let evidence = format!("the port still accepts connections, in {}", ms(connect));
                    findings.push(Finding::new(Reason::ServerOrProxy, evidence));
                }
                findings
            }
            (State::Left, _) => of(failure()),
            (State::Stale, _) if matches!(self.reason, Reason::NoReply(_)) => of(failure()),
            (State::Stale, _) => {
                let short = self.series.window.last(SHORT);
                let silent = now.saturating_sub(self.last_outcome.unwrap_or(self.born));
                if silent >= self.stale_after() {
                    return of(format!("no outcome for {} s", silent.as_secs()));
                }
                if self.reason == Reason::Server {
                    return of(format!(
                        "{} of the last {} slots were spoilt: the other agent waited for a CPU",
                        short.spoilt_by_peer(),
                        short.slots()
                    ));
                }
                of(format!(
                    "this agent itself skipped {} and spoilt {} of the last {} slots",
                    short.skipped(),
                    short.spoilt() - short.skipped(),
                    short.slots()
                ))
            }
            (State::AtRisk, _) if self.reason == Reason::Server => {
                let hold = all.hold().quantile(0.5).map_or_else(|| "–".to_owned(), ms);
                of(format!(
                    "the peer's agent holds half of the echoes for {hold} or longer: it gets too little CPU"
                ))
            }
            (State::AtRisk, _) if self.reason == Reason::Recovering => {
                of(format!("answers again; {} outcomes since", all.judged()))
            }
            (State::Unknown, _) if matches!(self.reason, Reason::NoReply(_)) => of(failure()),
            _ => of(format!(
                "p50 {}, p95 {}, p99 {}; {} of {} over the budget",
                quantile(0.5),
                quantile(0.95),
                quantile(0.99),
                all.exceeded(),
                all.judged()
            )),
        }
    }
}
