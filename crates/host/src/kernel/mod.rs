//! The kernel's network configuration: netlink, ethtool, sysctl, and events.

mod bridges;
pub(crate) mod ethtool;
pub(crate) mod events;
pub(crate) mod links;
pub(crate) mod message;
pub(crate) mod netlink;
pub(crate) mod nexthop;
pub(crate) mod observe;
pub(crate) mod parse;
pub(crate) mod raw;
pub(crate) mod request;
pub(crate) mod router_advertisements;
mod routes;
pub(crate) mod sysctl;
#[cfg(test)]
mod tests;
pub(crate) mod underlay;
pub(crate) mod watch;
