//! The tools that a host has, as far as the executor and the commands of that host
//! can see: each host has a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use overlay_core::host_api::desired::Firewall;
use testkit::host::Host;

/// What a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tools {
    /// iptables on top of nf_tables, with ipset; nftables besides.
    IptablesNft,
    /// iptables with the kernel's old tables, with ipset; nftables besides.
    IptablesLegacy,
    /// All of it, and an operator who wants nftables.
    Nftables,
    /// nftables alone.
    NftablesAlone,
}

impl Tools {
    /// A host with these tools; `None` if this machine has none of them, and the
    /// test is skipped.
    pub fn host(self, test: &str) -> Option<Host> {
        if !testkit::root(test) {
            return None;
        }
        if self == Tools::IptablesLegacy
            && let Err(reason) = legacy()
        {
            testbed::skip::skip(test, &reason);
            return None;
        }
        let host = Host::prepared(move || self.prepare());
        let variant = match self {
            Tools::IptablesNft | Tools::Nftables => "nf_tables",
            Tools::IptablesLegacy => "legacy",
            Tools::NftablesAlone => return Some(host),
        };
        assert!(host.command("iptables --version").contains(variant));
        Some(host)
    }

    /// What the agent's configuration says.
    pub fn choice(self) -> Firewall {
        if self == Tools::Nftables {
            Firewall::Nftables
        } else {
            Firewall::Auto
        }
    }

    /// Whether masquerading is expected in iptables.
    pub fn is_iptables(self) -> bool {
        matches!(self, Tools::IptablesNft | Tools::IptablesLegacy)
    }

    /// Hides what the host has not, in a mount namespace of this thread.
    fn prepare(self) {
        match self {
            Tools::IptablesNft | Tools::Nftables => {}
            Tools::IptablesLegacy => put(&multi("legacy").unwrap(), &multi("nft").unwrap()),
            Tools::NftablesAlone => {
                for tool in ["iptables", "ip6tables", "ipset"] {
                    let Some(tool) = find(tool) else { continue };
                    // What is no ordinary file is no tool.
                    put(Path::new("/dev/null"), &tool);
                }
            }
        }
    }
}

/// Mounts a file over another one.
pub fn put(file: &Path, over: &Path) {
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

/// Where a tool is, behind all links.
pub fn find(tool: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin"]
        .iter()
        .find_map(|directory| fs::canonicalize(Path::new(directory).join(tool)).ok())
}

/// The program behind all of iptables' names, which one it is depends on the name.
fn multi(variant: &str) -> Option<PathBuf> {
    find(&format!("xtables-{variant}-multi"))
}

/// Whether the old tables can be had; why not.
fn legacy() -> Result<(), String> {
    if multi("nft").is_none() || multi("legacy").is_none() {
        return Err("there are no two variants of iptables here".to_owned());
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

/// One test for each kind of host.
macro_rules! on {
    ($($tools:ident)*; $name:ident, $run:path) => {
        mod $name {
            $(#[allow(non_snake_case, reason = "named after the tools")]
            #[test]
            fn $tools() {
                let name = concat!(stringify!($name), "::", stringify!($tools));
                if let Some(host) = $crate::tools::Tools::$tools.host(name) {
                    $run($crate::tools::Tools::$tools, host);
                }
            })*
        }
    };
}
pub(crate) use on;
