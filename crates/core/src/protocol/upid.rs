//! Addresses of libprocess processes.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

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

/// A text that is not of the form `id@ip:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a libprocess pid; one looks like overlay-agent@10.0.0.1:5051")]
pub struct BadUpid(pub String);

impl FromStr for Upid {
    type Err = BadUpid;

    fn from_str(text: &str) -> Result<Upid, BadUpid> {
        let bad = || BadUpid(text.to_owned());
        // Ids may contain an `@`, addresses do not.
        let (id, address) = text.rsplit_once('@').ok_or_else(bad)?;
        if id.is_empty() {
            return Err(bad());
        }
        Ok(Upid::new(id, address.parse().map_err(|_| bad())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in [
            "overlay-agent@10.0.0.1:5051",
            "slave(1)@[fd01::1]:5051",
            "a@b@1.2.3.4:1",
        ] {
            assert_eq!(text.parse::<Upid>().unwrap().to_string(), text);
        }
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
        ] {
            assert_eq!(text.parse::<Upid>(), Err(BadUpid(text.to_owned())));
        }
    }
}
