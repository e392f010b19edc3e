//! RecordIO, the framing of Mesos's event streams: a length in decimal, a newline, and that number
//! of bytes.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Limit of a record, bytes.
const MAX_RECORD: u64 = 64 << 20;

/// Iterator over the JSON events of a stream.
pub struct Events<R>(BufReader<R>);

impl<R: Read> Events<R> {
    /// Makes an iterator over the events of `reader`.
    pub fn new(reader: R) -> Events<R> {
        Events(BufReader::new(reader))
    }

    fn read(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        self.0
            .read_line(&mut line)
            .context("reading the length of an event")?;
        if line.is_empty() {
            return Ok(None);
        }
        let length: u64 = line
            .trim()
            .parse()
            .with_context(|| format!("length {line:?} of an event"))?;
        if length > MAX_RECORD {
            bail!("an event of {length} bytes");
        }
        let mut record = Vec::new();
        self.0
            .by_ref()
            .take(length)
            .read_to_end(&mut record)
            .context("reading an event")?;
        ensure!(
            record.len() as u64 == length,
            "the stream ended within an event"
        );
        Ok(Some(
            serde_json::from_slice(&record).context("an event that is not JSON")?,
        ))
    }
}

impl<R: Read> Iterator for Events<R> {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Result<Value>> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_events_and_ends() {
        let events: Result<Vec<Value>> = Events::new(&b"2\n{}3\n[1]"[..]).collect();
        assert_eq!(
            events.unwrap(),
            [serde_json::json!({}), serde_json::json!([1])]
        );
    }

    #[test]
    fn a_torn_event_is_an_error() {
        for text in ["9\n{}", "x\n{}", "2\n{]", "99999999999\n"] {
            assert!(
                Events::new(text.as_bytes()).next().unwrap().is_err(),
                "{text:?}"
            );
        }
    }
}
