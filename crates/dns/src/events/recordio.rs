//! RecordIO: the length of a record in decimal digits, a line break, and that many bytes.

use std::io::{self, BufRead, Read, Take};

use super::EventError;

/// Size limit of a record, in bytes. The state of 100,000 tasks has some 200 MB.
pub const MAX_RECORD: u64 = 4 << 30;
/// Digits of the largest length that is read.
const MAX_DIGITS: usize = 10;

/// Records of a stream.
#[derive(Debug)]
pub struct Records<R> {
    stream: R,
}

impl<R: BufRead> Records<R> {
    /// Creates a reader of the records of a stream.
    pub fn new(stream: R) -> Records<R> {
        Records { stream }
    }

    /// Reads the next record with a function, which must read all of it. Returns false at the end of
    /// the stream.
    ///
    /// # Errors
    /// The stream fails or ends inside a record, the length is none or too large, or the function
    /// fails or leaves bytes unread.
    pub fn read(
        &mut self,
        read: impl FnOnce(&mut Take<&mut R>) -> Result<(), EventError>,
    ) -> Result<bool, EventError> {
        let Some(length) = self.length()? else {
            return Ok(false);
        };
        let mut record = (&mut self.stream).take(length);
        read(&mut record)?;
        match record.limit() {
            0 => Ok(true),
            left => Err(EventError::Malformed(format!(
                "an event has {left} bytes behind its end"
            ))),
        }
    }

    /// Reads the length of the next record. `None`: the stream ends here.
    fn length(&mut self) -> Result<Option<u64>, EventError> {
        let mut length = 0_u64;
        for digits in 0.. {
            let mut byte = [0];
            if self.stream.read(&mut byte)? == 0 {
                return match digits {
                    0 => Ok(None),
                    _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                };
            }
            match byte[0] {
                digit @ b'0'..=b'9' if digits < MAX_DIGITS => {
                    length = length * 10 + u64::from(digit - b'0');
                }
                b'\n' if digits > 0 && length <= MAX_RECORD => return Ok(Some(length)),
                _ => break,
            }
        }
        Err(EventError::Malformed(format!(
            "an event does not begin with its length, a number up to {MAX_RECORD}"
        )))
    }
}
