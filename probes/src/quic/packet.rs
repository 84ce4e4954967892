//! The echo on the wire: 64 bytes each way inside a QUIC datagram, big endian, pure and without allocation.
//!
//! Shaped after STAMP (RFC 8762): the sender's own time travels there and back untouched, and the reflector adds when
//! it received (t2) and when it answered (t3), so that its hold time can be taken off. A reply also says which of the
//! last 64 requests arrived, which tells a request that got lost from a reply that did.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | magic `PR` |
//! | 2 | 1 | version, 1 |
//! | 3 | 1 | kind: 1 request, 2 reply |
//! | 4 | 4 | sequence, counted per connection from 0 |
//! | 8 | 8 | t1: sender's monotonic nanoseconds at the send; the reflector returns it as it came |
//! | 16 | 8 | t2: reflector's monotonic nanoseconds at the receive; 0 in a request |
//! | 24 | 8 | t3: reflector's monotonic nanoseconds at the answer; 0 in a request |
//! | 32 | 8 | bitmap: bit i is set when sequence `highest − i` was received |
//! | 40 | 4 | highest sequence received on this connection |
//! | 44 | 4 | count of distinct requests received on this connection |
//! | 48 | 4 | reflector's own run-queue wait in microseconds; `u32::MAX` when it does not know |
//! | 52 | 12 | zero, for later versions |
//!
//! A longer request is answered with a reply of 64 bytes: a reply is never larger than its request.

/// Length of a request and of a reply in bytes.
pub const ECHO_LEN: usize = 64;
const MAGIC: [u8; 2] = *b"PR";
const VERSION: u8 = 1;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// The value of [`Reply::wait_us`] of a reflector that does not measure its own wait.
pub const WAIT_UNKNOWN: u32 = u32::MAX;

/// What the sender asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Counted per connection from 0.
    pub sequence: u32,
    /// Sender's monotonic nanoseconds at the send.
    pub t1_ns: u64,
}

/// What the reflector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The request's own sequence.
    pub sequence: u32,
    /// The request's own t1.
    pub t1_ns: u64,
    /// Reflector's monotonic nanoseconds at the receive.
    pub t2_ns: u64,
    /// Reflector's monotonic nanoseconds at the answer.
    pub t3_ns: u64,
    /// What the reflector has received so far.
    pub received: Received,
    /// Reflector's own run-queue wait in microseconds, or [`WAIT_UNKNOWN`].
    pub wait_us: u32,
}

impl Reply {
    /// How long the reflector held the request, in nanoseconds; `None` when its clock went backwards.
    pub fn hold_ns(&self) -> Option<u64> {
        self.t3_ns.checked_sub(self.t2_ns)
    }
}

/// Which requests arrived on one connection: a window of 64 sequences and a count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Bit i is set when sequence `highest − i` arrived.
    pub bitmap: u64,
    /// Highest sequence that arrived.
    pub highest: u32,
    /// How many distinct sequences arrived. A repeat within the window is not counted again.
    pub count: u32,
}

impl Received {
    /// Notes an arrival; false when it was seen before or is too old to tell.
    pub fn note(&mut self, sequence: u32) -> bool {
        if self.count == 0 || sequence > self.highest {
            let ahead = if self.count == 0 { 64 } else { sequence - self.highest };
            self.bitmap = self.bitmap.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = sequence;
        } else {
            let Some(bit) = 1_u64.checked_shl(self.highest - sequence) else { return false };
            if self.bitmap & bit != 0 {
                return false;
            }
            self.bitmap |= bit;
        }
        self.count = self.count.saturating_add(1);
        true
    }

    /// Whether `sequence` arrived; `None` when the window does not reach it (newer, or 64 and more behind).
    pub fn saw(&self, sequence: u32) -> Option<bool> {
        let behind = self.highest.checked_sub(sequence)?;
        1_u64.checked_shl(behind).map(|bit| self.bitmap & bit != 0)
    }
}

/// Writes a request.
pub fn encode_request(request: Request) -> [u8; ECHO_LEN] {
    let mut bytes = head(REQUEST, request.sequence, request.t1_ns);
    put(&mut bytes, 48, &WAIT_UNKNOWN.to_be_bytes());
    bytes
}

/// Writes a reply.
pub fn encode_reply(reply: &Reply) -> [u8; ECHO_LEN] {
    let mut bytes = head(REPLY, reply.sequence, reply.t1_ns);
    put(&mut bytes, 16, &reply.t2_ns.to_be_bytes());
    put(&mut bytes, 24, &reply.t3_ns.to_be_bytes());
    put(&mut bytes, 32, &reply.received.bitmap.to_be_bytes());
    put(&mut bytes, 40, &reply.received.highest.to_be_bytes());
    put(&mut bytes, 44, &reply.received.count.to_be_bytes());
    put(&mut bytes, 48, &reply.wait_us.to_be_bytes());
    bytes
}

/// Reads a request; `None` for anything that is not one (too short, other magic, version or kind).
pub fn decode_request(bytes: &[u8]) -> Option<Request> {
    expect(bytes, REQUEST)?;
    Some(Request { sequence: u32_at(bytes, 4)?, t1_ns: u64_at(bytes, 8)? })
}

