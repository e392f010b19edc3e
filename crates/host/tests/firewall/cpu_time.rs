//! CPU time of a reconciliation in which nothing has changed, with and without the
//! firewall, including the processes that it starts. A measurement, not a test:
//! `cargo test --release --test firewall cpu_time -- --ignored --nocapture --test-threads 1`.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use overlay_core::host_api::desired::{Desired, Firewall};

use crate::tool_set::ToolSet;
use crate::topology::Topology;

/// Number of reconciliations over which the time is averaged.
const RECONCILIATIONS: u32 = 100;

/// Returns the CPU time used so far by this process and its children.
fn cpu_time() -> Duration {
    let times =
        [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].map(|who| getrusage(who).unwrap());
    let micros: i64 = times
        .iter()
        .map(|usage| (usage.user_time() + usage.system_time()).num_microseconds())
        .sum();
    Duration::from_micros(micros.try_into().unwrap())
}

/// Returns the CPU time of one reconciliation without differences.
fn cost_of_reconciliation(topology: &Topology, desired: &Desired) -> Duration {
    // A worker, since it keeps the fingerprint between reconciliations.
    let worker = topology.host.worker();
    worker.apply_ok(desired);
    assert_eq!(worker.apply_ok(desired), 0);
    let before = cpu_time();
    (0..RECONCILIATIONS).for_each(|_| assert_eq!(worker.apply_ok(desired), 0));
    (cpu_time() - before) / RECONCILIATIONS
}

#[test]
#[ignore = "a measurement"]
fn unchanged_reconciliations() {
    for tools in [
        ToolSet::IptablesNft,
        ToolSet::IptablesLegacy,
        ToolSet::Nftables,
        ToolSet::NftablesAlone,
    ] {
        let Some(host) = tools.host("unchanged_reconciliations") else {
            return;
        };
        let topology = Topology::new(tools, host);
        let desired = topology.desired();
        let with = cost_of_reconciliation(&topology, &desired);
        let without = cost_of_reconciliation(
            &topology,
            &Desired {
                firewall: Firewall::None,
                ..desired
            },
        );
        println!(
            "{tools:?}: {} µs with a firewall, {} µs without",
            with.as_micros(),
            without.as_micros()
        );
    }
}
