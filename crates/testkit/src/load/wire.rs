//! libprocess's wire: messages are HTTP requests whose answers nobody reads.

use std::net::SocketAddrV4;

/// The longest head of a request, and the longest line that says how long a chunk is.
const LONGEST_HEAD: usize = 4096;
/// A body beyond this is read to its end only if somebody wants it.
const SMALL: usize = 64 << 10;
/// So much of a long body is there when it is asked whether somebody wants it.
pub const PREFIX: usize = 128;
/// What follows the one chunk of a body.
const AFTER_CHUNK: usize = b"\r\n0\r\n\r\n".len();

/// A message, as libprocess sends it over a lasting connection.
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

/// The pid of an agent.
pub fn pid(address: SocketAddrV4) -> String {
    format!("overlay-agent@{address}")
}

/// A message that came.
#[derive(Debug, PartialEq)]
pub struct Message {
    /// The protobuf type's full name.
    pub name: String,
    /// The body; of a long one that nobody wanted, the first [`PREFIX`] bytes.
    pub body: Vec<u8>,
}

/// Takes messages out of a stream of bytes. Long bodies are not kept unless wanted.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// How much more is to be thrown away, and the message that it is of.
    skipping: Option<(usize, Message)>,
}

/// The head of a message, and where its parts are in the buffer.
struct Head {
    name: String,
    body: usize,
    length: usize,
    /// Behind everything.
    end: usize,
}

impl Reader {
    /// How many of the next bytes need not be read, only taken off the socket.
    pub fn skippable(&self) -> usize {
        self.skipping.as_ref().map_or(0, |(left, _)| *left)
    }

    /// So many bytes were taken off the socket.
    pub fn skipped(&mut self, count: usize) -> Option<Message> {
        let (left, message) = self.skipping.take()?;
        if count < left {
            self.skipping = Some((left - count, message));
            return None;
        }
        Some(message)
    }

    /// More bytes came. `wanted` says of a long body, of which it sees the beginning, whether to
    /// keep it. Each message is given to `taken`. The error is what libprocess does not send.
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
                // There are thousands of these.
                self.buffer = Vec::new();
            }
        }
        Ok(())
    }
}

/// Reads the head at the beginning of `bytes`; `None`: it is not complete yet.
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
fn messages_are_read_as_they_are_written() {
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
        // A body that came whole at once is not worth being thrown away.
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
