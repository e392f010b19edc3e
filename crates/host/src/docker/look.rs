//! Look at an engine that changes nothing.

use std::path::Path;
use std::time::Duration;

use overlay_core::host_api::engine::EngineDesired;

use super::client::{Client, Failure};
use super::observed::Observed;

/// Returns the networks of the engine at `socket`, with the endpoints of those of this module;
/// `None`: there is no engine. Blocks for at most `timeout` in each call of the engine; must not
/// be called on a thread that drives an event loop.
///
/// # Errors
/// The engine cannot be talked to. The error is a sentence.
pub fn look(socket: &Path, timeout: Duration) -> Result<Option<Observed>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start an event loop: {error}"))?;
    let nothing = EngineDesired {
        socket: socket.into(),
        timeout,
        ..EngineDesired::default()
    };
    let observed = runtime.block_on(async {
        let client = Client::new(socket, timeout)?;
        client.observe(&nothing).await
    });
    match observed {
        Ok(observed) => Ok(Some(observed)),
        Err(Failure::Absent(_)) => Ok(None),
        Err(failure) => Err(failure.sentence().to_owned()),
    }
}
