//! One integration binary: real PostgreSQL, real QUIC, real processes, all on loopback and free ports.
//!
//! Distance is made by in-process relays that hold each datagram or byte for a set time ([`relay`]). A test whose
//! component is missing fails; nothing is skipped.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod alerts;
#[cfg(test)]
mod api;
#[cfg(test)]
mod attribution;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod characteristics;
#[cfg(test)]
mod chart;
#[cfg(test)]
mod check;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod cloud;
#[cfg(test)]
mod coder;
#[cfg(test)]
mod daemonset;
#[cfg(test)]
mod dashboard;
#[cfg(test)]
mod database;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod distance;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod encryption;
#[cfg(test)]
mod house;
#[cfg(test)]
mod kube_api;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod metadata_server;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod name_server;
#[cfg(test)]
mod nearest;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod page;
#[cfg(test)]
mod password;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod ping;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod pooler;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod promql;
#[cfg(test)]
mod pubsub;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod replica;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod rotel;
#[cfg(test)]
mod running;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod supervisor;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod unit;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod whole;
