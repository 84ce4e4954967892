//! From a name to addresses, timed.

use std::net::SocketAddr;
use std::time::Duration;

use crate::sample::{Failure, Reason};
use crate::stopwatch::Stopwatch;
use crate::target::HostPort;

/// All addresses of a name in the order of the system's resolver, and how long it took to get them.
///
/// A literal address costs no lookup. The list is never empty.
pub async fn resolve(target: &HostPort) -> Result<(Vec<SocketAddr>, Duration), Failure> {
    let watch = Stopwatch::start();
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let mut addresses: Vec<SocketAddr> = match found {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(Failure::new(
                Reason::Resolve,
                format!("the name '{}' does not resolve: {error}", target.host),
            ));
        }
    };
    addresses.dedup();
    if addresses.is_empty() {
        return Err(Failure::new(Reason::Resolve, format!("the name '{}' has no address", target.host)));
    }
    Ok((addresses, watch.elapsed()))
}
