//! Removal of all networks of this module from an engine.

use std::path::Path;
use std::time::Duration;

use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::problem::Problem;

use super::client::Failure;
use super::plan::{Op, plan};
use super::reconciler::observe;
use crate::operation::Operation;

/// Result of [`remove_all`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Operations that were applied, or would be.
    pub operations: Vec<Operation>,
    /// Networks that remain because containers use them, one sentence each.
    pub in_use: Vec<String>,
    /// Operations that failed, one sentence each.
    pub problems: Vec<String>,
}

/// Kind of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Apply the operations.
    Apply,
    /// Only return the operations.
    DryRun,
}

/// Removes every network of this module from the engine at `socket`, except those that
/// containers use. An engine that does not exist has none. Blocks for at most `timeout` in each
/// call of the engine; must not be called on a thread that drives an event loop.
///
/// # Errors
/// The engine cannot be talked to. The error is a sentence.
pub fn remove_all(socket: &Path, timeout: Duration, mode: Mode) -> Result<Removal, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start an event loop: {error}"))?;
    let nothing = EngineDesired {
        socket: socket.into(),
        timeout,
        ..EngineDesired::default()
    };
    runtime.block_on(async {
        let (client, observed) = match observe(&nothing).await {
            Ok(found) => found,
            Err(Failure::Absent(_)) => return Ok(Removal::default()),
            Err(failure) => return Err(failure.sentence().to_owned()),
        };
        let plan = plan(&nothing, &observed);
        let mut removal = Removal {
            in_use: Problem::texts(&plan.notes),
            ..Removal::default()
        };
        for op in plan.ops {
            let result = match (&op, mode) {
                (Op::Remove { id, .. }, Mode::Apply) => client.remove(id).await,
                _ => Ok(()),
            };
            match result {
                Ok(()) => removal.operations.push(Operation::from(&op)),
                Err(failure) => {
                    let sentence = format!("cannot {op}: {}", failure.sentence());
                    removal.problems.push(sentence);
                }
            }
        }
        Ok(removal)
    })
}
