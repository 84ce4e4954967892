//! In order, bounded, and there again after a restart.

use std::borrow::Cow;
use std::time::Duration;

use super::disk::READ_ATTEMPTS;
use super::*;
use crate::export::events::Gravity;

fn event(number: u32) -> Event {
    Event {
        id: format!("id-{number}"),
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000 + u64::from(number)),
        name: Cow::Borrowed("coder.probe.path.state_changed"),
        gravity: Gravity::Warn,
        body: format!("number {number}\n«ü»"),
        attributes: vec![
            ("state".into(), Attribute::Text("breach".to_owned())),
            ("p95".into(), Attribute::Number(2.0)),
            ("samples".into(), Attribute::Whole(300)),
        ],
    }
}

fn events(numbers: std::ops::Range<u32>) -> Vec<Event> {
    numbers.map(event).collect()
}

fn small() -> Limits {
    Limits { events: 3, bytes: 1 << 20, disk_bytes: 4096, segment_bytes: 1024 }
}

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name.starts_with("events-"))
        .collect();
    files.sort();
    files
}

#[test]
fn memory_keeps_the_latest_in_order_and_counts_what_it_pushes_out() {
    let mut spool = Spool::in_memory(small());
    spool.put(events(0..2));
    assert_eq!(ids(&spool.batch(1)), ["id-0"]);
    spool.put(events(2..6));
    assert_eq!((spool.waiting(), spool.dropped().full), (3, 3), "1, 2 and 3 had to go: 0 is on its way");
    assert_eq!(ids(&spool.batch(9)), ["id-0"], "the same until it is settled");
    spool.settle();
    assert_eq!(ids(&spool.batch(9)), ["id-4", "id-5"]);
    assert_eq!(ids(&spool.batch(1)), ["id-4"], "or fewer");
    spool.settle();
    assert_eq!((ids(&spool.batch(9)), spool.waiting()), (vec!["id-5"], 1));
    let mut spool = Spool::in_memory(Limits { bytes: 1000, ..Limits::default() });
    spool.put(events(0..9));
    assert!(spool.memory_bytes <= 1000 && spool.waiting() < 9, "{spool:?}");
    spool.settle();
    assert_eq!(spool.waiting() + spool.dropped().full, 9, "settling nothing changes nothing");
}

#[test]
fn what_waits_on_the_disk_is_there_again_after_a_restart_in_order_and_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("new").join("spool");
    let mut spool = Spool::open(&directory, Limits::default()).unwrap();
    spool.put(events(0..3));
    assert_eq!(ids(&spool.batch(2)), ["id-0", "id-1"]);
    spool.settle();
    assert_eq!(ids(&spool.batch(2)), ["id-2"], "handed out, but not settled");
    spool.put(events(3..5));
    assert!(spool.is_durable());
    drop(spool);
    let mut spool = Spool::open(&directory, Limits::default()).unwrap();
    assert_eq!(spool.waiting(), 3);
    assert_eq!(spool.batch(9), events(2..5));
    spool.put(events(5..6));
    spool.settle();
    assert_eq!(ids(&spool.batch(9)), ["id-5"]);
    spool.settle();
    assert_eq!((spool.waiting(), files(&directory).len()), (0, 0), "nothing is left behind");
    drop(spool);
    let mut spool = Spool::open(&directory, Limits::default()).unwrap();
    spool.put(events(6..7));
    assert_eq!(ids(&spool.batch(9)), ["id-6"]);
    assert_eq!(spool.dropped(), Dropped::default());
}

