//! Journals of LevelDB: a sequence of blocks with records.
//!
//! A block has 32 KiB. A record has a header of 7 bytes: a checksum (CRC-32C of the type and the
//! content, rotated by 15 bits and increased by a constant), the length of the content (2 bytes)
//! and the type. An entry that does not fit into a block has several records. Fewer than 7 bytes
//! at the end of a block are zeros.

/// Size of a block, in bytes.
const BLOCK: usize = 32 << 10;
/// Size of a record's header, in bytes.
const HEADER: usize = 7;
/// Constant that is added to rotated checksums.
const CHECKSUM_DELTA: u32 = 0xa282_ead8;

/// The record has a whole entry.
const FULL: u8 = 1;
/// The record has the beginning of an entry.
const FIRST: u8 = 2;
/// The record has neither the beginning nor the end of an entry.
const MIDDLE: u8 = 3;
/// The record has the end of an entry.
const LAST: u8 = 4;

/// A journal.
#[derive(Debug)]
pub struct Journal<'a> {
    content: &'a [u8],
}

impl<'a> Journal<'a> {
    /// Takes the content of a journal's file.
    pub fn new(content: &'a [u8]) -> Journal<'a> {
        Journal { content }
    }

    /// Returns the size of the longest beginning that has whole entries only.
    pub fn whole(&self) -> usize {
        let (mut at, mut end, mut is_inside) = (0, 0, false);
        loop {
            let rest_of_block = BLOCK - at % BLOCK;
            if rest_of_block < HEADER {
                at += rest_of_block;
            }
            let Some((kind, size)) = self.record(at) else {
                return end;
            };
            is_inside = match (kind, is_inside) {
                (FULL, false) | (LAST, true) => false,
                (FIRST, false) | (MIDDLE, true) => true,
                _ => return end,
            };
            at += size;
            if !is_inside {
                end = at;
            }
        }
    }

    /// Returns the type and the size of the record at this offset; `None`: there is none, or it
    /// is damaged.
    fn record(&self, at: usize) -> Option<(u8, usize)> {
        let (header, rest) = self.content.get(at..)?.split_first_chunk::<HEADER>()?;
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        if at % BLOCK + HEADER + length > BLOCK {
            return None;
        }
        let content = rest.get(..length)?;
        let expected = checksum(kind, content);
        (u32::from_le_bytes([c0, c1, c2, c3]) == expected).then_some((kind, HEADER + length))
    }
}

fn checksum(kind: u8, content: &[u8]) -> u32 {
    let crc = !content
        .iter()
        .fold(step(!0, kind), |crc, byte| step(crc, *byte));
    crc.rotate_right(15).wrapping_add(CHECKSUM_DELTA)
}

/// Adds a byte to a CRC-32C.
fn step(crc: u32, byte: u8) -> u32 {
    (0..8).fold(crc ^ u32::from(byte), |crc, _| {
        (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let mut record = checksum(kind, content).to_le_bytes().to_vec();
        record.extend(length.to_le_bytes());
        record.push(kind);
        record.extend(content);
        record
    }

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value of CRC-32C.
        let crc = b"123456789".iter().fold(!0, |crc, byte| step(crc, *byte));
        assert_eq!(!crc, 0xe306_9283);
    }

    #[test]
    fn a_whole_journal_stays() {
        let mut journal = record(FULL, b"one");
        journal.extend(record(FULL, b""));
        journal.extend(record(FULL, b"three"));
        assert_eq!(Journal::new(&journal).whole(), journal.len());
        assert_eq!(Journal::new(&[]).whole(), 0);
    }

    #[test]
    fn entries_go_on_in_the_next_block() {
        // The first block ends with zeros that are too few for a header.
        let mut journal = record(FULL, &[1; BLOCK - HEADER - 3]);
        journal.extend([0; 3]);
        journal.extend(record(FIRST, &[2; BLOCK - HEADER]));
        journal.extend(record(MIDDLE, &[3; BLOCK - HEADER]));
        let unfinished = journal.len();
        journal.extend(record(LAST, &[4; 9]));
        assert_eq!(Journal::new(&journal).whole(), journal.len());
        assert_eq!(
            Journal::new(&journal[..unfinished]).whole(),
            BLOCK - 3,
            "an entry without its end"
        );
    }

    #[test]
    fn the_copy_ends_before_a_part_of_a_record() {
        let mut journal = record(FULL, b"one");
        let whole = journal.len();
        // A part of a record, and the next record right behind it.
        journal.extend(&record(FULL, b"two")[..8]);
        journal.extend(record(FULL, b"three"));
        assert_eq!(Journal::new(&journal).whole(), whole);
    }

    #[test]
    fn the_copy_ends_before_a_changed_byte() {
        let mut journal = record(FULL, b"one");
        let whole = journal.len();
        journal.extend(record(FULL, b"two"));
        for position in whole..journal.len() {
            let mut damaged = journal.clone();
            damaged[position] ^= 0x40;
            assert_eq!(Journal::new(&damaged).whole(), whole, "byte {position}");
        }
    }
}
