//! Addresses of names of hosts, within a time limit.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Time limit. The system's own is longer than a command should take.
const LIMIT: Duration = Duration::from_secs(2);

/// Returns the addresses of a name.
///
/// # Errors
/// The name has none, or nothing answers in time. The error is a phrase.
pub fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let name = name.to_owned();
    within(LIMIT, move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.map(|address| address.ip()).collect())
    })
}

/// Returns the result of a question that has a time limit. One that takes longer goes on in a thread, which
/// ends with the program.
fn within<T: Send + 'static>(
    limit: Duration,
    question: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (answer, result) = mpsc::channel();
    thread::spawn(move || answer.send(question()));
    let late = |_| Err(format!("no answer within {} s", limit.as_secs()));
    result.recv_timeout(limit).unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_and_waited_for_within_limits() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        assert_eq!(addresses("127.0.0.1"), Ok(vec![loopback]));
        let (_never, wait) = mpsc::channel::<()>();
        let question = move || wait.recv().map_err(|error| error.to_string());
        let late = within(Duration::ZERO, question).unwrap_err();
        assert!(late.contains("no answer within"), "{late}");
    }
}
