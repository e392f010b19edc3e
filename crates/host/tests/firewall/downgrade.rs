//! The commands of docs/compatibility.md for a host that goes back to an earlier release.

use std::fs;
use std::process::Command;

use testkit::host::Host;

use crate::tool_set::{ToolSet, test_with};
use crate::topology::Topology;

test_with!(IptablesNft IptablesLegacy; removes_the_chains, super::the_commands_remove_what_others_do_not_know);

/// Chains that earlier releases and the C++ modules do not know.
const UNKNOWN: [&str; 3] = ["MESOS-OVERLAY-OTHERS", "-A PREROUTING", ":MESOS-OVERLAY-TO"];

/// Returns the commands of the documentation.
fn commands() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page
        .split_once("## The firewall after a downgrade")
        .unwrap();
    let mut parts = section.split("```");
    parts.nth(1).expect("a block of commands").to_owned()
}

/// Returns the tables `filter` and `raw` of both families.
fn tables(host: &Host) -> String {
    let save = |tool: &str, table: &str| host.command(&format!("{tool}-save -t {table}"));
    let tools = ["iptables", "ip6tables"];
    let tables = tools.map(|tool| save(tool, "raw") + &save(tool, "filter"));
    tables.concat()
}

fn the_commands_remove_what_others_do_not_know(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    topology.forward_before("0");
    topology.settle();
    let before = tables(&topology.host);
    assert!(UNKNOWN.iter().all(|part| before.contains(part)), "{before}");
    let script = commands();
    let run = move || Command::new("sh").args(["-ec", &script]).status();
    assert!(topology.host.run(run).expect("sh").success());
    let after = tables(&topology.host);
    assert!(!UNKNOWN.iter().any(|part| after.contains(part)), "{after}");
    // The C++ module knows these rules.
    let nat = topology.host.command("iptables-save -t nat");
    assert!(
        nat.contains("--match-set overlay dst -j MASQUERADE"),
        "{nat}"
    );
}
