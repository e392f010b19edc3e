//! Addresses of libprocess processes.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::util::line::quote;

/// The address of a libprocess process: `overlay-agent@10.0.0.1:5051`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upid {
    /// Name of the process within its operating system process.
    pub id: String,
    /// Address that its libprocess listens on.
    pub address: SocketAddr,
}

impl Upid {
    /// Returns the address of the process `id` at `address`.
    pub fn new(id: impl Into<String>, address: SocketAddr) -> Upid {
        Upid {
            id: id.into(),
            address,
        }
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

/// Longest id of a process, in characters. Those of Mesos have about 50, such as
/// `scheduler-` with a UUID.
const MAX_ID: usize = 128;

/// A text that is not the pid of a process that can be answered. The text is quoted and
/// shortened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a libprocess pid; one looks like \"overlay-agent@10.0.0.1:5051\"")]
pub struct BadUpid(pub String);

impl FromStr for Upid {
    type Err = BadUpid;

    fn from_str(text: &str) -> Result<Upid, BadUpid> {
        let bad = || BadUpid(quote(text));
        let (id, address) = text.split_once('@').ok_or_else(bad)?;
        let address: SocketAddr = address.parse().map_err(|_| bad())?;
        // A scope of an IPv6 address means something on the sender's host only.
        let has_scope = text.contains('%');
        if !is_id(id) || address.port() == 0 || has_scope {
            return Err(bad());
        }
        Ok(Upid::new(id, address))
    }
}

/// Returns whether libprocess can have given this id to a process.
///
/// libprocess sends a message for `id` as `POST /id/…`. Another id, which only a forged sender
/// has, could make that a request of any kind to any server.
fn is_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-().".contains(&byte);
    let is_path = id.bytes().all(|byte| byte == b'.');
    id.len() <= MAX_ID && id.bytes().all(is_allowed) && !is_path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in [
            "overlay-agent@10.0.0.1:5051",
            "slave(1)@[fd01::1]:5051",
            "scheduler-4f1d54a2-8ae9-4c1e-9a50-5d5a3a4f2f3e@1.2.3.4:1",
            "log_replica.2@1.2.3.4:65535",
        ] {
            assert_eq!(text.parse::<Upid>().unwrap().to_string(), text);
        }
        let longest = format!("{}@1.2.3.4:5", "a".repeat(MAX_ID));
        assert!(longest.parse::<Upid>().is_ok());
        assert!(format!("a{longest}").parse::<Upid>().is_err());
    }

    #[test]
    fn rejects_invalid_pids() {
        for text in [
            "",
            "@1.2.3.4:5",
            "a",
            "a@",
            "a@1.2.3.4",
            "a@host:5050",
            "a@1.2.3.4:99999",
            "a@1.2.3.4:0",
            "a@[fe80::1%2]:5",
            "a@b@1.2.3.4:1",
        ] {
            assert_eq!(text.parse::<Upid>(), Err(BadUpid(quote(text))));
        }
    }

    #[test]
    fn an_id_cannot_change_the_request_to_which_it_belongs() {
        for id in [
            "v1.40/containers/create?name=x&a=",
            "a/b",
            "a?b",
            "a#b",
            "a%2fb",
            "a b",
            "a\r\nHost: b",
            "a\0",
            ".",
            "..",
            "ä",
            "\"",
        ] {
            let error = format!("{id}@10.0.0.1:5051").parse::<Upid>().unwrap_err();
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }

    #[test]
    fn an_error_is_one_short_line() {
        let error = "x\n".repeat(100_000).parse::<Upid>().unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
    }
}
