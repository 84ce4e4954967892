//! The lab: real network namespaces, as root. Run with `cargo test --features lab --test lab`; forced in CI.
//!
//! What a relay cannot show is shown here: where connects really travel, what the kernel says of a connection, and what
//! the agent makes of a database that moves. Nothing is skipped: without root, `ip` or /dev/net/tun the tests fail.

#[cfg(test)]
#[path = "../it/coder.rs"]
#[expect(dead_code, reason = "the lab needs a part of it")]
mod coder;
#[cfg(test)]
mod distance;
#[cfg(test)]
#[path = "../it/house.rs"]
#[expect(dead_code, reason = "the lab needs a part of what the tests on loopback live in")]
mod house;
#[cfg(test)]
#[path = "../it/metadata_server.rs"]
#[expect(dead_code, reason = "the lab needs a part of it")]
mod metadata_server;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod wire;
