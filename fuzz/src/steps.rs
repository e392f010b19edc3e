//! What happens to a machine, one thing after the other, as bytes: each is a kind, an
//! argument, the length of what follows (two bytes, the lower one first), and that.

/// So many things happen at most; more would only be slow.
const MOST: usize = 100;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What; each machine has its own list.
    pub kind: u8,
    /// Who, how or which.
    pub argument: u8,
    /// Whatever comes with it.
    pub bytes: &'a [u8],
}

/// Takes bytes apart. There are none that could not be.
pub fn read(mut data: &[u8]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    while let [kind, argument, low, high, rest @ ..] = data
        && steps.len() < MOST
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

/// The other way round. What comes with a step is cut off where its length ends.
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

/// The methods of requests.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "get", ""];

/// A request: its argument says the method, and the bytes are path, query, `Accept`
/// and body with zeros between them.
pub struct Asked {
    /// `GET`, …
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// One parameter, if there is one.
    pub query: Option<(String, String)>,
    /// The `Accept` header.
    pub accept: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Reads a step as a request.
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
