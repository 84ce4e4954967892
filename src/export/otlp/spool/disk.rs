//! Events in files: a line is the checksum of a JSON text and that text. Files are only appended to, and removed as a whole.
//!
//! A batch is on the disk (`fdatasync`) before the next is taken. How far the receiver has come is in the file `delivered`,
//! without such care: after a crash some events may come once more, with the same id. Its first line is the first file that has
//! something left and up to which byte it has been delivered; each further line is another file of which that has to be known.
//!
//! A file that cannot be read is tried again a few times, and left alone then until an agent starts that can read it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Skipped, SpoolError};
use crate::export::events::Event;

const DELIVERED: &str = "delivered";
const LOCK: &str = "lock";
/// A longer line is no event of ours.
const LONGEST_LINE: u64 = 1024 * 1024;

/// So often in a row a file is tried that cannot be read.
pub(super) const READ_ATTEMPTS: u32 = 5;

/// One file.
#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Before this byte everything is delivered.
    begin: u64,
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
    /// Handed out, each with its segment and the byte where it ends.
    flight: Vec<(Event, u64, u64)>,
    /// Files that cannot be read. They are kept while there is room.
    aside: Vec<Segment>,
    /// How often in a row the first file could not be read.
    failures: u32,
    skipped: Vec<Skipped>,
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
            flight: Vec::new(),
            aside: Vec::new(),
            failures: 0,
            skipped: Vec::new(),
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
        let lines = delivered.lines().map_while(|line| {
            let (segment, byte) = line.split_once(' ')?;
            Some((segment.parse::<u64>().ok()?, byte.parse::<u64>().ok()?))
        });
        let lines: Vec<_> = lines.collect();
        let first = lines.first().map_or(0, |(segment, _)| *segment);
        let delivered: BTreeMap<u64, u64> = lines.into_iter().collect();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let Some(number) = number(&entry.file_name().to_string_lossy()) {
                found.push((number, entry.metadata().map_or(0, |metadata| metadata.len())));
            }
        }
        found.sort_unstable();
        let last = found.last().map_or(0, |(number, _)| *number);
        self.next_number = last.max(first).saturating_add(1);
        for (number, bytes) in found {
            let known = delivered.get(&number);
            if number < first && known.is_none() {
                // Delivered; only its removal was missed.
                let _ = std::fs::remove_file(self.path(number));
                continue;
            }
            let begin = known.copied().unwrap_or(0);
            let (mut left, mut unreadable) = (0, 0);
            let read = self.read(number, begin, |line, _| {
                match line {
                    Ok(_) => left += 1,
                    Err(()) => unreadable += 1,
                }
                true
            });
            self.unreadable += unreadable;
            let segment = Segment { number, bytes, begin, left };
            match read {
                Ok(()) => self.segments.push_back(segment),
                Err(error) => self.set_aside(segment, &error),
            }
        }
        self.make_room(0);
        self.note_delivered();
        Ok(())
    }

    /// What cannot be read counts as lost, at least one event, although it may come back.
    fn set_aside(&mut self, segment: Segment, error: &io::Error) {
        self.unreadable += segment.left.max(1);
        let (path, why) = (self.path(segment.number), error.to_string());
        self.skipped.push(Skipped { path, why });
        self.aside.push(segment);
    }

    /// Files that were left alone since this was asked last.
    pub(super) fn skipped(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.skipped)
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
        self.segments.push_back(Segment { number, bytes: 0, begin: 0, left: 0 });
        Ok(file)
    }

    /// Removes files until so many bytes more may be written: those that nobody can read, and the oldest.
    fn make_room(&mut self, more: u64) {
        let bytes = |disk: &Self| -> u64 {
            disk.aside.iter().chain(&disk.segments).map(|segment| segment.bytes).sum()
        };
        let mut is_news = false;
        while bytes(self) + more > self.limit {
            is_news = true;
            if !self.aside.is_empty() {
                let unreadable = self.aside.remove(0);
                let _ = std::fs::remove_file(self.path(unreadable.number));
                continue;
            }
            let Some(oldest) = self.segments.pop_front() else { break };
            if self.segments.is_empty() {
                self.open = None;
            }
            // What is handed out is in memory, and may arrive yet.
            let handed_out = self.flight.iter().filter(|(_, segment, _)| *segment == oldest.number).count();
            self.full += oldest.left.saturating_sub(u64::try_from(handed_out).unwrap_or(u64::MAX));
            let _ = std::fs::remove_file(self.path(oldest.number));
        }
        if is_news {
            self.note_delivered();
        }
    }

    fn is_there(&self, segment: u64) -> bool {
        self.segments.iter().any(|there| there.number == segment)
    }

    /// See [`super::Spool::batch`].
    pub(super) fn batch(&mut self, at_most: usize) -> Vec<Event> {
        while self.flight.is_empty() && self.fill(at_most) {}
        if self.flight.len() > at_most {
            let rest = self.flight.split_off(at_most);
            let lost = rest.iter().filter(|(_, segment, _)| !self.is_there(*segment)).count();
            self.full += u64::try_from(lost).unwrap_or(u64::MAX);
        }
        self.flight.iter().map(|(event, ..)| event.clone()).collect()
    }

    /// Whether it is worth while to try again at once.
    fn fill(&mut self, at_most: usize) -> bool {
        let places: Vec<_> = self.segments.iter().map(|segment| (segment.number, segment.begin)).collect();
        let (mut flight, mut failed) = (Vec::new(), None);
        for (number, begin) in places {
            if flight.len() >= at_most {
                break;
            }
            let read = self.read(number, begin, |line, end| {
                // Those that are no events were counted when the files were found.
                if let Ok(event) = line {
                    flight.push((event, number, end));
                }
                flight.len() < at_most
            });
            if let Err(error) = read {
                failed = Some((number, error));
                break;
            }
        }
        self.flight = flight;
        match failed {
            // What stands before it goes first.
            _ if !self.flight.is_empty() => {
                self.failures = 0;
                false
            }
            Some((number, error)) => self.cannot_read(number, &error),
            None => {
                // Whatever spoilt them since they were written: nobody can read them.
                self.unreadable += self.waiting();
                self.segments.iter_mut().for_each(|segment| segment.left = 0);
                self.settle();
                false
            }
        }
    }

    /// It may be read the next time; if not, those after it must not wait for it. Whether it is not in the way any more.
    fn cannot_read(&mut self, number: u64, error: &io::Error) -> bool {
        let is_gone = error.kind() == io::ErrorKind::NotFound;
        self.failures += 1;
        if !is_gone && self.failures < READ_ATTEMPTS {
            return false;
        }
        self.failures = 0;
        let Some(place) = self.segments.iter().position(|segment| segment.number == number) else {
            return false;
        };
        if place + 1 == self.segments.len() {
            self.open = None;
        }
        if let Some(segment) = self.segments.remove(place) {
            if is_gone {
                self.unreadable += segment.left;
            } else {
                self.set_aside(segment, error);
            }
            self.note_delivered();
        }
        true
    }

    /// See [`super::Spool::settle`].
    pub(super) fn settle(&mut self) {
        for (_, number, end) in std::mem::take(&mut self.flight) {
            if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
                segment.left = segment.left.saturating_sub(1);
                segment.begin = end;
            }
        }
        while self.segments.front().is_some_and(|first| first.left == 0) {
            let Some(done) = self.segments.pop_front() else { break };
            if self.segments.is_empty() {
                self.open = None;
            }
            let _ = std::fs::remove_file(self.path(done.number));
        }
        self.note_delivered();
    }

    /// Where this fails some events come once more after a restart.
    fn note_delivered(&self) {
        let first = self.segments.front().map_or((self.next_number, 0), |first| (first.number, first.begin));
        let mut text = format!("{} {}\n", first.0, first.1);
        let others = self.segments.iter().skip(1).filter(|segment| segment.begin > 0);
        for segment in others.chain(&self.aside) {
            let _ = writeln!(text, "{} {}", segment.number, segment.begin);
        }
        let (new, path) = (self.directory.join("delivered.new"), self.directory.join(DELIVERED));
        let _ = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
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