#[test]
fn a_torn_or_spoilt_line_costs_that_event_alone() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut spool = Spool::open(directory, Limits::default()).unwrap();
    spool.put(events(0..4));
    drop(spool);
    let (name, mut text) = files(directory).remove(0);
    let second = text.iter().position(|byte| *byte == b'\n').unwrap() + 20;
    text[second] ^= 1;
    text.truncate(text.len() - 5);
    std::fs::write(directory.join(&name), text).unwrap();
    std::fs::write(directory.join("delivered"), "none").unwrap();
    let mut spool = Spool::open(directory, Limits::default()).unwrap();
    assert_eq!((spool.waiting(), spool.dropped()), (2, Dropped { full: 0, unreadable: 2 }));
    spool.put(events(9..10));
    assert_eq!(ids(&spool.batch(9)), ["id-0", "id-2", "id-9"]);
    spool.settle();
    assert_eq!((spool.waiting(), files(directory).len()), (0, 0));
}

#[test]
fn the_disk_is_bounded_and_the_oldest_go_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), small()).unwrap();
    spool.put(events(0..1));
    assert_eq!(ids(&spool.batch(1)), ["id-0"]);
    for number in 1..100 {
        spool.put(events(number..number + 1));
        let bytes: usize = files(directory.path()).iter().map(|(_, text)| text.len()).sum();
        assert!(bytes <= 4096, "{bytes}");
    }
    assert_eq!(ids(&spool.batch(1)), ["id-0"], "what is on its way stays");
    spool.settle();
    let rest = spool.batch(1000);
    assert_eq!(1 + spool.dropped().full + rest.len() as u64, 100, "{:?}", spool.dropped());
    let first = 100 - u32::try_from(rest.len()).unwrap();
    assert!((50..99).contains(&first), "{first}");
    assert_eq!(rest, events(first..100));
    assert_eq!(spool.waiting(), rest.len() as u64);
    drop(spool);
    let mut spool = Spool::open(directory.path(), small()).unwrap();
    assert_eq!(spool.batch(1000), events(first..100));
}

#[test]
fn a_disk_that_fails_is_said_once_and_events_wait_in_memory_until_it_is_back() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("spool");
    let mut spool = Spool::open(&directory, small()).unwrap();
    let gone = parent.path().join("gone");
    std::fs::rename(&directory, &gone).unwrap();
    let news = spool.put(events(0..1));
    let Some(DiskNews::Failed(why)) = news else { panic!("{news:?}") };
    assert!(why.starts_with(&directory.display().to_string()), "{why}");
    assert_eq!(spool.put(events(1..2)), None, "once");
    assert!(!spool.is_durable());
    assert_eq!(ids(&spool.batch(1)), ["id-0"]);
    std::fs::rename(&gone, &directory).unwrap();
    assert_eq!(spool.put(events(2..3)), Some(DiskNews::Back));
    assert_eq!((ids(&spool.batch(9)), files(&directory).len()), (vec!["id-0"], 1));
    spool.settle();
    assert_eq!(ids(&spool.batch(9)), ["id-1", "id-2"]);
    assert!(spool.is_durable());
}

#[test]
fn a_directory_is_of_one_agent_and_one_that_cannot_be_used_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let first = Spool::open(directory.path(), small()).unwrap();
    let error = Spool::open(directory.path(), small()).unwrap_err().to_string();
    assert!(error.contains("in use by another process") && error.contains("of its own"), "{error}");
    drop(first);
    Spool::open(directory.path(), small()).unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Spool::open(&file, small()).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()) && error.contains("may write to"), "{error}");
}

#[test]
fn what_json_cannot_say_is_said_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), small()).unwrap();
    let mut odd = event(0);
    odd.at = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    odd.attributes = vec![("p95".into(), Attribute::Number(f64::NAN))];
    spool.put([odd]);
    let read = spool.batch(1).remove(0);
    assert_eq!(
        (read.at, &read.attributes[0].1),
        (SystemTime::UNIX_EPOCH, &Attribute::Text("NaN".to_owned()))
    );
}

#[test]
fn files_that_somebody_spoils_meanwhile_are_counted_and_hold_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), Limits::default()).unwrap();
    spool.put(events(0..3));
    let (name, _) = files(directory.path()).remove(0);
    std::fs::write(directory.path().join(name), "nothing\n").unwrap();
    assert_eq!((spool.batch(9), spool.waiting(), spool.dropped().unreadable), (Vec::new(), 0, 3));
    spool.put(events(3..4));
    assert_eq!(ids(&spool.batch(9)), ["id-3"]);
}

