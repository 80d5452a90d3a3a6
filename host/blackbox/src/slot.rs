//! One slot: who writes it, how it is published, how it is read.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

/// Size of a slot.
pub(super) const SLOT_BYTES: usize = 512;

/// Words of a slot before its payload: sequence number, head, time.
const FIXED_BYTES: usize = 24;

/// Largest payload of a record.
pub const PAYLOAD_BYTES: usize = SLOT_BYTES - FIXED_BYTES;

/// Set in the sequence number while the slot is written.
const BUSY: u64 = 1 << 63;

/// Takes a slot of a ring for the record `seq`, unless somebody writes it or it holds a newer one.
pub(super) fn claim(words: &[AtomicU64], seq: u64) -> bool {
    let held = words[0].load(Relaxed);
    held < seq && words[0].compare_exchange(held, BUSY | seq, Acquire, Relaxed).is_ok()
}

/// Takes a slot that its caller has for itself.
pub(super) fn take(words: &[AtomicU64]) {
    words[0].store(BUSY, Relaxed);
    // A reader that finds what is written from here on finds the slot taken.
    fence(Release);
}

/// Gives a slot back.
pub(super) fn free(words: &[AtomicU64]) {
    words[1].store(0, Relaxed);
    words[0].store(0, Release);
}

/// Writes a slot that was taken. The sequence number comes last and makes it valid.
pub(super) fn publish(words: &[AtomicU64], seq: u64, at_ms: u64, kind: u16, payload: &[u8]) {
    let length = payload.len().min(PAYLOAD_BYTES);
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&seq.to_le_bytes());
    bytes[12..14].copy_from_slice(&(length as u16).to_le_bytes());
    bytes[14..16].copy_from_slice(&kind.to_le_bytes());
    bytes[16..24].copy_from_slice(&at_ms.to_le_bytes());
    bytes[FIXED_BYTES..FIXED_BYTES + length].copy_from_slice(&payload[..length]);
    let used = FIXED_BYTES + length;
    let sum = checksum(&bytes[..used]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    let (chunks, _) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter().zip(chunks).take(used.div_ceil(8)).skip(1) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    words[0].store(seq, Release);
}

/// What a slot holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Held<'a> {
    Nothing,
    /// Half-written, damaged, or truncated.
    Torn,
    Record {
        seq: u64,
        at_ms: u64,
        kind: u16,
        payload: &'a [u8],
    },
}

/// Reads a slot from a file, whatever is in it.
pub(super) fn read(bytes: &[u8]) -> Held<'_> {
    let Some((fixed, payload)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Held::Torn;
    };
    let (words, _) = fixed.as_chunks::<8>();
    let [seq, head, at_ms] = [words[0], words[1], words[2]].map(u64::from_le_bytes);
    if seq == 0 && head == 0 {
        return Held::Nothing;
    }
    let (sum, length, kind) = (head as u32, (head >> 32) as u16, (head >> 48) as u16);
    let Some(payload) = payload.get(..usize::from(length)) else { return Held::Torn };
    let mut summed = [0; SLOT_BYTES];
    let used = FIXED_BYTES + payload.len();
    let Some(place) = summed.get_mut(..used) else { return Held::Torn };
    place.copy_from_slice(&bytes[..used]);
    place[8..12].fill(0);
    if seq == 0 || seq & BUSY != 0 || checksum(place) != sum {
        return Held::Torn;
    }
    Held::Record { seq, at_ms, kind, payload }
}

/// Makes a record of what is in a slot, whatever that is.
pub(super) fn make_sound(bytes: &mut [u8]) {
    let length = u16::from_le_bytes([bytes[12], bytes[13]]).min(PAYLOAD_BYTES as u16);
    bytes[12..14].copy_from_slice(&length.to_le_bytes());
    // Not busy, and not empty.
    bytes[7] &= 0x7f;
    bytes[0] |= 1;
    bytes[8..12].fill(0);
    let sum = checksum(&bytes[..FIXED_BYTES + usize::from(length)]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Vec<AtomicU64> {
        (0..SLOT_BYTES / 8).map(|_| AtomicU64::new(0)).collect()
    }

    fn bytes(slot: &[AtomicU64]) -> Vec<u8> {
        slot.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect()
    }

    #[test]
    fn a_slot_holds_what_was_published_last() {
        let slot = slot();
        assert_eq!(read(&bytes(&slot)), Held::Nothing);
        for (seq, payload) in [(1, &[b'x'; 600][..]), (2, b""), (3, b"seven b")] {
            assert!(claim(&slot, seq));
            assert_eq!(read(&bytes(&slot)), Held::Torn, "half-written");
            publish(&slot, seq, 5, 9, payload);
            let payload = &payload[..payload.len().min(PAYLOAD_BYTES)];
            assert_eq!(read(&bytes(&slot)), Held::Record { seq, at_ms: 5, kind: 9, payload });
        }
    }

    #[test]
    fn a_slot_has_one_writer_and_never_goes_back() {
        let slot = slot();
        assert!(claim(&slot, 7));
        assert!(!claim(&slot, 8), "somebody writes");
        publish(&slot, 7, 0, 0, b"");
        assert!(!claim(&slot, 6), "it holds a newer record");
        free(&slot);
        assert_eq!(read(&bytes(&slot)), Held::Nothing);
        take(&slot);
        assert_eq!(read(&bytes(&slot)), Held::Torn, "half-written");
    }

    #[test]
    fn a_flipped_bit_is_seen_wherever_it_is() {
        let slot = slot();
        assert!(claim(&slot, 7));
        publish(&slot, 7, 1_700_000_000_000, 3, b"0123456789abcdef");
        let good = bytes(&slot);
        for bit in 0..(FIXED_BYTES + 16) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad), Held::Torn, "bit {bit}");
        }
    }
}
