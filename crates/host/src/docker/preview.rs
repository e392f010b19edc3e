//! What a reconciliation of the engine would do, without doing it.

use std::collections::BTreeMap;

use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::problem::Problem;
use overlay_core::host_api::usage::InUse;

use super::client::Failure;
use super::plan::plan;
use super::reconciler::{observe, usage};
use crate::operation::Operation;

/// Changes that a reconciliation would make, and what exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnginePreview {
    /// Operations, in the order of their application.
    pub operations: Vec<Operation>,
    /// Reasons why desired networks cannot be created, by name of the network.
    pub conflicts: BTreeMap<String, String>,
    /// Other facts that the operator should know, one sentence each.
    pub notes: Vec<String>,
    /// Networks of this module that exist, by name.
    pub networks: BTreeMap<String, ExistingUsage>,
    /// Version of the engine's API.
    pub api: String,
}

/// Network of the engine that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExistingUsage {
    /// Name of the bridge.
    pub bridge: Option<String>,
    /// Addresses in use.
    pub in_use: InUse,
}

/// Returns what a reconciliation of the engine would do; `None`: no engine runs, and none is
/// needed. Blocks for at most `desired.timeout` in each call of the engine; must not be called on a
/// thread that drives an event loop.
///
/// # Errors
/// The engine cannot be talked to. The error is a sentence.
pub fn preview(desired: &EngineDesired) -> Result<Option<EnginePreview>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start an event loop: {error}"))?;
    let observed = match runtime.block_on(observe(desired)) {
        Ok((_, observed)) => observed,
        Err(Failure::Absent(_)) if desired.networks.is_empty() => return Ok(None),
        Err(failure) => return Err(failure.sentence().to_owned()),
    };
    let plan = plan(desired, &observed);
    let mut usage = usage(desired, &observed);
    let own = observed.networks.iter().filter(|network| network.is_own());
    let networks = own.map(|network| {
        let existing = ExistingUsage {
            bridge: network.bridge.clone(),
            in_use: usage.remove(&network.name).unwrap_or_default(),
        };
        (network.name.clone(), existing)
    });
    Ok(Some(EnginePreview {
        operations: plan.ops.iter().map(Operation::from).collect(),
        conflicts: plan.conflicts,
        notes: Problem::texts(&plan.notes),
        networks: networks.collect(),
        api: observed.api.to_string(),
    }))
}
