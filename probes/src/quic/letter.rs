//! Letters: what agents tell each other beside the echoes, on the same authenticated connection.
//!
//! Each is a stream of its own, one way. Who dialled writes what it likes; who was dialled tells all of those the same
//! (`Telling`). What it says is no business of this crate. A letter is dropped rather than waited for: it must never hold
//! up an echo, nor fill the memory of whoever gets it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Connection, ConnectionError};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Longer ones are dropped unread.
pub const LENGTH_AT_MOST: usize = 48 * 1024;
pub(super) const AT_ONCE: u32 = 2;
pub(super) const WINDOW: u32 = 64 * 1024;
/// So many letters wait to be read; one that finds no room is dropped.
pub(super) const WAITING: usize = 64;
/// One peer's letters are taken in one after another, with at least this pause.
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
/// What is told anew is told within this time, not to hundreds in the same instant.
const SPREAD_MS: u64 = 5000;

/// What a peer wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where it came from.
    pub from: SocketAddr,
    /// Whether we dialled: then the writer is whoever answers at the address where we looked for it. Else the address is the
    /// one that it dialled from.
    pub dialled: bool,
    /// What it says.
    pub text: Vec<u8>,
}

/// Where letters are put, and counted where there is no room.
#[derive(Debug, Clone)]
pub struct Post {
    letters: mpsc::Sender<Letter>,
    dropped: Arc<AtomicU64>,
}

impl Post {
    pub(super) fn new() -> (Self, mpsc::Receiver<Letter>) {
        let (letters, receiver) = mpsc::channel(WAITING);
        (Self { letters, dropped: Arc::default() }, receiver)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What whoever has dialled is told: at once when it comes, and again each time that this is set.
pub(super) type Telling = watch::Receiver<Option<Arc<[u8]>>>;

/// Tells until the connection ends.
pub(super) async fn tell(connection: &Connection, mut telling: Telling) -> ConnectionError {
    // Ports of those who dial are as good as chance.
    let mine = Duration::from_millis(u64::from(connection.remote_address().port()) * 7919 % SPREAD_MS);
    loop {
        let text = telling.borrow_and_update().clone();
        if let Some(text) = text {
            // One that is not taken is told again with the next ones.
            let _ = write(connection, &text).await;
        }
        if telling.changed().await.is_err() {
            return connection.closed().await;
        }
        sleep(mine).await;
    }
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

/// Takes in what whoever we dialled tells, until the connection ends.
pub(super) fn listen(connection: &Connection, post: Option<&Post>) {
    if let Some(post) = post.cloned() {
        let connection = connection.clone();
        tokio::spawn(async move { read(&connection, &post, true).await });
    }
}

/// Takes letters in until the connection ends.
pub(super) async fn read(connection: &Connection, post: &Post, dialled: bool) -> ConnectionError {
    loop {
        let mut stream = match connection.accept_uni().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        let text = timeout(PATIENCE, stream.read_to_end(LENGTH_AT_MOST)).await;
        let from = connection.remote_address();
        let taken = match text {
            Ok(Ok(text)) => post.letters.try_send(Letter { from, dialled, text }).is_ok(),
            _ => false,
        };
        if !taken {
            post.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}
