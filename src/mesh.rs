//! The mind: it knows what is measured and judges it. Pure: told the time, never waiting, never failing.
//!
//! Samples come in, a [`report::Report`] goes out, and nothing in between reads a clock, opens a socket or draws a
//! random number, so that every verdict can be replayed from its samples.
//!
//! * [`peer`] – the nouns: who is measured and in which role;
//! * [`schedule`] – when to send: an open loop, fixed before the first answer;
//! * [`window`] – what the samples of one target amount to;
//! * [`binomial`] – the exact distribution behind the verdict;
//! * [`verdict`] – pass, fail or inconclusive, and why;
//! * [`report`] – all of it as data; the only thing that exporters see.
//!
//! **The rule.** The budget asks that a quantile (p95 by default) of the round trip stays below 10 ms. A slot whose
//! reply takes the budget or longer, or never comes, is an exceedance. With k exceedances in n slots, *pass* is said
//! when even the upper Clopper–Pearson bound of the true share of exceedances is within 1 − q, *fail* when even the
//! lower bound is beyond it, and *inconclusive* otherwise. So both errors are at most 5 % for independent slots; no
//! guess is ever passed off as a verdict.

pub mod binomial;
pub mod peer;
pub mod report;
pub mod schedule;
pub mod verdict;
pub mod window;
