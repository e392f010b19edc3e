//! Parts of the demo that a machine allows.

use testbed::cluster::{Launcher, freezer};
use testbed::net;

/// Part of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The whole demo: Mesos starts the containers on the overlay.
    #[value(skip)]
    Whole,
    /// Attach containers with the CNI plugins instead of Mesos.
    Attached,
    /// Run master and agents on loopback addresses, without simulated hosts.
    Loopback,
}

/// Returns the requested part, or the largest one that this machine allows; prints the reason for a
/// smaller one.
pub fn choose(asked: Option<Part>) -> Part {
    if asked == Some(Part::Loopback) {
        return Part::Loopback;
    }
    if let Err(error) = net::available() {
        eprintln!(
            "cannot make network namespaces ({error:#}): master and agents run on loopback addresses; for \
             the whole demo run as root, or: unshare --user --map-root-user --mount cargo xtask demo"
        );
        return Part::Loopback;
    }
    if asked.is_none() && freezer().is_none() {
        eprintln!(
            "Mesos 1.11 needs the cgroup v1 freezer to start containers on a network, which is not available: \
             the demo attaches its containers with the CNI plugins, using the configuration that the agent \
             module wrote"
        );
        return Part::Attached;
    }
    asked.unwrap_or(Part::Whole)
}

impl Part {
    /// Returns the launcher of the agents.
    pub fn launcher(self) -> Launcher {
        match self {
            Part::Whole => Launcher::Linux,
            Part::Attached | Part::Loopback => Launcher::Posix,
        }
    }

    /// Describes what the part does not show.
    pub fn not_shown(self) -> Option<&'static str> {
        match self {
            Part::Whole => None,
            Part::Attached => Some(
                "start of containers by Mesos; the demo attached them with the agent module's CNI configuration.",
            ),
            Part::Loopback => Some(
                "the data plane. Master and agents allocated subnets, stored them and registered, and Mesos ran the \
                 tasks, but on loopback addresses: the kernel was not configured (\"backend\": \"external\").",
            ),
        }
    }
}
