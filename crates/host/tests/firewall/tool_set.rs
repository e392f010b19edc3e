//! Sets of firewall tools that a host can have. Each host has its own mount namespace, in
//! which the other tools are hidden.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use overlay_core::host_api::desired::Firewall;
use testkit::host::Host;

/// A set of firewall tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolSet {
    /// iptables on nf_tables and ipset; also nftables.
    IptablesNft,
    /// iptables on the legacy tables of the kernel and ipset; also nftables.
    IptablesLegacy,
    /// iptables, ipset and nftables, with `firewall: "nftables"` in the configuration.
    Nftables,
    /// Only nftables.
    NftablesAlone,
}

impl ToolSet {
    /// Returns a host with these tools; `None` (and the test is skipped) if this machine does
    /// not have them.
    pub fn host(self, test: &str) -> Option<Host> {
        if !testkit::root(test) {
            return None;
        }
        if self == ToolSet::IptablesLegacy
            && let Err(reason) = check_legacy()
        {
            testbed::skip::skip(test, &reason);
            return None;
        }
        let host = Host::prepared(move || self.prepare());
        let variant = match self {
            ToolSet::IptablesNft | ToolSet::Nftables => "nf_tables",
            ToolSet::IptablesLegacy => "legacy",
            ToolSet::NftablesAlone => return Some(host),
        };
        assert!(host.command("iptables --version").contains(variant));
        Some(host)
    }

    /// Returns the key `firewall` of the agent's configuration.
    pub fn choice(self) -> Firewall {
        if self == ToolSet::Nftables {
            Firewall::Nftables
        } else {
            Firewall::Auto
        }
    }

    /// Tells if masquerading is expected in iptables.
    pub fn is_iptables(self) -> bool {
        matches!(self, ToolSet::IptablesNft | ToolSet::IptablesLegacy)
    }

    /// Hides the other tools in a mount namespace of this thread.
    fn prepare(self) {
        match self {
            ToolSet::IptablesNft | ToolSet::Nftables => {}
            ToolSet::IptablesLegacy => mount_over(
                &multi_call_binary("legacy").unwrap(),
                &multi_call_binary("nft").unwrap(),
            ),
            ToolSet::NftablesAlone => {
                for tool in ["iptables", "ip6tables", "ipset"] {
                    let Some(tool) = find(tool) else { continue };
                    // A device file is not taken for a tool.
                    mount_over(Path::new("/dev/null"), &tool);
                }
            }
        }
    }
}

/// Mounts a file over another one.
pub fn mount_over(file: &Path, over: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing: Option<&str> = None;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .unwrap();
    mount(Some(file), over, nothing, MsFlags::MS_BIND, nothing).unwrap();
}

/// Returns the path of a tool with all symbolic links resolved.
pub fn find(tool: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin"]
        .iter()
        .find_map(|directory| fs::canonicalize(Path::new(directory).join(tool)).ok())
}

/// Returns the path of the multi-call binary of a variant of iptables.
fn multi_call_binary(variant: &str) -> Option<PathBuf> {
    find(&format!("xtables-{variant}-multi"))
}

/// Checks that legacy iptables works here; the error is the reason.
pub fn check_legacy() -> Result<(), String> {
    if multi_call_binary("nft").is_none() || multi_call_binary("legacy").is_none() {
        return Err("this machine does not have both variants of iptables".to_owned());
    }
    let listed = Command::new("iptables-legacy")
        .args(["-t", "nat", "-S"])
        .output();
    match listed {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "no legacy iptables: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Err(format!("no legacy iptables: {error}")),
    }
}

/// Defines a test for each of these sets of tools.
macro_rules! test_with {
    ($($tools:ident)*; $name:ident, $run:path) => {
        mod $name {
            $(#[allow(non_snake_case, reason = "named after the tools")]
            #[test]
            fn $tools() {
                let name = concat!(stringify!($name), "::", stringify!($tools));
                if let Some(host) = $crate::tool_set::ToolSet::$tools.host(name) {
                    $run($crate::tool_set::ToolSet::$tools, host);
                }
            })*
        }
    };
}
pub(crate) use test_with;
