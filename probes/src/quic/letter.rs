//! Letters: what agents tell each other beside the echoes, on the same authenticated connection.
//!
//! Each is a stream of its own, one way, from whoever dialled. What it says is no business of this crate. A letter is
//! dropped rather than waited for: it must never hold up an echo, nor fill the memory of whoever gets it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Connection, ConnectionError};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer ones are dropped unread.
pub const LENGTH_AT_MOST: usize = 48 * 1024;
pub(super) const AT_ONCE: u32 = 2;
pub(super) const WINDOW: u32 = 64 * 1024;
/// So many letters wait to be read; one that finds no room is dropped.
pub(super) const WAITING: usize = 64;
/// One peer's letters are taken in one after another, with at least this pause.
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);

/// What a peer wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where it came from.
    pub from: SocketAddr,
    /// What it says.
    pub text: Vec<u8>,
}

/// Writes one letter; whether it was taken over by the connection. Peers that take no letters are told nothing.
pub(super) async fn write(connection: &Connection, text: &[u8]) -> bool {
    let write = async {
        let mut stream = connection.open_uni().await.ok()?;
        // Echoes go first.
        let _ = stream.set_priority(-1);
        stream.write_all(text).await.ok()?;
        stream.finish().ok()
    };
    text.len() <= LENGTH_AT_MOST && timeout(PATIENCE, write).await.is_ok_and(|written| written.is_some())
}

/// Takes letters in until the connection ends.
pub(super) async fn read(
    connection: &Connection,
    letters: &mpsc::Sender<Letter>,
    dropped: &AtomicU64,
) -> ConnectionError {
    loop {
        let mut stream = match connection.accept_uni().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        let text = timeout(PATIENCE, stream.read_to_end(LENGTH_AT_MOST)).await;
        let taken = match text {
            Ok(Ok(text)) => letters.try_send(Letter { from: connection.remote_address(), text }).is_ok(),
            _ => false,
        };
        if !taken {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
