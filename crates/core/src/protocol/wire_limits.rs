//! Limits of serialized messages, checked before they are decoded.
//!
//! An element of a list takes two or three bytes of a message, and hundreds of bytes of memory
//! once it is decoded: 64 MB of a message can become gigabytes. So the elements are counted
//! first, which takes no memory.
//!
//! The tables of the fields that hold lists and messages are generated from the `.proto` files
//! (`build.rs`). Other fields take no more memory than they have bytes.

use bytes::Buf;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// The fields of a message that are lists or messages.
#[derive(Debug)]
struct Shape(&'static [Field]);

#[derive(Debug)]
struct Field {
    number: u32,
    is_list: bool,
    /// The shape of a field that is a message, or a list of messages.
    message: Option<&'static Shape>,
}

/// What a message may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the serialized message.
    pub bytes: usize,
    /// Elements of all lists of the message itself.
    pub elements: usize,
    /// Elements of all lists in messages within the message, at any depth.
    pub inner_elements: usize,
}

/// The reason for which a message is not decoded. The text continues a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message is too large.
    #[error("it has more than {0} bytes")]
    Bytes(usize),
    /// Lists of the message have too many elements.
    #[error("it has more than {0} elements")]
    Elements(usize),
    /// Lists within the message have too many elements.
    #[error("its elements have more than {0} elements")]
    InnerElements(usize),
    /// The message has a group, a kind of field that no version of any message has had.
    #[error("it has a group, which no message has")]
    Group,
    /// The bytes are no message of this type.
    #[error("{0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Decodes a message of the protobuf type `name`, unless it exceeds its limits.
///
/// # Errors
/// The message exceeds a limit, or is malformed. The text continues a sentence about it.
pub fn decode<M: Message + Default>(
    name: &str,
    body: impl Buf + AsRef<[u8]>,
    limits: Limits,
) -> Result<M, Refusal> {
    Counter::new(name, limits).add(body.as_ref())?;
    Ok(M::decode(body)?)
}

/// Counter of the bytes and elements of one message, which may come in parts.
#[derive(Debug)]
pub struct Counter {
    shape: &'static Shape,
    limits: Limits,
    bytes: usize,
    elements: usize,
    inner_elements: usize,
}

/// Position of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// In the message itself.
    Outer,
    /// In a message within it.
    Inner,
}

impl Counter {
    /// Creates a counter for a message of the protobuf type `name`. An unknown type has no
    /// lists.
    pub fn new(name: &str, limits: Limits) -> Counter {
        let shape = SHAPES.iter().find(|(known, _)| *known == name);
        Counter {
            shape: shape.map_or(&Shape(&[]), |(_, shape)| shape),
            limits,
            bytes: 0,
            elements: 0,
            inner_elements: 0,
        }
    }

    /// Adds the next fields of the message.
    ///
    /// # Errors
    /// The message exceeds a limit. A malformed message is no error: it is counted up to the
    /// place where decoding fails.
    pub fn add(&mut self, fields: &[u8]) -> Result<(), Refusal> {
        self.bytes += fields.len();
        if self.bytes > self.limits.bytes {
            return Err(Refusal::Bytes(self.limits.bytes));
        }
        self.add_fields(self.shape, fields, Depth::Outer)
    }

    /// Adds fields of a message of this shape. The recursion is as deep as the declared
    /// messages, none of which contains itself.
    fn add_fields(
        &mut self,
        shape: &'static Shape,
        mut fields: &[u8],
        depth: Depth,
    ) -> Result<(), Refusal> {
        while let Some(field) = take_field(&mut fields) {
            if field.content == Content::Group {
                return Err(Refusal::Group);
            }
            let Some(known) = shape.0.iter().find(|known| known.number == field.number) else {
                continue;
            };
            if known.is_list {
                self.add_element(depth)?;
            }
            if let (Some(shape), Content::Bytes(fields)) = (known.message, field.content) {
                self.add_fields(shape, fields, Depth::Inner)?;
            }
        }
        Ok(())
    }

    fn add_element(&mut self, depth: Depth) -> Result<(), Refusal> {
        let (count, limit, refusal): (_, _, fn(usize) -> Refusal) = match depth {
            Depth::Outer => (&mut self.elements, self.limits.elements, Refusal::Elements),
            Depth::Inner => (
                &mut self.inner_elements,
                self.limits.inner_elements,
                Refusal::InnerElements,
            ),
        };
        *count += 1;
        if *count > limit {
            return Err(refusal(limit));
        }
        Ok(())
    }
}

/// Returns how many bytes of an incomplete message are complete fields.
pub fn complete_fields(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while take_field(&mut rest).is_some() {}
    bytes.len() - rest.len()
}

/// A field of a serialized message.
struct WireField<'a> {
    number: u32,
    content: Content<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content<'a> {
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
    Number,
    /// The beginning or the end of a group.
    Group,
}

/// Takes the first field from `bytes`. Returns `None`, and takes nothing, if that is incomplete
/// or malformed.
fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<WireField<'a>> {
    let mut rest = *bytes;
    let (number, wire_type) = decode_key(&mut rest).ok()?;
    let content = match wire_type {
        WireType::SixtyFourBit => split_off(&mut rest, 8).map(|_| Content::Number)?,
        WireType::ThirtyTwoBit => split_off(&mut rest, 4).map(|_| Content::Number)?,
        WireType::Varint => decode_varint(&mut rest).map(|_| Content::Number).ok()?,
        WireType::LengthDelimited => {
            let length = decode_varint(&mut rest).ok()?;
            split_off(&mut rest, length).map(Content::Bytes)?
        }
        WireType::StartGroup | WireType::EndGroup => Content::Group,
    };
    *bytes = rest;
    Some(WireField { number, content })
}

/// Takes `length` bytes from `bytes`, if there are as many.
fn split_off<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests;
