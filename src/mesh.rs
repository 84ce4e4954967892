//! The mind: it knows what is measured and judges it. Pure: told the time, never waiting, never failing.
//!
//! Samples come in, a [`report::Report`] goes out, and nothing in between reads a clock, opens a socket or draws a
//! random number, so that every verdict can be replayed from its samples.
//!
//! * [`peer`] – the nouns: who is measured and in which role; [`budget`] – what a link of each class is held against;
//! * [`schedule`] – when to send: an open loop, fixed before the first answer;
//! * [`outcomes`], [`window`], [`hour`] – what the samples of one link amount to, and [`series`] all that is kept of it;
//! * [`meter`] – [`histogram`], [`exponential`]: the same in buckets, which can be added up over time and over agents;
//! * [`floor`] – the fastest round trips, and whether the route has changed;
//! * [`openings`] – how its connection was opened, again and again;
//! * [`database`] – what PostgreSQL says of itself and its standbys; [`failover`] – where it has moved to;
//! * [`roster`] – who is there, by all sources together; [`neighbours`] – whom of them an agent measures;
//! * [`region`], [`place`] – where that is, by facts and by physics;
//! * [`domains`] – who is near enough to whom; [`rules`] – what is wrong with how all of it stands;
//! * [`distribution`] – exact quantiles; [`binomial`], [`sequential`] – the exact distribution, and the test that may stop when it knows;
//! * [`cause`] – why a target is over its budget, with the evidence;
//! * [`verdict`] – one bounded look: pass, fail or inconclusive;
//! * [`state`] – the continuous verdict of one link, with hysteresis; [`links`] – all links of an agent;
//! * [`pubsub`] – which way coderd's news takes, and how long notifications take through PostgreSQL;
//! * [`whole`] – what all agents say of their own links;
//! * [`attribution`] – whose slowness it is, where coderd's own metrics can be read;
//! * [`report`], [`standing`] – all of it as data; the only thing that exporters see.
//!
//! **The rule.** The budget asks that a quantile (p95 by default) of the round trip stays below 10 ms. A slot whose
//! reply takes the budget or longer, or never comes, is an exceedance. Passing, failing, raising and clearing are all
//! statements about the true share of exceedances, each with a stated error; no guess is ever passed off as a verdict.

pub mod attribution;
pub mod binomial;
pub mod budget;
pub mod cause;
pub mod database;
pub mod distribution;
pub mod domains;
pub mod exponential;
pub mod failover;
pub mod floor;
pub mod histogram;
pub mod history;
pub mod hour;
pub mod links;
pub mod meter;
pub mod neighbours;
pub mod openings;
pub mod outcomes;
pub mod peer;
pub mod place;
pub mod pubsub;
pub mod region;
pub mod report;
pub mod roster;
pub mod rules;
pub mod schedule;
pub mod sequential;
pub mod series;
pub mod standing;
pub mod state;
pub mod verdict;
pub mod whole;
pub mod window;
