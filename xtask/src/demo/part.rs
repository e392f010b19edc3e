//! How much of the demo a machine allows.

use testbed::cluster::{Launcher, freezer};
use testbed::net;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Mesos starts the containers on the overlay itself.
    #[value(skip)]
    Whole,
    /// The containers are attached with the CNI plugins, not by Mesos.
    Attached,
    /// No hosts: master and agents run on loopback addresses.
    Loopback,
}

/// The most that this machine allows, or the part that was asked for; says so.
pub fn choose(asked: Option<Part>) -> Part {
    if asked == Some(Part::Loopback) {
        return Part::Loopback;
    }
    if let Err(error) = net::available() {
        eprintln!(
            "no hosts can be made ({error:#}), so master and agents run on loopback addresses; for \
             all of it run this as root or: unshare --user --map-root-user --mount cargo xtask demo"
        );
        return Part::Loopback;
    }
    if asked.is_none() && freezer().is_none() {
        eprintln!(
            "Mesos 1.11 starts containers on a network with the cgroup v1 freezer only, and there is none \
             to use here: the demo attaches its containers with the CNI plugins itself, from the file that \
             the agent module wrote"
        );
        return Part::Attached;
    }
    asked.unwrap_or(Part::Whole)
}

impl Part {
    /// How Mesos starts containers in this part.
    pub fn launcher(self) -> Launcher {
        match self {
            Part::Whole => Launcher::Linux,
            Part::Attached | Part::Loopback => Launcher::Posix,
        }
    }

    /// What the reader did not see.
    pub fn not_shown(self) -> Option<&'static str> {
        match self {
            Part::Whole => None,
            Part::Attached => Some(
                "Mesos starting the containers; they were attached from the agent module's CNI file.",
            ),
            Part::Loopback => Some(
                "the data plane. Master and agents allocated, stored and registered, and Mesos ran the tasks, \
                 but on the machine's own loopback: the kernel was left alone (\"backend\": \"external\").",
            ),
        }
    }
}
