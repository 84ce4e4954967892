//! `probe` measures the round trips between coderd replicas and PostgreSQL and judges them against Coder's budget.
//!
//! **Hands** (the crate [`probes`]) take one sample; the **mind** ([`mesh`]) knows and judges; **doors** ([`cli`],
//! [`config`], [`discovery`], [`web`], [`export`]) let facts in and findings out; the **heart** ([`agent`]) carries things between
//! them, for as long as it is told to or, in [`check`], for one bounded look. [`plan`] and
//! [`manifests`] judge what is not there yet.
//!
//! ```text
//!  flags, env ──▶ config ──▶ check / agent ──Order──▶ probes
//!                                │  ▲                    │
//!                                │  └──────Sample────────┘
//!                                ▼
//!                  mesh: schedule → window → verdict → report ──▶ export (text, json), web
//! ```

pub mod agent;
pub mod check;
pub mod cli;
pub mod client;
pub mod coder_metrics;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod exchange;
pub mod export;
pub mod manifests;
pub mod mesh;
pub mod ping;
pub mod plan;
pub mod report;
pub mod web;