/// Reads a reply; `None` for anything that is not one (too short, other magic, version or kind).
pub fn decode_reply(bytes: &[u8]) -> Option<Reply> {
    expect(bytes, REPLY)?;
    Some(Reply {
        sequence: u32_at(bytes, 4)?,
        t1_ns: u64_at(bytes, 8)?,
        t2_ns: u64_at(bytes, 16)?,
        t3_ns: u64_at(bytes, 24)?,
        received: Received {
            bitmap: u64_at(bytes, 32)?,
            highest: u32_at(bytes, 40)?,
            count: u32_at(bytes, 44)?,
        },
        wait_us: u32_at(bytes, 48)?,
    })
}

fn head(kind: u8, sequence: u32, t1_ns: u64) -> [u8; ECHO_LEN] {
    let mut bytes = [0; ECHO_LEN];
    put(&mut bytes, 0, &MAGIC);
    put(&mut bytes, 2, &[VERSION, kind]);
    put(&mut bytes, 4, &sequence.to_be_bytes());
    put(&mut bytes, 8, &t1_ns.to_be_bytes());
    bytes
}

fn put(bytes: &mut [u8; ECHO_LEN], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

fn expect(bytes: &[u8], kind: u8) -> Option<()> {
    (bytes.len() >= ECHO_LEN && bytes[..2] == MAGIC && bytes[2] == VERSION && bytes[3] == kind).then_some(())
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_these_and_no_others() {
        let request = encode_request(Request { sequence: 0x0102_0304, t1_ns: 0x1112_1314_1516_1718 });
        assert_eq!(&request[..16], b"PR\x01\x01\x01\x02\x03\x04\x11\x12\x13\x14\x15\x16\x17\x18");
        assert_eq!(&request[48..52], &[0xff; 4]);
        let reply = encode_reply(&Reply {
            sequence: 1,
            t1_ns: 2,
            t2_ns: 3,
            t3_ns: 4,
            received: Received { bitmap: 5, highest: 6, count: 7 },
            wait_us: 8,
        });
        assert_eq!(reply[2..4], [1, 2]);
        for (offset, value) in [(7, 1), (15, 2), (23, 3), (31, 4), (39, 5), (43, 6), (47, 7), (51, 8)] {
            assert_eq!(reply[offset], value, "offset {offset}");
        }
    }

    #[test]
    fn a_request_is_not_taken_for_a_reply_nor_the_other_way_round() {
        let request = encode_request(Request { sequence: 1, t1_ns: 2 });
        assert_eq!(decode_reply(&request), None);
        assert!(decode_request(&request).is_some());
        let mut other_version = request;
        other_version[2] = 9;
        assert_eq!(decode_request(&other_version), None);
    }

    #[test]
    fn the_window_tells_what_arrived_what_did_not_and_what_it_cannot_know() {
        let mut received = Received::default();
        for sequence in [5, 6, 8, 7, 9, 12] {
            assert!(received.note(sequence), "{sequence}");
        }
        assert!(!received.note(8), "a repeat is not counted");
        assert_eq!(received.count, 6);
        assert_eq!(received.saw(7), Some(true));
        assert_eq!(received.saw(10), Some(false));
        assert_eq!(received.saw(13), None, "not heard of yet");
        received.note(100);
        assert_eq!(received.saw(12), None, "88 behind");
        assert!(!received.note(12), "too old to tell a repeat from a late arrival");
        assert_eq!(received.saw(100), Some(true));
    }

    #[test]
    fn the_first_sequence_leaves_no_ghosts_before_it() {
        let mut received = Received::default();
        received.note(3);
        assert_eq!(received.saw(2), Some(false));
        assert_eq!(received.bitmap, 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_request(&bytes);
            let _ = decode_reply(&bytes);
        }

        #[test]
        fn what_is_written_is_read_again(sequence: u32, t1_ns: u64, t2_ns: u64, t3_ns: u64, bitmap: u64, highest: u32, count: u32, wait_us: u32) {
            let request = Request { sequence, t1_ns };
            prop_assert_eq!(decode_request(&encode_request(request)), Some(request));
            let reply = Reply { sequence, t1_ns, t2_ns, t3_ns, received: Received { bitmap, highest, count }, wait_us };
            prop_assert_eq!(decode_reply(&encode_reply(&reply)), Some(reply));
        }

        #[test]
        fn every_truncation_is_dropped(cut in 0..ECHO_LEN) {
            let request = encode_request(Request { sequence: 1, t1_ns: 2 });
            prop_assert_eq!(decode_request(&request[..cut]), None);
        }

        #[test]
        fn the_count_is_the_number_of_distinct_recent_sequences(sequences in proptest::collection::vec(0_u32..64, 0..200)) {
            let mut received = Received::default();
            for sequence in &sequences { received.note(*sequence); }
            let mut distinct = sequences.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(received.count as usize, distinct.len());
            for sequence in 0..64 {
                let expected = (sequence <= received.highest).then(|| distinct.contains(&sequence));
                if !sequences.is_empty() { prop_assert_eq!(received.saw(sequence), expected); }
            }
        }
    }
}
