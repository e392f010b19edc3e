//! One pass over the engine: ask what it has, plan, carry out, report.

use super::client::{Client, Failure};
use super::desired::{EngineDesired, Network};
use super::observed::{Engine, Existing};
use super::plan::{Op, plan};
use crate::core::{EngineReport, Usage};

/// Makes the engine's networks as `desired`, as far as that can be done now.
pub(super) async fn run(desired: &EngineDesired) -> EngineReport {
    match Client::new(&desired.socket, desired.timeout) {
        Ok(client) => carry_out(&client, desired).await,
        Err(failure) => hopeless(desired, &failure),
    }
}

/// Nothing could be done. An engine that is not there has none of our networks, so
/// where none are wanted all is well.
fn hopeless(desired: &EngineDesired, failure: &Failure) -> EngineReport {
    if desired.networks.is_empty() && matches!(failure, Failure::Absent(_)) {
        return EngineReport::default();
    }
    EngineReport::hopeless(desired, failure.sentence().to_owned())
}

async fn carry_out(client: &Client, desired: &EngineDesired) -> EngineReport {
    let engine = match client.observe(desired).await {
        Ok(engine) => engine,
        Err(failure) => return hopeless(desired, &failure),
    };
    let plan = plan(desired, &engine);
    let mut report = EngineReport {
        overlays: plan.conflicts,
        notes: plan.notes,
        usage: usage(desired, &engine),
        operations: plan.ops.len(),
        ..EngineReport::default()
    };
    for (done, op) in plan.ops.iter().enumerate() {
        let result = match op {
            Op::Remove { id, .. } => client.remove(id).await,
            Op::Create { name, network } => client.create(engine.api, name, network).await,
        };
        let Err(failure) = result else {
            log::info!("{op}");
            continue;
        };
        report_failure(&mut report, desired, op, &failure);
        if !matches!(failure, Failure::Refused(_)) {
            // The next call would wait just as long for nothing.
            for op in &plan.ops[done + 1..] {
                report_failure(&mut report, desired, op, &failure);
            }
            break;
        }
    }
    report
}

/// An operation did not work out. What was to be removed for something else to take
/// its place is told there.
fn report_failure(report: &mut EngineReport, desired: &EngineDesired, op: &Op, failure: &Failure) {
    let sentence = format!("cannot {op}: {}", failure.sentence());
    if desired.networks.contains_key(op.name()) {
        report.overlays.entry(op.name().to_owned()).or_insert(sentence);
    } else {
        report.notes.push(sentence);
    }
}

/// How many addresses the wanted networks have, and how many of them are taken.
fn usage(desired: &EngineDesired, engine: &Engine) -> std::collections::BTreeMap<String, Usage> {
    let usage = desired.networks.iter().filter_map(|(name, network)| {
        let existing = engine.networks.iter().find(|existing| existing.name == *name);
        Some((name.clone(), usage_of(network, existing)?))
    });
    usage.collect()
}

/// That of one network. With both families each container has one address of each,
/// and IPv4 is the one that runs out.
fn usage_of(network: &Network, existing: Option<&Existing>) -> Option<Usage> {
    let subnet = network.subnets.iter().min_by_key(|net| net.addr().is_ipv6())?;
    let (width, reserved) = match subnet.addr().is_ipv4() {
        // The network's address, the gateway's and broadcast.
        true => (32, 3),
        // The routers' anycast address and the gateway's.
        false => (128, 2),
    };
    let bits = u32::from(width - subnet.prefix_len());
    let all = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
    let endpoints = existing.map_or(&[][..], |existing| &existing.endpoints);
    let used = endpoints
        .iter()
        .filter(|endpoint| endpoint.addresses.iter().any(|address| subnet.contains(&address.addr())));
    Some(Usage { total: all.saturating_sub(reserved), used: used.count() as u64 })
}
