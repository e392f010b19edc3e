//! libprocess's wire format: messages are HTTP requests whose answers are ignored.

use std::net::SocketAddrV4;

/// Limit of the head of a request and of the line with the size of a chunk, bytes.
const LONGEST_HEAD: usize = 4096;
/// Length, in bytes, from which on a body is read only if it is needed.
const SMALL: usize = 64 << 10;
/// Bytes of a long body that decide whether it is needed.
pub const PREFIX: usize = 128;
/// Length of the trailer after the single chunk of a body.
const AFTER_CHUNK: usize = b"\r\n0\r\n\r\n".len();

/// Encodes a message as libprocess does on a persistent connection.
pub fn encode(from: &str, to: &str, name: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /{to}/{name} HTTP/1.1\r\nUser-Agent: libprocess/{from}\r\nLibprocess-From: {from}\r\n\
         Connection: Keep-Alive\r\nHost: \r\n"
    )
    .into_bytes();
    if body.is_empty() {
        request.extend_from_slice(b"\r\n");
    } else {
        request.extend_from_slice(
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).as_bytes(),
        );
        request.extend_from_slice(body);
        request.extend_from_slice(b"\r\n0\r\n\r\n");
    }
    request
}

/// Returns the pid of an agent.
pub fn pid(address: SocketAddrV4) -> String {
    format!("overlay-agent@{address}")
}

/// A received message.
#[derive(Debug, PartialEq)]
pub struct Message {
    /// The protobuf type's full name.
    pub name: String,
    /// The body; only its first [`PREFIX`] bytes if it is long and not needed.
    pub body: Vec<u8>,
}

/// Decoder of messages in a stream of bytes. Long bodies are skipped unless they are needed.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Number of bytes to skip, and the message to which they belong.
    skipping: Option<(usize, Message)>,
}

/// Head of a message, and positions of its parts in the buffer.
struct Head {
    name: String,
    body: usize,
    length: usize,
    /// End of the message.
    end: usize,
}

impl Reader {
    /// Returns the number of next bytes that are skipped, so they need not be copied from the socket.
    pub fn skippable(&self) -> usize {
        self.skipping.as_ref().map_or(0, |(left, _)| *left)
    }

    /// Records that bytes were skipped. Returns the message if it is complete.
    pub fn skipped(&mut self, count: usize) -> Option<Message> {
        let (left, message) = self.skipping.take()?;
        if count < left {
            self.skipping = Some((left - count, message));
            return None;
        }
        Some(message)
    }

    /// Decodes bytes and calls `taken` with each message. `wanted` decides by the name and the
    /// first bytes of a long body whether it is kept.
    ///
    /// # Errors
    /// The bytes are not messages of libprocess.
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        mut wanted: impl FnMut(&str, &[u8]) -> bool,
        mut taken: impl FnMut(Message),
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            let skippable = self.skippable().min(bytes.len());
            if skippable > 0 {
                self.skipped(skippable).map(&mut taken);
                bytes = &bytes[skippable..];
                continue;
            }
            self.buffer.extend_from_slice(bytes);
            bytes = &[];
            let mut start = 0;
            while let Some(head) = head(&self.buffer[start..])? {
                let available = self.buffer.len() - start;
                let message = |end: usize| Message {
                    name: head.name.clone(),
                    body: self.buffer[start + head.body..start + end].to_vec(),
                };
                if available >= head.end {
                    taken(message(head.body + head.length));
                    start += head.end;
                    continue;
                }
                let prefix = head.body + PREFIX;
                if head.length > SMALL
                    && available >= prefix
                    && !wanted(&head.name, &self.buffer[start + head.body..start + prefix])
                {
                    self.skipping = Some((head.end - available, message(prefix)));
                    start = self.buffer.len();
                }
                break;
            }
            self.buffer.drain(..start);
            if self.buffer.is_empty() {
                // Thousands of readers exist, so free the memory.
                self.buffer = Vec::new();
            }
        }
        Ok(())
    }
}

/// Decodes the head at the beginning of `bytes`; `None`: it is not complete.
fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let find = |from: usize, what: &[u8]| {
        let end = bytes.len().min(from + LONGEST_HEAD);
        let found = bytes[from..end]
            .windows(what.len())
            .position(|window| window == what);
        match found {
            None if end == from + LONGEST_HEAD => Err("a head without an end".to_owned()),
            found => Ok(found.map(|at| from + at)),
        }
    };
    let Some(end) = find(0, b"\r\n\r\n")? else {
        return Ok(None);
    };
    let text = str::from_utf8(&bytes[..end])
        .map_err(|error| format!("a head that is no text: {error}"))?;
    let path = text
        .strip_prefix("POST /overlay-agent/")
        .and_then(|rest| rest.split(' ').next());
    let name = path
        .ok_or_else(|| format!("no message: {text}"))?
        .to_owned();
    let body = end + 4;
    if !text.contains("Transfer-Encoding: chunked") {
        return Ok(Some(Head {
            name,
            body,
            length: 0,
            end: body,
        }));
    }
    let Some(line) = find(body, b"\r\n")? else {
        return Ok(None);
    };
    let size = str::from_utf8(&bytes[body..line])
        .ok()
        .and_then(|text| usize::from_str_radix(text, 16).ok());
    let length = size.ok_or("a chunk without a size")?;
    let body = line + 2;
    Ok(Some(Head {
        name,
        body,
        length,
        end: body + length + AFTER_CHUNK,
    }))
}

#[test]
fn decoding_restores_messages() {
    let long = vec![7; SMALL + 1];
    let bodies: [&[u8]; 4] = [b"", b"body", &long, b"end"];
    let stream: Vec<u8> = bodies
        .iter()
        .flat_map(|body| {
            encode(
                "overlay-master@127.0.0.1:1",
                "overlay-agent",
                "a.Name",
                body,
            )
        })
        .collect();
    for (step, wanted) in [(1, false), (1000, true), (stream.len(), false)] {
        let (mut reader, mut messages) = (Reader::default(), Vec::new());
        for part in stream.chunks(step) {
            reader
                .read(part, |_, _| wanted, |message| messages.push(message.body))
                .unwrap();
        }
        // A body that arrives complete is kept.
        let kept = if wanted || step == stream.len() {
            long.len()
        } else {
            PREFIX
        };
        assert_eq!(
            messages.iter().map(Vec::len).collect::<Vec<_>>(),
            [0, 4, kept, 3]
        );
    }
    assert!(
        Reader::default()
            .read(b"GET / HTTP/1.1\r\n\r\n", |_, _| true, |_| {})
            .is_err()
    );
}
