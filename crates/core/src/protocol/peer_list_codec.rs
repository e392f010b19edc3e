//! Packed lists of peers: the encoded peers, compressed with zlib. Peers are much alike, so
//! that a packed list has a sixth of the size.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use prost::Message;

use super::limits;
use super::messages::Named;
use super::wire_limits::{Counter, Refusal, complete_fields};
use crate::proto::internal::{Peer, UpdatePeersMessage};

/// Size of the parts in which a list is unpacked, in bytes.
const PART: usize = 64 << 10;

/// Largest size of one peer, in bytes: one with subnets in thousands of overlays.
const MAX_PEER: usize = 1 << 20;

/// Level of compression. A higher one makes lists a tenth shorter and takes twice the time.
const LEVEL: u32 = 3;

/// Field number of the peers in an [`UpdatePeersMessage`].
pub const PEERS: u32 = 102;

/// Packs encoded `peers` fields of an [`UpdatePeersMessage`].
pub fn pack<'a>(mut peers: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(LEVEL));
    let written = peers.try_for_each(|peer| encoder.write_all(peer));
    // Writing to a vector does not fail.
    written
        .and_then(|()| encoder.finish())
        .unwrap_or_default()
        .into()
}

/// Returns the peers of a packed list. The list is unpacked and decoded in parts, so that one
/// that is too long costs no more than the longest one.
///
/// # Errors
/// The list is damaged or exceeds the limits of an [`UpdatePeersMessage`]. The text continues a
/// sentence about the message.
pub fn unpack(packed: &[u8]) -> Result<Vec<Peer>, String> {
    let mut counter = Counter::new(
        UpdatePeersMessage::NAME,
        limits::of_message(UpdatePeersMessage::NAME),
    );
    let mut decoder = ZlibDecoder::new(packed);
    let mut message = UpdatePeersMessage::default();
    let mut part = Vec::new();
    loop {
        let unpacked = decoder.by_ref().take(PART as u64).read_to_end(&mut part);
        let is_end =
            unpacked.map_err(|error| format!("its packed peers are damaged: {error}"))? == 0;
        // What is left over at the end is no field, and the decoder says why.
        let complete = if is_end {
            part.len()
        } else {
            complete_fields(&part)
        };
        add(&mut message, &mut counter, &part[..complete])
            .map_err(|refusal| format!("its packed peers cannot be decoded: {refusal}"))?;
        part.drain(..complete);
        if part.len() > MAX_PEER {
            return Err(format!(
                "its packed peers have one of more than {MAX_PEER} bytes"
            ));
        }
        if is_end {
            return Ok(message.peers);
        }
    }
}

/// Adds the next fields of a message, unless it exceeds its limits.
fn add(
    message: &mut UpdatePeersMessage,
    counter: &mut Counter,
    fields: &[u8],
) -> Result<(), Refusal> {
    counter.add(fields)?;
    Ok(message.merge(fields)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(count: u32) -> (Vec<Peer>, Vec<u8>) {
        let peer = |number: u32| Peer {
            ip: std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string(),
            vni: 1024,
            vtep_mac: format!("70:b3:d5:80:{:02x}:{:02x}", number >> 8, number & 255),
            ..Peer::default()
        };
        let peers: Vec<_> = (0..count).map(peer).collect();
        let mut bytes = Vec::new();
        prost::encoding::message::encode_repeated(PEERS, &peers, &mut bytes);
        (peers, bytes)
    }

    #[test]
    fn a_packed_list_is_shorter_and_can_be_unpacked() {
        for count in [0, 1, 1000] {
            let (peers, bytes) = encoded(count);
            let packed = pack(bytes.chunks(100));
            assert_eq!(unpack(&packed).unwrap(), peers);
            assert!(
                count < 1000 || packed.len() < bytes.len() / 5,
                "{} of {}",
                packed.len(),
                bytes.len()
            );
        }
    }

    #[test]
    fn a_damaged_list_is_an_error() {
        let packed = pack([encoded(10).1.as_slice()].into_iter());
        let mut flipped = packed.to_vec();
        flipped[packed.len() / 2] ^= 1;
        for damaged in [&packed[..packed.len() - 1], &[], &flipped] {
            assert!(
                unpack(damaged).unwrap_err().contains("damaged"),
                "{damaged:?}"
            );
        }
        assert!(
            unpack(&pack([b"garbage".as_slice()].into_iter()))
                .unwrap_err()
                .contains("cannot be decoded")
        );
    }

    #[test]
    fn an_unpacked_list_has_a_largest_size() {
        // Fields of a later version, which are skipped: number 1, of 60 KiB.
        let mut skipped = vec![10, 0x80, 0xe0, 0x03];
        skipped.resize(4 + (60 << 10), 0);
        let packed = pack((0..1100).map(|_| skipped.as_slice()));
        assert!(packed.len() < 1 << 20);
        assert!(unpack(&packed).unwrap_err().contains("more than"));
    }
}
