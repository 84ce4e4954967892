//! Events in files: a line is the checksum of a JSON text and that text. Files are only appended to, and removed as a whole.
//!
//! A batch is on the disk (`fdatasync`) before the next is taken. How far the receiver has come is in the file `delivered`,
//! without such care: after a crash some events may come once more, with the same id.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::SpoolError;
use crate::export::events::Event;

const DELIVERED: &str = "delivered";
const LOCK: &str = "lock";
/// A longer line is no event of ours.
const LONGEST_LINE: u64 = 1024 * 1024;

/// A place in the files: before this byte everything is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cursor {
    segment: u64,
    byte: u64,
}

/// One file.
#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Events that are not delivered.
    left: u64,
}

#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    limit: u64,
    segment_limit: u64,
    segments: VecDeque<Segment>,
    /// The last segment, where it was begun by this process and has room.
    open: Option<File>,
    /// Never used twice.
    next_number: u64,
    cursor: Cursor,
    /// Handed out, each with where it begins (its segment) and ends.
    flight: Vec<(Event, u64, Cursor)>,
    full: u64,
    unreadable: u64,
    _lock: File,
}

impl Disk {
    pub(super) fn open(directory: &Path, limit: u64, segment_limit: u64) -> Result<Self, SpoolError> {
        let unusable = |path: &Path, source| SpoolError::Unusable { path: path.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(|error| unusable(directory, error))?;
        let path = directory.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(|error| unusable(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse(directory.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(&path, error)),
        }
        let mut disk = Self {
            directory: directory.to_owned(),
            limit,
            segment_limit,
            segments: VecDeque::new(),
            open: None,
            next_number: 0,
            cursor: Cursor::default(),
            flight: Vec::new(),
            full: 0,
            unreadable: 0,
            _lock: lock,
        };
        disk.find().map_err(|error| unusable(directory, error))?;
        Ok(disk)
    }

    /// What an earlier process left.
    fn find(&mut self) -> io::Result<()> {
        let delivered = std::fs::read_to_string(self.directory.join(DELIVERED)).unwrap_or_default();
        let mut numbers = delivered.split_whitespace().map_while(|number| number.parse().ok());
        if let (Some(segment), Some(byte)) = (numbers.next(), numbers.next()) {
            self.cursor = Cursor { segment, byte };
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let Some(number) = number(&entry.file_name().to_string_lossy()) {
                found.push((number, entry.metadata()?.len()));
            }
        }
        found.sort_unstable();
        let last = found.last().map_or(0, |(number, _)| *number);
        self.next_number = last.max(self.cursor.segment) + 1;
        for (number, bytes) in found {
            if number < self.cursor.segment {
                // Delivered; only its removal was missed.
                std::fs::remove_file(self.path(number))?;
                continue;
            }
            let (mut left, mut unreadable) = (0, 0);
            let begin = if number == self.cursor.segment { self.cursor.byte.min(bytes) } else { 0 };
            self.read(number, begin, |line, _| {
                match line {
                    Ok(_) => left += 1,
                    Err(()) => unreadable += 1,
                }
                true
            })?;
            self.unreadable += unreadable;
            self.segments.push_back(Segment { number, bytes, left });
        }
        if let Some(first) = self.segments.front().filter(|first| first.number > self.cursor.segment) {
            self.cursor = Cursor { segment: first.number, byte: 0 };
        }
        self.make_room(0);
        Ok(())
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("events-{number:010}.jsonl"))
    }

    /// Hands each line with its end to `take`, until that has enough.
    fn read(
        &self,
        number: u64,
        begin: u64,
        mut take: impl FnMut(Result<Event, ()>, u64) -> bool,
    ) -> io::Result<()> {
        let mut file = File::open(self.path(number))?;
        file.seek(SeekFrom::Start(begin))?;
        let mut reader = BufReader::new(file);
        let mut at = begin;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            if length == 0 {
                return Ok(());
            }
            at += u64::try_from(length).unwrap_or(u64::MAX);
            if !take(parse(&line), at) {
                return Ok(());
            }
        }
    }

