//! Sequences of inputs of a machine as bytes. Each step consists of a kind, an argument, the length
//! of its payload (two bytes, little-endian), and the payload.

/// Limit of steps, for speed.
const MAX_STEPS: usize = 100;

/// A step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Kind of the input; each machine has its own list.
    pub kind: u8,
    /// Argument, such as the number of a sender.
    pub argument: u8,
    /// Payload.
    pub bytes: &'a [u8],
}

/// Decodes steps. Every sequence of bytes is valid.
pub fn read(mut data: &[u8]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    while let [kind, argument, low, high, rest @ ..] = data
        && steps.len() < MAX_STEPS
    {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        steps.push(Step {
            kind: *kind,
            argument: *argument,
            bytes,
        });
        data = rest;
    }
    steps
}

/// Encodes steps. Payloads are truncated to the largest length.
pub fn write(steps: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (kind, argument, bytes) in steps {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        data.extend([*kind, *argument]);
        data.extend(length.to_le_bytes());
        data.extend(&bytes[..usize::from(length)]);
    }
    data
}

/// HTTP methods by argument.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "get", ""];

/// A request. The argument of the step selects the method; the payload consists of path, query,
/// `Accept` and body, separated by zeros.
pub struct Asked {
    /// HTTP method.
    pub method: &'static str,
    /// Path.
    pub path: String,
    /// Query parameter, if any.
    pub query: Option<(String, String)>,
    /// `Accept` header.
    pub accept: Option<String>,
    /// Body.
    pub body: Vec<u8>,
}

/// Decodes a step as a request.
pub fn asked(step: &Step<'_>) -> Asked {
    let mut parts = step.bytes.splitn(4, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (path, query, accept, body) = (text(part()), text(part()), text(part()), part().to_vec());
    Asked {
        method: METHODS[usize::from(step.argument) % METHODS.len()],
        path,
        query: query
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        accept: (!accept.is_empty()).then_some(accept),
        body,
    }
}
