//! Probe of the container engine for operators: is it there, and which release is it.

use std::path::Path;
use std::time::Duration;

use super::client::{Client, EngineRelease, Failure};

/// Reason why an engine gave no release. Has a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// Nobody listens on the socket.
    Absent(String),
    /// The socket may not be used by this user.
    Forbidden(String),
    /// The engine does not answer in time, or answers with an error.
    Silent(String),
}

/// Asks the engine at `socket` for its release. Blocks for at most `timeout`; must not be called on a thread
/// that drives an event loop.
///
/// # Errors
/// There is no usable answer.
pub fn probe(socket: &Path, timeout: Duration) -> Result<EngineRelease, ProbeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ProbeError::Silent(format!("cannot start an event loop: {error}")))?;
    let access = nix::unistd::access(socket, nix::unistd::AccessFlags::W_OK);
    if access == Err(nix::errno::Errno::EACCES) {
        let sentence = format!("this user may not use {}", socket.display());
        return Err(ProbeError::Forbidden(sentence));
    }
    let asked = runtime.block_on(async { Client::new(socket, timeout)?.release().await });
    asked.map_err(|failure| match failure {
        Failure::Absent(sentence) => ProbeError::Absent(sentence),
        Failure::Silent(sentence) | Failure::Refused(sentence) => ProbeError::Silent(sentence),
    })
}
