//! Events that wait for the receiver, in order: in memory, and on a disk where there is a directory for them.
//!
//! It blocks on the disk, so nobody calls it on a runtime's thread. What is handed out stays until it is settled; what does
//! not fit pushes out the oldest, which is counted.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::export::events::{Attribute, Event};

mod disk;

use disk::Disk;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In memory; the newest fits always, even where all others are handed out.
    pub events: usize,
    /// In memory, about; likewise.
    pub bytes: usize,
    /// On the disk.
    pub disk_bytes: u64,
    /// Of one file there.
    pub segment_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let mebibyte = 1024 * 1024;
        Self { events: 2048, bytes: 4 * mebibyte, disk_bytes: 16 * 1024 * 1024, segment_bytes: 1024 * 1024 }
    }
}

/// Why there is no spool in this directory.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Two would write over each other.
    #[error("the event spool {0} is in use by another process: give each agent a directory of its own")]
    InUse(PathBuf),
    /// It cannot be used.
    #[error(
        "the event spool {path} cannot be used: {source}; it must be a directory that this agent may write to"
    )]
    Unusable {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What the receiver will never get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Pushed out by later ones.
    pub full: u64,
    /// Lines on the disk that are no events, and events in files that cannot be read: at least one a file.
    pub unreadable: u64,
}

/// A file that cannot be read, and is left where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Which one.
    pub path: PathBuf,
    /// What the system said.
    pub why: String,
}

/// What happened to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskNews {
    /// From now on events wait in memory alone.
    Failed(String),
    /// From now on they are on the disk again.
    Back,
}

/// Events that wait.
#[derive(Debug)]
pub struct Spool {
    limits: Limits,
    disk: Option<Disk>,
    disk_failed: bool,
    memory: VecDeque<Event>,
    memory_bytes: usize,
    /// So many of the first in memory are handed out.
    handed_out: usize,
    full: u64,
}

impl Spool {
    /// Without a disk.
    pub fn in_memory(limits: Limits) -> Self {
        Self {
            limits,
            disk: None,
            disk_failed: false,
            memory: VecDeque::new(),
            memory_bytes: 0,
            handed_out: 0,
            full: 0,
        }
    }

    /// In this directory, which is made where there is none; with what an earlier process left there.
    pub fn open(directory: &Path, limits: Limits) -> Result<Self, SpoolError> {
        let disk = Disk::open(directory, limits.disk_bytes, limits.segment_bytes)?;
        Ok(Self { disk: Some(disk), ..Self::in_memory(limits) })
    }

    /// Takes these in. They are on the disk when this returns, if there is one that works.
    pub fn put(&mut self, events: impl IntoIterator<Item = Event>) -> Option<DiskNews> {
        for event in events {
            let event = writable(event);
            self.memory_bytes += size(&event);
            self.memory.push_back(event);
        }
        let news = self.write_down();
        while self.memory.len() > self.handed_out + 1
            && (self.memory.len() > self.limits.events || self.memory_bytes > self.limits.bytes)
        {
            if let Some(oldest) = self.memory.remove(self.handed_out) {
                self.memory_bytes = self.memory_bytes.saturating_sub(size(&oldest));
                self.full += 1;
            }
        }
        news
    }

    fn write_down(&mut self) -> Option<DiskNews> {
        let disk = self.disk.as_mut()?;
        if self.memory.len() == self.handed_out {
            return None;
        }
        match disk.append(self.memory.range(self.handed_out..)) {
            Ok(()) => {
                for event in self.memory.drain(self.handed_out..) {
                    self.memory_bytes = self.memory_bytes.saturating_sub(size(&event));
                }
                std::mem::take(&mut self.disk_failed).then_some(DiskNews::Back)
            }
            Err(error) => {
                let is_news = !std::mem::replace(&mut self.disk_failed, true);
                is_news.then(|| DiskNews::Failed(format!("{}: {error}", disk.directory().display())))
            }
        }
    }

    /// The oldest, at most so many. They are the same each time until they are settled, or fewer where fewer are asked for. None
    /// although some wait means that the disk cannot be read just now.
    pub fn batch(&mut self, at_most: usize) -> Vec<Event> {
        if self.handed_out == 0
            && let Some(disk) = &mut self.disk
        {
            let events = disk.batch(at_most);
            if !events.is_empty() {
                return events;
            }
        }
        let before = if self.handed_out == 0 { self.memory.len() } else { self.handed_out };
        self.handed_out = before.min(at_most);
        self.memory.range(..self.handed_out).cloned().collect()
    }

    /// Those that were handed out need not wait any more.
    pub fn settle(&mut self) {
        if self.handed_out == 0 {
            if let Some(disk) = &mut self.disk {
                disk.settle();
            }
            return;
        }
        for event in self.memory.drain(..std::mem::take(&mut self.handed_out)) {
            self.memory_bytes = self.memory_bytes.saturating_sub(size(&event));
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> u64 {
        let on_disk = self.disk.as_ref().map_or(0, Disk::waiting);
        on_disk + u64::try_from(self.memory.len()).unwrap_or(u64::MAX)
    }

    /// Whether what waits outlives this process.
    pub fn is_durable(&self) -> bool {
        self.disk.is_some() && self.memory.is_empty()
    }

    /// Files that cannot be read, each once.
    pub fn skipped(&mut self) -> Vec<Skipped> {
        self.disk.as_mut().map(Disk::skipped).unwrap_or_default()
    }

    /// What the receiver will never get, since the start.
    pub fn dropped(&self) -> Dropped {
        let (full, unreadable) = self.disk.as_ref().map_or((0, 0), Disk::dropped);
        Dropped { full: self.full + full, unreadable }
    }
}

/// About as many bytes as it takes in memory.
fn size(event: &Event) -> usize {
    let attribute = |value: &Attribute| match value {
        Attribute::Text(text) => text.len(),
        Attribute::Whole(_) | Attribute::Number(_) => 0,
    };
    let attributes = event.attributes.iter().map(|(key, value)| key.len() + attribute(value) + 56);
    event.id.len() + event.name.len() + event.body.len() + attributes.sum::<usize>() + 136
}

/// JSON knows no number that is none, and no time before 1970.
fn writable(mut event: Event) -> Event {
    event.at = event.at.max(SystemTime::UNIX_EPOCH);
    for (_, value) in &mut event.attributes {
        if let Attribute::Number(number) = value
            && !number.is_finite()
        {
            *value = Attribute::Text(number.to_string());
        }
    }
    event
}

#[cfg(test)]
mod tests;