    /// Writes these, all or none.
    pub(super) fn append<'a>(&mut self, events: impl Iterator<Item = &'a Event>) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut count = 0;
        for event in events {
            let json = serde_json::to_vec(event)?;
            write!(lines, "{:08x} ", crc32fast::hash(&json))?;
            lines.extend_from_slice(&json);
            lines.push(b'\n');
            count += 1;
        }
        let more = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.make_room(more);
        let mut file = match self.open.take() {
            Some(file) if self.segments.back().is_some_and(|last| last.bytes < self.segment_limit) => file,
            _ => self.begin()?,
        };
        let Some(last) = self.segments.back_mut() else { return Err(io::Error::other("no file")) };
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // A torn line is skipped by whoever reads it; the next attempt is in a new file.
            let _ = file.set_len(last.bytes);
            if last.bytes == 0 {
                let number = last.number;
                self.segments.pop_back();
                let _ = std::fs::remove_file(self.path(number));
            }
            return Err(error);
        }
        last.bytes += more;
        last.left += count;
        self.open = Some(file);
        Ok(())
    }

    fn begin(&mut self) -> io::Result<File> {
        let number = self.next_number;
        let file = OpenOptions::new().append(true).create_new(true).open(self.path(number))?;
        self.next_number += 1;
        // The name of a new file has to last as well. Where a directory cannot be synchronised there is nothing better.
        let _ = File::open(&self.directory).and_then(|directory| directory.sync_all());
        self.segments.push_back(Segment { number, bytes: 0, left: 0 });
        Ok(file)
    }

    /// Removes the oldest files until so many bytes more may be written.
    fn make_room(&mut self, more: u64) {
        while self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + more > self.limit {
            let Some(oldest) = self.segments.pop_front() else { return };
            if self.segments.is_empty() {
                self.open = None;
            }
            // What is handed out is in memory, and may arrive yet.
            let handed_out = self.flight.iter().filter(|(_, segment, _)| *segment == oldest.number).count();
            self.full += oldest.left.saturating_sub(u64::try_from(handed_out).unwrap_or(u64::MAX));
            let _ = std::fs::remove_file(self.path(oldest.number));
            if self.cursor.segment <= oldest.number {
                let next = self.segments.front().map_or(self.next_number, |next| next.number);
                self.move_to(Cursor { segment: next, byte: 0 });
            }
        }
    }

    fn is_there(&self, segment: u64) -> bool {
        self.segments.iter().any(|there| there.number == segment)
    }

    /// See [`super::Spool::batch`].
    pub(super) fn batch(&mut self, at_most: usize) -> Vec<Event> {
        if self.flight.is_empty() {
            self.fill(at_most);
        }
        if self.flight.len() > at_most {
            let rest = self.flight.split_off(at_most);
            let lost = rest.iter().filter(|(_, segment, _)| !self.is_there(*segment)).count();
            self.full += u64::try_from(lost).unwrap_or(u64::MAX);
        }
        self.flight.iter().map(|(event, ..)| event.clone()).collect()
    }

    fn fill(&mut self, at_most: usize) {
        let numbers: Vec<u64> = self.segments.iter().map(|segment| segment.number).collect();
        let mut flight = Vec::new();
        for number in numbers {
            if flight.len() >= at_most {
                break;
            }
            let begin = if number == self.cursor.segment { self.cursor.byte } else { 0 };
            let read = self.read(number, begin, |line, end| {
                // Those that are no events were counted when the files were found.
                if let Ok(event) = line {
                    flight.push((event, number, Cursor { segment: number, byte: end }));
                }
                flight.len() < at_most
            });
            if read.is_err() {
                self.give_up(number, &flight);
            }
        }
        self.flight = flight;
        if self.flight.is_empty() {
            // Whatever spoilt them since they were written: nobody can read them.
            self.unreadable += self.waiting();
            self.segments.iter_mut().for_each(|segment| segment.left = 0);
            self.settle();
        }
    }

    /// A file that cannot be read any more.
    fn give_up(&mut self, number: u64, read: &[(Event, u64, Cursor)]) {
        let read = read.iter().filter(|(_, segment, _)| *segment == number).count();
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            let read = u64::try_from(read).unwrap_or(u64::MAX);
            self.unreadable += segment.left.saturating_sub(read);
            segment.left = read.min(segment.left);
        }
        if self.segments.back().is_some_and(|last| last.number == number) {
            self.open = None;
        }
    }

    /// See [`super::Spool::settle`].
    pub(super) fn settle(&mut self) {
        let flight = std::mem::take(&mut self.flight);
        for (_, number, _) in &flight {
            if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == *number) {
                segment.left = segment.left.saturating_sub(1);
            }
        }
        let mut cursor = flight.last().map_or(self.cursor, |(.., end)| *end);
        if !self.is_there(cursor.segment) {
            cursor = self.cursor;
        }
        while self.segments.front().is_some_and(|first| first.left == 0) {
            let Some(done) = self.segments.pop_front() else { break };
            if self.segments.is_empty() {
                self.open = None;
            }
            let _ = std::fs::remove_file(self.path(done.number));
            if cursor.segment <= done.number {
                let next = self.segments.front().map_or(self.next_number, |next| next.number);
                cursor = Cursor { segment: next, byte: 0 };
            }
        }
        self.move_to(cursor);
    }

    /// Where this fails some events come once more after a restart.
    fn move_to(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        let (new, path) = (self.directory.join("delivered.new"), self.directory.join(DELIVERED));
        let _ = std::fs::write(&new, format!("{} {}\n", cursor.segment, cursor.byte))
            .and_then(|()| std::fs::rename(&new, &path));
    }

    pub(super) fn waiting(&self) -> u64 {
        self.segments.iter().map(|segment| segment.left).sum()
    }

    /// Pushed out, and unreadable.
    pub(super) fn dropped(&self) -> (u64, u64) {
        (self.full, self.unreadable)
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("events-")?.strip_suffix(".jsonl")?.parse().ok()
}

fn parse(line: &[u8]) -> Result<Event, ()> {
    let line = line.strip_suffix(b"\n").ok_or(())?;
    let (sum, json) = line.split_at_checked(8).ok_or(())?;
    let json = json.strip_prefix(b" ").ok_or(())?;
    let sum = std::str::from_utf8(sum).ok().and_then(|sum| u32::from_str_radix(sum, 16).ok()).ok_or(())?;
    if crc32fast::hash(json) != sum {
        return Err(());
    }
    serde_json::from_slice(json).map_err(|_| ())
}
