//! Kernel configuration of this host, as far as the paths to other agents depend on it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use overlay_host::lookup::Lookup;
use overlay_host::reconcile::observed::{Device, Rule};

use crate::output::Failure;

/// Kernel configuration of this host.
pub struct Local {
    /// Reader of more of it.
    pub lookup: Lookup,
    /// Routing table of the containers.
    pub table: u32,
    /// Name of the VXLAN device: that which the agent has to have, or the one that is there.
    pub vtep: Option<String>,
    /// VXLAN device with all on it; `None`: it does not exist.
    pub device: Option<Device>,
    /// Rules that lead to the containers' table.
    pub rules: BTreeSet<Rule>,
}

impl Local {
    /// Reads it. `vtep` is the name of the device that the agent on this host has to have.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn read(table: u32, vtep: Option<&str>) -> Result<Local, Failure> {
        let lookup =
            Lookup::open().map_err(|error| format!("cannot ask the kernel (netlink): {error}"))?;
        let mut local = Local {
            lookup,
            table,
            vtep: vtep.map(str::to_owned),
            device: None,
            rules: BTreeSet::new(),
        };
        if local.vtep.is_none() {
            local.vtep = local.lookup.vxlan_devices()?.pop_first();
        }
        local.refresh()?;
        Ok(local)
    }

    /// Reads it again.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn refresh(&mut self) -> Result<(), Failure> {
        self.device = match &self.vtep {
            Some(name) => self.lookup.device(name, self.table)?,
            None => None,
        };
        self.rules = self.lookup.rules(self.table)?;
        Ok(())
    }
}

/// Returns the addresses of this host's devices.
pub fn addresses() -> Vec<IpAddr> {
    let found = getifaddrs().into_iter().flatten();
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
    };
    let addresses = found.filter_map(|device| ip(device.address?));
    addresses.filter(|ip| !ip.is_loopback()).collect()
}