/// What cannot be read: a directory where the file was.
fn hide(path: &Path) -> impl FnOnce() + use<> {
    let (path, kept) = (path.to_owned(), path.with_extension("kept"));
    std::fs::rename(&path, &kept).unwrap();
    std::fs::create_dir(&path).unwrap();
    move || {
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&kept, &path).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_read_for_a_moment_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), Limits::default()).unwrap();
    spool.put(events(0..3));
    let (name, _) = files(directory.path()).remove(0);
    let show = hide(&directory.path().join(name));
    assert_eq!((spool.batch(9), spool.waiting()), (Vec::new(), 3));
    assert_eq!((spool.batch(9), spool.waiting()), (Vec::new(), 3));
    show();
    assert_eq!(ids(&spool.batch(9)), ["id-0", "id-1", "id-2"]);
    spool.settle();
    assert_eq!((spool.waiting(), spool.dropped(), spool.skipped()), (0, Dropped::default(), Vec::new()));
}

#[test]
fn a_file_that_cannot_be_read_is_skipped_counted_kept_and_delivered_by_whoever_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut spool = Spool::open(directory, Limits { segment_bytes: 1, ..Limits::default() }).unwrap();
    spool.put(events(0..2));
    spool.put(events(2..4));
    spool.put(events(4..5));
    assert_eq!(ids(&spool.batch(1)), ["id-0"]);
    spool.settle();
    let first = directory.join(&files(directory)[0].0);
    let show = hide(&first);
    let batches: Vec<_> = (0..READ_ATTEMPTS).map(|_| spool.batch(1)).collect();
    assert!(batches[..batches.len() - 1].iter().all(Vec::is_empty), "{batches:?}");
    assert_eq!(ids(batches.last().unwrap()), ["id-2"]);
    spool.settle();
    assert_eq!((spool.waiting(), spool.dropped().unreadable), (2, 1));
    let skipped = spool.skipped();
    assert_eq!(skipped.iter().map(|one| &one.path).collect::<Vec<_>>(), [&first]);
    assert!(skipped[0].why.contains("directory"), "{skipped:?}");
    drop(spool);
    // Nor does it hinder the next one from starting.
    let mut spool = Spool::open(directory, Limits::default()).unwrap();
    assert_eq!((spool.waiting(), spool.dropped().unreadable, spool.skipped().len()), (2, 1, 1));
    assert_eq!(ids(&spool.batch(1)), ["id-3"]);
    drop(spool);
    show();
    let mut spool = Spool::open(directory, Limits::default()).unwrap();
    assert_eq!(ids(&spool.batch(9)), ["id-1", "id-3", "id-4"], "and each once");
    assert_eq!((spool.dropped(), spool.skipped()), (Dropped::default(), Vec::new()));
    spool.settle();
    assert_eq!((spool.waiting(), files(directory).len()), (0, 0));
}

#[test]
fn what_cannot_be_read_makes_room_first() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::create_dir(directory.join("events-0000000001.jsonl")).unwrap();
    let limits = Limits { disk_bytes: 4600, ..small() };
    let mut spool = Spool::open(directory, limits).unwrap();
    assert_eq!((spool.waiting(), spool.dropped().unreadable), (0, 1), "nobody knows how many");
    spool.put(events(0..3));
    assert_eq!((ids(&spool.batch(9)), spool.dropped().full), (vec!["id-0", "id-1", "id-2"], 0));
}

#[test]
fn a_file_that_somebody_removed_is_lost_and_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), Limits { segment_bytes: 1, ..Limits::default() }).unwrap();
    spool.put(events(0..2));
    spool.put(events(2..3));
    std::fs::remove_file(directory.path().join(&files(directory.path())[0].0)).unwrap();
    assert_eq!((ids(&spool.batch(9)), spool.dropped().unreadable), (vec!["id-2"], 2));
}
