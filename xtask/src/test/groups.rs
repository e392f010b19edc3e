//! Groups of tests, as `cargo xtask test --group` knows them.

use std::fmt::Write;

use anyhow::{Result, bail};

/// The group of the unit tests, which are not a test target.
pub const UNIT: &str = "unit";

/// The group of tests of the packages' content.
pub const PACKAGES: &str = "packages";

/// The group of tests that install the packages.
pub const INSTALL: &str = "install";

/// A group of tests: the test targets with one name, of all packages; or the unit tests.
#[derive(Debug)]
struct Group {
    name: &'static str,
    /// Subject of the tests.
    subject: &'static str,
    /// Rights and programs that the tests need beside Rust and a C++ compiler.
    needs: &'static str,
}

const fn group(name: &'static str, subject: &'static str, needs: &'static str) -> Group {
    Group {
        name,
        subject,
        needs,
    }
}

/// All groups. Tests of the product are in front of those of the test bed.
const GROUPS: &[Group] = &[
    group(UNIT, "unit tests of all packages", ""),
    group("agent", "transcripts of the agent", ""),
    group("master", "transcripts of the master", ""),
    group("memory", "memory that messages take", ""),
    group("replay", "recorded states, messages and answers", ""),
    group("simulation", "a simulated cluster with faults", ""),
    group("label", "labels of names, against a model", "python3"),
    group("corpus", "kept inputs of the fuzz targets", ""),
    group(
        "dns_server",
        "the name server and its secondaries",
        "root*, nsd, bind9, dnsmasq",
    ),
    group("c_abi", "the C ABI, called from C and from Rust", ""),
    group("bindings", "Rust declarations of the header", "libclang"),
    group("shim", "compilers and ABIs of the C++ shim", ""),
    group("symbols", "symbols of the library", "Mesos"),
    group(PACKAGES, "content of the packages", "lintian, rpmlint"),
    group(
        INSTALL,
        "packages in Debian's releases",
        "Mesos, root, mmdebstrap",
    ),
    group("docs", "examples in the documentation", "Mesos, root*"),
    group("kernel", "configuration of a host", "root*"),
    group("kernel_traffic", "packets across two hosts", "root*"),
    group("bridge", "bridges of Mesos's containers", "root*"),
    group("repair", "changes of a host by others", "root*"),
    group("firewall", "masquerading and isolation", "root*, Docker"),
    group("cleanup", "removal of overlays", "root*, Docker"),
    group("ping", "ping and trace of the program", "Mesos, root*"),
    group(
        "check",
        "hosts, files and setup by the program",
        "Mesos, root*",
    ),
    group(
        "status",
        "mesos-overlay status and whois",
        "Mesos, root*, Docker",
    ),
    group(
        "ipam",
        "networks, agents and addresses by the program",
        "Mesos, root*, Docker",
    ),
    group(
        "dns",
        "names of tasks by the program",
        "Mesos, root*, Docker, dig",
    ),
    group(
        "marathon",
        "examples for Marathon, and another framework",
        "Mesos, root*, Docker",
    ),
    group("convert", "configurations of DC/OS", "Mesos, root*"),
    group("diags", "archives for bug reports", "Mesos, root*"),
    group("docker", "networks in Docker", "root, Docker"),
    group(
        "docker_traffic",
        "packets of Docker's containers",
        "root, Docker",
    ),
    group(
        "docker_agent",
        "the agent module with Docker",
        "root, Docker",
    ),
    group("floors", "symbols that the release needs", ""),
    group("sdk", "modules built with the SDK", "Mesos, cmake"),
    group("dcos", "DC/OS's package of modules", "Mesos, root*, cmake"),
    group("mesos", "modules in real Mesos", "Mesos, root*, Docker"),
    group("page", "the page in a browser", "Mesos, root*, Chromium"),
    group("cluster", "the test bed: clusters", "Mesos, root*"),
    group("monitor", "the test bed: events of the kernel", "root*"),
    group("port_mapper", "the test bed: a CNI plugin", "root*"),
];

/// Groups whose tests look into the release and the SDK.
pub const OF_THE_SDK: &[&str] = &["dcos", "floors", "sdk"];

/// Returns true if one of `groups` is among those that are run: `chosen`, or all if that is empty.
pub fn selected(chosen: &[String], groups: &[&str]) -> bool {
    chosen.is_empty() || chosen.iter().any(|group| groups.contains(&group.as_str()))
}

/// Returns a table of all groups, for the help text.
pub fn table() -> String {
    let mut text = "Groups, and what their tests need:\n\n".to_owned();
    for Group {
        name,
        subject,
        needs,
    } in GROUPS
    {
        let line = format!("    {name:<15} {subject:<40} {needs}");
        let _ = writeln!(text, "{}", line.trim_end()); // a String accepts everything
    }
    text + "\n* or a user namespace: unshare --user --map-root-user --mount cargo xtask test\n\
            With fewer rights a group runs those of its tests that can run.\n\n\
            The pure core alone needs neither a C++ compiler nor root: cargo test -p overlay-core"
}

/// Checks that a group exists.
///
/// # Errors
/// No group has this name; the error lists them.
pub fn check(name: &str) -> Result<()> {
    if GROUPS.iter().any(|group| group.name == name) {
        return Ok(());
    }
    let names: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
    bail!("there is no group {name}; groups are: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::build;

    /// Names of the test targets in the workspace, as cargo finds them.
    fn targets() -> BTreeSet<String> {
        let arguments = ["metadata", "--format-version", "1", "--no-deps"];
        let output = build::cargo(&arguments).output().unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let targets = packages
            .iter()
            .flat_map(|package| package["targets"].as_array().unwrap());
        targets
            .filter(|target| target["kind"][0] == "test")
            .map(|target| target["name"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_test_target_is_a_group() {
        let mut expected = targets();
        assert!(
            expected.insert(UNIT.to_owned()),
            "a test target is called {UNIT}"
        );
        let names: BTreeSet<_> = GROUPS.iter().map(|group| group.name.to_owned()).collect();
        assert_eq!(names, expected);
        assert_eq!(names.len(), GROUPS.len(), "a group is listed twice");
    }

    #[test]
    fn the_table_fits_on_a_terminal() {
        for line in table().lines() {
            assert!(line.len() <= 90, "{line}");
        }
    }

    #[test]
    fn an_unknown_group_is_rejected_with_the_list() {
        assert!(check("kernel").is_ok());
        let error = check("kernels").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no group kernels; groups are: unit, "),
            "{error}"
        );
    }
}
