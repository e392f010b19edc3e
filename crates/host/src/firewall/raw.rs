//! Packets of the overlays to Docker containers, in the table `raw`. Docker 28 and later drops
//! there what arrives for a container from another device than the container's own bridge:
//!
//! ```text
//! PREROUTING  -d <container> ! -i <bridge> -j DROP
//! ```
//!
//! Two chains of this module let the packets of the overlays through:
//!
//! ```text
//! MESOS-OVERLAY     -i <overlay device> -j MESOS-OVERLAY-TO
//! MESOS-OVERLAY-TO  -d <subnet of a Docker bridge> -j ACCEPT
//! ```
//!
//! They exist before the engine has such rules, so that an upgrade of the engine cuts nothing off.
#![forbid(unsafe_code)]

use overlay_core::util::family::Family;

use super::desired::FirewallDesired;
use super::op::{Plan, RAW};
use super::own_chains::{JumpPosition, OwnChain, Place, Table};
use super::ruleset::Ruleset;

const PREROUTING: &str = "PREROUTING";

const FROM: &str = "MESOS-OVERLAY";
const TO: &str = "MESOS-OVERLAY-TO";

/// Writes the chains and the jump to them if there are Docker bridges, and removes them otherwise.
pub(super) fn plan(desired: &FirewallDesired, family: Family, rules: &Ruleset, plan: &mut Plan) {
    let table = Table {
        name: RAW,
        family,
        rules,
    };
    let subnets = desired.docker_subnets.iter();
    let accepts: Vec<String> = subnets
        .filter(|subnet| family.includes(**subnet))
        .map(|subnet| format!("-d {subnet} -j ACCEPT"))
        .collect();
    let (mut chains, mut position) = (Vec::new(), None);
    if !accepts.is_empty() {
        let from = desired.devices.iter();
        let from = from.map(|name| format!("-i {name} -j {TO}")).collect();
        chains.push(OwnChain {
            name: FROM,
            rules: from,
        });
        chains.push(OwnChain {
            name: TO,
            rules: accepts,
        });
        position = Some(position_of_jump(table));
    }
    table.write_chains(&chains, plan);
    table.place_jump(FROM, position, plan);
    table.remove_stale_chains(&[FROM, TO], &chains, plan);
}

/// Returns the position in front of all of Docker's rules, and behind what an operator wrote
/// before.
fn position_of_jump(table: Table<'_>) -> JumpPosition {
    let rules = table.chain(PREROUTING);
    let before = rules.iter().position(|rule| is_docker(rule));
    JumpPosition {
        chain: PREROUTING,
        place: Place::Before(before.unwrap_or(rules.len())),
    }
}

/// Tells if a rule drops what comes from another device than one, as Docker's rules do.
fn is_docker(rule: &str) -> bool {
    rule.contains("! -i ") && rule.ends_with("-j DROP")
}
